//! The UDP datagram.

use codec::Datagram;
use serde_json::Value;

use super::{Object, Problem, body, hex_number};

/// Describes one datagram.
pub(crate) fn describe(input: &[u8]) -> Result<Value, Problem> {
    let mut object = head(input);
    let mut issues = Vec::new();
    let datagram = match Datagram::parse(input) {
        Ok(datagram) => datagram,
        Err(error) => {
            let problem = Problem::new(error.stage(), error.offset, error.reason.to_string());
            return Err(problem.knowing(object));
        }
    };
    object.insert("kind".into(), "udp".into());
    let codec_id = datagram.codec_id().as_byte();
    object.insert("codec".into(), hex_number(codec_id.into(), 2));
    object.insert("count1".into(), datagram.first_count().into());
    if datagram.imei().is_err() {
        issues.push("non-digit imei".to_owned());
    }
    if let Err(problem) = body::describe(datagram.data(), &mut object, &mut issues) {
        let data_offset = input.len() - datagram.data().len();
        object.insert("issues".into(), issues.into());
        return Err(problem.behind(data_offset).knowing(object));
    }
    let answer = datagram.answer(datagram.first_count());
    object.insert("ack_hex".into(), hex::encode(answer).into());
    if let Some(channel_ack) = datagram.channel_ack() {
        object.insert("channel_ack_hex".into(), hex::encode(channel_ack).into());
    }
    object.insert("issues".into(), issues.into());
    Ok(object.into())
}

/// As many fields in front of the data as are there.
fn head(input: &[u8]) -> Object {
    let mut object = Object::new();
    let u16_at = |at: usize| {
        let bytes = input.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    if let Some(length) = u16_at(0) {
        object.insert("length".into(), length.into());
    }
    if let Some(packet_id) = u16_at(2) {
        object.insert("packet_id".into(), hex_number(packet_id.into(), 4));
    }
    for (at, name) in [(4, "packet_type"), (5, "avl_packet_id")] {
        if let Some(&byte) = input.get(at) {
            object.insert(name.into(), byte.into());
        }
    }
    let identity = u16_at(6).and_then(|length| input[8..].get(..usize::from(length)));
    if let Some(identity) = identity {
        object.insert("imei".into(), String::from_utf8_lossy(identity).into());
    }
    object
}
