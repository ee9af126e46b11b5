//! A backlog on its way out while trackers go on: how fast it drains, and what the live ones feel.
//!
//! Live delay is from the moment the gateway received a record to the moment a reader of the stream
//! has it; both clocks are this machine's.
//!
//! Invariant: the time of the drain ends with the last record of the backlog in the reader's hands.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use contract::{Device, Entry, Payload, SpoolSeq};
use hdrhistogram::Histogram;
use tests::processes::Gateway;
use tests::servers::{ADMIN, GATEWAY, Redis, RedisOptions};
use tokio::task::JoinHandle;

use crate::cloud::Cloud;
use crate::crowd::{Crowd, Stretch};
use crate::frames::Pool;
use crate::print::{Should, progress, ratio};
use crate::throughput::FIRST_IMEI;
use crate::{Scale, limits, process};

const STREAM: &str = contract::keys::STREAM_TELTONIKA;

/// Trackers that fill the spool.
const FILLERS: usize = 200;
const FILLERS_FIRST: u64 = FIRST_IMEI + 1_000_000;
const RECORDS_A_FRAME: u8 = 25;

/// Trackers that go on, one record a second each.
const LIVE: usize = 100;
const LIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Live delay with a backlog, as a multiple of without.
const TARGET: f64 = 2.0;

/// Redis is away for so long: after a minute the uplink lets go of its places, and only then is what
/// waits a backlog that live records overtake.
const AWAY: Duration = Duration::from_secs(75);

/// Live records that a p99 needs at least.
const JUDGED_MIN: u64 = 300;

/// The longest that nothing may arrive.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What the reader saw.
#[derive(Default)]
struct Seen {
    backlog_records: AtomicU64,
    live: Mutex<Live>,
}

struct Live {
    /// Only records received from this moment on are looked at.
    since_ms: u64,
    delays_ms: Histogram<u64>,
    /// Arriving twice is allowed, but counts once.
    backlog: BTreeSet<SpoolSeq>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            since_ms: u64::MAX,
            delays_ms: Histogram::new(3).expect("three digits are within what it knows"),
            backlog: BTreeSet::new(),
        }
    }
}

impl Seen {
    fn take_in(&self, entry: &Entry, now_ms: u64) -> Result<()> {
        let payload = Payload::open(&entry.coding, &entry.data)?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for envelope in payload.envelopes()? {
            let Device::Imei(imei) = &envelope.device else {
                continue;
            };
            if imei.as_u64() >= FILLERS_FIRST {
                if live.backlog.insert(envelope.seq) {
                    let records = u64::from(envelope.record_count);
                    self.backlog_records.fetch_add(records, Ordering::Relaxed);
                }
            } else if envelope.received_at_ms >= live.since_ms {
                let delay_ms = now_ms.saturating_sub(envelope.received_at_ms);
                live.delays_ms.saturating_record(delay_ms);
            }
        }
        Ok(())
    }

    /// Begins to look; what was seen until now is handed out.
    fn begin(&self, since_ms: u64) -> Histogram<u64> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = live.delays_ms.clone();
        live.delays_ms.reset();
        live.since_ms = since_ms;
        seen
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}

fn read_on(mut cloud: Cloud, seen: Arc<Seen>, stop: Arc<AtomicBool>) -> JoinHandle<Result<Cloud>> {
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let read = cloud.read().await?;
            let now_ms = now_ms();
            for (_, entry) in &read {
                seen.take_in(entry, now_ms)?;
            }
            cloud.settle(&read).await?;
        }
        Ok(cloud)
    })
}

/// The live trackers on a thread of their own, until `stop`.
fn live(mut crowd: Crowd, stop: Arc<AtomicBool>) -> JoinHandle<Result<(Crowd, Stretch)>> {
    tokio::task::spawn_blocking(move || {
        let pool = Pool::new(1)?;
        let stretch = crowd.stroll(&pool, LIVE_INTERVAL, &stop)?;
        Ok((crowd, stretch))
    })
}

