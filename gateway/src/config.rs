//! From what was typed to what is meant: the gateway's settings.
//!
//! Invariant: every part receives its own struct from here and never reads the environment.

mod board;
pub mod bundle;
mod commands;
mod doors;
#[cfg(feature = "ingest")]
mod ingest;
mod panel;
pub mod redis_address;
mod uplink;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{GatewayId, keys};
use settings::{Key, Row, Settings, SettingsError};
use thiserror::Error;

use crate::access::{AccessConfig, ListFileError};
use crate::board::BoardConfig;
use crate::downlink::DownlinkConfig;
use crate::listen::{DoorsConfig, IdentityError, ListenConfig};
use crate::spool::{FullPolicy, RealFs, SpoolConfig};
use crate::uplink::{ConnectError, UplinkConfig};

pub use board::read as board;
pub use doors::{access, serial_lines};
pub use panel::http_addr;
pub(crate) use uplink::SHARDS_MAX;
pub use uplink::redis;

/// Prefix of the environment variables: `GATEWAY__UPLINK__URL`.
pub const ENV_PREFIX: &str = "GATEWAY";

/// A tracker gives up waiting for its acknowledgement after some seconds.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(5);

const SPOOL_FULL: [&str; 3] = ["refuse", "trust-redis", "drop-oldest"];

