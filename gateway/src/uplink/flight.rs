//! Pure: no I/O, no clock.
//!
//! What was sent and is not known to be in the database: when to believe it lost and send it again.
//!
//! Why: Redis may be emptied, fail over to a stale replica or lose a stream while our connection
//! stays up. The only proof of delivery is the floor, which the cloud writes after COMMIT.
//!
//! Invariants: nothing leaves but by being settled; sending twice is free, so doubt means sending
//! again, but not before the batch is overdue, and less often each time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use contract::{Kind, Lane, SettledRanges, SpoolId, SpoolSeq};

use super::batch::Batch;
use super::inside::Inside;
use super::route::Route;
use crate::spool::Position;

/// Longest pause between two sendings of one batch, as a multiple of the first.
const BACKOFF_MAX: u32 = 16;

/// One batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whose positions.
    pub spool: SpoolId,
    /// First position.
    pub first: SpoolSeq,
    /// Last position.
    pub last: SpoolSeq,
    /// Exactly the positions inside.
    pub inside: Inside,
    /// Which stream it went to.
    pub route: Route,
    /// Whose log holds it.
    pub lane: Lane,
    /// Where the log holds it.
    pub at: Position,
    bytes: usize,
    sent_at: Instant,
    times: u32,
}

/// All batches on their way.
#[derive(Debug)]
pub struct Flight {
    resend_after_min: Duration,
    sent: VecDeque<Sent>,
    bytes: usize,
    /// Moving average of the time from sending to settled.
    usual: Option<Duration>,
    /// Last position of what was settled, per spool and route.
    edges: HashMap<(SpoolId, Route), SpoolSeq>,
    /// Kinds that were ever sent.
    kinds: BTreeSet<Kind>,
}

impl Flight {
    /// A batch is overdue after `resend_after_min`, or three times the usual settling time if
    /// that is longer.
    #[must_use]
    pub fn new(resend_after_min: Duration) -> Self {
        Self {
            resend_after_min,
            sent: VecDeque::new(),
            bytes: 0,
            usual: None,
            edges: HashMap::new(),
            kinds: BTreeSet::new(),
        }
    }

