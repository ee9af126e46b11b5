//! Removes from Redis what dead processes left behind: registry fields of gateways without a
//! heartbeat, consumers that come no more, orders that were released.
//!
//! Why a gateway is looked at twice: an emptied Redis has no heartbeats either, and they are back
//! within [`keys::REPUBLISH_INTERVAL_S`].
//!
//! Invariants: a field is removed only while it holds the gateway and the epoch it was judged by; a
//! consumer with pending entries is never deleted. Both are compared and deleted in one script.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::Imei;
use contract::{GatewayId, keys};
use redis::cmd;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::outbound;
use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::consumer::chained;
use crate::stream::{Link, RedisFailure, Streams, trimmer};

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);

/// A gateway without a heartbeat for longer did not just lose it with everything else in Redis.
const DEAD_AFTER: Duration = Duration::from_secs(keys::REPUBLISH_INTERVAL_S + 5);

/// A consumer that asked for nothing for longer is gone; one that is not gets its name back with its
/// next read.
const CONSUMER_IDLE_MIN: Duration = Duration::from_secs(3_600);

/// Fields in one step of a scan, or in one call of a script.
const CHUNK: usize = 256;

// KEYS registry, epochs. ARGV gateway, then IMEI and epoch ('' for none) of each.
// Returns how many fields were removed.
const REMOVE_FIELDS: &str = r"
local removed = 0
for i = 2, #ARGV, 2 do
  local epoch = redis.call('HGET', KEYS[2], ARGV[i]) or ''
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[1] and epoch == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
    removed = removed + 1
  end
end
return removed
";

// KEYS stream. ARGV group, own name, least idle time in ms. Returns how many were removed.
const REMOVE_CONSUMERS: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local has_group = false
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  for i = 1, #group, 2 do
    if group[i] == 'name' and group[i + 1] == ARGV[1] then has_group = true end
  end
end
if not has_group then return 0 end
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields['name'] ~= ARGV[2] and fields['pending'] == 0
     and fields['idle'] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
    removed = removed + 1
  end
end
return removed
";

/// Whose consumers are looked at.
pub(super) struct Groups {
    /// Every telemetry stream that is being read.
    pub(super) telemetry: Streams,
    /// As whom.
    pub(super) reader: StreamConfig,
    /// As whom the responses are read.
    pub(super) responses: StreamConfig,
}

impl Groups {
    fn all(&self) -> Vec<(Arc<str>, &StreamConfig)> {
        let telemetry = self.telemetry.all().into_iter();
        let mut all: Vec<_> = telemetry
            .map(|stream| (stream.name, &self.reader))
            .collect();
        all.push((keys::COMMAND_RESPONSES.into(), &self.responses));
        all
    }
}

/// Cleans until `stop`.
pub(super) async fn run(
    link: Link,
    groups: Groups,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut absent = Absent::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let cleaning = clean(&link, &groups, &mut absent, &metrics);
        let cleaned = tokio::select! {
            () = stop.cancelled() => return,
            cleaned = cleaning => cleaned,
        };
        if let Err(failure) = cleaned {
            metrics.error();
            debug!(error = chained(&failure), "cannot clean up in Redis");
        }
    }
}

async fn clean(
    link: &Link,
    groups: &Groups,
    absent: &mut Absent,
    metrics: &Metrics,
) -> Result<(), RedisFailure> {
    let registered = registered(link).await?;
    let gateways: HashSet<GatewayId> = registered.keys().cloned().collect();
    let alive = outbound::alive(link, gateways.clone()).await?;
    for gateway in absent.dead(&gateways, &alive, Instant::now()) {
        let imeis = registered.get(&gateway).map_or(&[][..], Vec::as_slice);
        let removed = remove_fields(link, &gateway, imeis).await?;
        metrics.registry_fields_removed.add(removed);
        info!(%gateway, fields = removed, "removed the registry fields of a gateway that gives no sign of life");
    }
    for (stream, config) in groups.all() {
        let removed = remove_consumers(link, &stream, config, CONSUMER_IDLE_MIN).await?;
        metrics.consumers_removed.add(removed);
        if removed > 0 {
            info!(%stream, consumers = removed, "removed idle consumers");
        }
    }
    // Orders that their gateway has released; behind its own reading, as with every stream.
    for gateway in &gateways {
        let outbound = keys::commands_outbound(gateway);
        trimmer::trim(link, &outbound, groups.reader.keep).await?;
    }
    Ok(())
}

/// Since when gateways that the registry names give no sign of life.
#[derive(Debug, Default)]
struct Absent(HashMap<GatewayId, Instant>);

