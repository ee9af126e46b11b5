//! Pure: no I/O, no clock.
//!
//! Moments as senders write them: text by RFC 3339, or a number since 1970 UTC.
//!
//! Why a number's size decides what it counts: browsers send milliseconds and phones seconds, under
//! the same name. No position is near the border: as seconds it is in the year 5138, as milliseconds
//! in March 1973.

/// From here on a number counts milliseconds, below it seconds.
pub(super) const MILLISECONDS_FROM: f64 = 1e11;

/// Far more than any calendar of ours, and exact as a 64-bit float.
const MS_MAX: f64 = 9e15;

/// Milliseconds since 1970 UTC of a number of seconds or milliseconds; `None` when it is no moment.
#[must_use]
pub(super) fn of_number(number: f64) -> Option<i64> {
    let ms = if number.abs() < MILLISECONDS_FROM {
        number * 1_000.0
    } else {
        number
    };
    (ms.is_finite() && ms.abs() < MS_MAX).then(|| ms.round() as i64)
}

/// Milliseconds since 1970 UTC of `2026-11-22T08:00:00.25Z` or `2026-11-22T09:00:00+01:00` (RFC 3339,
/// section 5.6; what is finer than a millisecond is cut off). A leap second is the next second.
#[must_use]
pub(super) fn of_text(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (head, tail) = bytes.split_at_checked(19)?;
    let shape = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let is_shaped = shape.iter().all(|(at, sign)| head[*at] == *sign);
    if !is_shaped || !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let part = |from: usize, to: usize| digits(&head[from..to]);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (ms, zone) = fraction(tail)?;
    let offset_minutes = offset(zone)?;
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1_000 + ms)
}

/// Either of the two, as text: what a query or a table holds.
#[must_use]
pub(super) fn of_word(word: &str) -> Option<i64> {
    of_text(word).or_else(|| of_number(word.parse().ok()?))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let mut number = 0;
    for byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(byte - b'0');
    }
    Some(number)
}

/// The milliseconds of `.25`, and what follows.
fn fraction(tail: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = tail.strip_prefix(b".") else {
        return Some((0, tail));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (found, zone) = rest.split_at(length);
    let mut ms = 0;
    for place in 0..3 {
        let digit = found.get(place).map_or(0, |byte| i64::from(byte - b'0'));
        ms = ms * 10 + digit;
    }
    Some((ms, zone))
}

/// Minutes east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let [h1, h2, b':', m1, m2] = rest else {
        return None;
    };
    let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Of the Gregorian calendar, counted in years that begin in March: the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + in_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_of_the_standard_and_what_is_none() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.5Z", -500),
            ("2026-11-22T08:00:00Z", 1_795_334_400_000),
            ("2026-11-22t09:00:00.250+01:00", 1_795_334_400_250),
            ("2026-11-22 07:30:00.2509-00:30", 1_795_334_400_250),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            // RFC 3339, section 5.8: a leap second.
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000),
            // The same section: an old offset, and two ways to say one moment.
            ("1937-01-01T12:00:27.87+00:20", -1_041_337_172_130),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
        ] {
            assert_eq!(of_text(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T08:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T08:00:00.Z",
            "2026-11-22T08:00:00+0100",
            "2026-11-22T08:00:00+24:00",
            "2026-11-22T08:00:00Z ",
            "+026-11-22T08:00:00Z",
            "2026-11-22T08:00:0\u{e9}Z",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_seconds_or_milliseconds_by_its_size() {
        assert_eq!(of_number(1_795_334_400.0), Some(1_795_334_400_000));
        assert_eq!(of_number(1_795_334_400.25), Some(1_795_334_400_250));
        assert_eq!(of_number(1_795_334_400_250.0), Some(1_795_334_400_250));
        for none in [f64::NAN, f64::INFINITY, 1e16, -1e300] {
            assert_eq!(of_number(none), None, "{none}");
        }
        assert_eq!(of_word("1795334400"), Some(1_795_334_400_000));
        assert_eq!(of_word("2026-11-22T08:00:00Z"), Some(1_795_334_400_000));
        assert_eq!(of_word("yesterday"), None);
    }

    proptest! {
        #[test]
        fn every_moment_survives_being_written(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
            // The calendar the other way round, by walking: slow and simple.
            let mut year = 1970 + days.div_euclid(if days < 0 { 365 } else { 366 }) - 1;
            while days_since_1970(year + 1, 1, 1) <= days { year += 1; }
            let mut month = 1;
            while month < 12 && days_since_1970(year, month + 1, 1) <= days { month += 1; }
            let day = days - days_since_1970(year, month, 1) + 1;
            prop_assert!((1..=days_of(year, month)).contains(&day));
            let (s, ms_part) = (rest / 1_000, rest % 1_000);
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms_part:03}Z",
                s / 3_600, s / 60 % 60, s % 60
            );
            prop_assert_eq!(of_text(&text), Some(ms), "{}", text);
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}", near in "[0-9TtZz:+. -]{15,32}") {
            let _ = (of_word(&text), of_word(&near));
        }
    }
}