    /// Bytes of frames that are sent and unsettled.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Batches that are sent and unsettled.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.sent.len()
    }

    /// Notes a batch as handed to Redis.
    pub fn sent(&mut self, batch: &Batch, now: Instant) {
        self.bytes += batch.bytes();
        if !self.kinds.contains(&batch.route().kind) {
            self.kinds.insert(batch.route().kind.clone());
        }
        self.sent.push_back(Sent {
            spool: batch.spool(),
            first: batch.first(),
            last: batch.last(),
            inside: batch.inside(),
            route: batch.route().clone(),
            lane: batch.lane(),
            at: batch.at(),
            bytes: batch.bytes(),
            sent_at: now,
            times: 1,
        });
    }

    /// Forgets what `settled` covers.
    pub fn settle(&mut self, spool: SpoolId, settled: &SettledRanges, now: Instant) {
        let (mut freed, mut usual) = (0, self.usual);
        let edges = &mut self.edges;
        self.sent.retain(|sent| {
            let open = sent.spool != spool || !sent.inside.are_in(settled);
            if !open {
                freed += sent.bytes;
                let edge = edges
                    .entry((spool, sent.route.clone()))
                    .or_insert(sent.last);
                *edge = sent.last.max(*edge);
                // A batch that was sent again says nothing about how long settling takes.
                if sent.times == 1 {
                    let took = now.saturating_duration_since(sent.sent_at);
                    usual = Some(usual.map_or(took, |usual| (usual * 7 + took) / 8));
                }
            }
            open
        });
        self.bytes -= freed;
        self.usual = usual;
    }

    /// Was everything of one kind so far?
    #[must_use]
    pub fn is_of_one_kind(&self) -> bool {
        self.kinds.len() <= 1
    }

    /// Routes on which something is overdue: there it is worth asking whether the group has
    /// anything left.
    #[must_use]
    pub fn overdue_routes(&self, now: Instant) -> BTreeSet<Route> {
        let overdue = self.sent.iter().filter(|sent| self.is_overdue(sent, now));
        overdue.map(|sent| sent.route.clone()).collect()
    }

    /// Batches to send again: overdue, and either later data of the same spool and route is settled
    /// (a hole; `high_edge` knows more of it where there is one route alone), or the group has
    /// nothing left to read or acknowledge in their stream (`group_is_idle`).
    /// The oldest `batches_max` of them; the others stay overdue.
    pub fn overdue(
        &mut self,
        now: Instant,
        group_is_idle: impl Fn(&Route) -> bool,
        batches_max: usize,
        high_edge: impl Fn(SpoolId) -> u64,
    ) -> Vec<Sent> {
        let lost: Vec<bool> = self
            .sent
            .iter()
            .map(|sent| {
                let edge = self.edges.get(&(sent.spool, sent.route.clone()));
                let edge = edge.map_or(0, |edge| edge.get());
                let hole = edge.max(high_edge(sent.spool)) > sent.last.get();
                self.is_overdue(sent, now) && (hole || group_is_idle(&sent.route))
            })
            .collect();
        let mut again = Vec::new();
        for (sent, lost) in self.sent.iter_mut().zip(lost) {
            if lost && again.len() < batches_max {
                sent.sent_at = now;
                sent.times += 1;
                again.push(sent.clone());
            }
        }
        again
    }

    fn is_overdue(&self, sent: &Sent, now: Instant) -> bool {
        let patience = self
            .resend_after_min
            .max(self.usual.unwrap_or_default() * 3);
        let doubled = 1u32 << (sent.times - 1).min(BACKOFF_MAX.ilog2());
        now.saturating_duration_since(sent.sent_at) >= patience * doubled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::batch::tests::{batch, batch_of_kind, batch_of_shard};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn settled(text: &str) -> SettledRanges {
        SettledRanges::parse(text).unwrap()
    }

    fn has_overdue(flight: &Flight, now: Instant) -> bool {
        !flight.overdue_routes(now).is_empty()
    }

    fn firsts(sent: &[Sent]) -> Vec<u64> {
        sent.iter().map(|s| s.first.get()).collect()
    }

    #[test]
    fn only_the_floor_ends_a_flight() {
        let now = Instant::now();
        let spool = SpoolId::from_random(1);
        let mut flight = Flight::new(MINUTE);
        flight.sent(&batch(1, 1..=5), now);
        flight.sent(&batch(1, 6..=9), now);
        assert_eq!((flight.batches(), flight.bytes()), (2, 90));
        flight.settle(spool, &settled("1-7"), now);
        assert_eq!((flight.batches(), flight.bytes()), (1, 40));
        flight.settle(SpoolId::from_random(2), &settled("1-100"), now);
        assert_eq!(flight.batches(), 1, "another spool's floor settles nothing");
        flight.settle(spool, &settled("1-9"), now);
        assert_eq!((flight.batches(), flight.bytes()), (0, 0));
    }

    #[test]
    fn overdue_needs_a_hole_or_an_idle_group() {
        let now = Instant::now();
        let mut flight = Flight::new(MINUTE);
        flight.sent(&batch(1, 1..=5), now);
        flight.sent(&batch(1, 9..=9), now + MINUTE / 2);
        let late = now + MINUTE;
        assert!(!has_overdue(&flight, late - Duration::from_millis(1)));
        assert!(has_overdue(&flight, late));
        assert!(
            flight.overdue(late, |_| false, 9, |_| 0).is_empty(),
            "slow is not lost"
        );
        assert!(
            flight.overdue(late, |_| false, 9, |_| 5).is_empty(),
            "nothing later is settled"
        );
        assert_eq!(firsts(&flight.overdue(late, |_| false, 9, |_| 6)), [1]);
        assert!(
            flight.overdue(late, |_| true, 9, |_| 0).is_empty(),
            "just sent again"
        );
        assert_eq!(
            firsts(&flight.overdue(late + MINUTE, |_| true, 9, |_| 0)),
            [9]
        );
        assert_eq!(
            firsts(&flight.overdue(late + 2 * MINUTE, |_| true, 9, |_| 0)),
            [1]
        );
    }

    #[test]
    fn a_quick_shard_makes_no_hole_in_a_slow_one() {
        let now = Instant::now();
        let spool = SpoolId::from_random(1);
        let mut flight = Flight::new(MINUTE);
        flight.sent(&batch_of_shard(1, 0, [1, 3]), now);
        flight.sent(&batch_of_shard(1, 1, [2, 5]), now);
        flight.sent(&batch_of_shard(1, 0, [4, 6]), now);
        flight.settle(spool, &settled("2-2,5-5"), now);
        let late = now + MINUTE;
        assert_eq!(flight.overdue_routes(late), BTreeSet::from([Route::GAPS]));
        assert!(flight.overdue(late, |_| false, 9, |_| 0).is_empty());
        assert!(
            flight
                .overdue(late, |route| route.shard == 1, 9, |_| 0)
                .is_empty()
        );
        flight.settle(spool, &settled("2-2,4-6"), now);
        assert_eq!(firsts(&flight.overdue(late, |_| false, 9, |_| 0)), [1]);
    }

    #[test]
    fn a_quick_kind_makes_no_hole_in_a_slow_one() {
        let now = Instant::now();
        let spool = SpoolId::from_random(1);
        let mut flight = Flight::new(MINUTE);
        flight.sent(&batch(1, [1, 3]), now);
        assert!(flight.is_of_one_kind());
        flight.sent(&batch_of_kind(1, Kind::Position, [2, 4]), now);
        assert!(!flight.is_of_one_kind());
        flight.settle(spool, &settled("2-2,4-4"), now);
        let late = now + MINUTE;
        assert_eq!(flight.overdue_routes(late), BTreeSet::from([Route::GAPS]));
        assert!(flight.overdue(late, |_| false, 9, |_| 0).is_empty());
        assert_eq!(
            firsts(&flight.overdue(late, |route| route.kind == Kind::Teltonika, 9, |_| 0)),
            [1]
        );
    }

    #[test]
    fn a_slow_database_makes_it_patient() {
        let now = Instant::now();
        let spool = SpoolId::from_random(1);
        let mut flight = Flight::new(MINUTE);
        flight.sent(&batch(1, 1..=1), now);
        flight.settle(spool, &settled("1-1"), now + 2 * MINUTE);
        flight.sent(&batch(1, 2..=2), now);
        assert!(!has_overdue(&flight, now + 5 * MINUTE));
        assert!(has_overdue(&flight, now + 6 * MINUTE));
    }
}
