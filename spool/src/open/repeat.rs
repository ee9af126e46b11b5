//! The last commit of every earlier opening is written again, to a segment of its own.
//!
//! Why: of each log only the last commit can be in doubt. Its writer may have died before the sync
//! or may have seen the sync fail; in both cases it can be read now, from memory, and be gone
//! after the next power cut although it was delivered meanwhile. Syncing the same file again
//! proves nothing (Linux reports a lost write once), and writing it in place could tear what was
//! acknowledged after all. All commits before it were acknowledged, so they were synced.
//!
//! Invariants: the copy carries the same key, positions and bytes, so it is the same commit; and its
//! header names the place of the segment it stood in. That one need not be the last of its key: a
//! later one may be there that cannot be read now, and what begins in it is not to be taken for a
//! group that was tried and never kept.

use std::io;

use contract::{SpoolId, SpoolSeq};

use super::measure::{self, Held};
use super::scan::{Free, Tail, patiently};
use crate::SpoolError;
use crate::cursor::CursorState;
use crate::format::{HEADER_BYTES, Identity, Kind, SegmentHeader, commit};
use crate::fs::{Fs, FsFile};
use crate::index::{Segment, State, order_of};
use crate::mutant::{Mutant, active};
use crate::pool;
use crate::shared::identity;
use crate::writer::SpoolWriter;

/// Writes that may fail before opening does.
const TRIES: u32 = 2;

/// May this commit be in memory alone?
pub(super) fn is_unproven(tail: &Tail, cursor: &CursorState) -> bool {
    let known = cursor.entries.get(&tail.part.spool).map_or(0, |e| e.tail);
    known < tail.part.last.get()
}

impl<F: Fs> SpoolWriter<F> {
    /// Repeats every last commit that the cursor does not know to be durable. `held` are the
    /// segments whose content stands in a later one too.
    pub(super) fn repeat_tails(
        &mut self,
        tails: &[Tail],
        held: &[Free],
        cursor: &CursorState,
    ) -> Result<(), SpoolError> {
        let ids = self.next_id;
        for tail in tails.iter().filter(|tail| is_unproven(tail, cursor)) {
            let key = tail.part.spool;
            let of_key: Vec<&Free> = held.iter().filter(|h| h.header.key == key).collect();
            let mut fallen_back = Vec::new();
            let is_durable = match self.segment_of(tail) {
                Some(segment) => self.repeat(tail, &segment, &of_key, &mut fallen_back)?,
                None => false,
            };
            if is_durable {
                self.shared.index().release(key);
            }
            if !active(Mutant::TrustCopyOfFailedSync) {
                // What was fallen back to became a segment again, or is free by now and may hold
                // another one.
                let kept = of_key.iter().filter(|h| !fallen_back.contains(&h.slot));
                self.held.extend(kept.map(|held| (key, held.slot)));
            }
        }
        self.give_up_held();
        if self.next_id > ids
            && let Err(error) = self.shared.write_cursor(true)
        {
            // Then the next opening repeats them again.
            tracing::warn!(%error, "cursor could not be written");
        }
        Ok(())
    }

    fn segment_of(&self, tail: &Tail) -> Option<Segment> {
        let index = self.shared.index();
        index.segments().find(|s| s.id == tail.id).cloned()
    }

    /// `Ok(true)`: the last commit of the key is durable now.
    fn repeat(
        &mut self,
        tail: &Tail,
        segment: &Segment,
        held: &[&Free],
        fallen_back: &mut Vec<u64>,
    ) -> Result<bool, SpoolError> {
        let identity = identity(self.shared.geometry(), segment);
        let read = patiently(|| read_commit(&self.shared.fs, &identity, tail, segment));
        let read = match read {
            Ok(read) => read,
            Err(source) => {
                // It could be read a moment ago. Until it can be again nothing else is given up.
                tracing::error!(file = pool::name(segment.slot), %source, "last commit of an earlier opening cannot be read and is not repeated");
                self.shared.index().haunt();
                return Ok(false);
            }
        };
        let Some(commit) = read else {
            // It was in memory alone and is gone already.
            self.shorten(tail, segment);
            // What its own writer put before it was acknowledged, so whatever begins no later than that
            // was a try that failed.
            let stays = segment
                .parts
                .iter()
                .any(|part| part.first < tail.part.first);
            let may_follow = |held: &&&Free| !stays || held.header.first >= tail.part.first;
            let held: Vec<&Free> = held.iter().filter(may_follow).copied().collect();
            return self.fall_back(tail.part.spool, &held, fallen_back);
        };
        let mut tried = 0;
        loop {
            let slot = match self.take_slot() {
                Ok(slot) => slot,
                Err(error) => {
                    // Good unless an earlier sync failed; what was acknowledged of it is durable
                    // all the same.
                    let file = self.shared.fs.open(&pool::name(segment.slot));
                    let synced = file.and_then(|file| file.sync());
                    tracing::warn!(spool = %tail.part.spool, %error, ?synced, "no free segment to repeat the last commit of an earlier opening in");
                    self.shared.index().haunt();
                    return Ok(false);
                }
            };
            let header = SegmentHeader {
                kind: Kind::Log,
                lane: segment.lane,
                key: segment.key,
                id: self.next_id,
                order: if active(Mutant::RepeatAsNewest) {
                    self.next_id
                } else {
                    segment.place
                },
                first: tail.part.first,
            };
            self.next_id += 1;
            match write(&self.shared.fs, slot, &header, &commit) {
                Ok(bytes) => {
                    self.shorten(tail, segment);
                    self.note_copy(slot, &header, tail, bytes);
                    return Ok(true);
                }
                Err(source) => {
                    self.shared.index().haunt();
                    self.pool.doom(slot);
                    tried += 1;
                    if tried == TRIES {
                        return Err(SpoolError::open(&pool::name(slot), source));
                    }
                }
            }
        }
    }

