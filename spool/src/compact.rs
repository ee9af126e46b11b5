//! Compaction: what waits unsent for long is rewritten once, dense.
//!
//! Why: lone commits take a block each, 256 to the mebibyte, and an outage may last for days. The
//! unsettled envelopes of one sealed segment become a group of zstd blocks in the lane's compacted
//! segment; a few dozen such groups fit where one segment stood.
//!
//! Why plain zstd at level 3: about a thousand vehicles with 16 IO values take 52 bytes a record
//! in blocks of 128 KiB; level 9 gains two in a hundred for five times the work and more memory.
//!
//! Invariants:
//! - The source leaves the index only after the sync of the whole group, and its file says so
//!   durably (a header of kind *free*) before it is used again.
//! - As long as the source's header can be read the source counts, whatever a compacted segment
//!   says: after a failed sync a group may be seen in memory that is not on the disk.
//! - Left out is only what a durable cursor knows to be settled or lost.
//! - A source with a damaged place is left to the reader, who reports it.

mod group;

use std::collections::BTreeSet;
use std::io;

use contract::{Lane, SpoolId, SpoolSeq};

use crate::format::{HEADER_BYTES, Kind, SegmentHeader};
use crate::fs::{Fs, FsFile};
use crate::full::RESERVED_SEGMENTS;
use crate::index::{Part, Segment, State};
use crate::mutant::{Mutant, active};
use crate::open::prove;
use crate::writer::SpoolWriter;
use crate::{Geometry, SpoolError, pool, shared};
use group::{Group, Stop};

/// What may be compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactPolicy {
    /// So many of the newest sealed segments of each lane are left as they are.
    pub newest_spared: u64,
}

/// What one compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Whose segment.
    pub lane: Lane,
    /// Envelopes that were rewritten.
    pub envelopes: u64,
    /// Bytes they took, with padding.
    pub bytes_before: u64,
    /// Bytes they take now.
    pub bytes_after: u64,
}

/// What the writer remembers between compactions.
pub(crate) struct Compaction<File> {
    targets: [Option<Target<File>>; 3],
    /// Segments that are damaged, unreadable or not worth it.
    left_alone: BTreeSet<u64>,
}

impl<File> Default for Compaction<File> {
    fn default() -> Self {
        Self {
            targets: [None, None, None],
            left_alone: BTreeSet::new(),
        }
    }
}

/// The compacted segment of a lane that still has room.
struct Target<File> {
    slot: u64,
    file: File,
    /// `None` while it holds nothing that counts.
    begun: Option<Begun>,
}

#[derive(Clone, Copy)]
struct Begun {
    id: u64,
    /// Its key in the index, that of its first source, and that one's place.
    order: u64,
    place: u64,
    /// Where the last source stood in the order of the lane.
    last_order: u64,
    end: u64,
}

/// How an attempt ended.
enum Attempt {
    Written(Written),
    /// The group does not fit behind the others.
    NoRoom,
    /// The source is left alone from now on.
    LeaveAlone,
}

struct Written {
    begun: Begun,
    parts: Vec<Part>,
    envelopes: u64,
    bytes: u64,
}

impl<F: Fs> SpoolWriter<F> {
    /// Rewrites the oldest sealed segment that holds something unsettled. `Ok(None)`: there is
    /// none, there is no room for it, or somebody reads. Positions that were read before are not
    /// to be used afterwards: read from the start again, or from [`crate::SpoolReader::live_from`].
    ///
    /// Takes the time of reading and writing a segment, and about a mebibyte of memory.
    /// # Errors
    /// [`SpoolError::Storage`], [`SpoolError::NoSpace`]: the source stands as it was; try later.
    pub fn compact(&mut self, policy: CompactPolicy) -> Result<Option<Compacted>, SpoolError> {
        if self.failed.is_some() || self.shared.is_read() || !self.held.is_empty() {
            return Ok(None);
        }
        let left_alone = &self.compaction.left_alone;
        let found = self
            .shared
            .index()
            .compactable(policy.newest_spared, left_alone);
        let Some(source) = found else {
            return Ok(None);
        };
        let lane_at = self.lanes.iter().position(|log| log.lane == source.lane);
        let lane_at = lane_at.expect("every segment is of one of the three lanes");
        loop {
            if !self.find_target(lane_at, &source)? {
                return Ok(None);
            }
            match self.attempt(lane_at, &source)? {
                Attempt::Written(written) => return self.publish(lane_at, &source, written),
                Attempt::NoRoom => self.compaction.targets[lane_at] = None,
                Attempt::LeaveAlone => {
                    self.compaction.left_alone.insert(source.id);
                    return Ok(None);
                }
            }
        }
    }

