//! Taking migrations back.
//!
//! Why every script says what it loses: a way back that deletes must be able to say how much before
//! it does, and counting asks for no lock that anybody notices.
//!
//! Invariants: all the steps of one call or none of them, in one transaction; rows are counted once
//! more in there, behind a lock, so that what was not agreed to is not deleted; nothing is taken back
//! that this program does not know.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::Migrate as _;
use sqlx::postgres::PgConnection;
use thiserror::Error;

use super::database::{Database, DatabaseError};
use super::migrate::{self, Standing, Step};

/// Longest wait for a table that somebody else works on. A lock that waits holds up everybody who
/// comes after it.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);

/// SQLSTATE `lock_not_available`.
const LOCKED: &str = "55P03";

/// Why nothing was taken back.
#[derive(Debug, Error)]
pub enum DownError {
    /// Agree with --yes, or keep them.
    #[error(
        "going back would delete {}\n  why  {}\n  do   back them up, then say --yes; --dry-run shows the statements",
        told(*.rows), .what.join(", ")
    )]
    AtRisk {
        /// In all tables.
        rows: u64,
        /// `positions 12 rows`, one for each table.
        what: Vec<String>,
    },
    /// Take back fewer.
    #[error(
        "{asked} migrations are to be taken back and {applied} are applied\n  do   see `cloud migrate status`"
    )]
    TooMany {
        /// As typed.
        asked: usize,
        /// Applied ones.
        applied: usize,
    },
    /// Use the program that applied it.
    #[error(
        "migration {version} cannot be taken back\n  why  {why}\n  do   use the version of `cloud` that applied it"
    )]
    NoWay {
        /// Its number.
        version: i64,
        /// What is wrong.
        why: &'static str,
    },
    /// Stop what works on the tables, then try again.
    #[error(
        "a table is in use and was not free within {} s; nothing was changed\n  do   stop every `cloud run` and whoever else works on the tables, then try again",
        LOCK_WAIT_MAX.as_secs()
    )]
    InUse(#[source] sqlx::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl DownError {
    /// 1 failed, 2 usage, 3 cannot reach, 4 data at risk.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AtRisk { .. } => 4,
            Self::TooMany { .. } => 2,
            Self::NoWay { .. } | Self::InUse(_) => 1,
            Self::Database(error) => error.exit_code(),
        }
    }
}

fn told(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    }
}

/// Rows that go with a table, or values that go with a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// `table` or `table.column`.
    pub what: String,
    /// How many; at most this many when rows come in meanwhile.
    pub rows: u64,
}

/// One migration on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// What is run.
    pub sql: String,
    /// What goes, empty ones left out.
    pub losses: Vec<Loss>,
}

/// What taking back the newest `steps` migrations would do, the newest first. Changes nothing.
/// # Errors
/// [`DownError::TooMany`], [`DownError::NoWay`], [`DownError::Database`].
pub async fn plan(
    database: &Database,
    on: &mut PgConnection,
    steps: usize,
) -> Result<Vec<Back>, DownError> {
    let mut backs = chosen(&migrate::status(database, &mut *on).await?, steps)?;
    for back in &mut backs {
        back.losses = count(database, &mut *on, &back.sql).await?;
    }
    Ok(backs)
}

fn chosen(status: &[Step], steps: usize) -> Result<Vec<Back>, DownError> {
    let applied = status.iter().filter(|s| s.standing != Standing::Pending);
    let applied: Vec<&Step> = applied.collect();
    if steps > applied.len() {
        let (asked, applied) = (steps, applied.len());
        return Err(DownError::TooMany { asked, applied });
    }
    let newest = applied.iter().rev().take(steps);
    let backs = newest.map(|step| {
        let version = step.version;
        let no_way = |why| DownError::NoWay { version, why };
        let back = match step.standing {
            Standing::Newer => return Err(no_way("this version does not know it")),
            Standing::Changed => return Err(no_way("it was applied with another text than ours")),
            Standing::Applied | Standing::Pending => migrate::way_back(version),
        };
        let back = back.ok_or_else(|| no_way("it has no way back"))?;
        Ok(Back {
            version,
            description: step.description.clone(),
            sql: back.sql.as_str().to_owned(),
            losses: Vec::new(),
        })
    });
    backs.collect()
}

