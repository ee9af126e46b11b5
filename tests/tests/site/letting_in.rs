//! A new box: let in, shut out, let in again; what is kept of it, and what nobody gets to see.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use contract::bundle::Bundle;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tests::fleet::Tracker;
use tests::processes::Cloud;
use tests::servers::{ADMIN, PROCESSOR, Pki, Postgres, Redis, RedisOptions, acl_lines};
use tests::tables::{Tables, eventually};

use super::field_box::FieldBox;
use super::program::{Office, Ran};

const IMEI: u64 = 356_307_042_441_013;

/// Nobody is let in yet.
async fn redis() -> Result<Redis> {
    Redis::start(RedisOptions {
        gateways: Vec::new(),
        ..RedisOptions::default()
    })
    .await
}

async fn connect(redis: &Redis, user: &str) -> Result<MultiplexedConnection> {
    let client = redis.client(user)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

async fn ask(redis: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<Value> {
    redis::cmd(words[0])
        .arg(&words[1..])
        .query_async(redis)
        .await
}

/// What the office says after the first box: Redis is to trust its authority as well.
async fn trust(redis: &Redis, office: &Office) -> Result<()> {
    let both = fs::read_to_string(redis.ca())? + &fs::read_to_string(office.path("site/ca.crt"))?;
    let file = redis.dir().join("trusted.crt");
    fs::write(&file, both)?;
    let file = file.to_str().context("a plain path")?;
    let mut admin = connect(redis, ADMIN).await?;
    ask(&mut admin, &["CONFIG", "SET", "tls-ca-cert-file", file]).await?;
    Ok(())
}

async fn has_user(redis: &Redis, user: &str) -> Result<bool> {
    let mut admin = connect(redis, ADMIN).await?;
    let answer = ask(&mut admin, &["ACL", "GETUSER", user]).await?;
    Ok(answer != Value::Nil)
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

fn frame(number: u64) -> Result<Vec<u8>> {
    let record = RecordSpec {
        timestamp_ms: 1_700_000_000_000 + number,
        satellites: 7,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &[record], &mut data)?;
    Ok(data)
}

/// The login in a bundle's settings.
fn password(bundle: &Path) -> Result<String> {
    let bundle = Bundle::read(&fs::read(bundle)?)?;
    let url = bundle.settings.lines().find(|line| line.starts_with("url"));
    let login = url
        .and_then(|line| line.split_once('@'))
        .context("a login")?;
    Ok(login.0.rsplit(':').next().context("a password")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_let_in_shut_out_keeps_its_records_and_is_let_in_again() -> Result<()> {
    let mut redis = redis().await?;
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let run = tempfile::tempdir()?;
    let mut cloud = Cloud::start(run.path(), None, &redis, &url, &[]).await?;
    let tables = Tables::connect(&url).await?;
    let office = Office::at(&redis, &url)?;
    let mut field = FieldBox::new()?;
    let etc = field.etc();
    let etc = etc.to_str().context("a plain path")?;
    let here = format!("rediss://127.0.0.1:{}", redis.port());
    let words = ["site", "add", "depot-1", "--url", &here, "--dir", etc];

    let added = office.run(&words)?.ok()?;
    assert!(added.out.contains("have Redis trust it"), "{}", added.out);
    let bundle = office.path("depot-1.bundle");
    trust(&redis, &office).await?;
    let imported = field.import(&bundle, &[])?.ok()?;
    assert!(
        imported.out.contains("signed by uplink.ca"),
        "{}",
        imported.out
    );
    field.start().await?;
    let mut tracker = Tracker::connect(field.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    ensure!(tracker.send_frame(&frame(0)?).await? == 1);
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    let listed = office.run(&["site", "ls", "--json"])?.ok()?.json()?;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["has_user"], true, "{listed:?}");
    assert!(listed[0]["days_left"].as_u64() >= Some(364), "{listed:?}");
    assert!(
        listed[0]["seen_seconds_ago"].as_u64() <= Some(90),
        "{listed:?}"
    );

    eventually("the gateway has heard that it is stored", async || {
        Ok(field.status().await?["spool"]["backlog"] == 0)
    })
    .await?;

    // Not without a word, and a look changes nothing.
    let shy = office.run(&["site", "revoke", "depot-1"])?.with(2)?;
    assert!(shy.err.contains("--yes"), "{}", shy.err);
    office
        .run(&["site", "revoke", "depot-1", "--dry-run"])?
        .ok()?;
    assert!(has_user(&redis, "depot-1").await?);

    let out = office.run(&["site", "revoke", "depot-1", "--yes", "--json"])?;
    let out = out.ok()?.json()?;
    assert_eq!(out[0]["user_removed"], true, "{out:?}");
    assert!(out[0]["connections_cut"].as_u64() >= Some(1), "{out:?}");
    assert_eq!(out[0]["saved"], true, "{out:?}");
    assert!(!has_user(&redis, "depot-1").await?);
    let list = fs::read_to_string(office.path("site/revoked.pem"))?;
    assert!(list.contains("BEGIN X509 CRL"), "{list}");
    for number in 1..=3 {
        ensure!(
            tracker.send_frame(&frame(number)?).await? == 1,
            "it still answers"
        );
    }
    eventually("the gateway is refused", async || {
        let status = field.status().await?;
        let refused = status["uplink"].to_string().contains("password");
        Ok(refused && status["spool"]["backlog"] == 3)
    })
    .await?;
    // What was saved stays so.
    redis.restart().await?;
    trust(&redis, &office).await?;
    assert!(!has_user(&redis, "depot-1").await?);
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    let listed = office.run(&["site", "ls"])?.ok()?;
    assert!(listed.out.contains("revoked"), "{}", listed.out);
    let again = office.run(&words)?.with(2)?;
    assert!(again.err.contains("--renew"), "{}", again.err);

    let renewed = [&words[..], &["--renew", "--out", "new.bundle"]].concat();
    office.run(&renewed)?.ok()?;
    field.import(&office.path("new.bundle"), &["--yes"])?.ok()?;
    field.stop()?;
    field.start().await?;
    tables.wait_for("SELECT count(*) FROM positions", 4).await?;
    eventually("nothing waits any more", async || {
        Ok(field.status().await?["spool"]["backlog"] == 0)
    })
    .await?;
    cloud.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_twice_changes_nothing_and_mends_what_redis_lost() -> Result<()> {
    let redis = redis().await?;
    let office = Office::at(&redis, "postgres://127.0.0.1:1/none")?;
    let dry = office.run(&["site", "add", "depot-1", "--dry-run"])?.ok()?;
    assert!(dry.out.contains("would be written"), "{}", dry.out);
    let left: Vec<_> = fs::read_dir(office.dir())?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 1, "the settings alone: {left:?}");
    assert!(!has_user(&redis, "depot-1").await?);

    let first = office.run(&["site", "add", "depot-1"])?.ok()?;
    assert!(first.out.contains("this machine alone"), "{}", first.out);
    let bundle = office.path("depot-1.bundle");
    let (bytes, record) = (
        fs::read(&bundle)?,
        fs::read(office.path("site/sites/depot-1.json"))?,
    );
    let secret = password(&bundle)?;
    let hidden = |ran: &Ran| !ran.out.contains(&secret) && !ran.err.contains(&secret);
    assert!(hidden(&first));
    assert!(!String::from_utf8(record.clone())?.contains(&secret));
    for name in ["depot-1.bundle", "site/ca.key", "site/sites/depot-1.json"] {
        assert_eq!(mode(&office.path(name))?, 0o600, "{name}");
    }
    assert_eq!(mode(&office.path("site"))?, 0o700);

    let again = office.run(&["site", "add", "depot-1"])?.ok()?;
    assert!(again.out.contains("is there already"), "{}", again.out);
    assert!(
        again.out.contains("--renew") && hidden(&again),
        "{}",
        again.out
    );
    let mut admin = connect(&redis, ADMIN).await?;
    ask(&mut admin, &["ACL", "DELUSER", "depot-1"]).await?;
    let mended = office.run(&["site", "add", "depot-1", "--json"])?.ok()?;
    assert_eq!(mended.json()?[0]["user"], "made");
    let welcome = ask(&mut admin, &["AUTH", "depot-1", &secret]).await;
    assert!(
        welcome.is_ok(),
        "the password of the first bundle opens: {welcome:?}"
    );
    assert_eq!(fs::read(&bundle)?, bytes);
    assert_eq!(fs::read(office.path("site/sites/depot-1.json"))?, record);

    // A renewed box goes on until it has the new bundle; the password before that is over.
    for (round, old_opens) in [(1, true), (2, false)] {
        office.run(&["site", "add", "depot-1", "--renew"])?.ok()?;
        let fresh = password(&bundle)?;
        assert_ne!(fresh, secret);
        let mut anybody = connect(&redis, ADMIN).await?;
        let opens = ask(&mut anybody, &["AUTH", "depot-1", &secret])
            .await
            .is_ok();
        assert_eq!(opens, old_opens, "after {round}");
        ask(&mut anybody, &["AUTH", "depot-1", &fresh]).await?;
    }

    // Not over somebody else's file, nor over a user who is no site's.
    fs::write(office.path("mine"), "x")?;
    let other = ["site", "add", "depot-2", "--out", "mine"];
    assert!(office.run(&other)?.with(2)?.err.contains("--out"));
    for name in ["processor", "two words", "default"] {
        office.run(&["site", "add", name])?.with(2)?;
    }
    let mut admin = connect(&redis, ADMIN).await?;
    ask(&mut admin, &["ACL", "SETUSER", "grafana", "on"]).await?;
    let taken = office.run(&["site", "add", "grafana"])?.with(2)?;
    assert!(taken.err.contains("not of a site"), "{}", taken.err);
    assert!(
        office
            .run(&["site", "revoke", "depot-9", "--yes"])?
            .with(2)?
            .err
            .contains("no site")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_make_users_prints_lines_that_do() -> Result<()> {
    let redis = redis().await?;
    let office = Office::at(&redis, "postgres://127.0.0.1:1/none")?;
    // The cloud's own login, which may do nothing of the kind.
    let login = redis.url(PROCESSOR);
    let shy = [("CLOUD__SITE__ADMIN_URL", login.as_str())];
    let added = office
        .run_with(&["site", "add", "depot-1", "--json"], &shy)?
        .ok()?
        .json()?;
    assert_eq!(added[0]["user"], "to do", "{added:?}");
    let bundle = office.path("depot-1.bundle");
    let secret = password(&bundle)?;
    let line = added[0]["to_run"].as_str().context("a line")?;
    assert!(!line.contains(&secret), "{line}");
    let mut admin = connect(&redis, ADMIN).await?;
    let words: Vec<&str> = line.split(' ').collect();
    ask(&mut admin, &words).await?;
    ask(&mut admin, &["AUTH", "depot-1", &secret]).await?;
    let own = ask(&mut admin, &["XADD", "telemetry:teltonika", "*", "v", "1"]).await;
    assert!(own.is_ok(), "{own:?}");
    for denied in [
        &["XRANGE", "telemetry:teltonika", "-", "+"][..],
        &["SET", "instance:heartbeat:depot-2", "1"],
        &[
            "XREADGROUP",
            "GROUP",
            "gateway",
            "c",
            "STREAMS",
            "commands:outbound:depot-2",
            ">",
        ],
        &["HGETALL", "floor:depot-2"],
        &["ACL", "LIST"],
    ] {
        let refused = ask(&mut admin, denied).await.expect_err("only its own");
        assert_eq!(refused.code(), Some("NOPERM"), "{denied:?}");
    }

    // It may not shut out either, and says that the box is still in.
    let still = office
        .run_with(&["site", "revoke", "depot-1", "--yes"], &shy)?
        .with(1)?;
    assert!(still.err.contains("still let in"), "{}", still.err);
    assert!(still.out.contains("ACL DELUSER depot-1"), "{}", still.out);
    assert!(has_user(&redis, "depot-1").await?);
    let listed = office
        .run_with(&["site", "ls", "--json"], &shy)?
        .ok()?
        .json()?;
    assert!(listed[0]["has_user"].is_null() && listed[0]["revoked"].is_null());

    // A Redis that is away: nothing is begun.
    let nowhere = [("CLOUD__SITE__ADMIN_URL", "rediss://127.0.0.1:1")];
    office
        .run_with(&["site", "add", "depot-2"], &nowhere)?
        .with(3)?;
    assert!(!office.path("depot-2.bundle").exists());
    // Unless it is to be left alone.
    let alone = ["site", "add", "depot-2", "--no-redis"];
    let alone = office.run_with(&alone, &nowhere)?.ok()?;
    assert!(
        alone.out.contains("ACL SETUSER depot-2 on"),
        "{}",
        alone.out
    );
    Ok(())
}

#[tokio::test]
async fn a_given_authority_signs_as_long_as_it_lives_and_only_with_its_own_key() -> Result<()> {
    let office = Office::new("[redis]\nurl = \"rediss://redis.example:6380\"")?;
    let pki = Pki::new(office.dir())?;
    let ca = pki.ca().to_str().context("a plain path")?.to_owned();
    fs::create_dir(office.path("foreign"))?;
    let foreign = Pki::new(&office.path("foreign"))?;
    let (key, foreign_key) = (pki.ca_key()?, foreign.ca_key()?);
    let (key, foreign_key) = (
        key.to_str().context("plain")?,
        foreign_key.to_str().context("plain")?,
    );
    let add = |ca: &str, key: &str, words: &[&str]| {
        let given = [
            "site",
            "add",
            "depot-1",
            "--no-redis",
            "--ca-cert",
            ca,
            "--ca-key",
            key,
        ];
        office.run(&[&given[..], words].concat())
    };
    let refused = add(&ca, foreign_key, &[])?.with(2)?;
    assert!(
        refused.err.contains("not the one of its certificate"),
        "{}",
        refused.err
    );
    let client = pki.client("nobody")?;
    let (cert, client_key) = (
        client.cert.to_str().context("plain")?,
        client.key.to_str().context("plain")?,
    );
    let refused = add(cert, client_key, &[])?.with(2)?;
    assert!(
        refused.err.contains("not one of an authority"),
        "{}",
        refused.err
    );
    assert!(!office.path("depot-1.bundle").exists());

    let field = FieldBox::new()?;
    let etc = field.etc();
    add(
        &ca,
        key,
        &["--dir", etc.to_str().context("plain")?, "--days", "30"],
    )?
    .ok()?;
    assert!(!office.path("site/ca.key").exists(), "it was not kept");
    let imported = field.import(&office.path("depot-1.bundle"), &[])?.ok()?;
    assert!(
        imported.out.contains("signed by uplink.ca"),
        "{}",
        imported.out
    );
    assert!(
        imported.out.contains("expires in 29 days"),
        "{}",
        imported.out
    );

    // Nobody can sign a list without it.
    let out = office
        .run(&["site", "revoke", "depot-1", "--no-redis", "--yes"])?
        .ok()?;
    assert!(out.out.contains("--ca-cert"), "{}", out.out);
    let words = [
        "site",
        "revoke",
        "depot-1",
        "--no-redis",
        "--yes",
        "--json",
        "--ca-cert",
        &ca,
        "--ca-key",
        key,
    ];
    let out = office.run(&words)?.ok()?.json()?;
    let list = out[0]["list"].as_str().context("a list")?;
    let pem = fs::read_to_string(list)?;
    assert!(pem.contains("BEGIN X509 CRL"), "{pem}");
    // A verifier that reads it turns the box away, and its neighbour in.
    add(&ca, key, &["--renew", "--out", "second.bundle"])?.ok()?;
    let first = Bundle::read(&fs::read(office.path("depot-1.bundle"))?)?;
    let second = Bundle::read(&fs::read(office.path("second.bundle"))?)?;
    let verdict = |bundle: &Bundle| verify(&fs::read(&ca)?, pem.as_bytes(), &bundle.certificate);
    assert!(verdict(&first)?.is_some_and(|error| error.contains("Revoked")));
    assert_eq!(verdict(&second)?, None);
    Ok(())
}

/// What a server that reads the list says of a client's certificate; `None`: welcome.
fn verify(authority: &[u8], list: &[u8], certificate: &[u8]) -> Result<Option<String>> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate?)?;
    }
    let lists: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(list).collect::<Result<_, _>>()?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        roots.into(),
        rustls::crypto::ring::default_provider().into(),
    );
    let verifier = verifier.with_crls(lists).build()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    let judged = verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now());
    Ok(judged.err().map(|error| error.to_string()))
}

#[test]
fn what_acl_print_prints_is_what_every_test_runs_with() -> Result<()> {
    let office = Office::new("")?;
    let printed = office.users_file(&["gw-a", "gw-b"])?;
    let gateways = ["gw-a".to_owned(), "gw-b".to_owned()];
    let mut wanted = acl_lines(&gateways, &BTreeMap::new());
    let mut lines: Vec<&str> = printed.out.lines().collect();
    assert_eq!(lines[0], "user default off");
    wanted.sort();
    lines.sort_unstable();
    assert_eq!(lines, wanted);
    assert!(printed.err.contains("no password"), "{}", printed.err);

    // A password is never printed, only what Redis makes of it.
    fs::write(office.path("pass"), "abc\n")?;
    let words = [
        "acl",
        "print",
        "--gateway",
        "gw-a",
        "--format",
        "redis-cli",
        "--password-file",
        "pass",
    ];
    let printed = office.run(&words)?.ok()?;
    let hash = "#ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(
        printed.out.starts_with(&format!(
            "ACL SETUSER gw-a on resetkeys clearselectors {hash} "
        )),
        "{}",
        printed.out
    );
    let two = [
        "acl",
        "print",
        "--gateway",
        "a",
        "--gateway",
        "b",
        "--password-file",
        "pass",
    ];
    office.run(&two)?.with(2)?;
    for bad in ["two words", "processor"] {
        office.run(&["acl", "print", "--gateway", bad])?.with(2)?;
    }
    let json = office.run(&["acl", "print", "--json"])?.ok()?.json()?;
    assert_eq!(json[0]["user"], "processor");
    assert!(json.iter().any(|line| {
        line["sql"]
            .as_str()
            .is_some_and(|sql| sql.contains("milepost_reader"))
    }));
    Ok(())
}
