//! What is written once per envelope: raw frames, messages, dead letters.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use super::copy::{self, Copy, Fields};
use super::devices::{Devices, Who};
use super::errors::StoreError;
use super::plan::Job;
use super::values::{kind_number, number, spool_number, time};
use crate::batch::{DeadLetter, Frame, Place, Unit};

/// Jobs that came from an envelope and may settle it.
fn envelopes<'a>(jobs: &'a [Job<'_>]) -> impl Iterator<Item = (&'a Place, &'a Frame, &'a Unit)> {
    jobs.iter().filter_map(|job| {
        let unit = job.unit.as_ref();
        Some((unit.place.as_ref()?, unit.frame.as_ref()?, unit))
    })
}

/// Envelopes by the key of `frames`, sorted, each once.
fn by_key<'a>(jobs: &'a [Job<'_>]) -> Vec<(&'a Place, &'a Frame)> {
    let key = |(place, frame): &(&Place, &Frame)| (place.spool, place.first, frame.received_at_ms);
    let mut all: Vec<_> = envelopes(jobs).map(|(p, f, _)| (p, f)).collect();
    all.sort_by_key(key);
    all.dedup_by_key(|envelope| key(envelope));
    all
}

/// Columns of one row of `frames`.
const COPY_COLUMNS: i16 = 10;

macro_rules! columns {
    () => {
        "received_at, spool_id, seq, device_id, record_count, transport, lane, gateway, data, kind"
    };
}

fn record_count(frame: &Frame) -> i32 {
    i32::try_from(frame.record_count).unwrap_or(i32::MAX)
}

/// Copies the frames straight in: all of them are new, or it fails with 23505.
pub(super) async fn copy_frames(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let all = by_key(jobs);
    if all.is_empty() {
        return Ok(());
    }
    let statement = concat!("COPY frames (", columns!(), ") FROM STDIN (FORMAT binary)");
    let mut copy = Copy::begin(on, copy::INTO_FRAMES, statement, COPY_COLUMNS).await?;
    for (place, frame) in all {
        let fill = |mut fields: Fields<'_>| {
            fields
                .put(time(frame.received_at_ms))
                .put(spool_number(place.spool))
                .put(number(place.first))
                .put(devices[&Who::of(frame)])
                .put(record_count(frame))
                .put(i16::from(frame.transport))
                .put(i16::from(frame.lane))
                .put(place.gateway.as_str())
                .put(frame.data.as_slice())
                .put(kind_number(&frame.kind));
        };
        copy.row(fill).await?;
    }
    copy.end().await
}

pub(super) async fn frames(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let all = by_key(jobs);
    if all.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO frames (",
        columns!(),
        ") \
         SELECT * FROM UNNEST($1::timestamptz[], $2::int8[], $3::int8[], $4::int4[], $5::int4[], \
             $6::int2[], $7::int2[], $8::text[], $9::bytea[], $10::int2[]) ON CONFLICT DO NOTHING"
    ))
    .bind(
        all.iter()
            .map(|(_, f)| time(f.received_at_ms))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(p, _)| spool_number(p.spool))
            .collect::<Vec<_>>(),
    )
    .bind(all.iter().map(|(p, _)| number(p.first)).collect::<Vec<_>>())
    .bind(
        all.iter()
            .map(|(_, f)| devices[&Who::of(f)])
            .collect::<Vec<_>>(),
    )
    .bind(all.iter().map(|(_, f)| record_count(f)).collect::<Vec<_>>())
    .bind(
        all.iter()
            .map(|(_, f)| i16::from(f.transport))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f)| i16::from(f.lane))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(p, _)| p.gateway.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f)| f.data.as_slice())
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f)| kind_number(&f.kind))
            .collect::<Vec<_>>(),
    )
    .execute(on)
    .await
    .map_err(|source| StoreError::new("inserting frames", source))?;
    Ok(())
}

/// A payload as text, when a person could read it.
fn printable(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
    text.chars().all(plain).then_some(text)
}

