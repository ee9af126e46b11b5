//! A spool and an uplink in this process, against a real Redis: what tests of the uplink stand on.
//!
//! The cloud's part (reading, settling) is played by hand, entry by entry, so that each test decides
//! what counts as stored. Invariant: an envelope's bytes are its number, so that what arrived, in
//! which order and how often, can be read from the streams alone.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::{Device, Entry, GatewayId, Kind, Lane, Payload, SpoolId, Transport, keys};
use gateway::metrics::Metrics;
use gateway::spool::{Append, FullPolicy, Spool, SpoolConfig};
use gateway::uplink::{RedisConfig, Reload, Uplink, UplinkConfig};
use redis::AsyncCommands as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::streams::StreamRangeReply;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::servers::{ADMIN, Redis, RedisAccess, RedisOptions};
use crate::tables::eventually;

/// Where entries go.
pub const STREAM: &str = keys::STREAM_TELTONIKA;

/// The gateway id of an [`Edge`].
pub const EDGE: &str = "edge-test";

/// A spool with an uplink on it.
pub struct Edge {
    /// What is to be sent.
    pub spool: Spool,
    /// What the uplink says.
    pub metrics: Arc<Metrics>,
    /// Makes the uplink look at its certificates.
    pub reload: Reload,
    stop: CancellationToken,
    uplink: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Drop for Edge {
    /// A failed test says what the uplink last complained about.
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking() || !self.status()["trouble"].is_null() {
            eprintln!("uplink: {}", self.status());
        }
    }
}

/// The gateway id of an [`Edge`], as a name.
///
/// # Panics
/// Never: it is a plain name.
#[must_use]
pub fn gateway_id() -> GatewayId {
    GatewayId::new(EDGE).expect("a plain name")
}

/// A Redis that knows the [`Edge`].
///
/// # Errors
/// When it does not start.
pub async fn redis(config: &[&str]) -> Result<Redis> {
    Redis::start(RedisOptions {
        gateways: vec![EDGE.to_owned()],
        config: config.iter().map(|&line| line.to_owned()).collect(),
        ..RedisOptions::default()
    })
    .await
}

/// How an [`Edge`] sends to `redis`: quickly, and giving up soon.
#[must_use]
pub fn config(redis: RedisConfig) -> UplinkConfig {
    UplinkConfig {
        gateway: gateway_id(),
        redis,
        stream: STREAM.to_owned(),
        shards: 1,
        flush: Duration::from_millis(20),
        compress: true,
        in_flight_bytes_max: 1 << 26,
        resend_after: Duration::from_millis(500),
        retry_max: Duration::from_millis(500),
        drain: Duration::from_secs(5),
        look_every: Duration::from_secs(30),
        reload: Reload::default(),
    }
}

/// The way of an [`Edge`] into `redis`, with its own certificate.
#[must_use]
pub fn way_into(redis: &RedisAccess) -> RedisConfig {
    let identity = redis.identity(EDGE);
    RedisConfig {
        cert: Some(identity.cert.clone()),
        key: Some(identity.key.clone()),
        ca: Some(redis.ca().to_owned()),
        ..RedisConfig::at(redis.url(EDGE))
    }
}

impl Edge {
    /// Opens a spool and lets an uplink run on it.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn start(redis: &Redis, change: impl FnOnce(&mut UplinkConfig)) -> Result<Self> {
        let mut config = config(way_into(redis));
        change(&mut config);
        Self::open(1 << 28)?.launch(config)
    }

    /// Opens a spool of at most `bytes_max` bytes; nothing is sent yet.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn open(bytes_max: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = SpoolConfig {
            dir: dir.path().to_owned(),
            gateway: gateway_id(),
            bytes_max,
            full: FullPolicy::Refuse,
            commit_interval_min: Duration::ZERO,
        };
        let (spool, _) = Spool::open(config, [6, 7, 8])?;
        Ok(Self {
            spool,
            metrics: Arc::default(),
            reload: Reload::default(),
            stop: CancellationToken::new(),
            uplink: None,
            _dir: dir,
        })
    }

    /// Lets an uplink run.
    ///
    /// # Errors
    /// When one runs already.
    pub fn launch(mut self, mut config: UplinkConfig) -> Result<Self> {
        ensure!(self.uplink.is_none(), "it runs already");
        config.reload = self.reload.clone();
        let uplink = Uplink::new(config, self.spool.clone(), Arc::clone(&self.metrics));
        self.uplink = Some(tokio::spawn(uplink.run(self.stop.clone())));
        Ok(self)
    }

    /// Keeps `numbers` in the normal lane, as a tracker's session does before it acknowledges.
    ///
    /// # Errors
    /// When the spool refuses: the tracker would get no acknowledgement.
    pub async fn append(&self, numbers: Range<u64>) -> Result<()> {
        self.append_to(Lane::Normal, numbers).await
    }

    /// Keeps `numbers` in `lane`.
    ///
    /// # Errors
    /// As [`Edge::append`].
    pub async fn append_to(&self, lane: Lane, numbers: Range<u64>) -> Result<()> {
        for number in numbers {
            self.append_one(lane, number, 8).await?;
        }
        Ok(())
    }

    /// Keeps `number` of one device while the clock shows `clock_ms`.
    ///
    /// # Errors
    /// As [`Edge::append`].
    pub async fn append_at(&self, clock_ms: u64, number: u64) -> Result<()> {
        let append = Append {
            kind: Kind::Teltonika,
            device: Device::Text("boat-0".to_owned()),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            received_at_ms: clock_ms,
            record_count: 1,
            panic: false,
            bytes: number.to_be_bytes().to_vec(),
        };
        self.spool.append(append).await?;
        Ok(())
    }

    /// Keeps `number` of one device as bytes of this kind.
    ///
    /// # Errors
    /// As [`Edge::append`].
    pub async fn append_of(&self, kind: Kind, lane: Lane, number: u64) -> Result<()> {
        let append = Append {
            kind,
            device: Device::Text("boat-0".to_owned()),
            transport: Transport::Tcp,
            lane,
            received_at_ms: number,
            record_count: 1,
            panic: lane == Lane::High,
            bytes: number.to_be_bytes().to_vec(),
        };
        self.spool.append(append).await?;
        Ok(())
    }

    /// Keeps `number`, made longer by bytes that do not compress.
    ///
    /// # Errors
    /// As [`Edge::append`].
    pub async fn append_one(&self, lane: Lane, number: u64, len_bytes: usize) -> Result<()> {
        let mut bytes = vec![0; len_bytes.max(8)];
        getrandom::fill(&mut bytes)?;
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let append = Append {
            kind: Kind::Teltonika,
            device: Device::Text(format!("boat-{}", number % 50)),
            transport: Transport::Tcp,
            lane,
            received_at_ms: number,
            record_count: 1,
            panic: false,
            bytes,
        };
        self.spool.append(append).await?;
        Ok(())
    }

    /// What `/status` says of the uplink.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::to_value(self.metrics.uplink()).unwrap_or_default()
    }

    /// Stops the uplink and waits for it.
    ///
    /// # Errors
    /// When none runs, or it panicked.
    pub async fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        self.uplink.take().context("it runs")?.await?;
        Ok(())
    }
}

