//! The registry of connections: who may take a tracker's field, and who may not.
//!
//! Two registries in one process, each with its own roster, on one real Redis with its ACL. They
//! repeat themselves far more often than in operation.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use codec::Imei;
use contract::{GatewayId, keys};
use gateway::downlink::Registry;
use gateway::metrics::Metrics;
use gateway::roster::Roster;
use gateway::uplink::RedisConfig;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tests::servers::{ADMIN, Redis, RedisOptions};
use tests::tables::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const OFTEN: Duration = Duration::from_millis(50);

/// Only at the start.
const NEVER: Duration = Duration::from_secs(3600);

struct Desk {
    id: GatewayId,
    roster: Roster,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Desk {
    fn open(redis: &Redis, id: &str, epoch_first: u64, every: Duration) -> Result<Self> {
        let identity = redis.identity(id);
        let config = RedisConfig {
            cert: Some(identity.cert.clone()),
            key: Some(identity.key.clone()),
            ca: Some(redis.ca().to_owned()),
            ..RedisConfig::at(redis.url(id))
        };
        let id = GatewayId::new(id)?;
        let roster = Roster::new(epoch_first);
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let pause = Duration::from_millis(500);
        let counted = Arc::clone(&metrics);
        let registry = Registry::new(id.clone(), config, pause, roster.clone(), counted);
        let task = tokio::spawn(registry.every(every).run(stop.clone()));
        Ok(Self {
            id,
            roster,
            metrics,
            stop,
            task,
        })
    }

    /// Returns when so many connections are published.
    async fn publishes(&self, count: u64) -> Result<()> {
        eventually("as many connections are published", async || {
            let status = serde_json::to_value(self.metrics.downlink.status())?;
            Ok(status["registered"] == count)
        })
        .await
    }

    /// Returns when everything has been repeated since the call.
    async fn repeated(&self, redis: &mut MultiplexedConnection) -> Result<()> {
        // The heartbeat goes first, so two later ones have one whole repetition between them.
        for _ in 0..3 {
            let before: Option<u64> = redis.get(keys::heartbeat(&self.id)).await?;
            eventually("another heartbeat", async || {
                let now: Option<u64> = redis.get(keys::heartbeat(&self.id)).await?;
                Ok(now != before)
            })
            .await?;
        }
        Ok(())
    }
}

async fn yard() -> Result<(Redis, MultiplexedConnection)> {
    let redis = Redis::start(RedisOptions {
        gateways: vec!["gw-a".to_owned(), "gw-b".to_owned()],
        ..RedisOptions::default()
    })
    .await?;
    let client = redis.client(ADMIN)?;
    let admin = client.get_multiplexed_async_connection().await?;
    Ok((redis, admin))
}

fn imei() -> Imei {
    Imei::from_u64(350_000_000_000_025).unwrap()
}

async fn registered(redis: &mut MultiplexedConnection) -> Result<Option<String>> {
    Ok(redis.hget(keys::CONNECTIONS, imei().to_string()).await?)
}

async fn until(redis: &mut MultiplexedConnection, id: Option<&str>) -> Result<()> {
    eventually(&format!("the registry says {id:?}"), async || {
        Ok(registered(redis).await?.as_deref() == id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn repeating_takes_nobody_back_and_a_late_farewell_removes_nobody() -> Result<()> {
    let (server, mut redis) = yard().await?;
    let a = Desk::open(&server, "gw-a", 7, OFTEN)?;
    let b = Desk::open(&server, "gw-b", 1, NEVER)?;
    let old = a.roster.enter(imei());
    until(&mut redis, Some("gw-a")).await?;
    // The old connection looks alive for a long time.
    let new = b.roster.enter(imei());
    until(&mut redis, Some("gw-b")).await?;
    a.repeated(&mut redis).await?;
    assert_eq!(registered(&mut redis).await?.as_deref(), Some("gw-b"));
    drop(old);
    a.publishes(0).await?;
    assert_eq!(registered(&mut redis).await?.as_deref(), Some("gw-b"));
    // Back again: a login is news, whatever the epochs of two gateways look like.
    let back = a.roster.enter(imei());
    until(&mut redis, Some("gw-a")).await?;
    drop(new);
    b.publishes(0).await?;
    assert_eq!(registered(&mut redis).await?.as_deref(), Some("gw-a"));
    drop(back);
    until(&mut redis, None).await?;
    let epochs: usize = redis.hlen(keys::CONNECTION_EPOCHS).await?;
    assert_eq!(epochs, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_heals_and_a_stop_leaves_nothing() -> Result<()> {
    let (server, mut redis) = yard().await?;
    let desk = Desk::open(&server, "gw-a", 7, OFTEN)?;
    let others: Vec<_> = (0..600)
        .map(|n| {
            desk.roster
                .enter(Imei::from_u64(350_000_000_100_000 + n).unwrap())
        })
        .collect();
    let _seat = desk.roster.enter(imei());
    let count = others.len() + 1;
    for _ in 0..2 {
        eventually("everybody is registered", async || {
            let registered: usize = redis.hlen(keys::CONNECTIONS).await?;
            Ok(registered == count)
        })
        .await?;
        assert_eq!(registered(&mut redis).await?.as_deref(), Some("gw-a"));
        server.flushall().await?;
    }
    eventually("everybody is registered", async || {
        let registered: usize = redis.hlen(keys::CONNECTIONS).await?;
        Ok(registered == count)
    })
    .await?;
    desk.stop.cancel();
    desk.task.await?;
    let left: usize = redis.hlen(keys::CONNECTIONS).await?;
    let epochs: usize = redis.hlen(keys::CONNECTION_EPOCHS).await?;
    assert_eq!((left, epochs), (0, 0));
    eventually("the heartbeat is gone", async || {
        let beats: bool = redis.exists(keys::heartbeat(&desk.id)).await?;
        Ok(!beats)
    })
    .await
}