/// Returns how many were not there before.
pub(super) async fn messages(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<u64, StoreError> {
    let all: Vec<_> = envelopes(jobs)
        .flat_map(|(place, frame, unit)| unit.messages.iter().map(move |m| (place, frame, m)))
        .collect();
    if all.is_empty() {
        return Ok(0);
    }
    let device_time = |s: u32| time(u64::from(s) * 1_000);
    let inserted = sqlx::query(
        "INSERT INTO messages (device_id, received_at, device_time, spool_id, seq, \
             message_index, codec, kind, gateway, payload, text) \
         SELECT * FROM UNNEST($1::int4[], $2::timestamptz[], $3::timestamptz[], $4::int8[], \
             $5::int8[], $6::int4[], $7::int2[], $8::int2[], $9::text[], $10::bytea[], $11::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(all.iter().map(|(_, f, _)| devices[&Who::of(f)]).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, f, _)| time(f.received_at_ms)).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| m.device_time_s.map(device_time)).collect::<Vec<_>>())
    .bind(all.iter().map(|(p, _, _)| spool_number(p.spool)).collect::<Vec<_>>())
    .bind(all.iter().map(|(p, _, _)| number(p.first)).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| m.index.cast_signed()).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| i16::from(m.codec)).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| i16::from(m.kind)).collect::<Vec<_>>())
    .bind(all.iter().map(|(p, _, _)| p.gateway.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| m.payload.as_slice()).collect::<Vec<_>>())
    .bind(all.iter().map(|(_, _, m)| printable(&m.payload)).collect::<Vec<_>>())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("inserting messages", source))?;
    Ok(inserted.rows_affected())
}

/// The unique key of `dead_letters`.
type LetterKey = (String, i64, i64, i32, String);

pub(super) async fn dead_letters(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    // One statement may not touch the same row twice.
    let mut all: BTreeMap<LetterKey, &DeadLetter> = BTreeMap::new();
    for job in jobs {
        let place = job.unit.place.as_ref();
        for letter in &job.unit.dead_letters {
            let record = letter
                .record_index
                .and_then(|index| i32::try_from(index).ok());
            let key = (
                place.map_or_else(String::new, |place| place.gateway.to_string()),
                place.map_or(0, |place| spool_number(place.spool)),
                place.map_or(0, |place| number(place.first)),
                record.unwrap_or(-1),
                letter
                    .entry
                    .as_ref()
                    .map_or_else(String::new, |entry| entry.to_string()),
            );
            all.entry(key).or_insert(letter);
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    let letters = || all.values();
    let device = |letter: &&DeadLetter| {
        Some(*devices.get(&Who::said(letter.device.as_ref()?, &letter.kind))?)
    };
    let offset = |letter: &&DeadLetter| letter.offset.and_then(|at| i32::try_from(at).ok());
    sqlx::query(
        "INSERT INTO dead_letters (gateway, spool_id, seq, record_index, entry_id, device_id, \
             received_at, error_class, reason, byte_offset, sqlstate, records, bytes, kind) \
         SELECT * FROM UNNEST($1::text[], $2::int8[], $3::int8[], $4::int4[], $5::text[], \
             $6::int4[], $7::timestamptz[], $8::text[], $9::text[], $10::int4[], $11::text[], \
             $12::int8[], $13::bytea[], $14::int2[]) \
         ON CONFLICT (gateway, spool_id, seq, record_index, entry_id) DO UPDATE \
             SET last_failed = now(), delivery_count = dead_letters.delivery_count + 1",
    )
    .bind(all.keys().map(|key| key.0.as_str()).collect::<Vec<_>>())
    .bind(all.keys().map(|key| key.1).collect::<Vec<_>>())
    .bind(all.keys().map(|key| key.2).collect::<Vec<_>>())
    .bind(all.keys().map(|key| key.3).collect::<Vec<_>>())
    .bind(all.keys().map(|key| key.4.as_str()).collect::<Vec<_>>())
    .bind(letters().map(device).collect::<Vec<_>>())
    .bind(
        letters()
            .map(|letter| letter.received_at_ms.map(time))
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|letter| letter.error_class)
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|letter| letter.reason.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(letters().map(offset).collect::<Vec<_>>())
    .bind(
        letters()
            .map(|letter| letter.sqlstate.as_deref())
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|letter| number(letter.records))
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|letter| letter.bytes.as_slice())
            .collect::<Vec<_>>(),
    )
    .bind(
        letters()
            .map(|letter| kind_number(&letter.kind))
            .collect::<Vec<_>>(),
    )
    .execute(on)
    .await
    .map_err(|source| StoreError::new("inserting dead letters", source))?;
    Ok(())
}
