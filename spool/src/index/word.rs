//! Pure: no I/O, no clock.
//!
//! The word of the cursor: what the next slot says, and what the last durable one said.
//!
//! Invariant: a spool is forgotten only when no file can show anything of it any more.

use std::collections::BTreeSet;

use contract::SpoolId;

use super::{GHOSTS_MAX, Index};
use crate::cursor::{CursorEntry, CursorState};

impl Index {
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn set_changed(&mut self, changed: bool) {
        self.changed = changed;
    }

    /// The cursor holds more than its file takes: spools must be forgotten.
    pub(crate) fn note_cursor_overflow(&mut self, overflowed: bool) {
        self.cursor_overflowed = overflowed;
    }

    pub(crate) fn cursor_overflowed(&self) -> bool {
        self.cursor_overflowed
    }

    /// What the next cursor slot says; forgets spools that have nothing here any more.
    pub(crate) fn cursor_state(&mut self) -> CursorState {
        let here = self.spools_here();
        let leaving: BTreeSet<SpoolId> = self.leaving.values().flatten().copied().collect();
        let mut ghosts = 0;
        self.entries.retain(|spool, entry| {
            let here = here.contains(spool)
                || self.own.contains(spool)
                || leaving.contains(spool)
                || !entry.gaps.is_empty();
            ghosts += usize::from(!here);
            here || ((self.haunted || self.opening) && ghosts <= GHOSTS_MAX)
        });
        let entries = self.entries.iter().map(|(spool, entry)| {
            let entry = CursorEntry {
                tail: entry.tail,
                settled: entry.settled.clone(),
                gaps: entry.gaps.clone(),
            };
            (*spool, entry)
        });
        CursorState {
            entries: entries.collect(),
        }
    }

    /// Notes what is closed by the word of a cursor that was just synced.
    pub(crate) fn set_durable(&mut self, state: &CursorState) {
        let closed = state.entries.iter();
        self.durable = closed.map(|(spool, e)| (*spool, e.closed())).collect();
        self.recount();
    }
}
