//! Messages of codecs 12 to 15.

use super::time;
use super::walk::{Walk, plural, text};

/// Names `count` messages; `None` if they end too early.
///
/// Codec 13 is tried with its time inside the size, as documented, then with the size
/// counting the text alone.
pub(super) fn messages(walk: &mut Walk<'_>, codec: u64, count: u64) -> Option<()> {
    let begin = walk.clone();
    let documented = layout(walk, codec, count, true);
    if codec == 0x0D && (documented.is_none() || walk.left() > 0) {
        let mut other = begin;
        if layout(&mut other, codec, count, false).is_some() && other.left() == 0 {
            *walk = other;
            return Some(());
        }
    }
    documented
}

fn layout(walk: &mut Walk<'_>, codec: u64, count: u64, time_in_size: bool) -> Option<()> {
    for index in 0..count {
        walk.heading(format!("message {index}"));
        let kind = walk.number(1, "type", |n| kind_name(codec, n).to_owned())?;
        let size = walk.number(4, "size", |n| plural(n, "byte"))?;
        let time_bytes = if matches!(codec, 0x0D | 0x0F) && time_in_size {
            4
        } else {
            0
        };
        let imei_bytes = if matches!(codec, 0x0E | 0x0F) { 8 } else { 0 };
        let payload_bytes = size.checked_sub(time_bytes + imei_bytes)?;
        if matches!(codec, 0x0D | 0x0F) {
            walk.number(4, "timestamp", time::from_s)?;
        }
        if matches!(codec, 0x0E | 0x0F) {
            walk.bytes(8, "IMEI", |bytes| match hex::encode(bytes).split_at(1) {
                ("0", digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                    digits.to_owned()
                }
                _ => "not decimal".to_owned(),
            })?;
        }
        if (codec, kind) == (0x0C, 0x0D) {
            camera(walk, payload_bytes as usize)?;
        } else {
            walk.bytes(payload_bytes as usize, "payload", text)?;
        }
    }
    Some(())
}

fn kind_name(codec: u64, byte: u64) -> &'static str {
    match (codec, byte) {
        (0x0F, _) => "free in this codec",
        (_, 0x05) => "command",
        (_, 0x06) => "answer",
        (0x0C, 0x0D) => "camera",
        (0x0E, 0x11) => "not executed, the IMEI is another's",
        _ => "not documented",
    }
}

/// A block of a camera; its first byte and its length say which.
fn camera(walk: &mut Walk<'_>, len: usize) -> Option<()> {
    let named = |n: u64| n.to_string();
    let kind = walk.ahead().first().copied();
    if len > walk.left() {
        return walk.bytes(len, "camera block", |_| String::new()).map(drop);
    }
    match (kind, len) {
        (Some(1), 9) => {
            walk.bytes(1, "block", |_| "announces a picture".to_owned())?;
            walk.number(4, "picture", named)?;
            walk.number(4, "its size", |n| plural(n, "byte"))?;
        }
        (Some(2), 11..) => {
            let what = if len == 11 {
                "asks for a stretch of a picture"
            } else {
                "a stretch of a picture"
            };
            walk.bytes(1, "block", |_| what.to_owned())?;
            walk.number(4, "picture", named)?;
            walk.number(4, "from byte", named)?;
            walk.number(2, "length", |n| plural(n, "byte"))?;
            if len > 11 {
                walk.bytes(len - 11, "stretch", |_| String::new())?;
            }
        }
        _ => {
            walk.bytes(len, "camera block", |_| "of no known kind".to_owned())?;
        }
    }
    Some(())
}
