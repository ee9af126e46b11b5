//! Items that lie with somebody who does not work on them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::keys::{self, STREAM_TELTONIKA};
use redis::AsyncCommands as _;
use redis::streams::StreamInfoConsumersReply;
use serde_json::Value;
use sqlx::Executor as _;
use sqlx::postgres::PgPool;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Cloud, Road, RoadOptions, Setting};
use tests::tables::{Tables, eventually};

use super::stage::{add, admin, entry, held, pending};

const PATIENCE: Duration = Duration::from_secs(90);

fn cloud(consumer: &str) -> Vec<Setting> {
    vec![
        ("stream.consumer", consumer.into()),
        ("stream.claim_after", "2s".into()),
    ]
}

async fn another(road: &Road, consumer: &str, dir: &tempfile::TempDir) -> Result<Cloud> {
    let (path, access) = (dir.path(), road.redis_access());
    let settings = cloud(consumer);
    Cloud::start(path, Some(path), access, road.database_url(), &settings).await
}

async fn number(cloud: &Cloud, name: &str) -> Result<u64> {
    let status = cloud.status().await?;
    status[name]
        .as_u64()
        .with_context(|| format!("{name} in {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_held_is_taken_over_once() -> Result<()> {
    let options = RoadOptions {
        // Nothing is sent again: what the other does not take over stays where it is.
        gateway: vec![("uplink.resend_after", Value::from("1h"))],
        cloud: cloud("first"),
        ..RoadOptions::default()
    };
    let mut road = Road::start(options).await?;
    let dir = tempfile::tempdir()?;
    let second = another(&road, "second", &dir).await?;
    let fleet = Fleet::start(FleetConfig {
        devices: 20,
        rate: "20".parse()?,
        records_per_frame: 2,
        ..road.fleet_config()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    let database = PgPool::connect(road.database_url()).await?;
    eventually("rows arrive", async || {
        let (rows,): (i64,) = tables.one("SELECT count(*) FROM positions").await?;
        Ok(rows > 100)
    })
    .await?;
    // Both hold items and cannot store them, so each finds those of the other abandoned.
    let mut lock = database.begin().await?;
    lock.execute("LOCK TABLE settled IN ACCESS EXCLUSIVE MODE")
        .await?;
    eventually(
        "both hold items, and one has taken over from the other",
        async || {
            let consumers: StreamInfoConsumersReply = redis
                .xinfo_consumers(STREAM_TELTONIKA, keys::GROUP_PROCESSOR)
                .await?;
            let both = consumers.consumers.iter().filter(|c| c.pending > 0).count() == 2;
            let claimed =
                number(&road.cloud, "claimed").await? + number(&second, "claimed").await?;
            Ok(both && claimed > 0)
        },
    )
    .await?;
    road.cloud.kill9()?;
    let acked = fleet.stats().acked;
    eventually("trackers do not notice", async || {
        Ok(fleet.stats().acked > acked + 50)
    })
    .await?;
    lock.rollback().await?;
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers wait for ACKs");
    let ledger = road
        .settled_ledger(&fleet.truth(), PATIENCE, |_| {})
        .await?;
    ensure!(
        ledger.is_clean() && ledger.lost_count == 0,
        "{ledger}\n{}",
        second.last_words()
    );
    ensure!(
        ledger.duplicates == 0 && ledger.stored == ledger.acked,
        "{ledger}"
    );
    eventually("nothing stays pending", async || {
        Ok(pending(&mut redis.clone(), STREAM_TELTONIKA).await? == 0)
    })
    .await?;
    ensure!(number(&second, "claimed").await? > 0, "it took over");
    // Each record was received once: nothing was counted by both.
    let sums: (i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint FROM ledger")
        .await?;
    ensure!(
        sums.1 == i64::try_from(ledger.stored)?,
        "{sums:?}, {ledger}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_a_newer_reader_stays_as_it_lies() -> Result<()> {
    let options = RoadOptions {
        cloud: cloud("first"),
        ..RoadOptions::default()
    };
    let mut road = Road::start(options).await?;
    let mut redis = admin(&road).await?;
    let newer = vec![("v", b"99".to_vec())];
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(add(&mut redis, STREAM_TELTONIKA, "*", &newer).await?);
    }
    eventually("they were read and left", async || {
        Ok(number(&road.cloud, "left_for_newer").await? == 3)
    })
    .await?;
    let dir = tempfile::tempdir()?;
    let second = another(&road, "second", &dir).await?;
    eventually("the other one has looked at them", async || {
        Ok(number(&second, "left_for_newer").await? == 3)
    })
    .await?;
    // Several looks later they are as old as they are, and still the first one's.
    eventually("their age is told", async || {
        let held = held(&mut redis.clone(), STREAM_TELTONIKA).await?;
        Ok(held.iter().all(|(_, _, idle_ms, _)| *idle_ms > 6_000))
    })
    .await?;
    for (id, consumer, _, times) in held(&mut redis, STREAM_TELTONIKA).await? {
        assert_eq!((consumer.as_str(), times), ("first", 1), "{id}");
    }
    assert_eq!(number(&second, "claimed").await?, 0);
    // The first one dies, and somebody deletes what it held: counted by who comes to take it over.
    road.cloud.kill9()?;
    let _: u64 = redis.xdel(STREAM_TELTONIKA, &[&ids[0]]).await?;
    let dir = tempfile::tempdir()?;
    let third = another(&road, "third", &dir).await?;
    eventually("the deleted one is counted", async || {
        Ok(number(&third, "deleted_unread").await? == 1)
    })
    .await?;
    let held = held(&mut redis, STREAM_TELTONIKA).await?;
    let left: Vec<&String> = held.iter().map(|(id, ..)| id).collect();
    assert_eq!(left, [&ids[1], &ids[2]]);
    assert_eq!(number(&second, "deleted_unread").await?, 0);
    // Whoever leaves something alone works on all the same.
    let tables = Tables::connect(road.database_url()).await?;
    add(&mut redis, STREAM_TELTONIKA, "*", &entry(7, 1)?).await?;
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    Ok(())
}
