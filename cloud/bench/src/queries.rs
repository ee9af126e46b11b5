//! How long people wait who ask a large table: the newest position of every tracker, and the track of
//! one for a day.
//!
//! The rows are made by the database itself, in the order in which a fleet of a thousand trackers with
//! a record every ten seconds would bring them; the queries are those of docs/schema.md.

use std::time::Instant;

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection};
use tests::batches::migrated;

use crate::Scale;
use crate::print::{median, progress};
use crate::stage::Stage;

const TRACKERS: i64 = 1_000;

/// Rows of one INSERT.
const STEP_ROWS: i64 = 500_000;

const ASKED: usize = 20;

/// Measures and prints.
/// # Errors
/// When the database refuses.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    println!("\nqueries: {} rows of {TRACKERS} trackers", scale.history);
    let url = stage.postgres.create_database().await?;
    drop(migrated(&url).await?);
    let mut tables = PgConnection::connect(&url).await?;
    make(&mut tables, i64::try_from(scale.history)?).await?;
    let mut took = Vec::new();
    for _ in 0..ASKED {
        let began = Instant::now();
        let rows = sqlx::query(
            "SELECT d.imei, d.name, l.fix_time, l.latitude, l.longitude, l.speed_kmh, l.ignition \
             FROM device_latest l JOIN devices d ON d.id = l.device_id ORDER BY l.fix_time DESC",
        )
        .fetch_all(&mut tables)
        .await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(
            rows.len() == usize::try_from(TRACKERS)?,
            "{} trackers",
            rows.len()
        );
    }
    println!(
        "where is everything: the first {:.1} ms, then {:.1} ms (median of {ASKED})",
        took.remove(0),
        median(took.iter().copied()),
    );
    let (mut took, mut rows_of_all) = (Vec::new(), 0);
    for device in (1..=TRACKERS).step_by(usize::try_from(TRACKERS)? / ASKED) {
        let began = Instant::now();
        let rows = sqlx::query(
            "SELECT time, latitude, longitude, heading_deg, speed_kmh FROM telemetry \
             WHERE device_id = $1 AND time >= timestamptz '2026-01-02 00:00:00Z' - interval '1 day' \
               AND time < timestamptz '2026-01-02 00:00:00Z' AND valid ORDER BY time",
        )
        .bind(i32::try_from(device)?)
        .fetch_all(&mut tables)
        .await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        rows_of_all += rows.len();
    }
    println!(
        "one day's track: {:.1} ms (median of {} trackers, {} rows each)",
        median(took.iter().copied()),
        took.len(),
        rows_of_all / took.len(),
    );
    Ok(())
}

async fn make(tables: &mut PgConnection, rows: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO devices (imei, first_seen, last_seen) \
         SELECT 353000000000000 + n, now(), now() FROM generate_series(1, $1::int8) AS n ORDER BY n",
    )
    .bind(TRACKERS)
    .execute(&mut *tables)
    .await?;
    let times = rows / TRACKERS;
    let step = STEP_ROWS / TRACKERS;
    for from in (0..times).step_by(usize::try_from(step)?) {
        sqlx::query(
            "INSERT INTO positions (device_id, fix_time, record_hash, received_at, latitude, longitude, \
                 odometer_m, heading_deg, speed_kmh, event_io_id, external_voltage_mv, battery_voltage_mv, \
                 altitude_m, satellites, priority, gsm_signal, valid, ignition, movement, io) \
             SELECT d, at, hashint8(t * 1000 + d), at + interval '2 seconds', 54 + d * 0.0003 + t * 0.00001, \
                 25 + t * 0.00001, 1000000 + t * 100, t % 360, 50 + t % 40, 0, 13800, 4000, 120, 12, 0, 4, \
                 true, true, true, \
                 format('{\"1\": 1, \"11\": 8937000000000000%s, \"24\": %s, \"69\": 1, \"80\": 0, \"181\": 14, \
                          \"182\": 9, \"199\": %s, \"200\": 0, \"241\": 24602}', d, 50 + t % 40, t * 100)::jsonb \
             FROM generate_series($1::int8, $2::int8 - 1) AS t \
             CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01 00:00:00Z' + t * interval '10 seconds') AS clock(base) \
             CROSS JOIN generate_series(1, $3::int4) AS d \
             CROSS JOIN LATERAL (SELECT base + d * interval '1 millisecond') AS moment(at)",
        )
        .bind(from)
        .bind((from + step).min(times))
        .bind(i32::try_from(TRACKERS)?)
        .execute(&mut *tables)
        .await?;
        progress(&format!(
            "queries: {} of {rows} rows",
            (from + step).min(times) * TRACKERS
        ));
    }
    sqlx::query(
        "INSERT INTO device_latest (device_id, fix_time, record_hash, received_at, latitude, longitude, \
             altitude_m, heading_deg, speed_kmh, satellites, ignition, movement, odometer_m, external_voltage_mv) \
         SELECT d.id, p.fix_time, p.record_hash, p.received_at, p.latitude, p.longitude, p.altitude_m, \
             p.heading_deg, p.speed_kmh, p.satellites, p.ignition, p.movement, p.odometer_m, p.external_voltage_mv \
         FROM devices d CROSS JOIN LATERAL ( \
             SELECT * FROM positions p WHERE p.device_id = d.id ORDER BY p.fix_time DESC LIMIT 1) AS p",
    )
    .execute(&mut *tables)
    .await?;
    // As autovacuum would have done by then.
    sqlx::query("VACUUM (ANALYZE) positions")
        .execute(&mut *tables)
        .await?;
    sqlx::query("ANALYZE devices, device_latest")
        .execute(&mut *tables)
        .await?;
    Ok(())
}
