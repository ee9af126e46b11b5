//! Letting a new gateway in, and shutting one out: its certificate, its user in Redis, its settings.
//!
//! Why one place for the three: a box that has two of them does not work, and a box that was stolen
//! and still has one of them is not shut out.
//!
//! Invariants: a password exists in the bundle alone, here and in Redis only its SHA-256; keys and
//! bundles are readable for their owner alone; whatever breaks off in between, asking again finishes
//! it; two that ask at once wait for one another.

pub mod act;
pub mod authority;
pub mod book;
pub mod issue;
pub mod private;
pub mod users;

use std::io;
use std::path::{Path, PathBuf};

use contract::IdError;
use contract::access::AccessError;
use thiserror::Error;

use crate::stream::RedisFailure;

/// Why it was not done.
#[derive(Debug, Error)]
pub enum SiteError {
    /// Choose another name.
    #[error("{name:?} cannot be the name of a site\n  why  {why}")]
    Name {
        /// As typed.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Correct the address.
    #[error(
        "{given:?} is not where gateways can reach Redis\n  why  {why}\n  do   give --url rediss://host:port, or set site.url"
    )]
    Url {
        /// Without its password.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Name a directory of the box.
    #[error("--dir {given:?} is no directory of a box: give an absolute path in plain characters")]
    Dir {
        /// As typed.
        given: String,
    },
    /// Correct the option.
    #[error("--days {days} is not possible\n  why  {why}")]
    Days {
        /// As typed.
        days: u32,
        /// What is wrong with it.
        why: String,
    },
    /// Ask for --renew.
    #[error(
        "site {name} was shut out on {on}\n  do   `cloud site add {name} --renew` lets it in again, with a new certificate and a new password"
    )]
    Revoked {
        /// Its name.
        name: String,
        /// Date.
        on: String,
    },
    /// Correct the name.
    #[error("there is no site {name}\n  where  {}\n  do     see `cloud site ls`", place.display())]
    NoSite {
        /// As typed.
        name: String,
        /// Where they are kept.
        place: PathBuf,
    },
    /// Choose another name, or remove the user.
    #[error(
        "Redis has a user {user} that is not of a site\n  why  giving it a gateway's rights could take somebody's rights away\n  do   choose another name, or remove it: ACL DELUSER {user}"
    )]
    Taken {
        /// Its name.
        user: String,
    },
    /// Give --out.
    #[error("{} is there already\n  do   name another file with --out, or remove it", path.display())]
    OutThere {
        /// The bundle.
        path: PathBuf,
    },
    /// Agree with --yes.
    #[error(
        "site {name} would be shut out at once and for good\n  why  its user in Redis goes, and its connections are cut; what it has spooled stays with it\n  do   say --yes; --dry-run tells what would be done"
    )]
    Yes {
        /// Its name.
        name: String,
    },
    /// Run what was printed.
    #[error(
        "site {name} is still let in\n  why  {why}\n  do   run the lines above as an administrator of Redis, then this again"
    )]
    StillIn {
        /// Its name.
        name: String,
        /// Why we could not.
        why: &'static str,
    },
    /// Look at the file.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Mend it by hand, or restore it.
    #[error("{} is not a record of a site", path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Give another authority.
    #[error("the authority in {} cannot be used\n  why  {why}", path.display())]
    Authority {
        /// The certificate.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The machine gives no randomness.
    #[error("cannot make a password")]
    Random(#[source] getrandom::Error),
    /// Correct the settings of the stream.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    /// Nobody reads our output.
    #[error("cannot write the result")]
    Output(#[source] io::Error),
}

impl SiteError {
    /// 1 failed, 2 usage or configuration, 3 cannot reach, 4 data at risk.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Redis(RedisFailure::Unreachable { .. }) => 3,
            Self::Redis(RedisFailure::Refused { .. })
            | Self::StillIn { .. }
            | Self::Certificate(_)
            | Self::Random(_)
            | Self::Output(_) => 1,
            _ => 2,
        }
    }

    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    fn name(name: &str, error: &IdError) -> Self {
        Self::Name {
            name: name.to_owned(),
            why: error.to_string(),
        }
    }
}

/// `2026-11-22`, UTC.
#[must_use]
pub fn date(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let date = chrono::DateTime::from_timestamp_millis(ms);
    date.map_or_else(
        || "?".to_owned(),
        |date| date.format("%Y-%m-%d").to_string(),
    )
}
