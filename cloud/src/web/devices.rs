//! Devices, where they are, and what they said last.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::answer::{self, Wants};
use super::ask::{self, Asked};
use super::page::{self, Page};
use super::problem::Problem;
use super::{Id, Told, Web};
use crate::operator::moment;
use crate::store::StoreError;

/// Values of one record that are told; a record has a few hundred at most.
const VALUES_MAX: i64 = 2_000;

/// Longest text to look for, in characters.
const SOUGHT_CHARS_MAX: usize = 100;

/// An IMEI as people read it.
pub(super) fn imei_text(imei: Option<i64>) -> Option<String> {
    imei.map(|imei| format!("{imei:015}"))
}

#[derive(sqlx::FromRow)]
struct Device {
    id: i32,
    imei: Option<i64>,
    ident: Option<String>,
    vendor: String,
    name: Option<String>,
    model: Option<String>,
    family: Option<String>,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

impl Device {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "imei": imei_text(self.imei),
            "ident": self.ident,
            "vendor": self.vendor,
            "name": self.name,
            "model": self.model,
            "family": self.family,
            "first_seen": moment::text(self.first_seen),
            "last_seen": moment::text(self.last_seen),
        })
    }
}

macro_rules! of_devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.imei, d.ident, d.vendor, d.name, d.model, \
                 coalesce(d.family, d.family_guess) AS family, d.first_seen, d.last_seen \
             FROM devices d WHERE ",
            $rest
        )
    };
}

/// The newest valid position of a device.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(super) struct Latest {
    pub(super) device_id: i32,
    imei: Option<i64>,
    ident: Option<String>,
    vendor: String,
    name: Option<String>,
    pub(super) fix_time: DateTime<Utc>,
    pub(super) record_hash: i32,
    pub(super) received_at: DateTime<Utc>,
    latitude: f64,
    longitude: f64,
    altitude_m: Option<i16>,
    heading_deg: Option<i32>,
    speed_kmh: Option<i32>,
    satellites: Option<i16>,
    ignition: Option<bool>,
    movement: Option<bool>,
    odometer_m: Option<i64>,
    external_voltage_mv: Option<i32>,
}

impl Latest {
    /// One to compare with.
    #[cfg(test)]
    pub(super) fn at(device_id: i32, time: DateTime<Utc>) -> Self {
        Self {
            device_id,
            imei: Some(350_000_000_000_017),
            ident: None,
            vendor: "teltonika".to_owned(),
            name: None,
            fix_time: time,
            record_hash: 7,
            received_at: time,
            latitude: 52.5163,
            longitude: 13.3777,
            altitude_m: Some(34),
            heading_deg: Some(90),
            speed_kmh: Some(50),
            satellites: Some(9),
            ignition: Some(true),
            movement: Some(true),
            odometer_m: None,
            external_voltage_mv: None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "device_id": self.device_id,
            "imei": imei_text(self.imei),
            "ident": self.ident,
            "vendor": self.vendor,
            "name": self.name,
            "time": moment::text(self.fix_time),
            "received_at": moment::text(self.received_at),
            "latitude": self.latitude,
            "longitude": self.longitude,
            "altitude_m": self.altitude_m,
            "heading_deg": self.heading_deg,
            "speed_kmh": self.speed_kmh,
            "satellites": self.satellites,
            "ignition": self.ignition,
            "movement": self.movement,
            "odometer_m": self.odometer_m,
            "external_voltage_mv": self.external_voltage_mv,
        })
    }
}

macro_rules! of_latest {
    ($rest:literal) => {
        concat!(
            "SELECT l.device_id, d.imei, d.ident, d.vendor, d.name, l.fix_time, l.record_hash, \
                 l.received_at, l.latitude, l.longitude, l.altitude_m, l.heading_deg, l.speed_kmh, \
                 l.satellites, l.ignition, l.movement, l.odometer_m, l.external_voltage_mv \
             FROM device_latest l JOIN devices d ON d.id = l.device_id WHERE ",
            $rest
        )
    };
}

/// Those of `ids`, by device.
pub(super) async fn latest_of(pool: &PgPool, ids: &[i32]) -> Result<Vec<Latest>, StoreError> {
    sqlx::query_as(of_latest!("l.device_id = ANY($1) ORDER BY l.device_id"))
        .bind(ids)
        .fetch_all(pool)
        .await
        .map_err(|source| StoreError::new("reading newest positions", source))
}

