//! Every environment name of the founding documents that concerns the cloud, what it means, and
//! which one wins; and the example file that lists them all.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

fn settings(file: Option<&str>, env: &[(&str, &str)]) -> Settings {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let file = file.map(|text| ("cloud.toml", text));
    Settings::read(KEYS, ENV_PREFIX, file, env).unwrap()
}

fn config(env: &[(&str, &str)]) -> Result<Config, SettingsError> {
    Config::new(&settings(None, env), "box")
}

/// Name, value, key, and what the configuration then says.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Config) -> String,
    &'static str,
);

#[test]
fn each_name_sets_its_key() {
    let url = |config: &Config| config.redis.url.clone();
    let wait = |config: &Config| format!("{:?}", config.store.batch_wait);
    let pause = |config: &Config| format!("{:?}", config.store.pause);
    let level = |config: &Config| config.log.level.clone();
    let format = |config: &Config| format!("{:?}", config.log.format);
    let timescale = |config: &Config| format!("{:?}", config.database.timescale);
    let rows: &[Row] = &[
        (
            "REDIS_URL",
            "redis://:pw@redis:6379/0",
            "redis.url",
            url,
            "redis://:pw@redis:6379/0",
        ),
        ("REDIS_HOST", "h", "redis.host", url, "redis://h:6379/0"),
        (
            "REDIS_HOST",
            "::1",
            "redis.host",
            url,
            "redis://[::1]:6379/0",
        ),
        (
            "REDIS_PORT",
            "7000",
            "redis.port",
            url,
            "redis://localhost:7000/0",
        ),
        ("REDIS_DB", "3", "redis.db", url, "redis://localhost:6379/3"),
        (
            "REDIS_PASSWORD",
            "a@b/c",
            "redis.password",
            url,
            "redis://:a%40b%2Fc@localhost:6379/0",
        ),
        (
            "REDIS_USERNAME",
            "u",
            "redis.username",
            url,
            "redis://u@localhost:6379/0",
        ),
        ("PROD", "true", "redis.prod", url, "redis://redis:6379/0"),
        (
            "PROD",
            "false",
            "redis.prod",
            url,
            "redis://localhost:6379/0",
        ),
        (
            "REDIS_MAX_CONNECTIONS",
            "20",
            "redis.max_connections",
            url,
            "redis://127.0.0.1:6379",
        ),
        (
            "REDIS_TELEMETRY_STREAM",
            "telemetry:t",
            "stream.name",
            |config| config.stream.names.join(","),
            "telemetry:t",
        ),
        (
            "STREAM_PATTERN",
            "mqtt_stream:*",
            "sensors.pattern",
            |config| config.sensors.clone().unwrap().pattern,
            "mqtt_stream:*",
        ),
        (
            "DEAD_LETTER_STREAM",
            "mqtt_stream:failed",
            "stream.dead_letter",
            |config| config.stream.dead_letter.clone().unwrap_or_default(),
            "mqtt_stream:failed",
        ),
        (
            "CONSUMER_GROUP_NAME",
            "db_writer",
            "stream.group",
            |config| config.stream.group.clone(),
            "db_writer",
        ),
        (
            "CONSUMER_NAME",
            "worker-01",
            "stream.consumer",
            |config| config.stream.consumer.clone(),
            "worker-01",
        ),
        (
            "DATABASE_URL",
            "postgres://u:p@db/x",
            "database.url",
            |config| config.database.url.clone(),
            "postgres://u:p@db/x",
        ),
        (
            "BATCH_SIZE",
            "500",
            "store.batch_rows_max",
            |config| config.store.batch_rows_max.to_string(),
            "500",
        ),
        (
            "BATCH_TIMEOUT_SEC",
            "5",
            "store.batch_timeout_s",
            wait,
            "5s",
        ),
        (
            "BATCH_TIMEOUT_SEC",
            "0.05",
            "store.batch_timeout_s",
            wait,
            "50ms",
        ),
        ("PROCESSING_INTERVAL_SEC", "1", "store.pause_s", pause, "1s"),
        (
            "PROCESSING_INTERVAL_SEC",
            "0.1",
            "store.pause_s",
            pause,
            "100ms",
        ),
        (
            "TABLE_NAME",
            "positions",
            "store.table",
            url,
            "redis://127.0.0.1:6379",
        ),
        (
            "TABLE_NAME",
            "sensor_readings",
            "store.table",
            url,
            "redis://127.0.0.1:6379",
        ),
        (
            "ENABLE_TIMESCALE",
            "true",
            "database.timescale",
            timescale,
            "Require",
        ),
        (
            "ENABLE_TIMESCALE",
            "false",
            "database.timescale",
            timescale,
            "Off",
        ),
        ("LOG_LEVEL", "DEBUG", "log.level", level, "debug"),
        ("LOG_LEVEL", "WARNING", "log.level", level, "warning"),
        ("LOG_FORMAT", "json", "log.format", format, "Json"),
        ("LOG_FORMAT", "console", "log.format", format, "Console"),
    ];
    for (name, value, key, read, meaning) in rows {
        let settings = settings(None, &[(name, value)]);
        assert_eq!(settings.origin(key).to_string(), format!("env {name}"));
        let config = Config::new(&settings, "box").unwrap();
        assert_eq!(read(&config), *meaning, "{name}={value}");
    }
    for key in KEYS {
        for alias in key.env_aliases {
            assert!(
                rows.iter().any(|row| row.0 == *alias && row.2 == key.name),
                "{alias}"
            );
        }
    }
}

