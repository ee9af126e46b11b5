//! Slots that move while everybody goes on.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use codec::encode::MessageSpec;
use contract::{Coding, keys};
use redis::AsyncCommands as _;
use sqlx::postgres::PgPoolOptions;
use tests::fleet::Tracker;
use tests::processes::get;
use tests::servers::{GATEWAY, RedisCluster};
use tests::tables::{Tables, eventually};

use super::stage::{
    IMEI, add, add_asking, at, cluster, drive, entry, no_alarm, road, rows, settled, shard,
    standing, until_more, until_released, used,
};

/// Where a slot goes: to the next master.
async fn next(cluster: &RedisCluster, slot: u16) -> Result<usize> {
    Ok((cluster.owner(slot).await? + 1) % cluster.masters())
}

async fn move_key(cluster: &RedisCluster, key: &str) -> Result<()> {
    let slot = cluster.slot(key).await?;
    cluster.move_slot(slot, next(cluster, slot).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_in_mid_stream_and_every_record_is_stored_once() -> Result<()> {
    let cluster = cluster().await?;
    let mut road = road(&cluster, &[]).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let fleet = drive(&road).await?;
    until_more(&tables, 300).await?;
    let shards = used(&cluster).await?;
    let mut owners = BTreeSet::new();
    for stream in &shards {
        owners.insert(cluster.owner(cluster.slot(stream).await?).await?);
    }
    assert_eq!(owners.len(), cluster.masters(), "the shards are spread");
    eventually("the shards of all three masters are found", async || {
        let status = road.cloud.status().await?;
        let streams = status["streams"].as_array().context("streams")?;
        // The one that was named, and its shards.
        ensure!(streams.len() == shards.len() + 1, "{status}");
        Ok(true)
    })
    .await
    .with_context(|| road.cloud.last_words())?;

    // Half moved: who asks for a shard is sent on, each time.
    let mut moving = Vec::new();
    for (spool, stream) in (1..).zip(&shards) {
        let slot = cluster.slot(stream).await?;
        let to = next(&cluster, slot).await?;
        cluster.move_keys(slot, to).await?;
        let mut redis = cluster.connection(to).await?;
        add_asking(
            &mut redis,
            stream,
            &entry(spool, "1", &Coding::MsgPackZstd)?,
        )
        .await?;
        moving.push((slot, to));
    }
    let by_hand = "SELECT count(*) FROM positions JOIN devices ON devices.id = device_id \
                   WHERE imei = 356307042441013";
    let expected = i64::try_from(shards.len())?;
    tables.wait_for(by_hand, expected).await?;
    for (slot, to) in moving {
        cluster.settle_slot(slot, to).await?;
    }
    until_more(&tables, 200).await?;
    // Everything else that the cloud reads or writes, and one shard once more.
    let floor = keys::floor(&GATEWAY.parse()?);
    for key in [keys::CONTRACT, keys::COMMAND_RESPONSES, &floor, &shards[0]] {
        move_key(&cluster, key).await?;
    }
    until_more(&tables, 200).await?;
    settled(&mut road, &fleet, shards.len()).await?;
    until_released(&cluster).await?;
    let status = road.cloud.status().await?;
    no_alarm(&status)?;
    ensure!(status["redis"] == "connected", "{status}");

    // The floor reached the gateway at its new place, so it may forget.
    eventually("the gateway knows that everything is stored", async || {
        let (_, page) = get(road.gateway.http_addr(), "/metrics").await?;
        let line = page
            .lines()
            .find(|line| line.starts_with("milepost_gateway_spool_backlog_envelopes "));
        Ok(line.is_some_and(|line| line.ends_with(" 0")))
    })
    .await?;
    let lag = road.cloud.call(&["lag", "--json"]).await?;
    ensure!(lag.lines().count() == shards.len() + 1, "{lag}");
    ensure!(!lag.contains("\"pending_entries\":null"), "{lag}");
    road.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_moves_with_its_slot_and_is_stored_once() -> Result<()> {
    let cluster = cluster().await?;
    let road = road(&cluster, &[("stream.claim_after", "1s".into())]).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let stream = shard(1);
    let slot = cluster.slot(&stream).await?;
    let mut redis = at(&cluster, &stream).await?;

    // A processor that died with items in hand, and a group that came into being with it.
    let group = keys::GROUP_PROCESSOR;
    let () = redis.xgroup_create_mkstream(&stream, group, "0").await?;
    for seq in 1..=20 {
        let fields = entry(1, &seq.to_string(), &Coding::MsgPackZstd)?;
        add(&mut redis, &stream, &fields).await?;
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(group).arg("dead-0");
    read.arg("COUNT")
        .arg(12)
        .arg("STREAMS")
        .arg(&stream)
        .arg(">");
    let _: redis::Value = read.query_async(&mut redis).await?;
    cluster.move_slot(slot, next(&cluster, slot).await?).await?;
    eventually("the dead one's items are stored", async || {
        Ok(rows(&tables).await? == 20)
    })
    .await?;
    eventually("they are acknowledged at the new place", async || {
        Ok(standing(&cluster, &stream).await? == (Some(0), 0))
    })
    .await?;

    // The reader waits in a blocking read now. Its stream goes away under it, and comes back.
    for round in 0..2 {
        let to = next(&cluster, slot).await?;
        cluster.move_keys(slot, to).await?;
        cluster.settle_slot(slot, to).await?;
        let mut redis = at(&cluster, &stream).await?;
        let fields = entry(1, &(30 + round).to_string(), &Coding::MsgPack)?;
        add(&mut redis, &stream, &fields).await?;
        let expected = 21 + i64::from(round);
        eventually("what came after the move is stored", async || {
            Ok(rows(&tables).await? == expected)
        })
        .await?;
    }

    // An acknowledgement that got lost in a failover: the item is pending again.
    let mut redis = at(&cluster, &stream).await?;
    let first: redis::streams::StreamRangeReply = redis.xrange_count(&stream, "-", "+", 1).await?;
    let first = &first.ids.first().context("kept for others to read")?.id;
    let mut claim = redis::cmd("XCLAIM");
    claim
        .arg(&stream)
        .arg(group)
        .arg("dead-0")
        .arg(0)
        .arg(first);
    let claimed: redis::Value = claim.arg("FORCE").query_async(&mut redis).await?;
    ensure!(standing(&cluster, &stream).await?.1 == 1, "{claimed:?}");
    eventually("it is acknowledged again", async || {
        Ok(standing(&cluster, &stream).await? == (Some(0), 0))
    })
    .await?;
    assert_eq!(rows(&tables).await?, 22);
    let status = road.cloud.status().await?;
    // It was worked on once more, and changed nothing.
    assert_eq!(status["stats"]["messages_written"], 23, "{status}");
    no_alarm(&status)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_through_while_their_slots_move() -> Result<()> {
    let cluster = cluster().await?;
    let road = road(&cluster, &[]).await?;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(road.database_url()).await?;
    eventually("the gateway takes orders", async || {
        Ok(road.gateway.status().await?["downlink"]["connected"] == true)
    })
    .await?;
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?, "refused");
    let gateway = GATEWAY.parse()?;
    let keys = [
        keys::commands_outbound(&gateway),
        keys::COMMAND_RESPONSES.to_owned(),
        keys::CONNECTIONS.to_owned(),
        keys::heartbeat(&gateway),
    ];
    for payload in ["getinfo", "getver", "getgps"] {
        let insert = "INSERT INTO commands (imei, payload) VALUES ($1, $2) RETURNING id::text";
        let cid: String = sqlx::query_scalar(insert)
            .bind(i64::try_from(IMEI)?)
            .bind(payload)
            .fetch_one(&pool)
            .await?;
        let (_, heard) = tracker
            .read_order()
            .await
            .with_context(|| road.cloud.last_words())?;
        assert_eq!(heard, payload);
        let reply = MessageSpec::response(b"here");
        tracker.send_message(&reply).await?;
        eventually("the command is answered", async || {
            let status: String =
                sqlx::query_scalar("SELECT status FROM commands WHERE id = $1::uuid")
                    .bind(&cid)
                    .fetch_one(&pool)
                    .await?;
            Ok(status == "acked")
        })
        .await?;
        for key in &keys {
            move_key(&cluster, key).await?;
        }
    }
    let attempts: i64 = sqlx::query_scalar("SELECT sum(attempt) FROM commands")
        .fetch_one(&pool)
        .await?;
    assert_eq!(attempts, 3, "each was given once");
    no_alarm(&road.cloud.status().await?)
}
