//! Pure: no I/O, no clock.
//!
//! Which envelopes travel together, and when a batch need not wait any longer.
//!
//! Why batches: one stream entry costs Redis about as much as 27 records inside it.
//!
//! Invariants: a batch holds envelopes of one kind and one spool in order, at most 512 positions apart and
//! about [`BATCH_BYTES`] of frames; nothing waits longer than the flush interval.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use contract::envelope::ENVELOPES_MAX;
use contract::{Effort, Lane, SpoolId, SpoolSeq};

use super::inside::Inside;
use super::route::Route;
use crate::spool::{Position, Stored};

/// A batch is closed when its frames reach this size.
pub const BATCH_BYTES: usize = 64 * 1024;

/// A batch that took so long to gather comes rarely enough for any effort.
const WAITED_FOR_THOROUGH: Duration = Duration::from_secs(10);

/// Envelopes of one spool that travel in one stream entry.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Never empty; ascending positions of one spool.
    stored: Vec<Stored>,
    route: Route,
    effort: Effort,
}

impl Batch {
    /// The envelopes, never none.
    #[must_use]
    pub fn stored(&self) -> &[Stored] {
        &self.stored
    }

    fn first_stored(&self) -> &Stored {
        self.stored
            .first()
            .expect("a batch is made with its first envelope")
    }

    /// Which stream it goes to.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// How hard to make it smaller: what gathered for seconds pays by the byte and is in no hurry,
    /// a backlog is.
    #[must_use]
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Do other batches hold some of the positions between its first and its last?
    #[must_use]
    pub fn has_holes(&self) -> bool {
        let apart = self.last().get() - self.first().get();
        apart + 1 != self.stored.len() as u64
    }

    /// The same envelopes in batches without holes, in their order.
    #[must_use]
    pub fn into_runs(self) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for stored in self.stored {
            match runs.last_mut() {
                Some(run) if run.last().get() + 1 == stored.seq.get() => run.stored.push(stored),
                _ => runs.push(Self {
                    stored: vec![stored],
                    route: self.route.clone(),
                    effort: self.effort,
                }),
            }
        }
        runs
    }

    /// Exactly the positions inside.
    #[must_use]
    pub fn inside(&self) -> Inside {
        Inside::new(self.first(), self.stored.iter().map(|s| s.seq))
    }

    /// Whose positions.
    #[must_use]
    pub fn spool(&self) -> SpoolId {
        self.first_stored().spool
    }

    /// First position.
    #[must_use]
    pub fn first(&self) -> SpoolSeq {
        self.first_stored().seq
    }

    /// Last position.
    #[must_use]
    pub fn last(&self) -> SpoolSeq {
        self.stored.last().map_or(self.first(), |s| s.seq)
    }

    /// Whose log holds it.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.first_stored().lane
    }

    /// Where the log holds its first envelope.
    #[must_use]
    pub fn at(&self) -> Position {
        self.first_stored().at
    }

    /// AVL records inside.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.stored.iter().map(|s| u64::from(s.record_count)).sum()
    }

    /// Bytes of frames inside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.stored.iter().map(|s| s.bytes.len()).sum()
    }
}

/// Envelopes that wait for company.
#[derive(Debug)]
pub struct Batcher {
    flush: Duration,
    route: Route,
    waiting: VecDeque<Stored>,
    bytes: usize,
    /// When the oldest one began to wait.
    since: Option<Instant>,
    /// A record of priority Panic waits.
    panic: bool,
}

impl Batcher {
    /// For the envelopes of one route; closes what has waited for `flush`.
    #[must_use]
    pub fn new(flush: Duration, route: Route) -> Self {
        Self {
            flush,
            route,
            waiting: VecDeque::new(),
            bytes: 0,
            since: None,
            panic: false,
        }
    }

    /// Takes the next envelope in the order of the spool.
    pub fn push(&mut self, stored: Stored, now: Instant) {
        self.since.get_or_insert(now);
        self.bytes += stored.bytes.len();
        self.panic |= stored.panic;
        self.waiting.push_back(stored);
    }

