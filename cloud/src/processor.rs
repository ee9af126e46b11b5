//! Gathers stream items into batches, has them written, and only then acknowledges.
//!
//! Why one task: the order read → COMMIT → acknowledge is there to be read. Several of these run side
//! by side, one more than there are writers: while the others write, the next gathers and decodes. No
//! table depends on their order.
//!
//! Invariants: XACK takes its ids from a [`Committed`] and from nowhere else; a batch that the
//! database does not take is tried again until it does or until we are stopped, and stays pending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::cmd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant as Moment, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::batch::{Batch, EntryId, Unit};
use crate::config::{StoreConfig, StreamConfig};
use crate::decode;
use crate::fail_point::fail_point;
use crate::metrics::{Metrics, now_ms};
use crate::store::{Committed, Next, StoreError, migrate};
use crate::stream::consumer::chained;
use crate::stream::floor::Board;
use crate::stream::{Deliveries, Delivery, Intake, Link, Mirror};
use crate::writers::{Numbered, Writers};

/// Stream items in one batch at most, so that a flood of small ones cannot grow it without end.
const ENTRIES_MAX: usize = 1_000;

/// Bytes of stream items in one batch at most: what they unpack to, their rows and their copies in
/// a statement stay within the memory of a small server.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait for an item, or for one's turn, before telling Redis again what it did not take.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// After a stop: how long the batch in hand may still take.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Deadlocks in a row that are tried again without a pause.
const AT_ONCE_MAX: u32 = 5;

/// Refusals in a row after which a batch is cut into twice as many transactions.
const REFUSALS_PER_PART: u32 = 3;

/// How often to look whether somebody applied the missing migration.
const SCHEMA_PAUSE: Duration = Duration::from_secs(30);

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
    /// The same database, to ask about migrations.
    pub database: crate::store::Database,
    /// How to acknowledge.
    pub link: Link,
    /// Which group.
    pub stream: StreamConfig,
    /// How to gather.
    pub config: StoreConfig,
    /// Where dead letters are copied to, if anywhere.
    pub mirror: Option<Mirror>,
    /// Where commits are told.
    pub board: Arc<Board>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
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
            self.acknowledge(&mut unacknowledged).await;
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
        self.acknowledge(&mut unacknowledged).await;
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
                Err(_) => self.acknowledge(unacknowledged).await,
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
                Err(_) => self.acknowledge(unacknowledged).await,
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
            // It stays inside the intake, so this is said once per item and process.
            Err(newer) => {
                self.metrics.left_for_newer.add(1);
                error!(entry = %delivery.entry, reason = %newer, "left a stream item pending");
                false
            }
        }
    }

    /// Has the batch written, by whoever is free. `None`: stopped, and out of time.
    async fn write(&self, batch: &Batch, stop: &CancellationToken) -> Option<(usize, Committed)> {
        // One deadline from the moment of the stop, however many attempts it cuts through.
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_MAX).await;
        };
        tokio::pin!(late);
        let mut by = tokio::select! {
            by = self.writers.take() => by?,
            () = &mut late => return None,
        };
        let number = by.number;
        let written = tokio::select! {
            written = self.try_on(&mut by, batch, stop) => written,
            () = &mut late => None,
        };
        self.writers.give_back(by);
        written.map(|committed| (number, committed))
    }

    /// Tries until the database takes the batch. `None`: stopped, and no use in trying again.
    async fn try_on(
        &self,
        by: &mut Numbered,
        batch: &Batch,
        stop: &CancellationToken,
    ) -> Option<Committed> {
        let mut backoff = Backoff::default();
        let (mut in_a_row, mut parts) = (0, 1);
        loop {
            let failure = match by.writer.write(batch, parts).await {
                Ok(committed) => {
                    self.metrics.database(true);
                    self.metrics.writer_schema(by.number, false);
                    self.metrics.writer_refusals(by.number, 0);
                    return Some(committed);
                }
                Err(failure) => failure,
            };
            if failure.may_be_another_server() {
                self.board.doubt();
            }
            in_a_row += 1;
            self.metrics.writer_refusals(by.number, in_a_row.into());
            // The server is there and keeps saying no to the whole: ask for less at a time.
            if in_a_row % REFUSALS_PER_PART == 0 && matches!(failure, StoreError::Refused { .. }) {
                parts = (parts * 2).min(batch.units.len().max(1));
            }
            let was_stopping = stop.is_cancelled();
            let pause = self
                .judge(by.number, &failure, in_a_row, &mut backoff)
                .await;
            if was_stopping && pause > STOP_MAX / 4 {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Once more, at once: it may be the last chance.
                () = stop.cancelled(), if !was_stopping => {}
            }
        }
    }

    /// Says what happened and how long to wait.
    async fn judge(
        &self,
        number: usize,
        failure: &StoreError,
        in_a_row: u32,
        backoff: &mut Backoff,
    ) -> Duration {
        self.metrics.error();
        self.metrics.store_errors.add(1);
        let told = chained(failure);
        let pause = match failure.next() {
            Next::RetryNow if in_a_row <= AT_ONCE_MAX => Duration::ZERO,
            Next::Schema => {
                self.metrics.writer_schema(number, true);
                let missing = self.missing_migrations().await;
                error!(
                    error = told,
                    missing,
                    "the tables are not the ones this program knows; stopped consuming, nothing is lost; run `cloud migrate up`"
                );
                return SCHEMA_PAUSE;
            }
            Next::RetryNow | Next::Retry | Next::Split => backoff.pause(),
        };
        if matches!(failure, StoreError::Unreachable { .. }) {
            self.metrics.database(false);
        }
        warn!(
            error = told,
            url = self.database.url(),
            retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "the database did not take the batch; it stays pending"
        );
        pause
    }

    async fn missing_migrations(&self) -> String {
        let Ok(mut connection) = self.database.connect().await else {
            return "unknown".to_owned();
        };
        let Ok(steps) = migrate::status(&self.database, &mut connection).await else {
            return "unknown".to_owned();
        };
        let missing: Vec<String> = migrate::missing(&steps)
            .iter()
            .map(|step| format!("{} {}", step.version, step.description))
            .collect();
        if missing.is_empty() {
            "none; look at privileges and at tables changed by hand".to_owned()
        } else {
            missing.join(", ")
        }
    }

    /// Tells Redis. What it does not take now is told again later; until then the ids stay inside,
    /// so they are not worked on twice.
    async fn acknowledge(&self, entries: &mut Vec<EntryId>) {
        let mut by_stream: BTreeMap<Arc<str>, Vec<EntryId>> = BTreeMap::new();
        for entry in entries.drain(..) {
            let stream = entry.stream.clone();
            by_stream.entry(stream).or_default().push(entry);
        }
        for (stream, of_stream) in by_stream {
            let mut ack = cmd("XACK");
            ack.arg(&*stream).arg(&self.stream.group);
            for entry in &of_stream {
                ack.arg(entry.id.to_string());
            }
            fail_point!("before-xack");
            match self.link.ask::<u64>("XACK", &ack).await {
                Ok(_) => {
                    fail_point!("after-xack");
                    self.metrics.messages_written.add(of_stream.len() as u64);
                    self.intake.let_out(&of_stream);
                }
                Err(failure) => {
                    self.metrics.error();
                    warn!(
                        %stream,
                        error = chained(&failure),
                        messages = of_stream.len(),
                        "cannot acknowledge yet; the rows are stored"
                    );
                    entries.extend(of_stream);
                }
            }
        }
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
