//! The command line of the cloud processor: reads arguments and configuration, calls one thing,
//! prints its result or, once and here only, the chain of what went wrong.

mod acl_cli;
mod check_cli;
mod lag_cli;
mod migrate_cli;
mod roles_cli;
mod site_cli;
mod status_cli;
mod web_cli;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloud::app::{self, RunError};
use cloud::backfill::{self, BackfillVerb};
use cloud::check;
use cloud::commands::cli::{self, CmdError, CmdVerb};
use cloud::config::{self, Config, ENV_PREFIX, KEYS, LogConfig, LogFormat};
use cloud::direct;
use cloud::fleet::{self, DeviceVerb};
use cloud::ledger::{self, LedgerArgs};
use cloud::letters::cli::{self as dlq, DlqVerb};
use cloud::operator::VerbError;
use cloud::queue::{self, QueueVerb};
use cloud::replay::{self, ReplayArgs};
use cloud::site::SiteError;
use cloud::status::ask::AskError;
use cloud::store::{Database, DatabaseError};
use cloud::stream::RedisFailure;
use settings::Settings;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Reads Milepost streams and writes the database; acknowledges only what is committed.
///
/// Reads the Redis stream `telemetry:teltonika` (env REDIS_TELEMETRY_STREAM) as a consumer of group
/// `processor`, decodes, writes PostgreSQL or TimescaleDB in one transaction per batch, and
/// acknowledges after COMMIT. Exit codes: 0 ok, 1 a check failed, 2 usage or configuration,
/// 3 cannot reach a server, 4 data at risk.
#[derive(Parser)]
#[command(name = "cloud", version, disable_version_flag = true)]
struct Arguments {
    /// Settings file (TOML). The environment overrides it: CLOUD__REDIS__URL, or REDIS_URL.
    #[arg(long, global = true, value_name = "FILE", env = "CLOUD_CONFIG")]
    config: Option<PathBuf>,
    /// One JSON object per line instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// No colours (also NO_COLOR).
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Process the stream until told to stop (Ctrl-C or SIGTERM).
    #[command(
        after_help = "Without Redis, on one machine: give --from-spool a path for a socket, and gateways uplink.url = \"unix:PATH\".\nGiven the directory of a spool that no gateway uses, it stores what waits there, marks it as stored\nand ends: 0 when nothing is left, 1 when something is, 3 while somebody uses it. Run it as the user of\nthe gateway, who owns the files.\n\nExamples:\n  cloud run --config /etc/milepost/cloud.toml\n  cloud run --from-spool /run/milepost-cloud/uplink.sock\n  sudo -u milepost cloud run --from-spool /var/lib/milepost/spool"
    )]
    Run {
        /// Apply missing migrations first instead of refusing to start.
        #[arg(long)]
        auto_migrate: bool,
        /// Without Redis: a socket at which gateways deliver, or the directory of a spool to empty.
        #[arg(long, value_name = "SOCKET|DIR")]
        from_spool: Option<PathBuf>,
    },
    /// Look at settings, Redis, the streams, the database and commands, and name what is wrong.
    ///
    /// Each finding is ✓ good, ! worth a look, ✗ failed or · not looked at; what is not good says what
    /// to do and has a code for `cloud explain`. Nothing is changed: no key, no entry, no row. Run it
    /// as the user and with the settings the processor has. Exit code: the worst of what was found; 0
    /// ok, 1 a check failed, 2 settings, 3 cannot be reached, 4 data at risk.
    Check,
    /// What each code means and what to do; works without network and settings.
    Explain {
        /// A code, as `cloud check` prints it; without one, all of them.
        code: Option<String>,
    },
    /// How a running processor gets on, stage by stage: in/s, out/s, queue, errors, p99.
    ///
    /// Asks at http.listen, so give it the settings the processor has. read: entries from Redis, with
    /// what is unread as its queue and its oldest; decode: entries into rows; store: rows into
    /// committed transactions. p99 is over the last half to whole minute: of read since Redis took
    /// the entry, of store until it was acknowledged. Exit code 3 when no processor answers.
    Status {
        /// Look again every two seconds, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// How far behind the group is, stream by stream: items, records and seconds.
    Lag {
        /// Look again every two seconds, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Create and upgrade the tables, or take that back.
    #[command(subcommand)]
    Migrate(migrate_cli::MigrateVerb),
    /// Rights of least privilege: users of Redis, roles of PostgreSQL.
    #[command(subcommand)]
    Acl(acl_cli::AclVerb),
    /// The roles of PostgreSQL: one who writes, one who reads.
    #[command(subcommand)]
    Roles(roles_cli::RolesVerb),
    /// Let new boxes in, and shut one out.
    #[command(subcommand)]
    Site(site_cli::SiteVerb),
    /// Give trackers commands, and see what became of them.
    #[command(subcommand)]
    Cmd(CmdVerb),
    /// Dead letters: what nobody could read, why, and what to do about it.
    #[command(subcommand)]
    Dlq(DlqVerb),
    /// Decode stored raw frames again: missing rows are put back, wrong ones corrected.
    #[command(
        after_help = "Needs raw frames (frames.keep). Doing it twice changes nothing; after an end in the middle it says\nhow to go on. Exit code 1 when frames could not be read or written.\n\nExamples:\n  cloud replay --from 2026-11-01 --to 2026-11-08\n  cloud replay --from 24h --imei 350000000000017 --dry-run"
    )]
    Replay(ReplayArgs),
    /// Fill in frames from files.
    #[command(subcommand)]
    Backfill(BackfillVerb),
    /// What became of every record: does it balance? Exit code 4 when it does not.
    #[command(
        after_help = "received = stored + quarantined + duplicate + dead letters + dropped + in flight, in AVL records.\nThe sums are checked against the dead letters and the low edges of all spools; with --device every\nrecord of the tracker's raw frames is looked for.\n\nExamples:\n  cloud ledger --since 24h\n  cloud ledger --device 350000000000017 --since 7d"
    )]
    Ledger(LedgerArgs),
    /// Streams in Redis: look, empty in an emergency, put back.
    #[command(subcommand)]
    Queue(QueueVerb),
    /// Trackers and their families.
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Who may come into the web app and its API.
    #[command(subcommand)]
    Web(web_cli::WebVerb),
    /// Show the settings.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Every key and its value, secrets masked.
    Show {
        /// Also where each value came from.
        #[arg(long)]
        origin: bool,
    },
}

