//! Our numbers and moments as PostgreSQL takes them.
//!
//! Invariant: nothing here fails; what does not fit is cut to the nearest that does.

use chrono::{DateTime, Utc};
use contract::{Kind, SpoolId};

use crate::normalise::quality::LATEST_MS;

/// A `timestamptz`.
pub(super) type Time = DateTime<Utc>;

/// A moment of a gateway's clock; beyond the year 9999 it is nonsense and cut there.
pub(super) fn time(ms: u64) -> Time {
    let ms = i64::try_from(ms.min(LATEST_MS)).expect("the year 9999 fits 63 bits");
    DateTime::from_timestamp_millis(ms).expect("the year 9999 has a date")
}

pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn spool_number(spool: SpoolId) -> i64 {
    number(spool.as_u64())
}

/// The column `kind`. Null is Teltonika: rows of before there were others say so without being touched.
pub(super) fn kind_number(kind: &Kind) -> Option<i16> {
    match kind {
        Kind::Teltonika => None,
        other => other.as_u8().map(i16::from),
    }
}

/// Reads the column `kind`. `None`: no kind has such a number.
pub(super) fn kind(number: Option<i16>) -> Option<Kind> {
    match number {
        None => Some(Kind::Teltonika),
        Some(number) => u8::try_from(number).ok().map(Kind::from_u8),
    }
}

/// The same, for whom a number that is none is one of a later version.
pub(super) fn kind_of(number: Option<i16>) -> Kind {
    kind(number).unwrap_or_else(|| Kind::Other(format!("{number:?}")))
}
