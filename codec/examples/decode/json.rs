//! What was decoded, as JSON: the shape of `expected` in `codec/vectors/*.json`, so that
//! the vector test and the tool can only be right together.

use codec::{
    AvlData, AvlRecord, BodyError, CodecId, Cut, Datagram, Expect, Frame, IoElement, IoWidth,
    Limits, Message, MessageData,
};
use serde_json::{Map, Value, json};

/// Why some bytes could not be described.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Which byte of the input.
    pub(crate) offset: usize,
    /// What is wrong there.
    pub(crate) text: String,
}

/// Describes the one message at the front of `input`; gives its length too.
pub(crate) fn describe(input: &[u8]) -> Result<(Value, usize), Problem> {
    let cut = match input {
        [0, 0, ..] | [0xFF, ..] => codec::cut(input, Expect::Frame, Limits::default()),
        _ => match codec::cut(input, Expect::Login, Limits::default()) {
            Cut::Login(login) if login.imei().is_ok() => Cut::Login(login),
            // Neither a frame nor an IMEI behind its length: what is left is a datagram.
            _ => return Ok((datagram(input)?, input.len())),
        },
    };
    let value = match cut {
        Cut::Ping => json!({ "kind": "ping", "consumed": 1 }),
        Cut::Login(login) => json!({
            "kind": "login",
            "length": login.raw().len(),
            "imei": String::from_utf8_lossy(login.raw()),
            "consumed": login.consumed(),
            "issues": [],
        }),
        Cut::Frame(found) => frame(&found)?,
        Cut::NeedMore { needed } => {
            let text = format!("incomplete: needs {needed} bytes, has {}", input.len());
            return Err(Problem {
                offset: input.len(),
                text,
            });
        }
        Cut::Refuse { offset, reason, .. } => {
            return Err(Problem {
                offset,
                text: reason.to_string(),
            });
        }
        Cut::Close { offset, reason } => {
            return Err(Problem {
                offset,
                text: reason.to_string(),
            });
        }
    };
    Ok((value, cut.consumed()))
}

fn frame(frame: &Frame<'_>) -> Result<Value, Problem> {
    let mut object = Map::new();
    object.insert("kind".into(), "tcp".into());
    object.insert("data_length".into(), frame.data().len().into());
    object.insert("crc".into(), format!("0x{:08X}", frame.crc()).into());
    object.insert("crc_calc".into(), format!("0x{:04X}", frame.crc()).into());
    object.insert("crc_ok".into(), true.into());
    object.insert("consumed".into(), frame.consumed().into());
    body(frame.data(), &mut object).map_err(|error| at(codec::frame::HEADER_BYTES, error))?;
    if let Some(ack) = frame.ack() {
        object.insert("ack_hex".into(), hex::encode(ack).into());
    }
    Ok(object.into())
}

fn datagram(input: &[u8]) -> Result<Value, Problem> {
    let datagram = Datagram::parse(input).map_err(|error| Problem {
        offset: error.offset,
        text: error.reason.to_string(),
    })?;
    let mut object = Map::new();
    object.insert("kind".into(), "udp".into());
    object.insert("length".into(), (input.len() - 2).into());
    object.insert(
        "packet_id".into(),
        format!("0x{:04X}", datagram.packet_id()).into(),
    );
    object.insert("packet_type".into(), datagram.packet_type().into());
    object.insert("avl_packet_id".into(), datagram.avl_packet_id().into());
    object.insert(
        "imei".into(),
        String::from_utf8_lossy(datagram.raw_identity()).into(),
    );
    body(datagram.data(), &mut object)
        .map_err(|error| at(input.len() - datagram.data().len(), error))?;
    let answer = datagram.answer(datagram.first_count());
    object.insert("ack_hex".into(), hex::encode(answer).into());
    Ok(object.into())
}

fn at(data_offset: usize, error: BodyError) -> Problem {
    let text = format!("{}: {}", error.stage, error.reason);
    Problem {
        offset: data_offset + error.offset,
        text,
    }
}

fn body(data: &[u8], object: &mut Map<String, Value>) -> Result<(), BodyError> {
    let codec = CodecId::from_byte(data[0]);
    let (count, second_count) = if codec.is_message() {
        let messages = MessageData::parse(data)?;
        let list: Vec<Value> = messages.messages().map(message).collect();
        object.insert("messages".into(), list.into());
        (messages.count(), messages.second_count())
    } else {
        let avl = AvlData::parse(data)?;
        let list: Vec<Value> = avl.records().map(|r| record(&r, codec)).collect();
        object.insert("records".into(), list.into());
        (avl.count(), avl.count())
    };
    object.insert("codec".into(), format!("0x{:02X}", codec.as_byte()).into());
    object.insert("count1".into(), count.into());
    object.insert("count2".into(), second_count.into());
    object.insert("issues".into(), json!([]));
    Ok(())
}

fn record(record: &AvlRecord<'_>, codec: CodecId) -> Value {
    let mut widths = vec![IoWidth::B1, IoWidth::B2, IoWidth::B4, IoWidth::B8];
    if codec == CodecId::Codec8E {
        widths.push(IoWidth::Variable);
    }
    let size = |width| record.io().filter(|element| element.width == width).count();
    json!({
        "timestamp_ms": record.timestamp_ms,
        "priority": record.priority.as_byte(),
        "longitude_raw": record.longitude_e7,
        "latitude_raw": record.latitude_e7,
        "altitude_m": record.altitude_m,
        "angle_deg": record.angle_deg,
        "satellites": record.satellites,
        "speed_kmh": record.speed_kmh,
        "event_id": record.event_io_id,
        "generation_type": record.generation_type.map(|kind| kind.as_byte()),
        "total_io": record.io_total,
        "groups": widths.into_iter().map(size).collect::<Vec<_>>(),
        "io": record.io().map(io_element).collect::<Vec<_>>(),
    })
}

fn io_element(element: IoElement<'_>) -> Value {
    let width = element.width.bytes().map_or(Value::from("x"), Value::from);
    json!({ "id": element.id, "w": width, "hex": hex::encode(element.bytes) })
}

fn message(message: Message<'_>) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), message.kind.into());
    object.insert("size".into(), message.size.into());
    if let Some(seconds) = message.timestamp_s {
        object.insert("timestamp_s".into(), seconds.into());
    }
    if let Some(bytes) = message.imei_bytes {
        object.insert("imei_hex".into(), hex::encode(bytes).into());
        object.insert(
            "imei".into(),
            message.imei().map(|imei| imei.to_string()).into(),
        );
    }
    object.insert("payload_hex".into(), hex::encode(message.payload).into());
    // Payloads may be binary: no text rather than a damaged one.
    object.insert(
        "text".into(),
        std::str::from_utf8(message.payload).ok().into(),
    );
    object.into()
}
