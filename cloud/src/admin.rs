//! What the process says about itself over HTTP: health, readiness, status, metrics; beside the web app.
//!
//! Why `/health` looks as it does: the words are those of the founding documents, which dashboards
//! and probes already know. Nothing here changes anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::latency::Latency;
use crate::metrics::{Metrics, now_ms};
use crate::stream::memory::{self, Memory};
use crate::stream::{Intake, Link, Standing, Stream, Streams, lag};
use crate::web::Web;

/// Refusals in a row that are more than a deadlock or a restart.
pub(crate) const REFUSALS_MAX: u64 = 3;

/// Longest wait for Redis while answering.
const ASK_MAX: Duration = Duration::from_secs(1);

/// What is told of a Redis that there is none of.
const UNUSED: &str = "unused";

/// What the pages tell.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// To ask for lag and pending; `None` where there is no Redis.
    pub link: Option<Link>,
    /// To tell how many stream items wait to be decoded.
    pub intake: Intake,
    /// Which are read.
    pub streams: Streams,
    /// Sensor streams that are read; `None`: none are looked for.
    pub sensors: Option<Streams>,
    /// As which group and consumer.
    pub stream: StreamConfig,
    /// Batches written side by side.
    pub writers: usize,
    /// `timescaledb 2.x` or `postgresql`.
    pub engine: Arc<str>,
}

/// Answers until `stop`.
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// `http.listen` is taken or not ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; change http.listen, or set it to \"\" to do without")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Serves the pages and the web app until `stop`.
pub async fn serve(listener: TcpListener, admin: Admin, web: Web, stop: CancellationToken) {
    let pages = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/queue/status", get(queue))
        .route("/metrics", get(metrics))
        .with_state(admin)
        .merge(web.router());
    let stopped = async move { stop.cancelled().await };
    // Errors of single connections are theirs; the listener itself cannot fail after bind.
    let _ = axum::serve(listener, pages)
        .with_graceful_shutdown(stopped)
        .await;
}

impl Admin {
    /// Those that answered in time.
    pub(crate) async fn standings(&self, streams: Vec<Stream>) -> Vec<Standing> {
        let mut standings = Vec::new();
        let Some(link) = &self.link else {
            return standings;
        };
        // In a cluster others may answer where one does not.
        let take = |standing: Result<Standing, _>| standings.extend(standing.ok());
        let asking = lag::several(link, streams, &self.stream.group, take);
        // What is missing is not told; whether Redis answers stands beside it.
        let _ = timeout(ASK_MAX, asking).await;
        standings.sort_by(|a, b| a.stream.cmp(&b.stream));
        standings
    }

    /// Of every node of Redis; nothing where it does not say in time.
    async fn memory(&self) -> Vec<Memory> {
        let Some(link) = &self.link else {
            return Vec::new();
        };
        let told = timeout(ASK_MAX, memory::memory(link)).await;
        told.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Telemetry and sensors.
    fn all_streams(&self) -> Vec<Stream> {
        let mut streams = self.streams.all();
        streams.extend(self.sensors.iter().flat_map(Streams::all));
        streams
    }

    /// The part of sensors under the founding names; null when none are looked for.
    fn sensors(&self) -> Value {
        let metrics = &self.metrics;
        match &self.sensors {
            None => Value::Null,
            Some(streams) => json!({
                "streams": streams.all().len(),
                "lag_entries": metrics.sensor_lag.get(),
                "pending_entries": metrics.sensor_pending.get(),
                "rows_written": metrics.sensor_stored.get(),
                "duplicate": metrics.sensor_duplicate.get(),
                "trim_lost": metrics.sensor_trim_lost.get(),
                "stats": {
                    "messages_read": metrics.sensor_read.get(),
                    "messages_written": metrics.sensor_written.get(),
                    "messages_failed": metrics.sensor_failed.get(),
                    "batches_processed": metrics.sensor_batches.get(),
                    "errors": metrics.errors.get(),
                },
            }),
        }
    }

    /// How Redis and the database stand, in words.
    pub(crate) fn connections(&self) -> (&'static str, &'static str) {
        let word = |connected: bool| {
            if connected {
                "connected"
            } else {
                "disconnected"
            }
        };
        let redis = word(self.metrics.redis_connected.load(Ordering::Relaxed));
        (
            self.link.as_ref().map_or(UNUSED, |_| redis),
            word(self.metrics.database_connected.load(Ordering::Relaxed)),
        )
    }

    fn stats(&self) -> Value {
        let metrics = &self.metrics;
        json!({
            "messages_read": metrics.messages_read.get(),
            "messages_written": metrics.messages_written.get(),
            "messages_failed": metrics.messages_failed.get(),
            "batches_processed": metrics.batches_processed.get(),
            "errors": metrics.errors.get(),
        })
    }

    /// The way of a record through this process, each stage with what it took and gave so far.
    /// `queue` is what waits before it.
    fn stages(&self, lag: Option<u64>, pending: Option<u64>, oldest_s: Option<u64>) -> Value {
        let metrics = &self.metrics;
        let now = Instant::now();
        let ms = |latency: &Latency| latency.p99(now).map(|took| took.as_secs_f64() * 1_000.0);
        let store_errors = metrics.store_errors.get();
        let in_hand = metrics
            .rows_decoded
            .get()
            .saturating_sub(metrics.rows_committed.get());
        json!({
            "read": {
                "unit": "entries",
                "in": metrics.entries_delivered.get(),
                "out": metrics.messages_read.get(),
                "queue": lag,
                "oldest_s": oldest_s,
                "errors": metrics.errors.get().saturating_sub(store_errors),
                "p99_ms": ms(&metrics.read),
            },
            "decode": {
                "unit": "rows",
                "in": metrics.messages_read.get(),
                "out": metrics.rows_decoded.get(),
                "queue": self.intake.waiting(),
                "oldest_s": null,
                "errors": metrics.decode_failed.get(),
                "p99_ms": ms(&metrics.decode),
            },
            "store": {
                "unit": "rows",
                "in": metrics.rows_decoded.get(),
                "out": metrics.rows_committed.get(),
                "queue": in_hand,
                "pending_entries": pending,
                "oldest_s": null,
                "errors": store_errors,
                "p99_ms": ms(&metrics.store),
            },
        })
    }

    /// What keeps this process from its work.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        let (redis, database) = self.connections();
        if self.metrics.schema_mismatch.get() != 0 {
            Some("the tables are not the ones this program knows: run `cloud migrate up`")
        } else if database != "connected" {
            Some("no connection to the database")
        } else if self.metrics.batch_refusals.get() >= REFUSALS_MAX {
            Some("the database refuses the batch in hand; the log says why")
        } else if redis == "disconnected" {
            Some("no connection to Redis")
        } else {
            None
        }
    }
}

