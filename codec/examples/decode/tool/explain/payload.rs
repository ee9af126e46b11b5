//! What lies inside variable IO elements: beacon lists, sensor lists, text.
//!
//! Which id carries which layout depends on the model, so a value that does not come out
//! even is shown as bytes. Layouts by the wiki pages on beacons and EYE sensors.

use super::walk::{Walk, plural, text};

/// Names the value of a variable element of `len` bytes.
pub(super) fn value(walk: &mut Walk<'_>, id: u64, len: usize) -> Option<()> {
    let plain = format!("  value of {id}");
    let layout: fn(&mut Walk<'_>) -> Option<()> = match id {
        385 | 10500 => beacons,
        548 | 10828 | 10829 | 10831 | 11317 => tags,
        _ => return walk.bytes(len, plain, printable).map(drop),
    };
    if len == 0 || len > walk.left() {
        return walk.bytes(len, plain, |_| String::new()).map(drop);
    }
    let begin = walk.clone();
    let even = walk.within(len, |walk| layout(walk).is_some() && walk.left() == 0);
    if even {
        return Some(());
    }
    *walk = begin;
    walk.bytes(len, plain, |_| String::new()).map(drop)
}

fn printable(bytes: &[u8]) -> String {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if bytes.len() > 2 && bytes.iter().all(is_text) {
        return text(bytes);
    }
    String::new()
}

/// Names a list of beacons to the end.
pub(super) fn beacons(walk: &mut Walk<'_>) -> Option<()> {
    walk.number(1, "  list part", |n| format!("{} of {}", n >> 4, n & 0x0F))?;
    while walk.left() > 0 {
        let flags = walk.number(1, "  beacon flags", |n| {
            let names = [
                (0, "RSSI"),
                (1, "battery"),
                (2, "temperature"),
                (5, "iBeacon"),
            ];
            let set: Vec<_> = names.iter().filter(|(bit, _)| n >> bit & 1 != 0).collect();
            let set: Vec<_> = set.into_iter().map(|(_, name)| *name).collect();
            set.join(", ")
        })?;
        let has = |bit: u32| flags >> bit & 1 != 0;
        if has(5) {
            walk.bytes(16, "    UUID", |_| String::new())?;
            walk.number(2, "    major", |n| n.to_string())?;
            walk.number(2, "    minor", |n| n.to_string())?;
        } else {
            walk.bytes(10, "    Eddystone namespace", |_| String::new())?;
            walk.bytes(6, "    instance", |_| String::new())?;
        }
        if has(0) {
            walk.number(1, "    RSSI", |n| format!("{} dBm", n as u8 as i8))?;
        }
        if has(1) {
            walk.number(2, "    battery", |n| format!("{n} mV"))?;
        }
        if has(2) {
            walk.number(2, "    temperature", |n| {
                format!("{}, unit undocumented", n as u16 as i16)
            })?;
        }
    }
    Some(())
}

/// Names a list of sensors to the end.
pub(super) fn tags(walk: &mut Walk<'_>) -> Option<()> {
    let header = walk.number(1, "  list header", |n| match n {
        1 => "always 1".to_owned(),
        _ => format!("{n}, a sensor list begins with 1"),
    })?;
    if header != 1 {
        return None;
    }
    while walk.left() > 0 {
        let len = walk.number(1, "  sensor", |n| plural(n, "byte"))? as usize;
        if len > walk.left() {
            walk.rest("    cut short");
            return None;
        }
        walk.within(len, |walk| {
            while walk.left() > 0 {
                parameter(walk)?;
            }
            Some(())
        })?;
    }
    Some(())
}

fn parameter(walk: &mut Walk<'_>) -> Option<()> {
    let id = walk.number(1, "    parameter", |n| parameter_name(n).to_owned())?;
    let len = walk.number(1, "      length", |n| plural(n, "byte"))? as usize;
    walk.bytes(len, "      value", |bytes| {
        let value = bytes
            .iter()
            .take(8)
            .fold(0, |v, &byte| v << 8 | u64::from(byte));
        match (id, len) {
            (0, 1) => format!("{} dBm", value as u8 as i8),
            (5, _) => text(bytes),
            (6, 2) => format!("{:.2} °C", f64::from(value as u16 as i16) / 100.0),
            (7, 1) => format!("{value} %"),
            (8 | 9 | 13, 1) => ["no", "yes"].get(value as usize).unwrap_or(&"").to_string(),
            (10 | 16, 2) => value.to_string(),
            (11, 1) => format!("{}°", value as u8 as i8),
            (12, 2) => format!("{}°", value as u16 as i16),
            (14, 2) => format!("{value} mV"),
            _ => String::new(),
        }
    })?;
    Some(())
}

fn parameter_name(id: u64) -> &'static str {
    match id {
        0 => "signal strength",
        1 => "beacon id",
        2 => "slice of the advert",
        5 => "name",
        6 => "temperature",
        7 => "humidity",
        8 => "magnet near",
        9 => "movement",
        10 => "movements",
        11 => "pitch",
        12 => "roll",
        13 => "battery low",
        14 => "battery",
        15 => "MAC",
        16 => "magnets",
        _ => "not documented",
    }
}
