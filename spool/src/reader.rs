//! Reading a lane from a position: what the uplink sends, in the order it was kept.
//!
//! Invariants: only synced commits are read; what is settled or lost is left out; a position stays
//! valid for ever (a recycled segment is stepped over); a damaged place is a gap once, and what
//! stands behind it is delivered.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::{Gap, GapReason, Lane, SettledRanges, SpoolId, SpoolSeq};

use crate::format::envelope::{Envelopes, Read};
use crate::format::{Commit, FLAG_ZSTD, HEADER_BYTES, commit};
use crate::fs::Fs;
use crate::index::{Part, Segment, State};
use crate::mutant::{Mutant, active};
use crate::shared::{Shared, identity};
use crate::walk::{Step, WINDOW_BYTES_MAX, Walked, walk};
use crate::{Chunk, Position, SpoolError, Stored, Usage, pool, quarantine};

/// Reads a spool while it is written, and notes what need not be kept. Clones are cheap.
pub struct SpoolReader<F: Fs> {
    shared: Arc<Shared<F>>,
}

impl<F: Fs> Clone for SpoolReader<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Somebody reads: while one of these lives, nothing is compacted.
pub struct Reading<F: Fs> {
    shared: Arc<Shared<F>>,
}

impl<F: Fs> Drop for Reading<F> {
    fn drop(&mut self) {
        self.shared.readings.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<F: Fs> SpoolReader<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>) -> Self {
        Self { shared }
    }

    /// Reads unsettled envelopes of `lane` from `from` on, up to and without the commit at
    /// `until`: at least one commit when there is one, then up to about `bytes_max` bytes. Blocks
    /// on the disk.
    /// # Errors
    /// [`SpoolError::Read`] when the segment being written cannot be read. An older one is stepped
    /// over and stays unsettled: the next opening tries again.
    pub fn read(
        &self,
        lane: Lane,
        from: Position,
        until: Option<Position>,
        bytes_max: usize,
    ) -> Result<Chunk, SpoolError> {
        let mut chunk = Chunk {
            stored: Vec::new(),
            gaps: Vec::new(),
            next: from,
            at_end: false,
        };
        let mut left = bytes_max.max(1);
        while left > 0 {
            if until.is_some_and(|until| chunk.next >= until) {
                chunk.at_end = true;
                break;
            }
            let Some((segment, closed)) = self.look(lane, chunk.next.order) else {
                chunk.at_end = true;
                break;
            };
            if segment.order > chunk.next.order || chunk.next.offset < HEADER_BYTES as u64 {
                chunk.next = Position {
                    order: segment.order,
                    offset: HEADER_BYTES as u64,
                };
                continue; // it may lie behind the bound
            }
            if closed || chunk.next.offset >= segment.durable_bytes {
                if segment.state == State::Active {
                    chunk.next.offset = chunk.next.offset.max(segment.durable_bytes);
                    chunk.at_end = true;
                    break;
                }
                chunk.next = after(&segment);
                continue;
            }
            left = self.read_segment(&segment, until, left, &mut chunk)?;
        }
        if active(Mutant::CursorAheadOfDownstream) {
            for stored in &chunk.stored {
                let mut ranges = SettledRanges::new();
                ranges.insert(stored.seq.get(), stored.seq.get());
                self.settle(stored.spool, &ranges);
            }
        }
        Ok(chunk)
    }

    /// The end of the lane: what is kept from now on lies behind it.
    #[must_use]
    pub fn live_from(&self, lane: Lane) -> Position {
        let index = self.shared.index();
        let last = index.last_segment(lane);
        last.map_or_else(Position::default, |segment| {
            if segment.state == State::Active {
                Position {
                    order: segment.order,
                    offset: segment.durable_bytes,
                }
            } else {
                after(segment)
            }
        })
    }

