//! What was typed → what it means. Parts receive their own struct and never read the environment.
//!
//! Pure: file text and environment are handed in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::keys;
use settings::{Origin, RedisAddress, RedisNames, Settings, SettingsError};

mod known;
mod sensors;
mod web;

pub use known::KEYS;
pub use sensors::SensorConfig;
pub use web::{Open, TilesUrl, WebConfig};

/// Prefix of our environment variables: `CLOUD__REDIS__URL`.
pub const ENV_PREFIX: &str = "CLOUD";

/// Where AVL records are. A second name is a view's business.
const TABLE: &str = "positions";

/// Where readings of sensors are; the founding name.
const SENSOR_TABLE: &str = "sensor_readings";

/// How the parts of Redis' address are called here.
pub const REDIS_NAMES: RedisNames = RedisNames {
    url: "redis.url",
    host: "redis.host",
    port: "redis.port",
    db: "redis.db",
    username: "redis.username",
    password: "redis.password",
    prod: "redis.prod",
    max_connections: "redis.max_connections",
    tls: ["redis.cert", "redis.ca"],
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Redis.
    pub redis: RedisConfig,
    /// Where gateways of this machine hand entries over, instead of Redis.
    pub socket: Option<PathBuf>,
    /// The stream.
    pub stream: StreamConfig,
    /// Readings of sensors; `None`: none are read.
    pub sensors: Option<SensorConfig>,
    /// The database.
    pub database: DatabaseConfig,
    /// Batching and what is kept.
    pub store: StoreConfig,
    /// Orders to trackers; `None`: not by this process.
    pub commands: Option<CommandsConfig>,
    /// What becomes of rows as they grow old.
    pub policies: PolicyConfig,
    /// What `cloud site` works with.
    pub site: SiteConfig,
    /// Where to answer HTTP; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Who may see the web app.
    pub web: WebConfig,
    /// Logs.
    pub log: LogConfig,
}

/// How to reach Redis. `Debug` is not derived: the URL may hold a password.
#[derive(Clone)]
pub struct RedisConfig {
    /// With its password; several nodes of a cluster with commas between them.
    pub url: String,
    /// One server or a cluster.
    pub cluster: ClusterMode,
    /// Client certificate and key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificate authority, PEM file.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self.urls().map(settings::without_password).collect();
        f.write_str(&shown.join(","))
    }
}

impl RedisConfig {
    /// Each address in `url`.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        settings::redis_urls(&self.url)
    }
}

/// What Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMode {
    /// It is asked.
    Auto,
    /// A cluster.
    Yes,
    /// One server.
    No,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Keys of the streams, never none; each stands for its shards too.
    pub names: Vec<String>,
    /// Streams of other vendors, with their shards: taken in when they appear. None where
    /// `stream.names` says exactly what to read.
    pub vendors: Vec<String>,
    /// Also every stream that matches.
    pub pattern: Option<String>,
    /// But none that matches this: sensor streams.
    pub not_pattern: Option<String>,
    /// How often to look for more.
    pub look_every: Duration,
    /// Where copies of dead letters go; never read, whatever the pattern.
    pub dead_letter: Option<String>,
    /// Older copies go.
    pub dead_letter_keep: Duration,
    /// Consumer group.
    pub group: String,
    /// Our name in it.
    pub consumer: String,
    /// An item may lie with another consumer for so long.
    pub claim_after: Duration,
    /// Acknowledged items stay this long.
    pub keep: Duration,
}

/// How to reach the database. `Debug` is not derived: the URL may hold a password.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// With its password.
    pub url: String,
    /// Connections at most, from 1.
    pub pool: u32,
    /// What to do with the extension.
    pub timescale: Timescale,
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&settings::without_password(&self.url))
    }
}

/// What to do with TimescaleDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timescale {
    /// Use it where it is.
    Auto,
    /// Refuse to work without.
    Require,
    /// Ordinary tables.
    Off,
}

/// How rows are gathered.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Rows in a batch; one stream item may carry it over.
    pub batch_rows_max: usize,
    /// Longest wait for company.
    pub batch_wait: Duration,
    /// Rest after a batch.
    pub pause: Duration,
    /// Store raw frames.
    pub keep_frames: bool,
    /// Batches written side by side, from 1.
    pub writers: usize,
}

