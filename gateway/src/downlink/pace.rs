//! How long to wait before Redis is tried again, and what to say about it.

use std::time::{Duration, Instant};

use redis::RedisError;
use thiserror::Error;

use crate::chain::chain;
use crate::uplink::{ConnectError, RedisConfig, remedy};

/// First pause; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Why a connection was given up.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("Redis refused or did not answer")]
    Redis(#[from] RedisError),
}

/// Pauses that grow while nothing works.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    longest: Duration,
    worked_since: Instant,
}

impl Pace {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            pause: PAUSE_MIN,
            longest,
            worked_since: Instant::now(),
        }
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self) {
        self.worked_since = Instant::now();
    }

    /// Says what is wrong with `what`, and waits.
    pub(super) async fn wait(&mut self, what: &str, redis: &RedisConfig, trouble: &Trouble) {
        if self.worked_since.elapsed() > self.longest {
            self.pause = PAUSE_MIN; // it had worked for a while
        }
        let hint = match trouble {
            Trouble::Redis(error) => remedy(error),
            Trouble::Connect(_) => "trying again.",
        };
        let retry_in_ms = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            url = %redis.shown(),
            error = chain(trouble),
            retry_in_ms,
            "{what}: {hint}"
        );
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest);
    }
}
