//! Real servers, simulated trackers and the oracle that compares sent, ACKed and stored.

pub mod batches;
mod child;
pub mod demo;
pub mod drive;
pub mod edge;
pub mod fail_points;
pub mod fleet;
pub mod items;
pub mod ledger;
pub mod machine;
pub mod mistakes;
pub mod openapi;
pub mod poster;
pub mod processes;
pub mod proxy;
pub mod servers;
pub mod tables;
