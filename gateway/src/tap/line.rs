//! One frame as one line: how the gateway writes it, how `gateway tap` reads and shows it.
//!
//! Pure: no I/O, no clock.
//!
//! Invariant: what was written here reads back here.

use codec::{AvlData, Codec7Data, CodecId, MessageData};
use serde_json::{Value, json};

use crate::clock;
use crate::devices::{codec_word, transport_word};
use crate::logbook::ImeiStyle;
use crate::tap::TapFrame;

/// The gateway's end.
pub struct Line;

impl Line {
    /// A frame, with its line end.
    #[must_use]
    pub fn of_frame(frame: &TapFrame, style: ImeiStyle) -> String {
        let hex: String = frame
            .data
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = json!({
            "received_at_ms": frame.received_at_ms,
            "imei": style.show(frame.imei).to_string(),
            "transport": transport_word(frame.transport),
            "data": hex,
        });
        format!("{line}\n")
    }

    /// The last word to a watcher that was too slow.
    #[must_use]
    pub fn too_slow(missed: u64) -> String {
        let why = format!("too slow: {missed} frames were not shown; connect again");
        format!("{}\n", json!({ "end": why }))
    }

    /// The last word of a gateway that stops.
    #[must_use]
    pub fn stopping() -> String {
        format!("{}\n", json!({ "end": "the gateway is stopping" }))
    }
}

/// A line as the watcher reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A frame.
    Frame {
        /// Our clock, milliseconds since 1970.
        received_at_ms: u64,
        /// As the gateway shows it.
        imei: String,
        /// In a word.
        transport: String,
        /// Codec id … second count.
        data: Vec<u8>,
    },
    /// Why there is no more.
    End(String),
    /// Nothing: keeps the connection alive.
    Nothing,
}

impl Parsed {
    /// Reads a line; `None` when it is none of ours.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        if line.trim().is_empty() {
            return Some(Self::Nothing);
        }
        let line: Value = serde_json::from_str(line).ok()?;
        if let Some(why) = line["end"].as_str() {
            return Some(Self::End(why.to_owned()));
        }
        let (pairs, odd) = line["data"].as_str()?.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| (byte as char).to_digit(16);
        let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
        let data: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        Some(Self::Frame {
            received_at_ms: line["received_at_ms"].as_u64()?,
            imei: line["imei"].as_str()?.to_owned(),
            transport: line["transport"].as_str()?.to_owned(),
            data: data.filter(|_| odd.is_empty())?,
        })
    }

    /// For people: time, IMEI, codec, records, position, bytes. `None` for [`Parsed::Nothing`].
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        let (received_at_ms, imei, transport, data) = match self {
            Self::Nothing => return None,
            Self::End(why) => return Some(format!("end: {why}")),
            Self::Frame {
                received_at_ms,
                imei,
                transport,
                data,
            } => (*received_at_ms, imei, transport, data),
        };
        let codec = codec_word(data.first().copied().unwrap_or_default());
        let what = content(data).unwrap_or_else(|why| format!("unreadable ({why}), kept as it is"));
        Some(format!(
            "{}  {imei}  {transport}  codec {codec:<2}  {what}  {} bytes",
            clock::utc(received_at_ms),
            data.len()
        ))
    }

    /// For machines: everything, decoded. `None` for [`Parsed::Nothing`].
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        let (received_at_ms, imei, transport, data) = match self {
            Self::Nothing => return None,
            Self::End(why) => return Some(json!({ "end": why })),
            Self::Frame {
                received_at_ms,
                imei,
                transport,
                data,
            } => (received_at_ms, imei, transport, data),
        };
        let (decoded, error) = match decode(data) {
            Ok(decoded) => (decoded, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Some(json!({
            "received_at_ms": received_at_ms,
            "imei": imei,
            "transport": transport,
            "codec": codec_word(data.first().copied().unwrap_or_default()),
            "bytes": data.len(),
            "decoded": decoded,
            "error": error,
        }))
    }
}

fn decode(data: &[u8]) -> Result<Option<Value>, codec::BodyError> {
    let value = match CodecId::from_byte(data.first().copied().unwrap_or_default()) {
        CodecId::Codec7 => serde_json::to_value(Codec7Data::parse(data)?),
        id if id.is_avl() => serde_json::to_value(AvlData::parse(data)?),
        id if id.is_message() => {
            let messages = MessageData::parse(data)?.messages().map(|message| {
                json!({
                    "kind": message.kind,
                    "timestamp_s": message.timestamp_s,
                    "text": String::from_utf8_lossy(message.payload),
                })
            });
            Ok(json!({ "messages": messages.collect::<Vec<_>>() }))
        }
        _ => return Ok(None),
    };
    Ok(value.ok())
}

