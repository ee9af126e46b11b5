//! Servers with nothing wrong, the mistakes that can be put into them, and the looking.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::processes::program_path;
use tests::servers::{PROCESSOR, Port, Postgres, Redis, RedisOptions};

/// A setting to change; `None` takes it out.
pub(super) type Edit = (&'static str, Option<Value>);

pub(super) fn set(name: &'static str, value: impl Into<Value>) -> Edit {
    (name, Some(value.into()))
}

pub(super) fn remove(name: &'static str) -> Edit {
    (name, None)
}

/// What a kernel or a shared machine makes of any Redis: not what is tested here.
const OF_THE_MACHINE: [&str; 2] = ["W-RDS-106", "W-RDS-107"];

/// One mistake in the settings or the environment, and what must be said about it.
#[derive(Clone, Default)]
pub(super) struct Case {
    name: String,
    code: String,
    edits: Vec<Edit>,
    tail: String,
    env: Vec<(&'static str, String)>,
    file: Option<String>,
    says: String,
}

impl Case {
    pub(super) fn new(name: &str, code: &str) -> Self {
        Self {
            name: name.to_owned(),
            code: code.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn edit(mut self, edits: Vec<Edit>) -> Self {
        self.edits = edits;
        self
    }

    /// Lines at the end of the settings file.
    pub(super) fn tail(mut self, tail: &str) -> Self {
        self.tail = tail.to_owned();
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Another settings file than the one that is written.
    pub(super) fn file(mut self, path: &str) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// Words that must stand in the finding.
    pub(super) fn says(mut self, says: &str) -> Self {
        self.says = says.to_owned();
        self
    }
}

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

    fn write_settings(&self, edits: &[Edit], tail: &str) -> Result<String> {
        let mut settings = self.settings.clone();
        for (name, value) in edits {
            match value {
                Some(value) => settings.insert(name, value.clone()),
                None => settings.remove(name),
            };
        }
        let mut text = String::new();
        let mut open = "";
        for (name, value) in &settings {
            let (section, key) = name.split_once('.').unwrap();
            if section != open {
                text.push_str(&format!("[{section}]\n"));
                open = section;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push_str(tail);
        let path = self.dir().join("cloud.toml");
        std::fs::write(&path, &text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(path.to_str().unwrap().to_owned())
    }

    fn call(&self, case: &Case, words: &[&str]) -> Result<std::process::Output> {
        let file = self.write_settings(&case.edits, &case.tail)?;
        let file = case.file.as_deref().unwrap_or(&file);
        let output = Command::new(&self.program)
            .args(words)
            .args(["--json", "--config", file])
            .env_clear()
            .envs(case.env.iter().map(|(name, value)| (name, value)))
            .output()?;
        Ok(output)
    }

    /// Runs a verb with the settings as they are: its JSON objects, and the exit code.
    pub(super) fn run(&self, words: &[&str]) -> Result<(Vec<Value>, i32)> {
        let output = self.call(&Case::default(), words)?;
        let said = String::from_utf8(output.stdout)?;
        let lines = said.lines().map(serde_json::from_str);
        let found = lines
            .collect::<Result<_, _>>()
            .with_context(|| said.clone())?;
        Ok((found, output.status.code().unwrap_or(-1)))
    }

    /// Runs the check with one mistake in it: every finding, and the exit code.
    pub(super) fn check(&self, case: &Case) -> Result<(Vec<Value>, i32)> {
        let output = self.call(case, &["check"])?;
        let said = String::from_utf8(output.stdout)?;
        let lines = said.lines().map(serde_json::from_str);
        let found: Vec<Value> = lines
            .collect::<Result<_, _>>()
            .with_context(|| said.clone())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!found.is_empty(), "{}: nothing said: {errors}", case.name);
        Ok((found, output.status.code().unwrap_or(-1)))
    }

    /// Every case: the first failed line (for a warning: the line with the code) says the words and
    /// what to do, every part was looked at, and the exit code is the worst.
    pub(super) fn expect(&self, cases: &[Case]) -> Result<()> {
        let mut wrong = Vec::new();
        for case in cases {
            let (found, exit) = self.check(case)?;
            let is_error = case.code.starts_with("E-");
            let first = found.iter().find(|it| {
                if is_error {
                    it["mark"] == "failed"
                } else {
                    it["code"] == case.code.as_str()
                }
            });
            let is_named = first.is_some_and(|it| {
                let parts = ["part", "text", "remedy"];
                it["code"] == case.code.as_str()
                    && it.to_string().contains(&case.says)
                    && parts
                        .iter()
                        .all(|part| it[part].as_str().is_some_and(|text| !text.is_empty()))
            });
            let codes = found.iter().filter_map(|it| it["code"].as_str());
            let worst = codes
                .map(|code| i32::from(cloud::explain::page(code).unwrap().exit))
                .max();
            let parts = ["settings", "redis", "stream", "database"];
            let is_whole = parts
                .iter()
                .all(|part| found.iter().any(|it| it["part"] == *part));
            if !is_named || !is_whole || worst != Some(exit) {
                let bad = found.iter().filter(|it| it["mark"] != "ok");
                let bad: Vec<String> = bad.map(|it| format!("    {it}\n")).collect();
                wrong.push(format!(
                    "{}: wanted {} saying {:?}, exit {worst:?}, found exit {exit}:\n{}",
                    case.name,
                    case.code,
                    case.says,
                    bad.concat()
                ));
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
