//! What the simulated trackers send: every frame is its own, and can be made again from its number.
//!
//! Invariant: two frames with different numbers differ, so that one read back names its attempt.

use contract::{Device, Kind, Lane, Transport};

use crate::fs::sim::Chance;
use crate::{Append, Stored};

/// Bytes a frame needs to carry its number.
pub(super) const FRAME_BYTES_MIN: usize = 8;

/// One attempt to keep a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) lane: Lane,
    pub(super) bytes: usize,
    /// The opening it was tried in.
    pub(super) life: usize,
}

impl Attempt {
    /// Panic records go through the high lane.
    fn panic(self) -> bool {
        self.lane == Lane::High && self.number.is_multiple_of(3)
    }

    pub(super) fn append(self) -> Append {
        let number = self.number;
        let device = match number % 5 {
            0 => Device::Text(format!("boat-{number}")),
            _ => Device::Imei("356307042441013".parse().expect("a documented IMEI")),
        };
        let mut bytes = number.to_le_bytes().to_vec();
        let rest = self.bytes - FRAME_BYTES_MIN;
        match number % 4 {
            0 => bytes.resize(self.bytes, 0),
            1 => bytes.resize(self.bytes, 0xff),
            _ => {
                let mut chance = Chance::new(number);
                bytes.extend((0..rest).map(|_| chance.next() as u8));
            }
        }
        Append {
            device,
            // Also some that this build does not know.
            kind: Kind::from_u8((number % 6) as u8),
            transport: Transport::from_u8((number % 4) as u8),
            lane: self.lane,
            received_at_ms: 1_700_000_000_000 + number,
            record_count: (number % 300) as u32,
            panic: self.panic(),
            bytes,
        }
    }

    /// Did `stored` come back as it went in?
    pub(super) fn is(self, stored: &Stored) -> bool {
        let append = self.append();
        append.bytes == stored.bytes
            && append.device == stored.device
            && append.kind == stored.kind
            && append.transport == stored.transport
            && append.lane == stored.lane
            && append.received_at_ms == stored.received_at_ms
            && append.record_count == stored.record_count
            && (stored.panic || !append.panic)
    }
}

/// The number a stored frame claims.
pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = bytes.first_chunk::<FRAME_BYTES_MIN>()?;
    Some(u64::from_le_bytes(*number))
}
