//! What surrounds a data field: frame, login, ping, datagram.

use codec::Expect;

use super::walk::{Walk, plural, text};
use super::{avl, codec7, message};

/// The first message of a TCP connection's bytes, keep-alives in front included.
pub(super) fn tcp(walk: &mut Walk<'_>, expect: Expect) -> Option<()> {
    while walk.ahead().first() == Some(&0xFF) {
        walk.bytes(1, "ping", |_| "keep-alive, wants no answer".to_owned());
    }
    if walk.left() == 0 {
        return Some(());
    }
    match expect {
        Expect::Login => login(walk),
        Expect::Frame => frame(walk),
    }
}

fn login(walk: &mut Walk<'_>) -> Option<()> {
    walk.heading("login: answer 01 to accept, 00 to refuse");
    let length = walk.number(2, "length", |n| {
        format!("{} of identity", plural(n, "byte"))
    })?;
    walk.bytes(length as usize, "IMEI", text)?;
    Some(())
}

fn frame(walk: &mut Walk<'_>) -> Option<()> {
    walk.heading("TCP frame");
    walk.bytes(4, "preamble", |_| "four zeros".to_owned())?;
    let length = walk.number(4, "data length", |n| {
        format!("{n} bytes up to the checksum")
    })?;
    let length = length as usize;
    let data = walk.ahead();
    let data = &data[..data.len().min(length)];
    walk.within(length, |walk| data_field(walk, data.len() == length));
    walk.bytes(4, "checksum", |stated| {
        let computed = codec::crc::crc16(data);
        if stated == [[0, 0], computed.to_be_bytes()].concat() {
            "CRC-16/ARC of the data, right".to_owned()
        } else {
            format!("CRC-16/ARC, but the data has {computed:#06x}")
        }
    })?;
    Some(())
}

/// The parts of a datagram.
pub(super) fn datagram(walk: &mut Walk<'_>) -> Option<()> {
    walk.heading("UDP datagram");
    walk.number(2, "length", |n| format!("{n} bytes follow"))?;
    walk.number(2, "packet id", |n| {
        format!("{n:#06x}, echoed in the answer")
    })?;
    walk.number(1, "packet type", |n| format!("{n}, \"not usable\""))?;
    walk.number(1, "AVL packet id", |n| {
        format!("{n}, the device knows the answer by it")
    })?;
    let length = walk.number(2, "IMEI length", |n| plural(n, "byte"))?;
    walk.bytes(length as usize, "IMEI", text)?;
    data_field(walk, true);
    Some(())
}

/// Codec id to second count; `whole` if that is really what ends the bytes.
fn data_field(walk: &mut Walk<'_>, whole: bool) -> Option<()> {
    let codec = walk.number(1, "codec id", |id| codec_name(id).to_owned())?;
    let counted = if matches!(codec, 0x0C..=0x0F) {
        "message"
    } else {
        "record"
    };
    let count = walk.number(1, "first count", |n| plural(n, counted))?;
    let inner = walk.left().saturating_sub(usize::from(whole));
    walk.within(inner, |walk| {
        let read = match codec {
            0x08 | 0x8E | 0x10 => avl::records(walk, codec, count),
            0x07 => codec7::records(walk, count),
            0x0C..=0x0F => message::messages(walk, codec, count),
            _ => None,
        };
        walk.rest(if read.is_some() {
            "left over"
        } else {
            "not read"
        });
    });
    walk.number(1, "second count", |n| {
        if n == count {
            "the same".to_owned()
        } else {
            format!("{n}, the first was {count}")
        }
    })?;
    Some(())
}

fn codec_name(id: u64) -> &'static str {
    match id {
        0x07 => "Codec 7: records of the GH3000 family",
        0x08 => "Codec 8: records",
        0x8E => "Codec 8 Extended: records",
        0x10 => "Codec 16: records",
        0x0C => "Codec 12: commands and answers",
        0x0D => "Codec 13: text with a time",
        0x0E => "Codec 14: commands and answers with an IMEI",
        0x0F => "Codec 15: serial data with time and IMEI",
        _ => "of no codec that is read here",
    }
}
