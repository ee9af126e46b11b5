//! Why a verb did not do what it was asked.

use std::path::PathBuf;

use thiserror::Error;

use crate::store::{DatabaseError, StoreError};
use crate::stream::RedisFailure;

/// Why a verb did not do what it was asked. Nothing is half done unless the text says so.
#[derive(Debug, Error)]
pub enum VerbError {
    /// Correct an option.
    #[error("{option} {given:?} is not {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// As typed.
        given: String,
        /// What it takes.
        expected: String,
    },
    /// Say which ones, or all of them.
    #[error("{verb} wants numbers, or --all\n  do  see `cloud dlq ls` for the numbers")]
    Which {
        /// The verb.
        verb: &'static str,
    },
    /// Look with --dry-run, then say --yes.
    #[error(
        "{what} is not removed without --yes\n  why  it cannot be undone\n  do   look with --dry-run first, then add --yes"
    )]
    NotSure {
        /// What would go.
        what: String,
    },
    /// Say where to keep what is removed.
    #[error(
        "{what} is not removed without a copy\n  why  nobody could bring it back\n  do   add --export FILE"
    )]
    NoExport {
        /// What would go.
        what: String,
    },
    /// Choose another file.
    #[error(
        "cannot write {path}; nothing was removed\n  do  name a file that is not there yet, where this user may write"
    )]
    Export {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Correct the name.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Correct the line.
    #[error("{path}:{line}: {reason}; nothing was put back")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Correct the number.
    #[error(
        "there is no dead letter {id}\n  why  it was redriven or dropped, or never was\n  do   see `cloud dlq ls`"
    )]
    NoLetter {
        /// As typed.
        id: i64,
    },
    /// Correct the IMEI.
    #[error("no tracker {imei} is known{}\n  why  it is not in the table devices: it has never sent anything\n  do   see `cloud device ls`", did_you_mean(.nearest.as_ref()))]
    NoDevice {
        /// As typed.
        imei: String,
        /// A known one that is like it.
        nearest: Option<String>,
    },
    /// Another kind of stream.
    #[error("{stream} is not for this verb\n  why  {why}\n  do   {advice}")]
    Stream {
        /// Its key.
        stream: String,
        /// What it holds.
        why: &'static str,
        /// The right way.
        advice: &'static str,
    },
    /// There is nothing of that name.
    #[error("there is no stream {stream} in Redis at {url}\n  do  see `cloud queue ls`")]
    NoStream {
        /// Its key.
        stream: String,
        /// Without its password.
        url: String,
    },
    /// Go on where it ended.
    #[error("{done}; the rest is untouched\n  do  {advice}")]
    Halfway {
        /// What is done.
        done: String,
        /// How to go on.
        advice: String,
        /// What stopped it.
        #[source]
        source: Box<VerbError>,
    },
    /// Without raw frames there is nothing to read again.
    #[error(
        "{what}\n  why  no raw frame is kept (frames.keep, frames.retention)\n  do   set frames.keep = true; it counts for what comes from then on"
    )]
    NoFrames {
        /// What cannot be done.
        what: &'static str,
    },
    /// Reach the database first.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reach Redis first.
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    /// Nobody reads our output.
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

fn did_you_mean(imei: Option<&String>) -> String {
    imei.map_or_else(String::new, |imei| format!("; did you mean {imei}?"))
}

impl VerbError {
    /// 1 failed, 2 usage, 3 cannot reach.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Option { .. }
            | Self::Which { .. }
            | Self::NotSure { .. }
            | Self::NoExport { .. }
            | Self::Export { .. }
            | Self::Read { .. }
            | Self::Stream { .. }
            | Self::Redis(
                RedisFailure::Url { .. } | RedisFailure::File { .. } | RedisFailure::Tls { .. },
            )
            | Self::Database(DatabaseError::Url { .. }) => 2,
            Self::Database(DatabaseError::Unreachable { .. } | DatabaseError::Silent { .. })
            | Self::Store(StoreError::Unreachable { .. })
            | Self::Redis(_) => 3,
            Self::Halfway { source, .. } => source.exit_code(),
            _ => 1,
        }
    }
}
