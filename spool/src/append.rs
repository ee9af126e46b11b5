//! What goes into the spool, the receipt for it, and what comes out again.
//!
//! Invariant: a [`Durable`] is made in this crate alone, after the sync of the commit it names.

use contract::{Device, Envelope, Gap, Kind, Lane, SpoolId, SpoolSeq, Transport};

/// One frame to keep.
#[derive(Clone, Debug)]
pub struct Append {
    /// Who sent it.
    pub device: Device,
    /// What the bytes are. Only a kind with a number can be kept.
    pub kind: Kind,
    /// How it came.
    pub transport: Transport,
    /// How urgent: which of the three logs keeps it.
    pub lane: Lane,
    /// Gateway clock, milliseconds since 1970 UTC.
    pub received_at_ms: u64,
    /// AVL records the frame's first count claims; positions or sentences of other kinds.
    pub record_count: u32,
    /// Does it hold a record of priority Panic?
    pub panic: bool,
    /// The data field, or what the kind says.
    pub bytes: Vec<u8>,
}

/// Receipt: this frame survives a power cut. Only the spool makes one.
#[derive(Debug)]
pub struct Durable {
    spool: SpoolId,
    seq: SpoolSeq,
    record_count: u32,
}

impl Durable {
    pub(crate) const fn new(spool: SpoolId, seq: SpoolSeq, record_count: u32) -> Self {
        Self {
            spool,
            seq,
            record_count,
        }
    }

    /// Where it is kept.
    #[must_use]
    pub fn position(&self) -> (SpoolId, SpoolSeq) {
        (self.spool, self.seq)
    }

    /// AVL records that may now be acknowledged.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }
}

/// A place between two commits of one lane. The default is before everything.
///
/// A place stays valid for ever: what was recycled behind it is stepped over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Where the segment stands in the order of its lane. A compacted segment takes the place of
    /// the first segment whose content it holds.
    pub(crate) order: u64,
    /// Bytes from the start of the segment.
    pub(crate) offset: u64,
}

/// One kept frame, read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The opening and lane that wrote it.
    pub spool: SpoolId,
    /// Its position there.
    pub seq: SpoolSeq,
    /// The commit it stands in: read from here to see it again.
    pub at: Position,
    /// As in [`Append`].
    pub received_at_ms: u64,
    /// As in [`Append`]. One that this build does not know keeps its number.
    pub kind: Kind,
    /// As in [`Append`].
    pub device: Device,
    /// As in [`Append`].
    pub transport: Transport,
    /// As in [`Append`].
    pub lane: Lane,
    /// As in [`Append`].
    pub record_count: u32,
    /// Did its commit hold a record of priority Panic?
    pub panic: bool,
    /// As in [`Append`].
    pub bytes: Vec<u8>,
}

impl Stored {
    /// The envelope for the wire; its kind stands in the entry around it.
    #[must_use]
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            seq: self.seq,
            received_at_ms: self.received_at_ms,
            device: self.device.clone(),
            transport: self.transport,
            lane: self.lane,
            record_count: self.record_count,
            bytes: &self.bytes,
        }
    }
}

/// What one read brought.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Unsettled envelopes in the order of the lane.
    pub stored: Vec<Stored>,
    /// Losses that this read was the first to see; [`crate::SpoolReader::gaps`] lists them too.
    pub gaps: Vec<(SpoolId, Gap)>,
    /// Where to go on.
    pub next: Position,
    /// Nothing durable lies behind `next` yet (or before the bound that was given).
    pub at_end: bool,
}
