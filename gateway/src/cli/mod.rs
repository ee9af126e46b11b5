//! The verbs, and what they have in common: settings, output, exit codes.

mod ask;
mod check;
mod cmd;
mod config;
mod device;
mod events;
mod explain;
mod import;
#[cfg(feature = "ingest")]
mod ingest;
mod output;
mod run;
mod selftest;
mod spool;
mod status;
mod support;
mod tap;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::chain::chain;
use gateway::config::{Config, read};
use gateway::tap::TapArgs;
use settings::Settings;

const EXAMPLES: &str = "\
Examples:
  gateway selftest                          is this binary sound on this machine?
  gateway check --config gateway.toml       look at everything, name what is wrong
  gateway run --config gateway.toml         do the work
  gateway status --watch                    how is it going?
  gateway explain E-RED-004                 what a code means, and what to do

Exit codes: 0 ok, 1 a check failed, 2 usage or settings, 3 something cannot be reached, 4 data at risk.";

/// Takes Teltonika tracker frames, keeps them durably, acknowledges, and forwards them to Redis.
///
/// Settings come from the file given with --config, then from the environment
/// (GATEWAY__UPLINK__URL for uplink.url; REDIS_URL, REDIS_HOST, LOG_LEVEL and the other founding
/// names are understood too). `gateway config show --origin` tells which one won.
#[derive(Parser)]
#[command(name = "gateway", version, after_help = EXAMPLES)]
struct Cli {
    /// Settings file (TOML).
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "GATEWAY_CONFIG"
    )]
    config: Option<PathBuf>,
    /// No colour, as with NO_COLOR; signs and words say everything colour does.
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Listen, keep, acknowledge, forward; until SIGTERM or Ctrl-C.
    #[command(after_help = run::EXAMPLES)]
    Run {
        /// Log JSON, one object a line, whatever log.format says.
        #[arg(long)]
        json: bool,
    },
    /// Look at settings, spool, addresses, certificates, Redis and clock, and name what is wrong.
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),
    /// How the running gateway is doing, asked at http.listen.
    #[command(after_help = status::EXAMPLES)]
    Status(status::Status),
    /// Prove this binary on this machine: no network, no settings needed.
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(selftest::Selftest),
    /// The trackers of the running gateway.
    Device {
        #[command(subcommand)]
        command: device::DeviceCommand,
    },
    /// Positions over HTTP: who may post them.
    #[cfg(feature = "ingest")]
    Ingest {
        #[command(subcommand)]
        command: ingest::IngestCommand,
    },
    /// The commands for trackers that the running gateway holds.
    Cmd {
        #[command(subcommand)]
        command: cmd::CmdCommand,
    },
    /// What happened lately at the running gateway, in words.
    #[command(after_help = events::EXAMPLES)]
    Events(events::Events),
    /// Show frames as the running gateway keeps them; until Ctrl-C.
    #[command(after_help = tap::EXAMPLES)]
    Tap(TapArgs),
    /// Settings.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Look into the spool, stopped or running, without touching it; import into a stopped one.
    ///
    /// Exit codes: 0 ok, 1 damage was found or lines were refused, 2 a directory or file that cannot
    /// be used, 4 the spool or its disk fails.
    #[command(after_help = spool::EXAMPLES)]
    Spool(spool::Spool),
    /// A new system for a box that was flashed with an image: tried once, kept when it works.
    #[command(after_help = update::EXAMPLES)]
    Update {
        #[command(subcommand)]
        command: update::UpdateCommand,
    },
    /// Write one file with everything that somebody who helps needs, and no secret.
    #[command(after_help = support::EXAMPLES)]
    Support(support::Support),
    /// What a code such as E-RED-004 means and what to do; without one, all codes.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Version of the program, the stream entry and the spool format.
    #[command(after_help = "Examples:\n  gateway version\n  gateway version --json")]
    Version {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// What `main` prints and exits with.
pub(crate) struct Failure {
    exit: u8,
    error: Option<Box<dyn std::error::Error>>,
}

impl Failure {
    fn new(exit: u8, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        Self {
            exit,
            error: Some(error.into()),
        }
    }

    /// Has everything been said already?
    fn is_told(&self) -> bool {
        self.error.is_none()
    }

    fn words(&self) -> String {
        let error = self.error.as_deref();
        error.map_or(String::new(), chain)
    }

    /// Everything has been said already.
    fn told(exit: u8) -> Self {
        Self { exit, error: None }
    }
}

/// Parses, acts, and turns a failure into words and a code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match act(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(error) = failure.error {
                eprintln!("gateway: {}", chain(error.as_ref()));
                if matches!(cli.command, Command::Run { .. }) {
                    eprintln!("  do     gateway check, with the same settings, names the cause");
                }
            }
            ExitCode::from(failure.exit)
        }
    }
}

fn act(cli: &Cli) -> Result<(), Failure> {
    let file = cli.config.as_deref();
    match &cli.command {
        Command::Version { json } => version(*json),
        Command::Config { command } => config::act(command, cli.no_color, || settings(cli)),
        Command::Spool(spool) => spool::act(spool, || settings(cli)),
        Command::Check(check) => check::act(check, file, cli.no_color),
        Command::Explain(explain) => explain::act(explain),
        Command::Selftest(selftest) => selftest::act(selftest, cli.no_color),
        Command::Status(status) => status::act(status, &settings(cli)?),
        Command::Device { command } => device::act(command, &settings(cli)?),
        Command::Cmd { command } => cmd::act(command, &settings(cli)?),
        #[cfg(feature = "ingest")]
        Command::Ingest { command } => ingest::act(command, || settings(cli)),
        Command::Events(args) => events::act(args, &settings(cli)?),
        Command::Support(args) => support::act(args, file),
        Command::Update { command } => update::act(command, || settings(cli)),
        Command::Tap(args) => tap::act(args, || settings(cli)),
        Command::Run { json } => {
            let settings = settings(cli)?;
            let mut config = Config::new(&settings).map_err(|error| Failure::new(2, error))?;
            if *json {
                config.log.json = Some(true);
            }
            run::act(config, &settings)
        }
    }
}

fn settings(cli: &Cli) -> Result<Settings, Failure> {
    read(cli.config.as_deref()).map_err(|error| Failure::new(2, error))
}

fn version(as_json: bool) -> Result<(), Failure> {
    let (program, entry) = (
        env!("CARGO_PKG_VERSION"),
        contract::version::ENTRY_VERSION_WRITTEN,
    );
    if as_json {
        output::line(&serde_json::json!({
            "gateway": program, "entry_version": entry, "spool_format": 1
        }));
    } else {
        output::print(&format!(
            "gateway {program} · stream entry version {entry} · spool format version 1\n"
        ));
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("the first call in this process");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::new(1, error))
}
