//! Records of codecs 8, 8 Extended and 16.

use super::walk::{Walk, plural, signed};
use super::{payload, time};

/// Names `count` records; `None` if they end too early.
///
/// Codec 8 with a group of 16-byte values is tried where the plain layout does not come
/// out even.
pub(super) fn records(walk: &mut Walk<'_>, codec: u64, count: u64) -> Option<()> {
    let begin = walk.clone();
    let plain = layout(walk, codec, count, false);
    if codec == 0x08 && (plain != Some(true) || walk.left() > 0) {
        let mut wide = begin;
        if layout(&mut wide, codec, count, true) == Some(true) && wide.left() == 0 {
            *walk = wide;
            return Some(());
        }
    }
    plain.map(drop)
}

/// Names the records; gives whether all their totals were right.
fn layout(walk: &mut Walk<'_>, codec: u64, count: u64, wide: bool) -> Option<bool> {
    let mut totals_right = true;
    for index in 0..count {
        walk.heading(format!("record {index}"));
        head(walk)?;
        totals_right &= io(walk, codec, wide)?;
    }
    Some(totals_right)
}

fn head(walk: &mut Walk<'_>) -> Option<()> {
    walk.number(8, "timestamp", time::from_ms)?;
    walk.number(1, "priority", |n| priority(n).to_owned())?;
    walk.number(4, "longitude", |n| degrees(n, 'E', 'W'))?;
    walk.number(4, "latitude", |n| degrees(n, 'N', 'S'))?;
    walk.number(2, "altitude", |n| format!("{} m", n as u16 as i16))?;
    walk.number(2, "angle", |n| format!("{n}° clockwise from north"))?;
    walk.number(1, "satellites", |n| match n {
        0 => "0: no fix, the position is the last known one".to_owned(),
        _ => n.to_string(),
    })?;
    walk.number(2, "speed", |n| format!("{n} km/h"))?;
    Some(())
}

/// Names the IO part; gives whether its total is right.
fn io(walk: &mut Walk<'_>, codec: u64, wide: bool) -> Option<bool> {
    let id_bytes = if codec == 0x08 { 1 } else { 2 };
    let count_bytes = if codec == 0x8E { 2 } else { 1 };
    walk.number(id_bytes, "event IO id", |n| match n {
        0 => "0: periodic, no event".to_owned(),
        _ => format!("{n} made the device write this"),
    })?;
    if codec == 0x10 {
        walk.number(1, "generation type", |n| generation_type(n).to_owned())?;
    }
    let total = walk.number(count_bytes, "IO total", |n| plural(n, "element"))?;
    let mut counted = 0;
    let groups: &[usize] = if wide {
        &[1, 2, 4, 8, 16]
    } else {
        &[1, 2, 4, 8]
    };
    for &value_bytes in groups {
        let name = format!("{value_bytes}-byte group");
        let count = walk.number(count_bytes, name, |n| plural(n, "element"))?;
        for _ in 0..count {
            let id = walk.number(id_bytes, "  IO id", |n| n.to_string())?;
            walk.bytes(value_bytes, format!("  value of {id}"), |bytes| {
                if bytes.len() > 8 {
                    return String::new();
                }
                let value = bytes.iter().fold(0, |v, &byte| v << 8 | u64::from(byte));
                signed(value, bytes.len())
            })?;
        }
        counted += count;
    }
    if codec == 0x8E {
        let count = walk.number(2, "variable group", |n| plural(n, "element"))?;
        for _ in 0..count {
            let id = walk.number(2, "  IO id", |n| n.to_string())?;
            let length = walk.number(2, "  length", |n| plural(n, "byte"))?;
            payload::value(walk, id, length as usize)?;
        }
        counted += count;
    }
    Some(counted == total)
}

fn priority(byte: u64) -> &'static str {
    match byte {
        0 => "low",
        1 => "high",
        2 => "panic",
        3 => "security (older manuals)",
        _ => "not documented",
    }
}

fn generation_type(byte: u64) -> &'static str {
    match byte {
        0 => "on exit",
        1 => "on entrance",
        2 => "on both",
        3 => "reserved",
        4 => "hysteresis",
        5 => "on change",
        6 => "eventual",
        7 => "periodical",
        _ => "not documented",
    }
}

/// Ten-millionths of a degree.
fn degrees(value: u64, positive: char, negative: char) -> String {
    let value = i64::from(value as u32 as i32);
    let side = if value < 0 { negative } else { positive };
    let (whole, part) = (value.abs() / 10_000_000, value.abs() % 10_000_000);
    format!("{whole}.{part:07}° {side}")
}
