//! The one writer: a group of frames becomes one commit, one sync, and then receipts.
//!
//! Invariants:
//! - A receipt leaves only after the sync of the commit that holds the frame, and of the header of
//!   the segment that holds the commit.
//! - A failed write or sync is never tried again on the same file: the kernel may have dropped the
//!   pages and report success next time. The segment is given up and the same group goes to
//!   another one under the same positions, once; a second failure ends acknowledging until a
//!   restart. So no position is ever given to two payloads, also not after a failure.
//! - A sector that holds acknowledged data is never written again.

use std::sync::Arc;

use contract::{Lane, SpoolId, SpoolSeq};

use crate::compact::Compaction;
use crate::format::{HEADER_BYTES, Kind, SECTOR_BYTES, SegmentHeader, align_up, commit, envelope};
use crate::fs::{Fs, FsFile};
use crate::index::{Part, Segment, State, order_of};
use crate::mutant::{Mutant, active};
use crate::pool::{self, Pool};
use crate::shared::Shared;
use crate::{Append, Durable, Geometry, SpoolError, SpoolReader};

/// Writes the spool. One owner, one thread.
pub struct SpoolWriter<F: Fs> {
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) lanes: [LaneLog<F::File>; 3],
    pub(crate) pool: Pool,
    pub(crate) next_id: u64,
    pub(crate) buffer: Vec<u8>,
    pub(crate) failed: Option<SpoolError>,
    pub(crate) compaction: Compaction<F::File>,
    /// Files of which a copy exists that may be in memory alone.
    pub(crate) held: Vec<(SpoolId, u64)>,
}

/// One lane of this opening.
pub(crate) struct LaneLog<File> {
    pub(crate) lane: Lane,
    pub(crate) spool: SpoolId,
    pub(crate) next: SpoolSeq,
    pub(crate) active: Option<Active<File>>,
}

/// The segment a lane is writing.
pub(crate) struct Active<File> {
    header: SegmentHeader,
    /// Its key in the index.
    order: u64,
    slot: u64,
    file: File,
    /// Behind the last synced commit; 0 while not even the header is written.
    end: u64,
}

impl<F: Fs> SpoolWriter<F> {
    /// Reads what this writer writes, and notes what need not be kept any more.
    #[must_use]
    pub fn reader(&self) -> SpoolReader<F> {
        SpoolReader::new(Arc::clone(&self.shared))
    }

    /// Did storage fail twice in a row? Then nothing is acknowledged until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Keeps a group of frames; one answer for each, in the same order. Returns after the sync.
    ///
    /// Each lane is a commit of its own, the most urgent first; groups larger than
    /// [`Geometry::group_bytes_max`] are cut into several.
    pub fn commit(&mut self, group: &[Append]) -> Vec<Result<Durable, SpoolError>> {
        let mut answers: Vec<Option<Result<Durable, SpoolError>>> = Vec::new();
        answers.resize_with(group.len(), || None);
        for at in 0..self.lanes.len() {
            self.commit_lane(at, group, &mut answers);
        }
        let bytes = |append| envelope::bytes(append);
        let answers = answers.into_iter().zip(group);
        answers
            .map(|(answer, append)| {
                // No lane took it: it can never be kept.
                answer.unwrap_or_else(|| {
                    Err(SpoolError::TooLarge {
                        bytes: bytes(append),
                    })
                })
            })
            .collect()
    }

