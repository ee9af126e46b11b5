//! Data fields of Teltonika's trackers: records and messages.
//!
//! Pure. Invariant: an unknown codec and a damaged frame are told apart, because the one may be read
//! by a later version.

use codec::{AvlData, BodyError, Codec7Data, CodecId, MessageData};

use super::kinds::{Body, Unread};
use crate::batch::{Frame, Message};
use crate::normalise::{self, codec7};

/// Codecs whose records may have to be told apart by their bytes.
const AVL_CODECS: [u8; 3] = [0x08, 0x8E, 0x10];

/// `arrived_ms` is the clock of Redis when the entry came. A gateway without a battery behind its
/// clock may wake up in 1970, and every record would seem to come from the future.
pub(super) fn read(frame: &Frame, arrived_ms: u64) -> Result<Body, Unread> {
    let dead = |class, error: &BodyError| Unread {
        class,
        reason: error.to_string(),
        offset: Some(error.offset),
    };
    let codec = frame.data.first().copied().map(CodecId::from_byte);
    if codec.is_some_and(CodecId::is_message) {
        return MessageData::parse(&frame.data)
            .map(|data| Body::Messages(messages(&data)))
            .map_err(|error| dead("frame", &error));
    }
    if codec == Some(CodecId::Codec7) {
        let data = Codec7Data::parse(&frame.data).map_err(|error| dead("frame", &error))?;
        let records = numbered(data.records().map(|avl| (avl.raw.len(), avl)));
        let received_at_ms = frame.received_at_ms.max(arrived_ms);
        let typed = |(index, offset, avl)| codec7::record(&avl, index, offset, received_at_ms);
        return Ok(Body::Records(records.map(typed).collect()));
    }
    let known = codec.is_some_and(CodecId::is_avl);
    // An unknown codec comes back as such from the AVL reader: one road for the reason.
    let data = AvlData::parse(&frame.data)
        .map_err(|error| dead(if known { "frame" } else { "codec" }, &error))?;
    let records = numbered(data.records().map(|avl| (avl.raw.len(), avl)));
    let received_at_ms = frame.received_at_ms.max(arrived_ms);
    let typed = |(index, offset, avl)| normalise::record(&avl, index, offset, received_at_ms);
    Ok(Body::Records(records.map(typed).collect()))
}

/// Each record with its number and the place of its first byte in the data field.
fn numbered<T>(records: impl Iterator<Item = (usize, T)>) -> impl Iterator<Item = (u32, usize, T)> {
    // Codec id and first count stand before the first record.
    let mut offset = 2;
    records.zip(0u32..).map(move |((bytes, record), index)| {
        let at = offset;
        offset += bytes;
        (index, at, record)
    })
}

fn messages(data: &MessageData<'_>) -> Vec<Message> {
    let codec = match data.codec() {
        codec::MessageCodec::Codec12 => 0x0C,
        codec::MessageCodec::Codec13 => 0x0D,
        codec::MessageCodec::Codec14 => 0x0E,
        codec::MessageCodec::Codec15 => 0x0F,
    };
    let numbered = data.messages().zip(0u32..);
    numbered
        .map(|(message, index)| Message {
            index,
            codec,
            kind: message.kind,
            device_time_s: message.timestamp_s,
            payload: message.payload.to_vec(),
        })
        .collect()
}

/// A data field around one record, if only one codec fits.
pub(super) fn alone(record: &[u8]) -> Result<Vec<u8>, String> {
    let around = |codec: u8| [&[codec, 1], record, &[1]].concat();
    let fitting: Vec<Vec<u8>> = AVL_CODECS
        .into_iter()
        .map(around)
        .filter(|data| AvlData::parse(data).is_ok())
        .collect();
    match <[Vec<u8>; 1]>::try_from(fitting) {
        Ok([data]) => Ok(data),
        Err(several) => Err(format!(
            "its frame was not kept (frames.keep, frames.retention), and the record alone fits {} codecs",
            several.len()
        )),
    }
}
