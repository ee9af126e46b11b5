//! AVL records: positions, their quarantine, and the newest position of each device.
//!
//! Invariant: a record lives in one of the two tables, whatever the order of its deliveries.

use std::collections::HashSet;

use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::QueryAs;

use super::copy::{self, Copy, Fields, Json};
use super::devices::{Devices, Who};
use super::errors::StoreError;
use super::plan::Job;
use super::values::{Time, time};
use crate::batch::Record;
use crate::normalise::quality::Impossible;

/// Identity of a row in `positions`: device, device time in milliseconds, hash.
pub(super) type Key = (i32, i64, i32);

/// One record on its way, and whose job it is.
pub(super) struct Row<'a> {
    pub(super) job: usize,
    received_at: Time,
    record: &'a Record,
}

/// Sorted by key, each key once. A list and not a map: rows come in runs that are sorted already.
#[derive(Default)]
pub(super) struct Rows<'a>(Vec<(Key, Row<'a>)>);

impl<'a> Rows<'a> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Row<'a>> {
        self.0.iter().map(|(_, row)| row)
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, &Row<'a>)> {
        self.0.iter().map(|(key, row)| (key, row))
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Row<'a>> {
        let at = self.0.binary_search_by_key(key, |(key, _)| *key).ok()?;
        self.0.get(at).map(|(_, row)| row)
    }

    /// Leaves out all others.
    fn keep_only(&mut self, wanted: &HashSet<Key>) {
        self.0.retain(|(key, _)| wanted.contains(key));
    }

    /// Leaves out these; says how many there were.
    pub(super) fn leave_out(&mut self, known: &HashSet<Key>) -> usize {
        let before = self.0.len();
        if !known.is_empty() {
            self.0.retain(|(key, _)| !known.contains(key));
        }
        before - self.0.len()
    }
}

