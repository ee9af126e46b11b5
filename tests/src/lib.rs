//! Real servers, simulated trackers and the oracle that compares sent, ACKed and stored.

pub mod batches;
mod child;
pub mod demo;
pub mod edge;
pub mod fleet;
pub mod ledger;
pub mod processes;
pub mod proxy;
pub mod servers;
pub mod tables;
