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
