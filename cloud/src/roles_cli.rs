//! `cloud roles`: PostgreSQL's two roles, printed or made.

use std::io::Write;

use clap::Subcommand;
use cloud::config::Config;
use cloud::store::roles::{self, Applied};
use cloud::store::{Database, DatabaseError};
use serde_json::json;
use thiserror::Error;

#[derive(Subcommand)]
pub(crate) enum RolesVerb {
    /// Print the SQL that makes the roles and gives them their rights.
    ///
    /// Example: cloud roles print | psql -d milepost
    Print,
    /// Make milepost_writer and milepost_reader in the database of database.url.
    ///
    /// Neither can log in: make logins that are members, with passwords of your own:
    ///   CREATE ROLE cloud1 LOGIN PASSWORD '…' IN ROLE milepost_writer;
    ///   CREATE ROLE grafana LOGIN PASSWORD '…' IN ROLE milepost_reader;
    /// The tables must be there (`cloud migrate up`). Running it again changes nothing. Where this
    /// login may not, the SQL for an administrator is printed and the exit code is 1.
    #[command(verbatim_doc_comment)]
    Apply {
        /// Print what would be run, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Why it was not done.
#[derive(Debug, Error)]
pub(crate) enum RolesFailure {
    #[error(
        "this login may not make roles or give rights\n  do   have an administrator run the SQL above (psql -d DATABASE), then nothing more is to be done"
    )]
    NotAllowed,
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl RolesFailure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Database(error) => error.exit_code(),
            Self::NotAllowed | Self::Output(_) => 1,
        }
    }
}

/// Does what was asked for. Returns the exit code.
pub(crate) async fn act(config: &Config, verb: &RolesVerb, json: bool) -> Result<u8, RolesFailure> {
    let RolesVerb::Apply { dry_run: false } = verb else {
        print(json)?;
        return Ok(0);
    };
    let database = Database::new(&config.database)?;
    let mut connection = database.connect().await?;
    match roles::apply(&database, &mut connection).await? {
        Applied::Done => {
            let mut out = std::io::stdout().lock();
            for role in [roles::WRITER, roles::READER] {
                if json {
                    writeln!(out, "{}", json!({"role": role, "applied": true}))?;
                } else {
                    writeln!(out, "{role} is there with its rights")?;
                }
            }
            Ok(0)
        }
        Applied::NotAllowed => {
            print(json)?;
            Err(RolesFailure::NotAllowed)
        }
    }
}

fn print(json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if !json {
        return write!(out, "{}", roles::script());
    }
    for statement in roles::statements() {
        writeln!(out, "{}", json!({"sql": statement, "applied": false}))?;
    }
    Ok(())
}
