//! Pure: no I/O, no clock.
//!
//! When the hardware watchdog is fed.
//!
//! Invariants: never while a stage stands still; while all of them move and this is asked often
//! enough, never further apart than half the timeout.

use std::time::{Duration, Instant};

/// How many chances to feed it within one timeout: one may be missed on a loaded box.
const TIMES_PER_TIMEOUT: u32 = 4;

/// Feeds a watchdog of one timeout.
#[derive(Debug, Clone)]
pub struct PetRule {
    every: Duration,
    not_before: Option<Instant>,
}

impl PetRule {
    /// For a watchdog that waits so long.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            every: timeout / TIMES_PER_TIMEOUT,
            not_before: None,
        }
    }

    /// Ask at least so often.
    #[must_use]
    pub fn tick_max(&self) -> Duration {
        self.every
    }

    /// Is it to be fed now? `moves`: every stage of the gateway moves.
    pub fn is_due(&mut self, moves: bool, now: Instant) -> bool {
        let is_due = moves && self.not_before.is_none_or(|at| now >= at);
        if is_due {
            self.not_before = Some(now + self.every);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stage_that_stands_still_ends_the_feeding_and_one_that_moves_again_begins_it() {
        let mut rule = PetRule::new(Duration::from_secs(12));
        let start = Instant::now();
        let mut at = |second, moves| rule.is_due(moves, start + Duration::from_secs(second));
        assert!(at(0, true));
        assert!(!at(1, true) && !at(2, true));
        assert!(at(3, true));
        assert!(!at(6, false) && !at(60, false));
        assert!(at(61, true));
        assert!(!at(62, true));
    }

    proptest! {
        #[test]
        fn it_is_fed_while_all_moves_and_never_otherwise(
            timeout_s in 1u64..120,
            steps in prop::collection::vec((1u64..250, any::<bool>()), 1..200),
        ) {
            let timeout = Duration::from_secs(timeout_s);
            let mut rule = PetRule::new(timeout);
            let mut now = Instant::now();
            let mut fed_at = None;
            let mut moved_since = None;
            for (thousandths, moves) in steps {
                // Steps of up to a quarter, as `tick_max` asks for.
                now += timeout * u32::try_from(thousandths).unwrap() / 1_000;
                moved_since = moves.then(|| moved_since.unwrap_or(now));
                let is_fed = rule.is_due(moves, now);
                prop_assert!(moves || !is_fed);
                if is_fed {
                    fed_at = Some(now);
                }
                if let Some(since) = moved_since {
                    let hungry_since = fed_at.unwrap_or(since).max(since);
                    prop_assert!(now - hungry_since <= timeout / 2);
                    prop_assert!(fed_at.is_some());
                }
            }
        }
    }
}
