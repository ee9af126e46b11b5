//! From the spool to the stream: batches up, floors down.
//!
//! Why it is one task: Redis is asked little and often, and one owner of the position in the
//! spool needs no locks.
//!
//! Invariants: what is sent stays in the spool until the floor says it is in the database; the
//! uplink never gives up, and never holds up an acknowledgement.

pub mod batch;
pub mod cause;
pub mod certificate;
pub mod connect;
pub mod course;
mod entry;
pub mod flight;
pub mod inside;
pub mod link;
pub mod route;
mod sender;
pub mod sharded;

pub use cause::Cause;
pub use connect::{ConnectError, RedisConfig};
pub use link::Link;
pub use sender::{Reload, Uplink, UplinkConfig};
