//! Opening after anything: what earlier openings left, how far it can be trusted, what is lost.
//!
//! Why it never refuses to start over damage: the records behind it are acknowledged and nobody
//! else has them. Damage becomes a gap that is reported upwards, and a copy is set aside.
//!
//! Invariants:
//! - What an earlier process wrote may be in memory only, and a sync that succeeds now proves
//!   nothing about one that failed then. So nothing is recycled before this opening's own cursor is
//!   durable, a file is only used when a header stands in it, because a header is only written
//!   after the file and its name were made durable, and the last commit of each earlier opening
//!   is written again, see [`repeat`].
//! - A segment that ends early without a later commit lost nothing that was acknowledged, unless
//!   the cursor knows better.

mod measure;
mod owner;
mod repeat;
mod salvage;
pub(crate) mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use contract::{GapReason, Lane, SettledRanges, SpoolId, SpoolSeq};

pub use owner::owner;

use crate::compact::Compaction;
use crate::cursor::{CursorFile, CursorState};
use crate::format::{HEADER_BYTES, Kind, SegmentHeader, header};
use crate::fs::{Fs, FsFile};
use crate::index::{Index, Part, holes};
use crate::mutant::{Mutant, active};
use crate::pool::{self, Pool};
use crate::shared::Shared;
use crate::writer::{LaneLog, SpoolWriter};
use crate::{OpenReport, Options, SpoolError, quarantine};

impl<F: Fs> SpoolWriter<F> {
    /// Opens or makes the spool in `fs` and recovers what earlier openings left. `random` is 3 ×
    /// 64 random bits for the ids of the new spools.
    /// # Errors
    /// [`SpoolError::TooSmall`], [`SpoolError::Owned`], [`SpoolError::OwnerUnreadable`],
    /// [`SpoolError::Newer`], [`SpoolError::Open`], [`SpoolError::Cursor`].
    pub fn open(
        fs: F,
        options: Options,
        random: [u64; 3],
    ) -> Result<(Self, OpenReport), SpoolError> {
        options.geometry.check(options.bytes_max)?;
        let first_look = headers_there(&fs)?;
        let is_owned = owner::check(&fs, &options.gateway, !first_look)?;
        if !is_owned || !first_look {
            owner::write(&fs, &options.gateway)?;
        }
        let (cursor_file, cursor) =
            CursorFile::open(&fs).map_err(|source| SpoolError::open("cursor", source))?;
        let known: BTreeSet<SpoolId> = cursor.entries.keys().copied().collect();
        let mut found = scan::scan(&fs, &options.geometry, &cursor)?;

        let spools = mint(random, &found, &known);
        let mut index = Index::new(spools, cursor.clone());
        for segment in &found.segments {
            index.add_recovered(segment.clone());
        }
        if !(found.is_partial && active(Mutant::ForgetForgotten)) {
            settle_forgotten(&mut index, &found, &cursor);
        }
        if found.is_partial {
            // What cannot be read now may be found again.
            index.haunt();
        } else {
            find_losses(&mut index, &found, &cursor);
        }
        // Nobody misses what is settled: a power cut while such a segment is taken for new data
        // looks like damage.
        let is_missed = |id: u64| {
            let mut segments = index.segments();
            segments.any(|segment| segment.id == id && !index.is_closed(segment))
        };
        let copies = found
            .damaged
            .iter()
            .filter(|&&(_, id, _)| is_missed(id))
            .filter_map(|&(slot, id, key)| quarantine::keep(&fs, slot, id, key));
        let quarantined = copies.collect();

        let geometry = options.geometry;
        let mut pool = Pool::new(&geometry, options.bytes_max, found.files, found.next_slot);
        let trusts_cache = active(Mutant::TrustPageCacheOnOpen);
        if trusts_cache {
            let free = found.free.iter();
            free.for_each(|free| pool.take_in(free.slot, free.file_bytes));
        } else {
            let unproven = found
                .tails
                .iter()
                .filter(|t| repeat::is_unproven(t, &cursor));
            unproven.for_each(|tail| index.hold(tail.part));
            if !active(Mutant::TrustUnreadableTail) {
                found.blind.iter().for_each(|part| index.hold(*part));
            }
            let is_free = |held: &mut scan::Free| {
                !index.is_held(held.header.key) || active(Mutant::TrustCopyOfFailedSync)
            };
            let unheld: Vec<_> = found.held.extract_if(.., is_free).collect();
            found.free.extend(unheld);
            sort_out(&fs, &found, &mut index, &mut pool);
        }
        index.counters.file_bytes = pool.files() * geometry.segment_bytes;
        let shared = Arc::new(Shared {
            fs,
            options,
            index: Mutex::new(index),
            cursor: Mutex::new(cursor_file),
            readings: AtomicUsize::new(0),
        });
        let log = |at: usize| LaneLog {
            lane: Lane::ALL[at],
            spool: spools[at],
            next: SpoolSeq::FIRST,
            active: None,
        };
        let mut writer = Self {
            shared,
            lanes: [log(0), log(1), log(2)],
            pool,
            next_id: found.next_id + ids_skipped(random),
            buffer: Vec::new(),
            failed: None,
            compaction: Compaction::default(),
            held: Vec::new(),
        };
        if !trusts_cache {
            writer.shared.index().set_opening(true);
            writer.write_first_cursor()?;
            writer.repeat_tails(&found.tails, &found.held, &cursor)?;
            writer.shared.index().set_opening(false);
            writer.keep_to_cap();
        }
        let report = {
            let index = writer.shared.index();
            OpenReport {
                spools,
                segments: index.segments().count(),
                backlog: index.usage().backlog(),
                gaps: index.gaps(),
                strangers: found.strangers,
                quarantined,
            }
        };
        Ok((writer, report))
    }
}

