//! The HTTP door against the door for trackers: one connection each, turn by turn, to one gateway.
//!
//! Why one connection: both then wait for the disk between two requests, and what is compared is how
//! much a request carries and what reading it costs. Redis is there and takes nothing, as in
//! [`crate::throughput`].
//!
//! Invariant: a batch counts when its 202 says that all of it was accepted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use tests::processes::Gateway;
use tests::servers::{GATEWAY, Port, Redis, RedisOptions};
use tests::tables::eventually;

use crate::crowd::Crowd;
use crate::frames::Pool;
use crate::print::{Should, median, progress, ratio};
use crate::throughput::FIRST_IMEI;
use crate::{Scale, limits, process};

/// Positions in a batch.
const POSITIONS: usize = 500;

/// Records in a frame of the other door.
const RECORDS: u8 = 25;

/// Different batches, so that nothing is the same twice in a row.
const POOL: usize = 64;

/// Part of the trackers' records a second that the HTTP door should reach.
const RATE_TARGET: f64 = 0.5;

/// How many times an ACK's delay a 202 may take.
const DELAY_TARGET: f64 = 2.0;

/// One turn of one of the two.
struct Turn {
    records_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
}

/// Measures and prints.
/// # Errors
/// When a server does not start or an answer is wrong.
pub async fn run(base: &Path, scale: &Scale) -> Result<()> {
    println!("\ndoors: batches of {POSITIONS} positions over HTTP against frames of {RECORDS} records, one connection each");
    let mut redis = Redis::start(RedisOptions::default()).await?;
    let dir = tempfile::tempdir_in(base)?;
    let port = Port::free()?;
    let mut settings = limits();
    settings.push(("uplink.response_timeout", "600s".into()));
    settings.push(("commands.enabled", false.into()));
    settings.push(("ingest.open", true.into()));
    settings.push(("listen.http", json!([format!("127.0.0.1:{}", port.number())])));
    let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &settings).await?;
    eventually("the uplink is connected", async || {
        Ok(gateway.status().await?["uplink"]["connected"] == true)
    })
    .await?;
    redis.pause()?;
    let pid = gateway.pid().context("the gateway runs")?;
    let (trackers, http) = (gateway.tcp_addr(), ([127, 0, 0, 1], port.number()).into());
    let scale = scale.clone();
    let measured = tokio::task::spawn_blocking(move || measure(pid, trackers, http, &scale)).await?;
    redis.resume()?;
    let (frames, batches) = measured?;
    say("frames", &frames);
    say("batches", &batches);
    let part = |of: fn(&Turn) -> f64| {
        let turns = batches.iter().zip(&frames);
        median(turns.map(|(batch, frame)| of(batch) / of(frame)))
    };
    ratio("http-to-frames-rate", part(|turn| turn.records_per_s), Should::Reach, RATE_TARGET);
    ratio("http-to-frames-p99", part(|turn| turn.p99_ms), Should::StayBelow, DELAY_TARGET);
    Ok(())
}

fn measure(
    pid: u32,
    trackers: SocketAddr,
    http: SocketAddr,
    scale: &Scale,
) -> Result<(Vec<Turn>, Vec<Turn>)> {
    let pool = Pool::new(RECORDS)?;
    let mut crowd = Crowd::enter(trackers, 1, FIRST_IMEI)?;
    let mut poster = Poster::new(http)?;
    let (mut frames, mut batches) = (Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        // The first round warms up.
        let duration = if round == 0 { scale.turn / 4 } else { scale.turn };
        let before = process::cpu_time(pid)?;
        let stretch = crowd.hurry(&pool, duration)?;
        let cpu = process::cpu_time(pid)?.saturating_sub(before);
        let frame = Turn::new(stretch.records_per_s(), &stretch.delays_us, cpu, stretch.records_in_all);
        let before = process::cpu_time(pid)?;
        let (positions, took, delays_us) = poster.hurry(duration)?;
        let cpu = process::cpu_time(pid)?.saturating_sub(before);
        let batch = Turn::new(positions as f64 / took.as_secs_f64(), &delays_us, cpu, positions);
        progress(&format!(
            "doors: round {round} frames {:.0} records/s, batches {:.0}",
            frame.records_per_s, batch.records_per_s
        ));
        if round > 0 {
            frames.push(frame);
            batches.push(batch);
        }
    }
    Ok((frames, batches))
}

impl Turn {
    fn new(records_per_s: f64, delays_us: &Histogram<u64>, cpu: Duration, records: u64) -> Self {
        let delay_ms = |quantile| delays_us.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            records_per_s,
            p50_ms: delay_ms(0.5),
            p99_ms: delay_ms(0.99),
            cpu_us: cpu.as_secs_f64() * 1e6 / records.max(1) as f64,
        }
    }
}

fn say(name: &str, turns: &[Turn]) {
    let of = |of: fn(&Turn) -> f64| median(turns.iter().map(of));
    println!(
        "{name:<8} | {:>10.0} rec/s | {:>6.1} CPU µs/record | p50 {:.2} ms, p99 {:.2} ms",
        of(|turn| turn.records_per_s),
        of(|turn| turn.cpu_us),
        of(|turn| turn.p50_ms),
        of(|turn| turn.p99_ms),
    );
}

/// A connection that posts one batch after the other.
struct Poster {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl Poster {
    fn new(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            stream,
            requests: (0..POOL).map(request).collect(),
            next: 0,
        })
    }

    /// Positions accepted, in which time, and how long each batch took in microseconds.
    fn hurry(&mut self, duration: Duration) -> Result<(u64, Duration, Histogram<u64>)> {
        let mut delays_us = Histogram::new_with_max(120_000_000, 3)?;
        let (began, mut positions) = (Instant::now(), 0);
        while began.elapsed() < duration {
            let sent_at = Instant::now();
            let request = &self.requests[self.next % POOL];
            self.next += 1;
            self.stream.write_all(request)?;
            self.accepted()?;
            delays_us.record(u64::try_from(sent_at.elapsed().as_micros())?)?;
            positions += POSITIONS as u64;
        }
        Ok((positions, began.elapsed(), delays_us))
    }

    fn accepted(&mut self) -> Result<()> {
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                bail!("it hung up");
            }
            answer.extend_from_slice(&buffer[..count]);
            // The body is one object, and a batch without a bad item has no other brace.
            if answer.ends_with(b"}") {
                break;
            }
        }
        let answer = String::from_utf8(answer)?;
        let wanted = format!("\"accepted\":{POSITIONS},");
        ensure!(answer.starts_with("HTTP/1.1 202") && answer.contains(&wanted), "{answer}");
        Ok(())
    }
}

/// Ten devices, each with as much as a tracker's record says.
fn request(batch: usize) -> Vec<u8> {
    let one = |at: usize| {
        let number = batch * POSITIONS + at;
        json!({
            "device": format!("van-{}", at % 10),
            "time": 1_795_334_400_000_u64 + 1_000 * number as u64,
            "latitude": 52.0 + number as f64 / 1e6,
            "longitude": 13.0 + number as f64 / 1e6,
            "altitude_m": 34,
            "heading_deg": number % 360,
            "speed_kmh": number % 120,
            "attributes": { "ignition": true, "battery_mv": 12_000 + number % 900, "satellites": 9 },
        })
    };
    let body: serde_json::Value = (0..POSITIONS).map(one).collect();
    let body = body.to_string();
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}
