//! Pure: no I/O, no clock.
//!
//! What compaction asks: which segment is next, what of it is wanted, where its content went.
//!
//! Invariant: what is left out of a group is only what a durable cursor knows to be closed.

use std::collections::BTreeSet;

use contract::{Lane, SettledRanges};

use super::{Index, Part, Segment, State, holes};
use crate::format::Kind;
use crate::mutant::{Mutant, active};

impl Index {
    /// The oldest sealed log segment that holds something open, of the lanes in which more than
    /// `newest_spared` of them wait. None at all once something failed.
    ///
    /// Of each earlier opening's log only the first segment there is: an opening takes the last
    /// one it finds for the end of that log and believes what it can read in it. Were a later one
    /// gone before it, a group that failed at its end, and that the cache still shows, would count
    /// again. For the same reason nothing else that the key wrote may be found again.
    pub(crate) fn compactable(
        &self,
        newest_spared: u64,
        left_alone: &BTreeSet<u64>,
    ) -> Option<Segment> {
        let is_safe = !self.haunted && self.counters.segments_poisoned == 0;
        if !is_safe && !active(Mutant::CompactAnything) {
            return None;
        }
        let waits =
            |s: &&Segment| s.kind == Kind::Log && s.state == State::Sealed && !self.is_closed(s);
        let may_go = |s: &&Segment| {
            let mut logs = self.segments.values().filter(|o| o.kind == Kind::Log);
            !left_alone.contains(&s.id)
                && (self.own.contains(&s.key)
                    || active(Mutant::CompactAnything)
                    || logs.all(|o| o.key != s.key || (o.place, o.id) >= (s.place, s.id)))
                && !self.leaving.values().any(|keys| keys.contains(&s.key))
                && !self.held.contains_key(&s.key)
        };
        let spared = usize::try_from(newest_spared).unwrap_or(usize::MAX);
        let of_lane = |lane| {
            let of_lane = self.segments.range((lane, 0)..=(lane, u64::MAX));
            let waiting: Vec<_> = of_lane.map(|(_, s)| s).filter(waits).collect();
            let few = waiting.len().saturating_sub(spared);
            let mut old = waiting.into_iter().take(few);
            old.find(may_go)
        };
        let oldest = Lane::ALL
            .into_iter()
            .filter_map(of_lane)
            .min_by_key(|s| s.id);
        oldest.cloned()
    }

    /// What of a segment a durable cursor does not know to be settled or lost.
    pub(crate) fn wanted(&self, segment: &Segment) -> Vec<Part> {
        let none = SettledRanges::new();
        let of_part = |part: &Part| {
            let closed = self.durable.get(&part.spool).unwrap_or(&none);
            part.cut(holes(closed, part.first.get(), part.last.get()))
        };
        segment.parts.iter().flat_map(of_part).collect()
    }

    /// Notes that a group that does not count may stand in a segment.
    pub(crate) fn shadow(&mut self, (lane, order): (Lane, u64), parts: &[Part]) {
        if let Some(segment) = self.segments.get_mut(&(lane, order)) {
            segment.shadows.extend(parts.iter().map(|part| part.spool));
        }
    }

    /// Notes what was compacted into a segment behind what it holds.
    pub(crate) fn extend(&mut self, (lane, order): (Lane, u64), parts: Vec<Part>, end: u64) {
        if let Some(segment) = self.segments.get_mut(&(lane, order)) {
            segment.parts.extend(parts);
            segment.durable_bytes = end;
            segment.judged = false;
        }
        self.recount();
    }
}
