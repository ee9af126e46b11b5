//! The durable log at the edge: what a power cut may not take away.
//!
//! Why: a tracker deletes a record once it was acknowledged, so the acknowledgement must follow
//! the disk, not the network. What the gateway accepts goes through [`SpoolWriter::commit`], which
//! gives a [`Durable`] only after `fdatasync`; only a `Durable` can become an ACK.
//!
//! Invariants:
//! - A [`Durable`] exists only for data that was synced, and cannot be made elsewhere:
//!   ```compile_fail,E0451
//!   # use contract::{SpoolId, SpoolSeq};
//!   let (spool, seq) = (SpoolId::from_random(1), SpoolSeq::FIRST);
//!   let forged = spool::Durable { spool, seq, record_count: 1 };
//!   ```
//! - Every opening gives every lane a new spool id, so (spool id, position) never names two
//!   payloads.
//! - A segment is taken for new data only when everything in it is settled, dropped or compacted
//!   by the word of a durable cursor.
//!
//! No clock, no thread and no network here: time is an argument, and all I/O goes through [`fs`].

mod append;
mod compact;
mod cursor;
mod error;
mod format;
pub mod fs;
mod full;
mod index;
pub mod inspect;
pub mod intents;
#[cfg(feature = "sim")]
pub mod mutant;
#[cfg(not(feature = "sim"))]
mod mutant;
mod open;
mod options;
mod pool;
mod quarantine;
mod reader;
mod report;
mod room;
mod shared;
mod walk;
mod writer;
mod zeroed;

#[cfg(feature = "sim")]
pub mod sim;

pub use append::{Append, Chunk, Durable, Position, Stored};
pub use compact::{CompactPolicy, Compacted};
pub use error::SpoolError;
pub use open::owner;
pub use options::{FullPolicy, Geometry, Options};
pub use reader::{Reading, SpoolReader};
pub use report::{LaneUsage, OpenReport, Usage};
pub use room::{Filled, Filling};
pub use writer::SpoolWriter;
