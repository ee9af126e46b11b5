//! What end-to-end tests ask of the tables, with deadlines instead of hope.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, FromRow};

/// Longest wait for anything; far above what a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until `check` says yes; its errors count as no.
/// # Errors
/// When it does not within [`DEADLINE`]: the message has the last answer.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let looked = check().await;
        if matches!(looked, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not within {DEADLINE:?}: {what} ({looked:?})");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A look at the database. One connection, so that it also works where there is only one.
#[derive(Debug)]
pub struct Tables {
    pool: PgPool,
}

impl Tables {
    /// # Errors
    /// When the database does not answer.
    pub async fn connect(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await;
        Ok(Self {
            pool: pool.context("the database answers")?,
        })
    }

    /// The one row of `sql`.
    /// # Errors
    /// When there is none, or the database refuses.
    pub async fn one<T>(&self, sql: &'static str) -> Result<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(sqlx::query_as(sql).fetch_one(&self.pool).await?)
    }

    /// Every row of `sql`.
    /// # Errors
    /// When the database refuses.
    pub async fn all<T>(&self, sql: &'static str) -> Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(sqlx::query_as(sql).fetch_all(&self.pool).await?)
    }

    /// Runs `sql`, which may be several statements.
    /// # Errors
    /// When the database refuses.
    pub async fn run(&self, sql: &str) -> Result<()> {
        // Tests write their SQL themselves.
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many rows one statement returns.
    /// # Errors
    /// When the database refuses.
    pub async fn rows(&self, sql: &str) -> Result<usize> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(sqlx::query(sql).fetch_all(&self.pool).await?.len())
    }

    /// Waits until `sql` counts exactly `expected`; more is an error at once.
    /// # Errors
    /// When it does not within [`DEADLINE`].
    pub async fn wait_for(&self, sql: &'static str, expected: i64) -> Result<()> {
        let mut last = 0;
        let waited = eventually(sql, async || {
            (last,) = self.one::<(i64,)>(sql).await?;
            Ok(last >= expected)
        });
        waited
            .await
            .with_context(|| format!("{sql}: {expected} expected"))?;
        if last > expected {
            bail!("{sql}: {last}, {expected} expected");
        }
        Ok(())
    }

    /// The positions of one tracker as JSON once there are `count`, oldest first; coordinates and
    /// times as the integers that were sent.
    /// # Errors
    /// When there are fewer after [`DEADLINE`], or more.
    pub async fn positions(&self, imei: u64, count: usize) -> Result<Vec<Value>> {
        let rows = "SELECT to_jsonb(p) - '{device_id,fix_time,record_hash,received_at,stored_at,latitude,longitude}'::text[] \
             || jsonb_build_object('fix_time_ms', (extract(epoch FROM fix_time) * 1000)::bigint, \
                                   'latitude_e7', round(latitude * 1e7)::bigint, \
                                   'longitude_e7', round(longitude * 1e7)::bigint) \
             FROM positions p JOIN devices d ON d.id = p.device_id WHERE d.imei = $1 ORDER BY fix_time";
        self.of_imei(rows, imei, count).await
    }

    /// The raw data fields of one tracker, in the order of the spool.
    /// # Errors
    /// As [`Tables::positions`].
    pub async fn frames(&self, imei: u64, count: usize) -> Result<Vec<Vec<u8>>> {
        let rows = "SELECT data FROM frames f JOIN devices d ON d.id = f.device_id WHERE d.imei = $1 ORDER BY seq";
        self.of_imei(rows, imei, count).await
    }

    async fn of_imei<T>(&self, sql: &'static str, imei: u64, count: usize) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut rows: Vec<T> = Vec::new();
        eventually(sql, async || {
            rows = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(i64::try_from(imei)?)
                .fetch_all(&self.pool)
                .await?;
            Ok(rows.len() >= count)
        })
        .await?;
        if rows.len() > count {
            bail!(
                "{} rows of …{:04}, {count} expected",
                rows.len(),
                imei % 10_000
            );
        }
        Ok(rows)
    }
}
