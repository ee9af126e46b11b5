//! What happens to rows as they grow old: chunks, columnstore, retention, aggregates.
//!
//! Why asked before anything is changed: a start must not take locks to set what is set already, and
//! a setting that was changed must count from the next start on.
//!
//! Invariants: applying twice changes nothing; without TimescaleDB nothing is done here, the delete
//! job of [`super::retention`] keeps the tables small. With its Apache edition only chunks are set.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::database::{Database, DatabaseError, Timescale};
use crate::config::PolicyConfig;

/// Frames are read in bulk or not at all: they may be packed early.
const FRAMES_COMPRESS_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Aggregates are computed up to this long ago; what is younger is computed when somebody reads.
const AGGREGATE_END: Duration = Duration::from_secs(3_600);

/// How often aggregates are brought up to date, late rows included.
const AGGREGATE_INTERVAL: Duration = Duration::from_secs(1_800);

/// A large table and how it is packed.
struct Large {
    table: &'static str,
    segment_by: &'static str,
    order_by: &'static str,
}

const LARGE: [Large; 3] = [
    Large {
        table: "positions",
        segment_by: "device_id",
        order_by: "fix_time DESC, record_hash",
    },
    Large {
        table: "frames",
        segment_by: "device_id",
        order_by: "received_at DESC, seq",
    },
    Large {
        table: "sensor_readings",
        segment_by: "device_id, sensor_type",
        order_by: "\"timestamp\" DESC, entry_id",
    },
];

const AGGREGATES: [&str; 2] = ["positions_hourly", "device_daily"];

/// Makes the database as `config` wants it. Returns what was changed, a phrase each.
/// # Errors
/// [`DatabaseError`]: nothing was changed.
pub async fn apply(
    database: &Database,
    on: &mut PgConnection,
    config: &PolicyConfig,
) -> Result<Vec<String>, DatabaseError> {
    let license = match database.timescale(&mut *on).await? {
        Timescale::Yes { license, .. } if database.has_hypertables(&mut *on).await? => license,
        _ => return Ok(Vec::new()),
    };
    let applied = all(on, config, license == "timescale").await;
    applied.map_err(|source| database.refused("setting policies", source))
}

async fn all(
    on: &mut PgConnection,
    config: &PolicyConfig,
    community: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let mut on = on.begin().await?;
    // Two that start together must not both add what is missing.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('milepost.policies'))")
        .execute(&mut *on)
        .await?;
    let mut changed = Vec::new();
    for large in &LARGE {
        if !is_hypertable(&mut on, large.table).await? {
            continue;
        }
        let (compress_after, retention) = match large.table {
            "frames" => (
                config
                    .compress_after
                    .map(|after| after.min(FRAMES_COMPRESS_AFTER)),
                config.frames_retention,
            ),
            "sensor_readings" => (config.compress_after, config.sensors_retention),
            _ => (config.compress_after, config.retention),
        };
        changed.extend(chunks(&mut on, large.table, config.chunk_interval).await?);
        // The Apache edition has neither columnstore nor jobs.
        if !community {
            continue;
        }
        if compress_after.is_some() {
            changed.extend(columnstore(&mut on, large).await?);
        }
        let packing = Job {
            of: large.table,
            procedure: "policy_compression",
            key: "compress_after",
            add: "SELECT add_compression_policy($1::text::regclass, make_interval(secs => $2))",
            remove: "SELECT remove_compression_policy($1::text::regclass, if_exists => true)",
        };
        changed.extend(packing.set(&mut on, compress_after).await?);
        let dropping = Job {
            of: large.table,
            procedure: "policy_retention",
            key: "drop_after",
            add: "SELECT add_retention_policy($1::text::regclass, make_interval(secs => $2))",
            remove: "SELECT remove_retention_policy($1::text::regclass, if_exists => true)",
        };
        changed.extend(dropping.set(&mut on, retention).await?);
    }
    if community {
        for view in AGGREGATES {
            changed.extend(aggregate(&mut on, view, config).await?);
        }
    }
    on.commit().await?;
    Ok(changed)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn days(duration: Option<Duration>) -> String {
    match duration {
        None => "off".to_owned(),
        Some(duration) if duration.as_secs() % 86_400 == 0 => {
            format!("{} days", duration.as_secs() / 86_400)
        }
        Some(duration) => format!("{} s", duration.as_secs()),
    }
}

/// A table may have come when the extension was away.
async fn is_hypertable(on: &mut PgConnection, table: &'static str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables \
         WHERE hypertable_schema = current_schema() AND hypertable_name = $1)",
    )
    .bind(table)
    .fetch_one(on)
    .await
}

