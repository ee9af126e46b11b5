//! Is the clock believable?
//!
//! A function of two times, so that a wrong clock needs no machine with one to be tried.

use super::Look;
use crate::explain::clock as pages;
use crate::spool::written::date;

/// 2026-11-01 UTC. Older than the program no true clock can be.
const BORN_MS: u64 = 1_793_491_200_000;

/// Twenty years on: nobody runs this build then.
const WORN_OUT_MS: u64 = BORN_MS + 20 * 365 * 86_400_000;

const OFF_MS: u64 = 2_000;
const WRONG_MS: u64 = 5 * 60_000;

/// `now_ms`: our clock; `redis_ms`: that of Redis at the same moment, when it told. Milliseconds
/// since 1970 UTC.
#[must_use]
pub fn look(now_ms: u64, redis_ms: Option<(u64, u64)>) -> Look {
    let mut look = Look::new("clock");
    let today = date(now_ms);
    if now_ms < BORN_MS {
        look.bad(
            &pages::PAST,
            format!("the clock says {today}, before this program was written"),
            "this machine's clock",
            format!("the program is of {}", date(BORN_MS)),
            "give the box the time: `timedatectl set-ntp true`, or a clock with a battery",
        );
    } else if now_ms > WORN_OUT_MS {
        look.bad(
            &pages::FUTURE,
            format!("the clock says {today}"),
            "this machine's clock",
            format!("the program is of {}", date(BORN_MS)),
            "set the clock: `timedatectl set-ntp true`",
        );
    }
    let Some((ours_ms, theirs_ms)) = redis_ms else {
        if !look.has_errors() {
            look.good(format!(
                "{today} UTC is plausible; Redis could not be asked"
            ));
        }
        return look;
    };
    let apart_ms = ours_ms.abs_diff(theirs_ms);
    let sign = if ours_ms < theirs_ms {
        "behind"
    } else {
        "ahead of"
    };
    let apart = format!("{:.1} s {sign} Redis", apart_ms as f64 / 1000.0);
    if apart_ms > WRONG_MS {
        look.bad(
            &pages::WRONG,
            format!("the clock is {apart}"),
            "this machine's clock, or that of Redis",
            format!(
                "ours says {}, that of Redis {}",
                moment(ours_ms),
                moment(theirs_ms)
            ),
            "compare both with a time server: `timedatectl` here and there",
        );
    } else if apart_ms > OFF_MS {
        look.bad(
            &pages::OFF,
            format!("the clock is {apart}"),
            "this machine's clock, or that of Redis",
            "asked at one moment, the way there taken off",
            "`timedatectl set-ntp true` here and there",
        );
    } else if !look.has_errors() {
        look.good(format!("{today} UTC, {apart}"));
    }
    look
}

fn moment(ms: u64) -> String {
    let seconds = ms / 1000 % 86_400;
    let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
    format!("{} {hour:02}:{minute:02} UTC", date(ms))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn codes(now_ms: u64, redis_ms: Option<u64>) -> Vec<&'static str> {
        let look = look(now_ms, redis_ms.map(|redis_ms| (now_ms, redis_ms)));
        let pages = look.findings.iter().filter_map(|finding| finding.page);
        pages.map(|page| page.code).collect()
    }

    #[test]
    fn clocks_are_judged() {
        const NOW: u64 = BORN_MS + 40 * 86_400_000;
        for (now_ms, redis_ms, wanted) in [
            (NOW, None, &[][..]),
            (NOW, Some(NOW + OFF_MS), &[]),
            (NOW, Some(NOW + OFF_MS + 1), &["W-CLK-101"]),
            (NOW, Some(NOW - WRONG_MS), &["W-CLK-101"]),
            (NOW, Some(NOW - WRONG_MS - 1), &["E-CLK-003"]),
            (0, None, &["E-CLK-001"]),
            (BORN_MS - 1, None, &["E-CLK-001"]),
            (0, Some(NOW), &["E-CLK-001", "E-CLK-003"]),
            (WORN_OUT_MS + 1, None, &["E-CLK-002"]),
            (WORN_OUT_MS + 1, Some(NOW), &["E-CLK-002", "E-CLK-003"]),
        ] {
            assert_eq!(codes(now_ms, redis_ms), wanted, "{now_ms} {redis_ms:?}");
        }
    }

    #[test]
    fn who_is_ahead_is_said() {
        let look = look(BORN_MS + 9_000, Some((BORN_MS + 9_000, BORN_MS)));
        assert_eq!(look.findings[0].what, "the clock is 9.0 s ahead of Redis");
        let look = super::look(BORN_MS, Some((BORN_MS, BORN_MS + 9_000)));
        assert_eq!(look.findings[0].what, "the clock is 9.0 s behind Redis");
    }
}
