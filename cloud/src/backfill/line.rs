//! One line of a hex log, and the frame in it.
//!
//! Form: `[moment] IMEI hex`, separated by blanks. The moment is when the frame was received, in RFC
//! 3339; the hex is a whole TCP frame, checksum and all, or its data field alone, with blanks
//! between the digits if you like. `#` begins a comment.
//!
//! Pure: no I/O, no clock. Invariant: the same line gives the same keys, in every file and on every day.

use chrono::DateTime;
use codec::{CodecId, Cut, Expect, Imei, Limits, cut};
use contract::{Device, GatewayId, Kind, Lane, SettledRanges, SpoolId, Transport};

use crate::batch::{Frame, Place, Unit};
use crate::decode;

/// What stands for a gateway in `frames` and `messages`.
pub const GATEWAY: &str = "hexlog";

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was received, milliseconds since 1970 UTC.
    pub received_at_ms: Option<u64>,
    /// Who sent it.
    pub imei: Imei,
    /// Codec id to second count.
    pub data: Vec<u8>,
}

/// Reads a line. `None`: nothing on it.
/// # Errors
/// A sentence: what is wrong with it.
pub fn read(text: &str) -> Result<Option<Line>, String> {
    let text = text.split('#').next().unwrap_or_default();
    let mut words = text.split_whitespace().peekable();
    let Some(first) = words.peek() else {
        return Ok(None);
    };
    let mut received_at_ms = None;
    if first.contains(['-', ':']) {
        let moment = DateTime::parse_from_rfc3339(first).map_err(|error| {
            format!("{first:?} is no moment such as 2026-11-22T08:00:00Z: {error}")
        })?;
        let ms = u64::try_from(moment.timestamp_millis());
        received_at_ms = Some(ms.map_err(|_| format!("{first:?} is before 1970"))?);
        words.next();
    }
    let imei = words.next().ok_or("there is no IMEI behind the moment")?;
    let imei =
        Imei::parse(imei.as_bytes()).map_err(|error| format!("{imei:?} is no IMEI: {error}"))?;
    let digits: String = words.collect();
    if digits.is_empty() {
        return Err("there is no frame behind the IMEI".to_owned());
    }
    let bytes =
        hex::decode(&digits).map_err(|error| format!("the frame is not hexadecimal: {error}"))?;
    Ok(Some(Line {
        received_at_ms,
        imei,
        data: data_field(&bytes)?,
    }))
}

/// Without the frame around it, which is checked.
fn data_field(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match bytes {
        // No data field begins with 00.
        [0, 0, ..] => match cut(bytes, Expect::Frame, Limits::default()) {
            Cut::Frame(frame) if frame.consumed() == bytes.len() => Ok(frame.data().to_vec()),
            Cut::Frame(frame) => Err(format!(
                "{} bytes behind the frame; give one frame a line",
                bytes.len() - frame.consumed()
            )),
            Cut::NeedMore { needed } => Err(format!(
                "the frame is cut short: {} bytes of at least {needed}",
                bytes.len()
            )),
            Cut::Refuse { reason, .. } => Err(reason.to_string()),
            Cut::Close { reason, .. } => Err(reason.to_string()),
            Cut::Ping | Cut::Login(_) => Err("this is no frame".to_owned()),
        },
        [0, ..] => Err("this is a login; its IMEI stands in front of each frame here".to_owned()),
        [_, _, ..] => Ok(bytes.to_vec()),
        _ => Err(format!("{} bytes are no frame", bytes.len())),
    }
}

/// The rows of a line. `now_ms`, since 1970: no record is from further ahead than a day.
/// # Errors
/// A sentence: why its frame gives none.
pub fn unit(line: Line, now_ms: u64) -> Result<Unit, String> {
    let codec = CodecId::from_byte(line.data[0]);
    let record_count = match codec.is_message() {
        true => 0,
        false => line.data[1].into(),
    };
    let frame = |received_at_ms, data| Frame {
        kind: Kind::Teltonika,
        device: Device::Imei(line.imei),
        received_at_ms,
        transport: Transport::Tcp.as_u8(),
        lane: Lane::Bulk.as_u8(),
        record_count,
        data,
    };
    let (received_at_ms, seen_ms) = match line.received_at_ms {
        Some(at) => (at, at),
        None => {
            // The newest record: a tracker sends it last.
            let read = decode::frame(
                place(line.imei, 0, &line.data),
                frame(0, line.data.clone()),
                now_ms,
            );
            if let Some(bad) = read.dead_letters.first() {
                return Err(bad.reason.clone());
            }
            let possible = read.records.iter().filter(|r| r.quarantine.is_none());
            let newest = possible.map(|record| record.device_time_ms).max();
            let newest = newest
                .ok_or("nothing in it says when it was; put a moment in front of the IMEI")?;
            (newest, now_ms)
        }
    };
    let place = place(line.imei, received_at_ms, &line.data);
    let mut unit = decode::frame(place, frame(received_at_ms, line.data), seen_ms);
    match unit.dead_letters.pop() {
        Some(bad) => Err(bad.reason),
        None => Ok(unit),
    }
}

