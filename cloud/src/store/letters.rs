//! Dead letters out of the table, and their end: read after all, or dropped.
//!
//! Invariant: a dead letter goes in the transaction that moves its records in `settled` from `dead`
//! to where they are then, so that the ledger balances before and after.

use chrono::{DateTime, Utc};
use contract::{Device, Kind};
use sqlx::postgres::PgConnection;

use super::again::Again;
use super::errors::StoreError;
use super::frames::{device, ms, place};
use super::values::kind_of;
use crate::batch::{Frame, Place};

/// Answers of gateways to commands: nothing a decoder of frames could read.
pub const COMMAND_RESPONSE: &str = "command-response";

/// One row of `dead_letters`, with what other tables know about it.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Key.
    pub id: i64,
    /// Who sent it, as text; empty when unknown.
    pub gateway: String,
    /// Its spool; 0 when unknown.
    pub spool_id: i64,
    /// Its position; 0 when unknown.
    pub seq: i64,
    /// Record within the frame, from 0; `None`: the whole frame or entry.
    pub record_index: Option<usize>,
    /// `<stream> <id>`, when not even its place could be read.
    pub entry_id: String,
    /// What the bytes are.
    pub kind: Kind,
    /// Who spoke.
    pub device: Option<Device>,
    /// Gateway clock.
    pub received_at: Option<DateTime<Utc>>,
    /// One word: `codec`, `kind`, `frame`, `payload`, `entry`, `foreign_spool`, `database`,
    /// `command-response`, `sensor`.
    pub error_class: String,
    /// The sentence of the day it failed.
    pub reason: String,
    /// First byte that did not fit.
    pub byte_offset: Option<usize>,
    /// When the database refused it.
    pub sqlstate: Option<String>,
    /// AVL records inside.
    pub records: i64,
    /// How often it came.
    pub delivery_count: i32,
    /// First time.
    pub first_failed: DateTime<Utc>,
    /// Last time.
    pub last_failed: DateTime<Utc>,
    /// What nobody could read.
    pub bytes: Vec<u8>,
    /// The raw frame it belongs to, if it was kept.
    pub frame: Option<Frame>,
    /// When a clock of ours saw it, milliseconds since 1970.
    pub seen_ms: u64,
    /// Whose spool it really is.
    pub owner: Option<String>,
}

impl Letter {
    /// Whose position, if that was known.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        place(&self.gateway, self.spool_id, self.seq)
    }
}

/// Which ones.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only of this stream, where the stream was written down.
    pub stream: Option<String>,
    /// Only of this class.
    pub class: Option<String>,
    /// Only what failed last in the last so many milliseconds.
    pub since_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    gateway: String,
    spool_id: i64,
    seq: i64,
    record_index: i32,
    entry_id: String,
    received_at: Option<DateTime<Utc>>,
    error_class: String,
    reason: String,
    byte_offset: Option<i32>,
    sqlstate: Option<String>,
    records: i64,
    delivery_count: i32,
    first_failed: DateTime<Utc>,
    last_failed: DateTime<Utc>,
    bytes: Vec<u8>,
    kind: Option<i16>,
    frame_kind: Option<i16>,
    imei: Option<i64>,
    ident: Option<String>,
    transport: Option<i16>,
    lane: Option<i16>,
    record_count: Option<i32>,
    data: Option<Vec<u8>>,
    frame_imei: Option<i64>,
    frame_ident: Option<String>,
    settled_at: Option<DateTime<Utc>>,
    owner: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT l.id, l.gateway, l.spool_id, l.seq, l.record_index, l.entry_id, l.received_at, \
                 l.error_class, l.reason, l.byte_offset, l.sqlstate, l.records, l.delivery_count, \
                 l.first_failed, l.last_failed, l.bytes, l.kind, f.kind AS frame_kind, d.imei, d.ident, f.transport, f.lane, \
                 f.record_count, f.data, e.imei AS frame_imei, e.ident AS frame_ident, \
                 s.settled_at, o.gateway AS owner \
             FROM dead_letters l \
             LEFT JOIN devices d ON d.id = l.device_id \
             LEFT JOIN frames f ON f.spool_id = l.spool_id AND f.seq = l.seq \
                 AND f.received_at = l.received_at AND f.gateway = l.gateway \
             LEFT JOIN devices e ON e.id = f.device_id \
             LEFT JOIN spools o ON o.spool_id = l.spool_id \
             LEFT JOIN LATERAL (SELECT settled_at FROM settled \
                 WHERE int8range(spool_id, spool_id, '[]') && int8range(l.spool_id, l.spool_id, '[]') \
                   AND int8range(first_seq, last_seq, '[]') && int8range(l.seq, l.seq, '[]') LIMIT 1) AS s ON true ",
            $rest
        )
    };
}

