//! From the spool to the stream: batches up, floors down.
//!
//! Why it is one task: Redis is asked little and often, and one owner of the position in the
//! spool needs no locks.
//!
//! Invariants: what is sent stays in the spool until the floor says it is in the database; the
//! uplink never gives up, and never holds up an acknowledgement.

pub mod batch;
pub mod connect;
pub mod course;
mod entry;
pub mod flight;
mod sender;

pub use connect::{ConnectError, RedisConfig};
pub use sender::{Uplink, UplinkConfig};