/// A place of its own for each frame, made of nothing but what the line says.
fn place(imei: Imei, received_at_ms: u64, data: &[u8]) -> Place {
    let identity = [
        &imei.as_u64().to_be_bytes(),
        &received_at_ms.to_be_bytes(),
        data,
    ]
    .concat();
    let spool = SpoolId::from_random(twox_hash::XxHash3_64::oneshot(&identity));
    Place {
        gateway: GatewayId::new(GATEWAY).expect("letters alone are a name"),
        spool,
        first: 1,
        last: 1,
        holes: SettledRanges::new(),
        only_if_known: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Wiki "Codec", Codec 8, first example.
    const DATA: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";
    const IMEI: &str = "350000000000017";
    const NOW_MS: u64 = 1_795_219_200_000;

    fn framed() -> String {
        format!("0000000000000036{DATA}0000C7CF")
    }

    #[test]
    fn a_whole_frame_and_its_data_field_are_the_same() {
        let bare = read(&format!("{IMEI} {DATA}")).unwrap().unwrap();
        let spaced = format!(
            "  {IMEI}\t{} {}  # the van",
            &framed()[..20],
            &framed()[20..]
        );
        assert_eq!(read(&spaced).unwrap().unwrap(), bare);
        let timed = read(&format!("2019-06-10T10:04:46Z {IMEI} {DATA}"))
            .unwrap()
            .unwrap();
        assert_eq!(timed.received_at_ms, Some(1_560_161_086_000));
        for nothing in ["", "   ", "# a comment", "\t# 35"] {
            assert_eq!(read(nothing).unwrap(), None, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let bent = framed().replace("C7CF", "C7CE");
        let cases = [
            ("yesterday-noon 350000000000017 08".to_owned(), "moment"),
            ("2019-06-10T10:04:46Z".to_owned(), "no IMEI"),
            ("35000000000001 0801".to_owned(), "no IMEI"),
            (IMEI.to_owned(), "no frame"),
            (format!("{IMEI} 08xx"), "hexadecimal"),
            (format!("{IMEI} 080"), "hexadecimal"),
            (format!("{IMEI} {bent}"), "checksum"),
            (format!("{IMEI} {}", &framed()[..60]), "cut short"),
            (
                format!("{IMEI} {}{}", framed(), framed()),
                "one frame a line",
            ),
            (
                format!("{IMEI} 000F333530303030303030303030303137"),
                "login",
            ),
            (format!("{IMEI} 08"), "no frame"),
        ];
        for (line, word) in cases {
            let said = read(&line).unwrap_err();
            assert!(said.contains(word), "{line:?}: {said}");
        }
    }

    #[test]
    fn the_same_line_gives_the_same_keys_on_every_day() {
        let line = || read(&format!("{IMEI} {DATA}")).unwrap().unwrap();
        let (first, later) = (
            unit(line(), NOW_MS).unwrap(),
            unit(line(), 2 * NOW_MS).unwrap(),
        );
        assert_eq!(first, later);
        assert_eq!(first.frame.unwrap().received_at_ms, 1_560_161_086_000);
        let other = read(&format!("350000000000025 {DATA}")).unwrap().unwrap();
        assert_ne!(unit(other, NOW_MS).unwrap().place, later.place);
    }

    #[test]
    fn an_impossible_time_is_no_time_of_reception() {
        // Eight bytes of time: in the year 2065.
        let ahead = DATA.replace("0000016B40D8EA30", "000002BCC2AB0000");
        let line = read(&format!("{IMEI} {ahead}")).unwrap().unwrap();
        assert!(unit(line, NOW_MS).unwrap_err().contains("when it was"));
        let line = read(&format!("2026-01-01T00:00:00Z {IMEI} {ahead}"))
            .unwrap()
            .unwrap();
        assert!(unit(line, NOW_MS).unwrap().records[0].quarantine.is_some());
        let unknown = read(&format!("{IMEI} 770101")).unwrap().unwrap();
        assert!(unit(unknown, NOW_MS).unwrap_err().contains("codec"));
    }
}
