//! Records of Codec 7, whose masks say which fields are there.

use super::time;
use super::walk::{Walk, plural, signed};

/// Seconds from 1970 to 2007, where these clocks begin.
const EPOCH_S: u64 = 1_167_609_600;

/// Names `count` records; `None` if they end too early.
pub(super) fn records(walk: &mut Walk<'_>, count: u64) -> Option<()> {
    for index in 0..count {
        walk.heading(format!("record {index}"));
        walk.number(4, "priority and time", |n| {
            format!(
                "priority {}, {}",
                n >> 30,
                time::from_s((n & 0x3FFF_FFFF) + EPOCH_S)
            )
        })?;
        let parts = ["GPS", "1-byte IO", "2-byte IO", "4-byte IO"];
        let mask = walk.number(1, "global mask", |n| flags(n, &parts))?;
        if mask & 1 != 0 {
            gps(walk)?;
        }
        for (bit, value_bytes) in [(1, 1), (2, 2), (3, 4)] {
            if mask >> bit & 1 == 0 {
                continue;
            }
            let name = format!("{value_bytes}-byte group");
            let count = walk.number(1, name, |n| plural(n, "element"))?;
            for _ in 0..count {
                let id = walk.number(1, "  IO id", |n| n.to_string())?;
                let name = format!("  value of {id}");
                walk.number(value_bytes, name, |n| signed(n, value_bytes))?;
            }
        }
    }
    Some(())
}

fn gps(walk: &mut Walk<'_>) -> Option<()> {
    let parts = [
        "position",
        "altitude",
        "angle",
        "speed",
        "satellites",
        "cell",
        "signal",
        "operator",
    ];
    let mask = walk.number(1, "GPS mask", |n| flags(n, &parts))?;
    let has = |bit: u32| mask >> bit & 1 != 0;
    let degrees = |n: u64| format!("{}°", f32::from_bits(n as u32));
    if has(0) {
        walk.number(4, "latitude", degrees)?;
        walk.number(4, "longitude", degrees)?;
    }
    if has(1) {
        walk.number(2, "altitude", |n| format!("{} m", n as u16 as i16))?;
    }
    if has(2) {
        walk.number(1, "angle", |n| {
            format!("{n} of 256, {}°", n as f64 * 360.0 / 256.0)
        })?;
    }
    if has(3) {
        walk.number(1, "speed", |n| format!("{n} km/h"))?;
    }
    if has(4) {
        walk.number(1, "satellites", |n| n.to_string())?;
    }
    if has(5) {
        walk.number(2, "location area", |n| n.to_string())?;
        walk.number(2, "cell id", |n| n.to_string())?;
    }
    if has(6) {
        walk.number(1, "signal", |n| n.to_string())?;
    }
    if has(7) {
        walk.number(4, "operator", |n| n.to_string())?;
    }
    Some(())
}

fn flags(mask: u64, names: &[&str]) -> String {
    let set = |&(bit, _): &(usize, &&str)| mask >> bit & 1 != 0;
    let set: Vec<&str> = names
        .iter()
        .enumerate()
        .filter(set)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() {
        return "nothing".to_owned();
    }
    set.join(", ")
}
