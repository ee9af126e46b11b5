//! The demo: the whole road on this machine, with simulated trackers driving on it.
//!
//! Standard output carries the ledger alone, standard error what happens meanwhile.
//! Invariant: nothing is left behind, whichever way it ends: no process, no directory, unless
//! somebody asked to keep it.

mod browser;
mod guests;
mod numbers;
mod screen;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::fleet::{Fleet, FleetConfig, Rate};
use crate::ledger::Ledger;
use crate::processes::{Road, RoadOptions};
use crate::servers::{ADMIN, Compose};
use guests::Guests;
use numbers::Gauges;
use screen::Screen;

/// How long the trackers may wait for their last ACKs.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last ACKed records may take to the tables.
const SETTLE_PATIENCE: Duration = Duration::from_secs(60);
/// Name of the gateway, its user in Redis and its certificate.
const GATEWAY_ID: &str = "demo";

/// Simulated trackers → gateway → Redis → cloud → PostgreSQL, live, on private servers.
///
/// Ctrl-C or the end of --for: the trackers stop, everything on the way is stored, everything
/// is shut down, and the ledger says whether every ACKed record is in the database, once.
/// Exit codes: 0 it is, 1 it is not, 2 wrong usage, 3 something did not start.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Cli {
    /// Stop after so long; without it, at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    for_s: Option<u64>,
    /// How many trackers
    #[arg(long, default_value_t = 50)]
    devices: usize,
    /// Records per tracker: 2 or 0.5 a second, or 1/10s
    #[arg(long, default_value = "1")]
    rate: Rate,
    /// Same seed, same journeys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the run directory (settings, logs, spool) behind
    #[arg(long)]
    keep: bool,
    /// The ledger as one JSON object
    #[arg(long)]
    json: bool,
    /// Do not open the map in a browser
    #[arg(long)]
    no_browser: bool,
    /// No colours (also NO_COLOR)
    #[arg(long)]
    no_color: bool,
    /// Accepted: there is nothing to ask
    #[arg(long)]
    yes: bool,
    /// compose: Redis and TimescaleDB in containers, made for this run and removed after it.
    /// spool: no Redis, the gateway delivers at a socket of the cloud. The others start private servers; which binaries those are was settled by ./dev
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    engine: Engine,
}

/// The names `./dev` knows, so that one line suits both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    Auto,
    System,
    Apt,
    Wheels,
    Compose,
    Spool,
}

/// Runs the demo and returns the exit code of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run(&cli)));
    match done {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Ctrl-C in a terminal, SIGTERM from a script.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Stop> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Stop {
            interrupt,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// True if every program ran to the end and the ledger is as it must be.
async fn run(cli: &Cli) -> Result<bool> {
    ensure!(cli.devices > 0, "--devices 0: nobody to drive");
    let mut stop = Stop::new()?;
    let mut screen = Screen::new(cli.no_color);
    if cli.engine != Engine::Compose {
        let direct = cli.engine == Engine::Spool;
        screen.say(match direct {
            true => "starting private servers; no Redis",
            false => "starting private servers",
        });
        let options = RoadOptions {
            direct,
            ..RoadOptions::default()
        };
        return drive(cli, options, &mut screen, &mut stop).await;
    }
    let project = format!("milepost-demo-{}", std::process::id());
    let gateways = [GATEWAY_ID.to_owned()];
    let compose = tokio::select! {
        started = Compose::start(&project, &gateways, |line| screen.say(line)) => started?,
        () = stop.asked() => anyhow::bail!("stopped before the containers were up"),
    };
    let options = RoadOptions {
        redis: Some(compose.redis().clone()),
        database_url: Some(compose.database_url().to_owned()),
        // Who asks for TimescaleDB must not get plain tables without a word.
        cloud: vec![("database.timescale", "require".into())],
        ..RoadOptions::default()
    };
    let driven = drive(cli, options, &mut screen, &mut stop).await;
    screen.say("removing the containers and their volumes");
    let removed = compose.down();
    if let (Err(_), Err(error)) = (&driven, &removed) {
        screen.say(&format!("{error:#}"));
    }
    let good = driven?;
    removed.map(|()| good)
}

/// From the start of the road to its end and the ledger.
async fn drive(
    cli: &Cli,
    options: RoadOptions,
    screen: &mut Screen,
    stop: &mut Stop,
) -> Result<bool> {
    let guests = Guests::invite()?;
    let mut cloud = options.cloud;
    // Whoever started it may do everything; the door is open on this machine alone.
    cloud.push(("web.open", "operator".into()));
    let options = RoadOptions {
        gateway_id: GATEWAY_ID.to_owned(),
        gateway: guests.settings(),
        cloud,
        keep: cli.keep,
        ..options
    };
    let parts = options.parts();
    let starts = |part| screen.starts(&parts, &part);
    let road = tokio::select! {
        road = Road::start_telling(options, starts) => road,
        () = stop.asked() => Err(anyhow!("stopped before everything had started")),
    };
    screen.started();
    let mut road = road?;
    look(&road, &guests, screen)?;
    if !cli.no_browser {
        browser::open(&format!("http://{}/", road.cloud.http_addr()));
    }
    let fleet = Fleet::start(FleetConfig {
        devices: cli.devices,
        rate: cli.rate,
        seed: cli.seed,
        ..road.fleet_config()
    })
    .await?;

    let healthy = watch(cli, &mut road, &fleet, screen, stop).await?;
    let finished = finish(&mut road, &fleet, screen, stop, healthy).await;
    let stopped = road.stop().await;
    // With the programs gone, nothing moves any more: this is what counts.
    let ledger = finished.and(
        road.settled_ledger(&fleet.truth(), Duration::ZERO, |_| {})
            .await,
    )?;
    stopped?;
    let posted = guests::rows(road.database_url()).await?;
    let ledger = Ledger {
        phantoms: ledger.phantoms.saturating_sub(posted),
        ..ledger
    };
    report(&ledger, posted, cli.json)?;
    if !healthy {
        screen.say("a program ended by itself; see its last words above");
    }
    if cli.keep {
        screen.say(&format!("kept {}", road.dir().display()));
    }
    Ok(healthy && ledger.is_clean() && ledger.rows > 0)
}

/// Until the end of the time, a wish to stop, or the end of one of our programs (false).
async fn watch(
    cli: &Cli,
    road: &mut Road,
    fleet: &Fleet,
    screen: &mut Screen,
    stop: &mut Stop,
) -> Result<bool> {
    let began = Instant::now();
    let end = cli.for_s.map(|s| began + Duration::from_secs(s));
    let mut gauges = Gauges::new(road.database_url());
    let mut tick = interval(screen.period());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = sleep_until(end.unwrap_or(began)), if end.is_some() => break,
            () = stop.asked() => break,
        }
        if !all_running(road, screen)? {
            return Ok(false);
        }
        let numbers = gauges.read(road, fleet).await;
        screen.draw(
            &numbers,
            began.elapsed(),
            cli.for_s.map(Duration::from_secs),
        );
    }
    all_running(road, screen)
}

