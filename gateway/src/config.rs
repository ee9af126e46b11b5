//! From what was typed to what is meant: the gateway's settings.
//!
//! Invariant: every part receives its own struct from here and never reads the environment.

mod panel;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{GatewayId, keys};
use settings::{Key, Settings, SettingsError};
use thiserror::Error;

pub use panel::http_addr;

use crate::listen::ListenConfig;
use crate::session::{Admission, SessionLimits};
use crate::spool::{FullPolicy, RealFs, SpoolConfig};
use crate::uplink::{ConnectError, RedisConfig, UplinkConfig};

/// Prefix of the environment variables: `GATEWAY__UPLINK__URL`.
pub const ENV_PREFIX: &str = "GATEWAY";

/// Shorter pauses would only heat the processor while Redis is away.
const RETRY_MAX_MIN: Duration = Duration::from_millis(100);

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
    Key::new(
        "listen.connections_max",
        "Trackers connected at the same time.",
    )
    .default("10000"),
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
    Key::new(
        "access.mode",
        "Who may log in: open, or list (see access.list).",
    )
    .default("open"),
    Key::new(
        "access.list",
        "File with one IMEI a line, for access.mode = \"list\".",
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
    Key::new("uplink.url", "Redis: rediss://user:password@host:port/.")
        .aliases(&["REDIS_URL"])
        .default("redis://127.0.0.1:6379/")
        .secret(),
    Key::new("uplink.stream", "Stream of the telemetry entries.")
        .aliases(&[keys::ENV_TELEMETRY_STREAM])
        .default(keys::STREAM_TELTONIKA),
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
        "uplink.drain",
        "How long a stopping gateway goes on handing over.",
    )
    .default("5s"),
    Key::new(
        "http.listen",
        "Address of the status page, /health, /ready, /status and /metrics; empty for none.",
    )
    .default("127.0.0.1:8080"),
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
    #[error("access.list {}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// Which line.
        #[source]
        source: crate::session::ListError,
    },
}

/// Everything the parts need.
pub struct Config {
    /// Who we are.
    pub gateway: GatewayId,
    /// TCP addresses.
    pub tcp: Vec<SocketAddr>,
    /// For the doors.
    pub listen: ListenConfig,
    /// Who may log in.
    pub admission: Admission,
    /// For the spool.
    pub spool: SpoolConfig,
    /// For the uplink.
    pub uplink: UplinkConfig,
    /// For the pages.
    pub http: Option<SocketAddr>,
    /// How to log.
    pub log: LogConfig,
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
        Ok(Self {
            tcp: settings.socket_list("listen.tcp")?,
            listen: listen(settings)?,
            admission: admission(settings)?,
            spool: SpoolConfig {
                gateway: gateway.clone(),
                dir,
                bytes_max: settings.bytes("spool.bytes_max")?,
                full: match settings.choice("spool.full", &SPOOL_FULL)? {
                    "trust-redis" => FullPolicy::TrustRedis,
                    "drop-oldest" => FullPolicy::DropOldest,
                    _ => FullPolicy::Refuse,
                },
                commit_interval_min: commit_interval_min(settings)?,
            },
            uplink: uplink(settings, gateway.clone())?,
            http: http_addr(settings)?,
            log: log(settings)?,
            gateway,
        })
    }
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

fn listen(settings: &Settings) -> Result<ListenConfig, ConfigError> {
    let codec = codec::Limits {
        frame_bytes_max: bytes_within(settings, "listen.frame_bytes_max", 1_280..=65_535)?,
        ..codec::Limits::default()
    };
    Ok(ListenConfig {
        connections_max: settings.integer("listen.connections_max", 1..=1_000_000)?,
        session: SessionLimits {
            handshake_timeout: settings.duration("listen.handshake_timeout")?,
            frame_timeout: settings.duration("listen.frame_timeout")?,
            idle_timeout: settings.duration("listen.idle_timeout")?,
            codec,
        },
    })
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

fn admission(settings: &Settings) -> Result<Admission, ConfigError> {
    match settings.choice("access.mode", &["open", "list"])? {
        "list" => {
            let path = settings.path("access.list")?;
            let text = read_file(&path)?;
            Admission::from_list(&text).map_err(|source| ConfigError::List { path, source })
        }
        _ => Ok(Admission::Open),
    }
}

fn uplink(settings: &Settings, gateway: GatewayId) -> Result<UplinkConfig, ConfigError> {
    let retry_max: Duration = settings.duration("uplink.retry_max")?;
    if retry_max < RETRY_MAX_MIN {
        return Err(settings
            .invalid("uplink.retry_max", "100ms or more", None)
            .into());
    }
    let redis = RedisConfig {
        url: settings.text("uplink.url")?.to_owned(),
        cert: settings.optional_path("uplink.cert")?,
        key: settings.optional_path("uplink.key")?,
        ca: settings.optional_path("uplink.ca")?,
    };
    redis.check().map_err(ConfigError::Redis)?;
    Ok(UplinkConfig {
        gateway,
        redis,
        stream: settings.text("uplink.stream")?.to_owned(),
        flush: settings.duration("uplink.flush")?,
        compress: settings.flag("uplink.compress")?,
        in_flight_bytes_max: bytes_within(
            settings,
            "uplink.in_flight_bytes_max",
            1 << 20..=1 << 31,
        )?,
        resend_after: settings.duration("uplink.resend_after")?,
        retry_max,
        drain: settings.duration("uplink.drain")?,
    })
}

fn log(settings: &Settings) -> Result<LogConfig, ConfigError> {
    let json = match settings.choice("log.format", &["auto", "pretty", "json", "console"])? {
        "auto" => None,
        format => Some(format == "json"),
    };
    let levels = ["error", "warn", "info", "debug", "trace"];
    Ok(LogConfig {
        json,
        level: settings.choice("log.level", &levels)?.to_owned(),
        imei: panel::imei_style(settings)?,
    })
}
