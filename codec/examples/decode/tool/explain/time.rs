//! Dates of device clocks.

const DAY_S: i64 = 86_400;

/// Milliseconds since 1970-01-01 UTC as a date.
pub(super) fn from_ms(ms: u64) -> String {
    let Ok(seconds) = i64::try_from(ms / 1000) else {
        return format!("{ms} ms, no date");
    };
    // Nobody's clock: the date would have more digits than sense.
    if seconds > 253_402_300_799 {
        return format!("{ms} ms, after the year 9999");
    }
    format!("{}.{:03} UTC", date(seconds), ms % 1000)
}

/// Seconds since 1970-01-01 UTC as a date.
pub(super) fn from_s(seconds: u64) -> String {
    from_ms(seconds.saturating_mul(1000)).replace(".000", "")
}

// Years begin in March, so that the leap day is their last (Hinnant, chrono-compatible
// low-level date algorithms).
fn date(seconds: i64) -> String {
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