/// How patient to be with commands.
#[derive(Clone, Copy, Debug)]
pub struct CommandsConfig {
    /// Longest wait for the outcome of a command that was given to a gateway, from a second.
    pub answer_max: Duration,
}

/// What becomes of rows as they grow old. `None`: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Time that one chunk of a hypertable covers, from an hour.
    pub chunk_interval: Duration,
    /// Age at which a chunk goes to the columnstore.
    pub compress_after: Option<Duration>,
    /// Age at which positions are deleted, from two chunks.
    pub retention: Option<Duration>,
    /// Age at which raw frames are deleted, from two chunks.
    pub frames_retention: Option<Duration>,
    /// Age at which readings of sensors are deleted, from two chunks.
    pub sensors_retention: Option<Duration>,
}

/// How new gateways are let in.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// The authority and what it gave out.
    pub dir: PathBuf,
    /// Where gateways reach Redis; `None`: where we do.
    pub url: Option<String>,
    /// Redis, as one who may make users.
    pub admin: RedisConfig,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level or a filter.
    pub level: String,
    /// JSON lines?
    pub format: LogFormat,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Console on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Console,
    /// One object per line.
    Json,
}

impl Config {
    /// Gives every value its type. `host` names this machine, for `stream.consumer`.
    /// # Errors
    /// [`SettingsError`] for the first value that does not fit.
    pub fn new(settings: &Settings, host: &str) -> Result<Self, SettingsError> {
        let redis = redis(settings)?;
        let stream = stream(settings, host)?;
        let http = match settings.optional_text("http.listen")? {
            Some(_) => Some(settings.socket("http.listen")?),
            None => None,
        };
        Ok(Self {
            web: web::web(settings, http)?,
            http,
            site: site(settings, &redis)?,
            redis,
            socket: settings.optional_path("spool.socket")?,
            sensors: sensors::sensors(settings, &stream)?,
            stream,
            database: DatabaseConfig {
                url: settings.text("database.url")?.to_owned(),
                pool: settings.integer("database.pool", 1..=100)?,
                timescale: timescale(settings)?,
            },
            store: store(settings)?,
            commands: commands(settings)?,
            policies: policies(settings)?,
            log: LogConfig {
                level: settings.text("log.level")?.to_lowercase(),
                format: match settings.choice("log.format", &["auto", "console", "json"])? {
                    "console" => LogFormat::Console,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
            },
        })
    }
}

/// What was typed and changes nothing: the setting, where it was set, and why.
#[must_use]
pub fn without_effect(settings: &Settings) -> Vec<(&'static str, &Origin, String)> {
    let mut idle = REDIS_NAMES.without_effect(settings);
    let wait = settings.origin("store.batch_wait");
    if settings.is_set("store.batch_timeout_s") && *wait != Origin::Default {
        let why = format!("store.batch_wait wins, set by {}", wait.place());
        let origin = settings.origin("store.batch_timeout_s");
        idle.push(("store.batch_timeout_s", origin, why));
    }
    if settings.is_set("web.tokens") && *settings.origin("web.open") != Origin::Default {
        let why = "web.tokens is set, so everybody needs a token".to_owned();
        idle.push(("web.open", settings.origin("web.open"), why));
    }
    if settings.is_set("spool.socket") && settings.is_set("stream.dead_letter") {
        let why = "spool.socket is set, so there is no Redis for copies".to_owned();
        let origin = settings.origin("stream.dead_letter");
        idle.push(("stream.dead_letter", origin, why));
    }
    idle
}

/// Where Redis is, and the parts that were put together for it.
/// # Errors
/// A part that does not fit.
pub fn redis_address(settings: &Settings) -> Result<RedisAddress, SettingsError> {
    REDIS_NAMES.address(settings)
}

fn store(settings: &Settings) -> Result<StoreConfig, SettingsError> {
    if ![TABLE, SENSOR_TABLE].contains(&settings.text("store.table")?) {
        let expected = "positions, or sensor_readings for readings of sensors: rows go to the tables that `cloud migrate up` makes; for programs that want another name, make a view of that name over one of them or over telemetry";
        return Err(settings.invalid("store.table", expected, None));
    }
    let is_wait_typed = *settings.origin("store.batch_wait") != Origin::Default;
    let batch_wait = match seconds(settings, "store.batch_timeout_s")? {
        Some(wait) if !is_wait_typed => wait,
        _ => settings.duration("store.batch_wait")?,
    };
    Ok(StoreConfig {
        batch_rows_max: settings.integer("store.batch_rows_max", 1..=100_000)?,
        batch_wait,
        pause: seconds(settings, "store.pause_s")?.unwrap_or_default(),
        keep_frames: settings.flag("frames.keep")?,
        writers: settings.integer("store.writers", 1..=16)?,
    })
}

/// A number of seconds as the founding documents write them: `5`, `0.1`.
fn seconds(settings: &Settings, name: &str) -> Result<Option<Duration>, SettingsError> {
    let Some(text) = settings.optional_text(name)? else {
        return Ok(None);
    };
    let number = text.trim().parse().ok();
    let fits = number.filter(|number: &f64| (0.0..=3_600.0).contains(number));
    let refused = || settings.invalid(name, "a number of seconds from 0 to 3600", None);
    fits.map(|number| Some(Duration::from_secs_f64(number)))
        .ok_or_else(refused)
}

fn stream(settings: &Settings, host: &str) -> Result<StreamConfig, SettingsError> {
    let consumer = settings.optional_text("stream.consumer")?;
    let mut names = settings.list("stream.names")?;
    let mut vendors = Vec::new();
    if names.is_empty() {
        names.push(settings.text("stream.name")?.to_owned());
        vendors.extend(keys::other_streams().filter(|vendor| *vendor != names[0]));
    }
    names.sort();
    names.dedup();
    let dead_letter = settings.optional_text("stream.dead_letter")?;
    let is_read = |name: &String| {
        dead_letter.is_some_and(|letter| letter == name || keys::is_shard_of(letter, name))
    };
    if names.iter().any(is_read) {
        let expected = "a stream that is not read, such as dead-letter:telemetry";
        return Err(settings.invalid("stream.dead_letter", expected, None));
    }
    let at_least = |key: &'static str, least: Duration| {
        let found = settings.duration(key)?;
        if found < least {
            return Err(settings.invalid(key, format!("at least {least:?}"), None));
        }
        Ok(found)
    };
    Ok(StreamConfig {
        names,
        vendors,
        pattern: settings.optional_text("stream.pattern")?.map(str::to_owned),
        not_pattern: settings
            .optional_text("sensors.pattern")?
            .map(str::to_owned),
        look_every: at_least("stream.look_every", Duration::from_secs(1))?,
        dead_letter: dead_letter.map(str::to_owned),
        dead_letter_keep: settings.duration("stream.dead_letter_keep")?,
        group: settings.text("stream.group")?.to_owned(),
        consumer: consumer.map_or_else(|| format!("{host}-0"), str::to_owned),
        claim_after: at_least("stream.claim_after", Duration::from_secs(1))?,
        keep: settings.duration("stream.keep")?,
    })
}