    /// Bytes of frames that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest envelope has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.flush)
    }

    /// The next batch that need not wait: a full one, or any once the flush interval is over, a
    /// panic record waits or `now` is `None` (everything must go).
    pub fn take(&mut self, now: Option<Instant>) -> Option<Batch> {
        let due = match (now, self.deadline()) {
            (_, None) => return None,
            (None, _) => true,
            (Some(now), Some(deadline)) => now >= deadline,
        };
        let (count, full) = self.next_size();
        if !(due || full || self.panic) {
            return None;
        }
        let waited = now.zip(self.since).map(|(now, since)| now - since);
        let effort = match waited {
            Some(waited) if waited >= WAITED_FOR_THOROUGH => Effort::Thorough,
            _ => Effort::Quick,
        };
        let stored: Vec<Stored> = self.waiting.drain(..count).collect();
        self.bytes -= stored.iter().map(|s| s.bytes.len()).sum::<usize>();
        if self.waiting.is_empty() {
            self.since = None;
            self.panic = false;
        }
        Some(Batch {
            stored,
            route: self.route.clone(),
            effort,
        })
    }

    /// How many envelopes the next batch takes, and whether it can grow no further.
    fn next_size(&self) -> (usize, bool) {
        let Some(first) = self.waiting.front() else {
            return (0, false);
        };
        let (mut count, mut bytes) = (0, 0);
        let mut above = None;
        for stored in &self.waiting {
            let apart = stored.seq.get().saturating_sub(first.seq.get());
            let fits = stored.spool == first.spool
                && Some(stored.seq) > above
                && apart < ENVELOPES_MAX as u64
                && (count == 0 || bytes + stored.bytes.len() <= BATCH_BYTES);
            if !fits {
                return (count, true);
            }
            above = Some(stored.seq);
            count += 1;
            bytes += stored.bytes.len();
        }
        (count, count >= ENVELOPES_MAX || bytes >= BATCH_BYTES)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use contract::{Device, Kind, Transport};

    pub(crate) fn stored(spool: u64, seq: u64, bytes: usize, panic: bool) -> Stored {
        Stored {
            spool: SpoolId::from_random(spool),
            seq: SpoolSeq::new(seq).unwrap(),
            at: Position::default(),
            received_at_ms: 0,
            kind: Kind::Teltonika,
            device: Device::Text("x".into()),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: 1,
            panic,
            bytes: vec![0; bytes],
        }
    }

    pub(crate) fn batch(spool: u64, seqs: impl IntoIterator<Item = u64>) -> Batch {
        batch_of_shard(spool, 0, seqs)
    }

    pub(crate) fn batch_of_shard(
        spool: u64,
        shard: u32,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Batch {
        let kind = Kind::Teltonika;
        batch_of(spool, Route { kind, shard }, seqs)
    }

    pub(crate) fn batch_of_kind(
        spool: u64,
        kind: Kind,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Batch {
        batch_of(spool, Route { kind, shard: 0 }, seqs)
    }

    fn batch_of(spool: u64, route: Route, seqs: impl IntoIterator<Item = u64>) -> Batch {
        Batch {
            route,
            effort: Effort::Quick,
            stored: seqs
                .into_iter()
                .map(|seq| stored(spool, seq, 10, false))
                .collect(),
        }
    }

    fn batcher(flush: Duration) -> Batcher {
        Batcher::new(flush, Route::GAPS)
    }

    fn seqs(batch: &Batch) -> (u64, u64, usize) {
        (
            batch.first().get(),
            batch.last().get(),
            batch.stored().len(),
        )
    }

    #[test]
    fn waits_for_the_interval_and_no_longer() {
        let start = Instant::now();
        let mut batcher = batcher(Duration::from_millis(250));
        assert!(batcher.take(None).is_none());
        batcher.push(stored(1, 1, 10, false), start);
        batcher.push(stored(1, 2, 10, false), start + Duration::from_millis(100));
        assert_eq!(batcher.deadline(), Some(start + Duration::from_millis(250)));
        assert!(
            batcher
                .take(Some(start + Duration::from_millis(249)))
                .is_none()
        );
        let batch = batcher
            .take(Some(start + Duration::from_millis(250)))
            .unwrap();
        assert_eq!(seqs(&batch), (1, 2, 2));
        assert_eq!((batcher.deadline(), batcher.waiting_bytes()), (None, 0));
    }

    #[test]
    fn what_gathered_for_long_is_worth_an_effort_and_a_backlog_is_not() {
        let start = Instant::now();
        let mut batcher = batcher(Duration::from_secs(60));
        let effort_after = |batcher: &mut Batcher, waited: Duration| {
            batcher.push(stored(1, 1, 10, false), start);
            batcher.push(stored(1, 2, BATCH_BYTES, false), start + waited);
            let batch = batcher.take(Some(start + waited)).unwrap();
            while batcher.take(None).is_some() {}
            batch.effort()
        };
        let long = WAITED_FOR_THOROUGH;
        assert_eq!(effort_after(&mut batcher, long), Effort::Thorough);
        let short = long - Duration::from_millis(1);
        assert_eq!(effort_after(&mut batcher, short), Effort::Quick);
        assert_eq!(effort_after(&mut batcher, Duration::ZERO), Effort::Quick);
    }

    #[test]
    fn a_panic_record_takes_everything_along_at_once() {
        let now = Instant::now();
        let mut batcher = batcher(Duration::from_secs(600));
        batcher.push(stored(1, 1, 10, false), now);
        batcher.push(stored(1, 2, 10, true), now);
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (1, 2, 2));
        batcher.push(stored(1, 3, 10, false), now);
        assert!(batcher.take(Some(now)).is_none(), "the panic is over");
    }

    #[test]
    fn positions_always_ascend_within_a_batch() {
        let now = Instant::now();
        let mut batcher = batcher(Duration::ZERO);
        for seq in [8, 9, 8, 9, 10] {
            batcher.push(stored(1, seq, 10, false), now);
        }
        assert_eq!(seqs(&batcher.take(None).unwrap()), (8, 9, 2));
        assert_eq!(seqs(&batcher.take(None).unwrap()), (8, 10, 3));
    }

    #[test]
    fn runs_have_no_holes_and_keep_everything() {
        let scattered = batch_of_shard(1, 3, [1, 2, 5, 7, 8, 9]);
        assert!(scattered.has_holes());
        let runs = scattered.into_runs();
        let shape: Vec<_> = runs.iter().map(seqs).collect();
        assert_eq!(shape, [(1, 2, 2), (5, 5, 1), (7, 9, 3)]);
        assert!(
            runs.iter()
                .all(|run| !run.has_holes() && run.route().shard == 3)
        );
        assert!(!batch(1, [4]).has_holes());
        assert_eq!(batch(1, 4..=6).into_runs().len(), 1);
    }

    #[test]
    fn closes_at_every_limit() {
        let now = Instant::now();
        let mut batcher = batcher(Duration::from_secs(600));
        for seq in 1..=600 {
            batcher.push(stored(1, seq, 10, false), now);
        }
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (1, 512, 512));
        assert!(batcher.take(Some(now)).is_none());
        batcher.push(stored(1, 513 + 512, 10, false), now); // far apart
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (513, 600, 88));
        batcher.push(stored(2, 1, BATCH_BYTES, false), now); // another spool, and full by itself
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (1025, 1025, 1));
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (1, 1, 1));
        batcher.push(stored(2, 2, 2 * BATCH_BYTES, false), now); // larger than a batch: alone
        assert_eq!(seqs(&batcher.take(Some(now)).unwrap()), (2, 2, 1));
        assert_eq!(batcher.waiting_bytes(), 0);
    }
}