/// Of chunks made from now on; older ones stay as they are.
async fn chunks(
    on: &mut PgConnection,
    table: &'static str,
    interval: Duration,
) -> Result<Option<String>, sqlx::Error> {
    let same: Option<bool> = sqlx::query_scalar(
        "SELECT time_interval = make_interval(secs => $2) FROM timescaledb_information.dimensions \
         WHERE hypertable_schema = current_schema() AND hypertable_name = $1 AND dimension_number = 1",
    )
    .bind(table)
    .bind(seconds(interval))
    .fetch_optional(&mut *on)
    .await?
    .flatten();
    if same != Some(false) {
        return Ok(None);
    }
    sqlx::query("SELECT set_chunk_time_interval($1::text::regclass, make_interval(secs => $2))")
        .bind(table)
        .bind(seconds(interval))
        .execute(on)
        .await?;
    Ok(Some(format!(
        "{table}: new chunks of {}",
        days(Some(interval))
    )))
}

async fn columnstore(on: &mut PgConnection, large: &Large) -> Result<Option<String>, sqlx::Error> {
    let enabled: Option<bool> = sqlx::query_scalar(
        "SELECT compression_enabled FROM timescaledb_information.hypertables \
         WHERE hypertable_schema = current_schema() AND hypertable_name = $1",
    )
    .bind(large.table)
    .fetch_optional(&mut *on)
    .await?;
    if enabled != Some(false) {
        return Ok(None);
    }
    let Large {
        table,
        segment_by,
        order_by,
    } = large;
    let sql = format!(
        "ALTER TABLE {table} SET (timescaledb.compress, \
         timescaledb.compress_segmentby = '{segment_by}', \
         timescaledb.compress_orderby = '{order_by}')"
    );
    // Names of our own tables and columns.
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(on).await?;
    Ok(Some(format!("{table}: columnstore by {segment_by}")))
}

/// A background job with one age in it.
struct Job {
    of: &'static str,
    procedure: &'static str,
    key: &'static str,
    add: &'static str,
    remove: &'static str,
}

impl Job {
    async fn set(
        &self,
        on: &mut PgConnection,
        age: Option<Duration>,
    ) -> Result<Option<String>, sqlx::Error> {
        let there: Option<bool> = sqlx::query_scalar(
            "SELECT coalesce((config ->> $3)::interval = make_interval(secs => $4), false) \
             FROM timescaledb_information.jobs \
             WHERE hypertable_schema = current_schema() AND hypertable_name = $1 AND proc_name = $2",
        )
        .bind(self.of)
        .bind(self.procedure)
        .bind(self.key)
        .bind(age.map(seconds))
        .fetch_optional(&mut *on)
        .await?;
        match (there, age) {
            (None, None) | (Some(true), Some(_)) => return Ok(None),
            (Some(_), _) => {
                sqlx::query(self.remove)
                    .bind(self.of)
                    .execute(&mut *on)
                    .await?;
            }
            (None, Some(_)) => {}
        }
        if let Some(age) = age {
            sqlx::query(self.add)
                .bind(self.of)
                .bind(seconds(age))
                .execute(on)
                .await?;
        }
        Ok(Some(format!("{}: {} {}", self.of, self.key, days(age))))
    }
}

/// Refreshes reach back over everything that is kept: only what changed is computed again. Never over
/// what retention dropped: that would empty the aggregate as well.
async fn aggregate(
    on: &mut PgConnection,
    view: &'static str,
    config: &PolicyConfig,
) -> Result<Option<String>, sqlx::Error> {
    let start = config
        .retention
        .map(|keep| keep.saturating_sub(config.chunk_interval));
    let row = sqlx::query(
        "SELECT (SELECT j.config FROM timescaledb_information.jobs j \
                 WHERE j.proc_name = 'policy_refresh_continuous_aggregate' \
                   AND j.hypertable_name IN (c.view_name, c.materialization_hypertable_name)) IS NOT NULL AS there, \
                (SELECT (j.config ->> 'start_offset')::interval IS NOT DISTINCT FROM make_interval(secs => $2) \
                 FROM timescaledb_information.jobs j \
                 WHERE j.proc_name = 'policy_refresh_continuous_aggregate' \
                   AND j.hypertable_name IN (c.view_name, c.materialization_hypertable_name)) AS same \
         FROM timescaledb_information.continuous_aggregates c \
         WHERE c.view_schema = current_schema() AND c.view_name = $1",
    )
    .bind(view)
    .bind(start.map(seconds))
    .fetch_optional(&mut *on)
    .await?;
    // An ordinary view: made while the licence did not allow more.
    let Some(row) = row else { return Ok(None) };
    let there: bool = row.try_get("there")?;
    let same: Option<bool> = row.try_get("same")?;
    if same == Some(true) {
        return Ok(None);
    }
    if there {
        sqlx::query("SELECT remove_continuous_aggregate_policy($1::text::regclass)")
            .bind(view)
            .execute(&mut *on)
            .await?;
    }
    sqlx::query(
        "SELECT add_continuous_aggregate_policy($1::text::regclass, \
             start_offset => make_interval(secs => $2), end_offset => make_interval(secs => $3), \
             schedule_interval => make_interval(secs => $4))",
    )
    .bind(view)
    .bind(start.map(seconds))
    .bind(seconds(AGGREGATE_END))
    .bind(seconds(AGGREGATE_INTERVAL))
    .execute(on)
    .await?;
    Ok(Some(format!("{view}: refreshed every 30 minutes")))
}
