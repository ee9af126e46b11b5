//! Small numbers for devices, and when they were heard.
//!
//! Why a surrogate key: four bytes instead of eight in every row of the largest table.

use std::collections::{BTreeMap, HashMap};

use contract::Device;
use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::plan::Job;
use super::values::{number, time};

/// Devices of a batch with their ids.
pub(super) type Devices = HashMap<Device, i32>;

/// Who spoke, with the first and last time a gateway heard them, milliseconds since 1970 UTC.
type Heard = BTreeMap<Device, (u64, u64)>;

/// Who spoke in these jobs, with the first and last time a gateway heard them.
fn heard(jobs: &[Job<'_>]) -> Heard {
    let mut heard = Heard::new();
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
    let heard = heard(jobs);
    let mut ids: Devices = heard
        .keys()
        .filter_map(|device| Some((device.clone(), *known.get(device)?)))
        .collect();
    // Looked up before inserting: an insert that meets a conflict uses up a number.
    look_up(on, &heard, &mut ids).await?;
    let missing = || {
        heard
            .iter()
            .filter(|(device, _)| !ids.contains_key(*device))
    };
    if missing().next().is_none() {
        return Ok(ids);
    }
    let (imeis, idents): (Vec<_>, Vec<_>) = missing().map(|(device, _)| columns(device)).unzip();
    sqlx::query(
        "INSERT INTO devices (imei, ident, first_seen, last_seen) \
         SELECT * FROM UNNEST($1::int8[], $2::text[], $3::timestamptz[], $4::timestamptz[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(imeis)
    .bind(idents)
    .bind(missing().map(|(_, span)| time(span.0)).collect::<Vec<_>>())
    .bind(missing().map(|(_, span)| time(span.1)).collect::<Vec<_>>())
    .execute(&mut *on)
    .await
    .map_err(|source| StoreError::new("registering devices", source))?;
    look_up(on, &heard, &mut ids).await?;
    Ok(ids)
}

/// `imei` and `ident`: one of them.
fn columns(device: &Device) -> (Option<i64>, Option<&str>) {
    match device {
        Device::Imei(imei) => (Some(number(imei.as_u64())), None),
        Device::Text(text) => (None, Some(text)),
    }
}

/// Adds the ids of those that are in the table.
async fn look_up(
    on: &mut PgConnection,
    heard: &Heard,
    ids: &mut Devices,
) -> Result<(), StoreError> {
    let asked = heard.keys().filter(|device| !ids.contains_key(*device));
    let (imeis, idents): (Vec<_>, Vec<_>) = asked.map(columns).unzip();
    if imeis.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i32, Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT id, imei, ident FROM devices WHERE imei = ANY($1::int8[]) OR ident = ANY($2::text[])",
    )
    .bind(imeis)
    .bind(idents)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking up devices", source))?;
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
    Ok(())
}

/// First and last time a gateway heard each device.
pub(super) async fn seen(
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
