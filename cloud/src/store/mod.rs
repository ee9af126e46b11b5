//! The database: the only place that knows tables and SQL.
//!
//! Invariant: rows, dead letters and settled ranges of a batch become visible in one COMMIT, and
//! only that COMMIT makes a [`Committed`]. Whoever wants to acknowledge must hold one.

pub mod accounts;
pub mod again;
pub mod compaction;
mod copy;
pub mod database;
mod devices;
pub mod dictionary;
pub mod down;
pub mod edges;
mod envelopes;
pub mod errors;
pub mod families;
pub mod frames;
mod insert;
mod known;
pub mod letters;
pub mod locks;
pub mod migrate;
#[cfg(target_os = "linux")]
mod no_delay;
mod plan;
pub mod policies;
pub mod readings;
mod records;
pub mod retention;
pub mod roles;
pub mod roster;
mod settle;
pub mod sizes;
mod values;
mod writer;

pub use database::{Database, DatabaseError, Timescale};
pub use errors::{Next, StoreError};
pub use readings::{ReadingsCommitted, ReadingsWriter};
pub use writer::{Committed, Tally, Writer};
