//! What the store makes of batches: tallies exact on every way into the tables, on plain PostgreSQL
//! and on TimescaleDB.
#![allow(clippy::unwrap_used)]

use anyhow::Result;
use cloud::store::{Tally, Writer};
use codec::encode::{IoSpec, IoValue};
use sqlx::Connection as _;
use tests::batches::{Sent, SpoolOf, migrated};
use tests::servers::{Postgres, Timescale};
use tests::tables::{Tables, eventually};

const IMEI: u64 = 350_000_000_000_001;
const NOON_MS: u64 = 1_790_000_000_000;

/// One frame of one record.
fn sent(device: u64, at_ms: u64, received_at_ms: u64) -> Sent {
    let io = [
        IoSpec {
            id: 239,
            value: IoValue::U8(1),
        },
        IoSpec {
            id: 66,
            value: IoValue::U16(12_345),
        },
        IoSpec {
            id: 331,
            value: IoValue::Bytes(&[0xab, 0]),
        },
        IoSpec {
            id: 72,
            value: IoValue::U16(0xff9c),
        },
    ];
    Sent::record(IMEI + device, at_ms, received_at_ms, &io).unwrap()
}

/// `count` frames of five devices, one a second.
fn drive(from_ms: u64, count: u64) -> Vec<Sent> {
    (0..count)
        .map(|n| sent(n % 5, from_ms + n * 1_000, from_ms + n * 1_000 + 500))
        .collect()
}

fn tally(received: u64, stored: u64, quarantined: u64, duplicate: u64) -> Tally {
    Tally {
        received,
        stored,
        quarantined,
        duplicate,
        ..Tally::default()
    }
}

