//! Pure: no I/O, no clock.
//!
//! What the fields of an item mean.
//!
//! Why a field we do not know refuses the item: `speed` in the place of `speed_kmh` would be lost
//! without a word; what has no field of its own belongs into `attributes`.

use codec::Imei;
use contract::Device;
use contract::envelope::DEVICE_TEXT_BYTES_MAX;
use contract::position::Position;
use serde_json::{Map, Value};

use super::super::moment;
use super::Item;

/// One item.
pub(super) fn of_value(value: Value, device: Option<&Device>) -> Result<Item, String> {
    match value {
        Value::Object(fields) => of_fields(fields, device),
        _ => Err("an item is an object".to_owned()),
    }
}

/// One item of its fields.
pub(super) fn of_fields(
    fields: Map<String, Value>,
    device: Option<&Device>,
) -> Result<Item, String> {
    let (mut who, mut time_ms) = (None, None);
    let (mut latitude, mut longitude) = (None, None);
    let mut numbers = [None; 4];
    let mut attributes = Map::new();
    for (name, value) in fields {
        if value.is_null() {
            continue;
        }
        match name.as_str() {
            "device" | "imei" if who.is_some() => {
                return Err("device and imei: give one of them".to_owned());
            }
            "device" => who = Some(named(text(&name, &value)?)?),
            "imei" => who = Some(of_imei(&value)?),
            "time" => time_ms = Some(moment_of(&value)?),
            "latitude" | "lat" => once(&mut latitude, &name, number(&name, &value)?)?,
            "longitude" | "lon" => once(&mut longitude, &name, number(&name, &value)?)?,
            "altitude_m" => numbers[0] = Some(number(&name, &value)?),
            "heading_deg" => numbers[1] = Some(number(&name, &value)?),
            "speed_kmh" => numbers[2] = Some(number(&name, &value)?),
            "accuracy_m" => numbers[3] = Some(number(&name, &value)?),
            "attributes" => match value {
                Value::Object(named) => attributes = named,
                _ => return Err("attributes is an object".to_owned()),
            },
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(format!("no field {shown:?}: put it into attributes"));
            }
        }
    }
    let device = who.or_else(|| device.cloned());
    let device = device.ok_or("device or imei is missing")?;
    let [altitude_m, heading_deg, speed_kmh, accuracy_m] = numbers;
    let position = Position {
        time_ms: time_ms.ok_or("time is missing")?,
        latitude: latitude.ok_or("latitude is missing")?,
        longitude: longitude.ok_or("longitude is missing")?,
        altitude_m,
        heading_deg,
        speed_kmh,
        accuracy_m,
        attributes,
    };
    checked(device, position)
}

/// The last word about an item, whatever it came in.
pub(super) fn checked(device: Device, position: Position) -> Result<Item, String> {
    position.check().map_err(|why| why.to_string())?;
    Ok(Item { device, position })
}

fn once(place: &mut Option<f64>, name: &str, number: f64) -> Result<(), String> {
    match place.replace(number) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice, under two names")),
    }
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{name} is a text"))
}

fn number(name: &str, value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("{name} is a number"))
}

fn moment_of(value: &Value) -> Result<i64, String> {
    let read = match value {
        Value::String(text) => moment::of_text(text),
        Value::Number(number) => number.as_f64().and_then(moment::of_number),
        _ => None,
    };
    read.ok_or_else(|| {
        "time is RFC 3339 text with its zone, or seconds or milliseconds since 1970".to_owned()
    })
}

/// A device by its name: 1 to [`DEVICE_TEXT_BYTES_MAX`] bytes, nothing that is not printed.
pub(super) fn named(name: &str) -> Result<Device, String> {
    let fits = (1..=DEVICE_TEXT_BYTES_MAX).contains(&name.len());
    if !fits || name.chars().any(char::is_control) || name.trim() != name {
        return Err(format!(
            "device is a text of 1 to {DEVICE_TEXT_BYTES_MAX} bytes without control characters or spaces around it"
        ));
    }
    Ok(Device::Text(name.to_owned()))
}

pub(super) fn of_imei(value: &Value) -> Result<Device, String> {
    let imei: Option<Imei> = match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    imei.map(Device::Imei)
        .ok_or_else(|| "imei has 15 digits".to_owned())
}
