//! The gateway: takes tracker frames, keeps them through any power cut, acknowledges, forwards
//! them to Redis Streams, and keeps them until the database has them.
//!
//! A library beside the binary, so that the spool and the session can be tested from outside and
//! the promise "no ACK without a receipt" is a type that other code can try to forge and fail.
//!
//! Data goes one way: [`listen`] → [`session`] → [`spool`] → [`uplink`]. Back come only a floor
//! (what may be forgotten) and, later, orders.

pub mod access;
pub mod admin;
pub mod app;
mod attendant;
pub mod board;
pub mod chain;
pub mod check;
mod clock;
pub mod config;
pub mod devices;
pub mod downlink;
pub mod events;
pub mod explain;
#[cfg(feature = "ingest")]
pub mod ingest;
pub mod listen;
pub mod logbook;
pub mod metrics;
pub mod nmea;
pub mod observe;
pub mod panel;
pub mod peer;
pub mod progress;
pub mod reload;
pub mod roster;
pub mod selftest;
pub mod session;
pub mod spool;
pub mod spool_cli;
pub mod support;
pub mod systemd;
pub mod tap;
pub mod update;
pub mod uplink;
pub mod vitals;