/// A connection that may do everything.
///
/// # Errors
/// When the server does not answer.
pub async fn admin(redis: &Redis) -> Result<MultiplexedConnection> {
    let client = redis.client(ADMIN)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// Sends words to Redis as the administrator; the answer is not looked at unless it is an error.
///
/// # Errors
/// When Redis refuses.
pub async fn order(redis: &Redis, words: &[&str]) -> Result<()> {
    let mut command = redis::cmd(words.first().context("a command")?);
    command.arg(&words[1..]);
    let _: redis::Value = command.query_async(&mut admin(redis).await?).await?;
    Ok(())
}

/// Everything in the stream.
///
/// # Errors
/// When Redis does not answer or an entry is none of ours.
pub async fn received(redis: &Redis) -> Result<BTreeSet<u64>> {
    Ok(in_order(redis).await?.into_iter().collect())
}

/// Everything in the stream, envelope by envelope in its order.
///
/// # Errors
/// As [`received`].
pub async fn in_order(redis: &Redis) -> Result<Vec<u64>> {
    of_stream(&mut admin(redis).await?, STREAM).await
}

/// Everything in one stream, in its order; nothing when there is no such stream.
///
/// # Errors
/// As [`received`].
pub async fn of_stream(
    redis: &mut (impl ConnectionLike + Send + Sync),
    stream: &str,
) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in entries_of(redis, stream).await? {
        ensure!(entry.gateway == gateway_id() && entry.low.get() <= entry.first.get());
        let payload = Payload::open(&entry.coding, &entry.data)?;
        for envelope in payload.envelopes()? {
            ensure!(entry.positions().contains(envelope.seq));
            let number = envelope.bytes.first_chunk().context("a number")?;
            numbers.push(u64::from_be_bytes(*number));
        }
    }
    Ok(numbers)
}

/// The entries of one stream, in its order; none when there is no such stream.
///
/// # Errors
/// As [`received`].
pub async fn entries_of(
    redis: &mut (impl ConnectionLike + Send + Sync),
    stream: &str,
) -> Result<Vec<Entry>> {
    let items: StreamRangeReply = redis.xrange_all(stream).await?;
    let mut entries = Vec::new();
    for item in items.ids {
        let fields = item.map.iter().map(|(name, value)| match value {
            redis::Value::BulkString(bytes) => (name.as_str(), bytes.as_slice()),
            other => panic!("a field is a string: {other:?}"),
        });
        entries.push(Entry::from_fields(fields)?);
    }
    Ok(entries)
}

/// Waits until the stream holds exactly `numbers`.
///
/// # Errors
/// When it does not in time.
pub async fn until_received(redis: &Redis, numbers: Range<u64>) -> Result<()> {
    let wanted: BTreeSet<u64> = numbers.collect();
    eventually("everything is in the stream", async || {
        Ok(received(redis).await? == wanted)
    })
    .await
}

/// Says on the floor that these positions of the normal lane are in the database.
///
/// # Errors
/// When Redis refuses.
pub async fn settle(redis: &Redis, ranges: &str) -> Result<()> {
    let field = SpoolId::from_random(7).to_string();
    let () = admin(redis)
        .await?
        .hset(keys::floor(&gateway_id()), field, ranges)
        .await?;
    Ok(())
}

/// Puts the files of `new` in the place of `old`, the way a renewal does: each at one stroke.
///
/// # Errors
/// When a file cannot be written.
pub fn replace(old: &Path, new: &Path) -> Result<()> {
    let beside = old.with_extension("new");
    std::fs::copy(new, &beside)?;
    std::fs::rename(&beside, old)?;
    Ok(())
}
