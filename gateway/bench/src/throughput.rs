//! Records a second, processor time and ACK delay: the gateway against the floor, turn by turn.
//!
//! Why both stay up and connected all the time: so that a slow moment of the machine hits both, and
//! the turns can be short. Whoever is not measured has nothing to do.
//!
//! What is compared is the road from the socket to the ACK: the gateway has a Redis that is there and
//! takes nothing, so it neither forwards nor (as it does after a minute offline) compacts. What those
//! two cost on the same processors is measured too, beside it: the floor does nothing of the kind.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::processes::Gateway;
use tests::servers::{GATEWAY, Port, Redis, RedisOptions};
use tests::tables::eventually;
use tokio::task::JoinHandle;

use crate::cloud::Cloud;
use crate::crowd::{Crowd, Stretch};
use crate::frames::Pool;
use crate::print::{Should, median, progress, ratio};
use crate::{Scale, limits, process};

/// What the floor writes to, again and again.
const FLOOR_BYTES: u64 = 512 << 20;

const CONNECTIONS: [usize; 4] = [1, 100, 1_000, 5_000];

/// Where a target is set.
const JUDGED: [usize; 2] = [100, 1_000];

const RECORDS: [u8; 2] = [1, 25];

/// Part of the floor that the gateway should reach.
const TARGET: f64 = 0.7;

const STREAM: &str = contract::keys::STREAM_TELTONIKA;

/// The running floor; ends with its handle, and with us.
struct Floor {
    process: Child,
    addr: SocketAddr,
}