    fn commit_lane(
        &mut self,
        at: usize,
        group: &[Append],
        answers: &mut [Option<Result<Durable, SpoolError>>],
    ) {
        let lane = self.lanes[at].lane;
        let geometry = *self.shared.geometry();
        let takes = |append: &Append| {
            append.lane == lane && envelope::fits(append, geometry.envelope_bytes_max)
        };
        let mut from = 0;
        while from < group.len() {
            let (mut to, mut bytes) = (from, 0);
            while to < group.len() && bytes < geometry.group_bytes_max {
                if takes(&group[to]) {
                    bytes += envelope::bytes(&group[to]);
                }
                to += 1;
            }
            if bytes > 0 {
                let part = group[from..to].iter().filter(|append| takes(append));
                let answers = group[from..to].iter().zip(&mut answers[from..to]);
                let mut answers = answers.filter(|(append, _)| takes(append));
                match self.keep(at, part, bytes) {
                    Ok((spool, mut seq)) => {
                        for (append, answer) in &mut answers {
                            let durable = Durable::new(spool, seq, append.record_count);
                            *answer = Some(Ok(durable));
                            seq = seq.next();
                        }
                    }
                    Err(error) => {
                        answers.for_each(|(_, answer)| *answer = Some(Err(error.clone())))
                    }
                }
            }
            from = to;
        }
    }

