//! The statements of one batch, in the order that keeps locks short.
//!
//! Why arrays: one statement per table and batch costs a third of one statement per row. Why
//! sorted: two writers that insert the same keys in opposite order deadlock (measured: 46 times in
//! 60; in the same order never).
//!
//! Invariant: nothing here begins or ends a transaction.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use contract::{Device, GatewayId, SettledRanges, SpoolId};
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::QueryAs;

use super::errors::StoreError;
use super::plan::{Job, Run, Tally};
use crate::batch::{DeadLetter, Frame, Place, Record, Unit};
use crate::normalise::quality::{Impossible, LATEST_MS};

type Time = DateTime<Utc>;

/// Identity of a row in `positions`: device, device time in milliseconds, hash.
type Key = (i32, i64, i32);

/// Devices of a batch with their ids.
pub(super) type Devices = HashMap<Device, i32>;

/// A moment of a gateway's clock; beyond the year 9999 it is nonsense and cut there.
fn time(ms: u64) -> Time {
    let ms = i64::try_from(ms.min(LATEST_MS)).expect("the year 9999 fits 63 bits");
    DateTime::from_timestamp_millis(ms).expect("the year 9999 has a date")
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn spool_number(spool: SpoolId) -> i64 {
    number(spool.as_u64())
}

/// Writes down new spools and says whose each spool is.
pub(super) async fn owners(
    on: &mut PgConnection,
    units: &[Unit],
    known: &HashMap<SpoolId, GatewayId>,
) -> Result<HashMap<SpoolId, GatewayId>, StoreError> {
    let places = || units.iter().filter_map(|unit| unit.place.as_ref());
    let asked: BTreeMap<SpoolId, &Place> = places()
        .filter(|place| !known.contains_key(&place.spool))
        .map(|place| (place.spool, place))
        .collect();
    let mut owners: HashMap<SpoolId, GatewayId> = places()
        .filter_map(|place| Some((place.spool, known.get(&place.spool)?.clone())))
        .collect();
    if asked.is_empty() {
        return Ok(owners);
    }
    let new: BTreeMap<SpoolId, &Place> = places()
        .filter(|place| !place.only_if_known && asked.contains_key(&place.spool))
        .map(|place| (place.spool, place))
        .collect();
    let ids: Vec<i64> = new.keys().map(|spool| spool_number(*spool)).collect();
    let gateways: Vec<&str> = new.values().map(|place| place.gateway.as_str()).collect();
    sqlx::query(
        "INSERT INTO spools (spool_id, gateway) SELECT * FROM UNNEST($1::int8[], $2::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(gateways)
    .execute(&mut *on)
    .await
    .map_err(|source| StoreError::new("registering spools", source))?;
    let ids: Vec<i64> = asked.keys().map(|spool| spool_number(*spool)).collect();
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT spool_id, gateway FROM spools WHERE spool_id = ANY($1)")
            .bind(ids)
            .fetch_all(on)
            .await
            .map_err(|source| StoreError::new("looking up spools", source))?;
    for (spool, gateway) in rows {
        let spool = u64::try_from(spool).ok().map(SpoolId::from_u64);
        if let (Some(Ok(spool)), Ok(gateway)) = (spool, gateway.parse()) {
            owners.insert(spool, gateway);
        }
    }
    Ok(owners)
}

/// What of these units is settled already.
pub(super) async fn settled(
    on: &mut PgConnection,
    units: &[Unit],
) -> Result<HashMap<SpoolId, SettledRanges>, StoreError> {
    let mut asked: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for place in units.iter().filter_map(|unit| unit.place.as_ref()) {
        let span = asked
            .entry(spool_number(place.spool))
            .or_insert((place.first, place.last));
        *span = (span.0.min(place.first), span.1.max(place.last));
    }
    let spools: Vec<i64> = asked.keys().copied().collect();
    let firsts: Vec<i64> = asked.values().map(|span| number(span.0)).collect();
    let lasts: Vec<i64> = asked.values().map(|span| number(span.1)).collect();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT s.spool_id, s.first_seq, s.last_seq \
         FROM UNNEST($1::int8[], $2::int8[], $3::int8[]) AS a(spool, first, last) \
         JOIN settled s ON int8range(s.spool_id, s.spool_id, '[]') && int8range(a.spool, a.spool, '[]') \
                       AND int8range(s.first_seq, s.last_seq, '[]') && int8range(a.first, a.last, '[]')",
    )
    .bind(spools)
    .bind(firsts)
    .bind(lasts)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking up what is settled", source))?;
    let mut settled: HashMap<SpoolId, SettledRanges> = HashMap::new();
    for (spool, first, last) in rows {
        let numbers = (
            u64::try_from(spool),
            u64::try_from(first),
            u64::try_from(last),
        );
        if let (Ok(spool), Ok(first), Ok(last)) = numbers
            && let Ok(spool) = SpoolId::from_u64(spool)
        {
            settled.entry(spool).or_default().insert(first, last);
        }
    }
    Ok(settled)
}

/// Who spoke in these jobs, with the first and last time a gateway heard them.
fn heard(jobs: &[Job<'_>]) -> BTreeMap<Device, (u64, u64)> {
    let mut heard: BTreeMap<Device, (u64, u64)> = BTreeMap::new();
    let frames = jobs.iter().filter_map(|job| job.unit.frame.as_ref());
    for frame in frames {
        let at = frame.received_at_ms;
        let span = heard.entry(frame.device.clone()).or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    }
    heard
}

/// Ids of everyone who spoke; creates those that are new. Not to be kept before COMMIT.
pub(super) async fn devices(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    known: &Devices,
) -> Result<Devices, StoreError> {
    let doing = "registering devices";
    let heard = heard(jobs);
    let mut ids: Devices = HashMap::with_capacity(heard.len());
    let (mut imeis, mut idents) = (Vec::new(), Vec::new());
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (device, span) in &heard {
        if let Some(id) = known.get(device) {
            ids.insert(device.clone(), *id);
            continue;
        }
        let (imei, ident) = match device {
            Device::Imei(imei) => (Some(number(imei.as_u64())), None),
            Device::Text(text) => (None, Some(text.as_str())),
        };
        imeis.push(imei);
        idents.push(ident);
        first.push(time(span.0));
        last.push(time(span.1));
    }
    if imeis.is_empty() {
        return Ok(ids);
    }
    sqlx::query(
        "INSERT INTO devices (imei, ident, first_seen, last_seen) \
         SELECT * FROM UNNEST($1::int8[], $2::text[], $3::timestamptz[], $4::timestamptz[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&imeis)
    .bind(&idents)
    .bind(first)
    .bind(last)
    .execute(&mut *on)
    .await
    .map_err(|source| StoreError::new(doing, source))?;
    let rows: Vec<(i32, Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT id, imei, ident FROM devices WHERE imei = ANY($1::int8[]) OR ident = ANY($2::text[])",
    )
    .bind(&imeis)
    .bind(&idents)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new(doing, source))?;
    for (id, imei, ident) in rows {
        let imei = imei
            .and_then(|imei| u64::try_from(imei).ok())
            .and_then(|imei| format!("{imei:015}").parse().ok());
        match (imei, ident) {
            (Some(imei), _) => ids.insert(Device::Imei(imei), id),
            (None, Some(ident)) => ids.insert(Device::Text(ident), id),
            (None, None) => None,
        };
    }
    Ok(ids)
}

/// Writes the rows of all jobs. Returns what became of each job's records.
pub(super) async fn rows(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
    keep_frames: bool,
) -> Result<Vec<Tally>, StoreError> {
    let mut tallies: Vec<Tally> = jobs.iter().map(|job| beginning(&job.unit)).collect();
    let (mut good, mut odd) = sorted_records(jobs, devices);
    forget_quarantined(on, &mut good).await?;
    forget_stored(on, &mut odd).await?;
    for key in positions(on, &good).await? {
        tallies[good[&key].job].stored += 1;
    }
    for key in quarantine(on, &odd).await? {
        tallies[odd[&key].job].quarantined += 1;
    }
    for (job, tally) in jobs.iter().zip(&mut tallies) {
        tally.duplicate = job.unit.records.len() as u64 - tally.stored - tally.quarantined;
    }
    if keep_frames {
        frames(on, jobs, devices).await?;
    }
    messages(on, jobs, devices).await?;
    dead_letters(on, jobs, devices).await?;
    // Rows that other writers may want too come last, so that they wait for little.
    latest(on, &good).await?;
    seen(on, jobs, devices).await?;
    Ok(tallies)
}

fn beginning(unit: &Unit) -> Tally {
    Tally {
        received: unit.received,
        dead: unit.dead,
        dropped: unit.dropped,
        ..Tally::default()
    }
}

/// One record on its way, and whose job it is.
struct Row<'a> {
    job: usize,
    received_at: Time,
    record: &'a Record,
}

/// Sorted by key; the first of several equal ones wins.
type Rows<'a> = BTreeMap<Key, Row<'a>>;

/// Splits the records into those for `positions` and those for quarantine.
fn sorted_records<'a>(jobs: &'a [Job<'_>], devices: &Devices) -> (Rows<'a>, Rows<'a>) {
    let (mut good, mut odd) = (Rows::new(), Rows::new());
    for (index, job) in jobs.iter().enumerate() {
        let Some(frame) = &job.unit.frame else {
            continue;
        };
        let device = devices[&frame.device];
        for record in &job.unit.records {
            // Quarantine keeps all 64 bits of an absurd time by reading them as signed.
            let key = (device, record.device_time_ms.cast_signed(), record.hash);
            let (rows, others) = match record.quarantine {
                None => (&mut good, &odd),
                Some(_) => (&mut odd, &good),
            };
            // Sent again later, a record may be judged otherwise: the first judgement stands.
            if others.contains_key(&key) {
                continue;
            }
            rows.entry(key).or_insert_with(|| Row {
                job: index,
                received_at: time(frame.received_at_ms),
                record,
            });
        }
    }
    (good, odd)
}

/// Leaves out records that an earlier delivery put into quarantine (its reception was earlier).
async fn forget_quarantined(on: &mut PgConnection, rows: &mut Rows<'_>) -> Result<(), StoreError> {
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
    for key in found {
        rows.remove(&key);
    }
    Ok(())
}

/// Leaves out records that an earlier delivery put into `positions`.
async fn forget_stored(on: &mut PgConnection, rows: &mut Rows<'_>) -> Result<(), StoreError> {
    let possible: Vec<&Key> = rows
        .keys()
        .filter(|key| u64::try_from(key.1).is_ok_and(|ms| ms <= LATEST_MS))
        .collect();
    if possible.is_empty() {
        return Ok(());
    }
    let devices: Vec<i32> = possible.iter().map(|key| key.0).collect();
    let times: Vec<Time> = possible
        .iter()
        .map(|key| time(key.1.cast_unsigned()))
        .collect();
    let hashes: Vec<i32> = possible.iter().map(|key| key.2).collect();
    let found: Vec<(i32, Time, i32)> = sqlx::query_as(
        "SELECT p.device_id, p.fix_time, p.record_hash \
         FROM UNNEST($1::int4[], $2::timestamptz[], $3::int4[]) AS a(device, at, hash) \
         JOIN positions p ON p.device_id = a.device AND p.fix_time = a.at AND p.record_hash = a.hash",
    )
    .bind(devices)
    .bind(times)
    .bind(hashes)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking into positions", source))?;
    for (device, at, hash) in found {
        rows.remove(&(device, at.timestamp_millis(), hash));
    }
    Ok(())
}

// What `positions` and `positions_quarantine` have in common, in the order of the arrays bound by
// `bind_columns`; `io` travels as text, which costs no more than binary jsonb (measured).
macro_rules! columns {
    () => {
        "device_id, record_hash, received_at, latitude, longitude, odometer_m, heading_deg, \
         speed_kmh, event_io_id, external_voltage_mv, battery_voltage_mv, altitude_m, satellites, \
         priority, generation_type, gsm_signal, valid, ignition, movement"
    };
}
macro_rules! arrays {
    () => {
        "$1::int4[], $2::int4[], $3::timestamptz[], $4::float8[], $5::float8[], $6::int8[], \
         $7::int4[], $8::int4[], $9::int4[], $10::int4[], $11::int4[], $12::int2[], $13::int2[], \
         $14::int2[], $15::int2[], $16::int2[], $17::bool[], $18::bool[], $19::bool[], $20::text[]"
    };
}

type Asked<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

fn bind_columns<'q, T>(asked: Asked<'q, T>, rows: &Rows<'q>) -> Asked<'q, T> {
    fn column<'a, T>(rows: &Rows<'a>, value: impl Fn(&'a Record) -> T) -> Vec<T> {
        rows.values().map(|row| value(row.record)).collect()
    }
    asked
        .bind(rows.keys().map(|key| key.0).collect::<Vec<_>>())
        .bind(rows.keys().map(|key| key.2).collect::<Vec<_>>())
        .bind(rows.values().map(|row| row.received_at).collect::<Vec<_>>())
        .bind(column(rows, |r| r.latitude))
        .bind(column(rows, |r| r.longitude))
        .bind(column(rows, |r| r.hot.odometer_m))
        .bind(column(rows, |r| i32::from(r.heading_deg)))
        .bind(column(rows, |r| i32::from(r.speed_kmh)))
        .bind(column(rows, |r| i32::from(r.event_io_id)))
        .bind(column(rows, |r| r.hot.external_voltage_mv))
        .bind(column(rows, |r| r.hot.battery_voltage_mv))
        .bind(column(rows, |r| r.altitude_m))
        .bind(column(rows, |r| i16::from(r.satellites)))
        .bind(column(rows, |r| i16::from(r.priority)))
        .bind(column(rows, |r| r.generation_type.map(i16::from)))
        .bind(column(rows, |r| r.hot.gsm_signal))
        .bind(column(rows, |r| r.valid))
        .bind(column(rows, |r| r.hot.ignition))
        .bind(column(rows, |r| r.hot.movement))
        .bind(column(rows, |r| r.io.as_str()))
}

async fn positions(on: &mut PgConnection, rows: &Rows<'_>) -> Result<Vec<Key>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let times: Vec<Time> = rows.keys().map(|key| time(key.1.cast_unsigned())).collect();
    let asked: Asked<'_, (i32, Time, i32)> = sqlx::query_as(concat!(
        "INSERT INTO positions (",
        columns!(),
        ", io, fix_time) SELECT ",
        columns!(),
        ", io::jsonb, fix_time FROM UNNEST(",
        arrays!(),
        ", $21::timestamptz[]) AS a(",
        columns!(),
        ", io, fix_time) ON CONFLICT DO NOTHING RETURNING device_id, fix_time, record_hash"
    ));
    let new = bind_columns(asked, rows)
        .bind(times)
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("inserting positions", source))?;
    Ok(new
        .into_iter()
        .map(|(device, at, hash)| (device, at.timestamp_millis(), hash))
        .collect())
}

