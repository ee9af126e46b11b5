//! From the spool into batches.
//!
//! Invariant: what is read is in a course, what is taken from it is unsent or in flight; nothing is
//! in between.

use std::time::Instant;

use contract::Lane;

use super::{READ_BYTES, Trouble, URGENT_PART, Uplink};
use crate::spool::{Chunk, Position};
use crate::uplink::batch::Batch;
use crate::uplink::course::{Course, Courses, Part};

impl Uplink {
    /// May more be on its way? An alarm may, when a little more of it is urgent.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        let bytes_max = self.config.in_flight_bytes_max;
        let urgent = match lane {
            Lane::High => bytes_max / URGENT_PART,
            Lane::Normal | Lane::Bulk => 0,
        };
        self.flight.bytes() < bytes_max + urgent
    }

    pub(super) async fn read(
        &self,
        lane: Lane,
        at: Position,
        until: Option<Position>,
    ) -> Result<Chunk, Trouble> {
        let reader = self.spool.reader().clone();
        tokio::task::spawn_blocking(move || reader.read(lane, at, until, READ_BYTES))
            .await
            .expect("reading the spool does not panic")
            .map_err(Trouble::Spool)
    }

    /// Reads on and closes batches; says whether the end of the spool was reached.
    pub(super) async fn fill(&mut self, now: Instant, everything: bool) -> Result<bool, Trouble> {
        // Taken out for the time of reading, which needs `self` as well.
        let mut courses = std::mem::take(&mut self.courses);
        let filled = self.read_courses(&mut courses, now).await;
        self.courses = courses;
        filled?;
        let at = (!everything).then_some(now);
        let bytes_max = self.config.in_flight_bytes_max;
        let mut on_the_way: usize = self.flight.bytes();
        on_the_way += self.unsent.iter().map(Batch::bytes).sum::<usize>();
        while self.unsent.len() < self.depth && on_the_way < bytes_max + bytes_max / URGENT_PART {
            let high_only = on_the_way >= bytes_max;
            let Some(batch) = self.courses.take(at, high_only) else {
                break;
            };
            on_the_way += batch.bytes();
            let is_high = |batch: &Batch| batch.lane() == Lane::High;
            let before = if is_high(&batch) {
                self.unsent.iter().take_while(|b| is_high(b)).count()
            } else {
                self.unsent.len()
            };
            self.unsent.insert(before, batch);
        }
        Ok(self.courses.are_read())
    }

    async fn read_courses(&mut self, courses: &mut Courses, now: Instant) -> Result<(), Trouble> {
        for course in courses.iter_mut() {
            while self.wants(course) {
                let chunk = self.read(course.lane, course.next, course.until).await?;
                self.gap_found |= !chunk.gaps.is_empty();
                course.push(chunk, now);
                if course.at_end {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Is it worth reading on?
    fn wants(&self, course: &mut Course) -> bool {
        let is_over = match course.part {
            Part::Live => course.next == self.spool.reader().live_from(course.lane),
            Part::Backlog => course.at_end,
        };
        course.at_end |= is_over;
        !is_over
            && course.batcher.waiting_bytes() < READ_BYTES.max(course.batcher.bytes_max())
            && self.has_room(course.lane)
    }
}
