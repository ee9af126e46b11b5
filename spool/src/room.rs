//! Where the next segment goes: a file made ahead, a new one, or the oldest that may be recycled.
//!
//! Invariants: a segment is recycled only when everything in it is closed by the word of a cursor
//! that is durable; it leaves the index before its file is touched, so that a reader that races
//! with it steps over it.

use std::io;
use std::sync::Arc;

use crate::SpoolError;
use crate::fs::Fs;
use crate::index::{Index, Segment, State};
use crate::mutant::{Mutant, active};
use crate::pool;
use crate::shared::Shared;
use crate::writer::SpoolWriter;

/// Files made ahead beside the commits: while one is written full, the next is there already.
const FILES_AHEAD: u64 = 2;

/// A file on its way into the pool. Nothing refers to it before it is adopted, so a power cut
/// meanwhile leaves a file without a header, which the next opening takes for what it is.
pub struct Filling<F: Fs> {
    shared: Arc<Shared<F>>,
    slot: u64,
}

/// What became of it.
#[must_use = "until it is adopted no other file is made ahead"]
#[derive(Debug)]
pub struct Filled {
    slot: u64,
    outcome: io::Result<()>,
}

impl<F: Fs> Filling<F> {
    /// Writes it on whatever thread, in pieces. Before each of them, and before the sync, it calls
    /// `turn`, which comes back when the disk has nothing more urgent to do, and says how many bytes
    /// may be written now. Less than a block counts as one.
    pub fn fill(self, turn: impl FnMut() -> u64) -> Filled {
        let bytes = self.shared.geometry().segment_bytes;
        let outcome = pool::fill(&self.shared.fs, &pool::name(self.slot), bytes, turn);
        let slot = self.slot;
        Filled { slot, outcome }
    }
}

impl<F: Fs> SpoolWriter<F> {
    /// Does one piece of housekeeping; for when nothing waits. `Ok(true)`: call again.
    /// # Errors
    /// [`SpoolError::NoSpace`], [`SpoolError::NoSegment`]: nothing is lost by it, try later.
    pub fn upkeep(&mut self) -> Result<bool, SpoolError> {
        if self.failed.is_some() {
            return Ok(false);
        }
        // One that cannot be removed just now holds up nothing else.
        let doomed = self.pool.take_doomed();
        let removed = doomed.map(|slot| self.discard(slot));
        if let Some(Ok(())) = removed {
            return Ok(true);
        }
        if self.shared.index().cursor_overflowed() && self.shrink_cursor()? {
            return Ok(true);
        }
        if self.pool.is_over() {
            return self.shrink_pool();
        }
        if self.pool.has_ahead(1) || !self.pool.may_make() {
            return removed.map_or(Ok(false), |removed| removed.map(|()| false));
        }
        let slot = self.make()?;
        self.pool.give_back(slot);
        Ok(true)
    }

    /// A slot to write a new segment into.
    pub(crate) fn take_slot(&mut self) -> Result<u64, SpoolError> {
        if let Some(slot) = self.pool.take_free() {
            return Ok(slot);
        }
        let mut refused = None;
        if self.pool.may_make() {
            match self.make() {
                Ok(slot) => return Ok(slot),
                Err(error) => refused = Some(error),
            }
        }
        match self.recycle() {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {}
            // A file that nobody needs may still make room.
            Err(error) => refused = Some(error),
        }
        self.give_up_held();
        // A file that must not be written again may make room for one that may.
        while let Some(slot) = self.pool.take_doomed() {
            self.discard(slot)?;
            if self.pool.may_make() {
                return self.make();
            }
        }
        Err(refused.unwrap_or_else(|| self.full()))
    }

    /// Lets go of the files whose copies are durable, or settled.
    pub(crate) fn give_up_held(&mut self) {
        let mut index = self.shared.index();
        let pool = &mut self.pool;
        self.held.retain(|&(key, slot)| {
            let is_held = index.is_held(key);
            if !is_held {
                index.leave(slot, [key]);
                // Its header may be in memory alone, and what stood there before it unknown.
                index.haunt();
                pool.doom(slot);
            }
            is_held
        });
    }

    pub(crate) fn full(&self) -> SpoolError {
        let used = self.shared.index().open_segments() * self.shared.geometry().segment_bytes;
        SpoolError::Full {
            used_bytes: used,
            bytes_max: self.shared.options.bytes_max,
        }
    }

    fn make(&mut self) -> Result<u64, SpoolError> {
        let made = self.pool.make(&self.shared.fs);
        self.account(made)
    }

    /// A file to be made ahead beside the commits, if one is wanted; [`SpoolWriter::upkeep`] then
    /// makes none. What became of it has to be told: [`SpoolWriter::adopt`].
    pub fn begin_filling(&mut self) -> Option<Filling<F>> {
        let is_wanted = self.failed.is_none() && !self.pool.has_ahead(FILES_AHEAD);
        (is_wanted && !self.pool.is_over() && self.pool.may_make()).then(|| Filling {
            shared: Arc::clone(&self.shared),
            slot: self.pool.begin(),
        })
    }