/// The newest first, `most` at most, without their bytes.
/// # Errors
/// [`StoreError`].
pub async fn newest(
    on: &mut PgConnection,
    wanted: &Wanted,
    most: i64,
) -> Result<Vec<Letter>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT l.id, l.gateway, l.spool_id, l.seq, l.record_index, l.entry_id, l.received_at, \
             l.error_class, l.reason, l.byte_offset, l.sqlstate, l.records, l.delivery_count, \
             l.first_failed, l.last_failed, ''::bytea AS bytes, l.kind, NULL::int2 AS frame_kind, d.imei, d.ident, NULL::int2 AS transport, \
             NULL::int2 AS lane, NULL::int4 AS record_count, NULL::bytea AS data, NULL::int8 AS frame_imei, \
             NULL::text AS frame_ident, NULL::timestamptz AS settled_at, NULL::text AS owner \
         FROM dead_letters l LEFT JOIN devices d ON d.id = l.device_id \
         WHERE ($1::text IS NULL OR l.error_class = $1) \
             AND ($2::text IS NULL OR starts_with(l.entry_id, $2 || ' ')) \
             AND ($3::int8 IS NULL OR l.last_failed >= now() - $3 * interval '1 ms') \
         ORDER BY l.last_failed DESC, l.id DESC LIMIT $4",
    )
    .bind(&wanted.class)
    .bind(&wanted.stream)
    .bind(wanted.since_ms)
    .bind(most)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("reading dead letters", source))?;
    Ok(rows.into_iter().map(letter).collect())
}

/// How many match, and the AVL records in them.
/// # Errors
/// [`StoreError`].
pub async fn count(on: &mut PgConnection, wanted: &Wanted) -> Result<(i64, i64), StoreError> {
    sqlx::query_as(
        "SELECT count(*), coalesce(sum(records), 0)::int8 FROM dead_letters \
         WHERE ($1::text IS NULL OR error_class = $1) \
             AND ($2::text IS NULL OR starts_with(entry_id, $2 || ' ')) \
             AND ($3::int8 IS NULL OR last_failed >= now() - $3 * interval '1 ms')",
    )
    .bind(&wanted.class)
    .bind(&wanted.stream)
    .bind(wanted.since_ms)
    .fetch_one(on)
    .await
    .map_err(|source| StoreError::new("counting dead letters", source))
}

/// The numbers of all, or of all of a class.
/// # Errors
/// [`StoreError`].
pub async fn ids(on: &mut PgConnection, class: Option<&str>) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(
        "SELECT id FROM dead_letters WHERE $1::text IS NULL OR error_class = $1 ORDER BY id",
    )
    .bind(class)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("reading dead letters", source))
}

/// One of them. `lock`: nobody else may touch it until the transaction ends.
/// # Errors
/// [`StoreError`].
pub async fn find(
    on: &mut PgConnection,
    id: i64,
    lock: bool,
) -> Result<Option<Letter>, StoreError> {
    let sql = match lock {
        true => select!("WHERE l.id = $1 FOR UPDATE OF l"),
        false => select!("WHERE l.id = $1"),
    };
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(id)
        .fetch_optional(on)
        .await
        .map_err(|source| StoreError::new("reading a dead letter", source))?;
    Ok(row.map(letter))
}

