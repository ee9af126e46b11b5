//! `gateway check` is given mistakes, one at a time, and its first failing line must name the cause.
//!
//! Everything is real: the binary an operator runs, a Redis behind TLS with client certificates and
//! an ACL, one without TLS, files, ports. What needs a broken machine (a clock in 1970, an old
//! Redis) is tested beside the code that judges it.
#![allow(clippy::unwrap_used)]

#[path = "check/stage.rs"]
mod stage;

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use redis::cmd;
use serde_json::{Value, json};
use tests::processes::Gateway;
use tests::servers::{GATEWAY, Pki, Port, Redis, RedisOptions, acl_lines};

use stage::{Case, Dates, Stage, cert, remove, set};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_box_has_nothing_wrong_and_only_says_that_it_listens_inside() -> Result<()> {
    let stage = Stage::start().await?;
    let (found, exit) = stage.check(&Case::new("nothing", ""))?;
    let bad: Vec<_> = found.iter().filter(|it| it["level"] != "ok").collect();
    ensure!(exit == 0 && bad.len() == 1, "exit {exit}: {bad:?}");
    assert_eq!(bad[0]["code"], "W-NET-101");
    for group in [
        "settings",
        "spool",
        "listen",
        "certificates",
        "redis",
        "clock",
        "offline",
    ] {
        ensure!(found.iter().any(|it| it["group"] == group), "no {group}");
    }
    let said = |words: &str| {
        found
            .iter()
            .any(|it| it["what"].as_str().unwrap().contains(words))
    };
    for words in [
        "may XADD telemetry:teltonika",
        "may not read",
        "days at 100 devices",
        "TLS 1.",
    ] {
        ensure!(said(words), "{words}: {found:#?}");
    }
    let entries: i64 = cmd("EXISTS")
        .arg("telemetry:teltonika")
        .query_async(&mut stage.admin().await?)
        .await?;
    ensure!(entries == 0, "the check wrote to the stream");
    ensure!(
        !stage.path("spool").exists(),
        "the check made the spool's directory"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_is_no_mistake_and_can_be_asked() -> Result<()> {
    let stage = Stage::start().await?;
    let gateway = Gateway::start(stage.dir(), None, GATEWAY, &stage.redis, &[]).await?;
    let file = stage.path("gateway.toml");
    let file = file.to_str().unwrap();
    let (found, exit) = stage.run(&["check", "--json", "--config", file])?;
    let held = |it: &&Value| {
        it["what"]
            .as_str()
            .unwrap()
            .contains("held by our running gateway")
    };
    assert_eq!(
        (exit, found.iter().filter(held).count()),
        (0, 2),
        "{found:#?}"
    );
    let (said, exit) = stage.run(&["status", "--json", "--config", file])?;
    assert_eq!((exit, said[0]["gateway"].as_str()), (0, Some(GATEWAY)));
    let log = std::fs::read_to_string(gateway.log())?;
    let started = log
        .lines()
        .find(|line| line.contains("gateway started"))
        .unwrap();
    for words in [
        "100 devices",
        "trackers keep their records",
        "every well-formed IMEI",
    ] {
        ensure!(started.contains(words), "{words}: {started}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_settings_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let list = stage.write("imeis", "356307042441013\n35630704\n")?;
    let lists = |path: &str| vec![set("access.mode", "list"), set("access.list", path)];
    stage.expect(&[
        Case::new("key", "E-SET-003")
            .tail("[uplink2]\nulr = 1\n")
            .says("[uplink2]"),
        Case::new("key in a table", "E-SET-003")
            .edit(vec![set("uplink.ulr", "x")])
            .says("uplink.url"),
        Case::new("variable", "E-SET-003")
            .env("GATEWAY__UPLINK__ULR", "x")
            .says("GATEWAY__UPLINK__URL"),
        Case::new("value", "E-SET-004")
            .edit(vec![set("spool.bytes_max", "lots")])
            .says("a size such as"),
        Case::new("duration without unit", "E-SET-004")
            .env("GATEWAY__UPLINK__FLUSH", "60")
            .says("250ms"),
        Case::new("port of a part", "E-SET-004")
            .env("REDIS_PORT", "redis")
            .says("uplink.port"),
        Case::new("file", "E-SET-001")
            .file("/nowhere/gateway.toml")
            .says("/nowhere/gateway.toml"),
        Case::new("TOML", "E-SET-002")
            .tail("[log]\nlevel = info\n")
            .says("line"),
        Case::new("secret's file", "E-SET-005")
            .env("REDIS_PASSWORD_FILE", "/nowhere/pw")
            .says("/nowhere/pw"),
        Case::new("two secrets", "E-SET-005")
            .env("REDIS_PASSWORD_FILE", "/nowhere/pw")
            .env("REDIS_PASSWORD", "x")
            .says("REDIS_PASSWORD"),
        Case::new("list missing", "E-SET-006")
            .edit(lists("/nowhere/imeis"))
            .says("/nowhere/imeis"),
        Case::new("list broken", "E-SET-007")
            .edit(lists(&list))
            .says("line 2"),
        Case::new("half an identity", "E-SET-008")
            .edit(vec![remove("uplink.key")])
            .says("uplink.key"),
        Case::new("certificates without TLS", "E-SET-008")
            .edit(vec![set("uplink.url", "redis://127.0.0.1:6379/")])
            .says("rediss://"),
        Case::new("address", "E-SET-009")
            .edit(vec![set("uplink.url", "rediss://")])
            .says("percent-encode"),
        Case::new("name", "E-SET-010")
            .edit(vec![set("gateway.id", "depot 1/a")])
            .says("gateway.id"),
        Case::new("part beside the address", "W-SET-101")
            .env("REDIS_HOST", "elsewhere")
            .says("uplink.url wins"),
        Case::new("pool", "W-SET-101")
            .env("REDIS_MAX_CONNECTIONS", "20")
            .says("no pool"),
        Case::new("password for everybody", "W-SET-102")
            .mode(0o644)
            .says("0640"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_addresses_and_disks_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = json!([taken.local_addr()?.to_string()]);
    let file = stage.write("file", "not a directory")?;
    let owned = stage.spool_of("somebody-else", "owned")?;
    let lost = stage.spool_of("gw-test", "lost")?;
    stage.damage(&lost)?;
    let unreadable = stage.spool_of("gw-test", "unreadable")?;
    std::fs::write(format!("{unreadable}/gateway"), "no name\n?\n!\n")?;
    let locked = stage.path("locked");
    std::fs::create_dir(&locked)?;
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555))?;
    let mut cases = vec![
        Case::new("port taken", "E-NET-001")
            .edit(vec![("listen.tcp", Some(taken))])
            .says("another program"),
        Case::new("foreign address", "E-NET-002")
            .edit(vec![set("listen.tcp", "203.0.113.7:5027")])
            .says("ip addr"),
        Case::new("no interface named", "E-NET-004")
            .edit(vec![set("listen.tcp", "[fe80::1]:5027")])
            .says("cannot be had"),
        Case::new("no address", "E-NET-005")
            .edit(vec![("listen.tcp", Some(json!([])))])
            .says("0.0.0.0:5027"),
        Case::new("low port", "E-NET-003")
            .edit(vec![set("listen.tcp", "127.0.0.1:80")])
            .without("-net_bind_service")
            .says("CAP_NET_BIND_SERVICE"),
        Case::new("pages open", "W-NET-102")
            .edit(vec![set("http.listen", "0.0.0.0:0")])
            .says("127.0.0.1:8080"),
        Case::new("below a file", "E-DSK-001")
            .edit(vec![set("spool.dir", &format!("{file}/spool"))])
            .says("a file"),
        Case::new("not ours to write", "E-DSK-001")
            .edit(vec![set("spool.dir", locked.to_str().unwrap())])
            .without("-dac_override,-dac_read_search")
            .says("this user may not"),
        Case::new("another's spool", "E-DSK-003")
            .edit(vec![set("spool.dir", &owned)])
            .says("somebody-else"),
        Case::new("small cap", "E-DSK-004")
            .edit(vec![set("spool.bytes_max", "1MiB")])
            .says("8MiB"),
        Case::new("small disk", "E-DSK-005")
            .edit(vec![set("spool.bytes_max", "900000TiB")])
            .says("free some space"),
        Case::new("a bit flipped", "E-DSK-006")
            .edit(vec![set("spool.dir", &lost)])
            .says("spool verify"),
        Case::new("owner's file broken", "E-DSK-007")
            .edit(vec![set("spool.dir", &unreadable)])
            .says("names no gateway"),
        Case::new("short", "W-DSK-103")
            .edit(vec![set("spool.bytes_max", "16MiB")])
            .says("hours"),
    ];
    if std::path::Path::new("/dev/shm").is_dir() {
        let edit = vec![set("spool.dir", "/dev/shm/milepost-check")];
        cases.push(Case::new("in memory", "W-DSK-102").edit(edit).says("tmpfs"));
    }
    if let Some(case) = stage.on_read_only(Case::new("read-only", "E-DSK-002"))? {
        cases.push(case.says("dmesg"));
    }
    stage.expect(&cases)
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_the_http_door_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let file = |name: &str, text: &str, mode: u32| -> Result<String> {
        let path = stage.write(name, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        Ok(path)
    };
    let plain = "api plain:made-up-token-of-the-api\n";
    let good = file("tokens", plain, 0o600)?;
    let broken = file("broken", &format!("{plain}api2 sha256:abc\n"), 0o600)?;
    let twice = file("twice", &format!("{plain}{plain}"), 0o600)?;
    let bare = file("bare", plain, 0o644)?;
    let door = |tokens: &str| {
        vec![
            set("listen.http", "127.0.0.1:0"),
            set("ingest.tokens", tokens),
        ]
    };
    stage.expect(&[
        Case::new("no tokens", "E-ING-001")
            .edit(vec![set("listen.http", "127.0.0.1:0")])
            .says("gateway ingest token new"),
        Case::new("open to the network", "E-ING-001")
            .edit(vec![
                set("listen.http", "0.0.0.0:0"),
                ("ingest.open", Some(json!(true))),
            ])
            .says("everybody"),
        Case::new("tokens missing", "E-ING-002")
            .edit(door("/nowhere/tokens"))
            .says("/nowhere/tokens"),
        Case::new("a line", "E-ING-003")
            .edit(door(&broken))
            .says("line 2"),
        Case::new("a token twice", "E-ING-003")
            .edit(door(&twice))
            .says("of line 1 again"),
        Case::new("tokens for everybody", "E-ING-004")
            .edit(door(&bare))
            .says("0644"),
        Case::new("no certificate for HTTPS", "E-ING-005")
            .edit(vec![
                set("listen.https", "127.0.0.1:0"),
                set("ingest.tokens", &good),
            ])
            .says("listen.tls_key"),
        Case::new("in clear text", "W-ING-101")
            .edit(vec![
                set("listen.http", "0.0.0.0:0"),
                set("ingest.tokens", &good),
            ])
            .says("listen.https"),
        Case::new("no door", "W-ING-102")
            .edit(vec![set("ingest.tokens", &good)])
            .says("listen.http"),
        Case::new("not a size", "E-SET-004")
            .edit(vec![set("ingest.body_bytes_max", "1KiB")])
            .says("16384"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_with_certificates_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let redis = &stage.redis;
    let other = stage.dir().join("other");
    std::fs::create_dir(&other)?;
    let other = Pki::new(&other)?;
    let text = stage.write("text.pem", "this is no certificate\n")?;
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let empty = stage.write("empty.pem", empty)?;
    let identity = |identity: &tests::servers::Identity| {
        vec![
            cert("uplink.cert", &identity.cert),
            cert("uplink.key", &identity.key),
        ]
    };
    let made = |dates: Dates| -> Result<_> { Ok(identity(&stage.made(dates)?)) };
    let open = redis.pki().client("open")?;
    std::fs::set_permissions(&open.key, PermissionsExt::from_mode(0o644))?;
    let old_door = redis.pki().expired_client("old-door")?;
    let wrong_name = stage.tls_server(Dates::Now, "redis.example")?;
    let expired = stage.tls_server(Dates::Past, "127.0.0.1")?;
    stage.expect(&[
        Case::new("file missing", "E-CRT-001")
            .edit(vec![set("uplink.cert", "/nowhere/box.crt")])
            .says("/nowhere/box.crt"),
        Case::new("CA missing", "E-CRT-001")
            .edit(vec![set("uplink.ca", "/nowhere/ca.crt")])
            .says("/nowhere/ca.crt"),
        Case::new("not PEM", "E-CRT-002")
            .edit(vec![set("uplink.cert", &text)])
            .says("BEGIN"),
        Case::new("key is a certificate", "E-CRT-002")
            .edit(vec![cert("uplink.key", redis.ca())])
            .says("private key"),
        Case::new("other key", "E-CRT-003")
            .edit(vec![cert("uplink.key", &redis.pki().client("x")?.key)])
            .says("same bundle"),
        Case::new("expired", "E-CRT-004")
            .edit(identity(&redis.pki().expired_client("gw-test-old")?))
            .says("2001-01-01"),
        Case::new("not yet", "E-CRT-005")
            .edit(made(Dates::Future)?)
            .says("clock"),
        Case::new("a server's", "E-CRT-006")
            .edit(identity(&redis.pki().server("redis-two")?))
            .says("clientAuth"),
        Case::new("no authority", "E-CRT-007")
            .edit(vec![set("uplink.ca", &empty)])
            .says("authority"),
        Case::new("soon", "W-CRT-101")
            .edit(made(Dates::Soon)?)
            .says("days"),
        Case::new("other authority", "W-CRT-102")
            .edit(identity(&redis.pki().foreign_client("gw-test")?))
            .says("one bundle"),
        Case::new("key for everybody", "W-CRT-103")
            .edit(identity(&open))
            .says("0600"),
        Case::new("no certificate for trackers", "E-CRT-008")
            .edit(vec![set("listen.tls", "127.0.0.1:0")])
            .says("listen.tls_key"),
        Case::new("other key for trackers", "E-CRT-008")
            .edit(vec![
                set("listen.tls", "127.0.0.1:0"),
                cert("listen.tls_cert", &redis.pki().server("door")?.cert),
                cert("listen.tls_key", &redis.pki().client("x")?.key),
            ])
            .says("do not fit together"),
        Case::new("expired for trackers", "E-CRT-004")
            .edit(vec![
                set("listen.tls", "127.0.0.1:0"),
                cert("listen.tls_cert", &old_door.cert),
                cert("listen.tls_key", &old_door.key),
            ])
            .says("for trackers"),
        Case::new("wrong CA", "E-RED-004")
            .edit(vec![cert("uplink.ca", other.ca())])
            .says("uplink.ca"),
        Case::new("wrong host name", "E-RED-005")
            .edit(vec![
                set("uplink.url", &wrong_name.url),
                set("uplink.ca", &wrong_name.ca),
            ])
            .says("redis.example"),
        Case::new("server expired", "E-RED-006")
            .edit(vec![
                set("uplink.url", &expired.url),
                set("uplink.ca", &expired.ca),
            ])
            .says("renew"),
        Case::new("foreign client", "E-RED-009")
            .edit(identity(&redis.pki().foreign_client("gw-two")?))
            .says("uplink.cert"),
        Case::new("no client certificate", "E-RED-009")
            .edit(vec![remove("uplink.cert"), remove("uplink.key")])
            .says("uplink.cert"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_way_to_redis_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    let plain = stage.plain_redis().await?;
    let closed = Port::free()?;
    let port = stage.redis.port();
    let ssh = stage.greeter("SSH-2.0-OpenSSH_9.2\r\n")?;
    let deaf = std::net::TcpListener::bind("127.0.0.1:0")?;
    let deaf = deaf.local_addr()?;
    let url = |url: String| set("uplink.url", &url);
    let bare = |address: String| {
        vec![
            url(address),
            remove("uplink.cert"),
            remove("uplink.key"),
            remove("uplink.ca"),
        ]
    };
    let login = |user: &str, password: &str| {
        vec![url(format!("rediss://{user}:{password}@127.0.0.1:{port}/"))]
    };
    stage.expect(&[
        Case::new("no such name", "E-RED-001")
            .edit(vec![url("rediss://redis.invalid:6380/".to_owned())])
            .says("redis.invalid"),
        Case::new("wrong port", "E-RED-002")
            .edit(vec![url(format!(
                "rediss://127.0.0.1:{}/",
                closed.number()
            ))])
            .says("6380"),
        Case::new("silence", "E-RED-003")
            .edit(bare(format!("redis://{deaf}/")))
            .says("no answer"),
        Case::new("TLS at a plain port", "E-RED-007")
            .edit(vec![url(format!("rediss://127.0.0.1:{plain}/"))])
            .says("without TLS"),
        Case::new("plain at a TLS port", "E-RED-008")
            .edit(bare(format!("redis://127.0.0.1:{port}/")))
            .says("rediss://"),
        Case::new("wrong password", "E-RED-010")
            .edit(login("gw-test", "guess"))
            .says("password"),
        Case::new("unknown user", "E-RED-010")
            .edit(login("nobody", "guess"))
            .says("user"),
        Case::new("no password", "E-RED-010")
            .edit(vec![url(format!("rediss://127.0.0.1:{port}/"))])
            .says("password"),
        Case::new("no Redis", "E-RED-020")
            .edit(bare(format!("redis://{ssh}/")))
            .says("SSH-2.0"),
        Case::new("no such database", "E-RED-024")
            .edit(bare(format!("redis://127.0.0.1:{plain}/99")))
            .says("DB index"),
        Case::new("may read", "W-RED-102")
            .edit(bare(format!("redis://127.0.0.1:{plain}/")))
            .says("%W~telemetry"),
        Case::new("keeps nothing", "W-RED-104")
            .edit(bare(format!("redis://127.0.0.1:{plain}/")))
            .says("appendonly"),
        Case::new("in the clear", "W-RED-103")
            .edit(bare("redis://203.0.113.7:1/".to_owned()))
            .says("tunnel"),
    ])
}

/// Mistake, the commands that make it, the code, words, the commands that undo it.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a str, &'a [&'a str]);

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_inside_redis_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    // What a check leaves in Redis' memory is part of the number.
    stage.check(&Case::new("nothing", ""))?;
    let used: u64 = stage.info("used_memory").await?.parse()?;
    let almost = (used * 128 / 100).to_string();
    let dir: Vec<String> = cmd("CONFIG")
        .arg(&["GET", "dir"])
        .query_async(&mut stage.admin().await?)
        .await?;
    let dump = std::path::Path::new(&dir[1]).join("dump.rdb");
    std::fs::create_dir_all(dump.join("in the way"))?;
    let rows: &[Row] = &[
        (
            "no right",
            &["ACL SETUSER gw-test -xadd"],
            "E-RED-012",
            "%W~telemetry",
            &["ACL SETUSER gw-test +xadd"],
        ),
        (
            "replica",
            &["REPLICAOF 127.0.0.1 1"],
            "E-RED-013",
            "master",
            &["REPLICAOF NO ONE"],
        ),
        (
            "out of memory",
            &["CONFIG SET maxmemory 1000000"],
            "E-RED-014",
            "cloud processor",
            &["CONFIG SET maxmemory 0"],
        ),
        (
            "almost out of memory",
            &[&format!("CONFIG SET maxmemory {almost}")],
            "W-RED-106",
            "keeps up",
            &["CONFIG SET maxmemory 0"],
        ),
        (
            "too few replicas",
            &["CONFIG SET min-replicas-to-write 1"],
            "E-RED-017",
            "replicas",
            &["CONFIG SET min-replicas-to-write 0"],
        ),
        (
            "newer cloud",
            &["HSET contract reads 2-3"],
            "E-RED-019",
            "2-3",
            &["HSET contract reads 1-1"],
        ),
        (
            "no cloud",
            &["DEL contract"],
            "W-RED-101",
            "start the cloud",
            &["HSET contract reads 1-1"],
        ),
        (
            "eviction",
            &["CONFIG SET maxmemory-policy allkeys-lru"],
            "E-RED-021",
            "noeviction",
            &["CONFIG SET maxmemory-policy noeviction"],
        ),
        (
            "no sign of life",
            &["ACL SETUSER gw-test -set"],
            "E-RED-022",
            "instance:heartbeat:gw-test",
            &["ACL SETUSER gw-test +set"],
        ),
        (
            "no contract to read",
            &["ACL SETUSER gw-test -hget"],
            "E-RED-022",
            "HGET",
            &["ACL SETUSER gw-test +hget"],
        ),
        (
            "no lag to read",
            &["ACL SETUSER gw-test clearselectors"],
            "E-RED-022",
            "XINFO GROUPS telemetry:teltonika",
            &["ACL LOAD"],
        ),
        (
            "no group for orders",
            &["ACL SETUSER gw-test -xgroup|create"],
            "E-RED-025",
            "~commands:outbound:gw-test +xgroup|create",
            &["ACL LOAD"],
        ),
        (
            "no orders to read",
            &["ACL SETUSER gw-test -xreadgroup"],
            "E-RED-025",
            "XREADGROUP commands:outbound:gw-test",
            &["ACL LOAD"],
        ),
        (
            "no orders to release",
            &["ACL SETUSER gw-test -xack"],
            "E-RED-025",
            "XACK commands:outbound:gw-test",
            &["ACL LOAD"],
        ),
        (
            "no scripts",
            &["ACL SETUSER gw-test -evalsha"],
            "E-RED-025",
            "+evalsha",
            &["ACL LOAD"],
        ),
        (
            "no script to load",
            &["ACL SETUSER gw-test -script|load"],
            "E-RED-025",
            "+script|load",
            &["ACL LOAD"],
        ),
        (
            "no registry to write",
            &["ACL SETUSER gw-test -hset"],
            "E-RED-025",
            "HSET connections:registry",
            &["ACL LOAD"],
        ),
        (
            "a text, no stream",
            &["SET telemetry:teltonika x"],
            "E-RED-023",
            "rename",
            &["DEL telemetry:teltonika"],
        ),
        (
            "no INFO",
            &["ACL SETUSER gw-test -info"],
            "W-RED-105",
            "+info",
            &["ACL SETUSER gw-test +info"],
        ),
        (
            "no room for snapshots",
            &["CONFIG SET save 1\\ 1", "SET x 1", "BGSAVE"],
            "E-RED-015",
            "Redis' disk",
            &["CONFIG SET save "],
        ),
    ];
    for (name, make, code, says, undo) in rows {
        stage.admin_does(make).await?;
        if *code == "E-RED-015" {
            stage.until_info("rdb_last_bgsave_status", "err").await?;
        }
        stage.expect(&[Case::new(name, code).says(says)])?;
        stage.admin_does(undo).await?;
    }
    Ok(())
}

/// An operator copies the line from there.
#[test]
fn the_rights_in_the_docs_are_the_ones_that_are_tested() {
    let passwords = [("depot-1".to_owned(), "PASSWORD".to_owned())].into();
    let lines = acl_lines(&["depot-1".to_owned()], &passwords);
    let line = lines.iter().find(|line| line.contains("depot-1")).unwrap();
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gateway.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(line.as_str()),
        "docs/gateway.md should have\n{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_a_cloud_on_the_same_machine_is_walked() -> Result<()> {
    let stage = Stage::start().await?;
    let at = |path: &std::path::Path| {
        vec![
            set("uplink.url", &format!("unix:{}", path.display())),
            remove("uplink.cert"),
            remove("uplink.key"),
            remove("uplink.ca"),
        ]
    };
    let shut = stage.path("shut");
    std::fs::create_dir(&shut)?;
    let _listener = std::os::unix::net::UnixListener::bind(shut.join("uplink.sock"))?;
    std::fs::set_permissions(&shut, PermissionsExt::from_mode(0o000))?;
    let redis = Redis::start(RedisOptions {
        config: vec!["unixsocket other.sock".to_owned()],
        ..RedisOptions::default()
    });
    let redis = redis.await?;
    let mut trusting = at(&stage.path("uplink.sock"));
    trusting.push(set("spool.full", "trust-redis"));
    let looked = stage.expect(&[
        Case::new("no cloud", "E-DIR-001")
            .edit(at(&stage.path("uplink.sock")))
            .says("no cloud takes entries"),
        Case::new("not in the group", "E-DIR-002")
            .edit(at(&shut.join("uplink.sock")))
            .without("-dac_override,-dac_read_search")
            .says("may not use the socket"),
        Case::new("a Redis", "E-DIR-003")
            .edit(at(&redis.dir().join("other.sock")))
            .says("no such cloud"),
        Case::new("trust in a Redis that is not there", "E-SET-004")
            .edit(trusting)
            .says("there is no Redis behind a unix: address"),
    ]);
    std::fs::set_permissions(&shut, PermissionsExt::from_mode(0o755))?;
    looked
}
