//! What gateway and cloud agree on, and nothing else: key names, the stream entry, the envelope,
//! kinds of payload, positions, commands, signs of life, versions, the names in the ledger, the rights of either side, and the bundle that sets a
//! gateway up.
//!
//! Why a crate of its own: both sides cross the backhaul with these bytes, neither may import the
//! other, and a name written twice drifts (a default stream name that differed by four letters
//! once stopped a fleet for seven hours without an error). One fact, one home.
//!
//! Invariants:
//! - No I/O and no clock: bytes and text in, values out.
//! - Every byte form of a released version stays decodable for ever; `golden/` holds one file per
//!   form and version, and the test `golden.rs` reads them all.
//! - A reader learns a version one release before any writer uses it.

pub mod access;
pub mod beat;
pub mod bundle;
pub mod command;
pub mod direct;
pub mod entry;
pub mod envelope;
pub mod id;
pub mod keys;
pub mod kind;
pub mod ledger;
pub mod position;
pub mod settled;
pub mod version;

pub use beat::Beat;
pub use command::{CommandResponse, CommandStatus, Order};
pub use entry::{Entry, EntryError};
pub use envelope::{Coding, Device, Effort, Envelope, Lane, Payload, PayloadError, Transport};
pub use id::{GatewayId, IdError, SpoolId, SpoolSeq};
pub use kind::Kind;
pub use ledger::{Gap, GapReason};
pub use position::Position;
pub use settled::SettledRanges;