/// `GET /devices`
pub(super) async fn list(State(web): State<Web>, wants: Wants, uri: Uri) -> Told {
    let asked = Asked::read(
        uri.query(),
        &["q", page::PARAMETERS[0], page::PARAMETERS[1]],
    )?;
    let page = Page::read(&asked)?;
    let sought = asked.text("q", SOUGHT_CHARS_MAX)?;
    // By place and not by pattern: % and _ in a name are what they are.
    let rows: Vec<Device> = sqlx::query_as(of_devices!(
        "d.id > $1 AND ($2::text IS NULL OR strpos(lower(d.name), lower($2)) > 0 \
             OR strpos(lower(d.ident), lower($2)) > 0 \
             OR strpos(lpad(d.imei::text, 15, '0'), $2) > 0) \
         ORDER BY d.id LIMIT $3"
    ))
    .bind(i32::try_from(page.after.unwrap_or(0)).unwrap_or(i32::MAX))
    .bind(sought)
    .bind(page.rows())
    .fetch_all(&web.reads)
    .await
    .map_err(|source| StoreError::new("listing devices", source))?;
    let told = page.told(rows, |row| row.id.into(), Device::to_json);
    Ok(answer::tagged(&wants, &told))
}

/// `GET /latest`
pub(super) async fn latest(State(web): State<Web>, wants: Wants, uri: Uri) -> Told {
    let page = Page::read(&Asked::read(uri.query(), &page::PARAMETERS)?)?;
    let rows: Vec<Latest> =
        sqlx::query_as(of_latest!("l.device_id > $1 ORDER BY l.device_id LIMIT $2"))
            .bind(i32::try_from(page.after.unwrap_or(0)).unwrap_or(i32::MAX))
            .bind(page.rows())
            .fetch_all(&web.reads)
            .await
            .map_err(|source| StoreError::new("reading newest positions", source))?;
    let told = page.told(rows, |row| row.device_id.into(), Latest::to_json);
    Ok(answer::tagged(&wants, &told))
}

fn not_there(id: i32) -> Problem {
    Problem::NotThere(format!("there is no device {id}; see /api/v1/devices"))
}

/// The IMEI of a device that is there; the inner `None`: it has none.
pub(super) async fn imei_of(pool: &PgPool, id: i32) -> Result<Option<i64>, Problem> {
    let found: Option<Option<i64>> = sqlx::query_scalar("SELECT imei FROM devices WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(|source| StoreError::new("reading a device", source))?;
    found.ok_or_else(|| not_there(id))
}

type Measured = (
    Option<i32>,
    String,
    Option<f64>,
    Option<String>,
    Option<String>,
    Option<Value>,
);

type Newest = (DateTime<Utc>, Option<String>);

/// `GET /devices/{id}`
pub(super) async fn one(State(web): State<Web>, wants: Wants, Id(id): Id, uri: Uri) -> Told {
    Asked::read(uri.query(), &[])?;
    let id = ask::device(&id)?;
    let refused = |source| StoreError::new("reading a device", source);
    let device: Option<Device> = sqlx::query_as(of_devices!("d.id = $1"))
        .bind(id)
        .fetch_optional(&web.reads)
        .await
        .map_err(refused)?;
    let device = device.ok_or_else(|| not_there(id))?;
    let latest = latest_of(&web.reads, &[id]).await?;
    let newest: Option<Newest> = sqlx::query_as(
        "SELECT p.fix_time, CASE WHEN p.event_io_id <> 0 THEN coalesce( \
             (SELECT m.name FROM io_meanings m \
              WHERE m.family = device_family(p.device_id) AND m.io_id = p.event_io_id), \
             'io_' || p.event_io_id) END \
         FROM positions p WHERE p.device_id = $1 \
         ORDER BY p.fix_time DESC, p.record_hash DESC LIMIT 1",
    )
    .bind(id)
    .fetch_optional(&web.reads)
    .await
    .map_err(refused)?;
    // A number that a program that counts in doubles would round is told as text.
    let values: Vec<Measured> = sqlx::query_as(
        "SELECT m.io_id, m.name, m.value::float8, m.unit, m.text, \
             CASE WHEN jsonb_typeof(m.raw) = 'number' AND abs((m.raw #>> '{}')::numeric) > 9007199254740991 \
                  THEN to_jsonb(m.raw #>> '{}') ELSE m.raw END \
         FROM (SELECT * FROM positions WHERE device_id = $1 \
               ORDER BY fix_time DESC, record_hash DESC LIMIT 1) AS last \
         CROSS JOIN LATERAL measurements(last::positions) AS m ORDER BY m.io_id, m.name LIMIT $2",
    )
    .bind(id)
    .bind(VALUES_MAX)
    .fetch_all(&web.reads)
    .await
    .map_err(refused)?;
    let values: Vec<Value> = values
        .into_iter()
        .map(|(io_id, name, value, unit, text, raw)| {
            json!({"io_id": io_id, "name": name, "value": value, "unit": unit, "text": text, "raw": raw})
        })
        .collect();
    let (time, event) = newest.unzip();
    let told = json!({
        "device": device.to_json(),
        "latest": latest.first().map(Latest::to_json),
        "time": time.map(moment::text),
        "event": event.flatten(),
        "values": values,
    });
    Ok(answer::tagged(&wants, &told))
}
