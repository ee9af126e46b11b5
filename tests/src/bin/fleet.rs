//! `fleet`: simulated Teltonika trackers against a gateway, with a closing account.
//!
//! Standard output carries the result alone, standard error what happens meanwhile. Exit
//! codes: 0 everything ACKed, 1 something sent was not ACKed, 2 wrong usage, 3 no tracker
//! ever got through.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::fleet::{Fleet, FleetConfig, FleetStats, Profile, Rate, ReplayConfig};
use tokio::time::{Instant, interval, sleep_until};

/// Simulated trackers: they log in, drive, send, wait for their ACK, and send again what was
/// not acknowledged. Ctrl-C ends the journey, waits for the last ACKs and prints the account.
#[derive(Debug, Parser)]
#[command(name = "fleet", version)]
struct Cli {
    /// How many trackers
    #[arg(long, default_value_t = 10)]
    devices: usize,
    /// Records per tracker: 2 or 0.5 a second, or 1/10s, 6/1m
    #[arg(long, default_value = "1")]
    rate: Rate,
    /// Same seed, same trackers, same journeys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The gateway
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5027")]
    to: String,
    /// Stop producing after so long; without it, at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    for_s: Option<u64>,
    /// What trackers to play, in turn: fmb920 (Codec 8), fmc130 (Codec 8 Extended)
    #[arg(long, value_delimiter = ',', default_value = "fmb920,fmc130")]
    profile: Vec<Profile>,
    /// Collect this many records before sending; urgent ones do not wait
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    records_per_frame: u8,
    /// Send the frames of a file (hexadecimal, one login, frame or data field per line)
    #[arg(long, value_name = "FILE.hex", conflicts_with_all = ["devices", "rate", "profile"])]
    replay: Option<PathBuf>,
    /// How much faster than the records' timestamps a replay runs; 0: as fast as it is ACKed
    #[arg(long, requires = "replay", default_value_t = 1.0)]
    speed: f64,
    /// Clock of the journeys, Unix milliseconds: with it, the same seed gives the same bytes
    #[arg(long, value_name = "MS")]
    start: Option<u64>,
    /// Append everything sent and ACKed to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// How long to wait for the last ACKs
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// The account as one JSON object
    #[arg(long)]
    json: bool,
    /// Accepted for symmetry: there is no colour here
    #[arg(long)]
    no_color: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fleet: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    ensure!(cli.devices > 0, "--devices 0: nobody to drive");
    let defaults = FleetConfig::new(&cli.to);
    let config = FleetConfig {
        devices: cli.devices,
        rate: cli.rate,
        seed: cli.seed,
        profiles: cli.profile.clone(),
        records_per_frame: cli.records_per_frame,
        start_ms: cli.start.unwrap_or(defaults.start_ms),
        replay: cli.replay.clone().map(|file| ReplayConfig {
            file,
            speed: cli.speed,
        }),
        truth_file: cli.truth.clone(),
        ..defaults
    };
    let fleet = Fleet::start(config).await?;
    let devices = fleet.stats().devices;
    eprintln!(
        "fleet: {devices} trackers to {}, seed {}{}; Ctrl-C ends the journey and waits for the last ACKs",
        cli.to,
        cli.seed,
        cli.for_s
            .map(|s| format!(", for {s} s"))
            .unwrap_or_default(),
    );
    let began = Instant::now();
    let mut screen = Screen::new(began);
    drive(&fleet, cli.for_s.map(Duration::from_secs), &mut screen).await;

    if !fleet.is_finished() {
        screen.note("the journey ends; waiting for the last ACKs (Ctrl-C: do not wait)");
        let patience = Duration::from_secs(cli.drain);
        tokio::select! {
            _ = fleet.drain(patience) => {}
            _ = tokio::signal::ctrl_c() => fleet.stop().await,
        }
    }
    screen.clear();
    report(&fleet.stats(), began.elapsed(), cli.json).context("write the account")?;
    Ok(verdict(&fleet.stats()))
}

/// Until the time is over, the replay is over or somebody presses Ctrl-C.
async fn drive(fleet: &Fleet, time: Option<Duration>, screen: &mut Screen) {
    let end = time.map(|time| Instant::now() + time);
    let mut tick = interval(screen.period());
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    loop {
        tokio::select! {
            _ = tick.tick() => screen.progress(&fleet.stats()),
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => return,
            () = fleet.finished() => return,
            _ = &mut ctrl_c => return,
        }
    }
}

fn verdict(stats: &FleetStats) -> ExitCode {
    if stats.frames == 0 && stats.connects_failed + stats.refused > 0 {
        eprintln!(
            "fleet: no tracker got through: {} attempts to connect failed, {} logins were refused",
            stats.connects_failed, stats.refused
        );
        return ExitCode::from(3);
    }
    ExitCode::from(u8::from(stats.waiting > 0 || stats.acked < stats.sent))
}

fn report(stats: &FleetStats, took: Duration, json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer(&mut out, stats)?;
        return Ok(writeln!(out)?);
    }
    let per_s = stats.acked as f64 / took.as_secs_f64().max(0.001);
    writeln!(
        out,
        "sent         {:>10} records in {} frames",
        stats.sent, stats.frames
    )?;
    writeln!(
        out,
        "ACKed        {:>10} records, {per_s:.0} per second",
        stats.acked
    )?;
    writeln!(
        out,
        "not ACKed    {:>10} records, {} still in memory",
        stats.sent - stats.acked,
        stats.waiting
    )?;
    writeln!(out, "sent again   {:>10} records", stats.resent)?;
    writeln!(out, "refused      {:>10} logins", stats.refused)?;
    writeln!(
        out,
        "reconnects   {:>10} ({} timeouts, {} wrong counts, {} failed attempts)",
        stats.reconnects, stats.timeouts, stats.wrong_counts, stats.connects_failed
    )?;
    writeln!(
        out,
        "ACK delay    {:>10} ms median, {} ms p99, {} ms longest",
        stats.ack_delay_p50_ms, stats.ack_delay_p99_ms, stats.ack_delay_max_ms
    )?;
    Ok(())
}

/// One line that is drawn over itself on a terminal, and lines now and then elsewhere.
struct Screen {
    terminal: bool,
    began: Instant,
    last: (Instant, u64),
}

impl Screen {
    fn new(began: Instant) -> Screen {
        Screen {
            terminal: stderr().is_terminal(),
            began,
            last: (began, 0),
        }
    }

    fn period(&self) -> Duration {
        if self.terminal {
            Duration::from_millis(500)
        } else {
            Duration::from_secs(10)
        }
    }

    fn progress(&mut self, stats: &FleetStats) {
        let now = Instant::now();
        let passed_s = (now - self.last.0).as_secs_f64();
        let per_s = (stats.acked - self.last.1) as f64 / passed_s.max(0.001);
        self.last = (now, stats.acked);
        if passed_s < 0.1 {
            return;
        }
        let line = format!(
            "{:>5} s  {} of {} connected  ACKed {} ({per_s:.0}/s)  waiting {}  sent again {}  p99 {} ms",
            self.began.elapsed().as_secs(),
            stats.connected,
            stats.devices,
            stats.acked,
            stats.waiting,
            stats.resent,
            stats.ack_delay_p99_ms,
        );
        let mut err = stderr().lock();
        // A progress line that cannot be written is no reason to stop.
        let _ = if self.terminal {
            write!(err, "\r{line}\x1b[K")
        } else {
            writeln!(err, "{line}")
        };
    }

    fn note(&self, text: &str) {
        self.clear();
        eprintln!("fleet: {text}");
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
