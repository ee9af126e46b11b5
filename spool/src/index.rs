//! Pure: no I/O, no clock.
//!
//! What the spool knows about its segments without reading them: which positions they hold, how
//! far they are durable, what is settled, what is lost.
//!
//! Invariants: a segment is named by its lane and its place in that lane's order; `durable_bytes`
//! never reaches past the last synced commit; what may be recycled is judged by the last cursor
//! that is known to be durable, never by what is only in memory.

mod closed;
mod compacting;
mod word;

use std::collections::{BTreeMap, BTreeSet};

use contract::{Gap, Lane, SettledRanges, SpoolId, SpoolSeq};

pub(crate) use closed::holes;

use crate::cursor::CursorState;
use crate::format::Kind;
use crate::{LaneUsage, Usage};

/// Spools with nothing here that the cursor remembers at most, see [`Index::haunted`].
const GHOSTS_MAX: usize = 64;

/// Segments of one place in the order of a lane are told apart by so many low bits.
const TIE_BITS: u32 = 8;

/// Where readers find the first segment of a place.
pub(crate) fn order_of(place: u64) -> u64 {
    place.min(u64::MAX >> TIE_BITS) << TIE_BITS
}

/// Positions of one spool that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) spool: SpoolId,
    pub(crate) first: SpoolSeq,
    pub(crate) last: SpoolSeq,
}

impl Part {
    /// These positions of its spool; what is no position is left out.
    pub(crate) fn cut(&self, ranges: Vec<(u64, u64)>) -> impl Iterator<Item = Self> + use<> {
        let spool = self.spool;
        ranges.into_iter().filter_map(move |(first, last)| {
            Some(Self {
                spool,
                first: SpoolSeq::new(first).ok()?,
                last: SpoolSeq::new(last).ok()?,
            })
        })
    }
}

/// What may still happen to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being written.
    Active,
    /// It is full or of an earlier opening.
    Sealed,
    /// A write to it failed: never to be written again while this process lives.
    Poisoned,
}

/// One segment that holds something, or is about to.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// Where readers find it, see [`order_of`].
    pub(crate) order: u64,
    /// What its header says of its order, which a repeated commit shares with the segment it stood
    /// in.
    pub(crate) place: u64,
    pub(crate) kind: Kind,
    pub(crate) lane: Lane,
    /// The opening and lane that wrote it.
    pub(crate) key: SpoolId,
    /// Its file.
    pub(crate) slot: u64,
    pub(crate) state: State,
    /// Durable positions; one part at most in a log segment without damage.
    pub(crate) parts: Vec<Part>,
    /// No commit ends behind this byte.
    pub(crate) durable_bytes: u64,
    pub(crate) file_bytes: u64,
    /// Its damaged places are gaps already.
    pub(crate) judged: bool,
    /// Spools of which positions stand in the file that do not count here: the cursor must not
    /// forget them while the file may be found again.
    pub(crate) shadows: Vec<SpoolId>,
}

impl Segment {
    pub(crate) fn holds(&self, spool: SpoolId, seq: SpoolSeq) -> bool {
        let holds = |part: &Part| part.spool == spool && part.first <= seq && seq <= part.last;
        self.parts.iter().any(holds)
    }

    pub(crate) fn last(&self) -> Option<SpoolSeq> {
        self.parts.last().map(|part| part.last)
    }
}

/// What is known about one spool.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Stored in the database.
    settled: SettledRanges,
    /// Accepted by Redis; only kept for the policy that trusts it.
    accepted: SettledRanges,
    /// Lost, and not settled yet.
    gaps: Vec<Gap>,
    /// `settled` and `gaps` together: nothing of it will be sent.
    closed: SettledRanges,
    /// Last position committed and synced by its own opening, as far as known.
    tail: u64,
    /// Nothing above was ever here.
    last: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    segments: BTreeMap<(Lane, u64), Segment>,
    entries: BTreeMap<SpoolId, Entry>,
    /// The spools of this opening; never forgotten.
    own: Vec<SpoolId>,
    /// What is closed by the word of the last durable cursor.
    durable: BTreeMap<SpoolId, SettledRanges>,
    /// Spools whose last segment is being overwritten: until that is synced, a power cut may
    /// bring parts of it back, and they must not be taken for a loss.
    leaving: BTreeMap<u64, BTreeSet<SpoolId>>,
    /// Some file may show an earlier content after a power cut, so spools with nothing here stay
    /// in the cursor (at most [`GHOSTS_MAX`] of them).
    haunted: bool,
    /// Openings whose last commit may be in memory alone: nothing of them is recycled, it may be
    /// what that commit is a copy of.
    held: BTreeMap<SpoolId, Part>,
    /// The same, until opening has made sure of every file.
    opening: bool,
    changed: bool,
    cursor_overflowed: bool,
    open_segments: u64,
    held_segments: u64,
    pub(crate) counters: Usage,
}

