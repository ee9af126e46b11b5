//! Public examples of the protocol, read by this binary and compared with what they should give.

use codec::{AvlData, Cut, Expect, Limits, MessageData};
use serde_json::Value;

/// From the manufacturer's wiki; what they should give comes from a second implementation.
const VECTORS: [&str; 5] = [
    include_str!("../../../codec/vectors/c8-tcp-1.json"),
    include_str!("../../../codec/vectors/c8-tcp-3-two-records.json"),
    include_str!("../../../codec/vectors/c8e-tcp-1.json"),
    include_str!("../../../codec/vectors/c16-tcp-1.json"),
    include_str!("../../../codec/vectors/c12-rsp-getinfo.json"),
];

/// Preamble and length; flips in there are another matter than the checksum's.
const HEAD_BYTES: usize = 8;

pub(super) fn prove() -> Result<String, String> {
    let (mut records, mut flips) = (0, 0);
    for vector in VECTORS {
        let vector: Value = serde_json::from_str(vector).map_err(|error| error.to_string())?;
        let name = vector["name"].as_str().unwrap_or_default();
        let told = |what: String| format!("{name}: {what}");
        let mut bytes = unhex(&vector["hex"]).ok_or_else(|| told("no hexadecimal".to_owned()))?;
        records += one(&bytes, &vector["expected"]).map_err(told)?;
        for at in HEAD_BYTES * 8..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            if let Cut::Frame(_) = codec::cut(&bytes, Expect::Frame, Limits::default()) {
                return Err(told(format!("bit {at} flipped, and the checksum held")));
            }
            bytes[at / 8] ^= 1 << (at % 8);
            flips += 1;
        }
    }
    Ok(format!(
        "{} public frames read as they should be ({records} records), {flips} flipped bits found",
        VECTORS.len()
    ))
}

fn unhex(hex: &Value) -> Option<Vec<u8>> {
    let digits = hex.as_str()?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

/// Returns the records in it.
fn one(bytes: &[u8], expected: &Value) -> Result<usize, String> {
    let Cut::Frame(frame) = codec::cut(bytes, Expect::Frame, Limits::default()) else {
        return Err("not taken for a frame with a good checksum".to_owned());
    };
    let same = |what: &str, found: Value, expected: &Value| {
        let is_same = found == *expected;
        let differs = || format!("{what} is {found} instead of {expected}");
        if is_same { Ok(()) } else { Err(differs()) }
    };
    if let Some(messages) = expected["messages"].as_array() {
        let read = MessageData::parse(frame.data()).map_err(|error| error.to_string())?;
        let read: Vec<Value> = read
            .messages()
            .map(|message| hex(message.payload))
            .collect();
        let wanted: Vec<Value> = messages.iter().map(|m| m["payload_hex"].clone()).collect();
        same("the text", read.into(), &wanted.into())?;
        return Ok(0);
    }
    let avl = AvlData::parse(frame.data()).map_err(|error| error.to_string())?;
    let wanted = expected["records"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let read: Vec<_> = avl.records().collect();
    same(
        "the number of records",
        read.len().into(),
        &wanted.len().into(),
    )?;
    for (record, wanted) in read.iter().zip(wanted) {
        same("time", record.timestamp_ms.into(), &wanted["timestamp_ms"])?;
        same(
            "longitude",
            record.longitude_e7.into(),
            &wanted["longitude_raw"],
        )?;
        same(
            "latitude",
            record.latitude_e7.into(),
            &wanted["latitude_raw"],
        )?;
        same("speed", record.speed_kmh.into(), &wanted["speed_kmh"])?;
        same(
            "satellites",
            record.satellites.into(),
            &wanted["satellites"],
        )?;
        let io: Vec<Value> = record.io().map(|io| u32::from(io.id).into()).collect();
        let ids = wanted["io"].as_array().map_or(&[][..], Vec::as_slice);
        let ids: Vec<Value> = ids.iter().map(|io| io["id"].clone()).collect();
        same("the IO ids", io.into(), &ids.into())?;
        let values: Vec<Value> = record.io().map(|io| hex(io.bytes)).collect();
        let hexes = wanted["io"].as_array().map_or(&[][..], Vec::as_slice);
        let hexes: Vec<Value> = hexes.iter().map(|io| io["hex"].clone()).collect();
        same("the IO values", values.into(), &hexes.into())?;
    }
    Ok(read.len())
}

fn hex(bytes: &[u8]) -> Value {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}
