//! A moment as people type it.
//!
//! Pure: no I/O, no clock.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};

/// What [`read`] takes, for messages.
pub const EXPECTED: &str =
    "a moment such as 2026-11-22T08:00:00Z, a day such as 2026-11-22 (UTC), or an age such as 24h";

/// RFC 3339, a day (its beginning in UTC), or an age before `now`. `None` for anything else.
#[must_use]
pub fn read(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Some(day.and_time(NaiveTime::MIN).and_utc());
    }
    let age = chrono::Duration::from_std(settings::duration(text)?).ok()?;
    now.checked_sub_signed(age)
}

/// As [`read`] takes it, to the millisecond.
#[must_use]
pub fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A moment of our clock, milliseconds since 1970.
#[must_use]
pub fn at_ms(ms: u64) -> DateTime<Utc> {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_days_and_ages_are_read_and_nothing_else() {
        let now = at_ms(1_795_219_200_000); // 2026-11-21T00:00:00Z
        let read = |text: &str| read(text, now).map(super::text);
        let cases = [
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"),
            ("2026-11-20T12:00:00.5+02:00", "2026-11-20T10:00:00.500Z"),
            (" 2026-11-19 ", "2026-11-19T00:00:00.000Z"),
            ("24h", "2026-11-20T00:00:00.000Z"),
        ];
        for (typed, meant) in cases {
            assert_eq!(read(typed).as_deref(), Some(meant), "{typed}");
        }
        for typed in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-20T10:00:00",
            "-1h",
            "5",
        ] {
            assert_eq!(read(typed), None, "{typed}");
        }
    }
}