/// All that must hold, whatever the server.
async fn every_way_counts_exactly(url: &str) -> Result<()> {
    let database = migrated(url).await?;
    let mut writer = Writer::new(database, true);
    let mut first = SpoolOf::new("depot", 1)?;
    // New, more than the database takes in one go; out of order.
    let mut drive_1 = drive(NOON_MS, 3_000);
    drive_1.reverse();
    let written = writer.write(&first.batch(&drive_1)?, 1).await?;
    assert_eq!(written.tally(), tally(3_000, 3_000, 0, 0));
    // The same through another spool: all known. Then half and half, then new again.
    let mut second = SpoolOf::new("other", 2)?;
    let written = writer.write(&second.batch(&drive_1)?, 1).await?;
    assert_eq!(written.tally(), tally(3_000, 0, 0, 3_000));
    let mut half = drive(NOON_MS + 2_900_000, 200);
    let written = writer.write(&second.batch(&half)?, 1).await?;
    assert_eq!(written.tally(), tally(200, 100, 0, 100));
    let fresh = drive(NOON_MS + 10_000_000, 50);
    let written = writer.write(&second.batch(&fresh)?, 1).await?;
    assert_eq!(written.tally(), tally(50, 50, 0, 0));
    // One known among many new ones, on the way that does not expect it.
    half = drive(NOON_MS + 20_000_000, 99);
    half.push(fresh[7].clone());
    let written = writer.write(&second.batch(&half)?, 1).await?;
    assert_eq!(written.tally(), tally(100, 99, 0, 1));
    // Twice within one batch; the batch before this one was clean.
    writer
        .write(&second.batch(&drive(NOON_MS + 25_000_000, 5))?, 1)
        .await?;
    let mut twice = drive(NOON_MS + 30_000_000, 10);
    twice.extend(twice.clone());
    let written = writer.write(&second.batch(&twice)?, 1).await?;
    assert_eq!(written.tally(), tally(20, 10, 0, 10));
    // A batch that is delivered again settles nothing and counts nothing.
    let entry = second.entry(&drive(NOON_MS + 40_000_000, 10))?;
    let again = tests::batches::decoded(&entry)?;
    assert_eq!(writer.write(&again, 1).await?.tally(), tally(10, 10, 0, 0));
    assert_eq!(writer.write(&again, 1).await?.tally(), Tally::default());

    // Two days ahead of its reception: quarantine. Received again when that is no longer so, the
    // record stays where it is, also in a batch of new ones.
    let day_ms = 24 * 3_600_000;
    let at_ms = NOON_MS + 50_000_000;
    let odd = sent(1, at_ms, at_ms - 2 * day_ms);
    let written = writer
        .write(&second.batch(std::slice::from_ref(&odd))?, 1)
        .await?;
    assert_eq!(written.tally(), tally(1, 0, 1, 0));
    let mut later = drive(NOON_MS + 60_000_000, 20);
    later.push(Sent {
        received_at_ms: at_ms,
        ..odd
    });
    let written = writer.write(&second.batch(&later)?, 1).await?;
    assert_eq!(written.tally(), tally(21, 20, 0, 1));

    let tables = Tables::connect(url).await?;
    let rows: (i64, i64) = tables
        .one("SELECT count(*), count(DISTINCT (device_id, fix_time, record_hash)) FROM positions")
        .await?;
    assert_eq!(rows, (3_294, 3_294));
    let frames: (i64,) = tables.one("SELECT count(*) FROM frames").await?;
    assert_eq!(frames.0, 6_407);
    let values: (i64,) = tables
        .one(
            "SELECT count(*) FROM positions WHERE ignition AND external_voltage_mv = 12345 \
             AND io = '{\"331\": \"ab00\", \"72\": 65436}' AND movement IS NULL \
             AND latitude = 54.6870123 AND longitude = -25.2797 AND received_at = fix_time + interval '0.5 s'",
        )
        .await?;
    assert_eq!(values.0, 3_294, "every way writes the same values");
    let ledger: (i64, i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, sum(quarantined)::bigint, sum(duplicate)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (6_407, 3_294, 1, 3_112));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_counts_exactly_on_plain_postgresql() -> Result<()> {
    let postgres = Postgres::start().await?;
    every_way_counts_exactly(&postgres.create_database().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_counts_exactly_on_timescaledb() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    every_way_counts_exactly(&timescale.url()).await
}

/// COPY is the one way that no rule on the table sees.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_copied_also_around_what_came_before() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let mut writer = Writer::new(migrated(&url).await?, true);
    let tables = Tables::connect(&url).await?;
    for table in ["positions", "frames"] {
        tables
            .run(&format!(
                "CREATE RULE only_copy AS ON INSERT TO {table} DO INSTEAD NOTHING"
            ))
            .await?;
    }
    let mut spool = SpoolOf::new("depot", 1)?;
    let new = drive(NOON_MS, 100);
    writer.write(&spool.batch(&new)?, 1).await?;
    let rows: (i64, i64) = tables
        .one("SELECT (SELECT count(*) FROM positions), (SELECT count(*) FROM frames)")
        .await?;
    assert_eq!(rows, (100, 100));
    let written = writer.write(&spool.batch(&new)?, 1).await?;
    assert_eq!(written.tally(), tally(100, 0, 0, 100));
    // Of two devices some are known, of the others none.
    let mut mixed = drive(NOON_MS + 100_000, 50);
    mixed.extend_from_slice(&new[98..]);
    let written = writer.write(&spool.batch(&mixed)?, 1).await?;
    assert_eq!(written.tally(), tally(52, 50, 0, 2));
    let rows: (i64, i64) = tables
        .one("SELECT (SELECT count(*) FROM positions), (SELECT count(*) FROM frames)")
        .await?;
    assert_eq!(rows, (150, 252));
    Ok(())
}

/// Whoever looks first does not see what another writer has not committed yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_writer_puts_in_meanwhile_is_left_out_by_the_database() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let mut writer = Writer::new(migrated(&url).await?, true);
    let tables = Tables::connect(&url).await?;
    let mut spool = SpoolOf::new("depot", 1)?;
    let drive = drive(NOON_MS, 20);
    // Twice, so that the writer looks first from now on.
    for _ in 0..2 {
        writer.write(&spool.batch(&drive)?, 1).await?;
    }
    tables
        .run("CREATE TABLE aside AS SELECT * FROM positions; DELETE FROM positions")
        .await?;
    let mut other = sqlx::PgConnection::connect(&url).await?;
    let mut transaction = other.begin().await?;
    sqlx::query("INSERT INTO positions SELECT * FROM aside")
        .execute(&mut *transaction)
        .await?;
    let batch = spool.batch(&drive)?;
    let writing = tokio::spawn(async move { writer.write(&batch, 1).await });
    eventually("the writer waits for the other", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        Ok(tables.one::<(i64,)>(waiting).await?.0 == 1)
    })
    .await?;
    transaction.commit().await?;
    assert_eq!(writing.await??.tally(), tally(20, 0, 0, 20));
    let rows: (i64,) = tables.one("SELECT count(*) FROM positions").await?;
    assert_eq!(rows.0, 20);
    Ok(())
}
