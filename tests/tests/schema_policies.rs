//! What becomes of rows as they grow old: policies, late rows, aggregates and retention, on
//! TimescaleDB and on plain PostgreSQL.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::Utc;
use cloud::config::PolicyConfig;
use cloud::store::retention::{self, Deleted};
use cloud::store::{Database, Writer, policies};
use codec::encode::{IoSpec, IoValue};
use sqlx::{Connection as _, PgConnection};
use tests::batches::{Sent, SpoolOf, migrated};
use tests::servers::{Postgres, Timescale};
use tests::tables::Tables;

const IMEI: u64 = 350_000_000_000_001;
const HOUR_MS: u64 = 3_600_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);

const DEFAULTS: PolicyConfig = PolicyConfig {
    chunk_interval: DAY,
    compress_after: Some(Duration::from_secs(7 * 24 * 3_600)),
    retention: None,
    frames_retention: Some(Duration::from_secs(90 * 24 * 3_600)),
    sensors_retention: None,
};

/// Midnight UTC so many days ago.
fn midnight_ms(days: u64) -> u64 {
    let now_ms = u64::try_from(Utc::now().timestamp_millis()).unwrap();
    (now_ms / (24 * HOUR_MS) - days) * 24 * HOUR_MS
}

/// `count` records of one device, a minute apart, with an odometer; every second one with ignition.
fn drive(device: u64, from_ms: u64, count: u64) -> Vec<Sent> {
    let record = |n: u64| {
        let io = [
            IoSpec {
                id: 239,
                value: IoValue::U8((n % 2) as u8),
            },
            IoSpec {
                id: 16,
                value: IoValue::U32(1_000 + n as u32 * 100),
            },
        ];
        let at_ms = from_ms + n * 60_000;
        Sent::record(IMEI + device, at_ms, at_ms + 500, &io).unwrap()
    };
    (0..count).map(record).collect()
}

async fn apply(database: &Database, config: &PolicyConfig) -> Result<Vec<String>> {
    let mut connection = database.connect().await?;
    let changed = policies::apply(database, &mut connection, config).await?;
    connection.close().await?;
    Ok(changed)
}

const JOBS: &str = "SELECT hypertable_name::text, coalesce(config ->> 'compress_after', config ->> 'drop_after')::interval::text \
     FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_retention') ORDER BY 1, proc_name";

fn jobs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(table, age): &(&str, &str)| ((*table).to_owned(), (*age).to_owned());
    wanted.iter().map(own).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_set_once_and_again_when_the_settings_change() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let database = migrated(&timescale.url()).await?;
    let tables = Tables::connect(&timescale.url()).await?;
    let first = apply(&database, &DEFAULTS).await?;
    assert_eq!(first.len(), 9, "{first:?}");
    let by_default = jobs(&[
        ("frames", "24:00:00"),
        ("frames", "2160:00:00"),
        ("positions", "168:00:00"),
        ("sensor_readings", "168:00:00"),
    ]);
    assert_eq!(tables.all::<(String, String)>(JOBS).await?, by_default);
    assert_eq!(apply(&database, &DEFAULTS).await?, [""; 0]);

    let other = PolicyConfig {
        chunk_interval: 7 * DAY,
        compress_after: Some(3 * DAY),
        retention: Some(400 * DAY),
        frames_retention: None,
        sensors_retention: Some(30 * DAY),
    };
    let changed = apply(&database, &other).await?;
    let wanted = [
        "positions: new chunks of 7 days",
        "positions: compress_after 3 days",
        "positions: drop_after 400 days",
        "frames: new chunks of 7 days",
        "frames: drop_after off",
        "sensor_readings: new chunks of 7 days",
        "sensor_readings: compress_after 3 days",
        "sensor_readings: drop_after 30 days",
        "positions_hourly: refreshed every 30 minutes",
        "device_daily: refreshed every 30 minutes",
    ];
    assert_eq!(changed, wanted);
    let by_other = jobs(&[
        ("frames", "24:00:00"),
        ("positions", "72:00:00"),
        ("positions", "9600:00:00"),
        ("sensor_readings", "72:00:00"),
        ("sensor_readings", "720:00:00"),
    ]);
    assert_eq!(tables.all::<(String, String)>(JOBS).await?, by_other);
    // A refresh that reached over dropped chunks would empty what is kept of them.
    let starts: Vec<(String,)> = tables
        .all("SELECT (config ->> 'start_offset')::interval::text FROM timescaledb_information.jobs WHERE proc_name LIKE '%continuous_aggregate'")
        .await?;
    assert_eq!(
        starts,
        [("9432:00:00".to_owned(),), ("9432:00:00".to_owned(),)]
    );
    assert_eq!(apply(&database, &other).await?, [""; 0]);

    let off = PolicyConfig {
        compress_after: None,
        retention: None,
        frames_retention: None,
        sensors_retention: None,
        ..other
    };
    apply(&database, &off).await?;
    assert_eq!(tables.all::<(String, String)>(JOBS).await?, jobs(&[]));
    let chunks: Vec<(String, String)> = tables
        .all("SELECT hypertable_name::text, time_interval::text FROM timescaledb_information.dimensions WHERE hypertable_name IN ('positions', 'frames') ORDER BY 1")
        .await?;
    assert_eq!(
        chunks,
        jobs(&[("frames", "7 days"), ("positions", "7 days")])
    );
    Ok(())
}

