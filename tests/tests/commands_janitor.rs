//! What the janitor removes from a real Redis with its ACL, and what it leaves.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cloud::commands::janitor;
use cloud::config::{ClusterMode, RedisConfig, StreamConfig};
use cloud::stream::Link;
use contract::{GatewayId, keys};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tests::servers::{ADMIN, PROCESSOR, Redis, RedisOptions};

/// A Redis, the administrator's connection and the cloud's.
async fn yard() -> Result<(Redis, MultiplexedConnection, Link)> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let admin = redis.client(ADMIN)?;
    let admin = admin.get_multiplexed_async_connection().await?;
    let identity = redis.identity(PROCESSOR);
    let config = RedisConfig {
        cluster: ClusterMode::Auto,
        url: redis.url(PROCESSOR),
        identity: Some((identity.cert.clone(), identity.key.clone())),
        ca: Some(redis.ca().to_owned()),
    };
    let link = Link::new(Arc::new(cloud::stream::Redis::new(&config)?));
    Ok((redis, admin, link))
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_dead_gateway_go_and_those_of_whoever_came_since_stay() -> Result<()> {
    let (_redis, mut admin, link) = yard().await?;
    let (dead, living): (GatewayId, GatewayId) = ("dead".parse()?, "living".parse()?);
    let imeis = [
        350_000_000_000_017_u64,
        350_000_000_000_025,
        350_000_000_000_033,
    ];
    for (imei, epoch) in imeis.iter().zip(1..) {
        let () = admin.hset(keys::CONNECTIONS, imei, "dead").await?;
        let () = admin.hset(keys::CONNECTION_EPOCHS, imei, epoch).await?;
    }
    // Written by a program that knows no epochs.
    let () = admin.hdel(keys::CONNECTION_EPOCHS, imeis[2]).await?;
    let judged = janitor::registered(&link).await?;
    assert_eq!(judged[&dead].len(), 3);

    // While it beats, nothing goes.
    let () = admin.set(keys::heartbeat(&dead), 1).await?;
    assert_eq!(
        janitor::remove_fields(&link, &dead, &judged[&dead]).await?,
        0
    );
    let () = admin.del(keys::heartbeat(&dead)).await?;

    // One tracker has moved since it was judged.
    let () = admin.hset(keys::CONNECTIONS, imeis[1], "living").await?;
    assert_eq!(
        janitor::remove_fields(&link, &dead, &judged[&dead]).await?,
        2
    );
    let left = janitor::registered(&link).await?;
    assert_eq!(left.len(), 1);
    assert_eq!(left[&living][0].as_u64(), imeis[1]);
    let epochs: usize = admin.hlen(keys::CONNECTION_EPOCHS).await?;
    assert_eq!(epochs, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_pending_entries_is_never_deleted() -> Result<()> {
    let (_redis, mut admin, link) = yard().await?;
    let stream = keys::COMMAND_RESPONSES;
    let reader = StreamConfig {
        names: vec![stream.to_owned()],
        vendors: Vec::new(),
        pattern: None,
        not_pattern: None,
        look_every: Duration::from_secs(30),
        dead_letter: None,
        dead_letter_keep: Duration::from_secs(3_600),
        group: keys::GROUP_COMMANDS.to_owned(),
        consumer: "own".to_owned(),
        claim_after: Duration::from_secs(60),
        keep: Duration::from_secs(3_600),
    };
    let remove = async || janitor::remove_consumers(&link, stream, &reader, Duration::ZERO).await;
    assert_eq!(remove().await?, 0, "there is no stream");
    let _: String = admin.xadd(stream, "*", &[("a", "b")]).await?;
    assert_eq!(remove().await?, 0, "there is no group");
    let () = admin.xgroup_create(stream, &reader.group, "0").await?;
    for name in ["own", "gone-1", "gone-2"] {
        let _: u64 = redis::cmd("XGROUP")
            .arg("CREATECONSUMER")
            .arg(stream)
            .arg(&reader.group)
            .arg(name)
            .query_async(&mut admin)
            .await?;
    }
    let _: redis::Value = redis::cmd("XREADGROUP")
        .arg("GROUP")
        .arg(&reader.group)
        .arg("holds")
        .arg("STREAMS")
        .arg(stream)
        .arg(">")
        .query_async(&mut admin)
        .await?;
    let hour = Duration::from_secs(3_600);
    assert_eq!(
        janitor::remove_consumers(&link, stream, &reader, hour).await?,
        0,
        "they are not idle"
    );
    assert_eq!(remove().await?, 2);
    let info: redis::streams::StreamInfoConsumersReply =
        admin.xinfo_consumers(stream, &reader.group).await?;
    let mut left: Vec<_> = info
        .consumers
        .iter()
        .map(|c| (c.name.as_str(), c.pending))
        .collect();
    left.sort_unstable();
    assert_eq!(left, [("holds", 1), ("own", 0)]);
    Ok(())
}
