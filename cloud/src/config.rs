//! What was typed → what it means. Parts receive their own struct and never read the environment.
//!
//! Pure: file text and environment are handed in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::keys;
use settings::{Key, Settings, SettingsError};

/// Prefix of our environment variables: `CLOUD__REDIS__URL`.
pub const ENV_PREFIX: &str = "CLOUD";

/// Every key, in the order `cloud config show` prints them.
pub static KEYS: &[Key] = &[
    Key::new(
        "redis.url",
        "Where the stream lives: redis://, or rediss:// for TLS.",
    )
    .aliases(&["REDIS_URL"])
    .default("redis://127.0.0.1:6379")
    .secret(),
    Key::new("redis.cert", "Client certificate (PEM file) for rediss://.").default(""),
    Key::new("redis.key", "Key of the client certificate (PEM file).").default(""),
    Key::new(
        "redis.ca",
        "Certificate authority of Redis (PEM file); empty: the system's.",
    )
    .default(""),
    Key::new(
        "stream.name",
        "The stream to read, with its shards <name>:<n>; the gateways write to the same.",
    )
    .aliases(&[keys::ENV_TELEMETRY_STREAM])
    .default(keys::STREAM_TELTONIKA),
    Key::new(
        "stream.names",
        "Several streams, each with its shards; empty: the one of stream.name.",
    )
    .default(""),
    Key::new(
        "stream.pattern",
        "Also every stream that matches, such as telemetry:*; empty: none.",
    )
    .default(""),
    Key::new(
        "stream.look_every",
        "How often to look for streams and shards that are new.",
    )
    .default("30s"),
    Key::new(
        "stream.dead_letter",
        "Also copy dead letters to this stream, such as dead-letter:telemetry; empty: only to the table.",
    )
    .aliases(&["DEAD_LETTER_STREAM"])
    .default(""),
    Key::new("stream.dead_letter_keep", "Older copies of dead letters go.").default("30d"),
    Key::new("stream.group", "The consumer group.")
        .aliases(&["CONSUMER_GROUP_NAME"])
        .default(keys::GROUP_PROCESSOR),
    Key::new(
        "stream.consumer",
        "Our name in the group, the same after a restart; empty: <host>-0.",
    )
    .aliases(&["CONSUMER_NAME"])
    .default(""),
    Key::new(
        "stream.claim_after",
        "How long an item may lie with another processor before it is taken over; longer than a batch takes.",
    )
    .default("60s"),
    Key::new(
        "stream.keep",
        "How long acknowledged items stay in the stream for others to read.",
    )
    .default("1h"),
    Key::new(
        "database.url",
        "Where the rows go: postgres://user:password@host/database.",
    )
    .aliases(&["DATABASE_URL"])
    .default("postgres://127.0.0.1:5432/milepost")
    .secret(),
    Key::new(
        "database.pool",
        "Connections to the database at most; 1 is enough to work.",
    )
    .default("4"),
    Key::new(
        "database.timescale",
        "auto: use TimescaleDB where it is; require: refuse without; off: ordinary tables.",
    )
    .aliases(&["ENABLE_TIMESCALE"])
    .default("auto"),
    Key::new("store.batch_rows_max", "Rows gathered for one transaction.")
        .aliases(&["BATCH_SIZE"])
        .default("10000"),
    Key::new("store.batch_wait", "How long a row may wait for company.").default("200ms"),
    Key::new(
        "store.writers",
        "Batches written side by side; not more than database.pool.",
    )
    .default("2"),
    Key::new(
        "store.chunk_interval",
        "TimescaleDB: time that one new chunk covers; 7d for a small fleet.",
    )
    .default("1d"),
    Key::new(
        "store.compress_after",
        "TimescaleDB: age at which chunks go to the columnstore; off: never.",
    )
    .default("7d"),
    Key::new(
        "store.retention",
        "Age at which positions are deleted; off: never.",
    )
    .default("off"),
    Key::new(
        "frames.keep",
        "Also store raw frames, so that history can be decoded again.",
    )
    .default("true"),
    Key::new(
        "frames.retention",
        "Age at which raw frames are deleted; off: never.",
    )
    .default("90d"),
    Key::new(
        "commands.enabled",
        "Route the commands of the table to trackers, and record what became of them.",
    )
    .default("true"),
    Key::new(
        "commands.answer_max",
        "Longest wait for the outcome of a command given to a gateway; then it is unknown.",
    )
    .default("5m"),
    Key::new("http.listen", "Health, status and metrics; empty: off.").default("127.0.0.1:8081"),
    Key::new(
        "log.level",
        "error, warn, info, debug or trace; or a filter such as cloud=debug.",
    )
    .aliases(&["LOG_LEVEL"])
    .default("info"),
    Key::new(
        "log.format",
        "auto: console on a terminal, JSON otherwise; console; json.",
    )
    .aliases(&["LOG_FORMAT"])
    .default("auto"),
];

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Redis.
    pub redis: RedisConfig,
    /// The stream.
    pub stream: StreamConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// Batching and what is kept.
    pub store: StoreConfig,
    /// Orders to trackers; `None`: not by this process.
    pub commands: Option<CommandsConfig>,
    /// What becomes of rows as they grow old.
    pub policies: PolicyConfig,
    /// Where to answer HTTP; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Logs.
    pub log: LogConfig,
}

/// How to reach Redis. `Debug` is not derived: the URL may hold a password.
#[derive(Clone)]
pub struct RedisConfig {
    /// With its password.
    pub url: String,
    /// Client certificate and key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificate authority, PEM file.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&settings::without_password(&self.url))
    }
}

/// What to read.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Keys of the streams, never none; each stands for its shards too.
    pub names: Vec<String>,
    /// Also every stream that matches.
    pub pattern: Option<String>,
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
        Ok(Self {
            redis: redis(settings)?,
            stream: stream(settings, host)?,
            database: DatabaseConfig {
                url: settings.text("database.url")?.to_owned(),
                pool: settings.integer("database.pool", 1..=100)?,
                timescale: timescale(settings)?,
            },
            store: StoreConfig {
                batch_rows_max: settings.integer("store.batch_rows_max", 1..=100_000)?,
                batch_wait: settings.duration("store.batch_wait")?,
                keep_frames: settings.flag("frames.keep")?,
                writers: settings.integer("store.writers", 1..=16)?,
            },
            commands: commands(settings)?,
            policies: policies(settings)?,
            http: match settings.optional_text("http.listen")? {
                Some(_) => Some(settings.socket("http.listen")?),
                None => None,
            },
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

fn stream(settings: &Settings, host: &str) -> Result<StreamConfig, SettingsError> {
    let consumer = settings.optional_text("stream.consumer")?;
    let mut names = settings.list("stream.names")?;
    if names.is_empty() {
        names.push(settings.text("stream.name")?.to_owned());
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
        pattern: settings.optional_text("stream.pattern")?.map(str::to_owned),
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
    let url = settings.text("redis.url")?.to_owned();
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
    Ok(RedisConfig { url, identity, ca })
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
        assert!(refused("[frames]\nretention = \"0s\"").contains("frames.retention"));
        let wide = "[store]\nchunk_interval = \"7d\"\nretention = \"10d\"";
        assert!(refused(wide).contains("two of store.chunk_interval"));
        assert!(refused("[store]\nchunk_interval = \"1s\"").contains("1h to 100d"));
        assert!(refused("[store]\ncompress_after = \"never\"").contains("7d"));
    }

    #[test]
    fn http_can_be_off() {
        assert!(read("[http]\nlisten = \"\"", &[]).unwrap().http.is_none());
    }
}
