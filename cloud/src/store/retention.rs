//! Deletes what is older than wanted where TimescaleDB does not drop whole chunks.
//!
//! Why in small pieces: one large DELETE would hold its locks and its transaction for hours, and
//! nothing behind it could be vacuumed meanwhile.
//!
//! Invariants: one process at a time (an advisory lock); each piece is a transaction; with TimescaleDB
//! of the community edition this does nothing.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::database::{Database, Timescale};
use super::errors::StoreError;
use crate::config::PolicyConfig;

/// Rows in one transaction.
const ROWS_MAX: i64 = 5_000;

/// What [`delete_some`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Rows of `positions`.
    pub positions: u64,
    /// Rows of `frames`.
    pub frames: u64,
    /// Rows of `sensor_readings`.
    pub readings: u64,
    /// There may be more.
    pub more: bool,
}

/// Deletes one piece of each table. Does nothing while another process is at it.
/// # Errors
/// [`StoreError`].
pub async fn delete_some(
    database: &Database,
    config: &PolicyConfig,
) -> Result<Deleted, StoreError> {
    let refused = |source| StoreError::new("deleting what is too old", source);
    let ages = [
        config.retention,
        config.frames_retention,
        config.sensors_retention,
    ];
    if ages.iter().all(Option::is_none) {
        return Ok(Deleted::default());
    }
    let mut on = database.pool().acquire().await.map_err(refused)?;
    if drops_chunks(database, &mut on).await {
        return Ok(Deleted::default());
    }
    let mut on = on.begin().await.map_err(refused)?;
    let ours: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('milepost.retention'))")
            .fetch_one(&mut *on)
            .await
            .map_err(refused)?;
    if !ours {
        return Ok(Deleted::default());
    }
    let positions = "DELETE FROM positions WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM positions WHERE fix_time < now() - make_interval(secs => $1) LIMIT $2))";
    let frames = "DELETE FROM frames WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM frames WHERE received_at < now() - make_interval(secs => $1) LIMIT $2))";
    let readings = "DELETE FROM sensor_readings WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM sensor_readings WHERE \"timestamp\" < now() - make_interval(secs => $1) LIMIT $2))";
    let deleted = Deleted {
        positions: older(&mut on, positions, config.retention)
            .await
            .map_err(refused)?,
        frames: older(&mut on, frames, config.frames_retention)
            .await
            .map_err(refused)?,
        readings: older(&mut on, readings, config.sensors_retention)
            .await
            .map_err(refused)?,
        more: false,
    };
    on.commit().await.map_err(refused)?;
    let full = |rows: u64| i64::try_from(rows).is_ok_and(|rows| rows >= ROWS_MAX);
    Ok(Deleted {
        more: full(deleted.positions) || full(deleted.frames) || full(deleted.readings),
        ..deleted
    })
}

/// Row numbers are those of one chunk: there only whole chunks are dropped, by TimescaleDB itself.
async fn drops_chunks(database: &Database, on: &mut PgConnection) -> bool {
    match database.timescale(on).await {
        Ok(Timescale::No) => false,
        // Cannot be told: deleting can wait.
        Ok(Timescale::Yes { .. }) => database.has_hypertables(on).await.unwrap_or(true),
        Err(_) => true,
    }
}

async fn older(
    on: &mut PgConnection,
    sql: &'static str,
    age: Option<Duration>,
) -> Result<u64, sqlx::Error> {
    let Some(age) = age else { return Ok(0) };
    let done = sqlx::query(sql).bind(age.as_secs_f64()).bind(ROWS_MAX);
    Ok(done.execute(on).await?.rows_affected())
}
