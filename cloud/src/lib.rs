//! The cloud processor: Redis streams in, database rows out, acknowledged after COMMIT.
//!
//! `stream/` knows Redis and no SQL, `store/` knows SQL and no Redis, `decode` and `normalise/` know
//! neither. They meet in `processor`: a batch goes in, a [`store::Committed`] comes out, and only
//! that may be acknowledged or move a floor.
//!
//! A library beside the binary so that the promise of the receipt can be tested by what does not
//! compile; nothing else is meant to be called from outside.

pub mod admin;
pub mod app;
pub mod backfill;
pub mod backoff;
pub mod batch;
pub mod check;
pub mod commands;
pub mod config;
pub mod decode;
pub mod direct;
pub mod explain;
mod fail_point;
pub mod fleet;
pub mod latency;
pub mod ledger;
pub mod letters;
pub mod metrics;
pub mod normalise;
pub mod operator;
pub mod patience;
pub mod policies;
pub mod processor;
pub mod queue;
pub mod replay;
pub mod sensors;
pub mod site;
pub mod status;
pub mod store;
pub mod stream;
pub mod web;
pub mod writers;
