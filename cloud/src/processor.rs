//! Gathers stream items into batches, has them written, and only then acknowledges.
//!
//! Why one task: the order read → COMMIT → acknowledge is there to be read. Several of these run side
//! by side, one more than there are writers: while the others write, the next gathers and decodes. No
//! table depends on their order.
//!
//! Invariants: XACK takes its ids from a [`Committed`] and from nowhere else; a batch that the
//! database does not take is tried again until it does or until we are stopped, and stays pending.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant as Moment, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::batch::{Batch, EntryId, Unit};
use crate::config::StoreConfig;
use crate::decode;
use crate::fail_point::fail_point;
use crate::metrics::{Metrics, now_ms};
use crate::patience::{self, Patience};
use crate::store::{Committed, StoreError, Writer};
use crate::stream::floor::Board;
use crate::stream::{Acks, Deliveries, Delivery, Intake, Mirror};
use crate::writers::Writers;

/// Stream items in one batch at most, so that a flood of small ones cannot grow it without end.
const ENTRIES_MAX: usize = 1_000;

/// Bytes of stream items in one batch at most: what they unpack to, their rows and their copies in
/// a statement stay within the memory of a small server.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait for an item, or for one's turn, before telling Redis again what it did not take.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the processor needs.
#[derive(Debug)]
pub struct Processor {
    /// Where items come from.
    pub deliveries: Deliveries,
    /// To let items out again.
    pub intake: Intake,
    /// Where items wait in which a gateway gives something up.
    pub gaps: UnboundedSender<Delivery>,
    /// Who writes.
    pub writers: Writers,
    /// What to make of a refusal.
    pub patience: Patience,
    /// How to acknowledge.
    pub acks: Acks,
    /// How to gather.
    pub config: StoreConfig,
    /// Where dead letters are copied to, if anywhere.
    pub mirror: Option<Mirror>,
    /// Where commits are told.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

struct Attempt<'a> {
    writer: &'a mut Writer,
    batch: &'a Batch,
}

impl patience::Attempt for Attempt<'_> {
    type Committed = Committed;

    async fn once(&mut self, parts: usize) -> Result<Committed, StoreError> {
        self.writer.write(self.batch, parts).await
    }

    fn parts_max(&self) -> usize {
        self.batch.units.len()
    }
}

