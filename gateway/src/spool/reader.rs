//! Reading the log from a position: what the uplink sends, in the order it was kept.
//!
//! Invariants: only synced commits are read; what is settled is left out; a position stays valid
//! for ever (a forgotten segment is stepped over).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use contract::{Device, Envelope, Lane, SpoolId, SpoolSeq, Transport};

use super::segment::{self, COMMIT_HEADER_BYTES, HEADER_BYTES};
use super::{Shared, SpoolError};

/// A place between two commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    segment: u64,
    offset: u64,
}

/// One kept frame, read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The opening that wrote it.
    pub spool: SpoolId,
    /// Its position there.
    pub seq: SpoolSeq,
    /// The commit it stands in: read from here to see it again.
    pub at: Position,
    /// As in [`super::Append`].
    pub received_at_ms: u64,
    /// As in [`super::Append`].
    pub device: Device,
    /// As in [`super::Append`].
    pub transport: Transport,
    /// As in [`super::Append`].
    pub lane: Lane,
    /// As in [`super::Append`].
    pub record_count: u32,
    /// Did its commit hold a record of priority Panic?
    pub panic: bool,
    /// As in [`super::Append`].
    pub bytes: Vec<u8>,
}

impl Stored {
    /// The envelope for the wire.
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
    /// Unsettled envelopes in order.
    pub stored: Vec<Stored>,
    /// Where to go on.
    pub next: Position,
    /// Nothing durable lies behind `next` yet.
    pub at_end: bool,
}

pub(crate) fn read(shared: &Shared, from: Position, bytes_max: usize) -> Result<Chunk, SpoolError> {
    let mut chunk = Chunk {
        stored: Vec::new(),
        next: from,
        at_end: false,
    };
    let mut taken = 0;
    while taken < bytes_max {
        let Some(segment) = shared.index().segment_from(chunk.next.segment).cloned() else {
            chunk.at_end = true;
            break;
        };
        if segment.number > chunk.next.segment || chunk.next.offset == 0 {
            chunk.next = Position {
                segment: segment.number,
                offset: HEADER_BYTES as u64,
            };
        }
        if chunk.next.offset >= segment.durable_bytes {
            let newer = shared.index().segment_from(segment.number + 1).is_some();
            if !newer {
                chunk.at_end = true;
                break;
            }
            chunk.next = Position {
                segment: segment.number + 1,
                offset: 0,
            };
            continue;
        }
        let left = segment.durable_bytes - chunk.next.offset;
        let wanted = (bytes_max - taken).max(segment::BODY_BYTES_MAX + COMMIT_HEADER_BYTES);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
        let mut bytes = vec![0; length];
        let storage = |source| SpoolError::storage(&segment.path, source);
        let file = File::open(&segment.path).map_err(storage)?;
        file.read_exact_at(&mut bytes, chunk.next.offset)
            .map_err(storage)?;
        let mut at = 0;
        while taken < bytes_max && at < bytes.len() {
            let Ok(commit) = segment::commit_at(segment.number, &bytes, at) else {
                match segment::next_commit_from(segment.number, &bytes, at + 1) {
                    Some(next) => at = next,
                    // Cut by the window: read on from here. At its start: damage up to the end.
                    None if at > 0 => break,
                    None => at = bytes.len(),
                }
                continue;
            };
            let position = Position {
                segment: segment.number,
                offset: chunk.next.offset + at as u64,
            };
            at += commit.len_bytes();
            taken += commit.len_bytes();
            let settled = shared
                .index()
                .is_settled(segment.spool, commit.first, commit.last());
            if settled {
                continue;
            }
            for envelope in commit.envelopes().unwrap_or_default() {
                if shared
                    .index()
                    .is_settled(segment.spool, envelope.seq, envelope.seq)
                {
                    continue;
                }
                chunk.stored.push(Stored {
                    spool: segment.spool,
                    seq: envelope.seq,
                    at: position,
                    received_at_ms: envelope.received_at_ms,
                    device: envelope.device,
                    transport: envelope.transport,
                    lane: envelope.lane,
                    record_count: envelope.record_count,
                    panic: commit.flags & segment::FLAG_PANIC != 0,
                    bytes: envelope.bytes.to_vec(),
                });
            }
        }
        chunk.next.offset += at as u64;
    }
    Ok(chunk)
}
