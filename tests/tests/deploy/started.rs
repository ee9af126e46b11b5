//! `compose.yaml` without Docker: its Redis command line, its logins and its environments, with the secrets
//! that `compose-secrets` makes, run by the real programs. Addresses and directories alone are others.
//!
//! What is left untried here: the images, the networks, Docker itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use redis::{Client, ClientTlsConfig, RedisResult, TlsCertificates};
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::poster::Poster;
use tests::processes::{get, program_path};
use tests::servers::{Port, Postgres, redis_server, skipped};
use tests::tables::{Tables, eventually};
use tokio::process::{Child, Command};

use super::compose::environment;
use super::files::{deploy, list, text, yaml};

/// Where containers have their secrets.
const INSIDE: &str = "/etc/milepost";

struct Stage {
    dir: tempfile::TempDir,
    file: Value,
}

impl Stage {
    /// `None` after the skip was said.
    async fn new() -> Result<Option<Self>> {
        for (program, ask) in [("openssl", "version"), ("psql", "--version")] {
            let found = Command::new(program).arg(ask).output().await;
            if !found.is_ok_and(|output| output.status.success()) {
                skipped(&format!(
                    "compose.yaml without Docker: there is no {program}"
                ))?;
                return Ok(None);
            }
        }
        let dir = tempfile::tempdir()?;
        let mut make = Command::new(deploy("compose-secrets"));
        let made = make.arg(dir.path().join("secrets")).output().await?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let file = yaml(&deploy("compose.yaml"))?;
        Ok(Some(Self { dir, file }))
    }

    fn secrets(&self, part: &str) -> std::path::PathBuf {
        self.dir.path().join("secrets").join(part)
    }

    /// Changes a secret's address, which is a container's.
    fn readdress(&self, path: &str, from: &str, to: &str) -> Result<()> {
        let before = text(&self.secrets(path))?;
        ensure!(before.contains(from), "{path} has no {from}");
        Ok(fs::write(self.secrets(path), before.replace(from, to))?)
    }

    /// The environment of a service and nothing else, as outside of its container.
    fn run(
        &self,
        service: &str,
        program: &str,
        words: &[&str],
        other: &[(&str, String)],
    ) -> Result<Command> {
        let secrets = self.secrets(service);
        let secrets = secrets.to_str().context("a path in Unicode")?;
        let mut all: BTreeMap<String, String> = environment(&self.file["services"][service]);
        for value in all.values_mut() {
            *value = value.replace(INSIDE, secrets);
        }
        all.extend(
            other
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let log = fs::File::create(self.log(service))?;
        let mut command = Command::new(program_path(program)?);
        command.args(words).env_clear().envs(all).kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    fn log(&self, service: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("{service}.log"))
    }

    fn last_words(&self) -> String {
        let words = ["redis", "cloud", "gateway"].map(|name| {
            let said = text(&self.log(name)).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(5).collect();
            format!("{name}: {}", tail.join("\n"))
        });
        words.join("\n")
    }

    fn redis(&self, port: &Port) -> Result<Child> {
        let binary = redis_server()?;
        let words = list(&self.file["services"]["redis"], "command");
        let words = words
            .iter()
            .filter_map(Value::as_str)
            .skip(1)
            .map(|word| match word {
                "6379" => port.number().to_string(),
                "/tmp/redis.sock" => self.dir.path().join("redis.sock").display().to_string(),
                "${MILEPOST_REDIS_MEMORY:-0}" => "0".to_owned(),
                path => path.replace(INSIDE, &self.secrets("redis").display().to_string()),
            });
        let data = self.dir.path().join("data");
        fs::create_dir(&data)?;
        let log = fs::File::create(self.log("redis"))?;
        let mut command = Command::new(&binary.path);
        command.args(words).current_dir(data).kill_on_drop(true);
        if let Some(path) = &binary.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command.spawn()?)
    }

