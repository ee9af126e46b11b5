//! Can this be? The only judgements made on the way in: a device time that cannot be true keeps a
//! record out of `positions`, a position without a fix is stored and marked.
//!
//! Why judge at all: one record dated 2065 would be "the latest position" for forty years and open
//! a chunk far from every other. Why so late as here: the edge must never refuse what the tracker
//! would then send for ever.
//!
//! Pure; no clock: the time of reception is an argument. Invariant: nothing is dropped, a record
//! with an [`Impossible`] time goes to quarantine.

/// Earlier than any record of these trackers: 2007-01-01 00:00 UTC, milliseconds since 1970.
pub const EARLIEST_MS: u64 = 1_167_609_600_000;

/// A device clock may run ahead of the gateway's by this much.
pub const AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// No calendar of ours goes further: 9999-12-31 23:59:59.999 UTC, milliseconds since 1970.
pub const LATEST_MS: u64 = 253_402_300_799_999;

/// A GPS receiver counts weeks in ten bits: one that forgets a rollover is off by this much.
/// Source: IS-GPS-200, section 20.3.3.3.1.1 (transmission week number).
pub const ROLLOVER_MS: u64 = 1024 * 7 * 24 * 3_600 * 1_000;

/// How old a record may be for its odd date to be explained by a rollover: trackers buffer for
/// weeks, and anything else that lands in this window by chance is rare.
const ROLLOVER_AGE_MS_MAX: u64 = 60 * 24 * 3_600 * 1_000;

/// Why a device time cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Impossible {
    /// Before 2007.
    Before2007,
    /// More than a day ahead of reception.
    Ahead,
    /// Off by 1024 or 2048 weeks.
    WeekRollover,
}

impl Impossible {
    /// The word in column `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before2007 => "before_2007",
            Self::Ahead => "ahead_of_reception",
            Self::WeekRollover => "gps_week_rollover",
        }
    }
}

/// Judges a device time against the gateway's clock at reception, both milliseconds since 1970.
#[must_use]
pub fn impossible_time(device_ms: u64, received_at_ms: u64) -> Option<Impossible> {
    let reason = if device_ms < EARLIEST_MS {
        Impossible::Before2007
    } else if device_ms > received_at_ms.saturating_add(AHEAD_MS_MAX).min(LATEST_MS) {
        Impossible::Ahead
    } else {
        return None;
    };
    let recent = |ms: u64| {
        let from = received_at_ms.saturating_sub(ROLLOVER_AGE_MS_MAX);
        (from..=received_at_ms.saturating_add(AHEAD_MS_MAX)).contains(&ms)
    };
    let rolled_over = (1..=2).any(|times| {
        let off = times * ROLLOVER_MS;
        device_ms.checked_add(off).is_some_and(recent)
            || device_ms.checked_sub(off).is_some_and(recent)
    });
    Some(if rolled_over {
        Impossible::WeekRollover
    } else {
        reason
    })
}

/// A fix: satellites in use and coordinates on the globe, in degrees × 10^7.
#[must_use]
pub fn is_valid(satellites: u8, latitude_e7: i32, longitude_e7: i32) -> bool {
    satellites != 0
        && latitude_e7.unsigned_abs() <= 900_000_000
        && longitude_e7.unsigned_abs() <= 1_800_000_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 2026-11-21 00:00 UTC.
    const NOW_MS: u64 = 1_795_219_200_000;

    #[test]
    fn limits_are_what_the_tables_promise() {
        assert_eq!(EARLIEST_MS / 86_400_000, 13_514); // days from 1970-01-01 to 2007-01-01
        assert_eq!(AHEAD_MS_MAX, 86_400_000);
        assert_eq!(ROLLOVER_MS / 86_400_000, 7_168);
    }

    #[test]
    fn every_edge_of_possible_time() {
        let cases = [
            (EARLIEST_MS, None),
            (EARLIEST_MS - 1, Some(Impossible::Before2007)),
            (0, Some(Impossible::Before2007)),
            (NOW_MS, None),
            (NOW_MS + AHEAD_MS_MAX, None),
            (NOW_MS + AHEAD_MS_MAX + 1, Some(Impossible::Ahead)),
            (u64::MAX, Some(Impossible::Ahead)),
            (NOW_MS - 2 * ROLLOVER_MS, Some(Impossible::WeekRollover)),
            (NOW_MS + ROLLOVER_MS, Some(Impossible::WeekRollover)),
            (NOW_MS + 2 * ROLLOVER_MS, Some(Impossible::WeekRollover)),
            (
                NOW_MS + ROLLOVER_MS - ROLLOVER_AGE_MS_MAX,
                Some(Impossible::WeekRollover),
            ),
            (
                NOW_MS + ROLLOVER_MS - ROLLOVER_AGE_MS_MAX - 1,
                Some(Impossible::Ahead),
            ),
            // One rollover back from 2026 is 2007: not impossible, so not judged.
            (NOW_MS - ROLLOVER_MS, None),
        ];
        for (device_ms, wanted) in cases {
            assert_eq!(impossible_time(device_ms, NOW_MS), wanted, "{device_ms}");
        }
        // In 2025 one rollover back was still before 2007.
        let in_2025 = NOW_MS - 500 * 24 * 3_600_000;
        assert_eq!(
            impossible_time(in_2025 - ROLLOVER_MS, in_2025),
            Some(Impossible::WeekRollover)
        );
        // A gateway clock at either end of the numbers must not overflow.
        assert_eq!(impossible_time(u64::MAX, u64::MAX), Some(Impossible::Ahead));
        assert_eq!(impossible_time(LATEST_MS, u64::MAX), None);
        assert_eq!(
            impossible_time(LATEST_MS + 1, u64::MAX),
            Some(Impossible::Ahead)
        );
        assert_eq!(impossible_time(0, 0), Some(Impossible::Before2007));
    }

    #[test]
    fn a_fix_needs_satellites_and_a_place_on_the_globe() {
        assert!(is_valid(1, 900_000_000, -1_800_000_000));
        assert!(is_valid(255, -900_000_000, 1_800_000_000));
        assert!(!is_valid(0, 0, 0));
        assert!(!is_valid(5, 900_000_001, 0));
        assert!(!is_valid(5, -900_000_001, 0));
        assert!(!is_valid(5, 0, 1_800_000_001));
        assert!(!is_valid(5, i32::MIN, 0));
        assert!(!is_valid(5, 0, i32::MIN));
    }
}
