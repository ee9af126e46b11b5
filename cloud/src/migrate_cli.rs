//! `cloud migrate`: what would be done to the tables, doing it, and taking it back.

use std::io::Write;

use clap::Subcommand;
use cloud::config::Config;
use cloud::store::down::{self, Back, DownError};
use cloud::store::locks::{self, Lock};
use cloud::store::migrate::{self, Step};
use cloud::store::roles::{self, Applied};
use cloud::store::sizes::{self, Sizes};
use cloud::store::{Database, DatabaseError, policies};
use serde_json::json;
use thiserror::Error;

/// What can be asked for.
#[derive(Subcommand)]
pub(crate) enum MigrateVerb {
    /// Print the SQL that `up` would run, the locks it takes and about how long it holds them.
    ///
    /// Nothing is changed and nothing is locked. The durations come from the sizes of the tables and
    /// are there to tell a second from an hour.
    Plan,
    /// Apply what is missing; running it again changes nothing.
    #[command(alias = "upgrade")]
    Up {
        /// `head`, which some are used to say.
        #[arg(hide = true, value_parser = ["head"])]
        to: Option<String>,
    },
    /// List every migration and how it stands. Exit code 1 when one is missing.
    #[command(aliases = ["check", "history"])]
    Status,
    /// Take the newest migrations back, all of them or none.
    ///
    /// Refuses with exit code 4, and tells how many rows would go, unless --yes is given. Stop every
    /// `cloud run` first: a table that is in use is waited for ten seconds and no longer.
    ///
    /// Examples:
    ///   cloud migrate down 1 --dry-run    the statements, and how many rows would go
    ///   cloud migrate down 1 --yes
    #[command(alias = "downgrade", verbatim_doc_comment)]
    Down {
        /// How many.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        steps: u32,
        /// Delete what goes with them.
        #[arg(long)]
        yes: bool,
        /// Say what would be done, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Why it was not done.
#[derive(Debug, Error)]
pub(crate) enum MigrateFailure {
    #[error(transparent)]
    Down(#[from] DownError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl MigrateFailure {
    /// 1 failed, 2 usage or configuration, 3 cannot reach, 4 data at risk.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Down(error) => error.exit_code(),
            Self::Database(error) => error.exit_code(),
            Self::Output(_) => 1,
        }
    }
}

/// Does what was asked for. Returns the exit code.
pub(crate) async fn act(
    config: &Config,
    verb: &MigrateVerb,
    json: bool,
) -> Result<u8, MigrateFailure> {
    let database = Database::new(&config.database)?;
    let mut connection = database.connect().await?;
    match verb {
        MigrateVerb::Plan => {
            let steps = migrate::status(&database, &mut connection).await?;
            let missing = migrate::missing(&steps);
            let found: Vec<Vec<Lock>> = missing.iter().map(|step| locks::of(&step.sql)).collect();
            let tables = found.iter().flatten().map(|lock| lock.table.as_str());
            let sizes = sizes::of(&database, &mut connection, tables).await?;
            planned(&missing, &found, &sizes, json)?;
        }
        MigrateVerb::Up { .. } => {
            database.timescale(&mut connection).await?;
            let before = migrate::status(&database, &mut connection).await?;
            migrate::up(&database, &mut connection).await?;
            let changed = policies::apply(&database, &mut connection, &config.policies).await?;
            applied(&migrate::missing(&before), &changed, json)?;
            if !migrate::missing(&before).is_empty()
                && roles::renew(&database, &mut connection).await? == Some(Applied::NotAllowed)
            {
                let mut err = std::io::stderr().lock();
                writeln!(
                    err,
                    "this login may not give {} and {} rights on new tables: have an administrator run `cloud roles apply`",
                    roles::WRITER,
                    roles::READER
                )?;
            }
        }
        MigrateVerb::Status => {
            let steps = migrate::status(&database, &mut connection).await?;
            return standing(&steps, json);
        }
        MigrateVerb::Down {
            steps,
            yes,
            dry_run,
        } => {
            let steps = usize::try_from(*steps).unwrap_or(usize::MAX);
            let backs = if *dry_run {
                down::plan(&database, &mut connection, steps).await?
            } else {
                down::down(&database, &mut connection, steps, *yes).await?
            };
            taken_back(&backs, *dry_run, json)?;
        }
    }
    Ok(0)
}

fn planned(
    missing: &[&Step],
    found: &[Vec<Lock>],
    sizes: &Sizes,
    json: bool,
) -> Result<(), MigrateFailure> {
    let mut out = std::io::stdout().lock();
    for (step, locks) in missing.iter().zip(found) {
        let bytes = |lock: &Lock| sizes.get(&lock.table).map_or(0, |size| size.bytes);
        let seconds: u64 = locks
            .iter()
            .map(|lock| lock.work.seconds(bytes(lock)))
            .sum();
        if json {
            let locks: Vec<_> = locks
                .iter()
                .map(|lock| {
                    let size = sizes.get(&lock.table).copied().unwrap_or_default();
                    json!({
                        "table": lock.table, "mode": lock.mode.as_str(), "stops": lock.mode.stops(),
                        "bytes": size.bytes, "rows_estimated": size.rows,
                    })
                })
                .collect();
            let line = json!({
                "version": step.version, "description": step.description, "applied": false,
                "locks": locks, "seconds_estimated": seconds, "sql": step.sql,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        writeln!(out, "-- {} {}", step.version, step.description)?;
        if locks.is_empty() {
            writeln!(out, "--   locks  nothing that was there before")?;
        }
        for lock in locks {
            let size = sizes.get(&lock.table).copied().unwrap_or_default();
            writeln!(
                out,
                "--   locks  {}: {} ({}); about {} rows, {}",
                lock.table,
                lock.mode.as_str(),
                lock.mode.stops(),
                size.rows,
                sizes::text(size.bytes),
            )?;
        }
        match seconds {
            0 => writeln!(out, "--   takes  less than a second")?,
            seconds => writeln!(out, "--   takes  about {}", sizes::duration(seconds))?,
        }
        writeln!(out, "{}", step.sql)?;
    }
    if missing.is_empty() && !json {
        writeln!(out, "nothing to apply")?;
    }
    Ok(())
}

fn applied(missing: &[&Step], policies: &[String], json: bool) -> Result<(), MigrateFailure> {
    let mut out = std::io::stdout().lock();
    for step in missing {
        if json {
            let line = json!({"version": step.version, "description": step.description, "applied": true, "sql": step.sql});
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "applied {} {}", step.version, step.description)?;
        }
    }
    if missing.is_empty() && !json {
        writeln!(out, "nothing to apply")?;
    }
    for policy in policies {
        if json {
            writeln!(out, "{}", json!({"policy": policy}))?;
        } else {
            writeln!(out, "set {policy}")?;
        }
    }
    Ok(())
}

fn standing(steps: &[Step], json: bool) -> Result<u8, MigrateFailure> {
    let mut out = std::io::stdout().lock();
    for step in steps {
        let standing = step.standing.as_str();
        if json {
            let line = json!({"version": step.version, "description": step.description, "standing": standing});
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "{:>4}  {standing:8}  {}",
                step.version, step.description
            )?;
        }
    }
    Ok(u8::from(!migrate::missing(steps).is_empty()))
}

fn taken_back(backs: &[Back], dry_run: bool, json: bool) -> Result<(), MigrateFailure> {
    let mut out = std::io::stdout().lock();
    for back in backs {
        let rows: u64 = back.losses.iter().map(|loss| loss.rows).sum();
        if json {
            let losses: Vec<_> = back
                .losses
                .iter()
                .map(|loss| json!({"what": loss.what, "rows": loss.rows}))
                .collect();
            let line = json!({
                "version": back.version, "description": back.description, "dry_run": dry_run,
                "taken_back": !dry_run, "loses": losses, "rows": rows, "sql": back.sql,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let (begin, will) = if dry_run {
            ("--", "would delete")
        } else {
            ("took back", "deleted")
        };
        writeln!(out, "{begin} {} {}", back.version, back.description)?;
        let before = if dry_run { "--   " } else { "  " };
        if back.losses.is_empty() {
            writeln!(out, "{before}{will} no row")?;
        }
        for loss in &back.losses {
            writeln!(out, "{before}{will} {} of {}", loss.rows, loss.what)?;
        }
        if dry_run {
            writeln!(out, "{}", back.sql)?;
        }
    }
    Ok(())
}
