//! Migrations, carried inside the binary.
//!
//! Invariants: applied in order, each in a transaction of its own, by one process at a time (an
//! advisory lock); running them again changes nothing; a processor never runs on tables that are
//! older than it is.

use std::collections::HashMap;

use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};
use super::dictionary;
use crate::fail_point::fail_point;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Where sqlx writes down what was applied.
pub(super) const TABLE: &str = "_sqlx_migrations";

/// How one migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the database as we know it.
    Applied,
    /// To be applied.
    Pending,
    /// In the database, with another text than ours: somebody edited a released migration.
    Changed,
    /// In the database and not in this binary: a newer one was here.
    Newer,
}

impl Standing {
    /// One word for tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Changed => "changed",
            Self::Newer => "newer",
        }
    }
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// How it stands.
    pub standing: Standing,
    /// What it runs; empty for one we do not carry.
    pub sql: String,
}

/// Every migration and how it stands, in order.
/// # Errors
/// [`DatabaseError`].
pub async fn status(
    database: &Database,
    on: &mut PgConnection,
) -> Result<Vec<Step>, DatabaseError> {
    let there: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
        .bind(TABLE)
        .fetch_one(&mut *on)
        .await
        .map_err(|source| database.unreachable(source))?;
    let applied = match there {
        None => Vec::new(),
        Some(_) => on
            .list_applied_migrations(TABLE)
            .await
            .map_err(|source| told(database, source))?,
    };
    let mut applied: HashMap<i64, Vec<u8>> = applied
        .into_iter()
        .map(|migration| (migration.version, migration.checksum.into_owned()))
        .collect();
    let mut steps: Vec<Step> = ups()
        .map(|migration| step(migration, applied.remove(&migration.version)))
        .collect();
    steps.extend(applied.into_keys().map(|version| Step {
        version,
        description: String::new(),
        standing: Standing::Newer,
        sql: String::new(),
    }));
    steps.sort_by_key(|step| step.version);
    Ok(steps)
}

fn ups() -> impl Iterator<Item = &'static Migration> {
    let all = MIGRATOR.iter();
    all.filter(|migration| migration.migration_type.is_up_migration())
}

/// How many migrations this program carries.
#[must_use]
pub fn count() -> usize {
    ups().count()
}

/// The way back of one migration, where there is one.
pub(super) fn way_back(version: i64) -> Option<&'static Migration> {
    let mut all = MIGRATOR.iter();
    all.find(|migration| {
        migration.version == version && migration.migration_type.is_down_migration()
    })
}

fn step(migration: &Migration, applied: Option<Vec<u8>>) -> Step {
    let standing = match applied {
        None => Standing::Pending,
        Some(checksum) if checksum == *migration.checksum => Standing::Applied,
        Some(_) => Standing::Changed,
    };
    Step {
        version: migration.version,
        description: migration.description.to_string(),
        standing,
        sql: migration.sql.as_str().to_owned(),
    }
}

/// Applies what is pending, and loads the dictionary if it is another one. With nothing to do it asks
/// for no right but to read.
/// # Errors
/// [`DatabaseError::Migrate`]: nothing of the failed migration stays.
pub async fn up(database: &Database, on: &mut PgConnection) -> Result<(), DatabaseError> {
    let steps = status(database, &mut *on).await?;
    if !steps.iter().all(|step| step.standing == Standing::Applied) {
        run(database, &mut *on).await?;
    }
    dictionary::load(database, on).await?;
    Ok(())
}

async fn run(database: &Database, on: &mut PgConnection) -> Result<(), DatabaseError> {
    let timescale = if database.timescale_off() {
        "off"
    } else {
        "auto"
    };
    sqlx::query("SELECT set_config('milepost.timescale', $1, false)")
        .bind(timescale)
        .execute(&mut *on)
        .await
        .map_err(|source| database.unreachable(source))?;
    MIGRATOR
        .run_direct(None, &mut *on, false)
        .await
        .map_err(|source| told(database, source))?;
    fail_point!("migrated");
    Ok(())
}

/// Versions a processor needs and does not find.
#[must_use]
pub fn missing(steps: &[Step]) -> Vec<&Step> {
    steps
        .iter()
        .filter(|step| step.standing == Standing::Pending)
        .collect()
}

pub(super) fn told(database: &Database, source: MigrateError) -> DatabaseError {
    match source {
        MigrateError::Execute(source) if source.as_database_error().is_none() => {
            database.unreachable(source)
        }
        source => database.migrate(source),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn migrations_are_numbered_without_holes() {
        let versions: Vec<i64> = ups().map(|migration| migration.version).collect();
        let wanted: Vec<i64> = (1..).take(versions.len()).collect();
        assert_eq!(versions, wanted);
    }

    #[test]
    fn every_migration_has_a_way_back_that_says_what_it_loses() {
        for migration in ups() {
            let back = way_back(migration.version);
            let back = back.unwrap_or_else(|| panic!("no way back from {}", migration.version));
            assert_eq!(back.description, migration.description);
            let header = back
                .sql
                .as_str()
                .lines()
                .take_while(|line| line.starts_with("--"));
            assert!(
                header.into_iter().any(|line| line.starts_with("-- loses:")),
                "{}: name what it loses, or `-- loses:` and nothing behind it",
                migration.version
            );
        }
    }

    #[test]
    fn no_migration_creates_the_extension() {
        for migration in MIGRATOR.iter() {
            for line in migration.sql.as_str().lines() {
                let code = line.split("--").next().unwrap().to_uppercase();
                assert!(
                    !code.contains("CREATE EXTENSION"),
                    "{}",
                    migration.description
                );
            }
        }
    }

    #[test]
    fn a_changed_checksum_is_seen() {
        let migration = MIGRATOR.iter().next().unwrap();
        let standing = |checksum| step(migration, checksum).standing;
        assert_eq!(standing(None), Standing::Pending);
        assert_eq!(
            standing(Some(migration.checksum.to_vec())),
            Standing::Applied
        );
        assert_eq!(standing(Some(vec![0])), Standing::Changed);
    }
}
