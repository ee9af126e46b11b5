//! Pure: no I/O; whoever calls gives the time.
//!
//! The founding message of a sensor: fields `value`, `timestamp` and, where there is any, `metadata`.
//!
//! Why judged before the database sees it: a reading dated 2099 would be the newest one for decades,
//! and a chunk far from every other. Why a number for a time is no guess: within the years that are
//! possible here, seconds and milliseconds since 1970 never mean the same number.
//!
//! Invariant: nothing panics, whatever the bytes; what is not read comes back with its reason.

use chrono::{DateTime, NaiveDateTime, Utc};
use thiserror::Error;

use super::name::{NotOurs, Sensor};
use crate::batch::EntryId;
use crate::normalise::quality::{self, Impossible};

/// Of a value or a time that cannot be read, letters shown.
const SHOWN_LETTERS: usize = 40;

/// From here on a number counts milliseconds: as seconds it would be the year 5138, as milliseconds
/// it is 1973.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// Names and values of a stream item.
pub type Fields = [(Vec<u8>, Vec<u8>)];

/// One reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Whose.
    pub sensor: Sensor,
    /// Sensor clock, whole microseconds.
    pub time: DateTime<Utc>,
    /// Finite, in whatever unit the sensor has.
    pub value: f64,
    /// JSON text as sent; `None`: there was none, or `null`.
    pub metadata: Option<String>,
}

/// One stream item, and what was read in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its stream and id.
    pub entry: EntryId,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The reading, or why there is none.
    pub read: Result<Reading, Unread>,
}

impl Item {
    /// Bytes of its fields.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = self.fields.iter();
        each.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Why an item is no reading.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unread {
    /// Whoever writes it leaves something out.
    #[error("field {field} is missing")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// `23.5`, `-1`, `1e3`.
    #[error("value {found:?} is not a finite number")]
    Value {
        /// Its beginning.
        found: String,
    },
    /// `2026-11-21T08:00:00Z`.
    #[error("timestamp {found:?} is neither ISO 8601 nor seconds or milliseconds since 1970 UTC")]
    Time {
        /// Its beginning.
        found: String,
    },
    /// The clock of the sensor is wrong.
    #[error("timestamp {found:?} cannot be true: {}", .why.as_str())]
    Impossible {
        /// As sent.
        found: String,
        /// What is wrong with it.
        why: Impossible,
    },
    /// `{"unit": "C"}`, or nothing at all.
    #[error("metadata is not JSON: {why}")]
    Metadata {
        /// What the reader of JSON says.
        why: String,
    },
    /// The stream was taken in under a name that says no sensor.
    #[error("its stream names no sensor: {0}")]
    Name(#[from] NotOurs),
}

/// Reads one item. `now_ms`: our clock, milliseconds since 1970 UTC.
/// # Errors
/// [`Unread`].
pub fn read(
    sensor: Result<Sensor, NotOurs>,
    fields: &Fields,
    now_ms: u64,
) -> Result<Reading, Unread> {
    let sensor = sensor?;
    let value = value(field(fields, "value")?)?;
    let time = time(field(fields, "timestamp")?, now_ms)?;
    let metadata = match field(fields, "metadata") {
        Ok(bytes) => metadata(bytes)?,
        Err(_) => None,
    };
    Ok(Reading {
        sensor,
        time,
        value,
        metadata,
    })
}

/// Bytes of the first field of that name, without the space around them.
pub(super) fn field<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a [u8], Unread> {
    let found = fields.iter().find(|(found, _)| found == name.as_bytes());
    match found.map(|(_, value)| value.trim_ascii()) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Unread::Missing { field: name }),
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .take(SHOWN_LETTERS)
        .collect()
}

fn value(bytes: &[u8]) -> Result<f64, Unread> {
    let number = std::str::from_utf8(bytes).ok();
    let number: Option<f64> = number.and_then(|text| text.parse().ok());
    // Rust reads `inf` and `nan`, and too many digits as infinite.
    let finite = number.filter(|number| number.is_finite());
    finite.ok_or_else(|| Unread::Value {
        found: shown(bytes),
    })
}

fn time(bytes: &[u8], now_ms: u64) -> Result<DateTime<Utc>, Unread> {
    let text = std::str::from_utf8(bytes).ok();
    let read = text.and_then(|text| counted(text).or_else(|| written(text)));
    let time = read.ok_or_else(|| Unread::Time {
        found: shown(bytes),
    })?;
    let why = match u64::try_from(time.timestamp_millis()) {
        Ok(ms) => quality::impossible_time(ms, now_ms),
        Err(_) => Some(Impossible::Before2007),
    };
    match why {
        None => Ok(time),
        Some(why) => Err(Unread::Impossible {
            found: shown(bytes),
            why,
        }),
    }
}

/// Seconds or milliseconds since 1970 UTC, with or without a fraction.
fn counted(text: &str) -> Option<DateTime<Utc>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let unit_us: u64 = match whole < MILLISECONDS_FROM {
        true => 1_000_000,
        false => 1_000,
    };
    // Six digits are finer than what is kept.
    let digits = &fraction[..fraction.len().min(6)];
    let parts = 10_u64.pow(u32::try_from(digits.len()).ok()?);
    let fraction_us = digits.parse::<u64>().ok()? * unit_us / parts;
    let us = whole.checked_mul(unit_us)?.checked_add(fraction_us)?;
    DateTime::from_timestamp_micros(i64::try_from(us).ok()?)
}

/// ISO 8601 with `Z` or an offset; without either it is UTC, as Python's `isoformat` leaves it out.
fn written(text: &str) -> Option<DateTime<Utc>> {
    let with_zone = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .map(|time| time.to_utc());
    let time = with_zone.or_else(|_| {
        let without = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
        let spaced = || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
        without.or_else(|_| spaced()).map(|time| time.and_utc())
    });
    // What the database would cut is cut here, so that both ways into it give the same row.
    DateTime::from_timestamp_micros(time.ok()?.timestamp_micros())
}

fn metadata(bytes: &[u8]) -> Result<Option<String>, Unread> {
    let refused = |why: String| Unread::Metadata { why };
    let text = std::str::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    // Read as a whole: it stops at a depth that no database minds.
    let read: serde_json::Value =
        serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    Ok((!read.is_null()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests;