/// Splits the records into those for `positions` and those for quarantine. Of several with one key
/// the first wins: sent again later, a record may be judged otherwise, and the first judgement stands.
pub(super) fn sorted<'a>(jobs: &'a [Job<'_>], devices: &Devices) -> (Rows<'a>, Rows<'a>) {
    let count = jobs.iter().map(|job| job.unit.records.len()).sum();
    let mut all: Vec<(Key, Row<'a>)> = Vec::with_capacity(count);
    for (index, job) in jobs.iter().enumerate() {
        let Some(frame) = &job.unit.frame else {
            continue;
        };
        let device = devices[&Who::of(frame)];
        let received_at = time(frame.received_at_ms);
        all.extend(job.unit.records.iter().map(|record| {
            // Quarantine keeps all 64 bits of an absurd time by reading them as signed.
            let key = (device, record.device_time_ms.cast_signed(), record.hash);
            let row = Row {
                job: index,
                received_at,
                record,
            };
            (key, row)
        }));
    }
    all.sort_by_key(|(key, _)| *key);
    all.dedup_by_key(|(key, _)| *key);
    let is_odd = |(_, row): &mut (Key, Row<'_>)| row.record.quarantine.is_some();
    let odd = all.extract_if(.., is_odd).collect();
    (Rows(all), Rows(odd))
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
        .bind(column(rows, |r| r.heading_deg))
        .bind(column(rows, |r| r.speed_kmh))
        .bind(column(rows, |r| i32::from(r.event_io_id)))
        .bind(column(rows, |r| r.hot.external_voltage_mv))
        .bind(column(rows, |r| r.hot.battery_voltage_mv))
        .bind(column(rows, |r| r.altitude_m))
        .bind(column(rows, |r| r.satellites.map(i16::from)))
        .bind(column(rows, |r| r.priority.map(i16::from)))
        .bind(column(rows, |r| r.generation_type.map(i16::from)))
        .bind(column(rows, |r| r.hot.gsm_signal))
        .bind(column(rows, |r| r.valid))
        .bind(column(rows, |r| r.hot.ignition))
        .bind(column(rows, |r| r.hot.movement))
        .bind(column(rows, |r| r.io.as_str()))
}

/// Columns of one row of `positions`.
const COPY_COLUMNS: i16 = 21;

/// Copies the rows straight in: all of them are new, or it fails with 23505.
pub(super) async fn copy_positions(
    on: &mut PgConnection,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = concat!(
        "COPY positions (",
        columns!(),
        ", io, fix_time) FROM STDIN (FORMAT binary)"
    );
    let mut copy = Copy::begin(on, copy::INTO_POSITIONS, statement, COPY_COLUMNS).await?;
    for (key, row) in rows.iter() {
        let (r, hot) = (row.record, &row.record.hot);
        let fill = |mut fields: Fields<'_>| {
            fields
                .put(key.0)
                .put(key.2)
                .put(row.received_at)
                .put(r.latitude)
                .put(r.longitude)
                .put(hot.odometer_m)
                .put(r.heading_deg)
                .put(r.speed_kmh)
                .put(i32::from(r.event_io_id))
                .put(hot.external_voltage_mv)
                .put(hot.battery_voltage_mv)
                .put(r.altitude_m)
                .put(r.satellites.map(i16::from))
                .put(r.priority.map(i16::from))
                .put(r.generation_type.map(i16::from))
                .put(hot.gsm_signal)
                .put(r.valid)
                .put(hot.ignition)
                .put(hot.movement)
                .put(Json(&r.io))
                .put(time(key.1.cast_unsigned()));
        };
        copy.row(fill).await?;
    }
    copy.end().await
}

pub(super) async fn positions(
    on: &mut PgConnection,
    rows: &Rows<'_>,
) -> Result<Vec<Key>, StoreError> {
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

// What a decoder makes of a record's bytes; the rest says when it came.
macro_rules! decoded {
    ($row:literal) => {
        concat!(
            $row,
            ".latitude, ",
            $row,
            ".longitude, ",
            $row,
            ".odometer_m, ",
            $row,
            ".heading_deg, ",
            $row,
            ".speed_kmh, ",
            $row,
            ".event_io_id, ",
            $row,
            ".external_voltage_mv, ",
            $row,
            ".battery_voltage_mv, ",
            $row,
            ".altitude_m, ",
            $row,
            ".satellites, ",
            $row,
            ".priority, ",
            $row,
            ".generation_type, ",
            $row,
            ".gsm_signal, ",
            $row,
            ".valid, ",
            $row,
            ".ignition, ",
            $row,
            ".movement"
        )
    };
}
macro_rules! same_row {
    () => {
        "p.device_id = a.device_id AND p.fix_time = a.fix_time AND p.record_hash = a.record_hash"
    };
}

/// Leaves only those whose row in `positions` says something else. Looked for before anything is
/// changed: an UPDATE unpacks every compressed batch it looks into.
pub(super) async fn differing(
    on: &mut PgConnection,
    rows: &mut Rows<'_>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let times: Vec<Time> = rows.keys().map(|key| time(key.1.cast_unsigned())).collect();
    let asked: Asked<'_, (i32, Time, i32)> = sqlx::query_as(concat!(
        "SELECT p.device_id, p.fix_time, p.record_hash FROM UNNEST(",
        arrays!(),
        ", $21::timestamptz[]) AS a(",
        columns!(),
        ", io, fix_time) JOIN positions p ON ",
        same_row!(),
        " WHERE (",
        decoded!("p"),
        ") IS DISTINCT FROM (",
        decoded!("a"),
        ") OR p.io <> a.io::jsonb"
    ));
    let found = bind_columns(asked, rows)
        .bind(times)
        .fetch_all(on)
        .await
        .map_err(|source| StoreError::new("comparing positions", source))?;
    let found: HashSet<Key> = found
        .into_iter()
        .map(|(device, at, hash)| (device, at.timestamp_millis(), hash))
        .collect();
    rows.keep_only(&found);
    Ok(())
}

