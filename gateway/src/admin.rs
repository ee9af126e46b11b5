//! What the gateway says about itself over HTTP, for people and for `tests`.
//!
//! `/health` 200 while records can be kept, 503 when not; `/status` one JSON object; `/metrics`
//! Prometheus text. No secrets, no IMEIs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use contract::GatewayId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::spool::Spool;

/// What the pages read.
#[derive(Clone)]
pub struct Admin {
    /// Who we are.
    pub gateway: GatewayId,
    /// For its usage.
    pub spool: Spool,
    /// For everything else.
    pub metrics: Arc<Metrics>,
}

impl Admin {
    /// Serves until `stop`.
    /// # Errors
    /// What the system says when the socket fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let pages = Router::new()
            .route("/health", get(health))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, pages)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }

    /// The object that `/status` returns.
    #[must_use]
    pub fn status(&self) -> Value {
        let usage = self.spool.usage();
        let mut status = json!({
            "gateway": self.gateway.as_str(),
            "spool": {
                "used_bytes": usage.used_bytes,
                "file_bytes": usage.file_bytes,
                "bytes_max": usage.bytes_max,
                "backlog": usage.backlog(),
                "records_durable": usage.records_durable,
                "commits": usage.commits,
                "days_left": self.spool.days_left(&usage),
            },
            "uplink": self.metrics.uplink(),
            "downlink": self.metrics.downlink.status(),
        });
        let devices = serde_json::to_value(self.metrics.devices()).unwrap_or_default();
        if let (Value::Object(status), Value::Object(devices)) = (&mut status, devices) {
            status.extend(devices);
        }
        status
    }
}

/// Binds the address of the pages.
/// # Errors
/// What the system says.
pub async fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// 503 once storage failed for good: nothing is acknowledged until a restart.
async fn health(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let failed = admin.spool.has_failed();
    let code = if failed {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let spool = if failed { "failed" } else { "ok" };
    (code, Json(json!({ "running": true, "spool": spool })))
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.status())
}

async fn metrics(State(admin): State<Admin>) -> String {
    let usage = admin.spool.usage();
    let days_left = admin.spool.days_left(&usage);
    admin.metrics.to_prometheus(usage, days_left)
}
