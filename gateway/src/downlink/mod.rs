//! Orders from the cloud to trackers, and what became of them.
//!
//! Why apart from the uplink: neither waits for the other. What goes up must not stand behind a
//! blocking read, and a backlog must not delay a command.
//!
//! Invariant: the shells here decide nothing about an order; [`queue`] does.
//!
//! ```text
//! commands:outbound:<id> ─► receiver ─► queue ─► intents (durable) ─► line ─► tracker
//!                                         │◄──────── reply frame ──────┘
//! commands:responses ◄─ writer ◄─ outbox ◄┘
//! ```

mod dispatch;
mod intents;
mod line;
mod link;
mod outbox;
pub mod queue;
mod receiver;
mod recent;
pub mod registry;
mod report;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use contract::GatewayId;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use dispatch::{Downlink, TakenBack};
pub use line::{Command, Line, Saying};
pub use recent::Outcome;
pub use registry::Registry;

use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::spool::SpoolError;
use crate::uplink::RedisConfig;
use crate::vitals::Vitals;

/// How long a stopping gateway waits for Redis to take the last outcomes.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How to receive orders.
#[derive(Clone)]
pub struct DownlinkConfig {
    /// Who we are.
    pub gateway: GatewayId,
    /// Where orders come from.
    pub redis: RedisConfig,
    /// How long one read waits for an order. An order arrives at once whatever this is; asking again
    /// costs a metered link, and a silent link is known to be dead only after this and an answer's time.
    pub order_wait: Duration,
    /// How long a tracker may take to reply.
    pub reply_timeout: Duration,
    /// Longest pause between two attempts to reach Redis.
    pub retry_max: Duration,
}

/// Why no command can be sent.
#[derive(Debug, Error)]
pub enum OpenError {
    /// See to the disk.
    #[error("the log of command intents cannot be opened")]
    Intents(#[from] SpoolError),
    /// The system cannot start the thread of the intents.
    #[error("the thread of the command intents cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Downlink {
    /// Receives orders until `stop`, and writes outcomes until `done`; then hands over what waits
    /// for a few seconds. Between the two the connections end.
    pub async fn run(
        self,
        config: DownlinkConfig,
        stop: CancellationToken,
        done: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let (receiver, stopped) = (self.clone(), stop.clone());
        let receiving = config.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = receiver::receive(&receiver, &receiving) => {}
                () = stopped.cancelled() => {}
            }
        });
        tasks.close();
        tokio::select! {
            () = self.keep_time() => {}
            () = writer::write(&self, &config) => {}
            () = done.cancelled() => {}
        }
        tasks.wait().await;
        self.stop();
        let rest = async {
            tokio::select! {
                () = writer::write(&self, &config) => {}
                () = self.shared.outbox.emptied() => {}
            }
        };
        if timeout(STOP_MAX, rest).await.is_err() {
            tracing::warn!(
                responses = self.shared.outbox.len(),
                "command outcomes that Redis did not take are reported as unknown after the next start"
            );
        }
        // Its jobs are a few syncs.
        let _ = timeout(STOP_MAX, self.end()).await;
    }
}

/// The running tasks of the downlink.
pub struct Orders {
    downlink: JoinHandle<()>,
    done: CancellationToken,
    registry: Published,
}

/// The running registry, which outlives the orders: what it says stays true until the end.
pub struct Published {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Orders {
    /// Starts to take orders, until `stop`, and to publish who is in `roster`.
    #[must_use]
    pub fn start(
        downlink: Downlink,
        config: DownlinkConfig,
        roster: Roster,
        vitals: Vitals,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let (done, registry_stop) = (CancellationToken::new(), CancellationToken::new());
        let registry = Registry::new(
            config.gateway.clone(),
            config.redis.clone(),
            config.retry_max,
            roster,
            metrics,
        );
        let registry = registry.nudged_by(Arc::clone(&downlink.shared.nudge));
        let registry = registry.telling(vitals);
        Self {
            registry: Published {
                task: tokio::spawn(registry.run(registry_stop.clone())),
                stop: registry_stop,
            },
            downlink: tokio::spawn(downlink.run(config, stop, done.clone())),
            done,
        }
    }

    /// The connections are gone: returns when the last outcomes are written or given up.
    pub async fn end(self) -> Published {
        self.done.cancel();
        // A task that panicked has said so itself.
        let _ = self.downlink.await;
        self.registry
    }
}

impl Published {
    /// Takes back what was published.
    pub async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}
