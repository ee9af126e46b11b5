//! Writes down which family each tracker seems to be of.
//!
//! Why beside the writing and not in it: ids are looked at once a day and device, from rows that are
//! there anyway; a batch pays nothing.
//!
//! Invariant: only `family_guess` and its companions are written, never what a person set.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;

use super::database::Database;
use super::errors::StoreError;
use crate::normalise::family::{Documented, guess};
use crate::normalise::io::HOT;

/// Devices looked at in one go.
const DEVICES_MAX: i64 = 200;

/// Newest records of a device that are looked at: what a tracker is set to send is in most of them, and
/// reading them is what a guess costs.
const RECORDS: i64 = 64;

/// Looks at devices whose guess is missing or older than a day. Returns how many it looked at; fewer
/// than `DEVICES_MAX` means that all are done.
/// # Errors
/// [`StoreError`].
pub async fn guess_some(database: &Database, documented: &Documented) -> Result<usize, StoreError> {
    let refused = |source| StoreError::new("guessing families", source);
    let mut on = database.pool().acquire().await.map_err(refused)?;
    let devices: Vec<i32> = sqlx::query_scalar(
        "SELECT id FROM devices WHERE vendor = 'teltonika' AND family IS NULL AND last_seen > coalesce(family_guessed_at, '-infinity') \
             AND coalesce(family_guessed_at, '-infinity') < now() - interval '1 day' ORDER BY id LIMIT $1",
    )
    .bind(DEVICES_MAX)
    .fetch_all(&mut *on)
    .await
    .map_err(refused)?;
    if devices.is_empty() {
        return Ok(0);
    }
    let ids: Vec<(i32, i32)> = sqlx::query_as(AssertSqlSafe(ids_sent()))
        .bind(&devices)
        .bind(RECORDS)
        .fetch_all(&mut *on)
        .await
        .map_err(refused)?;
    let mut seen: BTreeMap<i32, BTreeSet<u16>> = BTreeMap::new();
    for (device, id) in ids {
        seen.entry(device).or_default().extend(u16::try_from(id));
    }
    let nothing = BTreeSet::new();
    let guesses = devices
        .iter()
        .map(|device| guess(seen.get(device).unwrap_or(&nothing), documented));
    let (families, confidences): (Vec<_>, Vec<_>) = guesses
        .map(|guess| (guess.map(|g| g.family), guess.map(|g| g.confidence as f32)))
        .unzip();
    sqlx::query(
        "UPDATE devices d SET family_guess = a.family, family_confidence = a.confidence, \
             family_guessed_at = now() \
         FROM UNNEST($1::int4[], $2::text[], $3::float4[]) AS a(id, family, confidence) WHERE d.id = a.id",
    )
    .bind(&devices)
    .bind(families)
    .bind(confidences)
    .execute(&mut *on)
    .await
    .map_err(refused)?;
    Ok(devices.len())
}

/// Devices `$1` with every id in their `$2` newest records. Not through `io_raw`, which makes a new
/// `jsonb` of every record and took 15 ms a device.
fn ids_sent() -> String {
    let columns: Vec<&str> = HOT.iter().map(|(_, column)| *column).collect();
    let hot = HOT
        .iter()
        .map(|(id, column)| format!("UNION SELECT '{id}' FROM newest WHERE {column} IS NOT NULL "));
    format!(
        "SELECT d.id, sent.id::integer FROM UNNEST($1::int4[]) AS d(id) CROSS JOIN LATERAL ( \
             WITH newest AS (SELECT io, {} FROM positions p WHERE p.device_id = d.id \
                             ORDER BY p.fix_time DESC LIMIT $2) \
             SELECT id FROM (SELECT jsonb_object_keys(io) AS id FROM newest) AS keys \
             WHERE id ~ '^[0-9]{{1,5}}$' {}) AS sent",
        columns.join(", "),
        hot.collect::<String>()
    )
}

/// Has [`guess_some`] looked at all that were due?
#[must_use]
pub fn was_last(looked_at: usize) -> bool {
    i64::try_from(looked_at).is_ok_and(|looked_at| looked_at < DEVICES_MAX)
}