/// Everything that can end the program.
#[derive(Debug, Error)]
enum Failure {
    #[error("cannot read the settings file {path}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    #[error("log.level {level:?} is neither a level nor a filter")]
    LogFilter { level: String },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Cmd(#[from] CmdError),
    #[error(transparent)]
    Verb(#[from] VerbError),
    #[error(transparent)]
    Migrate(#[from] migrate_cli::MigrateFailure),
    #[error(transparent)]
    Acl(#[from] acl_cli::AclFailure),
    #[error(transparent)]
    Roles(#[from] roles_cli::RolesFailure),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Web(#[from] web_cli::WebFailure),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("there is no code {code}: {hint}")]
    NoCode { code: String, hint: String },
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. }
            | Self::Settings(_)
            | Self::LogFilter { .. }
            | Self::NoCode { .. } => 2,
            Self::Ask(error) => error.page().exit,
            Self::Run(error) => match error {
                RunError::Redis(
                    RedisFailure::Unreachable { .. } | RedisFailure::Refused { .. },
                ) => 3,
                RunError::Redis(_) | RunError::Listen(_) | RunError::Tokens(_) => 2,
                RunError::Database(error) => error.exit_code(),
                RunError::Direct(error) => error.exit_code(),
                RunError::Migrations { .. } | RunError::Part { .. } => 1,
            },
            Self::Database(error) => error.exit_code(),
            Self::Cmd(error) => error.exit_code(),
            Self::Verb(error) => error.exit_code(),
            Self::Migrate(error) => error.exit_code(),
            Self::Acl(error) => error.exit_code(),
            Self::Roles(error) => error.exit_code(),
            Self::Site(error) => error.exit_code(),
            Self::Web(_) => 2,
            Self::Runtime(_) | Self::Output(_) => 1,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nothing can be done about a closed stderr.
            let _ = print_chain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn print_chain(failure: &Failure) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    let mut told = failure.to_string();
    writeln!(out, "error: {told}")?;
    let mut below = std::error::Error::source(failure);
    while let Some(cause) = below {
        let text = cause.to_string();
        // Transparent layers repeat what stands above them.
        if !told.ends_with(&text) {
            writeln!(out, "  because: {text}")?;
        }
        told = text;
        below = cause.source();
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    // Before anything makes a TLS connection; the dependencies choose no provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Verb::Version = arguments.verb {
        return version(arguments.json);
    }
    if let Verb::Explain { code } = &arguments.verb {
        let told = check_cli::explain(code.as_deref(), arguments.json)?;
        let code = code.clone().unwrap_or_default();
        return told.map_or_else(|hint| Err(Failure::NoCode { code, hint }), |()| Ok(0));
    }
    let settings = match read_settings(arguments) {
        Ok(settings) => settings,
        Err(failure) => return refused(arguments, failure),
    };
    if let Verb::Config(ConfigVerb::Show { origin }) = arguments.verb {
        return show(&settings, origin, arguments.json);
    }
    let config = match Config::new(&settings, &host_name()) {
        Ok(config) => config,
        Err(error) => return refused(arguments, error.into()),
    };
    if let Err(failure) = logging(&config.log, arguments) {
        return refused(arguments, failure);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        match &arguments.verb {
            Verb::Run {
                auto_migrate,
                from_spool,
            } => {
                for (key, origin, why) in config::without_effect(&settings) {
                    tracing::warn!(key, place = origin.place(), why, "a setting without effect");
                }
                let from = from_spool.clone().or_else(|| config.socket.clone());
                process(config, from, *auto_migrate, arguments.json).await
            }
            Verb::Lag { watch } => {
                lag_cli::act(&config, *watch, arguments.json)
                    .await
                    .map_err(RunError::Redis)??;
                Ok(0)
            }
            Verb::Migrate(verb) => Ok(migrate_cli::act(&config, verb, arguments.json).await?),
            Verb::Acl(verb) => Ok(acl_cli::act(&config, verb, arguments.json)?),
            Verb::Roles(verb) => Ok(roles_cli::act(&config, verb, arguments.json).await?),
            Verb::Site(verb) => Ok(site_cli::act(&config, verb, arguments.json).await?),
            Verb::Web(verb) => Ok(web_cli::act(&config, verb, arguments.json)?),
            Verb::Check => Ok(check_cli::act(&settings, &config, arguments.json).await?),
            Verb::Status { watch } => {
                status_cli::act(&config, *watch, arguments.json).await??;
                Ok(0)
            }
            Verb::Cmd(verb) => {
                let database = Database::new(&config.database)?;
                Ok(cli::run(&database, verb, arguments.json).await?)
            }
            Verb::Dlq(verb) => Ok(dlq::run(&config, verb, arguments.json).await?),
            Verb::Replay(args) => {
                let stop = stopped_on_signal();
                Ok(replay::run(&config, args, arguments.json, &stop).await?)
            }
            Verb::Backfill(verb) => {
                let stop = stopped_on_signal();
                Ok(backfill::run(&config, verb, arguments.json, &stop).await?)
            }
            Verb::Ledger(args) => Ok(ledger::run(&config, args, arguments.json).await?),
            Verb::Queue(verb) => Ok(queue::run(&config, verb, arguments.json).await?),
            Verb::Device(verb) => Ok(fleet::run(&config, verb, arguments.json).await?),
            Verb::Config(_) | Verb::Version | Verb::Explain { .. } => Ok(0),
        }
    })
}

/// `run`, from wherever entries come.
async fn process(
    config: Config,
    from: Option<PathBuf>,
    auto_migrate: bool,
    json: bool,
) -> Result<u8, Failure> {
    let stop = stopped_on_signal();
    match from {
        None => app::run(config, auto_migrate, stop).await?,
        Some(path) if path.is_dir() => {
            let drained = direct::drain(config, &path, auto_migrate, stop).await?;
            let mut out = std::io::stdout().lock();
            match json {
                true => writeln!(out, "{}", drained.to_json())?,
                false => write!(out, "{}", drained.to_text())?,
            }
            return Ok(drained.exit_code());
        }
        Some(path) => direct::serve(config, &path, auto_migrate, stop).await?,
    }
    Ok(0)
}

fn version(json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    let version = env!("CARGO_PKG_VERSION");
    if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({"name": "cloud", "version": version})
        )?;
    } else {
        writeln!(out, "cloud {version}")?;
    }
    Ok(0)
}

fn read_settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|source| Failure::File {
            path: path.to_owned(),
            source,
        })
    };
    let file = match &arguments.config {
        Some(path) => {
            let name = path.display().to_string();
            let contents = read(&name)?;
            Some((name, contents))
        }
        None => None,
    };
    let file = file
        .as_ref()
        .map(|(name, contents)| (name.as_str(), contents.as_str()));
    let mut settings = Settings::read(KEYS, ENV_PREFIX, file, std::env::vars())?;
    let waiting: Vec<(&'static str, String)> = settings
        .secret_files()
        .map(|(key, path)| (key, path.to_owned()))
        .collect();
    for (key, path) in waiting {
        let contents = read(&path)?;
        settings.resolve_secret(key, &contents);
    }
    Ok(settings)
}