/// Takes back what [`plan`] told, all or nothing. Without `agreed`, only if no row goes.
/// # Errors
/// [`DownError`]: nothing was changed.
pub async fn down(
    database: &Database,
    on: &mut PgConnection,
    steps: usize,
    agreed: bool,
) -> Result<Vec<Back>, DownError> {
    // The same lock as for the way up: two that migrate at once wait for one another.
    let refused = |source| DownError::Database(migrate::told(database, source));
    on.lock().await.map_err(refused)?;
    let taken = within(database, on, steps, agreed).await;
    // The farewell of a connection releases it as well.
    let _ = on.unlock().await;
    taken
}

async fn within(
    database: &Database,
    on: &mut PgConnection,
    steps: usize,
    agreed: bool,
) -> Result<Vec<Back>, DownError> {
    let refused = |source| failure(database, source);
    let mut backs = chosen(&migrate::status(database, &mut *on).await?, steps)?;
    let mut on = on.begin().await.map_err(refused)?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", LOCK_WAIT_MAX.as_millis()))
        .execute(&mut *on)
        .await
        .map_err(refused)?;
    // Counted before anything goes: an older script may name a column of a table that is dropped.
    for back in &mut backs {
        for table in tables(&mut on, &back.sql).await.map_err(refused)? {
            let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
            sqlx::query(sqlx::AssertSqlSafe(lock))
                .execute(&mut *on)
                .await
                .map_err(refused)?;
        }
        back.losses = count(database, &mut on, &back.sql).await?;
    }
    at_risk(&backs, agreed)?;
    for back in &backs {
        sqlx::raw_sql(sqlx::AssertSqlSafe(back.sql.clone()))
            .execute(&mut *on)
            .await
            .map_err(refused)?;
        let forget = format!("DELETE FROM {} WHERE version = $1", migrate::TABLE);
        sqlx::query(sqlx::AssertSqlSafe(forget))
            .bind(back.version)
            .execute(&mut *on)
            .await
            .map_err(refused)?;
    }
    on.commit().await.map_err(refused)?;
    Ok(backs)
}

/// Would rows go that nobody agreed to lose?
/// # Errors
/// [`DownError::AtRisk`].
pub fn at_risk(backs: &[Back], agreed: bool) -> Result<(), DownError> {
    let losses = || backs.iter().flat_map(|back| &back.losses);
    // A value of a column goes with its row where the table goes too; telling both would count twice.
    let whole = |loss: &&Loss| !loss.what.contains('.');
    let counted: Vec<&Loss> = match losses().any(|loss| whole(&loss)) {
        true => losses().filter(whole).collect(),
        false => losses().collect(),
    };
    let rows = counted.iter().map(|loss| loss.rows).sum();
    if agreed || losses().all(|loss| loss.rows == 0) {
        return Ok(());
    }
    let what = losses().map(|loss| format!("{} {}", loss.what, told(loss.rows)));
    Err(DownError::AtRisk {
        rows,
        what: what.collect(),
    })
}

/// The names behind `-- loses:` in the header of a script.
fn named(sql: &str) -> impl Iterator<Item = &str> {
    let header = sql.lines().take_while(|line| line.starts_with("--"));
    let losing = header.filter_map(|line| line.strip_prefix("-- loses:"));
    losing.flat_map(str::split_whitespace)
}

/// Those of them that hold rows: an ordinary view has none of its own.
async fn tables(on: &mut PgConnection, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut tables = Vec::new();
    for name in named(sql) {
        let table = name.split('.').next().unwrap_or(name);
        let kind: Option<String> = sqlx::query_scalar(
            "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p')",
        )
        .bind(table)
        .fetch_optional(&mut *on)
        .await?;
        if kind.is_some() && !tables.iter().any(|known| known == table) {
            tables.push(table.to_owned());
        }
    }
    Ok(tables)
}

