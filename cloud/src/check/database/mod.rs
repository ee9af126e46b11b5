//! The database: what it is, what state it is in, and what we may do there.

mod judge;
mod way;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::Look;
use crate::config::Config;
use crate::explain::database as pages;
use crate::store::{Database, DatabaseError, Timescale, migrate};
use crate::stream::consumer::chained;
use judge::{Chunks, DeadLetters, Engine, Facts, Missing, Server};

/// Tables, and what the processor does with each.
const RECORDS: [(&str, &[&str]); 9] = [
    ("devices", &["SELECT", "INSERT", "UPDATE"]),
    ("positions", &["SELECT", "INSERT"]),
    ("positions_quarantine", &["SELECT", "INSERT"]),
    ("frames", &["SELECT", "INSERT"]),
    ("messages", &["SELECT", "INSERT"]),
    ("device_latest", &["SELECT", "INSERT", "UPDATE"]),
    ("dead_letters", &["SELECT", "INSERT", "UPDATE"]),
    ("spools", &["SELECT", "INSERT", "UPDATE"]),
    ("settled", &["SELECT", "INSERT", "DELETE"]),
];

/// The same for commands.
const COMMANDS: [(&str, &[&str]); 2] = [
    ("commands", &["SELECT", "UPDATE"]),
    ("command_events", &["SELECT", "INSERT"]),
];

/// The same for sensors.
const SENSORS: (&str, &[&str]) = ("sensor_readings", &["SELECT", "INSERT"]);

/// The findings.
pub(super) async fn look(database: &Database, config: &Config) -> Look {
    let mut look = Look::new("database");
    match facts(database, config).await {
        Ok(facts) => judge::judge(&facts, config, &mut look),
        Err(failure) => way::told(&mut look, &failure),
    }
    look
}

async fn facts(database: &Database, config: &Config) -> Result<Facts, DatabaseError> {
    let mut connection = database.connect().await?;
    let on = &mut connection;
    let server = server(on)
        .await
        .map_err(|source| database.refused("looking at its settings", source))?;
    let engine = engine(database, on).await?;
    let steps = match migrate::status(database, on).await {
        Ok(steps) => Some(steps),
        // Whoever may not read what was applied may not read the rest either; that is told below.
        Err(DatabaseError::Refused { .. } | DatabaseError::Migrate { .. }) => None,
        Err(failure) => return Err(failure),
    };
    let has_jobs = matches!(engine, Engine::Hypertables { .. });
    let missing = missing(on, config, has_jobs)
        .await
        .map_err(|source| database.refused("looking at privileges", source))?;
    let dead_letters = dead_letters(on).await.ok().flatten();
    let (chunks, failed_jobs) = if has_jobs {
        (chunks(on).await.ok(), failed_jobs(on).await.ok())
    } else {
        (None, None)
    };
    // The findings stand whether or not the server hears the farewell.
    let _ = connection.close().await;
    Ok(Facts {
        url: database.url().to_owned(),
        server,
        engine,
        steps,
        missing,
        dead_letters,
        chunks,
        failed_jobs,
    })
}

/// Settings of this session, which are those of the role in this database; but for the time zone, which
/// our sessions always set to UTC: of it, what the database gives to others.
async fn server(on: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row = sqlx::query(
        "SELECT current_setting('server_version') AS version, \
                current_setting('server_version_num')::int4 AS number, \
                pg_is_in_recovery() AS standby, \
                current_setting('transaction_read_only') = 'on' AS read_only, \
                current_setting('default_transaction_isolation') AS isolation, \
                (SELECT split_part(c, '=', 2) \
                 FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c \
                 WHERE lower(c) LIKE 'timezone=%' AND s.setrole = 0 AND s.setdatabase IN \
                    (SELECT oid FROM pg_database WHERE datname = current_database())) AS time_zone, \
                current_setting('server_encoding') AS encoding, \
                current_setting('max_connections')::int8 \
                    - current_setting('superuser_reserved_connections')::int8 AS places, \
                (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL \
                    AND application_name <> 'milepost-cloud') AS used, \
                array_remove(ARRAY[ \
                    CASE WHEN current_setting('fsync') = 'off' THEN 'fsync' END, \
                    CASE WHEN current_setting('full_page_writes') = 'off' THEN 'full_page_writes' END, \
                    CASE WHEN current_setting('synchronous_commit') = 'off' THEN 'synchronous_commit' END \
                ], NULL) AS careless, \
                current_schema()::text AS schema, current_user::text AS login, \
                pg_database_size(current_database()) AS bytes",
    )
    .fetch_one(on)
    .await?;
    Ok(Server {
        version: row.try_get("version")?,
        number: row.try_get("number")?,
        is_standby: row.try_get("standby")?,
        is_read_only: row.try_get("read_only")?,
        isolation: row.try_get("isolation")?,
        time_zone: row.try_get("time_zone")?,
        encoding: row.try_get("encoding")?,
        places: row.try_get("places")?,
        used: row.try_get("used")?,
        careless: row.try_get("careless")?,
        schema: row.try_get("schema")?,
        login: row.try_get("login")?,
        bytes: row.try_get("bytes")?,
    })
}

