//! Reading the log from a position: what the uplink sends, in the order it was kept.
//!
//! Invariants: only synced commits are read; what is settled is left out; a position stays valid
//! for ever (a forgotten segment is stepped over).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use contract::{Device, Envelope, Lane, SpoolId, SpoolSeq, Transport};

use super::index::Segment;
use super::segment::{self, COMMIT_HEADER_BYTES, Commit, HEADER_BYTES, SegmentHeader};
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
        // Asked in one breath: a segment that has a successor does not grow any more.
        let (segment, is_last) = match shared.index().segment_from(chunk.next.segment) {
            Some((segment, is_last)) => (segment.clone(), is_last),
            None => {
                chunk.at_end = true;
                break;
            }
        };
        if segment.number > chunk.next.segment || chunk.next.offset == 0 {
            chunk.next = Position {
                segment: segment.number,
                offset: HEADER_BYTES as u64,
            };
        }
        if chunk.next.offset >= segment.durable_bytes {
            if is_last {
                chunk.at_end = true;
                break;
            }
            chunk.next = after(&segment);
            continue;
        }
        match read_window(shared, &segment, chunk.next.offset, bytes_max - taken) {
            Ok(window) => {
                taken += window.bytes;
                chunk.stored.extend(window.stored);
                chunk.next.offset = window.next;
            }
            // Forgotten between the look and the read: everything in it was settled.
            Err(_) if !shared.index().holds(segment.number) => chunk.next = after(&segment),
            Err(source) => {
                // What lies behind a bad sector must not wait for it; a restart tries again.
                tracing::error!(file = %segment.path.display(), offset = chunk.next.offset, %source, "segment cannot be read; its rest is left out until a restart");
                if is_last {
                    return Err(SpoolError::storage(&segment.path, source));
                }
                chunk.next = after(&segment);
            }
        }
    }
    Ok(chunk)
}

fn after(segment: &Segment) -> Position {
    Position {
        segment: segment.number + 1,
        offset: 0,
    }
}

/// What stands in a part of a segment.
struct Window {
    stored: Vec<Stored>,
    /// Bytes of whole commits.
    bytes: usize,
    /// Offset of the first byte that was not judged.
    next: u64,
}

fn read_window(
    shared: &Shared,
    segment: &Segment,
    offset: u64,
    bytes_max: usize,
) -> std::io::Result<Window> {
    let header = SegmentHeader {
        spool: segment.spool,
        segment: segment.number,
        first: segment.first,
    };
    let left = usize::try_from(segment.durable_bytes - offset).unwrap_or(usize::MAX);
    // Wide enough that the commit at its start fits whatever its size.
    let mut bytes = vec![0; left.min(bytes_max.max(segment::BODY_BYTES_MAX + COMMIT_HEADER_BYTES))];
    File::open(&segment.path)?.read_exact_at(&mut bytes, offset)?;
    let mut window = Window {
        stored: Vec::new(),
        bytes: 0,
        next: offset,
    };
    let mut at = 0;
    while window.bytes < bytes_max && at < bytes.len() {
        let Ok(commit) = header.commit_at(&bytes, at) else {
            let window_is_short = bytes.len() < left;
            if at > 0 && window_is_short && header.next_possible_from(&bytes, at) == at {
                break; // cut by the window, not damaged: read again from here
            }
            // Damaged: go on at the next whole commit, or read again where one may begin.
            match header.next_commit_from(&bytes, at + 1) {
                Some(next) => at = next,
                None if window_is_short => {
                    at = header.next_possible_from(&bytes, at + 1);
                    break;
                }
                None => at = bytes.len(),
            }
            continue;
        };
        let position = Position {
            segment: segment.number,
            offset: offset + at as u64,
        };
        at += commit.len_bytes();
        window.bytes += commit.len_bytes();
        window
            .stored
            .extend(unsettled(shared, segment, &commit, position));
    }
    window.next = offset + at.min(bytes.len()) as u64;
    Ok(window)
}

fn unsettled(shared: &Shared, segment: &Segment, commit: &Commit<'_>, at: Position) -> Vec<Stored> {
    let index = shared.index();
    if index.is_settled(segment.spool, commit.first, commit.last()) {
        return Vec::new();
    }
    let envelopes = commit.envelopes().unwrap_or_default();
    let open = envelopes
        .into_iter()
        .filter(|e| !index.is_settled(segment.spool, e.seq, e.seq));
    open.map(|envelope| Stored {
        spool: segment.spool,
        seq: envelope.seq,
        at,
        received_at_ms: envelope.received_at_ms,
        device: envelope.device,
        transport: envelope.transport,
        lane: envelope.lane,
        record_count: envelope.record_count,
        panic: commit.flags & segment::FLAG_PANIC != 0,
        bytes: envelope.bytes.to_vec(),
    })
    .collect()
}
