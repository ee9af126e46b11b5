//! The settings of the device side: what is understood, and what is refused with which words.

#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use gateway::access::AccessMode;
use gateway::chain::chain;
use gateway::config::{Config, ConfigError, ENV_PREFIX, KEYS};
use settings::Settings;

fn config(dir: &Path, toml: &str) -> Result<Config, ConfigError> {
    let spool = dir.join("spool");
    let env = [
        ("GATEWAY__SPOOL__DIR", spool.display().to_string()),
        ("GATEWAY__GATEWAY__ID", "box".to_owned()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    let settings = Settings::read(KEYS, ENV_PREFIX, Some(("gateway.toml", toml)), env)?;
    Config::new(&settings)
}

#[test]
fn every_setting_of_the_doors_has_a_safe_default() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "").unwrap();
    assert_eq!(config.doors.tcp, ["0.0.0.0:5027".parse().unwrap()]);
    assert!(config.doors.udp.is_empty() && config.doors.tls.is_empty());
    assert_eq!(config.listen.connections_max, 10_000);
    assert_eq!(config.listen.connections_per_ip_max, 5_000);
    assert_eq!(config.access.mode, AccessMode::Learn);
    assert_eq!(config.listen.memory_bytes_max, 32 << 20);
    let session = config.listen.session;
    assert_eq!(session.handshake_timeout, Duration::from_secs(30));
    assert_eq!(session.frame_timeout, Duration::from_secs(60));
    assert_eq!(session.idle_timeout, Duration::from_secs(1800));
    assert_eq!(session.codec.frame_bytes_max, 65_535);
    assert_eq!(config.access.learn_for, Duration::from_secs(3600));
    assert_eq!(config.access.learned, dir.path().join("learned.txt"));
    assert_eq!(
        config.access.window_file(),
        dir.path().join("learned.window")
    );
    // Beside the spool, never in it: there it would be a stranger.
    assert!(!config.access.learned.starts_with(dir.path().join("spool")));
}

#[test]
fn any_number_of_doors_of_each_kind() {
    let dir = tempfile::tempdir().unwrap();
    let toml = r#"
[listen]
tcp = ["127.0.0.1:1", "[::1]:2"]
udp = ["127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"]
[access]
mode = "learn"
learn_for = "10m"
learned = "/tmp/elsewhere.txt"
"#;
    let config = config(dir.path(), toml).unwrap();
    assert_eq!((config.doors.tcp.len(), config.doors.udp.len()), (2, 3));
    assert_eq!(config.access.mode, AccessMode::Learn);
    assert_eq!(config.access.learn_for, Duration::from_secs(600));
    assert_eq!(
        config.access.edited_file(),
        Some(Path::new("/tmp/elsewhere.txt"))
    );
}

#[test]
fn what_cannot_work_is_refused_with_the_setting_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.txt");
    std::fs::write(&broken, "356307042441013\n3563 # short\n").unwrap();
    let broken = broken.display();
    let list = format!("[access]\nmode = \"list\"\nlist = \"{broken}\"");
    let no_list = "[access]\nmode = \"list\"\nlist = \"/nowhere/imeis.txt\"".to_owned();
    let half = "[listen]\ntls = [\"0.0.0.0:5028\"]\ntls_cert = \"/nowhere/a.crt\"".to_owned();
    let no_file = format!("{half}\ntls_key = \"/nowhere/a.key\"");
    let table: [(String, &[&str]); 12] = [
        (
            "[spool]\nbytes_max = \"8388607\"".into(),
            &["spool.bytes_max", "8MiB or more"],
        ),
        (
            "[listen]\ntls = [\"0.0.0.0:5028\"]".into(),
            &["listen.tls_cert", "listen.tls_key"],
        ),
        (half, &["listen.tls_cert", "listen.tls_key"]),
        (no_file, &["listen.tls_cert", "/nowhere/a.crt"]),
        (
            "[listen]\ntls_key = \"/nowhere/a.key\"".into(),
            &["listen.tls_cert"],
        ),
        (
            "[listen]\nmemory_bytes_max = \"1KiB\"".into(),
            &["listen.memory_bytes_max"],
        ),
        (
            "[listen]\nconnections_per_ip_max = 0".into(),
            &["listen.connections_per_ip_max"],
        ),
        (
            "[listen]\nconnections_max = 0".into(),
            &["listen.connections_max"],
        ),
        ("[listen]\nudp = [\"here\"]".into(), &["listen.udp"]),
        (
            "[access]\nmode = \"everybody\"".into(),
            &["access.mode", "learn"],
        ),
        (list, &["access", "broken.txt", "line 2", "3563 # short"]),
        (no_list, &["access", "/nowhere/imeis.txt", "cannot be read"]),
    ];
    for (toml, words) in table {
        let error = config(dir.path(), &toml).err().expect(&toml);
        let said = chain(&error as &(dyn Error + 'static));
        for word in words {
            assert!(said.contains(word), "{toml}: {said}");
        }
    }
    assert!(config(dir.path(), "[spool]\nbytes_max = \"8MiB\"").is_ok());
    let missing = config(dir.path(), "[access]\nmode = \"list\"")
        .err()
        .unwrap();
    assert!(chain(&missing).contains("access.list"), "{missing}");
}

#[test]
fn one_address_may_have_half_of_all_places_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let per_ip = |toml: &str| {
        config(dir.path(), toml)
            .unwrap()
            .listen
            .connections_per_ip_max
    };
    assert_eq!(per_ip("[listen]\nconnections_max = 200"), 100);
    assert_eq!(per_ip("[listen]\nconnections_max = 1"), 1);
    let told = "[listen]\nconnections_max = 200\nconnections_per_ip_max = 200";
    assert_eq!(per_ip(told), 200);
}