    /// Takes in what was filled.
    /// # Errors
    /// As [`SpoolWriter::upkeep`], also for what failed while it was filled.
    pub fn adopt(&mut self, filled: Filled) -> Result<(), SpoolError> {
        let made = self
            .pool
            .adopt(&self.shared.fs, filled.slot, filled.outcome);
        let slot = self.account(made)?;
        self.pool.give_back(slot);
        Ok(())
    }

    fn account(
        &mut self,
        made: Result<(u64, u64), (String, io::Error)>,
    ) -> Result<u64, SpoolError> {
        let mut index = self.shared.index();
        index.counters.file_bytes = self.pool.files() * self.shared.geometry().segment_bytes;
        let (slot, written) =
            made.map_err(|(file, source)| SpoolError::no_segment(file, source))?;
        index.counters.upkeep_bytes += written;
        index.counters.syncs += 2;
        Ok(slot)
    }

    /// The file of the oldest segment in which everything is closed; `None` when there is none.
    fn recycle(&mut self) -> Result<Option<u64>, SpoolError> {
        loop {
            let Some(segment) = self.claim_closed()? else {
                return Ok(None);
            };
            let wrong_size = segment.file_bytes != self.shared.geometry().segment_bytes;
            if segment.state != State::Poisoned && !wrong_size && !self.pool.is_over() {
                return Ok(Some(segment.slot));
            }
            self.discard(segment.slot)?;
            if self.pool.may_make() {
                return self.make().map(Some);
            }
        }
    }

    /// Takes the oldest segment that a durable cursor allows to take out of the index.
    fn claim_closed(&self) -> Result<Option<Segment>, SpoolError> {
        if let Some(segment) = claim(&mut self.shared.index(), Index::is_closed_durably) {
            return Ok(Some(segment));
        }
        if active(Mutant::RecycleBeforeCursor) {
            return Ok(claim(&mut self.shared.index(), Index::is_closed));
        }
        let worth_it = oldest(&self.shared.index(), Index::is_closed).is_some();
        if worth_it {
            self.shared.write_cursor(true)?;
            return Ok(claim(&mut self.shared.index(), Index::is_closed_durably));
        }
        if active(Mutant::HeaderSupersedesData) {
            return Ok(claim(&mut self.shared.index(), |index, segment| {
                let first = segment.parts.first().map(|part| (part.spool, part.first));
                first.is_none_or(|(spool, first)| index.is_settled(spool, first, first))
            }));
        }
        Ok(None)
    }

    /// Removes files that the cap has no room for, as far as nothing of value is in them.
    pub(crate) fn keep_to_cap(&mut self) {
        while self.pool.is_over() {
            match self.shrink_pool() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "spool is larger than its cap");
                    return;
                }
            }
        }
    }

    fn shrink_pool(&mut self) -> Result<bool, SpoolError> {
        let spare = self.pool.take_doomed().or_else(|| self.pool.take_free());
        let slot = match spare {
            Some(slot) => Some(slot),
            None => self.claim_closed()?.map(|segment| segment.slot),
        };
        let files = self.pool.files();
        if let Some(slot) = slot {
            self.discard(slot)?;
        }
        Ok(self.pool.files() < files)
    }

    /// Removes a file that holds nothing of value.
    fn discard(&mut self, slot: u64) -> Result<(), SpoolError> {
        let removed = self.pool.remove(&self.shared.fs, slot);
        let mut index = self.shared.index();
        index.counters.file_bytes = self.pool.files() * self.shared.geometry().segment_bytes;
        match removed {
            Ok(true) => {
                index.gone(slot);
                Ok(())
            }
            Ok(false) => {
                index.haunt();
                Ok(())
            }
            Err(source) => {
                index.haunt();
                drop(index);
                self.pool.doom(slot);
                Err(SpoolError::no_segment(pool::name(slot), source))
            }
        }
    }

    /// Removes the segments of the spools that are wholly closed, so that the cursor may forget
    /// them; false when there are none.
    pub(crate) fn shrink_cursor(&mut self) -> Result<bool, SpoolError> {
        self.shared.index().note_cursor_overflow(false);
        let mut removed = false;
        loop {
            let claimed = claim(&mut self.shared.index(), Index::is_closed_durably);
            let Some(segment) = claimed else { break };
            self.discard(segment.slot)?;
            removed = true;
        }
        if removed {
            self.shared.write_cursor(true)?;
        }
        Ok(removed)
    }
}

type Judge = fn(&Index, &Segment) -> bool;

fn oldest(index: &Index, may_go: Judge) -> Option<&Segment> {
    let idle = index.segments().filter(|s| s.state != State::Active);
    let idle = idle.filter(|s| !index.is_held(s.key));
    idle.filter(|s| may_go(index, s)).min_by_key(|s| s.id)
}

fn claim(index: &mut Index, may_go: Judge) -> Option<Segment> {
    let found = oldest(index, may_go).map(|s| (s.lane, s.order));
    found.and_then(|(lane, order)| index.forget(lane, order))
}
