//! Pure: no I/O, no clock.
//!
//! What phone apps send: one position in the parameters of a request (OsmAnd, Traccar Client before
//! version 9), or in a small JSON object (Traccar Client from version 9 on).
//!
//! Sources: traccar.org/osmand for the names and for the JSON form, whose speed is in m/s;
//! `OsmAndProtocolDecoder.java` of the Traccar server, which converts the parameter `speed` from
//! knots, takes `timestamp` as seconds, milliseconds or text, and keeps unknown parameters as
//! attributes. A moving direction or speed below zero means there that it is not known.

use contract::Device;
use contract::position::Position;
use serde_json::{Map, Value};

use super::super::moment;
use super::Item;
use super::item::{checked, named};

/// 1852 m in an hour (SI brochure, non-SI units).
const KMH_PER_KNOT: f64 = 1.852;

const KMH_PER_MS: f64 = 3.6;

/// Parameters of a query or of a form, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `a=1&b=2` with `%20` and `+`. What is no UTF-8 is replaced.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(decoded.collect())
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let found = pairs.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Puts others behind these.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, hex) {
            (b'%', Some(found)) => {
                decoded.push(found);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The position in the parameters. Without `timestamp` it is of `now_ms`; `token` and `lane` are not
/// about the position.
/// # Errors
/// Why there is none, in words.
pub fn osmand(params: &Params, now_ms: i64) -> Result<Item, String> {
    let (mut device, mut time_ms) = (None, now_ms);
    let (mut latitude, mut longitude) = (None, None);
    let mut position = Position::default();
    for (name, value) in &params.0 {
        match name.as_str() {
            "token" | "lane" => {}
            "id" | "deviceid" => device = Some(named(value)?),
            "timestamp" => {
                let read = moment::of_word(value);
                time_ms = read.ok_or("timestamp is seconds, milliseconds or RFC 3339 text")?;
            }
            "lat" => latitude = Some(number(name, value)?),
            "lon" => longitude = Some(number(name, value)?),
            "location" => {
                let both = value.split_once(',').ok_or("location is lat,lon")?;
                latitude = Some(number("lat", both.0)?);
                longitude = Some(number("lon", both.1)?);
            }
            "speed" => position.speed_kmh = known(number(name, value)?).map(|it| it * KMH_PER_KNOT),
            "bearing" | "heading" => position.heading_deg = known(number(name, value)?),
            "altitude" => position.altitude_m = Some(number(name, value)?),
            "accuracy" => position.accuracy_m = known(number(name, value)?),
            "batt" => {
                let level = number(name, value)?;
                position
                    .attributes
                    .insert("battery_percent".to_owned(), level.into());
            }
            other => {
                position.attributes.insert(other.to_owned(), guessed(value));
            }
        }
    }
    position.time_ms = time_ms;
    position.latitude = latitude.ok_or("lat is missing")?;
    position.longitude = longitude.ok_or("lon is missing")?;
    let device: Device = device.ok_or("id is missing")?;
    checked(device, position)
}

/// The position in `{"location": {"timestamp", "coords": {…}, …}, "device_id"}`.
/// # Errors
/// Why there is none, in words.
pub fn osmand_json(body: &Value, now_ms: i64) -> Result<Item, String> {
    let device = match &body["device_id"] {
        Value::String(name) => named(name)?,
        Value::Number(number) => named(&number.to_string())?,
        _ => return Err("device_id is missing".to_owned()),
    };
    let location = &body["location"];
    let coords = &location["coords"];
    let of_coords = |name: &str| coords[name].as_f64();
    let time_ms = match &location["timestamp"] {
        Value::String(text) => moment::of_text(text),
        Value::Number(number) => number.as_f64().and_then(moment::of_number),
        Value::Null => Some(now_ms),
        _ => None,
    };
    let mut position = Position {
        time_ms: time_ms.ok_or("timestamp is RFC 3339 text")?,
        latitude: of_coords("latitude").ok_or("latitude is missing")?,
        longitude: of_coords("longitude").ok_or("longitude is missing")?,
        altitude_m: of_coords("altitude"),
        heading_deg: of_coords("heading").and_then(known),
        speed_kmh: of_coords("speed").and_then(known).map(|it| it * KMH_PER_MS),
        accuracy_m: of_coords("accuracy").and_then(known),
        attributes: Map::new(),
    };
    let attributes = &mut position.attributes;
    if let Some(level) = location["battery"]["level"].as_f64().and_then(known) {
        attributes.insert("battery_percent".to_owned(), (level * 100.0).round().into());
    }
    for (name, value) in [
        ("is_charging", &location["battery"]["is_charging"]),
        ("is_moving", &location["is_moving"]),
        ("odometer_m", &location["odometer"]),
        ("event", &location["event"]),
        ("activity", &location["activity"]["type"]),
    ] {
        if !value.is_null() && !value.is_object() && !value.is_array() {
            attributes.insert(name.to_owned(), value.clone());
        }
    }
    if let Value::Object(extras) = &location["extras"] {
        attributes.extend(extras.clone());
    }
    checked(device, position)
}

fn known(number: f64) -> Option<f64> {
    (number >= 0.0).then_some(number)
}

fn number(name: &str, value: &str) -> Result<f64, String> {
    let number = value.trim().parse::<f64>().ok();
    let number = number.filter(|number| number.is_finite());
    number.ok_or_else(|| format!("{name} is a number"))
}

/// A number, `true`, `false`, or the text as it is. `007` and `+49` are names: as numbers they would
/// not come back as they were.
pub(super) fn guessed(value: &str) -> Value {
    let is_name = value.starts_with('+')
        || value.starts_with('0') && value.len() > 1 && !value.starts_with("0.");
    let number = value.parse::<f64>().ok();
    match (value, number.filter(|number| number.is_finite())) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        (_, Some(number)) if !is_name => number.into(),
        _ => value.into(),
    }
}