fn redis(settings: &Settings) -> Result<RedisConfig, SettingsError> {
    let url = redis_address(settings)?.url;
    let cert = settings.optional_path("redis.cert")?;
    let key = settings.optional_path("redis.key")?;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(settings.invalid("redis.key", "the key of redis.cert", None));
        }
        (None, Some(_)) => {
            return Err(settings.invalid("redis.cert", "the certificate of redis.key", None));
        }
    };
    let ca = settings.optional_path("redis.ca")?;
    if !url.starts_with("rediss://") && (identity.is_some() || ca.is_some()) {
        let expected = "rediss://…, since certificates are given";
        return Err(settings.invalid("redis.url", expected, None));
    }
    let is_tls = |url: &str| url.starts_with("rediss://");
    if settings::redis_urls(&url).any(|node| is_tls(node) != is_tls(&url)) {
        let expected = "rediss:// for every node, or redis:// for every node";
        return Err(settings.invalid("redis.url", expected, None));
    }
    let cluster = match settings.choice("redis.cluster", &["auto", "true", "false"])? {
        "true" => ClusterMode::Yes,
        "false" => ClusterMode::No,
        _ => ClusterMode::Auto,
    };
    if cluster == ClusterMode::No && settings::redis_urls(&url).count() > 1 {
        let expected = "auto or true, since redis.url has several nodes";
        return Err(settings.invalid("redis.cluster", expected, None));
    }
    Ok(RedisConfig {
        url,
        cluster,
        identity,
        ca,
    })
}

