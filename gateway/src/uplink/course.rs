//! Pure: no I/O, no clock.
//!
//! Six ways up: a live and a backlog one in each lane, and which of them sends next.
//!
//! Why two in a lane: after days without a link the records of this minute must not wait behind
//! those of last week. Live begins where the lane ended when the link came up; the backlog is
//! everything before.
//!
//! Invariants: the high lane goes before everything else; among the others whoever has something
//! to send gets at least its share, so that none starves; the place of a course only moves over
//! what was handed to its batcher.

use std::time::{Duration, Instant};

use contract::Lane;

use super::batch::Batch;
use super::sharded::Sharded;
use crate::spool::{Chunk, Position};

/// Before or after the link came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What arrives now.
    Live,
    /// What waited.
    Backlog,
}

/// One way up.
#[derive(Debug)]
pub struct Course {
    /// Whose log.
    pub lane: Lane,
    /// Which part of it.
    pub part: Part,
    /// Where to read on.
    pub next: Position,
    /// Where it ends; `None`: never.
    pub until: Option<Position>,
    /// What was read and not yet taken.
    pub batcher: Sharded,
    /// The last read found nothing behind it.
    pub at_end: bool,
    /// Batches taken, weighted: who has taken least is next.
    taken: u64,
}

impl Course {
    /// Batches of this course for each one of another, when both have some. 0 is the high lane,
    /// which does not share.
    const fn share(&self) -> u64 {
        match (self.lane, self.part) {
            (Lane::High, _) => 0,
            (Lane::Normal, Part::Live) => 12,
            (Lane::Normal, Part::Backlog) => 4,
            (Lane::Bulk, _) => 1,
        }
    }

    /// Takes in what was read from `next` on.
    pub fn push(&mut self, chunk: Chunk, now: Instant) {
        self.next = chunk.next;
        self.at_end = chunk.at_end;
        for stored in chunk.stored {
            self.batcher.push(stored, now);
        }
    }
}

/// All ways up, the most urgent first. The default is none at all.
#[derive(Debug, Default)]
pub struct Courses(Vec<Course>);

impl Courses {
    /// Courses that begin with everything unsettled; `live_from` tells where a lane ends now.
    pub fn new(flush: Duration, shards: u32, live_from: impl Fn(Lane) -> Position) -> Self {
        let course = |lane, part, next, until| Course {
            lane,
            part,
            next,
            until,
            batcher: Sharded::new(flush, shards),
            at_end: false,
            taken: 0,
        };
        let of_lane = |lane| {
            let from = live_from(lane);
            [
                course(lane, Part::Live, from, None),
                course(lane, Part::Backlog, Position::default(), Some(from)),
            ]
        };
        Self(Lane::ALL.into_iter().flat_map(of_lane).collect())
    }

