//! Looks after sensor streams: takes over what dead consumers left, and removes what is old where
//! that was asked for.
//!
//! Why nothing is removed unless asked for: these streams are somebody else's, who may read them too
//! or keep them short already. Telemetry streams are ours.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::claimer::{Claimer, LOOKS};
use crate::stream::consumer::chained;
use crate::stream::{Intake, Link, Stream, Streams, trimmer};

/// How often to remove what is old.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// The claimer of one sensor stream. No entry there is for a newer reader: they have no versions.
pub(super) fn claimer(
    link: &Link,
    stream: &Stream,
    config: &StreamConfig,
    intake: &Intake,
    metrics: &Arc<Metrics>,
) -> Claimer {
    Claimer {
        link: link.clone(),
        stream: stream.clone(),
        config: config.clone(),
        intake: intake.clone(),
        metrics: metrics.clone(),
        newer: |_| None,
    }
}

/// Looks for abandoned items until `stop`.
pub async fn claims(
    link: Link,
    streams: Streams,
    config: StreamConfig,
    intake: Intake,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let looking = async {
        loop {
            tokio::time::sleep(config.claim_after / LOOKS).await;
            for stream in streams.all() {
                let claimer = claimer(&link, &stream, &config, &intake, &metrics);
                claimer.once().await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

/// Removes what every group has acknowledged and what is older than `keep`, until `stop`.
pub async fn trims(
    link: Link,
    streams: Streams,
    keep: Duration,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let trimming = async {
        loop {
            tokio::time::sleep(TRIM_INTERVAL.min(keep.max(Duration::from_secs(1)))).await;
            for stream in streams.all() {
                match trimmer::trim(&link, &stream.name, keep).await {
                    Ok(count) => metrics.trimmed.add(count),
                    Err(failure) => {
                        metrics.error();
                        warn!(stream = %stream.name, error = chained(&failure), "cannot trim the stream");
                    }
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = trimming => {}
    }
}
