//! A database that is there and says no: to connections, to waiting, to writing.
//!
//! The cloud works as a user of its own, because a superuser has no limits.

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tests::drive::{Drive, options};
use tests::processes::{RoadOptions, Setting, get};
use tests::servers::Postgres;
use tests::tables::{Tables, eventually};

use super::{ends_well, log_bytes, logged, metric};

/// A fleet that drives into a database whose owner is called `writer`.
struct Ruled {
    drive: Drive,
    admin: Tables,
    admin_url: String,
    _postgres: Postgres,
}

impl Ruled {
    async fn start() -> Result<Self> {
        Self::start_with(Vec::new()).await
    }

    async fn start_with(cloud: Vec<Setting>) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let admin_url = postgres.create_database().await?;
        let name = admin_url.rsplit('/').next().context("a database")?;
        let admin = Tables::connect(&admin_url).await?;
        admin
            .run(&format!(
                "CREATE ROLE writer LOGIN PASSWORD 'writer'; ALTER DATABASE {name} OWNER TO writer"
            ))
            .await?;
        let url = format!(
            "postgres://writer:writer@127.0.0.1:{}/{name}",
            postgres.port()
        );
        let drive = Drive::start(RoadOptions {
            cloud,
            database_url: Some(url),
            ..options()
        })
        .await?;
        Ok(Self {
            drive,
            admin,
            admin_url,
            _postgres: postgres,
        })
    }

    /// Holds for sessions that begin now; the cloud's are ended.
    async fn rule(&self, rule: &str) -> Result<()> {
        self.admin
            .run(&format!(
                "ALTER ROLE writer {rule}; SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'milepost-cloud'"
            ))
            .await
    }

    /// While the fleet drives on: the log says why, and the process that it is not ready.
    async fn refused_with(&self, before: usize, words: &str) -> Result<()> {
        let cloud = &self.drive.road.cloud;
        self.drive.acked(300).await?;
        logged(cloud, before, words).await?;
        eventually("it says that it is not ready", async || {
            Ok(get(cloud.http_addr(), "/ready").await?.0 == 503)
        })
        .await
    }

    /// By itself, once the cause is gone.
    async fn recovers(self) -> Result<()> {
        let cloud = &self.drive.road.cloud;
        self.drive.stored(300).await?;
        eventually("it is ready again", async || {
            Ok(get(cloud.http_addr(), "/ready").await?.0 == 200)
        })
        .await?;
        ends_well(&self.drive).await
    }

    /// Somebody else holds the table of positions until this is dropped.
    async fn lock(&self) -> Result<PgConnection> {
        let mut holder = PgConnection::connect(&self.admin_url).await?;
        holder
            .execute("BEGIN; LOCK TABLE positions IN ACCESS EXCLUSIVE MODE")
            .await?;
        Ok(holder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_left_is_named_and_sat_out() -> Result<()> {
    let ruled = Ruled::start().await?;
    let before = log_bytes(&ruled.drive.road.cloud)?;
    ruled.rule("CONNECTION LIMIT 0").await?;
    ruled
        .refused_with(before, "too many connections for role")
        .await?;
    ruled
        .admin
        .run("ALTER ROLE writer CONNECTION LIMIT -1")
        .await?;
    ruled.recovers().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_waited_for_as_long_as_the_database_allows() -> Result<()> {
    let ruled = Ruled::start().await?;
    let before = log_bytes(&ruled.drive.road.cloud)?;
    ruled.rule("SET lock_timeout = '200ms'").await?;
    let holder = ruled.lock().await?;
    ruled.refused_with(before, "SQLSTATE 55P03").await?;
    holder.close().await?;
    ruled.recovers().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_tried_again_and_costs_no_record() -> Result<()> {
    let ruled = Ruled::start().await?;
    let before = log_bytes(&ruled.drive.road.cloud)?;
    ruled.rule("SET statement_timeout = '300ms'").await?;
    let holder = ruled.lock().await?;
    ruled.refused_with(before, "SQLSTATE 57014").await?;
    holder.close().await?;
    ruled.recovers().await
}

/// A primary that became a standby keeps its connections open: each of them would be refused for
/// ever, while the same address leads to another server by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_left_for_a_new_connection() -> Result<()> {
    // One connection: with several, one that was made later would do.
    let ruled = Ruled::start_with(vec![("database.pool", 1.into())]).await?;
    let before = log_bytes(&ruled.drive.road.cloud)?;
    ruled.rule("SET default_transaction_read_only = on").await?;
    ruled.refused_with(before, "SQLSTATE 25006").await?;
    // For sessions that begin now: those that are open stay as they are.
    ruled
        .admin
        .run("ALTER ROLE writer RESET default_transaction_read_only")
        .await?;
    ruled.recovers().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_under_it_stop_it_until_they_are_right_again() -> Result<()> {
    let ruled = Ruled::start().await?;
    let before = log_bytes(&ruled.drive.road.cloud)?;
    ruled
        .admin
        .run("ALTER TABLE settled RENAME TO put_aside")
        .await?;
    ruled
        .refused_with(before, "the tables are not the ones this program knows")
        .await?;
    let cloud = &ruled.drive.road.cloud;
    assert_eq!(metric(cloud, "milepost_cloud_schema_mismatch ").await?, 1);
    let (_, page) = get(cloud.http_addr(), "/ready").await?;
    assert!(page.contains("cloud migrate up"), "{page}");
    ruled
        .admin
        .run("ALTER TABLE put_aside RENAME TO settled")
        .await?;
    ruled.recovers().await
}
