//! Gathers readings into batches, has them written, and only then acknowledges.
//!
//! Invariants: XACK takes its ids from a [`ReadingsCommitted`] and from nowhere else; a batch that the
//! database does not take is tried again until it does or until we are stopped, and stays pending.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Moment, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::reading::{self, Item};
use super::{letter, name};
use crate::batch::EntryId;
use crate::config::{SensorConfig, StoreConfig};
use crate::fail_point::fail_point;
use crate::metrics::{Metrics, now_ms};
use crate::patience::{self, Patience};
use crate::store::{ReadingsCommitted, ReadingsWriter, StoreError};
use crate::stream::{Acks, Deliveries, Delivery, Mirror};

/// Bytes of stream items in one batch at most.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait for an item, or for one's turn, before telling Redis again what it did not take.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the processor needs.
#[derive(Debug)]
pub struct Processor {
    /// Among all writers of this process.
    pub number: usize,
    /// Where items come from.
    pub deliveries: Deliveries,
    /// Who writes.
    pub writer: ReadingsWriter,
    /// What to make of a refusal.
    pub patience: Patience,
    /// How to acknowledge.
    pub acks: Acks,
    /// How to gather.
    pub config: StoreConfig,
    /// What streams mean.
    pub sensors: SensorConfig,
    /// Where dead letters are copied to, if anywhere.
    pub mirror: Option<Mirror>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

struct Attempt<'a> {
    writer: &'a mut ReadingsWriter,
    batch: &'a [Item],
}

impl patience::Attempt for Attempt<'_> {
    type Committed = ReadingsCommitted;

    async fn once(&mut self, parts: usize) -> Result<ReadingsCommitted, StoreError> {
        self.writer.write(self.batch, parts).await
    }

    fn parts_max(&self) -> usize {
        self.batch.len()
    }
}

impl Processor {
    /// Works until `stop`, then finishes the batch in hand.
    pub async fn run(mut self, stop: CancellationToken) {
        // Committed, but Redis did not take the acknowledgement yet.
        let mut unacknowledged: Vec<EntryId> = Vec::new();
        while let Some(batch) = self.gather(&stop, &mut unacknowledged).await {
            let began = Instant::now();
            let Some(committed) = self.write(&batch, &stop).await else {
                warn!(
                    messages = batch.len(),
                    "stopped before the database took the last readings; they stay pending and nothing is lost"
                );
                break;
            };
            self.count(&batch, &committed, began.elapsed());
            self.copy(&committed).await;
            unacknowledged.extend_from_slice(committed.entries());
            self.tell(&mut unacknowledged).await;
            self.metrics.store.record(Instant::now(), began.elapsed());
            info!(
                writer = self.number,
                rows_written = committed.stored(),
                messages_acknowledged = committed.entries().len(),
                duplicate = committed.duplicate(),
                dead_letters = committed.letters().len(),
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
        self.tell(&mut unacknowledged).await;
    }

    async fn tell(&self, unacknowledged: &mut Vec<EntryId>) {
        let told = self.acks.tell(unacknowledged).await;
        self.metrics.sensor_written.add(told);
    }

    /// The next batch; `None` when stopped with nothing in hand.
    async fn gather(
        &self,
        stop: &CancellationToken,
        unacknowledged: &mut Vec<EntryId>,
    ) -> Option<Vec<Item>> {
        let mut receiver = loop {
            let turn = timeout(WAIT_MAX, self.deliveries.turn());
            let turn = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                turn = turn => turn,
            };
            match turn {
                Ok(receiver) => break receiver,
                Err(_) => self.tell(unacknowledged).await,
            }
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut until: Option<Moment> = None;
        while batch.len() < self.config.batch_rows_max && bytes < BATCH_BYTES_MAX {
            let wait_until = until.unwrap_or_else(|| Moment::now() + WAIT_MAX);
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = timeout_at(wait_until, receiver.recv()) => next,
            };
            match next {
                Ok(Some(delivery)) => {
                    let item = self.read(delivery);
                    bytes += item.bytes();
                    batch.push(item);
                    until.get_or_insert_with(|| Moment::now() + self.config.batch_wait);
                }
                Ok(None) => break,
                Err(_) if until.is_some() => break,
                Err(_) => self.tell(unacknowledged).await,
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn read(&self, Delivery { entry, fields }: Delivery) -> Item {
        let (metrics, began, now_ms) = (&self.metrics, Instant::now(), now_ms());
        metrics.messages_read.add(1);
        metrics.sensor_read.add(1);
        let waited_ms = now_ms.saturating_sub(entry.id.ms());
        metrics.read.record(began, Duration::from_millis(waited_ms));
        let sensor = name::sensor(&entry.stream, &self.sensors);
        let read = reading::read(sensor, &fields, now_ms);
        fail_point!("readings-decoded");
        metrics.decode.record(began, began.elapsed());
        metrics.rows_decoded.add(1);
        metrics.decode_failed.add(read.is_err().into());
        Item {
            entry,
            fields,
            read,
        }
    }

    /// `None`: stopped, and out of time.
    async fn write(
        &mut self,
        batch: &[Item],
        stop: &CancellationToken,
    ) -> Option<ReadingsCommitted> {
        let writer = &mut self.writer;
        let attempt = Attempt { writer, batch };
        let trying = self
            .patience
            .until_committed(self.number, attempt, |_| {}, stop);
        tokio::select! {
            written = trying => written,
            () = Patience::late(stop) => None,
        }
    }

    async fn copy(&self, committed: &ReadingsCommitted) {
        let Some(mirror) = &self.mirror else { return };
        for aside in committed.letters() {
            let failed_at_ms = now_ms();
            let told = letter::fields(aside, &self.sensors, failed_at_ms);
            mirror.put(failed_at_ms, told, &aside.bytes).await;
        }
    }

    fn count(&self, batch: &[Item], committed: &ReadingsCommitted, took: Duration) {
        let (metrics, dead) = (&self.metrics, committed.letters().len() as u64);
        metrics.batches_processed.add(1);
        metrics.sensor_batches.add(1);
        metrics.rows_committed.add(batch.len() as u64);
        metrics.messages_failed.add(dead);
        metrics.sensor_failed.add(dead);
        metrics.sensor_stored.add(committed.stored());
        metrics.sensor_duplicate.add(committed.duplicate());
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        metrics.last_batch_ms.set(took_ms);
        metrics.last_commit_ms.set(now_ms());
        metrics.database_connected.store(true, Ordering::Relaxed);
    }
}
