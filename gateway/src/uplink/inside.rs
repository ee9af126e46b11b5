//! Pure: no I/O, no clock.
//!
//! Which positions a batch holds, in 72 bytes however scattered they are.
//!
//! Why: with several shards the positions of one spool are dealt out over several batches, so that
//! the first and the last of a batch no longer say what is between.
//!
//! Invariant: at most 512 positions apart, which a stream entry guarantees.

use contract::envelope::ENVELOPES_MAX;
use contract::{SettledRanges, SpoolSeq};

const WORDS: usize = ENVELOPES_MAX / 64;

/// Positions of one spool, never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    first: u64,
    bits: [u64; WORDS],
}

impl Inside {
    /// `first` and those of `seqs`, which lie behind it.
    #[must_use]
    pub fn new(first: SpoolSeq, seqs: impl IntoIterator<Item = SpoolSeq>) -> Self {
        let first = first.get();
        let mut bits = [0; WORDS];
        bits[0] = 1;
        for seq in seqs {
            let at = usize::try_from(seq.get() - first).unwrap_or(usize::MAX);
            if let Some(word) = bits.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
        }
        Self { first, bits }
    }

    /// Is this position among them?
    #[must_use]
    pub fn contains(&self, seq: SpoolSeq) -> bool {
        let Some(at) = seq.get().checked_sub(self.first) else {
            return false;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.bits
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Exactly these positions.
    #[must_use]
    pub fn ranges(&self) -> SettledRanges {
        let mut ranges = SettledRanges::new();
        self.each_run(|first, last| {
            ranges.insert(first, last);
            true
        });
        ranges
    }

    /// Is every one of them settled?
    #[must_use]
    pub fn are_in(&self, settled: &SettledRanges) -> bool {
        self.each_run(|first, last| settled.contains_all(first, last))
    }

    /// Hands on the runs of neighbours, lowest first, until one is answered with `false`.
    fn each_run(&self, mut with: impl FnMut(u64, u64) -> bool) -> bool {
        let is_set = |at: usize| self.bits[at / 64] >> (at % 64) & 1 == 1;
        let mut from = None;
        for at in 0..=ENVELOPES_MAX {
            let set = at < ENVELOPES_MAX && is_set(at);
            match (set, from) {
                (true, None) => from = Some(at),
                (false, Some(start)) => {
                    let position = |at: usize| self.first + at as u64;
                    if !with(position(start), position(at - 1)) {
                        return false;
                    }
                    from = None;
                }
                _ => {}
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn seq(number: u64) -> SpoolSeq {
        SpoolSeq::new(number).unwrap()
    }

    fn ranges(numbers: &BTreeSet<u64>) -> SettledRanges {
        let mut ranges = SettledRanges::new();
        numbers.iter().for_each(|&n| ranges.insert(n, n));
        ranges
    }

    fn judge(numbers: &BTreeSet<u64>, settled: &BTreeSet<u64>, around: std::ops::Range<u64>) {
        let first = *numbers.first().unwrap();
        let inside = Inside::new(seq(first), numbers.iter().map(|&n| seq(n)));
        for number in around {
            assert_eq!(inside.contains(seq(number)), numbers.contains(&number));
        }
        assert_eq!(inside.ranges().to_string(), ranges(numbers).to_string());
        assert_eq!(
            inside.are_in(&ranges(settled)),
            numbers.is_subset(settled),
            "{numbers:?} in {settled:?}"
        );
    }

    #[test]
    fn every_small_set_against_every_other() {
        let set = |bits: u32| {
            (0..7)
                .filter(|n| bits >> n & 1 == 1)
                .map(|n| n + 5)
                .collect()
        };
        for bits in 1..128 {
            for settled in 0..128 {
                judge(&set(bits), &set(settled), 1..20);
            }
        }
    }

    #[test]
    fn up_to_the_last_place() {
        let all: BTreeSet<u64> = (1000..1512).collect();
        let edges = BTreeSet::from([1000, 1511]);
        let but_last: BTreeSet<u64> = (1000..1511).collect();
        for numbers in [&all, &edges] {
            judge(numbers, &all, 990..1520);
            judge(numbers, &but_last, 990..1520);
        }
    }

    proptest! {
        #[test]
        fn scattered_positions(
            numbers in proptest::collection::btree_set(1000_u64..1512, 1..200),
            missing in proptest::option::of(0..512_u64),
        ) {
            let first = *numbers.first().unwrap();
            let numbers: BTreeSet<u64> = numbers.into_iter().filter(|n| n - first < 512).collect();
            let mut settled: BTreeSet<u64> = (900..1600).collect();
            if let Some(missing) = missing {
                settled.remove(&(1000 + missing));
            }
            judge(&numbers, &settled, 990..1600);
        }
    }
}