async fn quarantine(on: &mut PgConnection, rows: &Rows<'_>) -> Result<Vec<Key>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let reason = |row: &Row<'_>| row.record.quarantine.map(Impossible::as_str);
    let asked: Asked<'_, Key> = sqlx::query_as(concat!(
        "INSERT INTO positions_quarantine (",
        columns!(),
        ", io, device_time_ms, reason) SELECT ",
        columns!(),
        ", io::jsonb, device_time_ms, reason FROM UNNEST(",
        arrays!(),
        ", $21::int8[], $22::text[]) AS a(",
        columns!(),
        ", io, device_time_ms, reason) \
         ON CONFLICT DO NOTHING RETURNING device_id, device_time_ms, record_hash"
    ));
    bind_columns(asked, rows)
        .bind(rows.keys().map(|key| key.1).collect::<Vec<_>>())
        .bind(rows.values().map(reason).collect::<Vec<_>>())
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("inserting into the quarantine", source))
}

/// Jobs that came from an envelope and may settle it.
fn envelopes<'a>(jobs: &'a [Job<'_>]) -> impl Iterator<Item = (&'a Place, &'a Frame, &'a Unit)> {
    jobs.iter().filter_map(|job| {
        let unit = job.unit.as_ref();
        Some((unit.place.as_ref()?, unit.frame.as_ref()?, unit))
    })
}