async fn count(
    database: &Database,
    on: &mut PgConnection,
    sql: &str,
) -> Result<Vec<Loss>, DownError> {
    let refused = |source| failure(database, source);
    let tables = tables(&mut *on, sql).await.map_err(refused)?;
    let mut losses = Vec::new();
    for name in named(sql) {
        let (table, column) = name.split_once('.').unwrap_or((name, "*"));
        let holds_rows = tables.iter().any(|known| known == table)
            || is_aggregate(&mut *on, table).await.map_err(refused)?;
        if !holds_rows {
            continue;
        }
        let sql = format!("SELECT count({column}) FROM {table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut *on)
            .await
            .map_err(refused)?;
        if rows > 0 {
            losses.push(Loss {
                what: name.to_owned(),
                rows: u64::try_from(rows).unwrap_or_default(),
            });
        }
    }
    Ok(losses)
}

/// A continuous aggregate looks like a view and holds rows.
async fn is_aggregate(on: &mut PgConnection, view: &str) -> Result<bool, sqlx::Error> {
    let catalog: Option<String> = sqlx::query_scalar(
        "SELECT to_regclass('timescaledb_information.continuous_aggregates')::text",
    )
    .fetch_one(&mut *on)
    .await?;
    if catalog.is_none() {
        return Ok(false);
    }
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates \
         WHERE view_schema = current_schema() AND view_name = $1)",
    )
    .bind(view)
    .fetch_one(on)
    .await
}

fn failure(database: &Database, source: sqlx::Error) -> DownError {
    let code = source.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some(LOCKED) {
        return DownError::InUse(source);
    }
    DownError::Database(database.refused("taking migrations back", source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(version: i64, standing: Standing) -> Step {
        Step {
            version,
            description: String::new(),
            standing,
            sql: String::new(),
        }
    }

    #[test]
    fn the_newest_go_first_and_nothing_unknown_goes() {
        use Standing::{Applied, Changed, Newer, Pending};
        let status = [step(1, Applied), step(2, Applied), step(3, Pending)];
        let versions = |steps| {
            let backs = chosen(&status, steps).unwrap();
            backs.iter().map(|back| back.version).collect::<Vec<_>>()
        };
        assert_eq!(versions(1), [2]);
        assert_eq!(versions(2), [2, 1]);
        let error = chosen(&status, 3).unwrap_err();
        assert!(
            matches!(
                error,
                DownError::TooMany {
                    asked: 3,
                    applied: 2
                }
            ),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        for standing in [Newer, Changed] {
            let error = chosen(&[step(1, Applied), step(9, standing)], 2).unwrap_err();
            assert!(
                matches!(error, DownError::NoWay { version: 9, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn rows_are_told_once_and_values_where_their_table_stays() {
        let back = |losses: &[(&str, u64)]| Back {
            version: 1,
            description: String::new(),
            sql: String::new(),
            losses: losses
                .iter()
                .map(|(what, rows)| Loss {
                    what: (*what).to_owned(),
                    rows: *rows,
                })
                .collect(),
        };
        assert!(at_risk(&[back(&[])], false).is_ok());
        let both = [
            back(&[("devices.family", 3)]),
            back(&[("devices", 5), ("frames", 7)]),
        ];
        assert!(at_risk(&both, true).is_ok());
        let error = at_risk(&both, false).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let text = error.to_string();
        assert!(
            text.contains("12 rows") && text.contains("devices.family 3 rows"),
            "{text}"
        );
        let text = at_risk(&both[..1], false).unwrap_err().to_string();
        assert!(text.contains("would delete 3 rows"), "{text}");
    }

    #[test]
    fn the_header_alone_names_what_goes() {
        let sql = "-- why\n-- loses: a b.c\n-- loses: d\n\n-- loses: e\nDROP TABLE a;";
        assert_eq!(named(sql).collect::<Vec<_>>(), ["a", "b.c", "d"]);
    }
}
