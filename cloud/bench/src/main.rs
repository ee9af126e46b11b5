//! `./dev bench cloud`: what the delivered cloud can do on this machine, against bare COPY into the
//! same server, in one run.
//!
//! Absolute figures mean nothing on a shared machine; every claim is a `RATIO` line, and where there
//! is something to compare with, both take turns.

mod binary;
mod delay;
mod drain;
mod floor;
mod product;
mod queries;
mod redelivery;
mod source;
mod spent;
mod stage;
mod takeover;
mod throughput;

// One way to play trackers, to look at a process and to print for both benches.
#[allow(dead_code)]
#[path = "../../../gateway/bench/src/crowd.rs"]
mod crowd;
#[allow(dead_code)]
#[path = "../../../gateway/bench/src/frames.rs"]
mod frames;
#[path = "../../../gateway/bench/src/print.rs"]
mod print;
#[allow(dead_code)]
#[path = "../../../gateway/bench/src/process.rs"]
mod process;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use print::progress;
use stage::Stage;

/// What is measured, as the lines with targets call it.
const AREA: &str = "cloud";

/// Measures the cloud: speed of its writer, delay, takeover, memory, queries.
///
/// Builds cloud and gateway as they are delivered (release) and runs them with a private Redis over
/// TLS and a private PostgreSQL. Results go to standard output, progress to standard error; every
/// target is a line `RATIO cloud <name> <value> <= or >= <target>`. Exit code 0: all met, 1: missed
/// or broken.
#[derive(Parser)]
#[command(name = "./dev bench cloud", bin_name = "./dev bench cloud", after_help = AFTER)]
struct Cli {
    /// Only these parts.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Shorter turns, fewer rows: to try it out, not to quote from.
    #[arg(long)]
    quick: bool,
    /// Runs `cloud` and `gateway` from this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

const AFTER: &str = "\
Everything takes about twelve minutes on two cores, --quick four. With MILEPOST_TEST_TIMESCALE_URL set
(a TimescaleDB whose user may create databases), throughput is measured there as well.

  ./dev bench cloud throughput redelivery     what has a target against the floor
  ./dev bench cloud --quick                   about four minutes";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rows/s from a filled stream, with one writer and two, against the floor; CPU per row.
    Throughput,
    /// What it costs when every tenth entry, or every tenth frame's records, come twice.
    Redelivery,
    /// A backlog into the database: rows/s, memory, bytes per row.
    Drain,
    /// From the gateway's reception to the row, and the most that the whole road takes.
    Delay,
    /// How long rows wait when one of two processors is killed.
    Takeover,
    /// The newest positions, and one day's track, in a large table.
    Queries,
}

/// How much of everything.
struct Scale {
    /// Pairs that count.
    rounds: usize,
    /// Rows of one turn.
    turn_rows: u64,
    /// Records.
    backlog: u64,
    /// How long trackers send.
    live: Duration,
    /// `stream.claim_after`.
    claim_after: Duration,
    /// Rows of the large table.
    history: u64,
}

impl Scale {
    fn new(quick: bool) -> Self {
        if quick {
            Self {
                rounds: 2,
                turn_rows: 200_000,
                backlog: 300_000,
                live: Duration::from_secs(8),
                claim_after: Duration::from_secs(10),
                history: 1_000_000,
            }
        } else {
            Self {
                rounds: 5,
                turn_rows: 400_000,
                backlog: 1_000_000,
                live: Duration::from_secs(20),
                claim_after: Duration::from_secs(60),
                history: 10_000_000,
            }
        }
    }
}

fn main() -> ExitCode {
    match work(Cli::parse()) {
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
        let programs = match cli.programs {
            Some(dir) => dir
                .canonicalize()
                .with_context(|| dir.display().to_string())?,
            None => binary::build(&root)?,
        };
        let error = std::process::Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("MILEPOST_BIN_DIR", programs)
            .exec();
        return Err(error).context("start again");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let scale = Scale::new(cli.quick);
    let outcome = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::select! {
            done = measure(&cli.parts, &scale) => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    });
    // A thread that still plays trackers has nobody left to talk to.
    runtime.shutdown_background();
    match outcome? {
        Some(true) => Ok(ExitCode::SUCCESS),
        Some(false) => Ok(ExitCode::FAILURE),
        None => {
            progress("interrupted; everything that was started is gone");
            std::process::exit(130);
        }
    }
}

async fn measure(parts: &[Part], scale: &Scale) -> Result<bool> {
    let wants = |part| parts.is_empty() || parts.contains(&part);
    println!("{}", machine());
    let stage = Stage::set_up().await?;
    println!("{}", stage.describe().await?);
    if wants(Part::Throughput) {
        throughput::run(&stage, scale).await.context("throughput")?;
    }
    if wants(Part::Redelivery) {
        redelivery::run(&stage, scale).await.context("redelivery")?;
    }
    if wants(Part::Drain) {
        drain::run(&stage, scale).await.context("drain")?;
    }
    if wants(Part::Delay) {
        delay::run(&stage, scale).await.context("delay")?;
    }
    if wants(Part::Takeover) {
        takeover::run(&stage, scale).await.context("takeover")?;
    }
    if wants(Part::Queries) {
        queries::run(&stage, scale).await.context("queries")?;
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
