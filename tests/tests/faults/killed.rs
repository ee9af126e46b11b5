//! The cloud is killed at every place of the list, each once, and started again. In the end
//! everything that was acknowledged is stored, once.

use anyhow::{Context as _, Result};
use contract::keys::{GROUP_PROCESSOR, STREAM_TELTONIKA};
use redis::AsyncCommands as _;
use redis::streams::StreamReadOptions;
use tests::batches::{Sent, SpoolOf};
use tests::drive::{Drive, options};
use tests::fail_points::{Scenario, arm, died, of};
use tests::items::{add, admin, entry};
use tests::processes::{Road, RoadOptions, Setting};
use tests::tables::{Tables, eventually};

use super::{ends_well, until_acknowledged};

async fn while_a_fleet_drives(scenario: Scenario, nth: fn(u64) -> u64) -> Result<()> {
    let settings: [Setting; 1] = [("stream.keep", "1s".into())];
    let mut drive = Drive::start(RoadOptions {
        cloud: settings.to_vec(),
        ..options()
    })
    .await?;
    for (number, name) in (0..).zip(of(scenario)?) {
        let cloud = &mut drive.road.cloud;
        arm(cloud, name, nth(number)).await;
        died(cloud, name).await?;
        cloud.restart().await?;
        drive.caught_up().await.context(name)?;
    }
    ends_well(&drive).await
}

/// Not always at the first batch: also between two that were committed.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_of_writing_it_loses_nothing_and_doubles_nothing() -> Result<()> {
    while_a_fleet_drives(Scenario::Writing, |number| 1 + number % 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_of_telling_it_loses_nothing_and_doubles_nothing() -> Result<()> {
    while_a_fleet_drives(Scenario::Telling, |_| 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_takes_over_it_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut road = Road::start(RoadOptions {
        cloud: vec![("stream.claim_after", "1s".into())],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    eventually("there is a group to read in", async || {
        let exists: bool = redis.clone().exists(STREAM_TELTONIKA).await?;
        Ok(exists)
    })
    .await?;
    let mut expected = 0;
    for (spool, name) in (1..).zip(of(Scenario::Claims)?) {
        road.cloud.terminate().await?;
        for seq in 1..=5 {
            add(&mut redis, STREAM_TELTONIKA, "*", &entry(spool, seq)?).await?;
        }
        let dead = StreamReadOptions::default().group(GROUP_PROCESSOR, "dead");
        let read: redis::Value = redis
            .xread_options(&[STREAM_TELTONIKA], &[">"], &dead)
            .await?;
        assert_ne!(read, redis::Value::Nil, "somebody else has read them");
        arm(&mut road.cloud, name, 1).await;
        died(&mut road.cloud, name).await?;
        road.cloud.restart().await?;
        expected += 5;
        tables
            .wait_for("SELECT count(*) FROM positions", expected)
            .await
            .context(name)?;
        until_acknowledged(&redis).await.context(name)?;
    }
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, (SELECT count(*) FROM dead_letters) FROM ledger")
        .await?;
    assert_eq!(ledger, (expected, expected, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_puts_a_record_aside_there_is_one_letter_and_one_copy_of_it() -> Result<()>
{
    const COPIES: &str = "dead-letter:telemetry:teltonika";
    const FROM_MS: u64 = 1_700_000_000_000;
    let mut road = Road::start(RoadOptions {
        cloud: vec![("stream.dead_letter", COPIES.into())],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    tables
        .run("ALTER TABLE positions ADD CONSTRAINT superstitious CHECK (extract(epoch FROM fix_time)::bigint % 100 <> 13)")
        .await?;
    let mut redis = admin(&road).await?;
    let (mut rows, mut letters) = (0, 0);
    for (spool, name) in (1..).zip(of(Scenario::Letters)?) {
        road.cloud.terminate().await?;
        let frames: Vec<Sent> = (0..40)
            .map(|n| {
                let at_ms = FROM_MS + spool * 100_000 + n * 1_000;
                Sent::record(350_000_000_000_001, at_ms, at_ms, &[])
            })
            .collect::<Result<_>>()?;
        let fields = SpoolOf::new("by-hand", spool)?.entry(&frames)?;
        add(&mut redis, STREAM_TELTONIKA, "*", &fields).await?;
        arm(&mut road.cloud, name, 1).await;
        died(&mut road.cloud, name).await?;
        road.cloud.restart().await?;
        (rows, letters) = (rows + 39, letters + 1);
        tables
            .wait_for("SELECT count(*) FROM positions", rows)
            .await
            .context(name)?;
        until_acknowledged(&redis).await.context(name)?;
        tables
            .wait_for("SELECT count(*) FROM dead_letters", letters)
            .await
            .context(name)?;
        let copies: i64 = redis.xlen(COPIES).await?;
        assert_eq!(copies, letters, "{name}");
    }
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, sum(dead)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (rows + letters, rows, letters));
    Ok(())
}
