//! Servers with nothing wrong, the mistakes that can be put into them, and the looking.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
pub(super) use tests::mistakes::{Case, Edit, remove};
use tests::mistakes::{Looks, objects};
use tests::processes::program_path;
use tests::servers::{PROCESSOR, Port, Postgres, Redis, RedisOptions};

pub(super) fn set(name: &'static str, value: impl Into<Value>) -> Edit {
    (name, Some(value.into()))
}

/// What a kernel or a shared machine makes of any Redis: not what is tested here.
const OF_THE_MACHINE: [&str; 2] = ["W-RDS-106", "W-RDS-107"];

/// How findings of the cloud look.
const LOOKS: Looks = Looks {
    mark: "mark",
    failed: "failed",
    filled: &["part", "text", "remedy"],
    exit_of: |code| cloud::explain::page(code).unwrap().exit,
};

/// Mistake, what makes it, the code, words, what undoes it.
pub(super) type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a str, &'a [&'a str]);

pub(super) struct Stage {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    pub(super) database_url: String,
    /// Where the same Redis listens without TLS.
    pub(super) plain: Port,
    settings: BTreeMap<&'static str, Value>,
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Stage {
    /// Redis and PostgreSQL as they should be: migrated, the contract published, the group at 0.
    pub(super) async fn start() -> Result<Self> {
        let plain = Port::free()?;
        let redis = Redis::start(RedisOptions {
            memory_bytes_max: 256 << 20,
            config: vec![format!("port {}", plain.number())],
            ..RedisOptions::default()
        })
        .await?;
        let postgres = Postgres::start().await?;
        let database_url = postgres.create_database().await?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-check-cloud-")
            .tempdir()?;
        let identity = redis.identity(PROCESSOR);
        let settings = BTreeMap::from([
            ("redis.url", json!(redis.url(PROCESSOR))),
            ("redis.cert", json!(identity.cert)),
            ("redis.key", json!(identity.key)),
            ("redis.ca", json!(redis.ca())),
            ("database.url", json!(database_url)),
            ("http.listen", json!("127.0.0.1:0")),
        ]);
        let stage = Self {
            redis,
            postgres,
            database_url,
            plain,
            settings,
            program: program_path("cloud")?,
            dir,
        };
        let (_, exit) = stage.run(&["migrate", "up"])?;
        ensure!(exit == 0, "migrate up: exit {exit}");
        stage
            .sql(&["ALTER DATABASE @ SET timezone = 'UTC'"])
            .await?;
        let ours = contract::version::VersionsRead::ours();
        let publish = format!("HSET contract reads {ours} writes 1");
        let make = [
            publish.as_str(),
            "XGROUP CREATE telemetry:teltonika processor 0 MKSTREAM",
        ];
        stage.redis.admin_does(&make).await?;
        Ok(stage)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        self.settings.insert(name, value);
    }

    /// Statements of the superuser; `@` is the name of the database.
    pub(super) async fn sql(&self, statements: &[&str]) -> Result<()> {
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let name = self.database_url.rsplit('/').next().unwrap_or_default();
        for statement in statements {
            let statement = statement.replace('@', name);
            sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                .execute(&mut connection)
                .await
                .with_context(|| statement)?;
        }
        Ok(connection.close().await?)
    }

    /// The database's URL with another user and password.
    pub(super) fn database_as(&self, login: &str) -> String {
        let (_, place) = self.database_url.split_once('@').unwrap();
        format!("postgres://{login}@{place}")
    }

    fn call(&self, case: &Case, words: &[&str]) -> Result<std::process::Output> {
        let written = self.dir().join("cloud.toml");
        std::fs::write(&written, case.settings(&self.settings))?;
        std::fs::set_permissions(&written, PermissionsExt::from_mode(case.mode))?;
        let file = case.file.as_deref().map_or(written.as_path(), Path::new);
        let output = Command::new(&self.program)
            .args(words)
            .args(["--json", "--config"])
            .arg(file)
            .env_clear()
            .envs(case.env.iter().map(|(name, value)| (name, value)))
            .output()?;
        Ok(output)
    }

    /// Runs a verb with the settings as they are: its JSON objects, and the exit code.
    pub(super) fn run(&self, words: &[&str]) -> Result<(Vec<Value>, i32)> {
        objects(self.call(&Case::default(), words)?)
    }

    /// Runs the check with one mistake in it: every finding, and the exit code.
    pub(super) fn check(&self, case: &Case) -> Result<(Vec<Value>, i32)> {
        case.findings(self.call(case, &["check"])?)
    }

    /// Every case is found as [`Looks::complaint`] says, and every part was looked at.
    pub(super) fn expect(&self, cases: &[Case]) -> Result<()> {
        let mut wrong = Vec::new();
        for case in cases {
            let (found, exit) = self.check(case)?;
            wrong.extend(LOOKS.complaint(case, &found, exit));
            for part in ["settings", "redis", "stream", "database"] {
                if !found.iter().any(|it| it["part"] == part) {
                    wrong.push(format!("{}: nothing about {part}", case.name));
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// Mistakes made inside Redis by its administrator, and undone again.
    pub(super) async fn expect_in_redis(&self, rows: &[Row<'_>]) -> Result<()> {
        for (name, make, code, says, undo) in rows {
            self.redis.admin_does(make).await?;
            self.expect(&[Case::new(name, code).says(says)])?;
            self.redis.admin_does(undo).await?;
        }
        self.is_good()
    }

    /// Mistakes made inside the database by its administrator, and undone again.
    pub(super) async fn expect_in_database(&self, rows: &[Row<'_>]) -> Result<()> {
        for (name, make, code, says, undo) in rows {
            self.sql(make).await?;
            self.expect(&[Case::new(name, code).says(says)])?;
            self.sql(undo).await?;
        }
        self.is_good()
    }

    /// Nothing is wrong, not even a little.
    pub(super) fn is_good(&self) -> Result<()> {
        let (found, exit) = self.check(&Case::new("nothing", ""))?;
        let bad: Vec<_> = found
            .iter()
            .filter(|it| it["mark"] == "warning" || it["mark"] == "failed")
            .filter(|it| !OF_THE_MACHINE.iter().any(|code| it["code"] == *code))
            .collect();
        ensure!(exit == 0 && bad.is_empty(), "exit {exit}: {bad:#?}");
        Ok(())
    }
}