    /// As this user, with the cloud's certificate.
    async fn redis_as(&self, url: &str) -> Result<redis::aio::MultiplexedConnection> {
        let part = |name: &str| fs::read(self.secrets("cloud").join(name));
        let client = Client::build_with_tls(
            url,
            TlsCertificates {
                client_tls: Some(ClientTlsConfig {
                    client_cert: part("cloud.crt")?,
                    client_key: part("cloud.key")?,
                }),
                root_cert: Some(part("ca.crt")?),
            },
        )?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// What the image of PostgreSQL does with files in `docker-entrypoint-initdb.d`.
    async fn logins(&self, owner: &str) -> Result<()> {
        let url: Vec<&str> = owner.split(['/', ':', '@']).collect();
        let [_, _, _, user, password, host, port, database] = url[..] else {
            anyhow::bail!("{} parts", url.len());
        };
        let mut run = Command::new("sh");
        run.arg(deploy("timescaledb/logins.sh"));
        for (name, value) in [
            ("PGHOST", host),
            ("PGPORT", port),
            ("PGPASSWORD", password),
            ("POSTGRES_USER", user),
            ("POSTGRES_DB", database),
        ] {
            run.env(name, value);
        }
        let made = text(&self.secrets("compose.env"))?;
        for line in made.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('=').context(line.to_owned())?;
            run.env(name, value);
        }
        let ran = run.output().await?;
        ensure!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_composition_says_carries_records_into_the_database() -> Result<()> {
    let Some(stage) = Stage::new().await? else {
        return Ok(());
    };
    let (redis_port, trackers, of_gateway, of_cloud) =
        (Port::free()?, Port::free()?, Port::free()?, Port::free()?);
    let local = |port: &Port| format!("127.0.0.1:{}", port.number());
    let postgres = Postgres::start().await?;
    let owner = postgres.create_database().await?;
    let (_, place) = owner.split_once('@').context("a place")?;
    let redis = stage.redis(&redis_port)?;
    for part in [
        "cloud/redis.url",
        "gateway/redis.url",
        "authority/admin.url",
    ] {
        stage.readdress(part, "redis:6379", &local(&redis_port))?;
    }
    stage.logins(&owner).await?;
    // The owner of the container's tables has the container's name and password.
    ensure!(text(&stage.secrets("migrate/database.url"))?.starts_with("postgres://milepost:"));
    fs::write(stage.secrets("migrate/database.url"), &owner)?;
    stage.readdress("cloud/database.url", "timescaledb/milepost", place)?;
    // This PostgreSQL is a plain one.
    let plain = ("CLOUD__DATABASE__TIMESCALE", "auto".to_owned());
    let words = ["migrate", "up"];
    assert_eq!(list(&stage.file["services"]["migrate"], "command"), words);
    let migrated = stage
        .run("migrate", "cloud", &words, std::slice::from_ref(&plain))?
        .status()
        .await?;
    ensure!(migrated.success(), "{}", text(&stage.log("migrate"))?);

    let http = ("CLOUD__HTTP__LISTEN", local(&of_cloud));
    let cloud = stage
        .run("cloud", "cloud", &["run"], &[plain, http])?
        .spawn()?;
    let spool = stage.dir.path().join("spool").display().to_string();
    let others = [
        ("GATEWAY__LISTEN__TCP", local(&trackers)),
        ("GATEWAY__HTTP__LISTEN", local(&of_gateway)),
        ("GATEWAY__SPOOL__DIR", spool),
    ];
    let gateway = stage
        .run("gateway", "gateway", &["run"], &others)?
        .spawn()?;
    let up = eventually("gateway and cloud are ready", async || {
        let gateway = get(local(&of_gateway).parse()?, "/ready").await?;
        let cloud = get(local(&of_cloud).parse()?, "/ready").await?;
        Ok(gateway.0 == 200 && cloud.0 == 200)
    });
    up.await.with_context(|| stage.last_words())?;

    let fleet = Fleet::start(FleetConfig {
        devices: 3,
        rate: "10".parse()?,
        ..FleetConfig::new(local(&trackers))
    })
    .await?;
    let tables = Tables::connect(&owner).await?;
    let arrived = eventually("records arrive", async || {
        let (rows,): (i64,) = tables.one("SELECT count(*) FROM positions").await?;
        Ok(rows >= 30)
    });
    arrived.await.with_context(|| stage.last_words())?;
    fleet.stop_producing();

    // The token that was made opens the map, and none opens nothing.
    let token = text(&stage.secrets("authority/web.token"))?;
    let bearer = format!("Bearer {token}");
    let me = async |headers: &[(&str, &str)]| {
        let mut poster = Poster::connect(local(&of_cloud).parse()?).await?;
        poster.ask("GET", "/api/v1/me", headers, b"").await
    };
    let known = me(&[("Authorization", &bearer)]).await?;
    ensure!(known.status == 200, "{known:?}");
    ensure!(known.json()["role"] == "operator", "{known:?}");
    ensure!(me(&[]).await?.status == 401);

    // Grafana's login may read what dashboards show, and nothing else.
    let password = text(&stage.secrets("grafana/reader.password"))?;
    let reader =
        Tables::connect(&format!("postgres://milepost_grafana:{password}@{place}")).await?;
    ensure!(reader.rows("SELECT * FROM telemetry LIMIT 5").await? == 5);
    ensure!(
        reader.rows("SELECT * FROM commands").await.is_err(),
        "Grafana reads commands"
    );

    keda_may_look_and_nothing_else(&stage, &local(&redis_port)).await?;
    drop((gateway, cloud, redis));
    Ok(())
}

/// The user that docs/security.md has for KEDA.
async fn keda_may_look_and_nothing_else(stage: &Stage, place: &str) -> Result<()> {
    let page = text(Path::new(&deploy("../docs/security.md")))?;
    let line = page.lines().find(|line| line.starts_with("user keda "));
    let line = line
        .context("docs/security.md has no user keda")?
        .replace("PASSWORD", "look");
    let mut admin = stage
        .redis_as(&text(&stage.secrets("authority/admin.url"))?)
        .await?;
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER")
        .arg(line.split(' ').skip(1).collect::<Vec<_>>());
    set.query_async::<()>(&mut admin).await?;
    let mut keda = stage
        .redis_as(&format!("rediss://keda:look@{place}/"))
        .await?;
    let stream = contract::keys::STREAM_TELTONIKA;
    // What its scaler says, by its sources.
    for words in [vec!["INFO"], vec!["XINFO", "GROUPS", stream]] {
        let mut ask = redis::cmd(words[0]);
        ask.arg(&words[1..]);
        let told: RedisResult<redis::Value> = ask.query_async(&mut keda).await;
        told.with_context(|| words.join(" "))?;
    }
    for words in [
        vec!["XADD", stream, "*", "a", "b"],
        vec!["XRANGE", stream, "-", "+"],
        vec!["XTRIM", stream, "MAXLEN", "0"],
        vec!["GET", "contract"],
        vec!["FLUSHALL"],
    ] {
        let mut ask = redis::cmd(words[0]);
        ask.arg(&words[1..]);
        let told: RedisResult<redis::Value> = ask.query_async(&mut keda).await;
        let error = told
            .err()
            .with_context(|| format!("keda may {}", words.join(" ")))?;
        assert_eq!(error.code(), Some("NOPERM"), "{error}");
    }
    Ok(())
}
