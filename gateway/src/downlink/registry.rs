//! Which trackers are here, published for whoever routes orders.
//!
//! Why claims differ from republishing: a new login takes the field from whoever had it, because
//! the tracker has just spoken; a repetition must not, because a dead connection that nobody has
//! noticed would take the tracker back from the gateway it has moved to.
//!
//! Invariants: a field is removed only while it holds our own epoch; every
//! [`keys::REPUBLISH_INTERVAL_S`] a part of everything is written again, and everything when some
//! of that part was missing, so an emptied Redis heals; the heartbeat does not wait for the uplink.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use codec::Imei;
use contract::{Beat, GatewayId, keys};
use redis::{AsyncCommands as _, RedisError, Script, SetExpiry, SetOptions};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::link::{self, ANSWER_MAX, Link, Pace, Trouble};
use crate::clock;
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::uplink::RedisConfig;
use crate::vitals::Vitals;

/// Trackers in one call of a script, which Redis runs without a break.
const CHUNK: usize = 256;

/// Logins within such a time go together: a whole fleet comes at once after a power cut.
const GATHER: Duration = Duration::from_millis(100);

const INTERVAL: Duration = Duration::from_secs(keys::REPUBLISH_INTERVAL_S);

/// A repetition is one of so many parts: all of them, every time, would cost a metered link of a
/// hundred trackers a third of what their records cost.
const PARTS: usize = 10;

/// So few are repeated at once.
const WHOLE_MAX: usize = 16;

/// How long a stopping gateway tries to take its fields back.
const STOP_MAX: Duration = Duration::from_secs(3);

// KEYS registry, epochs. ARGV gateway, "1" to take fields from others, then IMEI and epoch of each.
// Returns how many fields were not there.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local missing = 0
for i = 3, #ARGV, 2 do
  local epoch = redis.call('HGET', KEYS[2], ARGV[i])
  if not epoch then missing = missing + 1 end
  if ARGV[2] == '1' or not epoch or epoch == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
return missing",
    )
});

// KEYS registry, epochs. ARGV IMEI and epoch of each.
static WITHDRAW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
return 0",
    )
});

/// The task that publishes.
pub struct Registry {
    gateway: GatewayId,
    redis: RedisConfig,
    retry_max: Duration,
    roster: Roster,
    metrics: Arc<Metrics>,
    /// What Redis was told and has not been taken back.
    published: HashMap<Imei, u64>,
    interval: Duration,
    nudge: Arc<Notify>,
    vitals: Option<Vitals>,
}

