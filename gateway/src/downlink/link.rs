//! The way to Redis, and patience with it.
//!
//! Why timeouts of our own: what a connection waits for by itself suits full pipelines on a slow
//! link; here a blocking read must wait longer than it blocks, and everything else less.

use std::time::{Duration, Instant};

use redis::RedisError;
use thiserror::Error;
use tokio::time::timeout;

use crate::chain::chain;
use crate::uplink::{Cause, ConnectError, RedisConfig};

/// A connection; nothing on it may block unless it is the receiver's.
pub(super) use crate::uplink::Link;

/// For everything that does not block.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// First pause; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Why a connection was given up.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("Redis refused or did not answer")]
    Redis(#[from] RedisError),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// Opens a connection.
pub(super) async fn open(redis: &RedisConfig) -> Result<Link, Trouble> {
    within(ANSWER_MAX, redis.link()).await
}

/// Waits so long for answers. What was asked may have been done all the same.
pub(super) async fn within<T, E: Into<Trouble>>(
    longest: Duration,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    let answer = timeout(longest, asking).await;
    answer
        .map_err(|_| Trouble::Silent(longest))?
        .map_err(Into::into)
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
            Trouble::Redis(error) => Cause::of(error).remedy(),
            Trouble::Connect(error) => error.cause().remedy(),
            Trouble::Silent(_) => Cause::Timeout.remedy(),
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