    /// Sees to it that the lane has a segment to compact into; false without room for one.
    fn find_target(&mut self, lane_at: usize, source: &Segment) -> Result<bool, SpoolError> {
        let lane = self.lanes[lane_at].lane;
        let begun = self.compaction.targets[lane_at].as_ref().map(|t| t.begun);
        match begun {
            Some(None) => return Ok(true),
            Some(Some(begun)) => {
                let index = self.shared.index();
                // It may have been recycled meanwhile, and the order must stay.
                let is_there = index.is_there(lane, begun.order, begun.id);
                if is_there && index.are_neighbours(lane, begun.last_order, source.order) {
                    return Ok(true);
                }
                drop(index);
                self.compaction.targets[lane_at] = None;
            }
            None => {}
        }
        // What the next opening needs is left to it.
        let needed = self.shared.index().held_segments() + 1 + RESERVED_SEGMENTS;
        if needed * self.shared.geometry().segment_bytes > self.shared.options.bytes_max {
            return Ok(false);
        }
        let slot = match self.take_slot() {
            Ok(slot) => slot,
            Err(SpoolError::Full { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let file = self.shared.fs.open(&pool::name(slot)).map_err(|source| {
            self.shared.index().haunt();
            self.pool.give_back(slot);
            SpoolError::storage(&pool::name(slot), source)
        })?;
        self.compaction.targets[lane_at] = Some(Target {
            slot,
            file,
            begun: None,
        });
        Ok(true)
    }

    /// Writes one group and syncs it.
    fn attempt(&mut self, lane_at: usize, source: &Segment) -> Result<Attempt, SpoolError> {
        let geometry = *self.shared.geometry();
        let key = self.lanes[lane_at].spool;
        let target = self.compaction.targets[lane_at].as_ref();
        let target = target.expect("it was just found");
        let begun = target.begun.unwrap_or(Begun {
            // Never the id of an earlier attempt: its blocks may still stand there.
            id: self.next_id,
            order: source.order,
            place: source.place,
            last_order: source.order,
            end: HEADER_BYTES as u64,
        });
        self.next_id = self.next_id.max(begun.id + 1);
        let bytes_worth = source.durable_bytes / 4 * 3;
        let mut group = match Group::new(&target.file, key, begun.id, begun.end) {
            Ok(group) => group.limited(geometry.segment_bytes, bytes_worth),
            Err(error) => return Err(SpoolError::storage(&pool::name(target.slot), error)),
        };
        let wanted = self.shared.index().wanted(source);
        // The header first, and synced: otherwise its id could be given to another segment in the
        // next life, and blocks that survived without it would be taken for that one's.
        let header = SegmentHeader {
            kind: Kind::Compacted,
            lane: source.lane,
            key,
            id: begun.id,
            order: begun.place,
            first: wanted.first().map_or(SpoolSeq::FIRST, |part| part.first),
        };
        let headed = match target.begun {
            Some(_) => Ok(()),
            None => write_header(&target.file, &header).map_err(Stop::Target),
        };
        let read = headed.and_then(|()| {
            let file = self.shared.fs.open(&pool::name(source.slot));
            let identity = shared::identity(&geometry, source);
            group.fill(
                &file.map_err(Stop::Source)?,
                &identity,
                source,
                &wanted,
                &geometry,
            )
        });
        let written = read.and_then(|()| {
            if active(Mutant::FreeSourceBeforeSync) {
                return Ok(());
            }
            target.file.sync().map_err(Stop::Target)
        });
        let (end, envelopes) = (group.end(), group.envelopes());
        let parts = group.into_parts();
        let mut index = self.shared.index();
        index.counters.upkeep_bytes += end - begun.end;
        index.counters.syncs += 1;
        drop(index);
        let is_first = target.begun.is_none();
        let slot = target.slot;
        match written {
            Ok(()) => Ok(Attempt::Written(Written {
                begun: Begun {
                    end,
                    last_order: source.order,
                    ..begun
                },
                parts,
                envelopes,
                bytes: end - begun.end,
            })),
            Err(Stop::NoRoom) if !is_first => Ok(Attempt::NoRoom),
            Err(Stop::NoRoom | Stop::NotWorth) => {
                self.give_back_target(lane_at);
                Ok(Attempt::LeaveAlone)
            }
            Err(Stop::Damaged) => {
                self.give_back_target(lane_at);
                tracing::warn!(
                    file = pool::name(source.slot),
                    "damaged segment is not compacted"
                );
                Ok(Attempt::LeaveAlone)
            }
            Err(Stop::Source(error)) => {
                self.give_back_target(lane_at);
                tracing::warn!(file = pool::name(source.slot), %error, "segment cannot be read and is not compacted");
                Ok(Attempt::LeaveAlone)
            }
            Err(Stop::Target(error)) => {
                self.give_up_target(lane_at, source);
                Err(SpoolError::storage(&pool::name(slot), error))
            }
        }
    }

    /// Gives the file of a compacted segment in which nothing counts yet to the next segment.
    fn give_back_target(&mut self, lane_at: usize) {
        let target = &mut self.compaction.targets[lane_at];
        if let Some(target) = target.take_if(|target| target.begun.is_none()) {
            // Its header is synced, and no group was ended.
            self.shared.index().gone(target.slot);
            self.pool.give_back(target.slot);
        }
    }

    /// Never writes to the lane's compacted segment again.
    fn give_up_target(&mut self, lane_at: usize, source: &Segment) {
        let Some(target) = self.compaction.targets[lane_at].take() else {
            return;
        };
        let mut index = self.shared.index();
        index.counters.segments_poisoned += 1;
        match target.begun {
            Some(begun) => {
                index.shadow((source.lane, begun.order), &source.parts);
                index.set_state(source.lane, begun.order, State::Poisoned);
            }
            None => {
                // What the file held before may come back.
                index.leave(target.slot, source.parts.iter().map(|part| part.spool));
                index.haunt();
                self.pool.doom(target.slot);
            }
        }
    }

    /// Puts the group in the place of its source, unless somebody began to read meanwhile: then
    /// the group is made to be none.
    fn publish(
        &mut self,
        lane_at: usize,
        source: &Segment,
        written: Written,
    ) -> Result<Option<Compacted>, SpoolError> {
        let target = self.compaction.targets[lane_at].as_mut();
        let target = target.expect("it was just written");
        let is_first = target.begun.is_none();
        let begun = written.begun;
        let is_published = {
            let mut index = self.shared.index();
            if is_first {
                index.gone(target.slot);
            }
            let is_read = self.shared.is_read();
            let is_published = !is_read && index.holds(source);
            if is_published {
                index.forget(source.lane, source.order);
            }
            if is_published && is_first {
                index.add(Segment {
                    id: begun.id,
                    order: begun.order,
                    place: begun.place,
                    kind: Kind::Compacted,
                    lane: source.lane,
                    key: self.lanes[lane_at].spool,
                    slot: target.slot,
                    state: State::Sealed,
                    parts: written.parts,
                    durable_bytes: begun.end,
                    file_bytes: self.shared.geometry().segment_bytes,
                    judged: false,
                    shadows: Vec::new(),
                });
            } else if is_published {
                index.extend((source.lane, begun.order), written.parts, begun.end);
            }
            index.counters.segments_compacted += u64::from(is_published);
            is_published
        };
        if !is_published {
            self.abandon_target(lane_at, source);
            return Ok(None);
        }
        target.begun = Some(begun);
        if !self.free(source) {
            // While the source may come back its group must be the last one here: then the other
            // groups come before it, in the next life too.
            self.compaction.targets[lane_at] = None;
        }
        Ok(Some(Compacted {
            lane: source.lane,
            envelopes: written.envelopes,
            bytes_before: source.durable_bytes,
            bytes_after: written.bytes,
        }))
    }

    /// Leaves a group that does not count where it is: the source counts, now and at every opening,
    /// while its header can be read. Nothing is written behind the group any more, so it stays the
    /// last one.
    fn abandon_target(&mut self, lane_at: usize, source: &Segment) {
        let Some(target) = self.compaction.targets[lane_at].take() else {
            return;
        };
        let mut index = self.shared.index();
        match target.begun {
            Some(begun) => index.shadow((source.lane, begun.order), &source.parts),
            None => {
                index.leave(target.slot, source.parts.iter().map(|part| part.spool));
                self.pool.doom(target.slot);
            }
        }
    }

    /// Says in the source's own file, twice, that nothing in it counts any more: one copy alone would
    /// be torn one day by the header of the next segment, and the other one would speak again.
    fn free(&mut self, source: &Segment) -> bool {
        let id = self.next_id;
        self.next_id += 1;
        let header = SegmentHeader {
            kind: Kind::Free,
            lane: source.lane,
            key: source.key,
            id,
            order: id,
            first: SpoolSeq::FIRST,
        };
        let name = pool::name(source.slot);
        let freed = if active(Mutant::FreeSourceOnce) {
            let file = self.shared.fs.open(&name);
            file.and_then(|file| {
                file.write_all_at(&header.encode_copy(), 0)?;
                file.sync()
            })
        } else {
            prove(&self.shared.fs, source.slot, &header)
        };
        let mut index = self.shared.index();
        index.counters.syncs += 2;
        index.counters.upkeep_bytes += 2 * Geometry::BLOCK_BYTES;
        match freed {
            Ok(()) => {
                index.gone(source.slot);
                drop(index);
                self.pool.take_in(source.slot, source.file_bytes);
                true
            }
            Err(error) => {
                tracing::warn!(file = name, %error, "compacted segment could not be freed; its file is removed");
                index.haunt();
                drop(index);
                self.pool.doom(source.slot);
                false
            }
        }
    }
}

fn write_header<File: FsFile>(file: &File, header: &SegmentHeader) -> io::Result<()> {
    let mut block = Vec::with_capacity(HEADER_BYTES);
    header.encode(&mut block);
    file.write_all_at(&block, 0)?;
    file.sync()
}

/// A place in a segment's parts, for [`Group`].
fn is_wanted(wanted: &[Part], spool: SpoolId, seq: SpoolSeq) -> bool {
    let holds = |part: &Part| part.spool == spool && part.first <= seq && seq <= part.last;
    wanted.iter().any(holds)
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Target(error)
    }
}
