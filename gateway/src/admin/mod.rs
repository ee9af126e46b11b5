//! What the gateway says about itself over HTTP, for people, for Prometheus and for whoever taps.
//!
//! Invariants: a GET changes nothing, and what changes something is a POST behind the lock of
//! [`change`]; nothing may be cached; no secrets; an IMEI is shortened unless `log.imei` is `full`;
//! a page references nothing outside itself.

pub mod change;
mod oldest;
mod pages;
mod parts;
mod tap;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{from_fn, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use contract::GatewayId;
use hardware::power::Power;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::logbook::ImeiStyle;
use crate::metrics::{Metrics, process};
use crate::panel::Phase;
use crate::spool::Spool;
use oldest::Oldest;
pub use parts::Parts;

/// The page may load nothing at all, and ask this gateway alone.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the pages read.
#[derive(Clone)]
pub struct Admin {
    gateway: GatewayId,
    spool: Spool,
    metrics: Arc<Metrics>,
    imei: ImeiStyle,
    oldest: Arc<Oldest>,
    started: Instant,
    stop: CancellationToken,
    parts: Parts,
}

impl Admin {
    /// Pages of this gateway, until `stop`.
    #[must_use]
    pub fn new(
        gateway: GatewayId,
        spool: Spool,
        metrics: Arc<Metrics>,
        imei: ImeiStyle,
        stop: CancellationToken,
    ) -> Self {
        Self {
            gateway,
            spool,
            metrics,
            imei,
            oldest: Arc::default(),
            started: Instant::now(),
            stop,
            parts: Parts::default(),
        }
    }

    /// Shows these as well.
    #[must_use]
    pub fn with(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Serves until stopped.
    /// # Errors
    /// What the system says when the socket fails.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let stop = self.stop.clone();
        let routes = self.routes();
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }

    fn routes(self) -> Router {
        let changes = Router::new()
            .route("/commands/cancel", post(change::cancel))
            .route("/access/learn", post(change::learn))
            .route_layer(from_fn(change::guard));
        Router::new()
            .merge(changes)
            .route("/", get(pages::page))
            .route("/health", get(pages::health))
            .route("/ready", get(pages::ready))
            .route("/status", get(pages::status))
            .route("/devices", get(pages::devices))
            .route("/events", get(pages::events))
            .route("/commands", get(pages::commands))
            .route("/metrics", get(pages::metrics))
            .route("/support", get(pages::support))
            .route("/tap", get(tap::tap))
            .layer(map_response(guarded))
            .with_state(self)
    }

    /// The object that `/status` returns.
    pub async fn status(&self) -> Value {
        let now_ms = clock::now_ms();
        let usage = self.spool.usage();
        let oldest_ms = self.oldest.received_at_ms(&self.spool, &usage).await;
        let mut status = json!({
            "gateway": self.gateway.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "now_ms": now_ms,
            "uptime_s": self.started.elapsed().as_secs(),
            "ready": self.waits_for().is_none(),
            "waits_for": self.waits_for(),
            "stuck": self.metrics.panel.progress.look(Instant::now()).map(|stuck| stuck.stage),
            "memory_bytes": process::memory_bytes(),
            "devices_known": self.metrics.panel.devices.count(),
            "spool": {
                "used_bytes": usage.used_bytes,
                "file_bytes": usage.file_bytes,
                "bytes_max": usage.bytes_max,
                "backlog": usage.backlog(),
                "records_durable": usage.records_durable,
                "envelopes_lost": usage.envelopes_lost,
                "commits": usage.commits,
                "days_left": self.spool.days_left(&usage),
                "oldest_waiting_ms": oldest_ms.map(|ms| now_ms.saturating_sub(ms)),
                "has_failed": self.spool.has_failed(),
            },
            "uplink": self.metrics.uplink(),
            "board": self.metrics.panel.board.status(),
            "downlink": self.metrics.downlink.status(),
        });
        #[cfg(feature = "ingest")]
        {
            status["ingest"] = self.metrics.ingest.status();
        }
        let devices = serde_json::to_value(self.metrics.devices()).unwrap_or_default();
        if let (Value::Object(status), Value::Object(devices)) = (&mut status, devices) {
            status.extend(devices);
        }
        self.parts.extend(&mut status, self.imei);
        status
    }

    /// Why trackers should not be sent here now.
    fn waits_for(&self) -> Option<&'static str> {
        match self.metrics.panel.phase() {
            Phase::Starting => Some("the doors for trackers to open"),
            Phase::Stopping => Some("its end: the gateway is stopping"),
            Phase::Serving if self.spool.has_failed() => {
                Some("a restart: storage failed, nothing is acknowledged")
            }
            Phase::Serving if self.spool.supply().power() == Power::Failing => {
                Some("its supply, which fails: nothing is acknowledged")
            }
            Phase::Serving => None,
        }
    }
}

/// Binds the address of the pages, and says so when others than this machine can reach it.
/// # Errors
/// What the system says.
pub async fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(addr).await?;
    if !addr.ip().to_canonical().is_loopback() {
        tracing::warn!(%addr, "the pages show positions and ask for no password: whoever reaches http.listen sees them; use 127.0.0.1, or keep the port behind a firewall");
    }
    Ok(listener)
}

/// The headers that every answer carries.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::{Append, FullPolicy, SpoolConfig};
    use contract::{Device, Lane, Transport};
    use std::time::Duration;

    fn admin(dir: &std::path::Path) -> Admin {
        let gateway = GatewayId::new("shown").unwrap();
        let config = SpoolConfig {
            dir: dir.to_owned(),
            gateway: gateway.clone(),
            bytes_max: 8 << 20,
            full: FullPolicy::Refuse,
            commit_interval_min: Duration::ZERO,
        };
        let (spool, _) = Spool::open(config, [1, 2, 3]).unwrap();
        let stop = CancellationToken::new();
        Admin::new(gateway, spool, Arc::default(), ImeiStyle::Short, stop)
    }

    #[test]
    fn it_is_ready_between_the_opening_of_the_doors_and_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let admin = admin(dir.path());
        assert_eq!(admin.waits_for(), Some("the doors for trackers to open"));
        admin.metrics.panel.serving();
        assert_eq!(admin.waits_for(), None);
        admin.metrics.panel.stopping();
        assert!(admin.waits_for().unwrap().contains("stopping"));
    }

    #[tokio::test]
    async fn the_oldest_frame_of_all_lanes_is_found_and_remembered_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let admin = admin(dir.path());
        assert_eq!(
            admin.status().await["spool"]["oldest_waiting_ms"],
            Value::Null
        );
        let keep = async |lane, received_at_ms| {
            let append = Append {
                kind: contract::Kind::Teltonika,
                device: Device::Text("test".to_owned()),
                transport: Transport::Tcp,
                lane,
                received_at_ms,
                record_count: 1,
                panic: false,
                bytes: vec![0; 10],
            };
            admin.spool.append(append).await.unwrap();
        };
        let asked = async |oldest: &Oldest| {
            let usage = admin.spool.usage();
            oldest.received_at_ms(&admin.spool, &usage).await
        };
        keep(Lane::Normal, 5_000).await;
        keep(Lane::High, 7_000).await;
        let oldest = Oldest::default();
        assert_eq!(asked(&oldest).await, Some(5_000));
        keep(Lane::Bulk, 3_000).await;
        assert_eq!(asked(&oldest).await, Some(5_000), "remembered");
        assert_eq!(asked(&Oldest::default()).await, Some(3_000));
    }
}