async fn frames(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let all: Vec<_> = envelopes(jobs).collect();
    if all.is_empty() {
        return Ok(());
    }
    let counts = all
        .iter()
        .map(|(_, frame, _)| i32::try_from(frame.record_count).unwrap_or(i32::MAX));
    sqlx::query(
        "INSERT INTO frames (received_at, spool_id, seq, device_id, record_count, transport, \
             lane, gateway, data) \
         SELECT * FROM UNNEST($1::timestamptz[], $2::int8[], $3::int8[], $4::int4[], $5::int4[], \
             $6::int2[], $7::int2[], $8::text[], $9::bytea[]) ON CONFLICT DO NOTHING",
    )
    .bind(
        all.iter()
            .map(|(_, f, _)| time(f.received_at_ms))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(p, _, _)| spool_number(p.spool))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(p, _, _)| number(p.first))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f, _)| devices[&f.device])
            .collect::<Vec<_>>(),
    )
    .bind(counts.collect::<Vec<_>>())
    .bind(
        all.iter()
            .map(|(_, f, _)| i16::from(f.transport))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f, _)| i16::from(f.lane))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(p, _, _)| p.gateway.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, f, _)| f.data.as_slice())
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

async fn messages(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let all: Vec<_> = envelopes(jobs)
        .flat_map(|(place, frame, unit)| unit.messages.iter().map(move |m| (place, frame, m)))
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let device_time = |s: u32| time(u64::from(s) * 1_000);
    sqlx::query(
        "INSERT INTO messages (device_id, received_at, device_time, spool_id, seq, \
             message_index, codec, kind, gateway, payload, text) \
         SELECT * FROM UNNEST($1::int4[], $2::timestamptz[], $3::timestamptz[], $4::int8[], \
             $5::int8[], $6::int4[], $7::int2[], $8::int2[], $9::text[], $10::bytea[], $11::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(all.iter().map(|(_, f, _)| devices[&f.device]).collect::<Vec<_>>())
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
    Ok(())
}

/// The unique key of `dead_letters`.
type LetterKey = (String, i64, i64, i32, String);

async fn dead_letters(
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
                    .map_or_else(String::new, |entry| entry.to_string()),
            );
            all.entry(key).or_insert(letter);
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    let letters = || all.values();
    let device =
        |letter: &&DeadLetter| letter.device.as_ref().and_then(|d| devices.get(d)).copied();
    let offset = |letter: &&DeadLetter| letter.offset.and_then(|at| i32::try_from(at).ok());
    sqlx::query(
        "INSERT INTO dead_letters (gateway, spool_id, seq, record_index, entry_id, device_id, \
             received_at, error_class, reason, byte_offset, sqlstate, records, bytes) \
         SELECT * FROM UNNEST($1::text[], $2::int8[], $3::int8[], $4::int4[], $5::text[], \
             $6::int4[], $7::timestamptz[], $8::text[], $9::text[], $10::int4[], $11::text[], \
             $12::int8[], $13::bytea[]) \
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
    .execute(on)
    .await
    .map_err(|source| StoreError::new("inserting dead letters", source))?;
    Ok(())
}

/// Newest valid position of each device. Guarded by time and hash, so the order of arrival does
/// not matter.
async fn latest(on: &mut PgConnection, rows: &Rows<'_>) -> Result<(), StoreError> {
    // Rows are sorted by device, then time, then hash: the last valid one of a device wins.
    let mut newest: BTreeMap<i32, (&Key, &Row<'_>)> = BTreeMap::new();
    for (key, row) in rows.iter().filter(|(_, row)| row.record.valid) {
        newest.insert(key.0, (key, row));
    }
    if newest.is_empty() {
        return Ok(());
    }
    let all: Vec<(&Key, &Row<'_>)> = newest.into_values().collect();
    sqlx::query(
        "INSERT INTO device_latest AS l (device_id, fix_time, record_hash, received_at, latitude, \
             longitude, altitude_m, heading_deg, speed_kmh, satellites, ignition, movement, \
             odometer_m, external_voltage_mv) \
         SELECT * FROM UNNEST($1::int4[], $2::timestamptz[], $3::int4[], $4::timestamptz[], \
             $5::float8[], $6::float8[], $7::int2[], $8::int4[], $9::int4[], $10::int2[], \
             $11::bool[], $12::bool[], $13::int8[], $14::int4[]) \
         ON CONFLICT (device_id) DO UPDATE SET (fix_time, record_hash, received_at, latitude, \
             longitude, altitude_m, heading_deg, speed_kmh, satellites, ignition, movement, \
             odometer_m, external_voltage_mv) = (excluded.fix_time, excluded.record_hash, \
             excluded.received_at, excluded.latitude, excluded.longitude, excluded.altitude_m, \
             excluded.heading_deg, excluded.speed_kmh, excluded.satellites, excluded.ignition, \
             excluded.movement, excluded.odometer_m, excluded.external_voltage_mv) \
         WHERE (l.fix_time, l.record_hash) < (excluded.fix_time, excluded.record_hash)",
    )
    .bind(all.iter().map(|(key, _)| key.0).collect::<Vec<_>>())
    .bind(
        all.iter()
            .map(|(key, _)| time(key.1.cast_unsigned()))
            .collect::<Vec<_>>(),
    )
    .bind(all.iter().map(|(key, _)| key.2).collect::<Vec<_>>())
    .bind(
        all.iter()
            .map(|(_, row)| row.received_at)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.latitude)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.longitude)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.altitude_m)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| i32::from(row.record.heading_deg))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| i32::from(row.record.speed_kmh))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| i16::from(row.record.satellites))
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.hot.ignition)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.hot.movement)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.hot.odometer_m)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.hot.external_voltage_mv)
            .collect::<Vec<_>>(),
    )
    .execute(on)
    .await
    .map_err(|source| StoreError::new("updating the latest positions", source))?;
    Ok(())
}

