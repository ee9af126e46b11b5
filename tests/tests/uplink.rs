//! The gateway's uplink against a real Redis behind TLS with client certificates and an ACL: what
//! is in the spool arrives, whatever Redis does in between.
//!
//! The cloud's part (reading, settling) is played by hand here, entry by entry, so that each test
//! decides what counts as stored.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use contract::{Lane, SettledRanges, keys};
use gateway::uplink::{RedisConfig, UplinkConfig};
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use tests::edge::{
    EDGE, Edge, STREAM, admin, gateway_id, in_order, received, settle, until_received, way_into,
};
use tests::servers::{Port, Redis};
use tests::tables::{DEADLINE, eventually};

async fn redis() -> Result<Redis> {
    tests::edge::redis(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_arrives_and_the_floor_lets_it_go() -> Result<()> {
    let redis = redis().await?;
    let edge = Edge::start(&redis, |_| {})?;
    edge.append(0..1500).await?;
    until_received(&redis, 0..1500).await?;
    assert_eq!(
        edge.spool.usage().backlog(),
        1500,
        "in Redis is not in the database"
    );
    settle(&redis, "1-1000").await?;
    eventually("the floor is believed", async || {
        Ok(edge.spool.usage().backlog() == 500)
    })
    .await?;
    let mut admin = admin(&redis).await?;
    let alive: i64 = admin.ttl(keys::heartbeat(&gateway_id())).await?;
    assert!((1..=90).contains(&alive), "heartbeat expires in {alive} s");
    let beat: String = admin.get(keys::heartbeat(&gateway_id())).await?;
    let beat = contract::Beat::parse(&beat).context("it is one")?;
    assert!(beat.spool_bytes_max > beat.spool_used_bytes, "{beat}");
    assert!(beat.certificate_left_days > Some(0.0), "{beat}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_is_given_everything_unsettled_again() -> Result<()> {
    let redis = redis().await?;
    let edge = Edge::start(&redis, |_| {})?;
    edge.append(0..300).await?;
    until_received(&redis, 0..300).await?;
    settle(&redis, "1-100").await?;
    eventually("the floor is believed", async || {
        Ok(edge.spool.usage().backlog() == 200)
    })
    .await?;
    redis.flushall().await?;
    until_received(&redis, 100..300).await?;
    assert!(
        edge.status()["envelopes_resent"]
            .as_u64()
            .context("a number")?
            >= 200
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_behind_settled_data_is_sent_again_although_the_group_is_busy() -> Result<()> {
    let redis = redis().await?;
    let edge = Edge::start(&redis, |_| {})?;
    let mut admin = admin(&redis).await?;
    let () = admin
        .xgroup_create_mkstream(STREAM, keys::GROUP_PROCESSOR, "0")
        .await?;
    edge.append(0..10).await?;
    until_received(&redis, 0..10).await?;
    edge.append(10..20).await?;
    until_received(&redis, 0..20).await?;
    // The stream still holds unread entries (lag > 0), so only the hole can tell.
    let () = admin
        .xtrim(STREAM, redis::streams::StreamMaxlen::Equals(1))
        .await?;
    settle(&redis, "11-20").await?;
    let lost: BTreeSet<u64> = (0..10).collect();
    eventually("the hole is filled", async || {
        Ok(received(&redis).await?.is_superset(&lost))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_sat_out_and_nothing_is_lost() -> Result<()> {
    let mut redis = redis().await?;
    let edge = Edge::start(&redis, |_| {})?;
    edge.append(0..50).await?;
    until_received(&redis, 0..50).await?;
    redis.stop().await?;
    edge.append(50..200).await?; // kept and acknowledged meanwhile
    eventually("the outage is noticed", async || {
        Ok(!edge.status()["trouble"].is_null())
    })
    .await?;
    redis.restart().await?;
    until_received(&redis, 0..200).await?;
    redis.kill9()?;
    edge.append(200..250).await?;
    redis.restart().await?;
    eventually("all is there after a kill", async || {
        Ok(received(&redis).await?.is_superset(&(200..250).collect()))
    })
    .await?;
    eventually("trouble is over", async || {
        Ok(edge.status()["trouble"].is_null())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_only_gets_the_rest_once_it_has_room() -> Result<()> {
    let redis = redis().await?;
    let edge = Edge::start(&redis, |_| {})?;
    let mut admin = admin(&redis).await?;
    edge.append(0..5).await?;
    until_received(&redis, 0..5).await?;
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("1")
        .query_async(&mut admin)
        .await?;
    edge.append(5..500).await?;
    eventually("the reason is told", async || {
        Ok(edge.status()["trouble"]
            .as_str()
            .is_some_and(|t| t.contains("OOM")))
    })
    .await?;
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("0")
        .query_async(&mut admin)
        .await?;
    until_received(&redis, 0..500).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_cannot_read_us_is_waited_for() -> Result<()> {
    let redis = redis().await?;
    let mut admin = admin(&redis).await?;
    let () = admin
        .hset(keys::CONTRACT, contract::version::FIELD_READS, "2-3")
        .await?;
    let edge = Edge::start(&redis, |_| {})?;
    edge.append(0..10).await?;
    eventually("the reason is told", async || {
        Ok(edge.status()["trouble"]
            .as_str()
            .is_some_and(|t| t.contains("2-3")))
    })
    .await?;
    let length: u64 = admin.xlen(STREAM).await?;
    assert_eq!(length, 0, "nothing is sent that nobody reads");
    let () = admin
        .hset(keys::CONTRACT, contract::version::FIELD_READS, "1-3")
        .await?;
    until_received(&redis, 0..10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_flight_is_bounded_and_the_floor_opens_it_again() -> Result<()> {
    let redis = redis().await?;
    let edge = Edge::start(&redis, |config| {
        config.in_flight_bytes_max = 400;
        config.resend_after = Duration::from_secs(600);
    })?;
    edge.append(0..3_000).await?;
    eventually("the limit is reached", async || {
        Ok(edge.status()["in_flight_bytes"].as_u64() >= Some(400))
    })
    .await?;
    let sent = received(&redis).await?.len() as u64;
    assert!(sent < 3_000, "{sent} of 3000 sent at once");
    let mut settled = SettledRanges::new();
    let deadline = Instant::now() + DEADLINE;
    while received(&redis).await?.len() < 3_000 {
        ensure!(
            Instant::now() < deadline,
            "stuck at {}",
            received(&redis).await?.len()
        );
        // Live goes before backlog, so what arrived is no prefix of what was kept.
        for number in received(&redis).await? {
            settled.insert(number + 1, number + 1);
        }
        settle(&redis, &settled.to_string()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_hands_over_what_waits() -> Result<()> {
    let redis = redis().await?;
    let mut edge = Edge::start(&redis, |config| config.flush = Duration::from_secs(3600))?;
    edge.append(0..10).await?;
    eventually("it is connected", async || {
        Ok(edge.status()["connected"] == true)
    })
    .await?;
    assert!(
        received(&redis).await.unwrap_or_default().is_empty(),
        "the flush interval is an hour"
    );
    edge.stop().await?;
    assert_eq!(received(&redis).await?, (0..10).collect());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_told_and_nothing_is_sent() -> Result<()> {
    let redis = redis().await?;
    let foreign = redis.pki().foreign_client(tests::edge::EDGE)?;
    let edge = Edge::start(&redis, |config| {
        config.redis.cert = Some(foreign.cert.clone());
        config.redis.key = Some(foreign.key.clone());
    })?;
    edge.append(0..3).await?;
    eventually("the trouble is told", async || {
        Ok(!edge.status()["trouble"].is_null())
    })
    .await?;
    assert!(received(&redis).await.unwrap_or_default().is_empty());
    assert_eq!(edge.spool.usage().backlog(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_overtakes_the_backlog() -> Result<()> {
    let mut redis = redis().await?;
    redis.stop().await?;
    let edge = Edge::start(&redis, |_| {})?;
    edge.append(0..300).await?;
    edge.append_to(Lane::Bulk, 300..400).await?;
    edge.append_to(Lane::High, 400..402).await?;
    redis.restart().await?;
    until_received(&redis, 0..402).await?;
    assert_eq!(in_order(&redis).await?[..2], [400, 401]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_now_overtakes_what_waited() -> Result<()> {
    const WAITED: u64 = 3_000;
    let redis = redis().await?;
    let edge = Edge::open(1 << 28)?;
    edge.append(0..WAITED).await?;
    // Only what is settled makes room for more, so the backlog cannot be through before we say so.
    let mut config = tests::edge::config(tests::edge::way_into(&redis));
    config.in_flight_bytes_max = 400;
    config.resend_after = Duration::from_secs(600);
    let edge = edge.launch(config)?;
    eventually("the backlog begins", async || {
        Ok(edge.status()["in_flight_bytes"].as_u64() >= Some(400))
    })
    .await?;
    edge.append(WAITED..WAITED + 50).await?;
    let mut settled = SettledRanges::new();
    eventually("everything has arrived", async || {
        let arrived = received(&redis).await?;
        for number in &arrived {
            settled.insert(number + 1, number + 1);
        }
        settle(&redis, &settled.to_string()).await?;
        Ok(arrived.len() as u64 == WAITED + 50)
    })
    .await?;
    let arrived = in_order(&redis).await?;
    let last_live = arrived.iter().rposition(|&number| number >= WAITED);
    let behind = arrived.len() - last_live.context("live ones arrived")?;
    assert!(
        behind as u64 > WAITED / 4,
        "only {behind} of the backlog came later"
    );
    let backlog: Vec<_> = arrived.into_iter().filter(|&n| n < WAITED).collect();
    assert!(backlog.is_sorted(), "the backlog keeps its order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_tls_without_a_certificate_of_ours_lead_there_too() -> Result<()> {
    let plain = Port::free()?;
    let port = format!("port {}", plain.number());
    let redis = tests::edge::redis(&["tls-auth-clients no", &port]).await?;
    let with_tls = RedisConfig {
        cert: None,
        key: None,
        ..way_into(&redis)
    };
    let url = redis.url(EDGE).replace("rediss://", "redis://");
    let own = format!(":{}/", redis.port());
    let in_the_clear = RedisConfig::at(url.replace(&own, &format!(":{}/", plain.number())));
    let mut sent = 0;
    for way in [with_tls, in_the_clear] {
        let mut edge = Edge::open(1 << 28)?.launch(tests::edge::config(way))?;
        edge.append(sent..sent + 20).await?;
        sent += 20;
        until_received(&redis, 0..sent).await?;
        assert!(edge.status()["certificate_left_days"].is_null());
        edge.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_compressed_unless_told_otherwise() -> Result<()> {
    let redis = redis().await?;
    let mut last = 0;
    for (compress, name) in [(true, "mp+zstd"), (false, "mp")] {
        let mut edge = Edge::open(1 << 28)?;
        edge.append(last..last + 400).await?;
        edge = edge.launch(UplinkConfig {
            compress,
            ..tests::edge::config(way_into(&redis))
        })?;
        last += 400;
        until_received(&redis, 0..last).await?;
        edge.stop().await?;
        let mut admin = admin(&redis).await?;
        let newest: StreamRangeReply = admin.xrevrange_count(STREAM, "+", "-", 1).await?;
        let newest = newest.ids.first().context("an entry")?;
        assert_eq!(newest.get::<String>("c").as_deref(), Some(name));
        let bytes = newest.get::<Vec<u8>>("d").context("a payload")?.len();
        let records: usize = newest.get("n").context("a count")?;
        // Of eight bytes with the name of a boat beside them, little is news.
        assert_eq!(bytes < records * 16, compress, "{bytes} for {records}");
    }
    Ok(())
}