    /// Goes back to the segment that the one which is gone was a copy of.
    fn fall_back(
        &mut self,
        key: SpoolId,
        held: &[&Free],
        fallen_back: &mut Vec<u64>,
    ) -> Result<bool, SpoolError> {
        let Some((last, rest)) = held.split_last() else {
            return self.reach_back(key, fallen_back);
        };
        let measured = measure::measure_held(&self.shared.fs, self.shared.geometry(), last);
        let (mut segment, tail) = match measured {
            Held::Something(segment, tail) => (segment, tail),
            Held::Nothing => return self.fall_back(key, rest, fallen_back),
            Held::Unreadable => return Ok(false),
        };
        segment.order = self.shared.index().add_recovered(segment.clone());
        fallen_back.push(last.slot);
        self.repeat(&tail, &segment, rest, fallen_back)
    }

    /// What is gone may have been a copy of the last commit in the segment before it, which counted
    /// only as far as the copy began.
    fn reach_back(&mut self, key: SpoolId, fallen_back: &mut Vec<u64>) -> Result<bool, SpoolError> {
        let last = {
            let index = self.shared.index();
            let of_key = index.segments().filter(|s| s.key == key);
            let logs = of_key.filter(|s| s.kind == Kind::Log);
            logs.max_by_key(|s| (s.place, s.id)).cloned()
        };
        let Some(mut last) = last else {
            return Ok(true); // nothing of it was ever acknowledged
        };
        let measured = measure::measure_held(
            &self.shared.fs,
            self.shared.geometry(),
            &Free {
                slot: last.slot,
                header: SegmentHeader {
                    kind: last.kind,
                    lane: last.lane,
                    key,
                    id: last.id,
                    order: last.place,
                    first: last.parts.first().map_or(SpoolSeq::FIRST, |p| p.first),
                },
                file_bytes: last.file_bytes,
            },
        );
        match (measured, last.parts.last_mut()) {
            (Held::Unreadable, _) => Ok(false),
            (Held::Something(_, tail), Some(part)) if tail.part.last > part.last => {
                part.last = tail.part.last;
                last.durable_bytes = last.file_bytes;
                self.shared.index().add(last.clone());
                self.repeat(&tail, &last, &[], fallen_back)
            }
            _ => Ok(true),
        }
    }

    fn note_copy(&self, slot: u64, header: &SegmentHeader, tail: &Tail, bytes: u64) {
        let mut index = self.shared.index();
        index.gone(slot);
        index.counters.upkeep_bytes += bytes;
        index.counters.syncs += 1;
        index.set_tail(tail.part.spool, tail.part.last);
        index.add_recovered(Segment {
            id: header.id,
            order: order_of(header.order),
            place: header.order,
            kind: Kind::Log,
            lane: header.lane,
            key: header.key,
            slot,
            state: State::Sealed,
            parts: vec![tail.part],
            durable_bytes: bytes,
            file_bytes: self.shared.geometry().segment_bytes,
            judged: true,
            shadows: Vec::new(),
        });
    }

    /// Takes the last commit out of its old place.
    fn shorten(&mut self, tail: &Tail, segment: &Segment) {
        let is_empty = self
            .shared
            .index()
            .shorten(segment, tail.part.first, tail.offset);
        if is_empty {
            // Its header was in doubt like its only commit.
            let header = SegmentHeader {
                kind: Kind::Log,
                lane: segment.lane,
                key: segment.key,
                id: segment.id,
                order: segment.place,
                first: tail.part.first,
            };
            match super::prove(&self.shared.fs, segment.slot, &header) {
                Ok(()) => self.shared.index().gone(segment.slot),
                Err(_) => self.shared.index().haunt(),
            }
            self.pool.take_in(segment.slot, segment.file_bytes);
        }
    }
}

fn read_commit<F: Fs>(
    fs: &F,
    identity: &Identity,
    tail: &Tail,
    segment: &Segment,
) -> io::Result<Option<Vec<u8>>> {
    let file = fs.open(&pool::name(segment.slot))?;
    let mut bytes = vec![0; tail.len_bytes];
    file.read_exact_at(&mut bytes, tail.offset)?;
    let is_whole = identity.read(&bytes).is_some();
    Ok(is_whole.then_some(bytes))
}

/// Writes header and commit to a free slot; answers where they end.
fn write<F: Fs>(fs: &F, slot: u64, header: &SegmentHeader, commit: &[u8]) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + commit.len());
    header.encode(&mut bytes);
    bytes.extend(commit);
    commit::readdress(&mut bytes[HEADER_BYTES..], header.id);
    let file = fs.open(&pool::name(slot))?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    Ok(bytes.len() as u64)
}
