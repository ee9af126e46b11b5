//! `gateway`: what an operator types.
//!
//! Exit codes: 0 ok, 1 failed check, 2 usage or settings, 3 cannot reach, 4 data at risk.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::app::{self, AppError};
use gateway::chain::chain;
use gateway::config::{self, Config};
use gateway::spool::{OpenError, SpoolError};
use gateway::spool_cli::{self, Place, SpoolCommand};
use gateway::tap::{self, TapArgs, TapError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Takes Teltonika tracker frames, keeps them durably, acknowledges, and forwards them to Redis.
///
/// Settings come from the file given with --config, then from the environment
/// (GATEWAY__UPLINK__URL for uplink.url; REDIS_URL and REDIS_TELEMETRY_STREAM are understood too).
/// `gateway config show --origin` tells which one won.
#[derive(Parser)]
#[command(name = "gateway", version)]
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
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Listen, keep, acknowledge, forward; until SIGTERM or Ctrl-C.
    Run,
    /// Look at the settings, the spool directory and Redis, and name what is wrong.
    Check,
    /// Settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look into the spool, stopped or running, without touching it; import into a stopped one.
    ///
    /// Exit codes: 0 ok, 1 damage was found or lines were refused, 2 a directory or file that cannot
    /// be used, 4 the spool or its disk fails.
    Spool {
        /// The spool's directory; else spool.dir of the settings.
        #[arg(long, global = true, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Its cap, like 4GiB; else spool.bytes_max of the settings.
        #[arg(long, global = true, value_name = "BYTES", value_parser = spool_cli::bytes)]
        bytes_max: Option<u64>,
        /// Print JSON, one object a line.
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: SpoolCommand,
    },
    /// Show frames as the running gateway keeps them; until Ctrl-C.
    ///
    /// Exit code 3 when no gateway answers.
    Tap(TapArgs),
    /// Version of the program, the stream entry and the spool format.
    Version,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting with its value; secrets are masked.
    Show {
        /// Also print where each value comes from, and what it is for.
        #[arg(long)]
        origin: bool,
    },
}

/// What `main` prints and exits with.
struct Failure {
    exit: u8,
    error: Box<dyn std::error::Error>,
}

impl Failure {
    fn new(exit: u8, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match act(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gateway: {}", chain(failure.error.as_ref()));
            ExitCode::from(failure.exit)
        }
    }
}

fn act(cli: &Cli) -> Result<(), Failure> {
    let settings = || config::read(cli.config.as_deref()).map_err(|error| Failure::new(2, error));
    match &cli.command {
        Command::Version => {
            print(&format!(
                "gateway {} · stream entry version {} · spool format version 1\n",
                env!("CARGO_PKG_VERSION"),
                contract::version::ENTRY_VERSION_WRITTEN
            ));
            Ok(())
        }
        Command::Config {
            command: ConfigCommand::Show { origin },
        } => {
            let settings = settings()?;
            for row in settings.rows() {
                if *origin {
                    let from = row.origin.to_string();
                    print(&format!(
                        "{:<28} {:<36} {from:<24} {}\n",
                        row.name, row.value, row.help
                    ));
                } else {
                    print(&format!("{:<28} {}\n", row.name, row.value));
                }
            }
            Config::new(&settings)
                .map(drop)
                .map_err(|error| Failure::new(2, error))
        }
        Command::Spool {
            dir,
            bytes_max,
            json,
            command,
        } => {
            let of_settings = |settings: &settings::Settings| settings.bytes("spool.bytes_max");
            let place = match (dir, settings()) {
                // Whoever names the directory needs no settings that can be read.
                (Some(dir), settings) => Place {
                    dir: dir.clone(),
                    bytes_max: bytes_max.or_else(|| of_settings(&settings.ok()?).ok()),
                },
                (None, settings) => {
                    let settings = settings?;
                    let dir = settings.path("spool.dir");
                    let of_settings = of_settings(&settings);
                    Place {
                        dir: dir.map_err(|error| Failure::new(2, error))?,
                        bytes_max: match bytes_max {
                            Some(bytes) => Some(*bytes),
                            None => Some(of_settings.map_err(|error| Failure::new(2, error))?),
                        },
                    }
                }
            };
            spool_cli::act(command, &place, *json)
                .map_err(|error| Failure::new(error.exit(), error))
        }
        Command::Tap(args) => tap(args, settings),
        Command::Check => {
            let config = Config::new(&settings()?).map_err(|error| Failure::new(2, error))?;
            runtime()?.block_on(check(config))
        }
        Command::Run => {
            let config = Config::new(&settings()?).map_err(|error| Failure::new(2, error))?;
            gateway::logbook::start(&config.log);
            runtime()?.block_on(run(config))
        }
    }
}

/// Results go to standard output; a closed pipe is the reader's wish, not an error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
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

/// Every tracker is a file to the system, and the usual limit of 1024 is met long before ours.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

async fn run(config: Config) -> Result<(), Failure> {
    raise_file_limit();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Failure::new(1, e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::new(1, e))?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new frames, what was begun is finished");
        stopping.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told to stop twice: not waiting any longer, the spool keeps what it has");
        std::process::exit(1);
    });
    app::run(config, stop).await.map_err(|error| {
        let exit = match error {
            AppError::Spool(
                OpenError::Dir(spool::fs::OpenError::Directory { .. })
                | OpenError::Spool {
                    source: SpoolError::TooSmall { .. } | SpoolError::Owned { .. },
                    ..
                },
            ) => 2,
            AppError::Spool(_) => 4,
            AppError::Listen(_) | AppError::Http { .. } => 3,
            AppError::Random(_) => 1,
        };
        Failure::new(exit, error)
    })
}

async fn check(config: Config) -> Result<(), Failure> {
    print("settings  ok\n");
    let dir = &config.spool.dir;
    let probe = dir.join("check");
    let writable = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"check"))
        .and_then(|()| std::fs::remove_file(&probe));
    if let Err(source) = writable {
        print(&format!(
            "spool     {} is not writable: run as the gateway's user or change spool.dir\n",
            dir.display()
        ));
        return Err(Failure::new(4, source));
    }
    print(&format!("spool     {} is writable\n", dir.display()));
    let redis = &config.uplink.redis;
    match redis.connect().await {
        Ok(_) => print(&format!("uplink    {} answers\n", redis.shown())),
        Err(error) => {
            print(&format!("uplink    {} cannot be reached\n", redis.shown()));
            return Err(Failure::new(3, error));
        }
    }
    Ok(())
}

fn tap(
    args: &TapArgs,
    settings: impl Fn() -> Result<settings::Settings, Failure>,
) -> Result<(), Failure> {
    let at = match args.http {
        Some(at) => Some(at),
        None => config::http_addr(&settings()?).map_err(|error| Failure::new(2, error))?,
    };
    let at = at.ok_or_else(|| Failure::new(2, TapError::NoPages))?;
    tap::follow(at, args, &mut std::io::stdout()).map_err(|error| Failure::new(3, error))
}
