//! Redis: delivery, claims, trimming and floors. Knows no SQL and no meaning.
//!
//! Invariants: an item is acknowledged only with a [`crate::store::Committed`] in hand; every
//! blocking reader has a connection of its own, whose response timeout is longer than its block
//! (the client's default of half a second loses items into the pending list unseen).

pub mod acks;
pub mod claimer;
pub mod cluster;
mod connect;
pub mod consumer;
mod failure;
pub mod finder;
pub mod floor;
pub mod gaps;
pub mod intake;
pub mod lag;
pub mod link;
pub mod loss;
pub mod memory;
pub mod mirror;
pub mod pattern;
pub mod reply;
pub mod setback;
pub mod trimmer;

pub use acks::Acks;
pub use finder::{Quarry, Stream, Streams};
pub use intake::{Deliveries, Delivery, Intake};
pub use lag::Standing;
pub use link::{Link, Redis, RedisFailure};
pub use mirror::Mirror;
pub use reply::GroupState;
