//! What was answered 202 is in the database, once, whatever dies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::poster::Poster;
use tests::processes::{Road, RoadOptions};
use tests::servers::Port;
use tests::tables::{Tables, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::door::{BEARER, JSON, batch, settings};

const ROWS: &str =
    "SELECT count(*) FROM positions p JOIN devices d ON d.id = p.device_id WHERE d.vendor = 'http'";

async fn post(poster: &mut Poster, body: &Value) -> Result<u16> {
    let body = body.to_string();
    let answer = poster
        .ask("POST", "/v1/batch", &[BEARER, JSON], body.as_bytes())
        .await?;
    Ok(answer.status)
}

/// A road whose gateway has an HTTP door.
struct Posted {
    road: Road,
    tables: Tables,
    to: SocketAddr,
    _dir: tempfile::TempDir,
    _port: Port,
}

impl Posted {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (gateway, port, _) = settings(dir.path())?;
        let options = RoadOptions {
            gateway,
            cloud: vec![("stream.look_every", "1s".into())],
            ..RoadOptions::default()
        };
        let road = Road::start(options).await?;
        Ok(Self {
            tables: Tables::connect(road.database_url()).await?,
            road,
            to: ([127, 0, 0, 1], port.number()).into(),
            _dir: dir,
            _port: port,
        })
    }

    /// Batches of 50 positions of `van`, from the one numbered `next` on, until the connection breaks.
    /// Tells how many were accepted so far, and in the end the first position of each.
    fn keep_posting(&self, next: i64) -> (watch::Receiver<usize>, JoinHandle<Result<Vec<i64>>>) {
        let (tell, told) = watch::channel(0);
        let to = self.to;
        let posting = tokio::spawn(async move {
            let mut poster = Poster::connect(to).await?;
            let mut accepted = Vec::new();
            for first in (next..).step_by(50) {
                match post(&mut poster, &batch("van", first, 50)).await {
                    Ok(202) => {
                        accepted.push(first);
                        tell.send_replace(accepted.len());
                    }
                    Ok(status) => anyhow::bail!("{status} at {first}"),
                    // The connection went with the gateway.
                    Err(_) => break,
                }
            }
            Ok(accepted)
        });
        (told, posting)
    }

    /// Each position of these batches is a row, and none is there twice.
    async fn all_once(&self, accepted: &[i64]) -> Result<()> {
        // Nobody waits for it to be sent on: the spool has it.
        let mut poster = Poster::connect(self.to).await?;
        ensure!(post(&mut poster, &batch("last", 0, 1)).await? == 202);
        // Others may be there as well: kept, and not answered any more.
        let mut numbers = Vec::new();
        eventually("every accepted position is a row", async || {
            let rows: Vec<(i64,)> = self
                .tables
                .all(
                    "SELECT (io->>'number')::bigint FROM positions p \
                     JOIN devices d ON d.id = p.device_id WHERE d.ident = 'van' ORDER BY 1",
                )
                .await?;
            numbers = rows.into_iter().map(|(number,)| number).collect();
            let mut wanted = accepted.iter().flat_map(|first| *first..*first + 50);
            Ok(wanted.all(|number: i64| numbers.binary_search(&number).is_ok()))
        })
        .await?;
        self.tables
            .wait_for("SELECT count(*) FROM devices WHERE ident = 'last'", 1)
            .await?;
        let mut once = numbers.clone();
        once.dedup();
        ensure!(once.len() == numbers.len(), "a position is there twice");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_five_times_is_the_same_rows() -> Result<()> {
    let posted = Posted::start().await?;
    let tables = &posted.tables;
    let mut poster = Poster::connect(posted.to).await?;
    let body = batch("van", 0, 600);
    for _ in 0..5 {
        ensure!(post(&mut poster, &body).await? == 202);
    }
    // Behind the others in the same lane: what comes after it has been dealt with.
    ensure!(post(&mut poster, &batch("last", 0, 1)).await? == 202);
    tables
        .wait_for(
            "SELECT count(*) FROM devices WHERE ident = 'last' AND vendor = 'http'",
            1,
        )
        .await?;
    tables.wait_for(ROWS, 601).await?;
    let (latitude, speed, number): (f64, f64, String) = tables
        .one(
            "SELECT latitude::float8, speed_kmh::float8, io->>'number' FROM positions p \
             JOIN devices d ON d.id = p.device_id WHERE d.ident = 'van' \
             ORDER BY fix_time LIMIT 1 OFFSET 7",
        )
        .await?;
    ensure!((latitude - 52.000_007).abs() < 1e-9 && speed == 50.0 && number == "7");
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 0)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kill_9_of_everything() -> Result<()> {
    let mut posted = Posted::start().await?;
    let mut accepted = Vec::new();
    for round in 0..4 {
        let next = accepted.last().map_or(0, |last| last + 100);
        let (mut told, posting) = posted.keep_posting(next);
        // The poster goes on meanwhile, so it dies somewhere in the middle of a commit.
        told.wait_for(|accepted| *accepted > 5 + 7 * round).await?;
        // The gateway, then what is behind it as well, one more each time.
        posted.road.gateway.kill9()?;
        let (redis, postgres) = (&mut posted.road.redis, &mut posted.road.postgres);
        let redis = redis.as_mut().context("our own")?;
        let postgres = postgres.as_mut().context("our own")?;
        if round > 0 {
            posted.road.cloud.kill9()?;
        }
        if round > 1 {
            redis.kill9()?;
        }
        if round > 2 {
            postgres.kill9()?;
            postgres.restart().await?;
        }
        if round > 1 {
            redis.restart().await?;
        }
        if round > 0 {
            posted.road.cloud.restart().await?;
        }
        accepted.extend(posting.await??);
        posted.road.gateway.restart().await?;
    }
    posted.tables = Tables::connect(posted.road.database_url()).await?;
    posted.all_once(&accepted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_redis_is_sat_out_and_everything_is_accepted() -> Result<()> {
    let mut posted = Posted::start().await?;
    let redis = posted.road.redis.as_mut().context("our own")?;
    redis.stop().await?;
    let until = Instant::now() + Duration::from_secs(60);
    let mut pace = interval(Duration::from_millis(250));
    let mut poster = Poster::connect(posted.to).await?;
    let mut accepted = Vec::new();
    while Instant::now() < until {
        pace.tick().await;
        let first = 50 * i64::try_from(accepted.len())?;
        ensure!(post(&mut poster, &batch("van", first, 50)).await? == 202);
        accepted.push(first);
    }
    let redis = posted.road.redis.as_mut().context("our own")?;
    redis.restart().await?;
    posted.all_once(&accepted).await
}
