//! Two roles of least privilege: one for a processor, one for people and dashboards.
//!
//! Why no migration: roles belong to the whole cluster and tables to one database. A way back would
//! take a role from under another database, and a migration that ran once cannot grant on tables that
//! came later.
//!
//! Invariants: both roles are NOLOGIN, so a password is never ours; every relation stands in
//! [`RELATIONS`], a test compares; applying twice changes nothing.

use std::fmt::Write as _;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};

/// Membership makes a login a processor.
pub const WRITER: &str = "milepost_writer";

/// Membership lets a login read.
pub const READER: &str = "milepost_reader";

/// SQLSTATE `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// What a kind of relation is to each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records: written by the processor, read by everybody.
    Records,
    /// What trackers and people said in words, and bytes nobody could read: passwords of a network
    /// stand in commands. Written by the processor, read by nobody else.
    Private,
    /// As [`Kind::Private`], and never changed.
    History,
    /// Comes with the program or from its owner: read by both.
    Meanings,
    /// For the processor to see whether it fits the tables.
    Versions,
}

/// Every table and view, and what it is.
pub const RELATIONS: &[(&str, Kind)] = &[
    ("devices", Kind::Records),
    ("positions", Kind::Records),
    ("positions_quarantine", Kind::Records),
    ("device_latest", Kind::Records),
    ("sensor_readings", Kind::Records),
    ("spools", Kind::Records),
    ("settled", Kind::Records),
    ("frames", Kind::Private),
    ("messages", Kind::Private),
    ("dead_letters", Kind::Private),
    ("commands", Kind::Private),
    ("command_events", Kind::History),
    ("io_dictionary", Kind::Meanings),
    ("io_dictionary_version", Kind::Meanings),
    ("io_dictionary_overrides", Kind::Meanings),
    ("io_meanings", Kind::Meanings),
    ("ledger", Kind::Meanings),
    ("telemetry", Kind::Meanings),
    ("positions_hourly", Kind::Meanings),
    ("device_daily", Kind::Meanings),
    ("_sqlx_migrations", Kind::Versions),
];

impl Kind {
    fn grants(self) -> &'static [(&'static str, &'static str)] {
        const ALL: &str = "SELECT, INSERT, UPDATE, DELETE";
        match self {
            Self::Records => &[(ALL, WRITER), ("SELECT", READER)],
            Self::Private => &[(ALL, WRITER)],
            Self::History => &[("SELECT, INSERT", WRITER)],
            Self::Meanings => &[("SELECT", WRITER), ("SELECT", READER)],
            Self::Versions => &[("SELECT", WRITER)],
        }
    }
}

/// Every statement, in order; each may be run again.
#[must_use]
pub fn statements() -> Vec<String> {
    let mut all: Vec<String> = [WRITER, READER].map(create).to_vec();
    all.extend(grants());
    all
}

/// PostgreSQL has no CREATE ROLE IF NOT EXISTS, and two may come at once.
fn create(role: &str) -> String {
    format!(
        "DO $$ BEGIN\n    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN\n        \
         CREATE ROLE {role} NOLOGIN;\n    END IF;\nEXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;\nEND $$"
    )
}

fn grants() -> Vec<String> {
    let mut all = vec![format!(
        "DO $$ BEGIN\n    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {WRITER}, {READER}', current_database());\n    \
         EXECUTE format('GRANT USAGE ON SCHEMA %I TO {WRITER}, {READER}', current_schema());\nEND $$"
    )];
    // Grouped, so that a person can read them: one statement for each kind and role.
    for kind in [
        Kind::Records,
        Kind::Private,
        Kind::History,
        Kind::Meanings,
        Kind::Versions,
    ] {
        let of_kind = RELATIONS.iter().filter(|(_, found)| *found == kind);
        let names: Vec<&str> = of_kind.map(|(name, _)| *name).collect();
        for (rights, role) in kind.grants() {
            let mut grant = format!("GRANT {rights} ON ");
            // Writing to a String cannot fail.
            let _ = write!(grant, "{} TO {role}", names.join(", "));
            all.push(grant);
        }
    }
    // It runs with its owner's rights and makes a table anew: not for whoever may only read.
    all.push("REVOKE EXECUTE ON FUNCTION io_meanings_refresh() FROM PUBLIC".to_owned());
    all
}

/// All of it as a script for psql.
#[must_use]
pub fn script() -> String {
    let mut script = String::new();
    for statement in statements() {
        script.push_str(&statement);
        script.push_str(";\n");
    }
    script
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Both roles are there with their rights.
    Done,
    /// This login may not; an administrator has to.
    NotAllowed,
}

/// Makes the roles that are missing and gives both their rights, all or nothing.
/// # Errors
/// [`DatabaseError`]; a missing table means that migrations are pending.
pub async fn apply(database: &Database, on: &mut PgConnection) -> Result<Applied, DatabaseError> {
    ran(database, on, &statements()).await
}

/// Renews the rights where the roles are there already: after tables have come.
/// # Errors
/// [`DatabaseError`].
pub async fn renew(
    database: &Database,
    on: &mut PgConnection,
) -> Result<Option<Applied>, DatabaseError> {
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname IN ($1, $2)")
        .bind(WRITER)
        .bind(READER)
        .fetch_one(&mut *on)
        .await
        .map_err(|source| database.refused("looking for roles", source))?;
    if there < 2 {
        return Ok(None);
    }
    ran(database, on, &grants()).await.map(Some)
}

async fn ran(
    database: &Database,
    on: &mut PgConnection,
    statements: &[String],
) -> Result<Applied, DatabaseError> {
    match all(on, statements).await {
        Ok(()) => Ok(Applied::Done),
        Err(error)
            if error.as_database_error().and_then(|e| e.code()).as_deref() == Some(NOT_ALLOWED) =>
        {
            Ok(Applied::NotAllowed)
        }
        Err(source) => Err(database.refused("giving roles their rights", source)),
    }
}

async fn all(on: &mut PgConnection, statements: &[String]) -> Result<(), sqlx::Error> {
    let mut on = on.begin().await?;
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
            .execute(&mut *on)
            .await?;
    }
    on.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_but_the_writer_and_nobody_reads_what_is_private() {
        let script = script();
        for line in script.lines().filter(|line| line.starts_with("GRANT")) {
            let reads = line.ends_with(&format!("TO {READER};"));
            let writes = ["INSERT", "UPDATE", "DELETE"]
                .iter()
                .any(|right| line.contains(right));
            assert!(!(reads && writes), "{line}");
            let private = ["commands", "frames", "messages", "dead_letters", "_sqlx"];
            let names_private = private.iter().any(|name| line.contains(name));
            assert!(!(reads && names_private), "{line}");
        }
        assert!(script.contains("CREATE ROLE milepost_reader NOLOGIN"));
        assert!(!script.contains("PASSWORD"));
    }
}
