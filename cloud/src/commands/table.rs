//! The table `commands` as the router needs it.
//!
//! Why every write names the attempt and the status it saw: two processors look at the same rows,
//! and only one of them may be right.
//!
//! Invariant: a [`Claimed`] order is committed as `routed`; nothing else may be written to Redis.

use std::collections::HashMap;
use std::time::Duration;

use codec::Imei;
use contract::{GatewayId, Order};
use sqlx::postgres::{PgConnection, PgPool};

use super::state::{Change, Row, Status};
use crate::store::StoreError;

/// First in line of its tracker, not expired, not paused, and nothing of the tracker is on its way.
macro_rules! may_go {
    () => {
        "c.status = 'queued' AND c.expires_at > now() AND (c.retry_at IS NULL OR c.retry_at <= now()) \
         AND NOT EXISTS (SELECT FROM commands e WHERE e.imei = c.imei AND e.status = 'queued' \
                         AND e.seq < c.seq) \
         AND NOT EXISTS (SELECT FROM commands o WHERE o.imei = c.imei \
                         AND o.status IN ('routed', 'sent'))"
    };
}

/// A command that could go if its tracker were there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) imei: Imei,
}

/// An order that was committed as `routed` to this gateway and has to be given to it.
#[derive(Debug)]
pub(super) struct Claimed {
    order: Order,
    gateway: GatewayId,
    waited: Duration,
}

impl Claimed {
    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    pub(super) fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// From its insertion.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// As the row is now.
    pub(super) fn row(&self) -> Row {
        Row {
            status: Status::Routed,
            attempt: self.order.attempt,
            // Nobody was told by this attempt, so nothing depends on these.
            resends: 0,
            idempotent: self.order.idempotent,
            expired: false,
        }
    }
}

/// A command on its way.
#[derive(Clone, Debug)]
pub(super) struct OnItsWay {
    pub(super) id: String,
    pub(super) imei: Imei,
    pub(super) gateway: GatewayId,
    pub(super) entry: Option<String>,
    pub(super) row: Row,
    /// Since it was routed or sent.
    pub(super) age: Duration,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) queued: u64,
    pub(super) routed: u64,
    pub(super) sent: u64,
    pub(super) oldest_queued_s: u64,
}

/// Ends what was not said in time.
pub(super) async fn expire(pool: &PgPool) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE commands SET status = 'expired', reason = coalesce(reason, 'expired in the queue') \
         WHERE id IN (SELECT id FROM commands WHERE status = 'queued' AND expires_at <= now() \
                      ORDER BY imei, seq FOR UPDATE SKIP LOCKED)",
    )
    .execute(pool)
    .await
    .map_err(|source| StoreError::new("expiring commands", source))?;
    Ok(done.rows_affected())
}

/// Those that could go, by IMEI from the one after `after`, `most` of them.
pub(super) async fn heads(pool: &PgPool, after: i64, most: i64) -> Result<Vec<Head>, StoreError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(concat!(
        "SELECT c.id::text, c.imei FROM commands c WHERE ",
        may_go!(),
        " AND c.imei > $1 ORDER BY c.imei LIMIT $2"
    ))
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("looking for commands", source))?;
    Ok(heads_of(rows))
}

/// Those of `ids` that could go.
pub(super) async fn heads_among(pool: &PgPool, ids: &[String]) -> Result<Vec<Head>, StoreError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(concat!(
        "SELECT c.id::text, c.imei FROM commands c WHERE c.id = ANY($1::text[]::uuid[]) AND ",
        may_go!()
    ))
    .bind(ids)
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("looking for new commands", source))?;
    Ok(heads_of(rows))
}

fn heads_of(rows: Vec<(String, i64)>) -> Vec<Head> {
    let heads = rows.into_iter().filter_map(|(id, imei)| {
        Some(Head {
            id,
            imei: imei_of(imei)?,
        })
    });
    heads.collect()
}