fn site(settings: &Settings, redis: &RedisConfig) -> Result<SiteConfig, SettingsError> {
    let mut admin = redis.clone();
    if let Some(url) = settings.optional_text("site.admin_url")? {
        if url.starts_with("rediss://") != redis.url.starts_with("rediss://") {
            let expected = "the same server as redis.url, with TLS or without as there";
            return Err(settings.invalid("site.admin_url", expected, None));
        }
        admin.url = url.to_owned();
    }
    Ok(SiteConfig {
        dir: settings.path("site.dir")?,
        url: settings.optional_text("site.url")?.map(str::to_owned),
        admin,
    })
}

fn commands(settings: &Settings) -> Result<Option<CommandsConfig>, SettingsError> {
    let answer_max = settings.duration("commands.answer_max")?;
    if answer_max < Duration::from_secs(1) {
        return Err(settings.invalid("commands.answer_max", "at least 1s", None));
    }
    let is_enabled = settings.flag("commands.enabled")?;
    Ok(is_enabled.then_some(CommandsConfig { answer_max }))
}

fn policies(settings: &Settings) -> Result<PolicyConfig, SettingsError> {
    let chunk_interval = settings.duration("store.chunk_interval")?;
    if !(HOUR..=100 * DAY).contains(&chunk_interval) {
        return Err(settings.invalid("store.chunk_interval", "1h to 100d", None));
    }
    let age = |name| match settings.text(name)?.trim() {
        "off" => Ok(None),
        _ => settings.duration(name).map(Some),
    };
    // What is younger is still coming in: trackers buffer for days.
    let kept = |name| match age(name)? {
        Some(kept) if kept < (2 * chunk_interval).max(DAY) => {
            let expected = "off, or at least a day and two of store.chunk_interval";
            Err(settings.invalid(name, expected, None))
        }
        kept => Ok(kept),
    };
    Ok(PolicyConfig {
        chunk_interval,
        compress_after: age("store.compress_after")?,
        retention: kept("store.retention")?,
        frames_retention: kept("frames.retention")?,
        sensors_retention: kept("sensors.retention")?,
    })
}

fn timescale(settings: &Settings) -> Result<Timescale, SettingsError> {
    // The founding ENABLE_TIMESCALE knows two words; TOML's `true` comes as the same text.
    let words = ["auto", "require", "off", "true", "false"];
    Ok(match settings.choice("database.timescale", &words)? {
        "require" | "true" => Timescale::Require,
        "off" | "false" => Timescale::Off,
        _ => Timescale::Auto,
    })
}

