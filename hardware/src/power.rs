//! Pure: no I/O, no clock.
//!
//! From an input that wobbles to a word: the supply fails, the supply is good again.
//!
//! Why two spans: a box has little time once its supply goes, so falling counts at once or nearly;
//! a supply that came back is believed only after it has stayed.
//!
//! Invariant: the word changes only after the input has said the other thing, without a break, for
//! as long as its span.

use std::time::{Duration, Instant};

/// How the supply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Power {
    /// It holds, as far as is known.
    #[default]
    Good,
    /// It is going: what is not on disk soon will not be.
    Failing,
}

impl Power {
    /// `good`, `failing`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failing => "failing",
        }
    }
}

/// Judges one input.
#[derive(Debug, Clone)]
pub struct PowerRule {
    fail_after: Duration,
    good_after: Duration,
    power: Power,
    differs_since: Option<Instant>,
}

impl PowerRule {
    /// A supply that is good until the input has said otherwise for `fail_after`, and again after
    /// `good_after`.
    #[must_use]
    pub fn new(fail_after: Duration, good_after: Duration) -> Self {
        Self {
            fail_after,
            good_after,
            power: Power::Good,
            differs_since: None,
        }
    }

    /// What the input says at `now`. `Some` when the word changes.
    pub fn sample(&mut self, says: Power, now: Instant) -> Option<Power> {
        if says == self.power {
            self.differs_since = None;
            return None;
        }
        let since = *self.differs_since.get_or_insert(now);
        let span = match says {
            Power::Good => self.good_after,
            Power::Failing => self.fail_after,
        };
        if now.duration_since(since) < span {
            return None;
        }
        self.power = says;
        self.differs_since = None;
        Some(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Power::{Failing, Good};
    use proptest::prelude::*;

    fn rule() -> PowerRule {
        PowerRule::new(Duration::from_millis(20), Duration::from_secs(2))
    }

    #[test]
    fn it_fails_quickly_and_comes_back_slowly() {
        let mut rule = rule();
        let start = Instant::now();
        let mut at = |ms, says| rule.sample(says, start + Duration::from_millis(ms));
        assert_eq!(at(0, Good), None);
        assert_eq!(at(10, Failing), None);
        assert_eq!(at(20, Good), None, "a spike");
        assert_eq!(at(30, Failing), None);
        assert_eq!(at(49, Failing), None);
        assert_eq!(at(50, Failing), Some(Failing));
        assert_eq!(at(60, Failing), None, "said once");
        assert_eq!(at(100, Good), None);
        assert_eq!(at(2_000, Failing), None, "it sank again");
        assert_eq!(at(2_100, Good), None);
        assert_eq!(at(4_099, Good), None);
        assert_eq!(at(4_100, Good), Some(Good));
    }

    #[test]
    fn without_a_span_the_first_word_counts() {
        let mut rule = PowerRule::new(Duration::ZERO, Duration::ZERO);
        let now = Instant::now();
        assert_eq!(rule.sample(Failing, now), Some(Failing));
        assert_eq!(rule.sample(Good, now), Some(Good));
    }

    proptest! {
        /// Against the plain reading of the invariant: look back over every sample.
        #[test]
        fn the_word_changes_only_after_its_span(steps in prop::collection::vec((1u64..1_500, any::<bool>()), 1..200)) {
            let mut rule = rule();
            let start = Instant::now();
            let (mut now, mut word) = (start, Good);
            let mut said: Vec<(Instant, Power)> = Vec::new();
            for (ms, fails) in steps {
                now += Duration::from_millis(ms);
                let says = if fails { Failing } else { Good };
                said.push((now, says));
                let since = said.iter().rev().take_while(|(_, says)| *says != word).last();
                let span = if word == Good { Duration::from_millis(20) } else { Duration::from_secs(2) };
                let expected = since.is_some_and(|(since, _)| now.duration_since(*since) >= span);
                let changed = rule.sample(says, now);
                prop_assert_eq!(changed.is_some(), expected);
                if let Some(new) = changed {
                    prop_assert_eq!(new, says);
                    word = new;
                    said.clear();
                }
            }
        }
    }
}