/// Commits as `routed` what still may go and nobody else is at.
pub(super) async fn claim(
    pool: &PgPool,
    wanted: &[(Head, GatewayId)],
) -> Result<Vec<Claimed>, StoreError> {
    type Fields = (String, i64, i16, String, i64, i64, i32, bool, String, i64);
    let ids: Vec<&str> = wanted.iter().map(|(head, _)| head.id.as_str()).collect();
    let gateways: Vec<&str> = wanted.iter().map(|(_, gateway)| gateway.as_str()).collect();
    // One statement is one transaction: what it returns is committed.
    let rows: Vec<Fields> = sqlx::query_as(concat!(
        "WITH mine AS MATERIALIZED ( \
             SELECT c.id, p.gateway FROM commands c \
             JOIN unnest($1::text[], $2::text[]) AS p (id, gateway) ON c.id = p.id::uuid WHERE ",
        may_go!(),
        " ORDER BY c.imei FOR UPDATE OF c SKIP LOCKED) \
         UPDATE commands c SET status = 'routed', gateway = mine.gateway, attempt = c.attempt + 1, \
             entry_id = NULL, reason = NULL, retry_at = NULL \
         FROM mine WHERE c.id = mine.id \
         RETURNING c.id::text, c.imei, c.codec, c.payload, \
             (extract(epoch FROM c.created_at) * 1000)::bigint, \
             (extract(epoch FROM c.expires_at) * 1000)::bigint, \
             c.attempt, c.idempotent, c.gateway, \
             (extract(epoch FROM clock_timestamp() - c.created_at) * 1000)::bigint"
    ))
    .bind(ids)
    .bind(gateways)
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("claiming commands", source))?;
    let claimed = rows.into_iter().filter_map(|row| {
        let (cid, imei, codec, payload, created, expires, attempt, idempotent, gateway, waited) =
            row;
        Some(Claimed {
            order: Order {
                cid,
                imei: imei_of(imei)?,
                codec: u8::try_from(codec).ok()?,
                payload,
                created_ms: positive(created),
                expires_ms: positive(expires),
                attempt: u32::try_from(attempt).ok()?,
                idempotent,
            },
            gateway: gateway.parse().ok()?,
            waited: Duration::from_millis(positive(waited)),
        })
    });
    Ok(claimed.collect())
}

/// Redis has these entries.
pub(super) async fn note_entries(
    pool: &PgPool,
    entries: &[(String, u32, String)],
) -> Result<(), StoreError> {
    let ids: Vec<&str> = entries.iter().map(|(id, _, _)| id.as_str()).collect();
    let attempts: Vec<i32> = entries.iter().map(|(_, n, _)| number(*n)).collect();
    let names: Vec<&str> = entries.iter().map(|(_, _, entry)| entry.as_str()).collect();
    sqlx::query(
        "UPDATE commands c SET entry_id = e.entry FROM ( \
             SELECT c.id, p.attempt, p.entry FROM commands c \
             JOIN unnest($1::text[], $2::int4[], $3::text[]) AS p (id, attempt, entry) \
                 ON c.id = p.id::uuid \
             ORDER BY c.id FOR UPDATE OF c) e \
         WHERE c.id = e.id AND c.attempt = e.attempt AND c.status <> 'queued'",
    )
    .bind(ids)
    .bind(attempts)
    .bind(names)
    .execute(pool)
    .await
    .map_err(|source| StoreError::new("noting entries", source))?;
    Ok(())
}

/// Writes a change if the row still is what it was judged by. `false`: somebody was faster.
pub(super) async fn apply(
    on: &mut PgConnection,
    id: &str,
    row: &Row,
    change: &Change,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE commands SET status = $4, reason = $5, resends = resends + $6, \
             retry_at = CASE WHEN $4 = 'queued' THEN now() + $7 * interval '1 ms' END \
         WHERE id = $1::uuid AND attempt = $2 AND status = $3",
    )
    .bind(id)
    .bind(number(row.attempt))
    .bind(row.status.as_str())
    .bind(change.to.as_str())
    .bind(change.reason)
    .bind(i16::from(change.is_resend))
    .bind(i64::try_from(change.retry_after.as_millis()).unwrap_or(i64::MAX))
    .execute(on)
    .await
    .map_err(|source| StoreError::new("writing what became of a command", source))?;
    Ok(done.rows_affected() > 0)
}

