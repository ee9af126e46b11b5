//! Plays the cloud: reads a stream, says on the floor what is settled, forgets what was read.
//!
//! Why not the cloud itself: it needs a database, and this is about the gateway. What the gateway
//! sees is the same: contract, consumer group, floor.
//!
//! Invariant: only what was read is settled; the stream holds what is unsettled and no more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contract::{Entry, GatewayId, SettledRanges, SpoolId, command, keys, version};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands as _, Value};
use tests::servers::{ADMIN, RedisAccess};

/// Entries in one read.
const COUNT: usize = 64;

/// How long a read waits.
const BLOCK_MS: usize = 500;

const CONSUMER: &str = "bench";

/// The reader of one gateway's stream.
pub struct Cloud {
    redis: MultiplexedConnection,
    gateway: GatewayId,
    stream: String,
    settled: BTreeMap<SpoolId, SettledRanges>,
    publish_at: Instant,
}

impl Cloud {
    /// Makes the group and publishes the contract.
    /// # Errors
    /// When Redis refuses.
    pub async fn open(access: &RedisAccess, gateway: &str, stream: &str) -> Result<Self> {
        let mut cloud = Self {
            redis: connect(access).await?,
            gateway: GatewayId::new(gateway)?,
            stream: stream.to_owned(),
            settled: BTreeMap::new(),
            publish_at: Instant::now(),
        };
        cloud.make_group().await?;
        cloud.publish().await?;
        Ok(cloud)
    }

    /// After Redis was away.
    /// # Errors
    /// When it is not back.
    pub async fn reconnect(&mut self, access: &RedisAccess) -> Result<()> {
        self.redis = connect(access).await?;
        self.publish().await
    }

    async fn make_group(&mut self) -> Result<()> {
        let group = keys::GROUP_PROCESSOR;
        let made: Result<(), _> = self
            .redis
            .xgroup_create_mkstream(&self.stream, group, "0")
            .await;
        match made {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Contract and floor, as the cloud says them again every half minute.
    async fn publish(&mut self) -> Result<()> {
        let notice = [
            (
                version::FIELD_READS,
                version::VersionsRead::ours().to_string(),
            ),
            (version::FIELD_WRITES, command::ORDER_VERSION.to_string()),
        ];
        let () = self.redis.hset_multiple(keys::CONTRACT, &notice).await?;
        self.publish_floor().await?;
        self.publish_at = Instant::now() + Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
        Ok(())
    }

    async fn publish_floor(&mut self) -> Result<()> {
        let floor: Vec<(String, String)> = self
            .settled
            .iter()
            .map(|(id, ranges)| (id.to_string(), ranges.to_string()))
            .collect();
        if floor.is_empty() {
            return Ok(());
        }
        Ok(self
            .redis
            .hset_multiple(keys::floor(&self.gateway), &floor)
            .await?)
    }

    /// What came since the last call, with the ids to be settled; empty when nothing came for a
    /// while.
    /// # Errors
    /// When Redis does not answer, or an entry is none of ours.
    pub async fn read(&mut self) -> Result<Vec<(String, Entry)>> {
        if Instant::now() >= self.publish_at {
            self.publish().await?;
        }
        let options = StreamReadOptions::default()
            .group(keys::GROUP_PROCESSOR, CONSUMER)
            .count(COUNT)
            .block(BLOCK_MS);
        let reply: Option<StreamReadReply> = self
            .redis
            .xread_options(&[&self.stream], &[">"], &options)
            .await?;
        let items = reply.map(|reply| reply.keys).unwrap_or_default();
        items
            .into_iter()
            .flat_map(|key| key.ids)
            .map(entry)
            .collect()
    }

    /// Says that these are in the database, and forgets them.
    /// # Errors
    /// When Redis does not answer.
    pub async fn settle(&mut self, read: &[(String, Entry)]) -> Result<()> {
        let Some((last, _)) = read.last() else {
            return Ok(());
        };
        for (_, entry) in read {
            let ranges = self.settled.entry(entry.spool).or_default();
            ranges.insert(entry.first.get(), entry.last.get());
        }
        self.publish_floor().await?;
        let ids: Vec<&str> = read.iter().map(|(id, _)| id.as_str()).collect();
        let mut pipe = redis::pipe();
        pipe.cmd("XACK")
            .arg(&self.stream)
            .arg(keys::GROUP_PROCESSOR)
            .arg(&ids)
            .ignore();
        // The last one stays: a stream that is empty knows no lag.
        pipe.cmd("XTRIM")
            .arg(&self.stream)
            .arg("MINID")
            .arg(last)
            .ignore();
        Ok(pipe.query_async(&mut self.redis).await?)
    }
}

async fn connect(access: &RedisAccess) -> Result<MultiplexedConnection> {
    let client = access.client(ADMIN)?;
    let config =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await;
    connection.context("the bench's Redis does not answer")
}

fn entry(item: StreamId) -> Result<(String, Entry)> {
    let fields = item.map.iter().filter_map(|(name, value)| match value {
        Value::BulkString(bytes) => Some((name.as_str(), bytes.as_slice())),
        _ => None,
    });
    Ok((item.id.clone(), Entry::from_fields(fields)?))
}
