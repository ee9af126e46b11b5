//! The only randomness of the simulator, so that one seed gives one fleet, byte for byte.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
//! 2014): eight bytes of state per vehicle, and a sequence no dependency can change under us.

/// A small deterministic generator. Not for secrets.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// The generator of one purpose of one device: different purposes never share numbers,
    /// so a new use of one cannot shift the others.
    pub(super) fn new(seed: u64, device: u64, purpose: u64) -> Dice {
        let mut dice = Dice { state: seed };
        for part in [device, purpose] {
            dice.state = dice.next_u64() ^ part;
        }
        dice
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0. The bias of the remainder is below 2^-32
    /// for the small bounds used here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// Uniform in `0.0..1.0`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform between two values.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True once in `n` times on average.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // First outputs for state 1234567, as published with the reference implementation.
    #[test]
    fn gives_the_published_sequence() {
        let mut dice = Dice { state: 1_234_567 };
        let first = [dice.next_u64(), dice.next_u64(), dice.next_u64()];
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn devices_and_purposes_do_not_share_numbers() {
        let first = |device, purpose| Dice::new(42, device, purpose).next_u64();
        assert_eq!(first(1, 1), first(1, 1));
        assert_ne!(first(1, 1), first(1, 2));
        assert_ne!(first(1, 1), first(2, 1));
    }
}