fn letter(row: Row) -> Letter {
    let received_at_ms = row.received_at.map_or(0, ms);
    let frame = row.data.zip(device(row.frame_imei, row.frame_ident));
    Letter {
        frame: frame.map(|(data, device)| Frame {
            kind: kind_of(row.frame_kind),
            device,
            received_at_ms,
            transport: row
                .transport
                .and_then(|n| u8::try_from(n).ok())
                .unwrap_or(0),
            lane: row.lane.and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
            record_count: row
                .record_count
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
            data,
        }),
        id: row.id,
        gateway: row.gateway,
        spool_id: row.spool_id,
        seq: row.seq,
        record_index: usize::try_from(row.record_index).ok(),
        entry_id: row.entry_id,
        kind: kind_of(row.kind),
        device: device(row.imei, row.ident),
        received_at: row.received_at,
        error_class: row.error_class,
        reason: row.reason,
        byte_offset: row.byte_offset.and_then(|at| usize::try_from(at).ok()),
        sqlstate: row.sqlstate,
        records: row.records,
        delivery_count: row.delivery_count,
        first_failed: row.first_failed,
        last_failed: row.last_failed,
        bytes: row.bytes,
        seen_ms: row.settled_at.map_or(ms(row.first_failed), ms),
        owner: row.owner,
    }
}

/// What became of a dead letter's records.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// They were read: rows, or known before.
    Read(Again),
    /// Somebody gave them up.
    Dropped,
}

/// Removes a dead letter and writes its end into the ledger. To be called with its row locked.
/// # Errors
/// [`StoreError`]: roll back.
pub async fn end(on: &mut PgConnection, letter: &Letter, end: End) -> Result<(), StoreError> {
    let refused = |source| StoreError::new("removing a dead letter", source);
    // Whoever merges rows of `settled` would take them away from under the update.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('milepost.compaction'))")
        .execute(&mut *on)
        .await
        .map_err(refused)?;
    sqlx::query("DELETE FROM dead_letters WHERE id = $1")
        .bind(letter.id)
        .execute(&mut *on)
        .await
        .map_err(refused)?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (received, stored, quarantined, duplicate, dropped) = match end {
        End::Dropped => (letter.records, 0, 0, 0, letter.records),
        End::Read(a) => (
            number(a.records),
            number(a.stored),
            number(a.quarantined),
            number(a.known + a.corrected),
            0,
        ),
    };
    // An entry that could not be opened is counted by the first position it settled, which need not
    // be its first. What was never settled (foreign spools, entries without a place) was not counted.
    let reach = match letter.error_class.as_str() {
        "payload" => i64::try_from(contract::envelope::ENVELOPES_MAX).unwrap_or(0) - 1,
        _ => 0,
    };
    sqlx::query(
        "UPDATE settled SET dead = dead - $4, received = received - $4 + $5, stored = stored + $6, \
             quarantined = quarantined + $7, duplicate = duplicate + $8, dropped = dropped + $9 \
         WHERE id = (SELECT id FROM settled WHERE gateway = $1 AND dead >= $4 \
             AND int8range(spool_id, spool_id, '[]') && int8range($2, $2, '[]') \
             AND int8range(first_seq, last_seq, '[]') && int8range($3, $3 + $10, '[]') \
             ORDER BY first_seq LIMIT 1)",
    )
    .bind(&letter.gateway)
    .bind(letter.spool_id)
    .bind(letter.seq)
    .bind(letter.records)
    .bind(received)
    .bind(stored)
    .bind(quarantined)
    .bind(duplicate)
    .bind(dropped)
    .bind(reach)
    .execute(on)
    .await
    .map_err(refused)?;
    Ok(())
}