async fn health(State(admin): State<Admin>) -> impl IntoResponse {
    let (redis, database) = admin.connections();
    Json(json!({
        "running": true,
        "redis": redis,
        "database": database,
        "stats": admin.stats(),
        "sensors": admin.sensors(),
    }))
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.trouble() {
        None => (StatusCode::OK, Json(json!({"ready": true}))),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "reason": reason})),
        ),
    }
}

async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    let streams = admin.streams.all();
    let standings = admin.standings(streams.clone()).await;
    let answered = standings.len() == streams.len();
    let total =
        |of: fn(&Standing) -> Option<u64>| answered.then(|| lag::total(&standings, of)).flatten();
    let metrics = &admin.metrics;
    let (redis, database) = admin.connections();
    let lag = total(|standing| standing.lag_entries);
    let pending = total(|standing| standing.pending_entries);
    let oldest_s = standings.iter().filter_map(|it| it.age_s).max();
    Json(json!({
        "at_ms": now_ms(),
        "stages": admin.stages(lag, pending, oldest_s),
        "version": env!("CARGO_PKG_VERSION"),
        "redis": redis,
        "database": database,
        "engine": &*admin.engine,
        "streams": streams.iter().map(|stream| {
            let standing = standings.iter().find(|standing| standing.stream == *stream);
            standing.map_or_else(|| json!({"stream": &*stream.name}), Standing::to_json)
        }).collect::<Vec<_>>(),
        "writers": admin.writers,
        "group": admin.stream.group,
        "consumer": admin.stream.consumer,
        "lag_entries": lag,
        "pending_entries": pending,
        "records": {
            "received": metrics.records_received.get(),
            "stored": metrics.records_stored.get(),
            "quarantined": metrics.records_quarantined.get(),
            "duplicate": metrics.records_duplicate.get(),
            "dead": metrics.records_dead.get(),
            "dropped": metrics.records_dropped.get(),
            "late": metrics.records_late.get(),
        },
        "device_messages": metrics.device_messages_stored.get(),
        "dead_letters": metrics.messages_failed.get(),
        "left_for_newer": metrics.left_for_newer.get(),
        "claimed": metrics.claimed.get(),
        "deleted_unread": metrics.deleted_unread.get(),
        "trim_lost": metrics.trim_lost.get(),
        "group_lost": metrics.group_lost.get(),
        "last_commit_ms": match metrics.last_commit_ms.get() {
            0 => Value::Null,
            at => Value::from(at),
        },
        "last_batch_ms": metrics.last_batch_ms.get(),
        "trouble": admin.trouble(),
        "sensors": admin.sensors(),
        "stats": admin.stats(),
    }))
}

/// What waits in Redis; streams that did not answer in time are not told.
async fn queue(State(admin): State<Admin>) -> impl IntoResponse {
    let streams = admin.all_streams();
    let asked = streams.len();
    let standings = admin.standings(streams).await;
    let metrics = &admin.metrics;
    let told: Vec<Value> = standings.iter().map(Standing::to_json).collect();
    let unfinished = |standing: &Standing| Some(standing.lag_entries? + standing.pending_entries?);
    let queues: serde_json::Map<String, Value> = standings
        .iter()
        .map(|it| {
            (
                it.stream.name.to_string(),
                json!({
                    "pending": unfinished(it),
                    "unread": it.lag_entries,
                    "unacknowledged": it.pending_entries,
                    "oldest_seconds": it.age_s,
                }),
            )
        })
        .collect();
    let is_all = standings.len() == asked;
    Json(json!({
        "total_pending": is_all.then(|| lag::total(&standings, unfinished)).flatten(),
        "queues": queues,
        "processor_stats": {
            "processed": metrics.messages_written.get(),
            "failed": metrics.messages_failed.get(),
            "errors": metrics.errors.get(),
            "batches": metrics.batches_processed.get(),
            "rows": metrics.rows_committed.get(),
            "last_batch_ms": metrics.last_batch_ms.get(),
        },
        "group": admin.stream.group,
        "streams_read": asked,
        "sensors": admin.sensors(),
        "streams": told,
        "deleted_unread": metrics.deleted_unread.get(),
        "trim_lost": metrics.trim_lost.get(),
        "group_lost": metrics.group_lost.get(),
        "left_for_newer": metrics.left_for_newer.get(),
    }))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let standings = admin.standings(admin.streams.all()).await;
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let text = admin.metrics.to_prometheus(&standings);
    (kind, text + &memory::to_prometheus(&admin.memory().await))
}
