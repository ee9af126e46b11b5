//! The wall clock, read in one place.
//!
//! Why: device records carry their own time; ours only says when the gateway received them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 UTC; 0 on a box whose clock stands before that.
#[must_use]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// `2026-11-21 17:42:07`, UTC.
#[must_use]
pub(crate) fn utc(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let date = crate::spool::written::date(ms);
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}
