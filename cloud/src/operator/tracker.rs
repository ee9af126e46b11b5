//! A tracker as people type it: by its IMEI.

use codec::Imei;
use sqlx::postgres::PgConnection;

use super::VerbError;
use crate::commands::cli::closest;
use crate::store::roster;

/// The row of `devices` with this IMEI.
/// # Errors
/// [`VerbError::Option`]: no IMEI. [`VerbError::NoDevice`]: nobody ever heard it.
pub async fn find(on: &mut PgConnection, given: &str) -> Result<i32, VerbError> {
    let given = given.trim();
    let imei = Imei::parse(given.as_bytes()).map_err(|error| VerbError::Option {
        option: "IMEI",
        given: given.to_owned(),
        expected: format!("the 15 digits of an IMEI: {error}"),
    })?;
    let number = i64::try_from(imei.as_u64()).unwrap_or(i64::MAX);
    match roster::id(on, number).await? {
        Some(id) => Ok(id),
        None => Err(VerbError::NoDevice {
            imei: given.to_owned(),
            nearest: closest(given, &roster::imeis(on).await?),
        }),
    }
}