#[cfg(test)]
mod founding_names_tests;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(file: &str, env: &[(&str, &str)]) -> Result<Config, SettingsError> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings = Settings::read(KEYS, ENV_PREFIX, Some(("cloud.toml", file)), env)?;
        Config::new(&settings, "box")
    }

    #[test]
    fn defaults_work_and_name_the_founding_stream_and_group() {
        let config = read("", &[]).unwrap();
        assert_eq!(config.stream.names, ["telemetry:teltonika"]);
        assert_eq!(config.stream.vendors, ["telemetry:http", "telemetry:nmea"]);
        assert_eq!(config.stream.pattern, None);
        assert_eq!(config.stream.claim_after, Duration::from_secs(60));
        assert_eq!(config.store.writers, 2);
        assert_eq!(config.stream.group, "processor");
        assert_eq!(config.stream.consumer, "box-0");
        assert_eq!(config.store.batch_rows_max, 10_000);
        assert_eq!(config.store.batch_wait, Duration::from_millis(200));
        assert_eq!(config.database.timescale, Timescale::Auto);
        assert_eq!(config.http.unwrap().port(), 8081);
    }

    #[test]
    fn several_nodes_are_a_cluster_and_nothing_else() {
        let redis = |lines: &str| read(&format!("[redis]\n{lines}"), &[]);
        let one = redis("url = \"redis://u:secret@a\"").unwrap().redis;
        assert_eq!((one.cluster, one.urls().count()), (ClusterMode::Auto, 1));
        let two = redis("url = \"redis://u:secret@a,redis://u:secret@b\"").unwrap();
        assert_eq!(two.redis.urls().count(), 2);
        assert_eq!(
            format!("{:?}", two.redis),
            "redis://u:***@a,redis://u:***@b"
        );
        let set = redis("cluster = true").unwrap().redis;
        assert_eq!(set.cluster, ClusterMode::Yes);
        for (lines, key) in [
            (
                "url = \"redis://a,redis://b\"\ncluster = false",
                "redis.cluster",
            ),
            ("url = \"redis://a,rediss://b\"", "redis.url"),
            ("cluster = \"perhaps\"", "redis.cluster"),
        ] {
            let refused = redis(lines).map(drop).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }

    #[test]
    fn founding_names_are_understood_and_ours_win() {
        let founding = [
            ("REDIS_URL", "redis://:secret@redis:6379/0"),
            ("DATABASE_URL", "postgres://u:secret@db/x"),
            ("REDIS_TELEMETRY_STREAM", "telemetry:t"),
            ("CONSUMER_GROUP_NAME", "db_writer"),
            ("CONSUMER_NAME", "worker-01"),
            ("BATCH_SIZE", "500"),
            ("LOG_LEVEL", "DEBUG"),
            ("LOG_FORMAT", "json"),
            ("ENABLE_TIMESCALE", "true"),
        ];
        let config = read("", &founding).unwrap();
        assert_eq!(config.redis.url, "redis://:secret@redis:6379/0");
        assert_eq!(config.stream.names, ["telemetry:t"]);
        assert_eq!(
            (
                config.stream.group.as_str(),
                config.stream.consumer.as_str()
            ),
            ("db_writer", "worker-01")
        );
        assert_eq!(config.store.batch_rows_max, 500);
        assert_eq!(
            (config.log.level.as_str(), config.log.format),
            ("debug", LogFormat::Json)
        );
        assert_eq!(config.database.timescale, Timescale::Require);
        let mut both = founding.to_vec();
        both.push(("CLOUD__STREAM__NAME", "telemetry:own"));
        assert_eq!(read("", &both).unwrap().stream.names, ["telemetry:own"]);
        let shown = format!("{config:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn half_an_identity_and_certificates_without_tls_are_refused() {
        let refused = |file: &str| read(file, &[]).unwrap_err().to_string();
        assert!(refused("[redis]\nurl = \"rediss://r\"\ncert = \"c\"").contains("redis.key"));
        assert!(refused("[redis]\nurl = \"rediss://r\"\nkey = \"k\"").contains("redis.cert"));
        assert!(refused("[redis]\nca = \"ca\"").contains("rediss://"));
        assert!(refused("[database]\ntimescale = \"sometimes\"").contains("require"));
        assert!(refused("[database]\npool = 0").contains("1 to 100"));
        assert!(refused("[stream]\nnaem = \"x\"").contains("stream.name"));
    }

    #[test]
    fn several_streams_are_named_once_each() {
        let file = "[stream]\nnames = [\"telemetry:b\", \"telemetry:a\", \"telemetry:b\"]\npattern = \"telemetry:*\"";
        let stream = read(file, &[]).unwrap().stream;
        assert_eq!(stream.names, ["telemetry:a", "telemetry:b"]);
        assert!(stream.vendors.is_empty(), "those and no others");
        assert_eq!(stream.pattern.as_deref(), Some("telemetry:*"));
        let env = [("CLOUD__STREAM__NAMES", "telemetry:x, telemetry:y")];
        assert_eq!(
            read("", &env).unwrap().stream.names,
            ["telemetry:x", "telemetry:y"]
        );
        let refused = |file: &str| read(file, &[]).unwrap_err().to_string();
        for letter in ["telemetry:teltonika", "telemetry:teltonika:3"] {
            let file = format!("[stream]\ndead_letter = \"{letter}\"");
            assert!(refused(&file).contains("not read"), "{letter}");
        }
        let founding = [("DEAD_LETTER_STREAM", "mqtt_stream:failed")];
        let stream = read("", &founding).unwrap().stream;
        assert_eq!(stream.dead_letter.as_deref(), Some("mqtt_stream:failed"));
        assert!(refused("[stream]\nclaim_after = \"100ms\"").contains("at least"));
        assert!(refused("[store]\nwriters = 0").contains("1 to 16"));
    }

    #[test]
    fn commands_are_on_and_patient_unless_told_otherwise() {
        let patience = |file| read(file, &[]).map(|c| c.commands.map(|c| c.answer_max.as_secs()));
        assert_eq!(patience("").unwrap(), Some(300));
        assert_eq!(patience("[commands]\nenabled = false").unwrap(), None);
        let refused = patience("[commands]\nanswer_max = \"10ms\"").unwrap_err();
        assert!(refused.to_string().contains("at least 1s"), "{refused}");
    }

    #[test]
    fn ages_are_durations_or_off_and_never_so_short_that_they_delete_what_arrives() {
        let policies = |file: &str| read(file, &[]).map(|config| config.policies);
        let wanted = PolicyConfig {
            chunk_interval: DAY,
            compress_after: Some(7 * DAY),
            retention: None,
            frames_retention: Some(90 * DAY),
            sensors_retention: None,
        };
        assert_eq!(policies("").unwrap(), wanted);
        let off = policies(
            "[store]\ncompress_after = \"off\"\nretention = \"400d\"\n[frames]\nretention = \"off\"",
        );
        let wanted = PolicyConfig {
            compress_after: None,
            retention: Some(400 * DAY),
            frames_retention: None,
            ..wanted
        };
        assert_eq!(off.unwrap(), wanted);
        let refused = |file: &str| policies(file).unwrap_err().to_string();
        assert!(refused("[store]\nretention = \"1h\"").contains("store.retention"));
        assert!(refused("[sensors]\nretention = \"1h\"").contains("sensors.retention"));
        assert!(refused("[frames]\nretention = \"0s\"").contains("frames.retention"));
        let wide = "[store]\nchunk_interval = \"7d\"\nretention = \"10d\"";
        assert!(refused(wide).contains("two of store.chunk_interval"));
        assert!(refused("[store]\nchunk_interval = \"1s\"").contains("1h to 100d"));
        assert!(refused("[store]\ncompress_after = \"never\"").contains("7d"));
    }

    #[test]
    fn sensor_streams_are_none_unless_named_and_never_telemetry() {
        let sensors = |file: &str, env: &[(&str, &str)]| read(file, env).map(|it| it.sensors);
        assert_eq!(sensors("", &[]).unwrap(), None);
        let founding = [
            ("STREAM_PATTERN", "mqtt_stream:*"),
            ("DEAD_LETTER_STREAM", "mqtt_stream:failed"),
            ("TABLE_NAME", "sensor_readings"),
        ];
        let found = sensors("", &founding).unwrap().unwrap();
        assert_eq!(found.pattern, "mqtt_stream:*");
        assert_eq!(found.dead_letter.as_deref(), Some("mqtt_stream:failed"));
        assert_eq!((found.keep, found.telemetry.len()), (None, 1));
        let stream = read("", &founding).unwrap().stream;
        assert_eq!(stream.not_pattern.as_deref(), Some("mqtt_stream:*"));
        let kept = "[sensors]\npattern = \"mqtt:*\"\nkeep = \"2h\"";
        let kept = sensors(kept, &[]).unwrap().unwrap().keep;
        assert_eq!(kept, Some(Duration::from_secs(7_200)));
        for pattern in [
            "telemetry:*",
            "telemetry:teltonika",
            "commands:*",
            "dead-letter:*",
        ] {
            let refused = sensors("", &[("STREAM_PATTERN", pattern)]).unwrap_err();
            assert!(refused.to_string().contains("stream.pattern"), "{refused}");
        }
        let refused = sensors("[sensors]\npattern = \"a:*\"\nkeep = \"never\"", &[]);
        assert!(refused.unwrap_err().to_string().contains("sensors.keep"));
    }

    #[test]
    fn http_can_be_off() {
        assert!(read("[http]\nlisten = \"\"", &[]).unwrap().http.is_none());
    }
}
