//! What the tables say became of records, from more than one side, so that a difference shows.
//!
//! Invariant: read only. `settled` was written with the rows; dead letters, low edges and the rows
//! themselves are looked at independently of it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;

use super::errors::StoreError;

/// Sums of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Sums {
    /// Its id.
    pub gateway: String,
    /// Told to trackers as safe.
    pub received: i64,
    /// Rows in `positions`.
    pub stored: i64,
    /// Rows in `positions_quarantine`.
    pub quarantined: i64,
    /// There before.
    pub duplicate: i64,
    /// In the dead letters.
    pub dead: i64,
    /// Given up.
    pub dropped: i64,
}

/// Sums by gateway of what was settled in the last so many milliseconds; `None`: ever.
/// # Errors
/// [`StoreError`].
pub async fn sums(on: &mut PgConnection, since_ms: Option<i64>) -> Result<Vec<Sums>, StoreError> {
    sqlx::query_as(
        "SELECT gateway, sum(received)::int8 AS received, sum(stored)::int8 AS stored, \
             sum(quarantined)::int8 AS quarantined, sum(duplicate)::int8 AS duplicate, \
             sum(dead)::int8 AS dead, sum(dropped)::int8 AS dropped \
         FROM settled WHERE $1::int8 IS NULL OR settled_at >= now() - $1 * interval '1 ms' \
         GROUP BY gateway ORDER BY gateway",
    )
    .bind(since_ms)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("summing up the ledger", source))
}

/// A spool of which something cannot be accounted for.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Missing {
    /// Whose.
    pub gateway: String,
    /// Which.
    pub spool_id: i64,
    /// How much.
    pub missing: i64,
}

/// Spools with more dead records in the ledger than in their dead letters: letters that went some
/// other way than by redriving or dropping them. Of all time.
/// # Errors
/// [`StoreError`].
pub async fn letters_gone(on: &mut PgConnection) -> Result<Vec<Missing>, StoreError> {
    sqlx::query_as(
        "SELECT s.gateway, s.spool_id, (s.dead - coalesce(l.records, 0))::int8 AS missing \
         FROM (SELECT gateway, spool_id, sum(dead)::int8 AS dead FROM settled WHERE dead > 0 GROUP BY 1, 2) AS s \
         LEFT JOIN (SELECT gateway, spool_id, sum(records)::int8 AS records FROM dead_letters GROUP BY 1, 2) AS l \
             USING (gateway, spool_id) \
         WHERE s.dead > coalesce(l.records, 0) ORDER BY 1, 2",
    )
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("comparing dead letters with the ledger", source))
}

/// Spools with positions that will never be sent again and were never settled, counted from the
/// first position that ever was. Of all time.
/// # Errors
/// [`StoreError`].
pub async fn positions_gone(on: &mut PgConnection) -> Result<Vec<Missing>, StoreError> {
    sqlx::query_as(
        "SELECT * FROM ( \
             SELECT p.gateway, p.spool_id, \
                 (p.low - min(s.first_seq) - sum(least(s.last_seq, p.low - 1) - s.first_seq + 1))::int8 AS missing \
             FROM spools p JOIN settled s USING (spool_id) WHERE s.first_seq < p.low \
             GROUP BY p.gateway, p.spool_id, p.low) AS m \
         WHERE missing > 0 ORDER BY 1, 2",
    )
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking for positions nobody settled", source))
}

/// Identity of a record of one device: device time in milliseconds, hash.
pub type RecordKey = (i64, i32);

/// Which records of a device have a row.
#[derive(Debug, Default)]
pub struct Rows {
    /// In `positions`, with the reception that brought them.
    pub positions: HashMap<RecordKey, DateTime<Utc>>,
    /// In `positions_quarantine`, the same.
    pub quarantine: HashMap<RecordKey, DateTime<Utc>>,
}

/// Looks for the rows of records. Times that no calendar has are looked for in quarantine alone.
/// # Errors
/// [`StoreError`].
pub async fn rows(
    on: &mut PgConnection,
    device: i32,
    keys: &HashSet<RecordKey>,
) -> Result<Rows, StoreError> {
    let refused = |source| StoreError::new("looking for the rows of records", source);
    let (times_ms, hashes): (Vec<i64>, Vec<i32>) = keys.iter().copied().unzip();
    let in_calendar = keys.iter().filter_map(|(ms, hash)| {
        let latest = i64::try_from(crate::normalise::quality::LATEST_MS).unwrap_or(i64::MAX);
        let at = DateTime::from_timestamp_millis(*ms).filter(|_| (0..=latest).contains(ms))?;
        Some((at, *hash))
    });
    let (times, of_times): (Vec<DateTime<Utc>>, Vec<i32>) = in_calendar.unzip();
    let good: Vec<(DateTime<Utc>, i32, DateTime<Utc>)> = sqlx::query_as(
        "SELECT p.fix_time, p.record_hash, p.received_at \
         FROM UNNEST($2::timestamptz[], $3::int4[]) AS a(at, hash) \
         JOIN positions p ON p.device_id = $1 AND p.fix_time = a.at AND p.record_hash = a.hash",
    )
    .bind(device)
    .bind(times)
    .bind(of_times)
    .fetch_all(&mut *on)
    .await
    .map_err(refused)?;
    let odd: Vec<(i64, i32, DateTime<Utc>)> = sqlx::query_as(
        "SELECT p.device_time_ms, p.record_hash, p.received_at \
         FROM UNNEST($2::int8[], $3::int4[]) AS a(at, hash) \
         JOIN positions_quarantine p ON p.device_id = $1 AND p.device_time_ms = a.at AND p.record_hash = a.hash",
    )
    .bind(device)
    .bind(times_ms)
    .bind(hashes)
    .fetch_all(on)
    .await
    .map_err(refused)?;
    Ok(Rows {
        positions: good
            .into_iter()
            .map(|(at, hash, received)| ((at.timestamp_millis(), hash), received))
            .collect(),
        quarantine: odd
            .into_iter()
            .map(|(at, hash, received)| ((at, hash), received))
            .collect(),
    })
}