impl Absent {
    /// Those that have not for [`DEAD_AFTER`].
    fn dead(
        &mut self,
        registered: &HashSet<GatewayId>,
        alive: &HashSet<GatewayId>,
        now: Instant,
    ) -> Vec<GatewayId> {
        self.0
            .retain(|gateway, _| registered.contains(gateway) && !alive.contains(gateway));
        for gateway in registered.difference(alive) {
            self.0.entry(gateway.clone()).or_insert(now);
        }
        let dead = self
            .0
            .iter()
            .filter(|(_, since)| now - **since >= DEAD_AFTER);
        dead.map(|(gateway, _)| gateway.clone()).collect()
    }
}

/// Who is registered where.
/// # Errors
/// [`RedisFailure`].
pub async fn registered(link: &Link) -> Result<HashMap<GatewayId, Vec<Imei>>, RedisFailure> {
    let mut registered: HashMap<GatewayId, Vec<Imei>> = HashMap::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd("HSCAN");
        scan.arg(keys::CONNECTIONS)
            .arg(cursor)
            .arg("COUNT")
            .arg(CHUNK);
        let (next, fields): (u64, Vec<String>) = link.ask("HSCAN", &scan).await?;
        for pair in fields.chunks_exact(2) {
            // Whoever wrote something else may have a reason.
            if let (Ok(imei), Ok(gateway)) = (pair[0].parse(), pair[1].parse()) {
                registered.entry(gateway).or_default().push(imei);
            }
        }
        if next == 0 {
            return Ok(registered);
        }
        cursor = next;
    }
}

/// Removes the fields of these trackers that still name `gateway` with the epoch they have now.
/// Returns how many.
/// # Errors
/// [`RedisFailure`].
pub async fn remove_fields(
    link: &Link,
    gateway: &GatewayId,
    imeis: &[Imei],
) -> Result<u64, RedisFailure> {
    let mut removed = 0;
    for chunk in imeis.chunks(CHUNK) {
        let mut ask = cmd("HMGET");
        ask.arg(keys::CONNECTION_EPOCHS);
        for imei in chunk {
            ask.arg(imei.to_string());
        }
        let epochs: Vec<Option<String>> = link.ask("HMGET", &ask).await?;
        // Asked after the epochs: a gateway that came back meanwhile has written its heartbeat first.
        let one = HashSet::from([gateway.clone()]);
        if !outbound::alive(link, one).await?.is_empty() {
            return Ok(removed);
        }
        let mut call = cmd("EVAL");
        call.arg(REMOVE_FIELDS).arg(2);
        call.arg(keys::CONNECTIONS).arg(keys::CONNECTION_EPOCHS);
        call.arg(gateway.as_str());
        for (imei, epoch) in chunk.iter().zip(epochs) {
            call.arg(imei.to_string()).arg(epoch.unwrap_or_default());
        }
        removed += link.ask::<u64>("EVAL", &call).await?;
    }
    Ok(removed)
}

/// Removes consumers of the group of `config` other than our own that have nothing pending and asked
/// for nothing for `idle_min`. Returns how many.
/// # Errors
/// [`RedisFailure`].
pub async fn remove_consumers(
    link: &Link,
    stream: &str,
    config: &StreamConfig,
    idle_min: Duration,
) -> Result<u64, RedisFailure> {
    let mut call = cmd("EVAL");
    call.arg(REMOVE_CONSUMERS).arg(1).arg(stream);
    call.arg(&config.group).arg(&config.consumer);
    call.arg(u64::try_from(idle_min.as_millis()).unwrap_or(u64::MAX));
    link.ask("EVAL", &call).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gateway_is_dead_when_it_stays_away_longer_than_a_flushed_redis_takes_to_heal() {
        let start = Instant::now();
        let (a, b): (GatewayId, GatewayId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let both = HashSet::from([a.clone(), b.clone()]);
        let only_b = HashSet::from([b.clone()]);
        let mut absent = Absent::default();
        assert!(absent.dead(&both, &only_b, start).is_empty());
        let almost = start + DEAD_AFTER - Duration::from_secs(1);
        assert!(absent.dead(&both, &only_b, almost).is_empty());
        assert_eq!(absent.dead(&both, &only_b, start + DEAD_AFTER), [a]);
        // Seen once, it begins anew.
        assert!(absent.dead(&both, &both, start + DEAD_AFTER).is_empty());
        assert!(absent.dead(&both, &only_b, start + DEAD_AFTER).is_empty());
    }
}
