//! Work that no batch waits for: deleting what is too old, merging what is settled, guessing
//! families.
//!
//! Invariant: nothing here can fail the process or hold up a batch; what does not work now is tried
//! again at the next turn.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::PolicyConfig;
use crate::metrics::Metrics;
use crate::normalise::dictionary::{self, CSV};
use crate::normalise::family::Documented;
use crate::store::retention::{self, Deleted};
use crate::store::{Database, StoreError, compaction, families};
use crate::stream::consumer::chained;

/// Between two turns.
const INTERVAL: Duration = Duration::from_secs(600);

/// Between two pieces of one turn, so that batches get their share of the disk.
const PIECE_PAUSE: Duration = Duration::from_millis(200);

/// Works until `stop`, first at once and then every ten minutes.
pub async fn run(
    database: Database,
    config: PolicyConfig,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let meanings = dictionary::read(CSV).expect("a test reads the file that is compiled in");
    let documented = Documented::new(&meanings);
    drop(meanings);
    loop {
        let turn = async {
            told(&metrics, "deleting", delete(&database, &config).await);
            told(&metrics, "merging", merge(&database).await);
            told(&metrics, "guessing", guess(&database, &documented).await);
            tokio::time::sleep(INTERVAL).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = turn => {}
        }
    }
}

fn told(metrics: &Metrics, doing: &'static str, done: Result<(), StoreError>) {
    if let Err(error) = done {
        metrics.error();
        warn!(
            error = chained(&error),
            doing, "housekeeping failed; it is tried again in ten minutes"
        );
    }
}

async fn delete(database: &Database, config: &PolicyConfig) -> Result<(), StoreError> {
    let mut total = Deleted::default();
    loop {
        let piece = retention::delete_some(database, config).await?;
        total.positions += piece.positions;
        total.frames += piece.frames;
        total.readings += piece.readings;
        if !piece.more {
            break;
        }
        tokio::time::sleep(PIECE_PAUSE).await;
    }
    if total != Deleted::default() {
        info!(
            positions = total.positions,
            frames = total.frames,
            readings = total.readings,
            "deleted what is older than store.retention, frames.retention and sensors.retention"
        );
    }
    Ok(())
}

async fn merge(database: &Database) -> Result<(), StoreError> {
    let rows = compaction::compact(database).await?;
    if rows > 0 {
        debug!(rows, "merged what is settled");
    }
    Ok(())
}

async fn guess(database: &Database, documented: &Documented) -> Result<(), StoreError> {
    while !families::was_last(families::guess_some(database, documented).await?) {
        tokio::time::sleep(PIECE_PAUSE).await;
    }
    Ok(())
}
