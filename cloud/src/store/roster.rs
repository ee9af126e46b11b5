//! Trackers for people: who they are, of which family, and when they were heard.
//!
//! Invariant: only what a person may set is written here: `family`, `model` and `name`.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;

use super::errors::StoreError;

/// One row of `devices` with its newest position.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Tracker {
    /// Row.
    pub id: i32,
    /// Fifteen digits.
    pub imei: Option<i64>,
    /// What has no IMEI.
    pub ident: Option<String>,
    /// `teltonika`.
    pub vendor: String,
    /// Set by a person.
    pub name: Option<String>,
    /// Set by a person.
    pub model: Option<String>,
    /// Set by a person; wins.
    pub family: Option<String>,
    /// From the ids it sends.
    pub family_guess: Option<String>,
    /// 0.9 to 1.
    pub family_confidence: Option<f32>,
    /// Gateway clock.
    pub first_seen: DateTime<Utc>,
    /// Gateway clock.
    pub last_seen: DateTime<Utc>,
    /// Device clock of the newest valid position.
    pub fix_time: Option<DateTime<Utc>>,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// km/h.
    pub speed_kmh: Option<i32>,
}

/// Trackers of one page.
pub const PAGE: i64 = 500;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.imei, d.ident, d.vendor, d.name, d.model, d.family, d.family_guess, \
                 d.family_confidence, d.first_seen, d.last_seen, l.fix_time, l.latitude, l.longitude, l.speed_kmh \
             FROM devices d LEFT JOIN device_latest l ON l.device_id = d.id ",
            $rest
        )
    };
}

/// The next ones by row, [`PAGE`] at most.
/// # Errors
/// [`StoreError`].
pub async fn page(on: &mut PgConnection, after: i32) -> Result<Vec<Tracker>, StoreError> {
    sqlx::query_as(select!("WHERE d.id > $1 ORDER BY d.id LIMIT $2"))
        .bind(after)
        .bind(PAGE)
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("reading devices", source))
}

/// One of them.
/// # Errors
/// [`StoreError`].
pub async fn one(on: &mut PgConnection, id: i32) -> Result<Option<Tracker>, StoreError> {
    sqlx::query_as(select!("WHERE d.id = $1"))
        .bind(id)
        .fetch_optional(on)
        .await
        .map_err(|source| StoreError::new("reading a device", source))
}

/// The row of an IMEI.
/// # Errors
/// [`StoreError`].
pub async fn id(on: &mut PgConnection, imei: i64) -> Result<Option<i32>, StoreError> {
    sqlx::query_scalar("SELECT id FROM devices WHERE imei = $1")
        .bind(imei)
        .fetch_optional(on)
        .await
        .map_err(|source| StoreError::new("looking up a device", source))
}

/// Every IMEI.
/// # Errors
/// [`StoreError`].
pub async fn imeis(on: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar("SELECT imei FROM devices WHERE imei IS NOT NULL")
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("reading devices", source))
}

/// Sets the family of a tracker; `None` leaves it to the guess. `model` and `name` only where given.
/// # Errors
/// [`StoreError`].
pub async fn set_family(
    on: &mut PgConnection,
    id: i32,
    family: Option<&str>,
    model: Option<&str>,
    name: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE devices SET family = $2, model = coalesce($3, model), name = coalesce($4, name) WHERE id = $1",
    )
    .bind(id)
    .bind(family)
    .bind(model)
    .bind(name)
    .execute(on)
    .await
    .map_err(|source| StoreError::new("setting the family of a device", source))?;
    Ok(())
}