    /// Says that somebody reads; keep it until done.
    #[must_use]
    pub fn begin_reading(&self) -> Reading<F> {
        self.shared.readings.fetch_add(1, Ordering::SeqCst);
        Reading {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Notes positions as stored in the database. Survives a restart once
    /// [`SpoolReader::write_cursor`] has run; losing it only costs sending again.
    pub fn settle(&self, spool: SpoolId, ranges: &SettledRanges) {
        self.shared.index().settle(spool, ranges);
    }

    /// Notes positions as accepted by Redis, for [`crate::FullPolicy::TrustRedis`].
    pub fn accepted(&self, spool: SpoolId, ranges: &SettledRanges) {
        if self.shared.options.full == crate::FullPolicy::TrustRedis {
            self.shared.index().accept(spool, ranges);
        }
    }

    /// Makes what is settled durable; `Ok(false)` when nothing changed. Blocks on the disk.
    /// # Errors
    /// [`SpoolError::Cursor`]: try again later.
    pub fn write_cursor(&self) -> Result<bool, SpoolError> {
        self.shared.write_cursor(false)
    }

    /// Is every position of `first..=last` stored in the database?
    #[must_use]
    pub fn is_settled(&self, spool: SpoolId, first: SpoolSeq, last: SpoolSeq) -> bool {
        self.shared.index().is_settled(spool, first, last)
    }

    /// Nothing below this position of `spool` will be sent (again).
    #[must_use]
    pub fn low(&self, spool: SpoolId) -> SpoolSeq {
        self.shared.index().low(spool)
    }

    /// The openings and lanes whose data or losses are here.
    #[must_use]
    pub fn spools(&self) -> Vec<SpoolId> {
        self.shared.index().spools()
    }

    /// Losses that are not settled yet.
    #[must_use]
    pub fn gaps(&self) -> Vec<(SpoolId, Gap)> {
        self.shared.index().gaps()
    }

    /// How full it is and what it has done.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let index = self.shared.index();
        Usage {
            used_bytes: index.open_segments() * self.shared.geometry().segment_bytes,
            bytes_max: self.shared.options.bytes_max,
            ..index.usage()
        }
    }

    /// The segment to read, and whether everything in it is closed.
    fn look(&self, lane: Lane, order: u64) -> Option<(Segment, bool)> {
        let index = self.shared.index();
        let segment = index.segment_from(lane, order)?;
        Some((segment.clone(), index.is_closed(segment)))
    }

    /// Reads on in one segment; answers how many bytes may still be taken.
    fn read_segment(
        &self,
        segment: &Segment,
        until: Option<Position>,
        bytes_max: usize,
        chunk: &mut Chunk,
    ) -> Result<usize, SpoolError> {
        let mut left = bytes_max;
        let mut unpacked = Vec::new();
        let mut finished = false;
        let last = segment.last();
        let visit = |offset: u64, commit: &Commit<'_>| {
            let at = Position {
                order: segment.order,
                offset,
            };
            // Behind the last durable position only a group stands that was never acknowledged
            // here and went to another segment.
            let beyond = commit.flags & FLAG_ZSTD == 0 && last.is_none_or(|l| commit.first > l);
            if beyond || until.is_some_and(|until| at >= until) {
                finished |= beyond;
                return Step::StopBefore;
            }
            let taken = self.take(commit, at, segment, &mut unpacked, &mut chunk.stored);
            left = left.saturating_sub(taken);
            finished = commit.flags & FLAG_ZSTD == 0 && last == Some(commit.last);
            if left == 0 || finished {
                Step::StopBehind
            } else {
                Step::On
            }
        };
        let range = (chunk.next.offset, segment.durable_bytes);
        let geometry = self.shared.geometry();
        let window = bytes_max.min(WINDOW_BYTES_MAX);
        let walked = self
            .shared
            .fs
            .open(&pool::name(segment.slot))
            .and_then(|file| walk(&file, &identity(geometry, segment), range, window, visit));
        let walked = match self.judge(segment, walked, chunk)? {
            ControlFlow::Continue(walked) => walked,
            ControlFlow::Break(()) => {
                chunk.next = after(segment);
                return Ok(left);
            }
        };
        chunk.next.offset = walked.next;
        let sealed = segment.state != State::Active;
        if sealed && finished {
            chunk.next = after(segment);
        } else if walked.skipped || (walked.next >= segment.durable_bytes && sealed) {
            chunk.gaps.extend(self.note_damage(segment));
        }
        Ok(left)
    }