impl Registry {
    /// A task that publishes who is in `roster` as being at `gateway`.
    #[must_use]
    pub fn new(
        gateway: GatewayId,
        redis: RedisConfig,
        retry_max: Duration,
        roster: Roster,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            gateway,
            redis,
            retry_max,
            roster,
            metrics,
            published: HashMap::new(),
            interval: INTERVAL,
            nudge: Arc::default(),
            vitals: None,
        }
    }

    /// Its sign of life tells how the gateway is.
    #[must_use]
    pub fn telling(mut self, vitals: Vitals) -> Self {
        self.vitals = Some(vitals);
        self
    }

    /// Repeats itself at every nudge as well: who waits for orders sees at once that Redis was away
    /// or has lost what it knew.
    #[must_use]
    pub fn nudged_by(mut self, nudge: Arc<Notify>) -> Self {
        self.nudge = nudge;
        self
    }

    /// Repeats itself more often, for tests that cannot wait.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Publishes until `stop`; then takes everything back, the heartbeat last.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pace = Pace::new(self.retry_max);
        loop {
            pace.attempt();
            let trouble = tokio::select! {
                trouble = self.talk() => trouble,
                () = stop.cancelled() => break,
            };
            let what = "the registry of connections cannot be kept";
            tokio::select! {
                () = pace.wait(what, &self.redis, &trouble) => {}
                () = stop.cancelled() => break,
            }
        }
        let withdrawn = timeout(STOP_MAX, self.take_back()).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::warn!(
                "connections and heartbeat could not be taken back from Redis; they expire within {} s",
                keys::HEARTBEAT_EXPIRY_S
            );
        }
    }

    /// One connection, until it fails.
    async fn talk(&mut self) -> Trouble {
        match self.keep().await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn keep(&mut self) -> Result<std::convert::Infallible, Trouble> {
        let mut redis = link::open(&self.redis).await?;
        let mut changes = self.roster.changes();
        let mut again_at = Instant::now();
        // Who comes anew knows nothing of what is there.
        let mut turn = None;
        loop {
            if Instant::now() >= again_at {
                again_at = Instant::now() + self.interval;
                link::within(ANSWER_MAX, self.beat(&mut redis)).await?;
                self.repeat(&mut redis, turn).await?;
                turn = Some(turn.map_or(0, |turn: usize| turn.wrapping_add(1)));
            }
            self.reconcile(&mut redis).await?;
            tokio::select! {
                _ = changes.recv() => {
                    // What changed does not matter: the roster is looked at as a whole.
                    tokio::time::sleep(GATHER).await;
                    while !changes.is_empty() {
                        // Lagged or not: the roster says it all.
                        let _ = changes.try_recv();
                    }
                }
                () = sleep_until(again_at.into()) => {}
                () = self.nudge.notified() => (again_at, turn) = (Instant::now(), None),
            }
        }
    }

    async fn beat(&self, redis: &mut Link) -> Result<(), RedisError> {
        let options =
            SetOptions::default().with_expiration(SetExpiry::EX(keys::HEARTBEAT_EXPIRY_S));
        let heartbeat = keys::heartbeat(&self.gateway);
        let beat = self.vitals.as_ref().map(|vitals| vitals.beat());
        let beat = beat.unwrap_or_else(|| Beat {
            at_ms: clock::now_ms(),
            ..Beat::default()
        });
        redis
            .set_options(heartbeat, beat.to_string(), options)
            .await
    }

    /// Writes again what is still ours to say: the part whose turn it is, everything without a turn
    /// or when some of the part had gone.
    async fn repeat(&self, redis: &mut Link, turn: Option<usize>) -> Result<(), Trouble> {
        let mut all: Vec<_> = self.published.iter().map(|(i, e)| (*i, *e)).collect();
        all.sort_unstable();
        let part = turn.map_or(all.as_slice(), |turn| part(&all, turn));
        let mut missing = self.publish(redis, part, false).await?;
        if missing > 0 && part.len() < all.len() {
            missing += self.publish(redis, &all, false).await?;
        }
        if missing > 0 {
            tracing::warn!(
                missing,
                "connections were gone from Redis and are published again"
            );
        }
        Ok(())
    }

    /// Tells Redis who came and who went since the last time.
    async fn reconcile(&mut self, redis: &mut Link) -> Result<(), Trouble> {
        let here: HashMap<Imei, u64> = self.roster.connected().into_iter().collect();
        let gone = self.published.iter();
        let gone = gone.filter(|(imei, _)| !here.contains_key(imei));
        let gone: Vec<_> = gone.map(|(imei, epoch)| (*imei, *epoch)).collect();
        // Of one that came back at once the claim takes the old field's place.
        let mut came: Vec<_> = here.into_iter().collect();
        came.retain(|(imei, epoch)| self.published.get(imei) != Some(epoch));
        for chunk in gone.chunks(CHUNK) {
            link::within(ANSWER_MAX, withdraw(redis, chunk)).await?;
            for (imei, _) in chunk {
                self.published.remove(imei);
            }
        }
        for chunk in came.chunks(CHUNK) {
            self.publish(redis, chunk, true).await?;
            self.published.extend(chunk.iter().copied());
        }
        self.metrics.downlink.registered(self.published.len());
        Ok(())
    }

    async fn publish(
        &self,
        redis: &mut Link,
        seats: &[(Imei, u64)],
        takes: bool,
    ) -> Result<u64, Trouble> {
        let mut missing = 0;
        for chunk in seats.chunks(CHUNK) {
            let mut call = PUBLISH.prepare_invoke();
            call.key(keys::CONNECTIONS).key(keys::CONNECTION_EPOCHS);
            call.arg(self.gateway.as_str()).arg(u8::from(takes));
            for (imei, epoch) in chunk {
                call.arg(imei.to_string()).arg(*epoch);
            }
            missing += link::within(ANSWER_MAX, call.invoke_async::<u64>(redis)).await?;
        }
        Ok(missing)
    }

    async fn take_back(&mut self) -> Result<(), Trouble> {
        let mut redis = link::open(&self.redis).await?;
        let all: Vec<_> = self.published.iter().map(|(i, e)| (*i, *e)).collect();
        for chunk in all.chunks(CHUNK) {
            withdraw(&mut redis, chunk).await?;
        }
        // Expires at once: the gateway has no right to delete.
        let options = SetOptions::default().with_expiration(SetExpiry::PX(1));
        let heartbeat = keys::heartbeat(&self.gateway);
        let () = redis
            .set_options(heartbeat, clock::now_ms(), options)
            .await?;
        Ok(())
    }
}

/// What is repeated at this turn: never nothing of something, and everything within [`PARTS`] turns.
fn part<T>(all: &[T], turn: usize) -> &[T] {
    if all.len() <= WHOLE_MAX {
        return all;
    }
    let size = all.len().div_ceil(PARTS);
    let parts = all.len().div_ceil(size);
    all.chunks(size).nth(turn % parts).unwrap_or(all)
}

/// Removes fields that still hold these epochs.
pub(super) async fn withdraw(redis: &mut Link, seats: &[(Imei, u64)]) -> Result<(), RedisError> {
    let mut call = WITHDRAW.prepare_invoke();
    call.key(keys::CONNECTIONS).key(keys::CONNECTION_EPOCHS);
    for (imei, epoch) in seats {
        call.arg(imei.to_string()).arg(*epoch);
    }
    call.invoke_async(redis).await
}

/// Which gateway a tracker is said to be at, by which connection.
pub(super) async fn place(
    redis: &mut Link,
    imei: Imei,
) -> Result<Option<(String, u64)>, RedisError> {
    let field = imei.to_string();
    let gateway: Option<String> = redis.hget(keys::CONNECTIONS, &field).await?;
    let epoch: Option<u64> = redis.hget(keys::CONNECTION_EPOCHS, &field).await?;
    Ok(gateway.map(|gateway| (gateway, epoch.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_repeat_everything_and_never_nothing() {
        for count in [1, 15, 16, 17, 19, 20, 99, 100, 101, 10_000] {
            let all: Vec<usize> = (0..count).collect();
            let turns = |from: usize| (from..from + PARTS).flat_map(|turn| part(&all, turn));
            for from in [0, 1, 7] {
                let mut said: Vec<usize> = turns(from).copied().collect();
                said.sort_unstable();
                said.dedup();
                assert_eq!(said, all, "{count} from {from}");
            }
            for turn in 0..PARTS {
                let size = part(&all, turn).len();
                assert!(
                    size > 0 && size <= count.div_ceil(PARTS).max(WHOLE_MAX),
                    "{count}"
                );
            }
        }
        assert!(part::<u8>(&[], 3).is_empty());
    }
}