fn content(data: &[u8]) -> Result<String, codec::BodyError> {
    Ok(
        match CodecId::from_byte(data.first().copied().unwrap_or_default()) {
            CodecId::Codec7 => records(usize::from(Codec7Data::parse(data)?.count())),
            id if id.is_avl() => {
                let avl = AvlData::parse(data)?;
                let newest = avl.records().max_by_key(|record| record.timestamp_ms);
                let place = newest.map_or_else(String::new, |record| {
                    let e7 = |value: i32| f64::from(value) / 1e7;
                    let fix = match record.satellites {
                        0 => "no fix".to_owned(),
                        satellites => format!("{satellites} satellites"),
                    };
                    format!(
                        "  {}  {:.5},{:.5}  {} km/h  {fix}",
                        clock::utc(record.timestamp_ms),
                        e7(record.latitude_e7),
                        e7(record.longitude_e7),
                        record.speed_kmh
                    )
                });
                records(usize::from(avl.count())) + &place
            }
            id if id.is_message() => {
                let messages = MessageData::parse(data)?;
                let text = messages.messages().next().map(|message| {
                    let text = String::from_utf8_lossy(message.payload);
                    // What a device says must not steer a terminal.
                    text.escape_debug().to_string()
                });
                format!("message  {}", text.unwrap_or_default())
            }
            _ => "content of an unknown codec, kept as it is".to_owned(),
        },
    )
}

fn records(count: usize) -> String {
    match count {
        1 => "1 record".to_owned(),
        count => format!("{count} records"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use contract::Transport;

    fn line(hex: &str) -> String {
        let frame = TapFrame {
            received_at_ms: 1_795_000_000_000,
            imei: "356307042441013".parse().unwrap(),
            transport: Transport::Tcp,
            data: hex::decode(hex).unwrap(),
        };
        Line::of_frame(&frame, ImeiStyle::Short)
    }

    /// The first Codec 8 example of the manufacturer's wiki.
    const WIKI: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";

    #[test]
    fn a_frame_reads_back_and_shows_what_is_in_it() {
        let parsed = Parsed::read(&line(WIKI)).unwrap();
        let text = parsed.to_text().unwrap();
        assert_eq!(
            text,
            "2026-11-18 11:06:40  35630…013  tcp  codec 8   1 record  2019-06-10 10:04:46  0.00000,0.00000  0 km/h  no fix  54 bytes"
        );
        let json = parsed.to_json().unwrap();
        assert_eq!(
            json["decoded"]["records"][0]["timestamp_ms"],
            1_560_161_086_000_u64
        );
        assert_eq!((&json["bytes"], &json["error"]), (&54.into(), &Value::Null));
    }

    #[test]
    fn messages_and_what_cannot_be_read_are_shown_too() {
        let parsed = |hex| Parsed::read(&line(hex)).unwrap();
        let text = parsed("0D01060000001564E8328168656C6C6F206C65747320746573740D0A01").to_text();
        assert!(text.unwrap().contains(r"message  hello lets test\r\n"));
        let broken = parsed("0801FF01");
        assert!(broken.to_text().unwrap().contains("unreadable"));
        assert!(broken.to_json().unwrap()["error"].is_string());
        assert!(parsed("F001").to_text().unwrap().contains("unknown codec"));
    }

    #[test]
    fn last_words_and_silence_are_told_apart_from_nonsense() {
        assert_eq!(Parsed::read("\n"), Some(Parsed::Nothing));
        let end = Parsed::read(&Line::too_slow(7)).unwrap();
        assert!(end.to_text().unwrap().contains("7 frames were not shown"));
        assert!(matches!(
            Parsed::read(&Line::stopping()),
            Some(Parsed::End(_))
        ));
        for odd in ["{}", "<html>", "{\"data\":\"0\"}"] {
            assert_eq!(Parsed::read(odd), None, "{odd}");
        }
        let half = line(WIKI).replace("\"data\":\"08", "\"data\":\"8");
        assert_eq!(Parsed::read(&half), None);
    }
}
