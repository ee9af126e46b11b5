//! Takes over what a dead consumer left behind.
//!
//! Invariant: only items that were idle for a minute, far longer than a batch takes; an item that
//! is inside our own processor is not brought in twice.

use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::intake::{Delivery, Intake};
use super::link::{Link, RedisFailure};
use super::{consumer::chained, reply};
use crate::config::StreamConfig;
use crate::metrics::Metrics;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(15);

/// Younger items may still be worked on.
const IDLE_MIN: Duration = Duration::from_secs(60);

/// Items per call.
const CLAIM_COUNT: usize = 100;

/// Looks for abandoned items until `stop`.
pub async fn run(
    link: Link,
    config: StreamConfig,
    intake: Intake,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let claiming = claim(&link, &config, &intake, &metrics);
        let claimed = tokio::select! {
            () = stop.cancelled() => return,
            claimed = claiming => claimed,
        };
        match claimed {
            Ok(()) => {}
            // The reader says it and creates the group.
            Err(failure) if failure.code() == Some("NOGROUP") => {}
            Err(failure) => {
                metrics.error();
                debug!(error = chained(&failure), "cannot look for abandoned items");
            }
        }
    }
}

async fn claim(
    link: &Link,
    config: &StreamConfig,
    intake: &Intake,
    metrics: &Metrics,
) -> Result<(), RedisFailure> {
    let mut from = "0-0".to_owned();
    loop {
        let mut command = cmd("XAUTOCLAIM");
        command
            .arg(&config.name)
            .arg(&config.group)
            .arg(&config.consumer);
        command
            .arg(IDLE_MIN.as_millis() as u64)
            .arg(&from)
            .arg("COUNT")
            .arg(CLAIM_COUNT);
        let answer: Value = link.ask("XAUTOCLAIM", &command).await?;
        let Some((next, items, deleted)) = reply::auto_claim(&answer) else {
            return Ok(());
        };
        if deleted > 0 {
            metrics.deleted_unread.add(deleted as u64);
            warn!(
                deleted,
                "pending items were deleted by somebody before they were stored"
            );
        }
        if !items.is_empty() {
            metrics.claimed.add(items.len() as u64);
            info!(items = items.len(), "took over abandoned items");
        }
        for (id, fields) in items {
            if let Some(fields) = fields
                && !intake.bring(Delivery { id, fields }).await
            {
                return Ok(());
            }
        }
        if next.to_string() == "0-0" {
            return Ok(());
        }
        from = next.to_string();
    }
}
