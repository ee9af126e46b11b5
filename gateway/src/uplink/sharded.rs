//! Pure: no I/O, no clock.
//!
//! What waits for company, a batcher for each shard.
//!
//! Invariants: a device is always in the same shard, so its envelopes stay in order; no shard
//! starves, because each batch is looked for behind the shard of the last one; when
//! [`Sharded::bytes_max`] wait, at least one batch is full, so reading never stops for good.

use std::time::{Duration, Instant};

use contract::keys;

use super::batch::{BATCH_BYTES, Batch, Batcher};
use crate::spool::Stored;

/// Envelopes that wait, dealt out by device.
#[derive(Debug)]
pub struct Sharded {
    /// Never empty; its place is its shard.
    shards: Vec<Batcher>,
    /// Where to look first.
    next: usize,
}

impl Sharded {
    /// `shards` of 0 count as 1.
    #[must_use]
    pub fn new(flush: Duration, shards: u32) -> Self {
        Self {
            shards: (0..shards.max(1))
                .map(|shard| Batcher::of_shard(flush, shard))
                .collect(),
            next: 0,
        }
    }

    /// Takes the next envelope in the order of the spool.
    pub fn push(&mut self, stored: Stored, now: Instant) {
        let count = u32::try_from(self.shards.len()).expect("made from a u32");
        let shard = keys::shard_of(&stored.device, count) as usize;
        self.shards[shard].push(stored, now);
    }

    /// Bytes of frames that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.shards.iter().map(Batcher::waiting_bytes).sum()
    }

    /// With so many bytes waiting, a batch is full.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.shards.len() * BATCH_BYTES
    }

    /// When the oldest envelope has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.shards.iter().filter_map(Batcher::deadline).min()
    }

    /// As [`Batcher::take`], of each shard in turn.
    pub fn take(&mut self, now: Option<Instant>) -> Option<Batch> {
        let count = self.shards.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            if let Some(batch) = self.shards[at].take(now) {
                self.next = (at + 1) % count;
                return Some(batch);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use contract::Device;
    use proptest::prelude::*;

    use super::super::batch::tests::stored;
    use super::*;

    fn of_device(device: u64, seq: u64, bytes: usize) -> Stored {
        Stored {
            device: Device::Text(format!("boat-{device}")),
            ..stored(1, seq, bytes, false)
        }
    }

    proptest! {
        #[test]
        fn a_device_stays_in_its_shard_and_in_order(
            shards in 1_u32..9,
            devices in proptest::collection::vec(0_u64..20, 1..400),
        ) {
            let now = Instant::now();
            let mut sharded = Sharded::new(Duration::ZERO, shards);
            for (at, device) in devices.iter().enumerate() {
                sharded.push(of_device(*device, at as u64 + 1, 10), now);
            }
            let mut last = BTreeMap::new();
            let mut seen = 0;
            while let Some(batch) = sharded.take(Some(now)) {
                for stored in batch.stored() {
                    prop_assert_eq!(keys::shard_of(&stored.device, shards), batch.shard());
                    let before = last.insert(stored.device.to_string(), stored.seq);
                    prop_assert!(before < Some(stored.seq));
                    seen += 1;
                }
            }
            prop_assert_eq!((seen, sharded.waiting_bytes()), (devices.len(), 0));
        }

        #[test]
        fn a_full_one_always_has_something_to_take(
            shards in 1_u32..17,
            sizes in proptest::collection::vec((0_u64..50, 1_usize..BATCH_BYTES), 1..400),
        ) {
            let now = Instant::now();
            let mut sharded = Sharded::new(Duration::from_secs(3600), shards);
            for (at, (device, bytes)) in sizes.into_iter().enumerate() {
                sharded.push(of_device(device, at as u64 + 1, bytes), now);
                if sharded.waiting_bytes() >= sharded.bytes_max() {
                    prop_assert!(sharded.take(Some(now)).is_some());
                }
            }
        }
    }

    #[test]
    fn no_shard_starves() {
        let now = Instant::now();
        let mut sharded = Sharded::new(Duration::ZERO, 4);
        for seq in 1..=4000 {
            sharded.push(of_device(seq % 50, seq, BATCH_BYTES / 4), now);
        }
        let first: Vec<u32> = (0..4)
            .map(|_| sharded.take(Some(now)).unwrap().shard())
            .collect();
        assert_eq!(first, [0, 1, 2, 3]);
    }
}
