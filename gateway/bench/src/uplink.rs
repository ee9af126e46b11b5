//! What the way to Redis costs in bytes: a hundred simulated trackers, one record in ten seconds,
//! one gateway for each flush interval, side by side in real time.
//!
//! Every byte of every connection of the gateway to Redis is counted, both directions, TLS
//! included: a proxy stands in between. That is entries and answers, floor, heartbeat, registry,
//! orders. Headers of IP and TCP are computed beside it.
//!
//! Invariant: a window begins and ends a moment after a batch arrived, so that it holds whole
//! batches and the traffic of exactly their time. For the longest interval there is one flush only,
//! and it begins with the first record.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use codec::AvlData;
use contract::{Entry, Payload};
use tests::fleet::{Fleet, FleetConfig, Rate};
use tests::processes::{Gateway, Setting};
use tests::proxy::Proxy;
use tests::servers::{Redis, RedisOptions};
use tokio::task::JoinHandle;

use crate::Scale;
use crate::cloud::Cloud;
use crate::json;
use crate::print::{Should, progress, ratio};

const DEVICES: usize = 100;
const INTERVAL_MS: u64 = 10_000;

/// Logins and the first publication of the registry are over by then.
const WARM_UP: Duration = Duration::from_secs(15);

/// After a batch arrived: the floor was read, so nothing more follows from it.
const AFTERMATH: Duration = Duration::from_secs(3);

const SAMPLE: Duration = Duration::from_millis(500);

/// IP and TCP with timestamps.
const HEADER_BYTES: u64 = 52;

/// The interval that is judged, and what it should cost.
const JUDGED_S: u64 = 60;
const TARGET_BYTES: f64 = 45.0;

/// What arrived so far.
#[derive(Clone, Copy, Debug, Default)]
struct Delivered {
    records: u64,
    entries: u64,
    /// The payloads of the entries, compressed.
    data_bytes: u64,
    /// The records as trackers encode them.
    avl_bytes: u64,
    /// The records as JSON.
    json_bytes: u64,
}

/// Everything at one moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    up_bytes: u64,
    down_bytes: u64,
    segments: u64,
    delivered: Delivered,
}

/// One gateway with its trackers and its reader.
struct Way {
    name: String,
    flush_s: u64,
    proxy: Proxy,
    fleet: Fleet,
    arrived: Arc<Mutex<(Delivered, Vec<Instant>)>>,
    reader: JoinHandle<Result<()>>,
    samples: Vec<Sample>,
    _gateway: Gateway,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Measures and prints.
/// # Errors
/// When a server does not start, or nothing arrives.
pub async fn run(base: &Path, scale: &Scale) -> Result<()> {
    let dir = tempfile::tempdir_in(base)?;
    let mut plans: Vec<(u64, bool)> = scale.flushes_s.iter().map(|s| (*s, true)).collect();
    // What of it the commands cost.
    plans.push((JUDGED_S, false));
    let id = |number: usize| format!("bench-{number}");
    let redis = Redis::start(RedisOptions {
        gateways: (0..plans.len()).map(id).collect(),
        ..RedisOptions::default()
    });
    let redis = redis.await?;
    let mut ways = Vec::new();
    for (number, (flush_s, commands)) in plans.into_iter().enumerate() {
        let id = id(number);
        let way = Way::start(
            dir.path(),
            &redis,
            &id,
            number as u64 + 1,
            flush_s,
            commands,
        );
        ways.push(way.await?);
    }
    let longest_s = scale.flushes_s.iter().max().copied().unwrap_or(JUDGED_S);
    let lasts = Duration::from_secs(longest_s.max(2 * JUDGED_S + 10)) + AFTERMATH * 3;
    let began = Instant::now();
    let mut said_at = began;
    while began.elapsed() < lasts {
        tokio::time::sleep(SAMPLE).await;
        for way in &mut ways {
            way.sample()?;
        }
        if said_at.elapsed() > Duration::from_secs(20) {
            said_at = Instant::now();
            let left_s = lasts.saturating_sub(began.elapsed()).as_secs();
            progress(&format!("uplink: {left_s} s left (real time)"));
        }
    }
    println!(
        "\nuplink: bytes a record, {DEVICES} devices, one record each {} s",
        INTERVAL_MS / 1000
    );
    println!(
        "flush              | window s | records | up + down = sum, TLS included | with IP and TCP headers | payload alone | raw AVL | JSON"
    );
    for way in &ways {
        way.say(began)?;
    }
    println!(
        "headers: {HEADER_BYTES} bytes for each segment, computed for 1500-byte packets; ACKs without data are not in it"
    );
    Ok(())
}

impl Way {
    async fn start(
        base: &Path,
        redis: &Redis,
        id: &str,
        seed: u64,
        flush_s: u64,
        commands: bool,
    ) -> Result<Self> {
        let dir = base.join(id);
        std::fs::create_dir(&dir)?;
        let stream = contract::keys::stream(id);
        let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into()).await?;
        let own = format!(":{}/", redis.port());
        let url = redis
            .url(id)
            .replace(&own, &format!(":{}/", proxy.addr().port()));
        let settings: [Setting; 4] = [
            ("uplink.url", url.into()),
            ("uplink.stream", stream.clone().into()),
            ("uplink.flush", format!("{flush_s}s").into()),
            ("commands.enabled", commands.into()),
        ];
        let mut cloud = Cloud::open(redis, id, &stream).await?;
        let gateway = Gateway::start(&dir, Some(&dir), id, redis, &settings).await?;
        let arrived: Arc<Mutex<(Delivered, Vec<Instant>)>> = Arc::default();
        let log = Arc::clone(&arrived);
        let reader = tokio::spawn(async move {
            loop {
                let read = cloud.read().await?;
                for (_, entry) in &read {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.0.take_in(entry)?;
                    log.1.push(Instant::now());
                }
                cloud.settle(&read).await?;
            }
        });
        let fleet = Fleet::start(FleetConfig {
            devices: DEVICES,
            rate: Rate::every_ms(INTERVAL_MS)?,
            seed,
            ..FleetConfig::new(gateway.tcp_addr().to_string())
        });
        let without = if commands { "" } else { ", no commands" };
        Ok(Self {
            name: format!("{flush_s} s{without}"),
            flush_s,
            proxy,
            fleet: fleet.await?,
            arrived,
            reader,
            samples: Vec::new(),
            _gateway: gateway,
        })
    }