/// Every setting, with its default and the founding documents' names.
pub static KEYS: &[Key] = &[
    Key::new(
        "gateway.id",
        "Name of this gateway in Redis: letters, digits, '.', '_', '-'. Default: the owner of spool.dir, for a new one the host name.",
    ),
    Key::new("listen.tcp", "Addresses for trackers over TCP.").default("0.0.0.0:5027"),
    Key::new("listen.udp", "Addresses for trackers over UDP.").default(""),
    Key::new(
        "listen.nmea",
        "Addresses for devices that send sentences of NMEA 0183 over TCP.",
    )
    .default(""),
    Key::new("listen.tls", "Addresses for trackers over TLS.").default(""),
    Key::new(
        "listen.serial",
        "Serial lines for trackers wired by RS-232, with speed and kind if not 115200-8N1: /dev/ttyUSB0, /dev/ttyS1@9600, /dev/ttyS1@9600-8E1.",
    )
    .default(""),
    Key::new("listen.tls_cert", "Certificate for trackers, PEM; read again when it changes."),
    Key::new("listen.tls_key", "Its key, PEM."),
    Key::new(
        "listen.tls_client_ca",
        "If set, trackers over TLS need a certificate of this authority, PEM.",
    ),
    Key::new(
        "listen.connections_max",
        "Trackers connected at the same time, over all addresses.",
    )
    .default("10000"),
    Key::new(
        "listen.connections_per_ip_max",
        "Of them, from one address; mind operators that put many trackers behind one. Default: half of listen.connections_max.",
    ),
    Key::new(
        "listen.memory_bytes_max",
        "For frames that are still incomplete, all together; the oldest pays.",
    )
    .default("32MiB"),
    Key::new("listen.handshake_timeout", "From connection to login.").default("30s"),
    Key::new(
        "listen.frame_timeout",
        "From the first byte of a frame to its last.",
    )
    .default("60s"),
    Key::new(
        "listen.idle_timeout",
        "Silence after which a connection is closed.",
    )
    .default("30m"),
    Key::new(
        "listen.frame_bytes_max",
        "Largest frame, header and checksum included.",
    )
    .default("65535"),
    #[cfg(feature = "ingest")]
    ingest::HTTP,
    #[cfg(feature = "ingest")]
    ingest::HTTPS,
    #[cfg(feature = "ingest")]
    ingest::TOKENS,
    #[cfg(feature = "ingest")]
    ingest::OPEN,
    #[cfg(feature = "ingest")]
    ingest::BODY,
    #[cfg(feature = "ingest")]
    ingest::MEMORY,
    #[cfg(feature = "ingest")]
    ingest::CONNECTIONS,
    Key::new(
        "access.mode",
        "Who may log in: learn (everybody for access.learn_for, then who was seen), list (who is in access.list), open (everybody).",
    )
    .default("learn"),
    Key::new(
        "access.list",
        "File with one IMEI a line, ! in front of those denied; read again when it changes.",
    ),
    Key::new(
        "access.learn_for",
        "Running time in which new trackers are learned, from the first start on.",
    )
    .default("60m"),
    Key::new(
        "access.learned",
        "Where learned IMEIs are remembered. Default: learned.txt beside spool.dir.",
    ),
    Key::new("spool.dir", "Directory of the durable spool.").default("/var/lib/milepost/spool"),
    Key::new(
        "spool.bytes_max",
        "What the spool may fill, at least 8MiB.",
    )
    .default("1GiB"),
    Key::new(
        "spool.full",
        "What a full spool does: refuse (trackers keep their records), trust-redis (forget what Redis accepted), drop-oldest (report a gap).",
    )
    .default("refuse"),
    Key::new(
        "spool.commit_interval_min",
        "Least time between two commits, to spare flash; a panic record does not wait.",
    )
    .default("0s"),
    Key::new(
        "uplink.url",
        "Redis: rediss://user:password@host:port/; several nodes of a cluster with commas between them; or unix:/path of a cloud on this machine (its spool.socket), without Redis.",
    )
    .aliases(&["REDIS_URL"])
    .default("redis://127.0.0.1:6379/")
    .secret(),
    Key::new("uplink.host", "Host of Redis, while uplink.url is not set.").aliases(&["REDIS_HOST"]),
    Key::new("uplink.port", "Its port; 6379 when not set.").aliases(&["REDIS_PORT"]),
    Key::new("uplink.db", "Number of the database in it; 0 when not set.").aliases(&["REDIS_DB"]),
    Key::new("uplink.username", "User of Redis.").aliases(&["REDIS_USERNAME"]),
    Key::new("uplink.password", "Password of Redis.")
        .aliases(&["REDIS_PASSWORD"])
        .secret(),
    Key::new(
        "uplink.prod",
        "true: the host is called redis when uplink.host is not set, else localhost.",
    )
    .aliases(&["PROD"]),
    Key::new(
        "uplink.max_connections",
        "Understood and without effect: the gateway opens the few connections it needs.",
    )
    .aliases(&["REDIS_MAX_CONNECTIONS"]),
    Key::new("uplink.cluster", "It is a Redis Cluster: find the other nodes.").default("false"),
    Key::new("uplink.stream", "Stream of the telemetry entries.")
        .aliases(&[keys::ENV_TELEMETRY_STREAM])
        .default(keys::STREAM_TELTONIKA),
    Key::new(
        "uplink.shards",
        "Streams that devices are dealt out to, 1 to 64; the cloud must read as many. Above 1 the stream's name gets a number.",
    )
    .default("1"),
    Key::new("uplink.cert", "Our certificate, PEM."),
    Key::new("uplink.key", "Its key, PEM."),
    Key::new(
        "uplink.ca",
        "Who signs the server's certificate, PEM. Default: the system's list.",
    ),
    Key::new(
        "uplink.flush",
        "How long a record may wait for company on its way up.",
    )
    .default("250ms"),
    Key::new("uplink.compress", "zstd on the way up.").default("true"),
    Key::new(
        "uplink.in_flight_bytes_max",
        "Sent and not yet stored at most.",
    )
    .default("64MiB"),
    Key::new(
        "uplink.resend_after",
        "Sent and not stored for so long may be lost: ask, and send again.",
    )
    .default("60s"),
    Key::new(
        "uplink.retry_max",
        "Longest pause between two attempts to reach Redis.",
    )
    .default("30s"),
    Key::new(
        "uplink.response_timeout",
        "Longest wait for one answer of Redis, 1s to 10m; a connection that takes longer is made anew.",
    )
    .default("20s"),
    Key::new(
        "uplink.drain",
        "How long a stopping gateway goes on handing over.",
    )
    .default("5s"),
    Key::new(
        "commands.enabled",
        "Take orders for trackers from Redis and publish which trackers are here.",
    )
    .default("true"),
    Key::new(
        "commands.reply_timeout",
        "How long a tracker may take to reply to a command, 1s to 600s.",
    )
    .default("30s"),
    Key::new(
        "http.listen",
        "Address of the status page, /health, /ready, /status and /metrics; empty for none.",
    )
    .default("127.0.0.1:8080"),
    board::PROFILE,
    board::FILE,
    board::ROOT,
    Key::new("log.format", "auto (pretty on a terminal), pretty or json.")
        .aliases(&["LOG_FORMAT"])
        .default("auto"),
    Key::new("log.level", "error, warn, info, debug or trace.")
        .aliases(&["LOG_LEVEL"])
        .default("info"),
    panel::LOG_IMEI,
];

