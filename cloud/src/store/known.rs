//! Which records an earlier delivery has put into the tables already.
//!
//! Invariant: only looks and leaves out; what another writer puts in meanwhile is for the keys of the
//! tables to refuse.

use std::collections::HashSet;

use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::records::{Key, Rows};
use super::values::{Time, time};
use crate::normalise::quality::LATEST_MS;

/// Leaves out records that an earlier delivery put into quarantine (its reception was earlier).
pub(super) async fn forget_quarantined(
    on: &mut PgConnection,
    rows: &mut Rows<'_>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut devices: Vec<i32> = rows.keys().map(|key| key.0).collect();
    devices.dedup();
    let times = || rows.keys().map(|key| key.1);
    let found: Vec<Key> = sqlx::query_as(
        "SELECT device_id, device_time_ms, record_hash FROM positions_quarantine \
         WHERE device_id = ANY($1) AND device_time_ms BETWEEN $2 AND $3",
    )
    .bind(devices)
    .bind(times().min())
    .bind(times().max())
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking into the quarantine", source))?;
    rows.leave_out(&found.into_iter().collect());
    Ok(())
}

/// A device and the span of its records in a batch; nobody else sorts them for the database.
fn spans(rows: &Rows<'_>) -> Vec<(i32, i64, i64)> {
    let mut spans: Vec<(i32, i64, i64)> = Vec::new();
    for &(device, at, _) in rows.keys() {
        match spans.last_mut() {
            Some(span) if span.0 == device => span.2 = at,
            _ => spans.push((device, at, at)),
        }
    }
    spans
}

/// Leaves out records that are in `positions`; says how many there were. Most devices have nothing in
/// the span of their new records, which one look at the key tells; only of the others is every record
/// looked for.
pub(super) async fn forget_known(
    on: &mut PgConnection,
    rows: &mut Rows<'_>,
) -> Result<usize, StoreError> {
    let at = |ms: i64| time(ms.cast_unsigned());
    let spans = spans(rows);
    let (first, last) = (
        spans.iter().map(|span| at(span.1)).min(),
        spans.iter().map(|span| at(span.2)).max(),
    );
    // The outer span is for a hypertable: it keeps chunks out that no span touches. The limit is for
    // the planner, who might otherwise read the whole table once instead of the key a thousand times.
    let known: Vec<i32> = sqlx::query_scalar(
        "SELECT a.device FROM UNNEST($1::int4[], $2::timestamptz[], $3::timestamptz[]) \
             AS a(device, first, last) \
         CROSS JOIN LATERAL (SELECT 1 FROM positions p WHERE p.device_id = a.device \
             AND p.fix_time BETWEEN a.first AND a.last AND p.fix_time BETWEEN $4 AND $5 LIMIT 1) AS one",
    )
    .bind(spans.iter().map(|span| span.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| at(span.1)).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| at(span.2)).collect::<Vec<_>>())
    .bind(first)
    .bind(last)
    .fetch_all(&mut *on)
    .await
    .map_err(|source| StoreError::new("looking into positions", source))?;
    let known: HashSet<i32> = known.into_iter().collect();
    let asked = rows.keys().filter(|key| known.contains(&key.0));
    let found = stored(on, asked.collect()).await?;
    Ok(rows.leave_out(&found))
}

/// Which of these are in `positions`.
async fn stored(on: &mut PgConnection, keys: Vec<&Key>) -> Result<HashSet<Key>, StoreError> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let at = |key: &&Key| time(key.1.cast_unsigned());
    let found: Vec<(i32, Time, i32)> = sqlx::query_as(
        "SELECT a.device, a.at, a.hash \
         FROM UNNEST($1::int4[], $2::timestamptz[], $3::int4[]) AS a(device, at, hash) \
         CROSS JOIN LATERAL (SELECT 1 FROM positions p WHERE p.device_id = a.device \
             AND p.fix_time = a.at AND p.record_hash = a.hash \
             AND p.fix_time BETWEEN $4 AND $5 LIMIT 1) AS one",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(at).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .bind(keys.iter().map(at).min())
    .bind(keys.iter().map(at).max())
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking into positions", source))?;
    let key = |(device, at, hash): (i32, Time, i32)| (device, at.timestamp_millis(), hash);
    Ok(found.into_iter().map(key).collect())
}

/// Leaves out records that an earlier delivery put into `positions`.
pub(super) async fn forget_stored(
    on: &mut PgConnection,
    rows: &mut Rows<'_>,
) -> Result<(), StoreError> {
    let possible: Vec<&Key> = rows
        .keys()
        .filter(|key| u64::try_from(key.1).is_ok_and(|ms| ms <= LATEST_MS))
        .collect();
    let found = stored(on, possible).await?;
    rows.leave_out(&found);
    Ok(())
}