    fn sample(&mut self) -> Result<()> {
        ensure!(
            !self.reader.is_finished(),
            "{}: the reader of the stream has ended",
            self.name
        );
        let [up, down] = self.proxy.carried();
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        self.samples.push(Sample {
            at: Instant::now(),
            up_bytes: up.bytes,
            down_bytes: down.bytes,
            segments: up.segments + down.segments,
            delivered: arrived.0,
        });
        Ok(())
    }

    /// First and last sample of the window.
    fn window(&self, began: Instant) -> Option<(Sample, Sample)> {
        let arrivals = self
            .arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .clone();
        let end = self.samples.last()?.at;
        let whole = |arrival: &&Instant| **arrival + AFTERMATH <= end;
        let last = *arrivals.iter().rev().find(whole)? + AFTERMATH;
        let warm = began + WARM_UP;
        let first = *arrivals.iter().find(|arrival| **arrival >= warm)?;
        // One flush alone began with the first record, when nothing had arrived yet.
        let is_one = first + Duration::from_secs(self.flush_s) + AFTERMATH > end;
        let first = if is_one || self.flush_s * 4 > began.elapsed().as_secs() * 3 {
            warm
        } else {
            first + AFTERMATH
        };
        let at = |moment| {
            self.samples
                .iter()
                .find(|sample| sample.at >= moment)
                .copied()
        };
        Some((at(first)?, at(last)?))
    }

    fn say(&self, began: Instant) -> Result<()> {
        let window = self.window(began);
        let (from, to) = window.with_context(|| format!("flush {}: nothing arrived", self.name))?;
        let of = |field: fn(&Delivered) -> u64| field(&to.delivered) - field(&from.delivered);
        let records = of(|delivered| delivered.records);
        ensure!(
            records > 0,
            "flush {}: nothing arrived in its window",
            self.name
        );
        let each = |bytes: u64| bytes as f64 / records as f64;
        let (up, down) = (
            each(to.up_bytes - from.up_bytes),
            each(to.down_bytes - from.down_bytes),
        );
        println!(
            "{:<18} | {:>8.0} | {records:>7} | {up:>6.1} + {down:>5.1} = {:>6.1} | {:>6.1} | {:>6.1} ({} entries) | {:>6.1} | {:>6.1}",
            self.name,
            (to.at - from.at).as_secs_f64(),
            up + down,
            up + down + each((to.segments - from.segments) * HEADER_BYTES),
            each(of(|delivered| delivered.data_bytes)),
            of(|delivered| delivered.entries),
            each(of(|delivered| delivered.avl_bytes)),
            each(of(|delivered| delivered.json_bytes)),
        );
        let waiting = self.fleet.stats().waiting;
        ensure!(
            waiting < DEVICES as u64,
            "{waiting} records wait at their trackers"
        );
        if self.name == format!("{JUDGED_S} s") {
            ratio(
                "uplink-bytes-per-record-60s",
                up + down,
                Should::StayBelow,
                TARGET_BYTES,
            );
        }
        Ok(())
    }
}

impl Delivered {
    fn take_in(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        self.data_bytes += entry.data.len() as u64;
        let payload = Payload::open(&entry.coding, &entry.data)?;
        for envelope in payload.envelopes()? {
            let device = envelope.device.to_string();
            for record in AvlData::parse(envelope.bytes)?.records() {
                self.records += 1;
                self.avl_bytes += record.raw.len() as u64;
                self.json_bytes += json::of_record(&device, &record).len() as u64;
            }
        }
        Ok(())
    }
}
