//! Raw frames out of the table, page by page in the order of reception.
//!
//! Invariant: a page is bounded in rows; a frame is in one page only, whatever is written meanwhile.

use chrono::{DateTime, Utc};
use contract::{Device, GatewayId, SettledRanges, SpoolId};
use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::values::kind;
use crate::batch::{Frame, Place};

/// Rows of one page at most.
pub const PAGE: i64 = 500;

/// Where a frame stands in the order of reception.
pub type At = (DateTime<Utc>, i64, i64);

/// One row, as the decoder wants it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place in the order.
    pub at: At,
    /// Whose position it was.
    pub place: Place,
    /// What was sent.
    pub frame: Frame,
    /// When a clock of ours saw it, milliseconds since 1970: the database's when it was settled.
    pub seen_ms: u64,
    /// Records of it that lie in the dead letters, from 0; -1 for the whole frame.
    pub dead: Vec<i32>,
}

/// Of which frames.
#[derive(Clone, Debug)]
pub struct Span {
    /// Gateway clock, from.
    pub from: DateTime<Utc>,
    /// Gateway clock, to before.
    pub to: DateTime<Utc>,
    /// Of this tracker alone; row of `devices`.
    pub device: Option<i32>,
}

#[derive(sqlx::FromRow)]
struct Row {
    received_at: DateTime<Utc>,
    spool_id: i64,
    seq: i64,
    record_count: i32,
    transport: i16,
    lane: i16,
    kind: Option<i16>,
    gateway: String,
    data: Vec<u8>,
    imei: Option<i64>,
    ident: Option<String>,
    settled_at: Option<DateTime<Utc>>,
    dead: Option<Vec<i32>>,
}

/// Some frames of a span.
#[derive(Debug)]
pub struct Page {
    /// In the order of reception.
    pub frames: Vec<Stored>,
    /// Rows left out, because their tracker is not in `devices` or their gateway is no name.
    pub strange: u64,
    /// Where to go on; `None`: that was the last page.
    pub next: Option<At>,
}

/// The next frames of a span behind `after`.
/// # Errors
/// [`StoreError`].
pub async fn page(
    on: &mut PgConnection,
    span: &Span,
    after: Option<At>,
) -> Result<Page, StoreError> {
    let (at, spool, seq) = after.unwrap_or((DateTime::<Utc>::MIN_UTC, 0, 0));
    let at = at.max(span.from);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT f.*, d.imei, d.ident, s.settled_at, l.dead FROM ( \
             SELECT received_at, spool_id, seq, record_count, transport, lane, kind, gateway, data, device_id \
             FROM frames WHERE received_at >= $1 AND received_at < $2 \
                 AND (received_at, spool_id, seq) > ($1, $3, $4) \
                 AND ($5::int4 IS NULL OR device_id = $5) \
             ORDER BY received_at, spool_id, seq LIMIT $6) AS f \
         LEFT JOIN devices d ON d.id = f.device_id \
         LEFT JOIN LATERAL (SELECT settled_at FROM settled \
             WHERE int8range(spool_id, spool_id, '[]') && int8range(f.spool_id, f.spool_id, '[]') \
               AND int8range(first_seq, last_seq, '[]') && int8range(f.seq, f.seq, '[]') LIMIT 1) AS s ON true \
         LEFT JOIN LATERAL (SELECT array_agg(record_index) AS dead FROM dead_letters x \
             WHERE x.gateway = f.gateway AND x.spool_id = f.spool_id AND x.seq = f.seq) AS l ON true \
         ORDER BY f.received_at, f.spool_id, f.seq",
    )
    .bind(at)
    .bind(span.to)
    .bind(spool)
    .bind(seq)
    .bind(span.device)
    .bind(PAGE)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("reading frames", source))?;
    let next = match rows.len() == usize::try_from(PAGE).unwrap_or(usize::MAX) {
        true => rows
            .last()
            .map(|row| (row.received_at, row.spool_id, row.seq)),
        false => None,
    };
    let read = rows.len();
    let frames: Vec<Stored> = rows.into_iter().filter_map(stored).collect();
    Ok(Page {
        strange: (read - frames.len()) as u64,
        frames,
        next,
    })
}

/// A tracker from the columns of its row.
pub(super) fn device(imei: Option<i64>, ident: Option<String>) -> Option<Device> {
    match (imei, ident) {
        (Some(imei), _) => Some(Device::Imei(format!("{imei:015}").parse().ok()?)),
        (None, ident) => ident.map(Device::Text),
    }
}

/// Whose position.
pub(super) fn place(gateway: &str, spool: i64, seq: i64) -> Option<Place> {
    let gateway: GatewayId = gateway.parse().ok()?;
    let spool = SpoolId::from_u64(u64::try_from(spool).ok()?).ok()?;
    let seq = u64::try_from(seq).ok()?;
    Some(Place {
        gateway,
        spool,
        first: seq,
        last: seq,
        holes: SettledRanges::new(),
        only_if_known: false,
    })
}

/// Milliseconds since 1970; 0 before.
pub(super) fn ms(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp_millis()).unwrap_or(0)
}

// The tables hold what the writer put there from values of these very types.
fn stored(row: Row) -> Option<Stored> {
    let received_at_ms = ms(row.received_at);
    Some(Stored {
        at: (row.received_at, row.spool_id, row.seq),
        place: place(&row.gateway, row.spool_id, row.seq)?,
        frame: Frame {
            kind: kind(row.kind)?,
            device: device(row.imei, row.ident)?,
            received_at_ms,
            transport: u8::try_from(row.transport).unwrap_or(0),
            lane: u8::try_from(row.lane).unwrap_or(0),
            record_count: u32::try_from(row.record_count).unwrap_or(0),
            data: row.data,
        },
        seen_ms: row.settled_at.map_or(received_at_ms, ms),
        dead: row.dead.unwrap_or_default(),
    })
}

/// When the oldest frame that is kept was received; `None`: there are none.
/// # Errors
/// [`StoreError`].
pub async fn oldest(on: &mut PgConnection) -> Result<Option<DateTime<Utc>>, StoreError> {
    sqlx::query_scalar("SELECT min(received_at) FROM frames")
        .fetch_one(on)
        .await
        .map_err(|source| StoreError::new("looking for the oldest frame", source))
}