impl<F: Fs> SpoolWriter<F> {
    /// Makes the word of this opening durable. One that does not fit into a slot refuses no start:
    /// settled segments make room for it, now or later, and until then nothing is recycled by it.
    fn write_first_cursor(&mut self) -> Result<(), SpoolError> {
        // The next slot is another place on the disk, so a second try is not the same again.
        let written = self.shared.write_cursor(true);
        let Err(error) = written.or_else(|_| self.shared.write_cursor(true)) else {
            return Ok(());
        };
        if !self.shared.index().cursor_overflowed() {
            return Err(error);
        }
        match self.shrink_cursor() {
            Ok(true) => Ok(()),
            Ok(false) | Err(SpoolError::Cursor { .. }) => {
                self.shared.index().note_cursor_overflow(true);
                tracing::warn!(%error, "what is settled does not fit into the cursor; it is written once less is");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Is there any file of the pool in which something was written? Then the owner was durable before it.
/// One that cannot be read counts.
fn headers_there<F: Fs>(fs: &F) -> Result<bool, SpoolError> {
    let names = fs.list("").map_err(|source| SpoolError::open("", source))?;
    let is_written = |name: &String| {
        let mut block = vec![0; HEADER_BYTES];
        let read = scan::patiently(|| fs.open(name)?.read_up_to(&mut block, 0));
        read.is_err() || block.iter().any(|&byte| byte != 0)
    };
    let mut files = names.iter().filter(|name| pool::slot_of(name).is_some());
    Ok(files.any(is_written))
}

/// Segment ids this opening leaves out. A file that cannot be seen now may come back after a power
/// cut, when its removal was never made durable or its directory could not be synced; a segment
/// that was given the same id meanwhile would then be taken for a copy of it.
fn ids_skipped(random: [u64; 3]) -> u64 {
    if active(Mutant::ReuseSegmentIds) {
        return 0;
    }
    random.iter().fold(0, |ids, bits| ids ^ (bits >> 32))
}

/// New ids, none of which is in use.
fn mint(random: [u64; 3], found: &scan::Found, known: &BTreeSet<SpoolId>) -> [SpoolId; 3] {
    let mut used = known.clone();
    used.extend(found.segments.iter().map(|segment| segment.key));
    used.extend(found.free.iter().map(|free| free.header.key));
    random.map(|bits| {
        let ids = (0..).map(|n| SpoolId::from_random(bits.wrapping_add(n)));
        let mut unused = ids.filter(|id| !used.contains(id));
        let id = unused
            .next()
            .expect("a spool holds far fewer than 2^62 ids");
        used.insert(id);
        id
    })
}

/// A cursor that knows other spools knew each one that is here, until nothing of it was left to keep:
/// a file came back whose removal was never made durable, whatever it looks like. So what is missing
/// of it was settled; without this note the next opening would find an entry and call it a loss.
pub(crate) fn settle_forgotten(index: &mut Index, found: &scan::Found, cursor: &CursorState) {
    if cursor.entries.is_empty() {
        return;
    }
    for (spool, there) in there_of(found) {
        if cursor.entries.contains_key(&spool) {
            continue;
        }
        let mut missing = SettledRanges::new();
        for (first, last) in holes(&there, 1, there.high_edge()) {
            missing.insert(first, last);
        }
        index.settle(spool, &missing);
    }
}

/// Acknowledged positions that are nowhere: holes between what is there and what is settled, and
/// a tail that the cursor saw and the segments do not hold.
pub(crate) fn find_losses(index: &mut Index, found: &scan::Found, cursor: &CursorState) {
    let mut spools = there_of(found);
    for spool in cursor.entries.keys() {
        spools.entry(*spool).or_default();
    }
    for (spool, there) in spools {
        let entry = cursor.entries.get(&spool);
        let to = there.high_edge().max(entry.map_or(0, |entry| entry.tail));
        // Without a cursor nobody knows what was settled and recycled before the first segment.
        let first_there = there.as_slice().first().map_or(1, |&(first, _)| first);
        let from = if entry.is_some() { 1 } else { first_there };
        let mut recycled = SettledRanges::new();
        for (first, last) in holes(&there, 1, from - 1) {
            recycled.insert(first, last);
        }
        index.settle(spool, &recycled);
        for (first, last) in holes(&there, from, to) {
            let (Ok(first), Ok(last)) = (SpoolSeq::new(first), SpoolSeq::new(last)) else {
                continue;
            };
            let lost = index.lose(Part { spool, first, last }, 0, &GapReason::Corrupt);
            for gap in lost {
                tracing::error!(%spool, first = %gap.first, last = %gap.last, "acknowledged positions are lost");
            }
        }
    }
}

/// The positions that are there, by spool.
fn there_of(found: &scan::Found) -> BTreeMap<SpoolId, SettledRanges> {
    let mut spools: BTreeMap<SpoolId, SettledRanges> = BTreeMap::new();
    for part in found.segments.iter().flat_map(|segment| &segment.parts) {
        let there = spools.entry(part.spool).or_default();
        there.insert(part.first.get(), part.last.get());
    }
    spools
}

/// Puts the files that may be used into the pool, and removes those that prove nothing.
fn sort_out<F: Fs>(fs: &F, found: &scan::Found, index: &mut Index, pool: &mut Pool) {
    for free in &found.free {
        index.leave(free.slot, [free.header.key]);
        match prove(fs, free.slot, &free.header) {
            Ok(()) => {
                index.gone(free.slot);
                pool.take_in(free.slot, free.file_bytes);
            }
            Err(error) => {
                tracing::warn!(slot = free.slot, %error, "free segment could not be synced; it is not used");
                index.haunt();
                pool.doom(free.slot);
            }
        }
    }
    for &slot in &found.unproven {
        if active(Mutant::TrustHeaderlessFile) {
            pool.give_back(slot);
            continue;
        }
        match pool.remove(fs, slot) {
            Ok(true) => {}
            Ok(false) => index.haunt(),
            Err(error) => {
                tracing::warn!(slot, %error, "unused segment could not be removed");
                pool.doom(slot);
            }
        }
    }
}

/// Writes into a segment's header that it is free, one copy after the other, each synced: what an
/// earlier sync failed to write is not written by a later one, and the file would show an older
/// content one day. Never both at once, so that one whole copy stands at any time.
pub(crate) fn prove<F: Fs>(fs: &F, slot: u64, header: &SegmentHeader) -> io::Result<()> {
    let header = SegmentHeader {
        kind: Kind::Free,
        first: SpoolSeq::FIRST,
        ..*header
    };
    let file = fs.open(&pool::name(slot))?;
    for at in [header::COPY_AT as u64, 0] {
        file.write_all_at(&header.encode_copy(), at)?;
        file.sync()?;
    }
    Ok(())
}
