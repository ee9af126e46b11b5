//! Pure: no I/O, no clock.
//!
//! From figures taken every second to what the light says.
//!
//! Invariants: the worst that is true is shown; a moment's hurry is no trouble; what puts data at
//! risk is shown for a while after it is over, so that a glance an hour apart has a chance.

use std::time::{Duration, Instant};

use hardware::LedState;
use hardware::power::Power;

/// The spool is nearly full above, and has room again below, of a hundred. As the events say.
const NEARLY_FULL_PERCENT: u64 = 80;
const ROOM_PERCENT: u64 = 70;

/// A busy gateway may be behind for so long before that is called buffering.
const BEHIND_MIN: Duration = Duration::from_secs(5);

/// A frame that was not kept is shown for so long.
const NOT_KEPT_SHOWN: Duration = Duration::from_secs(60);

/// The figures of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// When.
    pub now: Instant,
    /// Does Redis take entries?
    pub is_connected: bool,
    /// Does the spool hold what was not handed over?
    pub is_behind: bool,
    /// Does a stage stand still?
    pub is_stuck: bool,
    /// Did storage fail for good?
    pub has_failed: bool,
    /// Is the spool's file system read-only?
    pub is_read_only: bool,
    /// Bytes of the spool in use.
    pub used_bytes: u64,
    /// Its cap.
    pub bytes_max: u64,
    /// Good frames that could not be kept, so far.
    pub frames_not_kept: u64,
    /// The supply.
    pub power: Power,
}

/// What it takes from one moment to the next.
#[derive(Debug, Default)]
pub struct Judge {
    behind_since: Option<Instant>,
    frames_not_kept: u64,
    not_kept_at: Option<Instant>,
    is_nearly_full: bool,
}

impl Judge {
    /// What the light says about this moment.
    pub fn judge(&mut self, signs: &Signs) -> LedState {
        let now = signs.now;
        if signs.frames_not_kept > self.frames_not_kept {
            self.not_kept_at = Some(now);
        }
        self.frames_not_kept = signs.frames_not_kept;
        let not_kept_at = self.not_kept_at;
        let refuses = not_kept_at.is_some_and(|at| now.duration_since(at) < NOT_KEPT_SHOWN);
        let percent = signs.used_bytes.saturating_mul(100) / signs.bytes_max.max(1);
        self.is_nearly_full = match self.is_nearly_full {
            true => percent >= ROOM_PERCENT,
            false => percent >= NEARLY_FULL_PERCENT,
        };
        let behind_since = match signs.is_behind {
            true => Some(self.behind_since.unwrap_or(now)),
            false => None,
        };
        self.behind_since = behind_since;
        let is_behind = behind_since.is_some_and(|since| now.duration_since(since) >= BEHIND_MIN);
        if signs.is_stuck
            || signs.has_failed
            || signs.is_read_only
            || signs.power == Power::Failing
            || self.is_nearly_full
            || refuses
        {
            LedState::AtRisk
        } else if !signs.is_connected || is_behind {
            LedState::Buffering
        } else {
            LedState::Moving
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LedState::{AtRisk, Buffering, Moving};
    use proptest::prelude::*;

    fn good(now: Instant) -> Signs {
        Signs {
            now,
            is_connected: true,
            is_behind: false,
            is_stuck: false,
            has_failed: false,
            is_read_only: false,
            used_bytes: 0,
            bytes_max: 1_000,
            frames_not_kept: 0,
            power: Power::Good,
        }
    }

    type Change = fn(&mut Signs);

    #[test]
    fn each_sign_alone_is_shown_at_once_and_gone_with_it() {
        let signs: [(LedState, Change); 6] = [
            (Buffering, |signs| signs.is_connected = false),
            (AtRisk, |signs| signs.is_stuck = true),
            (AtRisk, |signs| signs.has_failed = true),
            (AtRisk, |signs| signs.is_read_only = true),
            (AtRisk, |signs| signs.power = Power::Failing),
            (AtRisk, |signs| signs.used_bytes = 800),
        ];
        for (at, (expected, change)) in signs.into_iter().enumerate() {
            let mut judge = Judge::default();
            let well = good(Instant::now());
            let mut ill = well;
            change(&mut ill);
            assert_eq!(judge.judge(&well), Moving, "{at}");
            assert_eq!(judge.judge(&ill), expected, "{at}");
            assert_eq!(judge.judge(&well), Moving, "{at}");
            // The worst is shown.
            ill.is_connected = false;
            assert_eq!(judge.judge(&ill), expected, "{at}");
        }
    }

    #[test]
    fn being_behind_counts_after_a_while_and_a_refused_frame_for_a_while() {
        let mut judge = Judge::default();
        let start = Instant::now();
        let mut at = |second, change: Change| {
            let mut signs = good(start + Duration::from_secs(second));
            change(&mut signs);
            judge.judge(&signs)
        };
        let behind: Change = |signs| signs.is_behind = true;
        assert_eq!([at(0, behind), at(4, behind)], [Moving, Moving]);
        assert_eq!(at(5, |_| {}), Moving, "it caught up");
        assert_eq!([at(6, behind), at(10, behind)], [Moving, Moving]);
        assert_eq!(at(11, behind), Buffering);
        assert_eq!(at(12, |_| {}), Moving);
        let refused: Change = |signs| signs.frames_not_kept = 3;
        assert_eq!([at(20, refused), at(79, refused)], [AtRisk, AtRisk]);
        assert_eq!(at(80, refused), Moving);
    }

    #[test]
    fn a_spool_that_is_nearly_full_is_so_until_there_is_room() {
        let mut judge = Judge::default();
        let mut with = |used_bytes| {
            judge.judge(&Signs {
                used_bytes,
                ..good(Instant::now())
            })
        };
        let shown = [799, 800, 750, 700, 699, 799].map(&mut with);
        assert_eq!(shown, [Moving, AtRisk, AtRisk, AtRisk, Moving, Moving]);
    }

    proptest! {
        /// Green is a promise: whatever came before, nothing that is wrong now hides behind it.
        #[test]
        fn it_is_green_only_when_nothing_is_wrong(
            moments in prop::collection::vec((any::<[bool; 6]>(), 0u64..1_200, 0u64..3), 1..50),
        ) {
            let mut judge = Judge::default();
            let mut now = Instant::now();
            for ([is_connected, is_behind, is_stuck, has_failed, is_read_only, fails], used_bytes, more) in moments {
                now += Duration::from_secs(1);
                let signs = Signs {
                    is_connected, is_behind, is_stuck, has_failed, is_read_only, used_bytes,
                    frames_not_kept: judge.frames_not_kept + more,
                    power: if fails { Power::Failing } else { Power::Good },
                    ..good(now)
                };
                let shown = judge.judge(&signs);
                let wrong = is_stuck || has_failed || is_read_only || fails || used_bytes >= 800 || more > 0;
                prop_assert_eq!(shown == Moving && (wrong || !is_connected), false);
                prop_assert!(!wrong || shown == AtRisk);
            }
        }
    }
}
