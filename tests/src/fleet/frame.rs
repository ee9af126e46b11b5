//! What a device keeps until it is acknowledged: one frame as it goes over the wire, and the
//! keys under which its records must be found in the database.

use codec::{AvlData, encode};
use twox_hash::XxHash3_64;

/// What makes a record of one device itself: its own time and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Device time, Unix milliseconds.
    pub fix_time_ms: u64,
    /// Low 32 bits of xxh3-64 over the AVL record's bytes.
    pub record_hash: i32,
}

impl RecordKey {
    /// The key of an AVL record given as its bytes, timestamp first.
    #[must_use]
    pub fn of(fix_time_ms: u64, raw: &[u8]) -> RecordKey {
        let record_hash = (XxHash3_64::oneshot(raw) as u32).cast_signed();
        RecordKey {
            fix_time_ms,
            record_hash,
        }
    }

    /// The keys of all records of a data field; none when it is no readable AVL data.
    #[must_use]
    pub fn of_data(data: &[u8]) -> Vec<RecordKey> {
        let Ok(data) = AvlData::parse(data) else {
            return Vec::new();
        };
        let records = data.records();
        records
            .map(|record| RecordKey::of(record.timestamp_ms, record.raw))
            .collect()
    }
}

/// One frame in a device's memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Preamble to checksum.
    pub(super) bytes: Vec<u8>,
    /// What the server must answer; `None` for messages, which get no answer.
    pub(super) ack: Option<u8>,
    pub(super) keys: Vec<RecordKey>,
}

impl Frame {
    /// Frames a data field (codec id to second count) of at least three bytes.
    pub(super) fn new(data: &[u8]) -> Frame {
        let mut bytes = Vec::with_capacity(data.len() + codec::frame::OVERHEAD_BYTES);
        encode::frame(data, &mut bytes).expect("a Vec has room and a data field is short");
        let ack = codec::CodecId::from_byte(data[0])
            .wants_ack()
            .then_some(data[1]);
        Frame {
            bytes,
            ack,
            keys: RecordKey::of_data(data),
        }
    }

    /// How many records it counts as: also for a codec nobody can read.
    pub(super) fn records(&self) -> u64 {
        u64::from(self.ack.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // xxh3-64 of nothing, published by the author of the hash: 2D06800538D394C2.
    #[test]
    fn the_hash_is_the_low_half_of_xxh3() {
        assert_eq!(RecordKey::of(5, b"").record_hash, 0x38D3_94C2);
        assert_eq!(RecordKey::of(5, b"").fix_time_ms, 5);
    }

    #[test]
    fn nonsense_is_framed_too() {
        let frame = Frame::new(&[0x77, 2, 1, 2, 3, 2]);
        assert_eq!(
            (frame.ack, frame.records(), frame.keys.len()),
            (Some(2), 2, 0)
        );
        assert_eq!(frame.bytes.len(), 18);
    }
}