impl Index {
    /// With the spools of this opening, and what the cursor said.
    pub(crate) fn new(own: [SpoolId; 3], cursor: CursorState) -> Self {
        let mut index = Self {
            own: own.to_vec(),
            ..Self::default()
        };
        index.set_durable(&cursor);
        for (spool, entry) in cursor.entries {
            let closed = entry.closed();
            index.entries.insert(
                spool,
                Entry {
                    last: entry.tail.max(closed.high_edge()),
                    settled: entry.settled,
                    accepted: SettledRanges::new(),
                    gaps: entry.gaps,
                    closed,
                    tail: entry.tail,
                },
            );
        }
        for spool in own {
            index.entries.entry(spool).or_default();
        }
        index
    }

    /// Of a spool that somebody else may be writing.
    pub(crate) fn of_others(cursor: CursorState) -> Self {
        let own = [1, 2, 3].map(SpoolId::from_random);
        let mut index = Self::new(own, cursor);
        index.own.clear();
        index
    }

    pub(crate) fn add(&mut self, segment: Segment) {
        for part in &segment.parts {
            let entry = self.entries.entry(part.spool).or_default();
            entry.last = entry.last.max(part.last.get());
        }
        let at = (segment.lane, segment.order);
        self.segments.insert(at, segment);
        self.recount();
    }

    /// Adds a segment of an earlier opening and answers its order; when several claim the same place,
    /// the one that was added first comes first.
    pub(crate) fn add_recovered(&mut self, mut segment: Segment) -> u64 {
        segment.order = order_of(segment.place);
        while self.segments.contains_key(&(segment.lane, segment.order)) {
            segment.order += 1;
        }
        let order = segment.order;
        self.add(segment);
        order
    }

    /// Notes a synced commit at the end of an active segment.
    pub(crate) fn committed(&mut self, (lane, order): (Lane, u64), part: Part, durable_bytes: u64) {
        let segment = self.segments.get_mut(&(lane, order));
        let segment = segment.expect("the writer only commits to a segment it has added");
        segment.durable_bytes = durable_bytes;
        match segment.parts.last_mut() {
            Some(last) => last.last = part.last,
            None => segment.parts.push(part),
        }
        let entry = self.entries.entry(part.spool).or_default();
        entry.tail = part.last.get();
        entry.last = entry.last.max(entry.tail);
    }

    /// Notes that an earlier opening's positions up to `last` are durable by our own sync.
    pub(crate) fn set_tail(&mut self, spool: SpoolId, last: SpoolSeq) {
        let entry = self.entries.entry(spool).or_default();
        entry.tail = entry.tail.max(last.get());
    }

    pub(crate) fn set_state(&mut self, lane: Lane, order: u64, state: State) {
        if let Some(segment) = self.segments.get_mut(&(lane, order)) {
            segment.state = state;
        }
        self.recount();
    }

    /// Takes the positions from `from` on out of a segment, with the bytes from `offset` on;
    /// forgets it and answers true when nothing is left.
    pub(crate) fn shorten(&mut self, segment: &Segment, from: SpoolSeq, offset: u64) -> bool {
        let at = (segment.lane, segment.order);
        let Some(found) = self.segments.get_mut(&at) else {
            return false;
        };
        found.durable_bytes = offset;
        found.parts.retain(|part| part.first < from);
        if let (Some(last), Ok(before)) = (found.parts.last_mut(), SpoolSeq::new(from.get() - 1)) {
            last.last = last.last.min(before);
        }
        let is_empty = found.parts.is_empty();
        if is_empty {
            self.segments.remove(&at);
            self.leave(segment.slot, [segment.key]);
        }
        self.recount();
        is_empty
    }

    /// Forgets a segment whose file is about to be overwritten or removed.
    pub(crate) fn forget(&mut self, lane: Lane, order: u64) -> Option<Segment> {
        let segment = self.segments.remove(&(lane, order))?;
        let spools = segment.parts.iter().map(|part| part.spool);
        let shadows = segment.shadows.iter().copied();
        self.leave(segment.slot, spools.chain(shadows).chain([segment.key]));
        self.recount();
        Some(segment)
    }

    /// The file of `slot` may show what these spools wrote until it is overwritten.
    pub(crate) fn leave(&mut self, slot: u64, spools: impl IntoIterator<Item = SpoolId>) {
        self.leaving.entry(slot).or_default().extend(spools);
    }

    /// What was in `slot` cannot come back any more: it is overwritten durably, or gone.
    pub(crate) fn gone(&mut self, slot: u64) {
        self.leaving.remove(&slot);
    }

    /// What was forgotten may come back at any power cut, for as long as this process lives.
    pub(crate) fn haunt(&mut self) {
        self.haunted = true;
    }

    pub(crate) fn set_opening(&mut self, opening: bool) {
        self.opening = opening;
    }

    /// Nothing that this key wrote may be recycled while its last commit is open.
    pub(crate) fn hold(&mut self, last: Part) {
        self.held.insert(last.spool, last);
    }

    /// It may again: its last commit is durable.
    pub(crate) fn release(&mut self, key: SpoolId) {
        self.held.remove(&key);
    }

