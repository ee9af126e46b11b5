//! The whole road on this machine: how long after its reception a record is a row, at two rates, and
//! the most that all parts together take.
//!
//! The delay is counted from the gateway's reception, which comes before the ACK, to the COMMIT as the
//! database dates it (`track_commit_timestamp`); both clocks are this machine's. Batching as delivered:
//! the gateway gathers for 250 ms, the cloud for 200 ms.
//!
//! Invariant: no tracker sends a frame twice, so every record is a row of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};
use tests::processes::{Road, RoadOptions};
use tests::servers::RedisAccess;

use crate::Scale;
use crate::crowd::Crowd;
use crate::frames::Pool;
use crate::print::{Should, progress, ratio};
use crate::process;
use crate::stage::Stage;

/// Trackers, and how often each sends one record.
const RATES: [(usize, Duration); 2] = [
    (100, Duration::from_millis(100)),
    (1_000, Duration::from_millis(100)),
];

/// Where the target is set, and seconds.
const JUDGED: usize = 0;
const TARGET_S: f64 = 1.0;

/// For the most that goes: trackers, records of a frame, how much is added from one try to the next, and
/// which part of what is offered has to become rows meanwhile.
const TRACKERS: usize = 100;
const RECORDS: u8 = 25;
const STEP_PER_S: f64 = 20_000.0;
const KEPT_UP: f64 = 0.97;

const FIRST_IMEI: u64 = 352_000_000_000_000;

/// The beginning, which nobody counts.
const WARM_UP: Duration = Duration::from_secs(3);

/// Measures and prints.
/// # Errors
/// When a part does not start, or records do not arrive.
pub async fn run(stage: &Stage, scale: &Scale) -> Result<()> {
    println!(
        "\ndelay: gateway, Redis, cloud and PostgreSQL as delivered, trackers on the same machine"
    );
    process::allow_files();
    let options = RoadOptions {
        redis: Some(RedisAccess::clone(&stage.redis)),
        database_url: Some(stage.postgres.create_database().await?),
        gateway: vec![
            ("listen.connections_max", 4_000.into()),
            ("listen.connections_per_ip_max", 4_000.into()),
            ("spool.bytes_max", "4GiB".into()),
        ],
        ..RoadOptions::default()
    };
    let mut road = Road::start(options).await?;
    let mut tables = PgConnection::connect(road.database_url()).await?;
    println!("records/s | from reception to row p50, p99, longest ms | records");
    for (number, (trackers, interval)) in RATES.into_iter().enumerate() {
        let per_s = (trackers as f64 / interval.as_secs_f64()).round();
        progress(&format!(
            "delay: {per_s} records/s for {} s",
            scale.live.as_secs()
        ));
        let since = now(&mut tables).await?;
        let first_imei = FIRST_IMEI + 10_000 * number as u64;
        let to = road.gateway.tcp_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let playing = tokio::task::spawn_blocking(move || {
            let mut crowd = Crowd::enter(to, trackers, first_imei)?;
            crowd.stroll(&Pool::new(1)?, interval, &stopped)
        });
        tokio::time::sleep(WARM_UP + scale.live).await;
        stop.store(true, Ordering::Relaxed);
        let sent = playing.await??.records_in_all;
        all_stored(&mut tables, since, sent).await?;
        let (p50, p99, longest, records): (f64, f64, f64, i64) = sqlx::query_as(
            "SELECT q[1], q[2], q[3], n FROM ( \
                 SELECT percentile_disc(ARRAY[0.5, 0.99, 1]::float8[]) WITHIN GROUP (ORDER BY ms) AS q, count(*) AS n \
                 FROM (SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - received_at)::float8 AS ms \
                       FROM positions WHERE received_at >= to_timestamp($1::float8)) AS each) AS all_of_them",
        )
        .bind(since + WARM_UP.as_secs_f64())
        .fetch_one(&mut tables)
        .await?;
        println!("{per_s:>9} | {p50:.0}, {p99:.0}, {longest:.0} | {records}");
        if number == JUDGED {
            ratio(
                "delay-p99-s-at-1000",
                p99 / 1e3,
                Should::StayBelow,
                TARGET_S,
            );
        }
    }
    sustained(&mut road, &mut tables, scale).await?;
    road.stop().await
}