async fn engine(database: &Database, on: &mut PgConnection) -> Result<Engine, DatabaseError> {
    match database.timescale(on).await {
        Ok(Timescale::Yes { version, license }) => match database.has_hypertables(on).await {
            Ok(true) => Ok(Engine::Hypertables { version, license }),
            Ok(false) => Ok(Engine::Ordinary { version, license }),
            Err(DatabaseError::OrdinaryTables { .. }) => Ok(Engine::Ordinary { version, license }),
            Err(failure) => Err(failure),
        },
        Ok(Timescale::No) | Err(DatabaseError::NoTimescale { .. }) => {
            let available = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')",
            );
            let is_available = available.fetch_one(on).await.unwrap_or(false);
            Ok(Engine::Plain { is_available })
        }
        Err(failure) => Err(failure),
    }
}

/// What the role may not do with tables that are there.
async fn missing(
    on: &mut PgConnection,
    config: &Config,
    has_jobs: bool,
) -> Result<Vec<Missing>, sqlx::Error> {
    let (mut tables, mut rights) = (Vec::new(), Vec::new());
    let mut need = |table: &'static str, right: &'static str| {
        tables.push(table);
        rights.push(right);
    };
    let commands = config.commands.map_or(&[][..], |_| &COMMANDS[..]);
    let sensors = config.sensors.iter().map(|_| &SENSORS);
    for (table, all) in RECORDS.iter().chain(commands).chain(sensors) {
        all.iter().for_each(|right| need(table, right));
    }
    need("_sqlx_migrations", "SELECT");
    // Without jobs of TimescaleDB the processor deletes what is old by itself.
    if !has_jobs && config.policies.retention.is_some() {
        need("positions", "DELETE");
    }
    if !has_jobs && config.policies.frames_retention.is_some() {
        need("frames", "DELETE");
    }
    if !has_jobs && config.policies.sensors_retention.is_some() {
        need("sensor_readings", "DELETE");
    }
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT a.t, a.p FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS a(t, p, n) \
         WHERE NOT has_table_privilege(to_regclass(a.t)::oid, a.p) ORDER BY a.n",
    )
    .bind(tables)
    .bind(rights)
    .fetch_all(on)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(table, right)| Missing { table, right })
        .collect())
}

async fn dead_letters(on: &mut PgConnection) -> Result<Option<DeadLetters>, sqlx::Error> {
    let there: Option<String> = sqlx::query_scalar("SELECT to_regclass('dead_letters')::text")
        .fetch_one(&mut *on)
        .await?;
    if there.is_none() {
        return Ok(None);
    }
    let (all, lately, newest): (i64, i64, Option<String>) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE last_failed > now() - interval '1 hour'), \
                (SELECT error_class || ': ' || reason FROM dead_letters \
                 WHERE redriven_at IS NULL ORDER BY last_failed DESC LIMIT 1) \
         FROM dead_letters WHERE redriven_at IS NULL",
    )
    .fetch_one(on)
    .await?;
    Ok(Some(DeadLetters {
        all,
        lately,
        newest,
    }))
}

async fn chunks(on: &mut PgConnection) -> Result<Chunks, sqlx::Error> {
    let (count, oldest, newest): (i64, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT count(*), min(range_start)::date::text, max(range_end)::date::text \
         FROM timescaledb_information.chunks \
         WHERE hypertable_schema = current_schema() AND hypertable_name = 'positions'",
    )
    .fetch_one(on)
    .await?;
    Ok(Chunks {
        count,
        oldest: oldest.unwrap_or_default(),
        newest: newest.unwrap_or_default(),
    })
}

/// Jobs on our tables whose last run failed, a phrase each.
async fn failed_jobs(on: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('job %s (%s on %s)', s.job_id, j.proc_name, j.hypertable_name) \
         FROM timescaledb_information.job_stats s \
         JOIN timescaledb_information.jobs j USING (job_id) \
         WHERE s.last_run_status = 'Failed' AND j.hypertable_name IS NOT NULL ORDER BY s.job_id",
    )
    .fetch_all(on)
    .await
}

/// A question that failed although the connection stands; for parts beside this one.
pub(super) fn unusable(look: &mut Look, doing: &str, error: &sqlx::Error) {
    look.bad(
        &pages::UNUSABLE,
        format!("{doing}: {}", chained(error)),
        "look up the answer; its log may say more",
    );
}