    /// What a failed read means: recycled meanwhile, or not readable just now.
    fn judge(
        &self,
        segment: &Segment,
        walked: io::Result<Walked>,
        chunk: &Chunk,
    ) -> Result<ControlFlow<(), Walked>, SpoolError> {
        let source = match walked {
            Ok(walked) => return Ok(ControlFlow::Continue(walked)),
            Err(source) => source,
        };
        if !self.shared.index().holds(segment) {
            return Ok(ControlFlow::Break(()));
        }
        let file = pool::name(segment.slot);
        if segment.state == State::Active {
            return Err(SpoolError::Read {
                file,
                source: Arc::new(source),
            });
        }
        // What lies behind a bad sector must not wait for it.
        tracing::error!(file, offset = chunk.next.offset, %source, "segment cannot be read; its rest is left out until a restart");
        Ok(ControlFlow::Break(()))
    }

    /// Copies what is open of a commit; answers the bytes it took.
    fn take(
        &self,
        commit: &Commit<'_>,
        at: Position,
        segment: &Segment,
        unpacked: &mut Vec<u8>,
        out: &mut Vec<Stored>,
    ) -> usize {
        let (spool, first, last) = (commit.spool, commit.first, commit.last);
        let (whole, open) = {
            let index = self.shared.index();
            let part = Part { spool, first, last };
            if index.is_open(spool, first, last) {
                (true, Vec::new())
            } else {
                (false, index.open_within(part))
            }
        };
        if !whole && open.is_empty() {
            return commit.len_bytes();
        }
        let envelope_max = self.shared.geometry().envelope_bytes_max;
        let raw = commit.raw(unpacked, envelope_max).unwrap_or_default();
        let is_open = |seq: SpoolSeq| {
            // Of a compacted segment, what its source still holds is read there.
            let is_here = commit.flags & FLAG_ZSTD == 0 || segment.holds(spool, seq);
            is_here && (whole || open.iter().any(|&(a, z)| a <= seq.get() && seq.get() <= z))
        };
        let envelopes = Envelopes::new(raw, first);
        for Read { envelope, kind } in envelopes.filter(|read| is_open(read.envelope.seq)) {
            out.push(Stored {
                kind,
                spool,
                seq: envelope.seq,
                at,
                received_at_ms: envelope.received_at_ms,
                device: envelope.device,
                transport: envelope.transport,
                lane: segment.lane,
                record_count: envelope.record_count,
                panic: commit.flags & commit::FLAG_PANIC != 0,
                bytes: envelope.bytes.to_vec(),
            });
        }
        raw.len().max(commit.len_bytes())
    }

    /// Looks over a whole segment in which a commit is missing, once; answers what is lost.
    fn note_damage(&self, segment: &Segment) -> Vec<(SpoolId, Gap)> {
        let mut seen: Vec<Part> = Vec::new();
        let visit = |_: u64, commit: &Commit<'_>| {
            seen.push(Part {
                spool: commit.spool,
                first: commit.first,
                last: commit.last,
            });
            Step::On
        };
        let range = (HEADER_BYTES as u64, segment.durable_bytes);
        let ours = identity(self.shared.geometry(), segment);
        let walked = self
            .shared
            .fs
            .open(&pool::name(segment.slot))
            .and_then(|file| walk(&file, &ours, range, WINDOW_BYTES_MAX, visit));
        let mut lost = Vec::new();
        {
            let mut index = self.shared.index();
            // Recycled meanwhile, looked over before, or not readable just now: no loss is proved.
            if walked.is_err() || !index.judge(segment) {
                return Vec::new();
            }
            for part in &segment.parts {
                let of_spool = seen.iter().filter(|p| p.spool == part.spool);
                let mut there = SettledRanges::new();
                of_spool.for_each(|p| there.insert(p.first.get(), p.last.get()));
                for (first, last) in crate::index::holes(&there, part.first.get(), part.last.get())
                {
                    if let (Ok(first), Ok(last)) = (SpoolSeq::new(first), SpoolSeq::new(last)) {
                        let spool = part.spool;
                        let hole = Part { spool, first, last };
                        let gaps = index.lose(hole, 0, &GapReason::Corrupt);
                        lost.extend(gaps.into_iter().map(|gap| (spool, gap)));
                    }
                }
            }
        }
        if !lost.is_empty() {
            tracing::error!(
                file = pool::name(segment.slot),
                gaps = lost.len(),
                "segment is damaged; its losses are reported"
            );
            let _ = quarantine::keep(&self.shared.fs, segment.slot, segment.id, segment.key);
        }
        lost
    }
}

fn after(segment: &Segment) -> Position {
    Position {
        order: segment.order + 1,
        offset: 0,
    }
}
