//! What a refusal of the database means for whoever has a batch in hand: what is said, how long to
//! wait, and when to give up.
//!
//! Why apart from the processors: telemetry and sensors meet the same database, and an operator must
//! read the same words whichever of them met it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::store::{Database, Next, StoreError, migrate};
use crate::stream::consumer::chained;

/// Deadlocks in a row that are tried again without a pause.
const AT_ONCE_MAX: u32 = 5;

/// How often to look whether somebody applied the missing migration.
const SCHEMA_PAUSE: Duration = Duration::from_secs(30);

/// Refusals in a row after which a batch is cut into twice as many transactions.
const REFUSALS_PER_PART: u32 = 3;

/// After a stop: how long the batch in hand may still take.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A batch on its way into the database.
pub trait Attempt: Send {
    /// What the COMMIT gives.
    type Committed;
    /// Tries once, in `parts` transactions.
    fn once(
        &mut self,
        parts: usize,
    ) -> impl Future<Output = Result<Self::Committed, StoreError>> + Send;
    /// Transactions that it can be cut into.
    fn parts_max(&self) -> usize;
}

/// Judges refusals.
#[derive(Clone, Debug)]
pub struct Patience {
    /// To ask about migrations.
    pub database: Database,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Patience {
    /// Ends when a batch in hand has had its time after the stop: one deadline from that moment on,
    /// however many attempts it cuts through.
    pub async fn late(stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(STOP_MAX).await;
    }

    /// Tries for writer `number` until the database takes the batch, and tells `refused` of every
    /// refusal. `None`: stopped, and no use in trying again.
    pub async fn until_committed<A: Attempt>(
        &self,
        number: usize,
        mut batch: A,
        refused: impl Fn(&StoreError) + Send,
        stop: &CancellationToken,
    ) -> Option<A::Committed> {
        let mut backoff = Backoff::default();
        let (mut in_a_row, mut parts) = (0, 1);
        loop {
            let failure = match batch.once(parts).await {
                Ok(committed) => {
                    self.metrics.database(true);
                    self.metrics.writer_schema(number, false);
                    self.metrics.writer_refusals(number, 0);
                    return Some(committed);
                }
                Err(failure) => failure,
            };
            refused(&failure);
            in_a_row += 1;
            self.metrics.writer_refusals(number, in_a_row.into());
            parts = Self::parts(&failure, in_a_row, parts, batch.parts_max());
            let was_stopping = stop.is_cancelled();
            let pause = self.judge(number, &failure, in_a_row, &mut backoff).await;
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

    /// Says what happened to writer `number`, `in_a_row` times by now, and how long to wait.
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

    /// In how many transactions to try next what was refused `in_a_row` times: the server is there
    /// and keeps saying no to the whole, so ask for less at a time.
    fn parts(failure: &StoreError, in_a_row: u32, parts: usize, most: usize) -> usize {
        let is_due = in_a_row.is_multiple_of(REFUSALS_PER_PART);
        match is_due && matches!(failure, StoreError::Refused { .. }) {
            true => (parts * 2).min(most.max(1)),
            false => parts,
        }
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
}