    /// Writes one commit; answers the first position.
    fn keep<'a>(
        &mut self,
        at: usize,
        appends: impl Iterator<Item = &'a Append> + Clone,
        bytes: usize,
    ) -> Result<(SpoolId, SpoolSeq), SpoolError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let commit_bytes = (commit::COMMIT_HEADER_BYTES + bytes) as u64;
        let place = self.place(at, commit_bytes);
        self.admit(self.lanes[at].lane, place.is_none())?;
        if place.is_none() {
            self.roll(at)?;
        }
        let start = place.unwrap_or(HEADER_BYTES as u64);
        let Err(first_failure) = self.write(at, start, appends.clone()) else {
            return Ok(self.advance(at, appends));
        };
        tracing::error!(error = %first_failure, source = ?std::error::Error::source(&first_failure), "spool segment given up; its last group goes to another one");
        let again = self
            .roll(at)
            .and_then(|()| self.write(at, HEADER_BYTES as u64, appends.clone()));
        match again {
            Ok(()) => Ok(self.advance(at, appends)),
            Err(error) => {
                tracing::error!(error = %error, "spool stops acknowledging until a restart");
                // What the caller is told is that the disk failed, also when the second place
                // could not even be found.
                if !active(Mutant::ReuseSeqsOfFailedGroup) {
                    self.failed = Some(first_failure.clone());
                }
                Err(first_failure)
            }
        }
    }

    /// Where a commit of this size would go in the lane's segment.
    fn place(&self, at: usize, commit_bytes: u64) -> Option<u64> {
        let segment = self.lanes[at].active.as_ref()?;
        let geometry = self.shared.geometry();
        let used = self.shared.index().open_segments() * geometry.segment_bytes;
        // Blocks of their own while space is plenty: then the disk need not read before it
        // writes, and a torn block holds nothing acknowledged.
        let alignment = if used < self.shared.options.bytes_max / 4 {
            Geometry::BLOCK_BYTES
        } else {
            SECTOR_BYTES
        };
        let start = align_up(segment.end.max(HEADER_BYTES as u64), alignment);
        (start + commit_bytes <= geometry.segment_bytes).then_some(start)
    }

    fn write<'a>(
        &mut self,
        at: usize,
        start: u64,
        appends: impl Iterator<Item = &'a Append>,
    ) -> Result<(), SpoolError> {
        let log = &mut self.lanes[at];
        let segment = log.active.as_mut().expect("the lane was given a segment");
        self.buffer.clear();
        let fresh = segment.end == 0;
        if fresh {
            segment.header.encode(&mut self.buffer);
        }
        let place = (log.spool, segment.header.id, log.next);
        let commit_bytes = commit::encode(&mut self.buffer, place, appends);
        let offset = if fresh { 0 } else { start };
        // Behind the commit nothing of value stands. Of a block that is written in part the disk would
        // have to read the rest first.
        let end = align_up(offset + self.buffer.len() as u64, Geometry::BLOCK_BYTES);
        let whole = usize::try_from(end - offset).expect("a segment is smaller");
        self.buffer.resize(whole, 0);
        let written = segment.file.write_all_at(&self.buffer, offset);
        let written = written.and_then(|()| {
            if active(Mutant::AckBeforeSync) {
                return Ok(());
            }
            let synced = segment.file.sync();
            if active(Mutant::RetryFailedSync) {
                return synced.or_else(|_| segment.file.sync());
            }
            synced
        });
        let mut index = self.shared.index();
        index.counters.syncs += 1;
        index.counters.commit_syncs += 1;
        index.counters.written_bytes += self.buffer.len() as u64;
        match written {
            Ok(()) => {
                segment.end = start + commit_bytes as u64;
                if fresh {
                    index.gone(segment.slot);
                }
                Ok(())
            }
            Err(source) => {
                let error = SpoolError::storage(&pool::name(segment.slot), source);
                drop(index);
                self.poison(at);
                Err(error)
            }
        }
    }

    /// Publishes what was just synced.
    fn advance<'a>(
        &mut self,
        at: usize,
        appends: impl Iterator<Item = &'a Append>,
    ) -> (SpoolId, SpoolSeq) {
        let log = &mut self.lanes[at];
        let segment = log.active.as_ref().expect("it was just written");
        let (first, mut count, mut records, mut payload) = (log.next, 0, 0, 0);
        for append in appends {
            count += 1;
            records += u64::from(append.record_count);
            payload += append.bytes.len() as u64;
        }
        let last = SpoolSeq::new(first.get() + count - 1)
            .expect("2^62 positions are not used up in the life of a box");
        log.next = last.next();
        let part = Part {
            spool: log.spool,
            first,
            last,
        };
        let mut index = self.shared.index();
        index.committed((log.lane, segment.order), part, segment.end);
        index.counters.records_durable += records;
        index.counters.payload_bytes += payload;
        index.counters.commits += 1;
        (log.spool, first)
    }

    /// Never writes to the lane's segment again.
    fn poison(&mut self, at: usize) {
        let log = &mut self.lanes[at];
        let Some(segment) = log.active.take() else {
            return;
        };
        let (lane, order) = (log.lane, segment.order);
        let mut index = self.shared.index();
        index.counters.segments_poisoned += 1;
        if segment.end == 0 {
            // Not even its header is known to be there; what the file held before may come back.
            index.forget(lane, order);
            index.haunt();
            self.pool.doom(segment.slot);
        } else {
            index.set_state(lane, order, State::Poisoned);
        }
    }

    /// Gives the lane a new segment. Its header goes out with its first commit.
    fn roll(&mut self, at: usize) -> Result<(), SpoolError> {
        let slot = self.take_slot()?;
        let file = match self.shared.fs.open(&pool::name(slot)) {
            Ok(file) => file,
            Err(source) => {
                // What it held may be seen again by the next opening.
                self.shared.index().haunt();
                self.pool.give_back(slot);
                return Err(SpoolError::no_segment(pool::name(slot), source));
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        let log = &mut self.lanes[at];
        let header = SegmentHeader {
            kind: Kind::Log,
            lane: log.lane,
            key: log.spool,
            id,
            order: id,
            first: log.next,
        };
        let mut index = self.shared.index();
        if let Some(full) = log.active.take() {
            index.set_state(log.lane, full.order, State::Sealed);
        }
        index.add(Segment {
            id,
            order: order_of(id),
            place: id,
            kind: Kind::Log,
            lane: log.lane,
            key: log.spool,
            slot,
            state: State::Active,
            parts: Vec::with_capacity(1),
            durable_bytes: HEADER_BYTES as u64,
            file_bytes: self.shared.geometry().segment_bytes,
            judged: false,
            shadows: Vec::new(),
        });
        log.active = Some(Active {
            header,
            order: order_of(id),
            slot,
            file,
            end: 0,
        });
        Ok(())
    }
}
