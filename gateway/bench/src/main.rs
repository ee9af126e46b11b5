//! `./dev bench gateway`: what the delivered gateway can do on this machine, against the least an
//! honest server could do, in one run.
//!
//! Absolute figures mean nothing on a shared machine; every claim is a `RATIO` line, and where there
//! is something to compare with, both take turns.

mod binary;
mod cloud;
mod crowd;
mod doors;
mod drain;
mod frames;
mod json;
mod memory;
mod print;
mod process;
mod throughput;
mod uplink;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tests::processes::{Setting, program_path};
use tokio::signal::unix::{SignalKind, signal};

use print::{Should, mib, progress, ratio};

/// Measures the gateway: speed, processor time, memory, bytes on the uplink, draining, size.
///
/// Builds the gateway as it is delivered (release, static, stripped) and runs it with a private
/// Redis over TLS. Results go to standard output, progress to standard error; every target is a
/// line `RATIO gateway <name> <value> <= or >= <target>`. Exit code 0: all met, 1: missed or broken.
#[derive(Parser)]
#[command(name = "./dev bench gateway", bin_name = "./dev bench gateway", after_help = AFTER)]
struct Cli {
    /// Only these parts.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Shorter turns, a smaller backlog, no flush of 300 s: to try it out, not to quote from.
    #[arg(long)]
    quick: bool,
    /// Works below this directory, on the disk that is to be measured; it must exist.
    /// [default: target/bench of the repository]
    #[arg(long, env = "MILEPOST_BENCH_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Runs this binary (its file name must be `gateway`) instead of building one.
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
}

const AFTER: &str = "\
Everything takes about twenty minutes on two cores, five of them for `uplink`, which runs in real
time. `uplink` hardly needs the processors, so it may run beside other work; the others may not.

  ./dev bench gateway throughput cpu     both are one measurement
  ./dev bench gateway --quick            about six minutes";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Records/s and ACK delay against the floor.
    Throughput,
    /// Processor time a record: the same measurement as throughput.
    Cpu,
    /// Resident memory with many trackers.
    Memory,
    /// Bytes a record on the way to Redis.
    Uplink,
    /// A backlog on its way out, and what live trackers feel of it.
    Drain,
    /// Bytes of the binary.
    Size,
    /// Batches over HTTP against frames of trackers; only when asked for: boxes have no such door.
    Doors,
}

/// How much of everything.
#[derive(Clone)]
struct Scale {
    /// Rounds that count; one more warms up.
    rounds: usize,
    /// One turn of the floor or the gateway.
    turn: Duration,
    /// Intervals that are compared.
    flushes_s: Vec<u64>,
    /// Records.
    backlog: u64,
    /// Live trackers alone.
    live: Duration,
}

impl Scale {
    fn new(quick: bool) -> Self {
        if quick {
            Self {
                rounds: 3,
                turn: Duration::from_secs(1),
                flushes_s: vec![1, 10, 60],
                backlog: 500_000,
                live: Duration::from_secs(10),
            }
        } else {
            Self {
                rounds: 5,
                turn: Duration::from_secs(4),
                flushes_s: vec![1, 10, 60, 300],
                backlog: 5_000_000,
                live: Duration::from_secs(30),
            }
        }
    }
}

/// Most that a binary should weigh.
const SIZE_TARGET_MIB: f64 = 5.0;

/// What is measured, as the lines with targets call it.
const AREA: &str = "gateway";

/// All trackers come from one address here, and none is to be turned away; the spool has room.
fn limits() -> Vec<Setting> {
    vec![
        ("listen.connections_max", 12_000.into()),
        ("listen.connections_per_ip_max", 12_000.into()),
        ("spool.bytes_max", "8GiB".into()),
    ]
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match work(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(cli: Cli) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    // Where the programs are is said by a variable, which a process cannot safely set for itself.
    if std::env::var_os("MILEPOST_BIN_DIR").is_none() {
        let gateway = match cli.gateway {
            Some(path) => path
                .canonicalize()
                .with_context(|| path.display().to_string())?,
            None => binary::build(&root)?,
        };
        let dir = gateway.parent().context("the binary is in a directory")?;
        let error = std::process::Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("MILEPOST_BIN_DIR", dir)
            .exec();
        return Err(error).context("start again");
    }
    let base = cli.dir.unwrap_or_else(|| root.join("target/bench"));
    let base = tempfile::Builder::new()
        .prefix("gateway-bench-")
        .tempdir_in(&base)
        .with_context(|| base.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let scale = Scale::new(cli.quick);
    let outcome = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::select! {
            done = measure(base.path(), &cli.parts, &scale) => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    });
    // A thread that still plays trackers has nobody left to talk to.
    runtime.shutdown_background();
    let removed = base.close();
    match outcome? {
        Some(all_met) => {
            removed?;
            Ok(if all_met {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        None => {
            progress("interrupted; everything that was started is gone");
            std::process::exit(130);
        }
    }
}

async fn measure(base: &Path, parts: &[Part], scale: &Scale) -> Result<bool> {
    let wants = |part| parts.is_empty() || parts.contains(&part);
    println!("{}", machine());
    if wants(Part::Size) {
        let bytes = std::fs::metadata(program_path("gateway")?)?.len();
        println!("\nsize: the static, stripped binary has {bytes} bytes");
        ratio("size-mib", mib(bytes), Should::StayBelow, SIZE_TARGET_MIB);
    }
    if wants(Part::Memory) {
        memory::run(base).await.context("memory")?;
    }
    if wants(Part::Throughput) || wants(Part::Cpu) {
        throughput::run(base, scale).await.context("throughput")?;
    }
    if wants(Part::Drain) {
        drain::run(base, scale).await.context("drain")?;
    }
    if wants(Part::Uplink) {
        uplink::run(base, scale).await.context("uplink")?;
    }
    if parts.contains(&Part::Doors) {
        doors::run(base, scale).await.context("doors")?;
    }
    Ok(print::say_missed())
}

/// What a reader of the figures must know.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{cores} cores, {model}, Linux {}; load before the start {load}",
        kernel.trim()
    )
}