/// Writes into rows that are there what the decoder makes of them now, and into the latest
/// positions where they are among them.
pub(super) async fn correct(on: &mut PgConnection, rows: &Rows<'_>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let times: Vec<Time> = rows.keys().map(|key| time(key.1.cast_unsigned())).collect();
    let asked: Asked<'_, (i32,)> = sqlx::query_as(concat!(
        "UPDATE positions p SET (latitude, longitude, odometer_m, heading_deg, speed_kmh, \
             event_io_id, external_voltage_mv, battery_voltage_mv, altitude_m, satellites, \
             priority, generation_type, gsm_signal, valid, ignition, movement, io) = (",
        decoded!("a"),
        ", a.io::jsonb) FROM UNNEST(",
        arrays!(),
        ", $21::timestamptz[]) AS a(",
        columns!(),
        ", io, fix_time) WHERE ",
        same_row!(),
        " RETURNING p.device_id"
    ));
    bind_columns(asked, rows)
        .bind(times)
        .fetch_all(&mut *on)
        .await
        .map_err(|source| StoreError::new("correcting positions", source))?;
    let mut devices: Vec<i32> = rows.keys().map(|key| key.0).collect();
    devices.dedup();
    sqlx::query(
        "UPDATE device_latest l SET (latitude, longitude, altitude_m, heading_deg, speed_kmh, \
             satellites, ignition, movement, odometer_m, external_voltage_mv) = \
             (p.latitude, p.longitude, p.altitude_m, p.heading_deg, p.speed_kmh, p.satellites, \
              p.ignition, p.movement, p.odometer_m, p.external_voltage_mv) \
         FROM positions p WHERE l.device_id = ANY($1) AND p.device_id = l.device_id \
             AND p.fix_time = l.fix_time AND p.record_hash = l.record_hash",
    )
    .bind(devices)
    .execute(on)
    .await
    .map_err(|source| StoreError::new("correcting the latest positions", source))?;
    Ok(())
}

pub(super) async fn quarantine(
    on: &mut PgConnection,
    rows: &Rows<'_>,
) -> Result<Vec<Key>, StoreError> {
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

/// Newest valid position of each device. Guarded by time and hash, so the order of arrival does
/// not matter.
pub(super) async fn latest(on: &mut PgConnection, rows: &Rows<'_>) -> Result<(), StoreError> {
    // Rows are sorted by device, then time, then hash: the last valid one of a device wins.
    let mut all: Vec<(&Key, &Row<'_>)> = Vec::new();
    for (key, row) in rows.iter().filter(|(_, row)| row.record.valid) {
        match all.last_mut() {
            Some(newest) if newest.0.0 == key.0 => *newest = (key, row),
            _ => all.push((key, row)),
        }
    }
    if all.is_empty() {
        return Ok(());
    }
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
            .map(|(_, row)| row.record.heading_deg)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.speed_kmh)
            .collect::<Vec<_>>(),
    )
    .bind(
        all.iter()
            .map(|(_, row)| row.record.satellites.map(i16::from))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::batch::{Frame, Unit};
    use contract::Device;
    use std::borrow::Cow;

    fn unit(quarantine: Option<Impossible>, received_at_ms: u64) -> Unit {
        let data = hex::decode("08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001").unwrap();
        let avl = codec::AvlData::parse(&data).unwrap();
        let mut record =
            crate::normalise::record(&avl.records().next().unwrap(), 0, 2, received_at_ms);
        record.quarantine = quarantine;
        Unit {
            place: None,
            received: 1,
            dead: 0,
            dropped: 0,
            frame: Some(Frame {
                kind: contract::Kind::Teltonika,
                device: Device::Text("x".into()),
                received_at_ms,
                transport: 0,
                lane: 2,
                record_count: 1,
                data,
            }),
            records: vec![record],
            messages: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    /// Resent later, the same record may be judged otherwise; it must not live in both tables.
    #[test]
    fn the_first_judgement_of_a_record_stands() {
        let (odd, good) = (unit(Some(Impossible::Ahead), 1_000), unit(None, 2_000));
        let who = Who::of(odd.frame.as_ref().unwrap());
        let devices = Devices::from([(who, 1)]);
        for (first, second, wanted) in [
            (&odd, &good, (0, 1)),
            (&good, &odd, (1, 0)),
            (&good, &good, (1, 0)),
        ] {
            let jobs: Vec<Job<'_>> = [first, second]
                .into_iter()
                .map(|unit| Job {
                    unit: Cow::Borrowed(unit),
                    settles: Vec::new(),
                })
                .collect();
            let (positions, quarantine) = sorted(&jobs, &devices);
            assert_eq!((positions.len(), quarantine.len()), wanted);
            assert!(
                positions
                    .values()
                    .chain(quarantine.values())
                    .all(|row| row.job == 0)
            );
        }
    }
}