fn all_running(road: &mut Road, screen: &mut Screen) -> Result<bool> {
    let gateway = road
        .gateway
        .ended()?
        .map(|status| ("gateway", status, road.gateway.last_words()));
    let cloud = road
        .cloud
        .ended()?
        .map(|status| ("cloud", status, road.cloud.last_words()));
    let dead = gateway.or(cloud);
    if let Some((name, status, words)) = &dead {
        screen.say(&format!(
            "{name} ended by itself ({status}); its last words:\n{words}"
        ));
    }
    Ok(dead.is_none())
}

/// Everything said is ACKed, everything ACKed is stored; or patience is over.
async fn finish(
    road: &mut Road,
    fleet: &Fleet,
    screen: &mut Screen,
    stop: &mut Stop,
    healthy: bool,
) -> Result<()> {
    screen.say("the trackers stop; waiting for their last ACKs and rows (Ctrl-C: do not wait)");
    let patience = if healthy {
        DRAIN_PATIENCE
    } else {
        Duration::ZERO
    };
    tokio::select! {
        acked = fleet.drain(patience) => if !acked {
            let waiting = fleet.stats().waiting;
            screen.say(&format!("{waiting} records were not ACKed; they stay in the trackers"));
        },
        () = stop.asked() => fleet.stop().await,
    }
    let truth = fleet.truth();
    let patience = if healthy {
        SETTLE_PATIENCE
    } else {
        Duration::ZERO
    };
    let mut told = Instant::now();
    let settled = road.settled_ledger(&truth, patience, |missing| {
        if told.elapsed() > Duration::from_secs(2) {
            told = Instant::now();
            screen.say(&format!("{missing} ACKed records are still on the way"));
        }
    });
    tokio::select! {
        ledger = settled => ledger.map(drop),
        () = stop.asked() => Ok(()),
    }
}

fn look(road: &Road, guests: &Guests, screen: &mut Screen) -> Result<()> {
    let between = if road.has_redis() {
        let redis = road.redis_access();
        let identity = redis.identity(ADMIN);
        format!(
            "redis      redis-cli --tls --cacert {} --cert {} --key {} -u {}",
            redis.ca().display(),
            identity.cert.display(),
            identity.key.display(),
            redis.url(ADMIN)
        )
    } else {
        format!(
            "no redis   the gateway delivers at {}",
            road.socket().display()
        )
    };
    let lines = [
        format!("map        http://{}/", road.cloud.http_addr()),
        format!("trackers   {}", road.gateway.tcp_addr()),
        format!(
            "gateway    http://{}/ (status page)",
            road.gateway.http_addr()
        ),
        format!("cloud      http://{}/status", road.cloud.http_addr()),
        format!("database   psql {}", road.database_url()),
        format!("yours      {}", guests.how_to_post()),
        between,
        format!("settings   {} (and logs)", road.dir().display()),
    ];
    screen.say(&format!(
        "everything runs; look around:\n  {}",
        lines.join("\n  ")
    ));
    Ok(())
}

/// `posted`: rows of [`guests`].
fn report(ledger: &Ledger, posted: u64, json: bool) -> Result<()> {
    let mut out = stdout().lock();
    let written = if json {
        let Ledger {
            sent,
            acked,
            stored,
            quarantined,
            duplicates,
            dead,
            ..
        } = ledger;
        let line = serde_json::json!({
            "sent": sent, "acked": acked, "stored": stored, "quarantined": quarantined,
            "duplicates": duplicates, "dead": dead, "lost": ledger.lost_count,
            "phantoms": ledger.phantoms, "rows": ledger.rows, "posted": posted,
        });
        writeln!(out, "{line}")
    } else {
        let verdict = if ledger.is_clean() && ledger.rows > 0 {
            "every ACKed record is in the database, once"
        } else if ledger.rows == 0 {
            "FAILED: nothing reached the database"
        } else {
            "FAILED: the database is not what was ACKed"
        };
        let posted = match posted {
            0 => String::new(),
            rows => format!(
                "  {:<12}{rows:>12}  rows of what was posted over HTTP\n",
                "yours"
            ),
        };
        write!(out, "ledger\n{ledger}{posted}{verdict}\n")
    };
    written.context("write the ledger")
}

/// A number that may take long to get must not freeze the screen.
async fn soon<T>(doing: impl Future<Output = Result<T>>) -> Option<T> {
    timeout(Duration::from_millis(900), doing).await.ok()?.ok()
}