#[test]
fn the_whole_address_wins_over_its_parts_and_our_names_over_theirs() {
    const FILE: &str = "[redis]\nurl = \"redis://of-file/\"\n";
    let url = |file, env: &[(&str, &str)]| redis_address(&settings(file, env)).unwrap().url;
    let parts = [("REDIS_HOST", "h"), ("REDIS_PORT", "1"), ("PROD", "true")];
    let mut both = vec![("REDIS_URL", "redis://u/")];
    both.extend(parts);
    assert_eq!(url(None, &both), "redis://u/");
    assert_eq!(url(Some(FILE), &parts), "redis://of-file/");
    assert_eq!(url(Some(FILE), &both), "redis://u/");
    both.push(("CLOUD__REDIS__URL", "redis://own/"));
    assert_eq!(url(Some(FILE), &both), "redis://own/");
    // Compose files pass empty ones.
    let empty = [("REDIS_URL", ""), ("REDIS_HOST", ""), ("PROD", "")];
    assert_eq!(url(None, &empty), "redis://127.0.0.1:6379");
    assert_eq!(
        url(Some("[redis]\nhost = \"h\"\nca = \"/ca.crt\"\n"), &[]),
        "rediss://h:6379/0"
    );
    let idle = |env: &[(&str, &str)]| -> Vec<&str> {
        let settings = settings(None, env);
        without_effect(&settings).iter().map(|row| row.0).collect()
    };
    let idle_parts = ["redis.host", "redis.port", "redis.prod"];
    assert_eq!(idle(&both), idle_parts);
    assert!(idle(&parts).is_empty());
    assert_eq!(
        idle(&[("REDIS_MAX_CONNECTIONS", "20")]),
        ["redis.max_connections"]
    );
    let waits = [
        ("BATCH_TIMEOUT_SEC", "5"),
        ("CLOUD__STORE__BATCH_WAIT", "1s"),
    ];
    assert_eq!(idle(&waits), ["store.batch_timeout_s"]);
    assert_eq!(
        config(&waits).unwrap().store.batch_wait,
        Duration::from_secs(1)
    );
}

#[test]
fn secrets_come_from_files_too() {
    for name in ["REDIS_PASSWORD", "CLOUD__REDIS__PASSWORD"] {
        let mut settings = settings(None, &[(&format!("{name}_FILE"), "/run/secrets/x")]);
        let (key, path) = settings.secret_files().next().unwrap();
        assert_eq!((key, path), ("redis.password", "/run/secrets/x"));
        settings.resolve_secret(key, "p w\n");
        let found = redis_address(&settings).unwrap().url;
        assert_eq!(found, "redis://:p%20w@localhost:6379/0", "{name}");
        assert!(!format!("{:?}", settings.rows()).contains("p w"), "{name}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_sentence() {
    for (name, value, says) in [
        ("TABLE_NAME", "readings", "make a view"),
        ("STREAM_PATTERN", "telemetry:*", "stream.pattern"),
        ("BATCH_TIMEOUT_SEC", "5s", "seconds from 0 to 3600"),
        ("PROCESSING_INTERVAL_SEC", "-1", "seconds from 0 to 3600"),
        ("REDIS_PORT", "redis", "redis.port"),
        ("PROD", "maybe", "redis.prod"),
    ] {
        let refused = config(&[(name, value)]).unwrap_err().to_string();
        assert!(refused.contains(says), "{name}={value}: {refused}");
    }
    let unknown = |file: &str| {
        let read = Settings::read(KEYS, ENV_PREFIX, Some(("cloud.toml", file)), []);
        read.map(drop).unwrap_err().to_string()
    };
    assert!(unknown("[redis]\nhots = 1").contains("redis.host"));
    assert!(unknown("[databaes]\nurl = 1").contains("[database]"));
    let env = [("CLOUD__STREAM__GRUOP".to_owned(), "x".to_owned())];
    let read = Settings::read(KEYS, ENV_PREFIX, None, env);
    let refused = read.map(drop).unwrap_err().to_string();
    assert!(refused.contains("CLOUD__STREAM__GROUP"), "{refused}");
}

/// `deploy/cloud.env.example` as it should be: every key once, nothing set.
fn example() -> String {
    const HEAD: &str = "# Environment of the cloud processor. Copy it to cloud.env, remove the # before what you set.\n\
        # A variable wins over the settings file; CLOUD__… wins over the older name beside it.\n\
        # What holds a secret may end in _FILE and name a file with it instead.\n\
        # `cloud config show --origin` tells what counts, `cloud check` whether it works.\n\
        # Made by UPDATE_DOCS=1 cargo test -p cloud founding_names; a test compares.\n";
    settings::example_env(KEYS, ENV_PREFIX, HEAD)
}

#[test]
fn the_example_file_lists_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cloud.env.example");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, example()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == example(),
        "{} is old: UPDATE_DOCS=1 cargo test -p cloud founding_names",
        path.display()
    );
    // With every # removed it is accepted as it stands.
    let env = settings::example_pairs(&found, ENV_PREFIX);
    let settings = Settings::read(KEYS, ENV_PREFIX, None, env).unwrap();
    Config::new(&settings, "box").map(drop).unwrap();
}
