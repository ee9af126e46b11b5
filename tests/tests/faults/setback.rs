//! The database goes back in time, as when a standby that lagged is promoted.

use anyhow::{Result, ensure};
use cloud::store::Writer;
use contract::keys::STREAM_TELTONIKA;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tests::batches::{Sent, SpoolOf, migrated};
use tests::drive::{Drive, PATIENCE, options};
use tests::fail_points::{Scenario, arm, died, of};
use tests::items::admin;
use tests::servers::Postgres;
use tests::tables::{Tables, eventually};

use super::{ends_well, log_bytes, logged, metric};

const TOLD: &str = "the database went back in time";

/// Drives on behind a copy, until gateways may have forgotten what the copy lacks.
async fn beyond_a_copy(drive: &mut Drive) -> Result<()> {
    drive.postgres()?.keep_copy().await?;
    drive.stored(600).await?;
    // Seconds at the fleet's pace, in which the gateway looks at its floor several times.
    drive.acked(1_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_gone_back_lacks_is_stored_again_from_redis() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    beyond_a_copy(&mut drive).await?;
    let before = log_bytes(&drive.road.cloud)?;
    drive.postgres()?.go_back().await?;
    logged(&drive.road.cloud, before, TOLD).await?;
    drive.stored(300).await?;
    ends_well(&drive).await?;
    let cloud = &drive.road.cloud;
    ensure!(metric(cloud, "milepost_cloud_database_setbacks_total ").await? >= 1);
    assert_eq!(metric(cloud, "milepost_cloud_trim_lost_total ").await?, 0);
    eventually("nothing is missing any more", async || {
        Ok(metric(cloud, "milepost_cloud_positions_missing ").await? == 0)
    })
    .await
}

/// Also when it dies while it does so: the floors in Redis still tell what was stored once.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_hands_out_again_it_begins_anew() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    for name in of(Scenario::Setback)? {
        arm(&mut drive.road.cloud, name, 1).await;
        beyond_a_copy(&mut drive).await?;
        drive.postgres()?.go_back().await?;
        died(&mut drive.road.cloud, name).await?;
        // What was handed out may be stored before the new process compares, and then nothing is
        // lacking: nobody stores anything until it has said so.
        let mut lock = PgConnection::connect(drive.road.database_url()).await?;
        lock.execute("BEGIN; LOCK TABLE settled IN SHARE MODE")
            .await?;
        let before = log_bytes(&drive.road.cloud)?;
        drive.road.cloud.restart().await?;
        logged(&drive.road.cloud, before, TOLD).await?;
        lock.close().await?;
        drive.stored(300).await?;
    }
    ends_well(&drive).await
}

/// Longer ago than `stream.keep`: then it is said how much is missing, and goes on being said.
#[tokio::test(flavor = "multi_thread")]
async fn what_redis_no_longer_holds_either_is_counted_as_missing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    beyond_a_copy(&mut drive).await?;
    drive.fleet.stop_producing();
    ensure!(drive.fleet.drain(PATIENCE).await, "trackers are done");
    drive
        .road
        .clean_ledger(&drive.fleet.truth(), PATIENCE)
        .await?;
    let mut redis = admin(&drive.road).await?;
    let mut trim = redis::cmd("XTRIM");
    let _: u64 = trim
        .arg(&[STREAM_TELTONIKA, "MAXLEN", "0"])
        .query_async(&mut redis)
        .await?;
    let positions = "SELECT sum(last_seq - first_seq + 1)::bigint FROM settled";
    let (had,): (i64,) = drive.tables.one(positions).await?;
    let before = log_bytes(&drive.road.cloud)?;
    drive.postgres()?.go_back().await?;
    logged(&drive.road.cloud, before, TOLD).await?;
    let cloud = &drive.road.cloud;
    eventually("it says how much", async || {
        let (has,): (i64,) = drive.tables.one(positions).await?;
        let missing = metric(cloud, "milepost_cloud_positions_missing ").await?;
        ensure!(missing > 0, "{has} of {had}");
        Ok(i64::try_from(missing)? == had - has)
    })
    .await
}

/// The pool replaces lost connections without a word: a writer that was idle meanwhile sees no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_idle_forgets_whose_number_is_whose() -> Result<()> {
    const NOON_MS: u64 = 1_790_000_000_000;
    let mut postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let mut idle = Writer::new(migrated(&url).await?, true);
    postgres.keep_copy().await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    let frame = |imei: u64, n: u64| Sent::record(imei, NOON_MS + n * 1_000, NOON_MS, &[]);
    let (early, late) = (350_000_000_000_001, 350_000_000_000_002);
    idle.write(&spool.batch(&[frame(early, 1)?])?, 1).await?;
    postgres.go_back().await?;
    // Another process registers another tracker, which gets the same number.
    let mut other = Writer::new(migrated(&url).await?, true);
    let mut elsewhere = SpoolOf::new("yard", 2)?;
    other
        .write(&elsewhere.batch(&[frame(late, 2)?])?, 1)
        .await?;
    idle.write(&spool.batch(&[frame(early, 3)?])?, 1).await?;
    let tables = Tables::connect(&url).await?;
    for (imei, n) in [(late, 2), (early, 3)] {
        let rows = tables.positions(imei, 1).await?;
        assert_eq!(rows[0]["fix_time_ms"], NOON_MS + n * 1_000);
    }
    Ok(())
}