/// Locks a row if it is what it was judged by and nobody else is at it.
pub(super) async fn lock(on: &mut PgConnection, id: &str, row: &Row) -> Result<bool, StoreError> {
    let found: Option<i32> = sqlx::query_scalar(
        "SELECT 1 FROM commands WHERE id = $1::uuid AND attempt = $2 AND status = $3 \
         FOR UPDATE SKIP LOCKED",
    )
    .bind(id)
    .bind(number(row.attempt))
    .bind(row.status.as_str())
    .fetch_optional(on)
    .await
    .map_err(|source| StoreError::new("locking a command", source))?;
    Ok(found.is_some())
}

/// Everything that has been on its way for `age_min`.
pub(super) async fn on_their_way(
    pool: &PgPool,
    age_min: Duration,
) -> Result<Vec<OnItsWay>, StoreError> {
    type Fields = (
        String,
        i64,
        String,
        Option<String>,
        String,
        i32,
        i16,
        bool,
        bool,
        i64,
    );
    let rows: Vec<Fields> = sqlx::query_as(
        "SELECT id::text, imei, gateway, entry_id, status, attempt, resends, idempotent, \
             expires_at <= now(), \
             (extract(epoch FROM clock_timestamp() - coalesce(sent_at, routed_at, updated_at)) \
                 * 1000)::bigint \
         FROM commands WHERE status IN ('routed', 'sent') \
         AND coalesce(sent_at, routed_at, updated_at) <= now() - $1 * interval '1 ms'",
    )
    .bind(i64::try_from(age_min.as_millis()).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("looking for commands on their way", source))?;
    let found = rows.into_iter().filter_map(|row| {
        let (id, imei, gateway, entry, status, attempt, resends, idempotent, expired, age) = row;
        Some(OnItsWay {
            id,
            imei: imei_of(imei)?,
            gateway: gateway.parse().ok()?,
            entry,
            row: row_of(&status, attempt, resends, idempotent, expired)?,
            age: Duration::from_millis(positive(age)),
        })
    });
    Ok(found.collect())
}

/// How many are in the queue and on their way.
pub(super) async fn counts(pool: &PgPool) -> Result<Counts, StoreError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT status, count(*), \
             greatest(0, extract(epoch FROM now() - min(created_at)))::bigint \
         FROM commands WHERE status IN ('queued', 'routed', 'sent') GROUP BY status",
    )
    .fetch_all(pool)
    .await
    .map_err(|source| StoreError::new("counting commands", source))?;
    let by_status: HashMap<&str, (u64, u64)> = rows
        .iter()
        .map(|(status, count, age)| (status.as_str(), (positive(*count), positive(*age))))
        .collect();
    let of = |status| by_status.get(status).copied().unwrap_or_default();
    Ok(Counts {
        queued: of("queued").0,
        routed: of("routed").0,
        sent: of("sent").0,
        oldest_queued_s: of("queued").1,
    })
}

/// A row from its columns; `None` for a word that is no status.
pub(super) fn row_of(
    status: &str,
    attempt: i32,
    resends: i16,
    idempotent: bool,
    expired: bool,
) -> Option<Row> {
    Some(Row {
        status: Status::parse(status)?,
        attempt: u32::try_from(attempt).ok()?,
        resends: u32::try_from(resends).ok()?,
        idempotent,
        expired,
    })
}

/// `None`: not fifteen digits, which the table refuses.
pub(super) fn imei_of(value: i64) -> Option<Imei> {
    Imei::from_u64(u64::try_from(value).ok()?)
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
