//! Pure: no I/O, no clock.
//!
//! Which positions are closed: stored in the database, or lost.
//!
//! Invariant: a position once closed stays closed, and each loss is told once.

use contract::{Gap, GapReason, SettledRanges, SpoolId, SpoolSeq};

use super::{Index, Part, Segment};

impl Index {
    /// Notes positions as stored in the database; what never existed is not believed.
    pub(crate) fn settle(&mut self, spool: SpoolId, ranges: &SettledRanges) {
        let Some(entry) = self.entries.get_mut(&spool) else {
            return; // not ours, or long forgotten
        };
        let before = entry.settled.clone();
        for &(first, last) in ranges.as_slice() {
            entry.settled.insert(first, last.min(entry.last));
            entry.closed.insert(first, last.min(entry.last));
        }
        if entry.settled != before {
            let gaps = std::mem::take(&mut entry.gaps);
            entry.gaps = gaps
                .iter()
                .flat_map(|gap| without(gap, &entry.settled))
                .collect();
            self.changed = true;
            self.recount();
        }
    }

    /// Notes positions as accepted by Redis.
    pub(crate) fn accept(&mut self, spool: SpoolId, ranges: &SettledRanges) {
        if let Some(entry) = self.entries.get_mut(&spool) {
            for &(first, last) in ranges.as_slice() {
                entry.accepted.insert(first, last.min(entry.last));
            }
        }
    }

    /// Takes the word of Redis for everything in `segment`.
    pub(crate) fn settle_accepted(&mut self, segment: &Segment) {
        for part in &segment.parts {
            let mut ranges = SettledRanges::new();
            for (first, last) in self.open_within(*part) {
                ranges.insert(first, last);
            }
            self.settle(part.spool, &ranges);
        }
    }

    /// Notes positions as lost, as far as they are neither settled nor lost already; answers
    /// what is new.
    pub(crate) fn lose(&mut self, part: Part, records: u64, reason: &GapReason) -> Vec<Gap> {
        let entry = self.entries.entry(part.spool).or_default();
        entry.last = entry.last.max(part.last.get());
        let holes = holes(&entry.closed, part.first.get(), part.last.get());
        let mut new = Vec::with_capacity(holes.len());
        for (first, last) in holes {
            let (Ok(first), Ok(last)) = (SpoolSeq::new(first), SpoolSeq::new(last)) else {
                continue;
            };
            let gap = Gap {
                first,
                last,
                records: if new.is_empty() { records } else { 0 },
                reason: reason.clone(),
            };
            entry.closed.insert(first.get(), last.get());
            self.counters.envelopes_lost += last.get() - first.get() + 1;
            entry.gaps.push(gap.clone());
            new.push(gap);
        }
        if !new.is_empty() {
            self.changed = true;
            self.recount();
        }
        new
    }

    /// Is every position of `first..=last` neither settled nor lost?
    pub(crate) fn is_open(&self, spool: SpoolId, first: SpoolSeq, last: SpoolSeq) -> bool {
        let whole = (first.get(), last.get());
        self.entries
            .get(&spool)
            .is_none_or(|entry| holes(&entry.closed, whole.0, whole.1) == [whole])
    }

    pub(crate) fn is_settled(&self, spool: SpoolId, first: SpoolSeq, last: SpoolSeq) -> bool {
        self.entries
            .get(&spool)
            .is_some_and(|entry| entry.settled.contains_all(first.get(), last.get()))
    }

    /// The positions of `part` that are neither settled nor lost.
    pub(crate) fn open_within(&self, part: Part) -> Vec<(u64, u64)> {
        let none = SettledRanges::new();
        let closed = self
            .entries
            .get(&part.spool)
            .map_or(&none, |entry| &entry.closed);
        holes(closed, part.first.get(), part.last.get())
    }

    pub(crate) fn is_closed(&self, segment: &Segment) -> bool {
        segment.parts.iter().all(|part| {
            let entry = self.entries.get(&part.spool);
            entry.is_some_and(|e| e.closed.contains_all(part.first.get(), part.last.get()))
        })
    }

    /// Is everything in it closed by the word of the last durable cursor?
    pub(crate) fn is_closed_durably(&self, segment: &Segment) -> bool {
        segment.parts.iter().all(|part| {
            let closed = self.durable.get(&part.spool);
            closed.is_some_and(|c| c.contains_all(part.first.get(), part.last.get()))
        })
    }

    /// Is everything in it closed or at least accepted by Redis?
    pub(crate) fn is_accepted(&self, segment: &Segment) -> bool {
        segment.parts.iter().all(|part| {
            self.entries.get(&part.spool).is_some_and(|entry| {
                holes(&entry.closed, part.first.get(), part.last.get())
                    .iter()
                    .all(|&(first, last)| entry.accepted.contains_all(first, last))
            })
        })
    }
}

/// What is still lost of `gap` when some of it turns out to be settled. How the records were spread
/// over it is not known: the first part keeps them.
fn without(gap: &Gap, settled: &SettledRanges) -> Vec<Gap> {
    let holes = holes(settled, gap.first.get(), gap.last.get());
    let parts = holes.into_iter().enumerate();
    let parts = parts.filter_map(|(at, (first, last))| {
        Some(Gap {
            first: SpoolSeq::new(first).ok()?,
            last: SpoolSeq::new(last).ok()?,
            records: if at == 0 { gap.records } else { 0 },
            reason: gap.reason.clone(),
        })
    });
    parts.collect()
}

/// What `closed` leaves of `first..=last`.
pub(crate) fn holes(closed: &SettledRanges, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut next = first;
    let ranges = closed.as_slice();
    let from = ranges.partition_point(|&(_, end)| end < first);
    for &(start, end) in &ranges[from..] {
        if start > last {
            break;
        }
        if start > next {
            holes.push((next, start - 1));
        }
        next = end.saturating_add(1);
    }
    if next <= last {
        holes.push((next, last));
    }
    holes
}