impl Floor {
    fn start(dir: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("floor");
        let mut process = Command::new(&program)
            .arg(dir.join("floor.bin"))
            .arg(FLOOR_BYTES.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut port = String::new();
        let stdout = process.stdout.take().context("the pipe we asked for")?;
        BufReader::new(stdout).read_line(&mut port)?;
        let port: u16 = port.trim().parse().context("the floor says no port")?;
        Ok(Self {
            process,
            addr: ([127, 0, 0, 1], port).into(),
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself, which is all that is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One turn of one of the two.
struct Turn {
    stretch: Stretch,
    cpu: Duration,
}

impl Turn {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.stretch.records_in_all.max(1) as f64
    }

    fn delay_ms(&self, quantile: f64) -> f64 {
        self.stretch.delays_us.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// One of the two with its trackers.
struct Side {
    pid: u32,
    crowd: Crowd,
    turns: Vec<Turn>,
}

impl Side {
    fn turn(&mut self, pool: &Pool, duration: Duration) -> Result<Turn> {
        let before = process::cpu_time(self.pid)?;
        let stretch = self.crowd.hurry(pool, duration)?;
        let cpu = process::cpu_time(self.pid)?.saturating_sub(before);
        Ok(Turn { stretch, cpu })
    }

    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of))
    }
}

/// Measures and prints.
/// # Errors
/// When a server does not start or an answer is wrong.
pub async fn run(base: &Path, scale: &Scale) -> Result<()> {
    println!("\nthroughput: ACKed records/s against the floor, while Redis is there and silent");
    println!(
        "connections x records a frame |    floor rec/s |  gateway rec/s | part | CPU µs/record floor, gateway | ACK p50, p99 ms floor | gateway"
    );
    let mut redis = Redis::start(RedisOptions::default()).await?;
    let mut settings = limits();
    settings.push(("uplink.response_timeout", "600s".into()));
    settings.push(("commands.enabled", false.into()));
    let files = process::trackers_within(process::allow_files());
    for connections in CONNECTIONS {
        if connections * 2 > files {
            println!(
                "{connections:>6} connections: left out, the limit of open files allows {files} sockets"
            );
            continue;
        }
        let dir = tempfile::tempdir_in(base)?;
        let floor = Floor::start(dir.path())?;
        let gateway =
            Gateway::start(dir.path(), Some(dir.path()), GATEWAY, &redis, &settings).await?;
        eventually("the uplink is connected", async || {
            Ok(gateway.status().await?["uplink"]["connected"] == true)
        })
        .await?;
        redis.pause()?;
        let measured = pair(&floor, &gateway, connections, scale).await;
        redis.resume()?;
        measured?;
    }
    println!(
        "\nbeside it, 100 connections (Redis, TLS and the reader of the stream share the processors)"
    );
    println!("records a frame          | gateway rec/s | CPU µs/record | ACK p50, p99 ms");
    offline(base, &redis, scale).await?;
    forwarding(base, &redis, scale).await
}

async fn pair(floor: &Floor, gateway: &Gateway, connections: usize, scale: &Scale) -> Result<()> {
    progress(&format!("throughput: {connections} connections to each"));
    let pid = gateway.pid().context("the gateway runs")?;
    let (floor_pid, floor_addr, to) = (floor.process.id(), floor.addr, gateway.tcp_addr());
    let scale = scale.clone();
    let work = move || {
        let side = |pid, crowd| Side {
            pid,
            crowd,
            turns: Vec::new(),
        };
        let mut floor = side(
            floor_pid,
            Crowd::enter(floor_addr, connections, FIRST_IMEI)?,
        );
        let mut gateway = side(pid, Crowd::enter(to, connections, FIRST_IMEI)?);
        for records in RECORDS {
            let pool = Pool::new(records)?;
            floor.turns.clear();
            gateway.turns.clear();
            for round in 0..=scale.rounds {
                // Whoever goes first differs.
                let mut order = [(&mut floor, "floor"), (&mut gateway, "gateway")];
                if round % 2 == 1 {
                    order.swap(0, 1);
                }
                for (side, name) in order {
                    // The first round warms up: caches, buffers, segments.
                    let duration = if round == 0 {
                        scale.turn / 4
                    } else {
                        scale.turn
                    };
                    let turn = side.turn(&pool, duration)?;
                    let per_s = turn.stretch.records_per_s();
                    progress(&format!(
                        "  {connections} x {records}: round {round} {name} {per_s:.0} records/s"
                    ));
                    if round > 0 {
                        side.turns.push(turn);
                    }
                }
            }
            say(connections, records, &floor, &gateway);
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}

/// The bench's trackers count from here.
pub const FIRST_IMEI: u64 = 350_000_001_000_000;

fn say(connections: usize, records: u8, floor: &Side, gateway: &Side) {
    let per_s = |turn: &Turn| turn.stretch.records_per_s();
    let parts = floor.turns.iter().zip(&gateway.turns);
    let part = median(parts.map(|(floor, gateway)| per_s(gateway) / per_s(floor)));
    println!(
        "{connections:>6} x {records:<2} | {:>14.0} | {:>14.0} | {part:.3} | {:.1}, {:.1} | {:.2}, {:.2} | {:.2}, {:.2}",
        floor.median(per_s),
        gateway.median(per_s),
        floor.median(Turn::cpu_us),
        gateway.median(Turn::cpu_us),
        floor.median(|turn| turn.delay_ms(0.5)),
        floor.median(|turn| turn.delay_ms(0.99)),
        gateway.median(|turn| turn.delay_ms(0.5)),
        gateway.median(|turn| turn.delay_ms(0.99)),
    );
    if JUDGED.contains(&connections) {
        let name = format!("throughput-to-floor-{connections}x{records}");
        ratio(&name, part, Should::Reach, TARGET);
    }
}

/// Where Redis refuses: the gateway compacts what it keeps.
async fn offline(base: &Path, redis: &Redis, scale: &Scale) -> Result<()> {
    let mut settings = limits();
    // A port that nobody listens at.
    let nobody = Port::free()?;
    let own = format!(":{}/", redis.port());
    let url = redis
        .url(GATEWAY)
        .replace(&own, &format!(":{}/", nobody.number()));
    settings.push(("uplink.url", url.into()));
    for records in RECORDS {
        let dir = tempfile::tempdir_in(base)?;
        let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, redis, &settings);
        alone("offline, compacting", &gateway.await?, records, scale).await?;
    }
    Ok(())
}

/// Where Redis takes everything.
async fn forwarding(base: &Path, redis: &Redis, scale: &Scale) -> Result<()> {
    for records in RECORDS {
        let dir = tempfile::tempdir_in(base)?;
        redis.flushall().await?;
        let settings = limits();
        let gateway = Gateway::start(dir.path(), Some(dir.path()), GATEWAY, redis, &settings);
        let gateway = gateway.await?;
        let mut cloud = Cloud::open(redis, GATEWAY, STREAM).await?;
        let reader: JoinHandle<Result<()>> = tokio::spawn(async move {
            loop {
                let read = cloud.read().await?;
                cloud.settle(&read).await?;
            }
        });
        alone("forwarding", &gateway, records, scale).await?;
        ensure!(!reader.is_finished(), "the reader of the stream has ended");
        reader.abort();
    }
    Ok(())
}

/// The gateway with nothing to compare it with.
async fn alone(what: &str, gateway: &Gateway, records: u8, scale: &Scale) -> Result<()> {
    progress(&format!("throughput: {what}, {records} records a frame"));
    let pid = gateway.pid().context("the gateway runs")?;
    let (to, turn) = (gateway.tcp_addr(), scale.turn * 2);
    let work = move || {
        let mut side = Side {
            pid,
            crowd: Crowd::enter(to, 100, FIRST_IMEI)?,
            turns: Vec::new(),
        };
        let pool = Pool::new(records)?;
        side.turn(&pool, turn / 4)?;
        side.turn(&pool, turn)
    };
    let turn = tokio::task::spawn_blocking(work).await??;
    println!(
        "{records:>2} {what:<21} | {:>13.0} | {:.1} | {:.2}, {:.2}",
        turn.stretch.records_per_s(),
        turn.cpu_us(),
        turn.delay_ms(0.5),
        turn.delay_ms(0.99),
    );
    Ok(())
}
