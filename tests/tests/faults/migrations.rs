//! `cloud migrate up` is killed, and a schema that is older or newer than the program.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tests::fail_points::{Scenario, VARIABLE, of};
use tests::processes::{Road, RoadOptions, program_path};
use tests::servers::Postgres;
use tests::tables::{Tables, eventually};
use tokio::process::Command;

const SIGABRT: i32 = 6;

/// `cloud migrate up` for one database.
struct Migrating {
    dir: TempDir,
}

impl Migrating {
    fn new(url: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(
            dir.path().join("cloud.toml"),
            format!("[database]\nurl = \"{url}\"\n"),
        )?;
        Ok(Self { dir })
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(program_path("cloud")?);
        command
            .env_clear()
            .args(["migrate", "up", "--config"])
            .arg(self.dir.path().join("cloud.toml"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, fail_point: Option<&str>) -> Result<Output> {
        let mut command = self.command()?;
        if let Some(name) = fail_point {
            command.env(VARIABLE, name);
        }
        let output = tokio::time::timeout(Duration::from_secs(60), command.output());
        output.await.context("it ends")?.context("it starts")
    }
}

/// Tables, views, functions, constraints and how much the dictionary has: what a migration makes.
async fn made(tables: &Tables) -> Result<Vec<(String,)>> {
    tables
        .all(
            "SELECT format('%s %s', relkind, relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace \
             UNION ALL SELECT format('function %s', oid::regprocedure) FROM pg_proc WHERE pronamespace = 'public'::regnamespace \
             UNION ALL SELECT format('constraint %s', conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
             UNION ALL SELECT format('dictionary %s', count(*)) FROM io_dictionary \
             UNION ALL SELECT format('meanings %s', count(*)) FROM io_meanings \
             UNION ALL SELECT format('version %s', version) FROM _sqlx_migrations WHERE success \
             ORDER BY 1",
        )
        .await
}

/// Whatever was done before, the same tables stand there after one run, and another changes nothing.
async fn ends_the_same(url: &str, whole: &[(String,)], after: &str) -> Result<()> {
    let migrating = Migrating::new(url)?;
    for _ in 0..2 {
        let output = migrating.run(None).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "after {after}: {said}");
    }
    let made = made(&Tables::connect(url).await?).await?;
    assert_eq!(made, whole, "after {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_migration_is_finished_by_the_next_run() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database().await?;
    let output = Migrating::new(&url)?.run(None).await?;
    ensure!(output.status.success(), "{output:?}");
    let whole = made(&Tables::connect(&url).await?).await?;
    ensure!(whole.len() > 50, "{whole:?}");
    for name in of(Scenario::Migration)? {
        let url = postgres.create_database().await?;
        let output = Migrating::new(&url)?.run(Some(name)).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.signal() == Some(SIGABRT) && said.contains(name),
            "{name}: {output:?}"
        );
        ends_the_same(&url, &whole, name).await?;
    }
    // In the middle of the statements of each file: at the first view, the first function, and so on.
    for tag in ["CREATE VIEW", "CREATE FUNCTION", "CREATE TRIGGER"] {
        let url = postgres.create_database().await?;
        let tables = Tables::connect(&url).await?;
        tables
            .run(&format!(
                "CREATE FUNCTION wait_here() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); END'; \
                 CREATE EVENT TRIGGER wait_here ON ddl_command_end WHEN TAG IN ('{tag}') EXECUTE FUNCTION wait_here()"
            ))
            .await?;
        let migrating = Migrating::new(&url)?;
        let mut child = migrating.command()?.spawn()?;
        let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        eventually("it is in the middle", async || {
            Ok(tables.rows(waiting).await? == 1)
        })
        .await
        .context(tag)?;
        child.kill().await?;
        // The server would notice when it next speaks to the one who is gone.
        tables
            .run(&format!(
                "SELECT pg_terminate_backend(pid) FROM ({waiting}) AS w"
            ))
            .await?;
        eventually("its session is gone", async || {
            Ok(tables.rows(waiting).await? == 0)
        })
        .await?;
        tables
            .run("DROP EVENT TRIGGER wait_here; DROP FUNCTION wait_here()")
            .await?;
        ends_the_same(&url, &whole, tag).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_older_than_the_program_are_refused_and_newer_ones_are_told() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let newest: (i64,) = tables
        .one("SELECT max(version) FROM _sqlx_migrations")
        .await?;
    let newest = newest.0;
    tables
        .run(&format!(
            "CREATE TABLE put_aside AS SELECT * FROM _sqlx_migrations WHERE version = {newest}; \
             DELETE FROM _sqlx_migrations WHERE version = {newest}"
        ))
        .await?;
    let refusal = format!("{:#}", road.cloud.restart().await.unwrap_err());
    for words in [
        "misses migrations",
        &format!("{newest} ("),
        "run `cloud migrate up`",
    ] {
        ensure!(refusal.contains(words), "{words}: {refusal}");
    }
    let ended = road.cloud.ended()?.context("it ended")?;
    assert_eq!(ended.code(), Some(1));

    tables
        .run(
            "INSERT INTO _sqlx_migrations SELECT * FROM put_aside; \
             INSERT INTO _sqlx_migrations SELECT (jsonb_populate_record(p, '{\"version\": 9999}')).* FROM put_aside p",
        )
        .await?;
    road.cloud.restart().await?;
    let log = std::fs::read_to_string(road.cloud.log())?;
    ensure!(
        log.contains("migrated by another version of this program"),
        "{log}"
    );
    let refusal = road.cloud.call(&["migrate", "up"]).await.unwrap_err();
    let refusal = format!("{refusal:#}");
    ensure!(refusal.contains("9999"), "{refusal}");
    // What it does not know it leaves as it is.
    let there = sqlx::query_scalar(AssertSqlSafe(
        "SELECT count(*) FROM _sqlx_migrations WHERE version = 9999".to_owned(),
    ));
    let pool = sqlx::postgres::PgPool::connect(road.database_url()).await?;
    let there: i64 = there.fetch_one(&pool).await?;
    assert_eq!(there, 1);
    Ok(())
}