/// The most records a second that become rows as fast as they come: more and more are sent, until rows
/// fall behind. Why not simply as many as trackers can send: a gateway acknowledges ten times what a
/// database takes, and with that backlog to write it leaves nothing of two cores to the others.
async fn sustained(road: &mut Road, tables: &mut PgConnection, scale: &Scale) -> Result<()> {
    let (gateway, cloud) = road
        .gateway
        .pid()
        .zip(road.cloud.pid())
        .context("both run")?;
    let mut most = None;
    for step in 1_u32.. {
        let offered_per_s = f64::from(step) * STEP_PER_S;
        progress(&format!(
            "delay: {offered_per_s} records/s, does it keep up?"
        ));
        let since = now(tables).await?;
        let to = road.gateway.tcp_addr();
        let interval = TRACKERS as f64 * f64::from(RECORDS) / offered_per_s;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let playing = tokio::task::spawn_blocking(move || {
            let mut crowd = Crowd::enter(to, TRACKERS, FIRST_IMEI + 50_000 * u64::from(step))?;
            let pool = Pool::new(RECORDS)?;
            crowd.stroll(&pool, Duration::from_secs_f64(interval), &stopped)
        });
        tokio::time::sleep(WARM_UP).await;
        let first = Look::take(tables, gateway, cloud).await?;
        tokio::time::sleep(scale.live / 2).await;
        let last = Look::take(tables, gateway, cloud).await?;
        stop.store(true, Ordering::Relaxed);
        let stretch = playing.await??;
        all_stored(tables, since, stretch.records_in_all).await?;
        let rows = last.rows - first.rows;
        let rows_per_s = rows / (last.at - first.at).as_secs_f64();
        if rows_per_s < KEPT_UP * offered_per_s {
            break;
        }
        let cpu_us =
            |of: fn(&Look) -> Duration| (of(&last) - of(&first)).as_secs_f64() * 1e6 / rows;
        most = Some((
            rows_per_s,
            cpu_us(|look| look.gateway),
            cpu_us(|look| look.cloud),
        ));
    }
    let (rows_per_s, gateway, cloud) = most.context("it does not keep up at all")?;
    println!(
        "sustained: {rows_per_s:.0} records/s from tracker to row; CPU µs/record: gateway {gateway:.2}, cloud {cloud:.2}"
    );
    Ok(())
}

/// How far everything is.
struct Look {
    rows: f64,
    at: Instant,
    gateway: Duration,
    cloud: Duration,
}

impl Look {
    async fn take(tables: &mut PgConnection, gateway: u32, cloud: u32) -> Result<Self> {
        let rows = sqlx::query_scalar("SELECT coalesce(sum(stored), 0)::int8 FROM settled");
        let rows: i64 = rows.fetch_one(tables).await?;
        Ok(Self {
            rows: rows as f64,
            at: Instant::now(),
            gateway: process::cpu_time(gateway)?,
            cloud: process::cpu_time(cloud)?,
        })
    }
}

/// Seconds since 1970, by the database's clock.
async fn now(tables: &mut PgConnection) -> Result<f64> {
    let asked = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8");
    Ok(asked.fetch_one(tables).await?)
}

async fn all_stored(tables: &mut PgConnection, since: f64, records: u64) -> Result<()> {
    let deadline = Instant::now() + tests::tables::DEADLINE;
    loop {
        let asked = sqlx::query_scalar(
            "SELECT count(*) FROM positions WHERE received_at >= to_timestamp($1::float8)",
        );
        let stored: i64 = asked.bind(since).fetch_one(&mut *tables).await?;
        if u64::try_from(stored)? >= records {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "only {stored} of {records} records are rows"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