/// The settings cannot be used; every case is for the operator to correct.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file given with `--config` cannot be read.
    #[error("settings file {} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A key or value is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Address and certificates of Redis do not go together.
    #[error("uplink")]
    Redis(#[source] ConnectError),
    /// The gateway id cannot be used.
    #[error("gateway.id")]
    GatewayId(#[source] contract::IdError),
    /// The spool cannot say whose it is, or belongs to another gateway.
    #[error("spool.dir")]
    Spool(#[source] ::spool::SpoolError),
    /// The IMEI list is broken.
    #[error("access")]
    List(#[source] ListFileError),
    /// There is no such board, or its profile is none.
    #[error("board")]
    Board(#[source] hardware::BoardError),
    /// Set both, or no address of `listen.tls`.
    #[error("listen.tls needs both listen.tls_cert and listen.tls_key")]
    HalfTls,
    /// The certificate for trackers cannot be used.
    #[error("listen.tls")]
    Tls(#[source] IdentityError),
    /// The HTTP doors cannot be opened so.
    #[cfg(feature = "ingest")]
    #[error(transparent)]
    Ingest(#[from] crate::ingest::IngestError),
}

/// Everything the parts need.
pub struct Config {
    /// Who we are.
    pub gateway: GatewayId,
    /// Where the doors are.
    pub doors: DoorsConfig,
    /// For what is behind them.
    pub listen: ListenConfig,
    /// The HTTP doors, if there are any.
    #[cfg(feature = "ingest")]
    pub ingest: Option<crate::ingest::IngestConfig>,
    /// Who may log in.
    pub access: AccessConfig,
    /// For the spool.
    pub spool: SpoolConfig,
    /// For the uplink.
    pub uplink: UplinkConfig,
    /// For the downlink, unless it is switched off.
    pub commands: Option<DownlinkConfig>,
    /// For the pages.
    pub http: Option<SocketAddr>,
    /// What it runs on.
    pub board: BoardConfig,
    /// How to log.
    pub log: LogConfig,
    /// Every setting as it may be shown, for the pages.
    pub shown: Vec<Row>,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// JSON lines; `None`: decide by the terminal.
    pub json: Option<bool>,
    /// A level word.
    pub level: String,
    /// How IMEIs are shown, on the pages too.
    pub imei: crate::logbook::ImeiStyle,
}

/// Reads the file (if any) and the environment into raw settings.
/// # Errors
/// [`ConfigError::File`], [`ConfigError::Settings`].
pub fn read(path: Option<&Path>) -> Result<Settings, ConfigError> {
    let text = path.map(read_file).transpose()?;
    let name = path.map(|path| path.display().to_string());
    let file = name.as_deref().zip(text.as_deref());
    let mut settings = Settings::read(KEYS, ENV_PREFIX, file, std::env::vars())?;
    let waiting: Vec<_> = settings
        .secret_files()
        .map(|(name, path)| (name, PathBuf::from(path)))
        .collect();
    for (name, path) in waiting {
        settings.resolve_secret(name, &read_file(&path)?);
    }
    Ok(settings)
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
}

impl Config {
    /// Gives the settings their meaning.
    /// # Errors
    /// [`ConfigError`] with the key, where it was set, and what was expected.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let dir = settings.path("spool.dir")?;
        let gateway = gateway_id(settings, &dir)?;
        let uplink = uplink::read(settings, gateway.clone())?;
        Ok(Self {
            commands: commands::read(settings, &gateway, &uplink)?,
            doors: doors::doors(settings)?,
            listen: doors::listen(settings)?,
            #[cfg(feature = "ingest")]
            ingest: ingest::read(settings)?,
            access: {
                let access = doors::access(settings)?;
                access.check().map_err(ConfigError::List)?;
                access
            },
            spool: spool(settings, gateway.clone(), dir, &uplink)?,
            uplink,
            http: http_addr(settings)?,
            board: board::read(settings)?,
            log: log(settings)?,
            shown: settings.rows(),
            gateway,
        })
    }

    /// Can every value be used? Opens no file, so the files that settings name may be missing yet.
    /// # Errors
    /// As [`Config::new`], without what only files can show.
    pub fn check_values(settings: &Settings) -> Result<(), ConfigError> {
        let dir = settings.path("spool.dir")?;
        let id = settings.optional_text("gateway.id")?.unwrap_or("unnamed");
        let gateway = GatewayId::new(id).map_err(ConfigError::GatewayId)?;
        let uplink = uplink::read(settings, gateway.clone())?;
        commands::read(settings, &gateway, &uplink)?;
        doors::addresses(settings)?;
        doors::listen(settings)?;
        #[cfg(feature = "ingest")]
        ingest::values(settings)?;
        doors::access(settings)?;
        spool(settings, gateway, dir, &uplink)?;
        http_addr(settings)?;
        board::check_values(settings)?;
        log(settings)?;
        Ok(())
    }
}

fn spool(
    settings: &Settings,
    gateway: GatewayId,
    dir: PathBuf,
    uplink: &UplinkConfig,
) -> Result<SpoolConfig, ConfigError> {
    let full = match settings.choice("spool.full", &SPOOL_FULL)? {
        // Who takes entries there keeps none of them but in memory.
        "trust-redis" if uplink.redis.is_direct() => {
            let expected = "refuse or drop-oldest: there is no Redis behind a unix: address";
            return Err(settings.invalid("spool.full", expected, None).into());
        }
        "trust-redis" => FullPolicy::TrustRedis,
        "drop-oldest" => FullPolicy::DropOldest,
        _ => FullPolicy::Refuse,
    };
    Ok(SpoolConfig {
        gateway,
        dir,
        bytes_max: doors::spool_bytes_max(settings)?,
        full,
        commit_interval_min: commit_interval_min(settings)?,
    })
}

fn commit_interval_min(settings: &Settings) -> Result<Duration, ConfigError> {
    let interval: Duration = settings.duration("spool.commit_interval_min")?;
    if interval > COMMIT_INTERVAL_MAX {
        let expected = format!("0s to {}s", COMMIT_INTERVAL_MAX.as_secs());
        return Err(settings
            .invalid("spool.commit_interval_min", expected, None)
            .into());
    }
    Ok(interval)
}

/// The name that was set, else the spool's owner, else the host name.
fn gateway_id(settings: &Settings, spool_dir: &Path) -> Result<GatewayId, ConfigError> {
    // A directory that is not there yet, or cannot be read, is named when the spool is opened.
    let owner = match RealFs::read_only(spool_dir) {
        Ok(fs) => ::spool::owner(&fs).map_err(ConfigError::Spool)?,
        Err(_) => None,
    };
    let name = match (settings.optional_text("gateway.id")?, owner) {
        (Some(name), _) => name.to_owned(),
        (None, Some(owner)) => return Ok(owner),
        (None, None) => {
            let host = rustix::system::uname();
            host.nodename().to_string_lossy().into_owned()
        }
    };
    GatewayId::new(name).map_err(ConfigError::GatewayId)
}

fn bytes_within(
    settings: &Settings,
    name: &str,
    range: RangeInclusive<u64>,
) -> Result<usize, ConfigError> {
    let bytes = settings.bytes(name)?;
    let fits = range.contains(&bytes).then(|| usize::try_from(bytes).ok());
    fits.flatten().ok_or_else(|| {
        let expected = format!("{} to {} bytes", range.start(), range.end());
        settings.invalid(name, expected, None).into()
    })
}

fn log(settings: &Settings) -> Result<LogConfig, ConfigError> {
    // The founding documents write INFO and WARNING.
    let level = match settings.text("log.level")?.trim().to_ascii_lowercase() {
        level if level == "warning" => "warn".to_owned(),
        level => level,
    };
    let json = match settings.choice("log.format", &["auto", "pretty", "json", "console"])? {
        "auto" => None,
        format => Some(format == "json"),
    };
    let levels = ["error", "warn", "info", "debug", "trace"];
    if !levels.contains(&level.as_str()) {
        settings.choice("log.level", &levels)?;
    }
    Ok(LogConfig {
        json,
        level,
        imei: panel::imei_style(settings)?,
    })
}