    /// Each of them, the most urgent first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Course> {
        self.0.iter_mut()
    }

    /// Everything there is has been taken.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.0
            .iter()
            .all(|course| course.at_end && course.batcher.waiting_bytes() == 0)
    }

    /// Has every course read all there is?
    #[must_use]
    pub fn are_read(&self) -> bool {
        self.0.iter().all(|course| course.at_end)
    }

    /// When the envelope that has waited longest need not wait any more.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = self.0.iter().filter_map(|c| c.batcher.deadline());
        deadlines.min()
    }

    /// The next batch that need not wait (any, when `now` is `None`): of the high lane first, then,
    /// unless `high_only`, of the course that has had the least of its share.
    pub fn take(&mut self, now: Option<Instant>, high_only: bool) -> Option<Batch> {
        let high = self.0.iter_mut().filter(|course| course.share() == 0);
        for course in high {
            if let Some(batch) = course.batcher.take(now) {
                return Some(batch);
            }
        }
        if high_only {
            return None;
        }
        let mut order: Vec<usize> = (0..self.0.len())
            .filter(|&at| self.0[at].share() > 0 && self.0[at].batcher.waiting_bytes() > 0)
            .collect();
        order.sort_by_key(|&at| self.0[at].taken);
        let least = order.first().map_or(0, |&at| self.0[at].taken);
        for at in order {
            let course = &mut self.0[at];
            if let Some(batch) = course.batcher.take(now) {
                course.taken += 12 / course.share();
                // Who had nothing to send does not save up for later.
                for other in &mut self.0 {
                    other.taken = other.taken.max(least);
                }
                return Some(batch);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::batch::tests::stored;
    use super::*;

    /// Spool id of the first course; the others count on.
    const SPOOL: u64 = 10;

    fn courses() -> Courses {
        Courses::new(Duration::ZERO, 1, |_| Position::default())
    }

    /// Puts `count` full batches on a course; their spool id tells where they came from.
    fn load(courses: &mut Courses, lane: Lane, part: Part, count: u64, now: Instant) {
        let at = courses
            .0
            .iter()
            .position(|c| c.lane == lane && c.part == part);
        let at = at.unwrap();
        for seq in 1..=count {
            let envelope = stored(
                at as u64 + SPOOL,
                seq,
                super::super::batch::BATCH_BYTES,
                false,
            );
            courses.0[at].batcher.push(envelope, now);
        }
    }

    fn takes(courses: &mut Courses, count: usize, now: Instant) -> Vec<u64> {
        let next = || {
            courses
                .take(Some(now), false)
                .map(|batch| batch.spool().as_u64() - SPOOL)
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn the_high_lane_overtakes_everything() {
        let now = Instant::now();
        let mut courses = courses();
        load(&mut courses, Lane::Normal, Part::Live, 5, now);
        load(&mut courses, Lane::Normal, Part::Backlog, 5, now);
        load(&mut courses, Lane::High, Part::Backlog, 2, now);
        load(&mut courses, Lane::High, Part::Live, 1, now);
        assert_eq!(takes(&mut courses, 3, now), [0, 1, 1]);
        assert!(courses.take(Some(now), true).is_none(), "no more of it");
    }

    #[test]
    fn live_stays_ahead_and_nobody_starves() {
        let now = Instant::now();
        let mut courses = courses();
        for (lane, part) in [
            (Lane::Normal, Part::Live),
            (Lane::Normal, Part::Backlog),
            (Lane::Bulk, Part::Live),
            (Lane::Bulk, Part::Backlog),
        ] {
            load(&mut courses, lane, part, 100, now);
        }
        let taken = takes(&mut courses, 90, now);
        let of = |spool| taken.iter().filter(|&&s| s == spool).count();
        assert_eq!([of(2), of(3), of(4), of(5)], [60, 20, 5, 5]);
    }

    #[test]
    fn a_backlog_alone_gets_everything_and_silence_saves_nothing_up() {
        let now = Instant::now();
        let mut courses = courses();
        load(&mut courses, Lane::Normal, Part::Backlog, 200, now);
        assert_eq!(takes(&mut courses, 100, now), [3; 100]);
        // Live was silent all the while; it gets its share now, not the hundred it missed.
        load(&mut courses, Lane::Normal, Part::Live, 100, now);
        let taken = takes(&mut courses, 40, now);
        let backlog = taken.iter().filter(|&&spool| spool == 3).count();
        assert!((9..=11).contains(&backlog), "{backlog}");
    }

    #[test]
    fn a_batch_that_may_wait_for_company_holds_nobody_up() {
        let now = Instant::now();
        let mut courses = Courses::new(Duration::from_secs(60), 1, |_| Position::default());
        courses.0[2]
            .batcher
            .push(stored(2 + SPOOL, 1, 10, false), now);
        load(&mut courses, Lane::Normal, Part::Backlog, 3, now);
        assert_eq!(takes(&mut courses, 9, now), [3, 3, 3]);
        assert!(!courses.are_done());
        assert_eq!(courses.deadline(), Some(now + Duration::from_secs(60)));
        assert_eq!(
            courses.take(None, false).unwrap().spool().as_u64(),
            2 + SPOOL
        );
    }
}
