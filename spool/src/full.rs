//! What a full spool does: refuse, trust Redis, or drop the oldest.
//!
//! Invariant: whatever is given up is in a durable cursor, as settled or as a gap, before its
//! segment may be recycled; so no later opening takes it for a loss it does not know.

use contract::{GapReason, Lane};

use crate::format::envelope::{Envelopes, Read};
use crate::fs::Fs;
use crate::index::{Index, Part, Segment, State};
use crate::walk::{Step, WINDOW_BYTES_MAX, walk};
use crate::writer::SpoolWriter;
use crate::{FullPolicy, SpoolError, pool, shared};

/// Of this many parts of the cap, the last one is kept for the high lane.
const RESERVED_PART: u64 = 10;

/// Segments that stay free: the next opening repeats the last commit of each lane in one of its
/// own, the opening after it may have to do the same again, and a group whose segment fails goes
/// to another one.
pub(crate) const RESERVED_SEGMENTS: u64 = 4;

impl<F: Fs> SpoolWriter<F> {
    /// May this lane write, and begin a segment when it must?
    pub(crate) fn admit(&mut self, lane: Lane, must_roll: bool) -> Result<(), SpoolError> {
        let segment_bytes = self.shared.geometry().segment_bytes;
        let bytes_max = self.shared.options.bytes_max;
        let high = bytes_max - RESERVED_SEGMENTS * segment_bytes;
        let limit = match lane {
            Lane::High => high,
            Lane::Normal | Lane::Bulk => {
                (bytes_max - bytes_max / RESERVED_PART).min(high - segment_bytes)
            }
        };
        loop {
            let (held, open) = {
                let index = self.shared.index();
                // A segment that is left behind with nothing open in it does not count any more.
                let left = index.last_segment(lane);
                let left = left.is_some_and(|s| s.state == State::Active && index.is_closed(s));
                let more = u64::from(must_roll && !left);
                (index.held_segments() + more, index.open_segments() + more)
            };
            if held * segment_bytes <= limit {
                return Ok(());
            }
            if open < held && self.shared.write_cursor(true)? {
                let held_now = self.shared.index().held_segments();
                if held_now < held {
                    continue;
                }
            }
            let made_room = match self.shared.options.full {
                FullPolicy::Refuse => false,
                FullPolicy::TrustRedis => self.trust_redis()?,
                FullPolicy::DropOldest => self.drop_oldest(lane)?,
            };
            if !made_room {
                return Err(self.full());
            }
        }
    }

    /// Notes the oldest segment that Redis accepted whole as settled.
    fn trust_redis(&mut self) -> Result<bool, SpoolError> {
        {
            let mut index = self.shared.index();
            let accepted = |s: &&Segment| !index.is_closed(s) && index.is_accepted(s);
            let sealed = index.segments().filter(|s| s.state != State::Active);
            let Some(segment) = sealed.filter(accepted).min_by_key(|s| s.id).cloned() else {
                return Ok(false);
            };
            tracing::warn!(
                file = pool::name(segment.slot),
                "spool is full: trusting Redis with a segment that is in no database yet"
            );
            index.settle_accepted(&segment);
        }
        self.shared.write_cursor(true)?;
        Ok(true)
    }

    /// Gives up the oldest segment of the least urgent lane that is not more urgent than `lane`.
    fn drop_oldest(&mut self, lane: Lane) -> Result<bool, SpoolError> {
        let Some(segment) = self.droppable(lane) else {
            return Ok(false);
        };
        let open = open_parts(&self.shared.index(), &segment);
        let records = self.count_records(&segment, &open);
        {
            let mut index = self.shared.index();
            for (part, records) in open.iter().zip(records) {
                tracing::error!(spool = %part.spool, first = %part.first, last = %part.last, records, "spool is full: acknowledged records are dropped");
                index.lose(*part, records, &GapReason::Dropped);
            }
        }
        self.shared.write_cursor(true)?;
        Ok(true)
    }

    fn droppable(&self, lane: Lane) -> Option<Segment> {
        let index = self.shared.index();
        let lanes = Lane::ALL.into_iter().rev().filter(|l| *l >= lane);
        let oldest = |lane| {
            let of_lane = index.segments().filter(move |s| s.lane == lane);
            let sealed = of_lane.filter(|s| s.state != State::Active && !index.is_closed(s));
            sealed.min_by_key(|s| s.order)
        };
        lanes.filter_map(oldest).next().cloned()
    }

    /// AVL records in each part; 0 where the segment cannot be read.
    fn count_records(&self, segment: &Segment, open: &[Part]) -> Vec<u64> {
        let mut records = vec![0; open.len()];
        let geometry = self.shared.geometry();
        let (mut unpacked, envelope_max) = (Vec::new(), geometry.envelope_bytes_max);
        let count = |_: u64, commit: &crate::format::Commit<'_>| {
            let raw = commit.raw(&mut unpacked, envelope_max).unwrap_or_default();
            for Read { envelope, .. } in Envelopes::new(raw, commit.first) {
                let holds = |p: &Part| {
                    p.spool == commit.spool && p.first <= envelope.seq && envelope.seq <= p.last
                };
                if let Some(at) = open.iter().position(holds) {
                    records[at] += u64::from(envelope.record_count);
                }
            }
            Step::On
        };
        let range = (crate::format::HEADER_BYTES as u64, segment.durable_bytes);
        let identity = shared::identity(geometry, segment);
        if let Ok(file) = self.shared.fs.open(&pool::name(segment.slot)) {
            // What cannot be read counts 0, as in any gap that damage hides.
            let _ = walk(&file, &identity, range, WINDOW_BYTES_MAX, count);
        }
        records
    }
}

fn open_parts(index: &Index, segment: &Segment) -> Vec<Part> {
    let open = |part: &Part| part.cut(index.open_within(*part));
    segment.parts.iter().flat_map(open).collect()
}