/// First and last time a gateway heard each device.
async fn seen(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
) -> Result<(), StoreError> {
    let heard = heard(jobs);
    if heard.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE devices d SET first_seen = LEAST(d.first_seen, a.first), \
             last_seen = GREATEST(d.last_seen, a.last) \
         FROM UNNEST($1::int4[], $2::timestamptz[], $3::timestamptz[]) AS a(id, first, last) \
         WHERE d.id = a.id AND (d.first_seen > a.first OR d.last_seen < a.last)",
    )
    .bind(
        heard
            .keys()
            .map(|device| devices[device])
            .collect::<Vec<_>>(),
    )
    .bind(heard.values().map(|span| time(span.0)).collect::<Vec<_>>())
    .bind(heard.values().map(|span| time(span.1)).collect::<Vec<_>>())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("updating devices", source))?;
    Ok(())
}

/// Writes down what is settled now. Fails with 23P01 when another processor was faster.
pub(super) async fn settle(on: &mut PgConnection, runs: &[Run]) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let tally = |value: fn(&Tally) -> u64| -> Vec<i64> {
        runs.iter().map(|run| number(value(&run.tally))).collect()
    };
    sqlx::query(
        "INSERT INTO settled (gateway, spool_id, first_seq, last_seq, received, stored, \
             quarantined, duplicate, dead, dropped) \
         SELECT * FROM UNNEST($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], \
             $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[])",
    )
    .bind(
        runs.iter()
            .map(|run| run.gateway.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        runs.iter()
            .map(|run| spool_number(run.spool))
            .collect::<Vec<_>>(),
    )
    .bind(runs.iter().map(|run| number(run.first)).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| number(run.last)).collect::<Vec<_>>())
    .bind(tally(|t| t.received))
    .bind(tally(|t| t.stored))
    .bind(tally(|t| t.quarantined))
    .bind(tally(|t| t.duplicate))
    .bind(tally(|t| t.dead))
    .bind(tally(|t| t.dropped))
    .execute(on)
    .await
    .map_err(|source| StoreError::new("settling", source))?;
    Ok(())
}

/// Raises the position below which nothing will ever be sent again.
pub(super) async fn lows(
    on: &mut PgConnection,
    lows: &[(SpoolId, GatewayId, u64)],
) -> Result<(), StoreError> {
    if lows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE spools s SET low = a.low \
         FROM UNNEST($1::int8[], $2::text[], $3::int8[]) AS a(spool, gateway, low) \
         WHERE s.spool_id = a.spool AND s.gateway = a.gateway AND s.low < a.low",
    )
    .bind(
        lows.iter()
            .map(|low| spool_number(low.0))
            .collect::<Vec<_>>(),
    )
    .bind(lows.iter().map(|low| low.1.as_str()).collect::<Vec<_>>())
    .bind(lows.iter().map(|low| number(low.2)).collect::<Vec<_>>())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("raising the low edge of spools", source))?;
    Ok(())
}
