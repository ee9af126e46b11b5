//! The database: the only place that knows tables and SQL.
//!
//! Invariant: rows, dead letters and settled ranges of a batch become visible in one COMMIT, and
//! only that COMMIT makes a [`Committed`]. Whoever wants to acknowledge must hold one.

pub mod compaction;
mod copy;
pub mod database;
mod devices;
pub mod dictionary;
pub mod edges;
mod envelopes;
pub mod errors;
pub mod families;
mod insert;
mod known;
pub mod migrate;
mod plan;
pub mod policies;
mod records;
pub mod retention;
mod settle;
mod values;
mod writer;

pub use database::{Database, DatabaseError, Timescale};
pub use errors::{Next, StoreError};
pub use writer::{Committed, Tally, Writer};