fn show(settings: &Settings, origin: bool, json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    let rows = settings.rows();
    let widest = |length: fn(&settings::Row) -> usize| rows.iter().map(length).max().unwrap_or(0);
    let (name, value) = (
        widest(|row| row.name.len()),
        widest(|row| row.value.chars().count()),
    );
    for row in &rows {
        let from = row.origin.to_string();
        if json {
            let line = serde_json::json!({"key": row.name, "value": row.value, "origin": from, "help": row.help});
            writeln!(out, "{line}")?;
        } else if origin {
            writeln!(out, "{:name$}  {:value$}  {from}", row.name, row.value)?;
        } else {
            writeln!(
                out,
                "{:name$}  {:value$}  # {}",
                row.name, row.value, row.help
            )?;
        }
    }
    let address = config::redis_address(settings)?;
    if !json && !address.parts.is_empty() {
        let url = settings::without_password(&address.url);
        writeln!(
            out,
            "\nredis.url is made of {}: {url}",
            address.parts.join(", ")
        )?;
    }
    Ok(0)
}

/// Settings that cannot be used end every verb but the one that tells what is wrong.
fn refused(arguments: &Arguments, failure: Failure) -> Result<u8, Failure> {
    if !matches!(arguments.verb, Verb::Check) {
        return Err(failure);
    }
    let look = match &failure {
        Failure::Settings(error) => check::settings::refused(error),
        Failure::File { path, source } => {
            let file = arguments.config.as_ref();
            let is_secret = file.is_none_or(|file| file.display().to_string() != *path);
            check::settings::unread(path, is_secret, source)
        }
        Failure::LogFilter { .. } => check::settings::unfit(&failure.to_string()),
        _ => return Err(failure),
    };
    Ok(check_cli::refused(&look, arguments.json)?)
}

/// This machine's name, for the consumer's; it must be the same after a restart.
fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    match name.trim() {
        "" => "cloud".to_owned(),
        name => name.to_owned(),
    }
}

fn logging(config: &LogConfig, arguments: &Arguments) -> Result<(), Failure> {
    // The founding documents write WARNING.
    let level = if config.level == "warning" {
        "warn"
    } else {
        &config.level
    };
    let bare = !level.contains(['=', ',']);
    let filter = if bare {
        format!("warn,cloud={level}")
    } else {
        level.to_owned()
    };
    let filter: Targets = filter.parse().map_err(|_| Failure::LogFilter {
        level: config.level.clone(),
    })?;
    let terminal = std::io::stderr().is_terminal();
    let color = terminal && !arguments.no_color && std::env::var_os("NO_COLOR").is_none();
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Console => false,
        LogFormat::Auto => !terminal,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(color);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Ok(())
}

fn stopped_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    stop
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }
}
