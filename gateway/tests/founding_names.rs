//! Every environment name of the founding documents that concerns the gateway, what it means, and
//! which one wins; and the example file that lists them all.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use gateway::config::{Config, ENV_PREFIX, KEYS, redis_address};
use settings::Settings;

fn read(file: Option<&str>, env: &[(&str, &str)]) -> Settings {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = file.map(|text| ("gateway.toml", text));
    Settings::read(KEYS, ENV_PREFIX, file, env).unwrap()
}

fn url(file: Option<&str>, env: &[(&str, &str)]) -> String {
    redis_address::address(&read(file, env)).unwrap().url
}

#[test]
fn where_redis_is() {
    const FILE: &str = "[uplink]\nurl = \"redis://of-file/\"\n";
    const PARTS: &str = "[uplink]\nhost = \"of-file\"\nport = 1\n";
    const TLS: &str = "[uplink]\nhost = \"h\"\nca = \"/ca.crt\"\n";
    type Env<'a> = &'a [(&'a str, &'a str)];
    let rows: &[(Option<&str>, Env<'_>, &str)] = &[
        (None, &[], "redis://127.0.0.1:6379/"),
        (
            None,
            &[("REDIS_URL", "redis://:pw@redis:6379/0")],
            "redis://:pw@redis:6379/0",
        ),
        (None, &[("REDIS_HOST", "h")], "redis://h:6379/0"),
        (None, &[("REDIS_PORT", "7000")], "redis://localhost:7000/0"),
        (None, &[("REDIS_DB", "3")], "redis://localhost:6379/3"),
        (
            None,
            &[("REDIS_PASSWORD", "pw")],
            "redis://:pw@localhost:6379/0",
        ),
        (
            None,
            &[("REDIS_USERNAME", "u")],
            "redis://u@localhost:6379/0",
        ),
        (
            None,
            &[("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "a@b/c:d#e%")],
            "redis://u:a%40b%2Fc%3Ad%23e%25@localhost:6379/0",
        ),
        (None, &[("PROD", "true")], "redis://redis:6379/0"),
        (None, &[("PROD", "false")], "redis://localhost:6379/0"),
        (
            None,
            &[("PROD", "1"), ("REDIS_HOST", "h")],
            "redis://h:6379/0",
        ),
        (None, &[("REDIS_HOST", "::1")], "redis://[::1]:6379/0"),
        // Compose files pass empty ones.
        (
            None,
            &[("REDIS_URL", ""), ("REDIS_HOST", ""), ("PROD", "")],
            "redis://127.0.0.1:6379/",
        ),
        // The address as a whole wins over its parts, wherever either was set.
        (
            None,
            &[
                ("REDIS_URL", "redis://u/"),
                ("REDIS_HOST", "h"),
                ("PROD", "true"),
            ],
            "redis://u/",
        ),
        (Some(FILE), &[("REDIS_HOST", "h")], "redis://of-file/"),
        (
            Some(FILE),
            &[("REDIS_URL", "redis://of-env/")],
            "redis://of-env/",
        ),
        (
            Some(FILE),
            &[
                ("REDIS_URL", "redis://of-env/"),
                ("GATEWAY__UPLINK__URL", "redis://own/"),
            ],
            "redis://own/",
        ),
        (Some(PARTS), &[], "redis://of-file:1/0"),
        (Some(PARTS), &[("REDIS_HOST", "h")], "redis://h:1/0"),
        (
            Some(PARTS),
            &[("REDIS_HOST", "h"), ("GATEWAY__UPLINK__HOST", "own")],
            "redis://own:1/0",
        ),
        // Certificates make no sense without TLS.
        (Some(TLS), &[], "rediss://h:6379/0"),
        // Without effect, and no mistake.
        (
            None,
            &[("REDIS_MAX_CONNECTIONS", "20")],
            "redis://127.0.0.1:6379/",
        ),
    ];
    for (file, env, wanted) in rows {
        assert_eq!(url(*file, env), *wanted, "{file:?} {env:?}");
        Config::new(&read(*file, env)).map(drop).unwrap();
    }
}

#[test]
fn the_other_names() {
    let rows: &[(&str, &str, &str, &str)] = &[
        (
            "REDIS_TELEMETRY_STREAM",
            "telemetry:t",
            "uplink.stream",
            "telemetry:t",
        ),
        ("LOG_LEVEL", "DEBUG", "log.level", "debug"),
        ("LOG_LEVEL", "WARNING", "log.level", "warn"),
        ("LOG_LEVEL", "info", "log.level", "info"),
        ("LOG_FORMAT", "console", "log.format", "pretty"),
        ("LOG_FORMAT", "json", "log.format", "json"),
    ];
    for (name, value, key, meaning) in rows {
        let settings = read(None, &[(name, value)]);
        assert_eq!(settings.origin(key).to_string(), format!("env {name}"));
        let config = Config::new(&settings).unwrap();
        let means = match *key {
            "uplink.stream" => config.uplink.stream,
            "log.level" => config.log.level,
            _ => if config.log.json == Some(true) {
                "json"
            } else {
                "pretty"
            }
            .to_owned(),
        };
        assert_eq!(means, *meaning, "{name}={value}");
    }
    let wrong = Config::new(&read(None, &[("LOG_LEVEL", "LOUD")]));
    assert!(wrong.map(drop).unwrap_err().to_string().contains("LOUD"));
}

#[test]
fn secrets_come_from_files_too() {
    for name in ["REDIS_PASSWORD", "REDIS_URL", "GATEWAY__UPLINK__PASSWORD"] {
        let mut settings = read(None, &[(&format!("{name}_FILE"), "/run/secrets/x")]);
        let (key, path) = settings.secret_files().next().unwrap();
        assert_eq!(path, "/run/secrets/x");
        let secret = if key == "uplink.url" {
            "redis://:pw@h/"
        } else {
            "p w"
        };
        settings.resolve_secret(key, &format!("{secret}\n"));
        let found = redis_address::address(&settings).unwrap().url;
        let wanted = if key == "uplink.url" {
            secret
        } else {
            "redis://:p%20w@localhost:6379/0"
        };
        assert_eq!(found, wanted, "{name}");
        assert!(!format!("{:?}", settings.rows()).contains("p w"), "{name}");
    }
}

#[test]
fn what_has_no_effect_is_known() {
    let idle = |env: &[(&str, &str)]| -> Vec<&str> {
        let settings = read(None, env);
        redis_address::without_effect(&settings)
            .iter()
            .map(|row| row.0)
            .collect()
    };
    assert!(idle(&[("REDIS_HOST", "h")]).is_empty());
    assert_eq!(
        idle(&[("REDIS_MAX_CONNECTIONS", "20")]),
        ["uplink.max_connections"]
    );
    let both = [
        ("REDIS_URL", "redis://u/"),
        ("REDIS_HOST", "h"),
        ("PROD", "true"),
    ];
    assert_eq!(idle(&both), ["uplink.host", "uplink.prod"]);
}

/// `deploy/gateway.env.example` as it should be: every key once, nothing set.
fn example() -> String {
    const HEAD: &str = "# Environment of the gateway. Copy it to gateway.env, remove the # before what you set.\n\
        # A variable wins over the settings file; GATEWAY__… wins over the older name beside it.\n\
        # What holds a secret may end in _FILE and name a file with it instead.\n\
        # `gateway config show --origin` tells what counts, `gateway check` whether it works.\n\
        # Made by UPDATE_DOCS=1 cargo test -p gateway --test founding_names; a test compares.\n";
    settings::example_env(KEYS, ENV_PREFIX, HEAD)
}

#[test]
fn the_example_file_lists_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gateway.env.example");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, example()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == example(),
        "{} is old: UPDATE_DOCS=1 cargo test -p gateway --test founding_names",
        path.display()
    );
    // With every # removed it is accepted as it stands.
    let env = settings::example_pairs(&found, ENV_PREFIX);
    let settings = Settings::read(KEYS, ENV_PREFIX, None, env).unwrap();
    Config::new(&settings).map(drop).unwrap();
}