impl Processor {
    /// Works until `stop`, then finishes the batch in hand.
    pub async fn run(self, stop: CancellationToken) {
        // Committed, but Redis did not take the acknowledgement yet.
        let mut unacknowledged: Vec<EntryId> = Vec::new();
        while let Some(batch) = self.gather(&stop, &mut unacknowledged).await {
            let began = Instant::now();
            let Some((number, committed)) = self.write(&batch, &stop).await else {
                warn!(
                    messages = batch.entries.len(),
                    "stopped before the database took the last batch; it stays pending and nothing is lost"
                );
                break;
            };
            self.board.commit(&committed);
            self.count(&batch, &committed, began.elapsed());
            if let Some(mirror) = &self.mirror {
                mirror.copy(&batch, &committed).await;
            }
            unacknowledged.extend_from_slice(committed.entries());
            self.acks.tell(&mut unacknowledged).await;
            self.metrics.store.record(Instant::now(), began.elapsed());
            info!(
                writer = number,
                rows_written = committed.tally().stored,
                messages_acknowledged = committed.entries().len(),
                duplicate = committed.tally().duplicate,
                dead_letters = committed.dead_letters(),
                took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                "Processed batch"
            );
            if !self.config.pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(self.config.pause) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        self.acks.tell(&mut unacknowledged).await;
    }

    /// The next batch; `None` when stopped with nothing in hand.
    async fn gather(
        &self,
        stop: &CancellationToken,
        unacknowledged: &mut Vec<EntryId>,
    ) -> Option<Batch> {
        let mut receiver = loop {
            let turn = timeout(WAIT_MAX, self.deliveries.turn());
            let turn = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                turn = turn => turn,
            };
            match turn {
                Ok(receiver) => break receiver,
                Err(_) => drop(self.acks.tell(unacknowledged).await),
            }
        };
        let mut batch = Batch::default();
        let mut until: Option<Moment> = None;
        while batch.rows() < self.config.batch_rows_max
            && batch.entries.len() < ENTRIES_MAX
            && batch.bytes < BATCH_BYTES_MAX
        {
            let wait_until = until.unwrap_or_else(|| Moment::now() + WAIT_MAX);
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = timeout_at(wait_until, receiver.recv()) => next,
            };
            match next {
                Ok(Some(delivery)) => {
                    if self.add(delivery, &mut batch) && until.is_none() {
                        until = Some(Moment::now() + self.config.batch_wait);
                    }
                }
                Ok(None) => break,
                Err(_) if until.is_some() => break,
                Err(_) => drop(self.acks.tell(unacknowledged).await),
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn add(&self, delivery: Delivery, batch: &mut Batch) -> bool {
        let comes_again = self.intake.comes_again(&delivery.entry);
        self.metrics.messages_read.add(u64::from(!comes_again));
        let began = Instant::now();
        let waited = now_ms().saturating_sub(delivery.entry.id.ms());
        self.metrics
            .read
            .record(began, Duration::from_millis(waited));
        match decode::entry(&delivery.entry, &delivery.fields) {
            // Nobody takes it at a stop alone; then it stays pending.
            Ok(decoded) if decoded.gives_up() && !comes_again => {
                let _ = self.gaps.send(delivery);
                false
            }
            Ok(decoded) => {
                fail_point!("decoded");
                self.metrics.decode.record(began, began.elapsed());
                let rows: usize = decoded.units.iter().map(Unit::rows).sum();
                let dead: usize = decoded.units.iter().map(|it| it.dead_letters.len()).sum();
                self.metrics.rows_decoded.add(rows as u64);
                self.metrics.decode_failed.add(dead as u64);
                let bytes = delivery.fields.iter().map(|(_, value)| value.len()).sum();
                batch.add(delivery.entry, decoded, bytes);
                true
            }
            // It stays inside the intake, so this is said once per item and process. Without a Redis
            // nothing comes twice under one id, and nobody would ever let it out.
            Err(newer) => {
                if self.acks.link.is_none() {
                    self.intake.let_out([&delivery.entry]);
                }
                self.metrics.left_for_newer.add(1);
                error!(entry = %delivery.entry, reason = %newer, "left a stream item pending");
                false
            }
        }
    }

    /// Has the batch written, by whoever is free. `None`: stopped, and out of time.
    async fn write(&self, batch: &Batch, stop: &CancellationToken) -> Option<(usize, Committed)> {
        let late = Patience::late(stop);
        tokio::pin!(late);
        let mut by = tokio::select! {
            by = self.writers.take() => by?,
            () = &mut late => return None,
        };
        let (number, writer) = (by.number, &mut by.writer);
        let refused = |failure: &StoreError| {
            if failure.may_be_another_server() {
                self.board.doubt();
            }
        };
        let attempt = Attempt { writer, batch };
        let trying = self
            .patience
            .until_committed(number, attempt, refused, stop);
        let written = tokio::select! {
            written = trying => written,
            () = &mut late => None,
        };
        self.writers.give_back(by);
        written.map(|committed| (number, committed))
    }

    fn count(&self, batch: &Batch, committed: &Committed, took: Duration) {
        let (metrics, tally) = (&self.metrics, committed.tally());
        metrics.batches_processed.add(1);
        metrics.rows_committed.add(batch.rows() as u64);
        metrics.records_late.add(batch.late());
        if let Some(received_ms) = batch.oldest_reception_ms() {
            metrics
                .end_to_end_ms
                .set(now_ms().saturating_sub(received_ms));
        }
        metrics.messages_failed.add(committed.dead_letters());
        metrics.records_received.add(tally.received);
        metrics.records_stored.add(tally.stored);
        metrics.records_quarantined.add(tally.quarantined);
        metrics.records_duplicate.add(tally.duplicate);
        metrics.records_dead.add(tally.dead);
        metrics.records_dropped.add(tally.dropped);
        metrics.device_messages_stored.add(committed.messages());
        metrics
            .last_batch_ms
            .set(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        metrics.last_commit_ms.set(now_ms());
        metrics.database_connected.store(true, Ordering::Relaxed);
    }
}
