//! Sizes and durations as people write them: one whole number and one unit.
//!
//! Invariant: nothing is rounded and nothing wraps; what does not fit 64 bits is refused.

use std::time::Duration;

/// 1024 for the units that say so, 1000 for the SI ones: disks are sold in the latter.
const BYTE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// In milliseconds. A bare number has no meaning here: `60` of what?
const DURATION_UNITS_MS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// `4GiB`, `64 KiB`, `4096`, letters in any case. `None` for anything else or above `u64::MAX`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    number_with_unit(text, BYTE_UNITS)
}

/// `250ms`, `60s`, `10m`, `24h`, `7d`. `None` for anything else or above `u64::MAX` milliseconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    number_with_unit(text, DURATION_UNITS_MS).map(Duration::from_millis)
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("7B", 7),
            ("64KiB", 65_536),
            ("4GiB", 4_294_967_296),
            (" 4 gib ", 4_294_967_296),
            ("2TiB", 2_199_023_255_552),
            ("1kB", 1_000),
            ("3GB", 3_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
        for text in [
            "",
            " ",
            "GiB",
            "4G",
            "4 GiB x",
            "-1",
            "+1",
            "1.5GiB",
            "1_000",
            "4GiBGiB",
            "0x10",
            "18446744073709551616",
            "16777216TiB",
            "99999999999999999999999GiB",
            "４GiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("60s", 60_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("7 D", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "60",
            "s",
            "1h30m",
            "-1s",
            "1.5s",
            "1w",
            "1us",
            "213503982335d",
            "é",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