/// What a background worker would run; the test server has none.
async fn run_jobs(url: &str, procedure: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let ids: Vec<i32> =
        sqlx::query_scalar("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1")
            .bind(procedure)
            .fetch_all(&mut connection)
            .await?;
    ensure!(!ids.is_empty(), "no job {procedure}");
    for id in ids {
        // Not within a transaction, so not as a prepared statement.
        let call = sqlx::AssertSqlSafe(format!("CALL run_job({id})"));
        sqlx::raw_sql(call).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_into_compressed_chunks_are_counted_exactly() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let url = timescale.url();
    let database = migrated(&url).await?;
    apply(&database, &DEFAULTS).await?;
    let mut writer = Writer::new(database, true);
    let mut spool = SpoolOf::new("depot", 1)?;
    let old = drive(0, midnight_ms(12), 200);
    writer.write(&spool.batch(&old)?, 1).await?;
    run_jobs(&url, "policy_compression").await?;
    let tables = Tables::connect(&url).await?;
    let packed: (i64,) = tables
        .one("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed AND hypertable_name IN ('positions', 'frames')")
        .await?;
    ensure!(packed.0 >= 2, "{packed:?} chunks compressed");

    // New ones between the old ones; the old ones again; both mixed after a clean batch.
    let late = drive(0, midnight_ms(12) + 30_000, 100);
    let tally = writer.write(&spool.batch(&late)?, 1).await?.tally();
    assert_eq!((tally.stored, tally.duplicate), (100, 0));
    let tally = writer.write(&spool.batch(&old)?, 1).await?.tally();
    assert_eq!((tally.stored, tally.duplicate), (0, 200));
    writer
        .write(&spool.batch(&drive(0, midnight_ms(11), 5))?, 1)
        .await?;
    let mut mixed = drive(1, midnight_ms(12), 50);
    mixed.extend(old[..50].iter().cloned());
    let tally = writer.write(&spool.batch(&mixed)?, 1).await?.tally();
    assert_eq!((tally.stored, tally.duplicate), (50, 50));
    let rows: (i64, i64) = tables
        .one("SELECT count(*), count(DISTINCT (device_id, fix_time, record_hash)) FROM positions")
        .await?;
    assert_eq!(rows, (355, 355));
    Ok(())
}

/// Every bucket of both aggregates against the rows themselves.
async fn differences(tables: &Tables) -> Result<(i64, i64)> {
    tables
        .one(
            "WITH hours AS (
                 SELECT device_id, date_bin('1 hour', fix_time, '2000-01-01+00') AS hour, count(*) AS records,
                        count(*) FILTER (WHERE ignition) AS ignition_on, min(odometer_m) AS first, max(odometer_m) AS last
                 FROM positions GROUP BY 1, 2),
             days AS (
                 SELECT device_id, date_bin('1 day', fix_time, '2000-01-01+00') AS day, count(*) AS records,
                        count(ignition) AS ignition_known, max(fix_time) AS last_fix
                 FROM positions GROUP BY 1, 2)
             SELECT (SELECT count(*) FROM hours h FULL JOIN positions_hourly a USING (device_id, hour)
                     WHERE (h.records, h.ignition_on, h.first, h.last)
                         IS DISTINCT FROM (a.records, a.ignition_on, a.odometer_first_m, a.odometer_last_m)),
                    (SELECT count(*) FROM days d FULL JOIN device_daily a USING (device_id, day)
                     WHERE (d.records, d.ignition_known, d.last_fix)
                         IS DISTINCT FROM (a.records, a.ignition_known, a.last_fix))",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_right_before_and_after_a_refresh_and_over_late_rows() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let url = timescale.url();
    let database = migrated(&url).await?;
    apply(&database, &DEFAULTS).await?;
    let mut writer = Writer::new(database, false);
    let mut spool = SpoolOf::new("depot", 1)?;
    for device in 0..2 {
        writer
            .write(&spool.batch(&drive(device, midnight_ms(5), 300))?, 1)
            .await?;
    }
    let tables = Tables::connect(&url).await?;
    assert_eq!(
        differences(&tables).await?,
        (0, 0),
        "computed while reading"
    );
    run_jobs(&url, "policy_refresh_continuous_aggregate").await?;
    assert_eq!(differences(&tables).await?, (0, 0), "computed ahead");
    // Younger than anything computed: seen at once. Older: with the next refresh.
    writer
        .write(&spool.batch(&drive(2, midnight_ms(1), 90))?, 1)
        .await?;
    assert_eq!(
        differences(&tables).await?,
        (0, 0),
        "computed ahead and while reading"
    );
    writer
        .write(&spool.batch(&drive(0, midnight_ms(5) + 30_000, 90))?, 1)
        .await?;
    ensure!(
        differences(&tables).await? != (0, 0),
        "late rows wait for the refresh"
    );
    run_jobs(&url, "policy_refresh_continuous_aggregate").await?;
    assert_eq!(differences(&tables).await?, (0, 0), "computed again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_whole_chunks_and_leaves_the_rest() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let url = timescale.url();
    let database = migrated(&url).await?;
    apply(&database, &DEFAULTS).await?;
    let mut writer = Writer::new(database.clone(), true);
    let mut spool = SpoolOf::new("depot", 1)?;
    for days in [100, 50] {
        writer
            .write(&spool.batch(&drive(0, midnight_ms(days), 10))?, 1)
            .await?;
    }
    run_jobs(&url, "policy_retention").await?;
    let tables = Tables::connect(&url).await?;
    let rows: (i64, i64) = tables
        .one("SELECT (SELECT count(*) FROM positions), (SELECT count(*) FROM frames)")
        .await?;
    assert_eq!(rows, (20, 10), "frames after 90 days, positions never");
    // The delete job has nothing to do where chunks are dropped.
    let short = PolicyConfig {
        retention: Some(DAY),
        ..DEFAULTS
    };
    assert_eq!(
        retention::delete_some(&database, &short).await?,
        Deleted::default()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_postgresql_deletes_in_pieces_one_process_at_a_time() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let database = migrated(&url).await?;
    assert_eq!(apply(&database, &DEFAULTS).await?, [""; 0]);
    let mut writer = Writer::new(database.clone(), true);
    let mut spool = SpoolOf::new("depot", 1)?;
    writer
        .write(&spool.batch(&drive(0, midnight_ms(100), 5_010))?, 1)
        .await?;
    writer
        .write(&spool.batch(&drive(0, midnight_ms(2), 90))?, 1)
        .await?;
    let tables = Tables::connect(&url).await?;
    assert_eq!(differences(&tables).await?, (0, 0));

    let config = PolicyConfig {
        retention: Some(30 * DAY),
        ..DEFAULTS
    };
    // Somebody else is at it.
    let mut other = PgConnection::connect(&url).await?;
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock(hashtext('milepost.retention'))")
        .execute(&mut other)
        .await?;
    assert_eq!(
        retention::delete_some(&database, &config).await?,
        Deleted::default()
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await?;

    let first = retention::delete_some(&database, &config).await?;
    assert_eq!((first.positions, first.more), (5_000, true));
    let second = retention::delete_some(&database, &config).await?;
    assert_eq!((second.positions, second.more), (10, false));
    let frames = first.frames + second.frames;
    let left: (i64, i64) = tables
        .one("SELECT (SELECT count(*) FROM positions), (SELECT count(*) FROM frames WHERE received_at < now() - interval '90 days')")
        .await?;
    assert_eq!(left, (90, 0), "{frames} frames deleted");
    assert_eq!(
        retention::delete_some(&database, &config).await?,
        Deleted::default()
    );
    assert_eq!(
        retention::delete_some(
            &database,
            &PolicyConfig {
                frames_retention: None,
                ..DEFAULTS
            }
        )
        .await?,
        Deleted::default()
    );
    Ok(())
}
