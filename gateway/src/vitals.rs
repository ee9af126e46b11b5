//! How the gateway is, as its sign of life tells those far away.

use std::sync::Arc;

use contract::Beat;

use crate::clock;
use crate::metrics::Metrics;
use crate::spool::Spool;

/// Knows it.
#[derive(Clone)]
pub struct Vitals {
    spool: Spool,
    metrics: Arc<Metrics>,
}

impl Vitals {
    /// Of this spool and this gateway's figures.
    #[must_use]
    pub fn new(spool: Spool, metrics: Arc<Metrics>) -> Self {
        Self { spool, metrics }
    }

    /// Now.
    #[must_use]
    pub fn beat(&self) -> Beat {
        let usage = self.spool.usage();
        Beat {
            at_ms: clock::now_ms(),
            left_days: self.spool.days_left(&usage),
            certificate_left_days: self.metrics.uplink_link.certificate_left_days(),
            spool_used_bytes: Some(usage.used_bytes),
            spool_bytes_max: Some(usage.bytes_max),
            frames_waiting: Some(usage.backlog()),
        }
    }
}
