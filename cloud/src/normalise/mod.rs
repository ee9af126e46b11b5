//! From an AVL record as sent to typed values, without throwing anything away.
//!
//! Why so little happens here: names, scales and signs come from the dictionary when somebody
//! reads, so a better dictionary improves all history at once. Only what everybody charts gets a
//! column.
//!
//! Pure. Invariant: every IO value of a record can be recovered from its [`Record`].

pub mod codec7;
pub mod dictionary;
pub mod family;
pub mod io;
pub mod quality;

use codec::AvlRecord;

use crate::batch::Record;

/// Identity of a record's content: low 32 bits of xxh3-64 over its bytes, read as signed, because
/// the column is an `int4`. Frozen: a change would store every resent record twice.
#[must_use]
pub fn record_hash(raw: &[u8]) -> i32 {
    let low = twox_hash::XxHash3_64::oneshot(raw) & u64::from(u32::MAX);
    u32::try_from(low).expect("masked to 32 bits").cast_signed()
}

/// Types one record. `received_at_ms` is the latest of the clocks that saw it pass; `offset` is where the record's bytes
/// begin in the data field.
#[must_use]
pub fn record(avl: &AvlRecord<'_>, index: u32, offset: usize, received_at_ms: u64) -> Record {
    let (hot, io) = io::sort(avl.io());
    Record {
        index,
        hash: record_hash(avl.raw),
        device_time_ms: avl.timestamp_ms,
        quarantine: quality::impossible_time(avl.timestamp_ms, received_at_ms),
        valid: quality::is_valid(avl.satellites, avl.latitude_e7, avl.longitude_e7),
        latitude: f64::from(avl.latitude_e7) / 1e7,
        longitude: f64::from(avl.longitude_e7) / 1e7,
        altitude_m: Some(avl.altitude_m),
        heading_deg: Some(avl.angle_deg.into()),
        speed_kmh: Some(avl.speed_kmh.into()),
        satellites: Some(avl.satellites),
        priority: Some(avl.priority.as_byte()),
        event_io_id: avl.event_io_id,
        generation_type: avl.generation_type.map(codec::GenerationType::as_byte),
        hot,
        io,
        bytes_at: (offset, avl.raw.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Wiki "Codec", Codec 8, first example; the hash was computed by another implementation.
    #[test]
    fn hash_is_frozen() {
        let data = hex::decode("08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001").unwrap();
        assert_eq!(
            record_hash(&data[2..data.len() - 1]).cast_unsigned(),
            0x72f6_ad72
        );
    }

    #[test]
    fn degrees_give_back_the_integer_that_was_sent() {
        for e7 in [
            i32::MIN,
            -1_799_999_999,
            -1,
            0,
            1,
            546_870_123,
            1_800_000_000,
            i32::MAX,
        ] {
            let degrees = f64::from(e7) / 1e7;
            assert_eq!((degrees * 1e7).round() as i64, i64::from(e7));
        }
    }
}