    pub(crate) fn is_held(&self, key: SpoolId) -> bool {
        self.held.get(&key).is_some_and(|part| {
            let closed = self.durable.get(&key);
            closed.is_none_or(|c| !c.contains_all(part.first.get(), part.last.get()))
        })
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values()
    }

    /// The segment of `lane` at this place in its order, or the next one there is.
    pub(crate) fn segment_from(&self, lane: Lane, order: u64) -> Option<&Segment> {
        let mut from = self.segments.range((lane, order)..=(lane, u64::MAX));
        from.next().map(|(_, segment)| segment)
    }

    pub(crate) fn last_segment(&self, lane: Lane) -> Option<&Segment> {
        let mut of_lane = self.segments.range((lane, 0)..=(lane, u64::MAX));
        of_lane.next_back().map(|(_, segment)| segment)
    }

    /// Is this segment here?
    pub(crate) fn is_there(&self, lane: Lane, order: u64, id: u64) -> bool {
        self.segments
            .get(&(lane, order))
            .is_some_and(|s| s.id == id)
    }

    /// Is there nothing between these two places in the order of a lane?
    pub(crate) fn are_neighbours(&self, lane: Lane, before: u64, after: u64) -> bool {
        let between = before.saturating_add(1)..after;
        between.start <= after && {
            let mut between = self
                .segments
                .range((lane, between.start)..(lane, between.end));
            between.next().is_none()
        }
    }

    /// Is this segment still what it was?
    pub(crate) fn holds(&self, segment: &Segment) -> bool {
        let found = self.segments.get(&(segment.lane, segment.order));
        found.is_some_and(|found| found.id == segment.id)
    }

    /// Notes that damage in this segment is in the gaps; false when it was noted before.
    pub(crate) fn judge(&mut self, segment: &Segment) -> bool {
        let found = self.segments.get_mut(&(segment.lane, segment.order));
        found.is_some_and(|found| {
            found.id == segment.id && !std::mem::replace(&mut found.judged, true)
        })
    }

    pub(crate) fn low(&self, spool: SpoolId) -> SpoolSeq {
        let Some(entry) = self.entries.get(&spool) else {
            return SpoolSeq::FIRST;
        };
        let parts = self.segments.values().flat_map(|s| &s.parts);
        let of_spool = parts.filter(|part| part.spool == spool);
        let kept = of_spool.map(|part| part.first.get());
        let lost = entry.gaps.iter().map(|gap| gap.first.get());
        let kept_from = kept.chain(lost).min().unwrap_or(entry.last + 1);
        SpoolSeq::new(kept_from.max(entry.settled.low_edge() + 1)).unwrap_or(SpoolSeq::FIRST)
    }

    /// Spools with data or gaps here.
    pub(crate) fn spools(&self) -> Vec<SpoolId> {
        let mut spools = self.spools_here();
        spools.extend(
            self.entries
                .iter()
                .filter(|(_, e)| !e.gaps.is_empty())
                .map(|(s, _)| *s),
        );
        spools.into_iter().collect()
    }

    pub(crate) fn gaps(&self) -> Vec<(SpoolId, Gap)> {
        let each = self.entries.iter();
        each.flat_map(|(spool, entry)| entry.gaps.iter().map(|gap| (*spool, gap.clone())))
            .collect()
    }

    fn spools_here(&self) -> BTreeSet<SpoolId> {
        let parts = self.segments.values().flat_map(|s| &s.parts);
        let shadows = self.segments.values().flat_map(|s| &s.shadows);
        parts
            .map(|part| part.spool)
            .chain(shadows.copied())
            .collect()
    }

    /// Segments that hold something open or are being written.
    pub(crate) fn open_segments(&self) -> u64 {
        self.open_segments
    }

    /// Segments that would hold something open, or be written, if the power went now.
    pub(crate) fn held_segments(&self) -> u64 {
        self.held_segments
    }

    fn recount(&mut self) {
        let open = self.segments.values().filter(|s| self.counts(s)).count();
        self.open_segments = open as u64;
        let is_held = |s: &&Segment| s.state == State::Active || !self.is_closed_durably(s);
        self.held_segments = self.segments.values().filter(is_held).count() as u64;
    }

    fn counts(&self, segment: &Segment) -> bool {
        segment.state == State::Active || !self.is_closed(segment)
    }

    /// Counters and a fresh count of what waits.
    pub(crate) fn usage(&self) -> Usage {
        let mut lanes = [LaneUsage::default(); 3];
        for segment in self.segments.values().filter(|s| self.counts(s)) {
            let at = Lane::ALL.iter().position(|&lane| lane == segment.lane);
            let lane = &mut lanes[at.unwrap_or(1)];
            lane.segments += 1;
            for part in &segment.parts {
                let open = self.open_within(*part);
                lane.backlog += open
                    .iter()
                    .map(|(first, last)| last - first + 1)
                    .sum::<u64>();
            }
        }
        Usage {
            lanes,
            ..self.counters
        }
    }
}
