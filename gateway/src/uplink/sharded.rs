//! Pure: no I/O, no clock.
//!
//! What waits for company, a batcher for each route: kind and shard.
//!
//! Invariants: a device of one kind is always on the same route, so its envelopes stay in order; no
//! route starves, because each batch is looked for behind the route of the last one; when
//! [`Sharded::bytes_max`] wait, at least one batch is full, so reading never stops for good.

use std::time::{Duration, Instant};

use contract::Kind;

use super::batch::{BATCH_BYTES, Batch, Batcher};
use super::route::Route;
use crate::spool::Stored;

/// Envelopes that wait, dealt out by kind and device.
#[derive(Debug)]
pub struct Sharded {
    flush: Duration,
    /// Of each kind; never 0.
    shards: u32,
    /// Kinds that came, in the order of their first envelopes.
    kinds: Vec<Kind>,
    /// As many as there are shards for the first kind, then for the next.
    batchers: Vec<Batcher>,
    /// Where to look first.
    next: usize,
}

impl Sharded {
    /// `shards` of 0 count as 1.
    #[must_use]
    pub fn new(flush: Duration, shards: u32) -> Self {
        Self {
            flush,
            shards: shards.max(1),
            kinds: Vec::new(),
            batchers: Vec::new(),
            next: 0,
        }
    }

    /// Takes the next envelope in the order of the spool.
    pub fn push(&mut self, stored: Stored, now: Instant) {
        let route = Route::of(&stored, self.shards);
        let known = self.kinds.iter().position(|kind| *kind == route.kind);
        let of_kind = known.unwrap_or_else(|| self.begin(&route.kind));
        let at = of_kind * self.shards as usize + route.shard as usize;
        self.batchers[at].push(stored, now);
    }

    /// Makes room for a kind that has not come before.
    fn begin(&mut self, kind: &Kind) -> usize {
        let (flush, kind) = (self.flush, kind.clone());
        let batchers = (0..self.shards).map(|shard| {
            let kind = kind.clone();
            Batcher::new(flush, Route { kind, shard })
        });
        self.batchers.extend(batchers);
        self.kinds.push(kind);
        self.kinds.len() - 1
    }

    /// Bytes of frames that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.batchers.iter().map(Batcher::waiting_bytes).sum()
    }

    /// With so many bytes waiting, a batch is full.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.batchers.len().max(1) * BATCH_BYTES
    }

    /// When the oldest envelope has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.batchers.iter().filter_map(Batcher::deadline).min()
    }

    /// As [`Batcher::take`], of each route in turn.
    pub fn take(&mut self, now: Option<Instant>) -> Option<Batch> {
        let count = self.batchers.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            if let Some(batch) = self.batchers[at].take(now) {
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

    use contract::{Device, keys};
    use proptest::prelude::*;

    use super::super::batch::tests::stored;
    use super::*;

    fn of_device(device: u64, seq: u64, bytes: usize) -> Stored {
        Stored {
            // Kinds alternate as devices do, one of them unknown.
            kind: Kind::from_u8(u8::try_from(device % 4).unwrap()),
            device: Device::Text(format!("boat-{device}")),
            ..stored(1, seq, bytes, false)
        }
    }

    proptest! {
        #[test]
        fn a_device_stays_on_its_route_and_in_order(
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
                    prop_assert_eq!(keys::shard_of(&stored.device, shards), batch.route().shard);
                    prop_assert_eq!(&stored.kind, &batch.route().kind);
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
            .map(|_| sharded.take(Some(now)).unwrap().route().shard)
            .collect();
        assert_eq!(first, [0, 1, 2, 3]);
    }

    #[test]
    fn no_kind_starves() {
        let now = Instant::now();
        let mut sharded = Sharded::new(Duration::ZERO, 1);
        for seq in 1..=4000 {
            sharded.push(of_device(seq % 4, seq, BATCH_BYTES / 4), now);
        }
        let kinds: Vec<Option<u8>> = (0..8)
            .map(|_| sharded.take(Some(now)).unwrap().route().kind.as_u8())
            .collect();
        assert_eq!(kinds, [1, 2, 3, 0, 1, 2, 3, 0].map(Some));
    }

    #[test]
    fn a_panic_record_waits_for_no_other_kind() {
        let now = Instant::now();
        let mut sharded = Sharded::new(Duration::from_secs(3600), 1);
        sharded.push(of_device(0, 1, 10), now);
        let panic = Stored {
            panic: true,
            ..of_device(2, 2, 10)
        };
        sharded.push(panic, now);
        let batch = sharded.take(Some(now)).unwrap();
        assert_eq!((batch.first().get(), batch.stored().len()), (2, 1));
        assert!(sharded.take(Some(now)).is_none(), "the other one may wait");
    }
}
