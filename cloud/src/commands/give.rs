//! A command for a tracker: put into the table, and taken back while no gateway has it.
//!
//! Why in one place: whoever gives it, by the command line or over HTTP, gets the same row, and what
//! the table refuses is told in the table's own words.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgDatabaseError};
use thiserror::Error;

use crate::store::StoreError;

/// What a tracker is to be told.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// Whom.
    pub imei: i64,
    /// As the tracker reads it.
    pub payload: &'a str,
    /// 12, or 14.
    pub codec: i16,
    /// May it be said twice?
    pub idempotent: bool,
    /// Not to be said after so long.
    pub expires_in: Duration,
    /// Who wants it; `None`: the user of the database.
    pub requested_by: Option<String>,
}

/// Why it is not in the table.
#[derive(Debug, Error)]
pub enum GiveError {
    /// The table says what to correct.
    #[error("the command was refused: {message}\n  do   {hint}")]
    Refused {
        /// What the table says.
        message: String,
        /// And what to do.
        hint: String,
    },
    /// Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts it into the table. Returns its id.
/// # Errors
/// [`GiveError`]; nothing is in the table then.
pub async fn give(on: &mut PgConnection, given: &Given<'_>) -> Result<String, GiveError> {
    let inserted: Result<String, sqlx::Error> = sqlx::query_scalar(
        "INSERT INTO commands (imei, payload, codec, idempotent, expires_at, requested_by) \
         VALUES ($1, $2, $3, $4, now() + $5 * interval '1 ms', $6) RETURNING id::text",
    )
    .bind(given.imei)
    .bind(given.payload)
    .bind(given.codec)
    .bind(given.idempotent)
    .bind(i64::try_from(given.expires_in.as_millis()).unwrap_or(i64::MAX))
    .bind(given.requested_by.as_deref())
    .fetch_one(on)
    .await;
    inserted.map_err(refused)
}

/// What the table says about a row it does not take.
fn refused(error: sqlx::Error) -> GiveError {
    let said = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .filter(|error| error.code() == "23514");
    match said {
        Some(said) => GiveError::Refused {
            message: said.message().to_owned(),
            hint: said.hint().unwrap_or("correct it").to_owned(),
        },
        None => StoreError::new("inserting a command", error).into(),
    }
}

/// Takes back the command with this id, in lower case. `false`: it is not there or not queued.
/// # Errors
/// [`StoreError`].
pub async fn cancel(on: &mut PgConnection, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE commands SET status = 'nacked', reason = 'cancelled' \
         WHERE id = $1::uuid AND status = 'queued'",
    )
    .bind(id)
    .execute(on)
    .await
    .map_err(|source| StoreError::new("cancelling a command", source))?;
    Ok(done.rows_affected() > 0)
}
