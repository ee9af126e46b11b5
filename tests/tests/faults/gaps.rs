//! What a gateway gives up may still lie in Redis: then it is stored, and not counted as dropped.

use anyhow::{Result, ensure};
use contract::keys::{GROUP_PROCESSOR, STREAM_TELTONIKA};
use redis::AsyncCommands as _;
use redis::streams::StreamReadOptions;
use tests::items::{add, admin, entry_of, gap, pending};
use tests::processes::{Road, RoadOptions};
use tests::tables::{Tables, eventually};

use super::{metric, until_acknowledged};

const SHARD: &str = "telemetry:teltonika:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_waits_for_what_was_sent_before_it_and_lies_with_the_dead() -> Result<()> {
    let mut road = Road::start(RoadOptions {
        cloud: vec![
            ("stream.claim_after", "8s".into()),
            ("stream.look_every", "1s".into()),
        ],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    road.cloud.terminate().await?;
    // Five positions were read by somebody who died; their gateway lost three of them meanwhile,
    // and one more that it had never sent.
    add(&mut redis, STREAM_TELTONIKA, "*", &entry_of(1, 1..=5)?).await?;
    let dead = StreamReadOptions::default().group(GROUP_PROCESSOR, "dead");
    let read: redis::Value = redis
        .xread_options(&[STREAM_TELTONIKA], &[">"], &dead)
        .await?;
    assert_ne!(read, redis::Value::Nil);
    add(&mut redis, STREAM_TELTONIKA, "*", &gap(1, 3..=6, 4)?).await?;
    // Told twice, as gateways do until the floor covers it, and something else behind it.
    add(&mut redis, STREAM_TELTONIKA, "*", &gap(1, 3..=6, 4)?).await?;
    add(&mut redis, STREAM_TELTONIKA, "*", &entry_of(1, 7..=8)?).await?;
    road.cloud.restart().await?;
    tables.wait_for("SELECT count(*) FROM positions", 2).await?;
    eventually(
        "both are held, and nothing else waits but the first",
        async || {
            let held = metric(&road.cloud, "milepost_cloud_gaps_held ").await?;
            Ok(held == 2 && pending(&mut redis.clone(), STREAM_TELTONIKA).await? == 3)
        },
    )
    .await?;
    // Taken over, stored; then, and only then, what is left of the gap counts as given up.
    tables.wait_for("SELECT count(*) FROM positions", 7).await?;
    until_acknowledged(&redis).await?;
    let settled: (String, i64, i64) = tables
        .one("SELECT range_agg(int8range(first_seq, last_seq, '[]'))::text, sum(stored)::bigint, sum(dropped)::bigint FROM settled")
        .await?;
    assert_eq!(settled, ("{[1,9)}".to_owned(), 7, 1));
    eventually("nothing is held", async || {
        Ok(metric(&road.cloud, "milepost_cloud_gaps_held ").await? == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_waits_for_what_was_sent_before_it_into_another_shard() -> Result<()> {
    let mut road = Road::start(RoadOptions {
        cloud: vec![
            ("stream.claim_after", "4s".into()),
            ("stream.look_every", "1s".into()),
        ],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    add(&mut redis, SHARD, "*", &entry_of(1, 9..=9)?).await?;
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    until_acknowledged(&redis).await?;
    eventually("that of the shard as well", async || {
        Ok(pending(&mut redis.clone(), SHARD).await? == 0)
    })
    .await?;
    road.cloud.terminate().await?;
    add(&mut redis, SHARD, "*", &entry_of(1, 1..=5)?).await?;
    let dead = StreamReadOptions::default().group(GROUP_PROCESSOR, "dead");
    let read: redis::Value = redis.xread_options(&[SHARD], &[">"], &dead).await?;
    assert_ne!(read, redis::Value::Nil);
    add(&mut redis, STREAM_TELTONIKA, "*", &gap(1, 1..=5, 5)?).await?;
    road.cloud.restart().await?;
    tables.wait_for("SELECT count(*) FROM positions", 6).await?;
    until_acknowledged(&redis).await?;
    let ledger: (i64, i64) = tables
        .one("SELECT sum(stored)::bigint, sum(dropped)::bigint FROM ledger")
        .await?;
    ensure!(ledger == (6, 0), "{ledger:?}");
    Ok(())
}
