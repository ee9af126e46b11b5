//! The servers everything is measured with: one Redis, one PostgreSQL, both private.
//!
//! Invariant: floor and product use the same server with the same settings; nothing is set for speed
//! that an operator would not set. `shared_buffers` is a quarter of a small server's memory, as
//! PostgreSQL's manual advises (Resource Consumption, Memory): with the 32 MB of the tests, COPY waits
//! for the disk whenever it needs a page, in the product's transactions more than in the floor's.
//! `track_commit_timestamp` costs 10 bytes a transaction and is how the delay is known.

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::servers::{ADMIN, Postgres, Redis, RedisOptions};

use crate::print::progress;

/// Set before the start; the rest is the server's default.
const SETTINGS: [&str; 3] = [
    "ALTER SYSTEM SET shared_buffers = '512MB'",
    "ALTER SYSTEM SET track_commit_timestamp = on",
    "ALTER SYSTEM SET max_wal_size = '4GB'",
];

/// A server with TimescaleDB that is there already.
const TIMESCALE_VARIABLE: &str = "MILEPOST_TEST_TIMESCALE_URL";

/// Everything that runs all the time.
pub struct Stage {
    /// Over TLS, as in the field.
    pub redis: Redis,
    /// On the disk of the temporary directory.
    pub postgres: Postgres,
}

impl Stage {
    /// Starts the servers.
    /// # Errors
    /// When one does not come up.
    pub async fn set_up() -> Result<Self> {
        progress("starting Redis and PostgreSQL");
        let redis = Redis::start(RedisOptions {
            // A rewrite of its file would fall upon any turn.
            config: vec!["auto-aof-rewrite-percentage 0".to_owned()],
            ..RedisOptions::default()
        })
        .await?;
        let mut postgres = Postgres::start().await?;
        let mut admin = PgConnection::connect(&postgres.url("postgres")).await?;
        for setting in SETTINGS {
            sqlx::query(setting).execute(&mut admin).await?;
        }
        admin.close().await?;
        postgres.restart().await?;
        Ok(Self { redis, postgres })
    }

    /// The servers, as a reader of the figures must know them.
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn describe(&self) -> Result<String> {
        let mut admin = PgConnection::connect(&self.postgres.url("postgres")).await?;
        let (version, buffers, wal): (String, String, String) = sqlx::query_as(
            "SELECT current_setting('server_version'), current_setting('shared_buffers'), \
             current_setting('max_wal_size')",
        )
        .fetch_one(&mut admin)
        .await?;
        admin.close().await?;
        Ok(format!(
            "PostgreSQL {version}, shared_buffers {buffers}, max_wal_size {wal}, fsync and synchronous_commit on"
        ))
    }

    /// A connection that may do everything.
    /// # Errors
    /// When Redis does not answer.
    pub async fn admin(&self) -> Result<MultiplexedConnection> {
        let client = self.redis.client(ADMIN)?;
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(std::time::Duration::from_secs(60)));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connection.context("the bench's Redis does not answer")
    }
}

/// A database of its own on somebody's TimescaleDB; removed by [`Guest::leave`].
pub struct Guest {
    /// Where its tables go.
    pub url: String,
    server: String,
    name: String,
}

impl Guest {
    /// `None` when no server is named.
    /// # Errors
    /// When it is named and does not let us.
    pub async fn enter() -> Result<Option<Self>> {
        let server = std::env::var(TIMESCALE_VARIABLE).ok();
        let Some(server) = server.filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let name = format!("milepost_bench_{}", std::process::id());
        let mut admin = PgConnection::connect(&server)
            .await
            .context(TIMESCALE_VARIABLE)?;
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut admin).await?;
        admin.close().await?;
        let (head, tail) = match server.split_once('?') {
            Some((head, tail)) => (head, format!("?{tail}")),
            None => (server.as_str(), String::new()),
        };
        let head = head.rsplit_once('/').map_or(head, |(head, _)| head);
        let url = format!("{head}/{name}{tail}");
        let mut inside = PgConnection::connect(&url).await?;
        sqlx::query("CREATE EXTENSION IF NOT EXISTS timescaledb")
            .execute(&mut inside)
            .await?;
        inside.close().await?;
        Ok(Some(Self { url, server, name }))
    }

    /// Removes the database.
    /// # Errors
    /// When the server does not let us.
    pub async fn leave(self) -> Result<()> {
        let mut admin = PgConnection::connect(&self.server).await?;
        let drop = AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name));
        sqlx::query(drop).execute(&mut admin).await?;
        Ok(admin.close().await?)
    }
}
