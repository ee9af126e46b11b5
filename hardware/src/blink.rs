//! Pure: no I/O, no clock.
//!
//! What the one light says that a driver at the depot can read without a phone.
//!
//! Why no state is a light that stands still: a process that was killed leaves a lamp as it is. Lit
//! or dark for [`STILL_MAX`], it means that no gateway runs, whatever it said before.
//!
//! Why rhythm and colour both: some boards have one lamp, and some people see no red.

use std::time::Duration;

/// What the light says, from best to worst, and that nobody is speaking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LedState {
    /// Everything that came in went up. Green, lit, with a short dark wink.
    Moving,
    /// Records are safe in the spool and wait there. Amber, on and off at the same length.
    Buffering,
    /// Data is at risk, or trackers no longer get an ACK. Red, hectic.
    AtRisk,
    /// Dark: the gateway is not running.
    #[default]
    Off,
}

impl LedState {
    /// Every state, in this order.
    pub const ALL: [Self; 4] = [Self::Moving, Self::Buffering, Self::AtRisk, Self::Off];

    /// `moving`, `buffering`, `at-risk`, `off`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Buffering => "buffering",
            Self::AtRisk => "at-risk",
            Self::Off => "off",
        }
    }
}

/// Which halves of a two-colour light are lit. Both at once are amber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lit {
    /// The green half.
    pub green: bool,
    /// The red half.
    pub red: bool,
}

impl Lit {
    /// What a board with a single lamp makes of it.
    #[must_use]
    pub fn single(self) -> bool {
        self.green || self.red
    }
}

/// No state but [`LedState::Off`] leaves a lamp as it is for so long.
pub const STILL_MAX: Duration = Duration::from_secs(3);

/// Ask at least so often, or a wink may be missed.
pub const TICK_MAX: Duration = Duration::from_millis(50);

/// How long a pattern takes, and for how much of it the lamp is lit, in milliseconds.
fn rhythm(state: LedState) -> (u128, u128) {
    match state {
        LedState::Moving => (3_000, 2_800),
        LedState::Buffering => (2_000, 1_000),
        LedState::AtRisk => (400, 200),
        LedState::Off => (1, 0),
    }
}

/// What is lit when the light says `state`, `at` so long after any moment that stays the same.
#[must_use]
pub fn lit(state: LedState, at: Duration) -> Lit {
    let (period_ms, lit_ms) = rhythm(state);
    if at.as_millis() % period_ms >= lit_ms {
        return Lit::default();
    }
    Lit {
        green: matches!(state, LedState::Moving | LedState::Buffering),
        red: matches!(state, LedState::Buffering | LedState::AtRisk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Milliseconds of a minute in which the lamp is lit, and how often it changes.
    fn minute(state: LedState) -> (usize, usize) {
        let lit: Vec<bool> = (0..60_000)
            .map(|ms| lit(state, Duration::from_millis(ms)).single())
            .collect();
        let changes = lit.windows(2).filter(|pair| pair[0] != pair[1]).count();
        (lit.iter().filter(|lit| **lit).count(), changes)
    }

    #[test]
    fn each_state_is_known_by_its_rhythm_alone() {
        let (moving, winks) = minute(LedState::Moving);
        let (buffering, slow) = minute(LedState::Buffering);
        let (at_risk, fast) = minute(LedState::AtRisk);
        assert!(moving > 50_000 && buffering == 30_000 && at_risk == 30_000);
        assert!(winks < slow && slow * 3 < fast, "{winks} {slow} {fast}");
        assert_eq!(minute(LedState::Off), (0, 0));
    }

    #[test]
    fn and_by_its_colour_alone() {
        let colour = |state| lit(state, Duration::ZERO);
        assert_eq!(
            colour(LedState::Moving),
            Lit {
                green: true,
                red: false
            }
        );
        assert_eq!(
            colour(LedState::Buffering),
            Lit {
                green: true,
                red: true
            }
        );
        assert_eq!(
            colour(LedState::AtRisk),
            Lit {
                green: false,
                red: true
            }
        );
        assert_eq!(colour(LedState::Off), Lit::default());
    }

    proptest! {
        /// Looked at every tick, whenever one begins, a running gateway is seen to change.
        #[test]
        fn a_light_that_stands_still_is_no_running_gateway(start_ms in 0u64..1 << 40, which in 0usize..3) {
            let state = LedState::ALL[which];
            let ticks = STILL_MAX.as_millis() / TICK_MAX.as_millis() + 1;
            let seen: Vec<bool> = (0..ticks as u64)
                .map(|tick| lit(state, Duration::from_millis(start_ms) + TICK_MAX * tick as u32).single())
                .collect();
            prop_assert!(seen.contains(&true) && seen.contains(&false), "{state:?} {seen:?}");
        }
    }
}
