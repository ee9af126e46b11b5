//! The Redis that carries the streams.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::servers::{ADMIN, PROCESSOR, Pki, Port};

use super::stage::{Case, Edit, Row, Stage, remove, set};

/// Without certificates.
fn bare(url: &str) -> Vec<Edit> {
    vec![
        set("redis.url", url),
        remove("redis.cert"),
        remove("redis.key"),
        remove("redis.ca"),
    ]
}

fn identity(identity: &tests::servers::Identity) -> Vec<Edit> {
    vec![
        set("redis.cert", json!(identity.cert)),
        set("redis.key", json!(identity.key)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_way_to_redis_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let (redis, plain, closed) = (&stage.redis, stage.plain.number(), Port::free()?);
    let other = stage.dir().join("other");
    std::fs::create_dir(&other)?;
    let other = Pki::new(&other)?;
    let deaf = std::net::TcpListener::bind("127.0.0.1:0")?;
    let ssh = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (deaf_at, ssh_at) = (deaf.local_addr()?, ssh.local_addr()?);
    std::thread::spawn(move || {
        for mut tcp in ssh.incoming().flatten() {
            let _ = tcp.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    let url = |url: String| set("redis.url", url);
    let login = |login: &str| url(format!("rediss://{login}@127.0.0.1:{}/", redis.port()));
    stage.expect(&[
        Case::new("no such name", "E-RDS-001")
            .edit(vec![url("rediss://redis.invalid:6380/".to_owned())])
            .says("redis.invalid"),
        Case::new("wrong port", "E-RDS-002")
            .edit(vec![url(format!(
                "rediss://127.0.0.1:{}/",
                closed.number()
            ))])
            .says("6380"),
        Case::new("silence", "E-RDS-003")
            .edit(bare(&format!("redis://{deaf_at}/")))
            .says("firewall"),
        Case::new("wrong CA", "E-RDS-004")
            .edit(vec![set("redis.ca", json!(other.ca()))])
            .says("redis.ca"),
        Case::new("TLS at a plain port", "E-RDS-007")
            .edit(vec![url(format!("rediss://127.0.0.1:{plain}/"))])
            .says("tls-port"),
        Case::new("plain at a TLS port", "E-RDS-007")
            .edit(bare(&format!("redis://127.0.0.1:{}/", redis.port())))
            .says("tls-port"),
        Case::new("no Redis", "E-RDS-007")
            .edit(bare(&format!("redis://{ssh_at}/")))
            .says("tls-port"),
        Case::new("foreign client", "E-RDS-008")
            .edit(identity(&redis.pki().foreign_client("cloud-two")?))
            .says("redis.cert"),
        Case::new("no client certificate", "E-RDS-008")
            .edit(vec![remove("redis.cert"), remove("redis.key")])
            .says("redis.cert"),
        Case::new("wrong password", "E-RDS-009")
            .edit(vec![login("processor:guess")])
            .says("password"),
        Case::new("unknown user", "E-RDS-009")
            .edit(vec![login("nobody:guess")])
            .says("user"),
        Case::new("no password", "E-RDS-009")
            .edit(bare(&format!("redis://127.0.0.1:{plain}/")))
            .says("password"),
        Case::new("no such number", "E-RDS-017")
            .edit(vec![url(format!("{}99", redis.url(ADMIN)))])
            .says("DB index"),
        Case::new("no such file", "E-RDS-019")
            .edit(vec![set("redis.ca", "/nowhere/ca.crt")])
            .says("/nowhere/ca.crt"),
        Case::new("address", "E-RDS-020")
            .edit(bare("redis//127.0.0.1"))
            .says("rediss://user"),
    ])
}

/// The server shows other certificates than it should.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_certificate_of_redis_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let pki = stage.redis.pki();
    let show = |identity: &tests::servers::Identity| {
        let (cert, key) = (identity.cert.display(), identity.key.display());
        format!("CONFIG SET tls-cert-file {cert} tls-key-file {key}")
    };
    let rows = [
        (pki.misnamed_server("elsewhere")?, "E-RDS-005", "name"),
        (pki.expired_server("old")?, "E-RDS-006", "renew"),
        (pki.future_server("early")?, "E-RDS-006", "clock"),
    ];
    // Over the plain port, so that the certificate can be changed back.
    let admin = stage.redis.url(ADMIN).replace("rediss://", "redis://");
    let admin = admin.replace(
        &stage.redis.port().to_string(),
        &stage.plain.number().to_string(),
    );
    let client = redis::Client::open(admin)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    for (identity, code, says) in &rows {
        let mut command = redis::Cmd::new();
        command.arg(show(identity).split(' ').collect::<Vec<_>>());
        let () = command.query_async(&mut admin).await?;
        stage.expect(&[Case::new(code, code).says(says)])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_inside_redis_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    stage.is_good()?;
    let mut admin = stage
        .redis
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    let dir: Vec<String> = redis::cmd("CONFIG")
        .arg(&["GET", "dir"])
        .query_async(&mut admin)
        .await?;
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(&mut admin)
        .await?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap_or_default().trim().parse()?;
    let almost = format!("CONFIG SET maxmemory {}", used * 125 / 100);
    let rows: &[Row] = &[
        (
            "replica",
            &["REPLICAOF 127.0.0.1 1"],
            "E-RDS-012",
            "master",
            &["REPLICAOF NO ONE"],
        ),
        (
            "out of memory",
            &["CONFIG SET maxmemory 1000000"],
            "E-RDS-013",
            "cloud status",
            &["CONFIG SET maxmemory 268435456"],
        ),
        (
            "eviction",
            &["CONFIG SET maxmemory-policy allkeys-lru"],
            "E-RDS-015",
            "CONFIG SET maxmemory-policy noeviction",
            &["CONFIG SET maxmemory-policy noeviction"],
        ),
        (
            "too few replicas",
            &["CONFIG SET min-replicas-to-write 1"],
            "E-RDS-021",
            "min-replicas-to-write",
            &["CONFIG SET min-replicas-to-write 0"],
        ),
        (
            "keeps nothing",
            &["CONFIG SET appendonly no"],
            "W-RDS-102",
            "CONFIG SET appendonly yes",
            &["CONFIG SET appendonly yes"],
        ),
        (
            "no limit",
            &["CONFIG SET maxmemory 0"],
            "W-RDS-103",
            "three quarters",
            &["CONFIG SET maxmemory 268435456"],
        ),
        (
            "almost full",
            &[almost.as_str()],
            "W-RDS-104",
            "maxmemory",
            &["CONFIG SET maxmemory 268435456"],
        ),
        (
            "a cache beside",
            &["SET cache:user:7 x"],
            "W-RDS-105",
            "cache:user:7",
            &["DEL cache:user:7"],
        ),
        (
            "another database beside",
            &["SET x 1", "MOVE x 3"],
            "W-RDS-105",
            "db3",
            &["SWAPDB 3 0", "DEL x", "SWAPDB 3 0"],
        ),
        (
            "no INFO",
            &["ACL SETUSER processor -info"],
            "W-RDS-109",
            "+info",
            &["ACL LOAD"],
        ),
    ];
    stage.expect_in_redis(rows).await?;
    for (command, says) in [
        ("xreadgroup", "~telemetry:* +xreadgroup"),
        ("xack", "XACK telemetry:teltonika"),
        ("xclaim", "~telemetry:* +xclaim"),
        ("xpending", "XPENDING telemetry:teltonika"),
        ("xrange", "XRANGE telemetry:teltonika"),
        ("xtrim", "~telemetry:* +xtrim"),
        ("xgroup|create", "+xgroup|create"),
        ("xinfo", "+xinfo|stream"),
        ("scan", "+scan"),
        ("hset", "~contract +hset"),
        ("hmget", "~floor:* +hmget"),
    ] {
        let take = format!("ACL SETUSER processor -{command}");
        let row: Row = (command, &[&take], "E-RDS-011", says, &["ACL LOAD"]);
        stage.expect_in_redis(&[row]).await?;
    }
    // ACL LOAD has closed every connection.
    let client = stage.redis.client(ADMIN)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    // Redis cannot write: first a snapshot that nobody ordered, then with save points, which stop it.
    std::fs::create_dir_all(std::path::Path::new(&dir[1]).join("dump.rdb/in the way"))?;
    stage
        .redis
        .admin_does(&["CONFIG SET appendonly no", "SET x 1", "BGSAVE"])
        .await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let info: String = redis::cmd("INFO").query_async(&mut admin).await?;
        if info.contains("rdb_last_bgsave_status:err") {
            break;
        }
        ensure!(Instant::now() < deadline, "the snapshot does not fail");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.expect(&[Case::new("last write", "E-RDS-018").says("BGSAVE")])?;
    stage
        .redis
        .admin_does(&["CONFIG SET save 3600\\ 1"])
        .await?;
    stage.expect(&[Case::new("no room for snapshots", "E-RDS-014").says("disk")])
}

/// Plain Redis inside the machine is no mistake.
#[tokio::test(flavor = "multi_thread")]
async fn without_tls_on_loopback_nothing_is_wrong() -> Result<()> {
    let mut stage = Stage::start().await?;
    let url = stage.redis.url(PROCESSOR).replace("rediss://", "redis://");
    let url = url.replace(
        &stage.redis.port().to_string(),
        &stage.plain.number().to_string(),
    );
    stage.set("redis.url", json!(url));
    for key in ["redis.cert", "redis.key", "redis.ca"] {
        stage.set(key, json!(""));
    }
    stage.is_good()
}

/// An operator copies the line from there.
#[test]
fn the_rights_in_the_docs_are_the_ones_that_are_tested() {
    let passwords = [(PROCESSOR.to_owned(), "PASSWORD".to_owned())].into();
    let lines = tests::servers::acl_lines(&[], &passwords);
    let line = lines.iter().find(|line| line.contains(PROCESSOR)).unwrap();
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cloud-check.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(line.as_str()),
        "docs/cloud-check.md should have\n{line}"
    );
}