/// Measures and prints.
/// # Errors
/// When a server does not start, or records do not arrive.
pub async fn run(base: &Path, scale: &Scale) -> Result<()> {
    println!(
        "\ndrain: {} records in frames of {RECORDS_A_FRAME}, {LIVE} live trackers at one record a second",
        scale.backlog
    );
    let mut redis = Redis::start(RedisOptions::default()).await?;
    process::allow_files();
    let dir = tempfile::tempdir_in(base)?;
    let mut settings = limits();
    // The pause before the next attempt is not what is measured.
    settings.push(("uplink.retry_max", "5s".into()));
    let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &settings).await?;
    let pid = gateway.pid().context("the gateway runs")?;
    let to = gateway.tcp_addr();
    let cloud = Cloud::open(&redis, GATEWAY, STREAM).await?;
    let seen = Arc::new(Seen::default());
    let crowd = tokio::task::spawn_blocking(move || Crowd::enter(to, LIVE, FIRST_IMEI)).await??;

    progress(&format!(
        "drain: live trackers alone, {} s",
        scale.live.as_secs()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = read_on(cloud, Arc::clone(&seen), Arc::clone(&stop));
    let strolling = live(crowd, Arc::clone(&stop));
    seen.begin(now_ms());
    tokio::time::sleep(scale.live).await;
    let delays_before = seen.begin(u64::MAX);
    stop.store(true, Ordering::Relaxed);
    let (crowd, acks_before) = strolling.await??;
    let mut cloud = reader.await??;

    redis.stop().await?;
    let away_since = Instant::now();
    fill(to, scale.backlog).await?;
    let left = AWAY.saturating_sub(away_since.elapsed());
    progress(&format!(
        "drain: Redis stays away for {} s more",
        left.as_secs()
    ));
    tokio::time::sleep(left).await;

    progress("drain: Redis comes back");
    redis.restart().await?;
    let back_at = Instant::now();
    cloud.reconnect(&redis).await?;
    let stop = Arc::new(AtomicBool::new(false));
    seen.begin(now_ms());
    let reader = read_on(cloud, Arc::clone(&seen), Arc::clone(&stop));
    let strolling = live(crowd, Arc::clone(&stop));
    let cpu_before = process::cpu_time(pid)?;
    let (first_after, took) = until_drained(&seen, scale.backlog, back_at).await?;
    let cpu = process::cpu_time(pid)?.saturating_sub(cpu_before);
    let delays_during = seen.begin(u64::MAX);
    let memory = peak_memory(&redis).await;
    stop.store(true, Ordering::Relaxed);
    let (_, acks_during) = strolling.await??;
    reader.await??;

    println!(
        "drained in {:.1} s (the first record {:.1} s after Redis was back): {:.0} records/s; gateway {:.2} CPU µs/record, {:.1} MiB resident; Redis at most {memory}",
        took.as_secs_f64(),
        first_after.as_secs_f64(),
        scale.backlog as f64 / took.saturating_sub(first_after).as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / scale.backlog as f64,
        crate::print::mib(process::resident_bytes(pid)?),
    );
    let readable = |delays: &Histogram<u64>, quantile| delays.value_at_quantile(quantile) as f64;
    let ack =
        |stretch: &Stretch, quantile| stretch.delays_us.value_at_quantile(quantile) as f64 / 1e3;
    println!("live records          | readable in Redis p50, p99 ms | ACK p50, p99 ms");
    for (name, delays, acks) in [
        ("without a backlog", &delays_before, &acks_before),
        ("while it drains", &delays_during, &acks_during),
    ] {
        println!(
            "{name:<21} | {:>6.0}, {:>6.0} ({} records) | {:>6.2}, {:>6.2}",
            readable(delays, 0.5),
            readable(delays, 0.99),
            delays.len(),
            ack(acks, 0.5),
            ack(acks, 0.99),
        );
    }
    if delays_during.len() < JUDGED_MIN {
        println!("too short to judge the live records by: a larger backlog is needed");
        return Ok(());
    }
    let part = readable(&delays_during, 0.99) / readable(&delays_before, 0.99).max(1.0);
    ratio("drain-live-p99-to-without", part, Should::StayBelow, TARGET);
    let part = ack(&acks_during, 0.99) / ack(&acks_before, 0.99).max(0.001);
    ratio("drain-ack-p99-to-without", part, Should::StayBelow, TARGET);
    Ok(())
}

async fn fill(to: std::net::SocketAddr, records: u64) -> Result<()> {
    progress(&format!(
        "drain: spooling {records} records with Redis away"
    ));
    let work = move || -> Result<()> {
        let pool = Pool::new(RECORDS_A_FRAME)?;
        let mut crowd = Crowd::enter(to, FILLERS, FILLERS_FIRST)?;
        let said = AtomicU64::new(0);
        let stretch = crowd.hurry_until(&pool, records, &|so_far| {
            let tenth = so_far * 10 / records;
            if said.fetch_max(tenth, Ordering::Relaxed) < tenth {
                progress(&format!("  {so_far} spooled"));
            }
        })?;
        progress(&format!(
            "  {:.0} records/s went in",
            stretch.records_per_s()
        ));
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}

/// When the first record was there, and when the last, counted from `began`.
async fn until_drained(seen: &Seen, records: u64, began: Instant) -> Result<(Duration, Duration)> {
    let (mut first, mut moved_at, mut before, mut said_at) = (None, began, 0, began);
    loop {
        let now = seen.backlog_records.load(Ordering::Relaxed);
        if now > before {
            first.get_or_insert_with(|| began.elapsed());
            (before, moved_at) = (now, Instant::now());
        }
        if now >= records {
            return Ok((first.unwrap_or_default(), began.elapsed()));
        }
        ensure!(
            moved_at.elapsed() < SILENCE_MAX,
            "only {now} of {records} records arrived, and nothing for {} s",
            SILENCE_MAX.as_secs()
        );
        if said_at.elapsed() > Duration::from_secs(5) {
            said_at = Instant::now();
            progress(&format!("  {now} of {records} drained"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The most memory Redis says it ever used.
async fn peak_memory(redis: &Redis) -> String {
    let asked = async {
        let mut admin = redis
            .client(ADMIN)?
            .get_multiplexed_async_connection()
            .await?;
        let info: String = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut admin)
            .await?;
        let peak = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory_peak_human:"));
        anyhow::Ok(peak.unwrap_or("?").trim().to_owned())
    };
    asked.await.unwrap_or_else(|_| "?".to_owned())
}
