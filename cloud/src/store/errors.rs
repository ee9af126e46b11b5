//! What a database error means for the batch in hand.
//!
//! Invariant: a batch is given up (split, then dead-lettered) only for what PostgreSQL says about
//! the *data*; everything else is tried again, for ever.

use std::time::Duration;

use thiserror::Error;

use super::copy;

/// What to do next with a batch that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Somebody was in the way: again, at once.
    RetryNow,
    /// Again, after a pause; the batch stays pending.
    Retry,
    /// The database refuses the data: find the one record and put it aside.
    Split,
    /// The tables are not the ones this program knows: stop consuming, say so, look again later.
    Schema,
}

/// How long a statement may wait for a free connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Deadlock, and our own "settled once" constraint: the other side has finished by then.
const AGAIN_AT_ONCE: [&str; 3] = ["40P01", "40001", "23P01"];

/// Reads a SQLSTATE. Source: PostgreSQL documentation, appendix A.
#[must_use]
pub fn classify(sqlstate: &str) -> Next {
    if AGAIN_AT_ONCE.contains(&sqlstate) {
        return Next::RetryNow;
    }
    match sqlstate.get(..2) {
        // Data exception; integrity constraint violation.
        Some("22" | "23") => Next::Split,
        // Syntax error or access rule violation; invalid schema or catalog name.
        Some("42" | "3F" | "3D") => Next::Schema,
        // Connection, rollback, resources, object state, operator intervention, system: and what
        // we have never seen is not the data's fault until PostgreSQL says so.
        _ => Next::Retry,
    }
}

/// Why a batch is not in the database.
#[derive(Debug, Error)]
pub enum StoreError {
    /// PostgreSQL refused a statement.
    #[error("database refused while {doing} (SQLSTATE {sqlstate})")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// Its code.
        sqlstate: String,
        /// The error.
        #[source]
        source: sqlx::Error,
    },
    /// The connection failed, or none was free.
    #[error("no answer from the database while {doing}")]
    Unreachable {
        /// What was tried.
        doing: &'static str,
        /// The error.
        #[source]
        source: sqlx::Error,
    },
    /// A unit was refused although only bytes and plain text were left in it.
    #[error("database refuses even the dead letter (SQLSTATE {sqlstate}); nothing is acknowledged")]
    Stuck {
        /// Its code.
        sqlstate: String,
        /// The error.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Wraps an error of sqlx.
    pub(crate) fn new(doing: &'static str, source: sqlx::Error) -> Self {
        let code = source.as_database_error().and_then(|error| error.code());
        match code.map(std::borrow::Cow::into_owned) {
            Some(sqlstate) => Self::Refused {
                doing,
                sqlstate,
                source,
            },
            None => match source {
                // Our own encoding or decoding: the database has other types than we know.
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                    Self::Refused {
                        doing,
                        sqlstate: "42000".to_owned(),
                        source,
                    }
                }
                source => Self::Unreachable { doing, source },
            },
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            Self::Refused { sqlstate, .. } => classify(sqlstate),
            Self::Unreachable { .. } | Self::Stuck { .. } => Next::Retry,
        }
    }

    /// May the next answer come from another server, or from this one with less in it? After a lost
    /// connection, a shutdown, or where nothing can be written: a standby.
    #[must_use]
    pub fn may_be_another_server(&self) -> bool {
        match self.sqlstate() {
            None => true,
            Some(sqlstate) => matches!(sqlstate.get(..2), Some("08" | "25" | "57")),
        }
    }

    /// Did a COPY meet a row that is there already? Asked by what was done and not by the name of the
    /// key: a hypertable puts the name of its chunk before ours, and a compressed chunk names none.
    pub(super) fn is_known_row(&self) -> bool {
        let copies = [copy::INTO_POSITIONS, copy::INTO_FRAMES, copy::INTO_READINGS];
        matches!(self, Self::Refused { doing, sqlstate, .. }
            if sqlstate == "23505" && copies.contains(doing))
    }

    /// The code, if PostgreSQL gave one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused { sqlstate, .. } | Self::Stuck { sqlstate, .. } => Some(sqlstate),
            Self::Unreachable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_class_of_the_table_has_its_move() {
        let cases = [
            ("08006", Next::Retry),
            ("40P01", Next::RetryNow),
            ("40001", Next::RetryNow),
            ("40002", Next::Retry),
            ("23P01", Next::RetryNow),
            ("53100", Next::Retry), // disk full
            ("53300", Next::Retry), // too many connections
            ("55P03", Next::Retry), // lock not available
            ("57P01", Next::Retry), // admin shutdown
            ("57014", Next::Retry), // statement timeout
            ("58030", Next::Retry), // I/O error
            ("25006", Next::Retry), // read-only: a standby
            ("22003", Next::Split),
            ("22021", Next::Split),
            ("23502", Next::Split),
            ("23505", Next::Split),
            ("23514", Next::Split),
            ("42P01", Next::Schema), // no such table
            ("42703", Next::Schema), // no such column
            ("42501", Next::Schema), // no privilege
            ("3F000", Next::Schema),
            ("XX000", Next::Retry),
            ("", Next::Retry),
            ("2", Next::Retry),
            ("2é", Next::Retry),
        ];
        for (sqlstate, wanted) in cases {
            assert_eq!(classify(sqlstate), wanted, "{sqlstate}");
        }
    }

    #[test]
    fn what_has_no_code_is_tried_again() {
        let error = StoreError::new("writing", sqlx::Error::PoolTimedOut);
        assert_eq!((error.next(), error.sqlstate()), (Next::Retry, None));
    }
}
