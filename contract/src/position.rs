//! Positions of one device, as an envelope of kind `position` carries them: what an API or a file
//! says, in columns of a database rather than in the bytes of a tracker.
//!
//! Wire form: MsgPack `[1, [position …]]`, a position the fixed array `[time_ms, latitude, longitude,
//! altitude_m, heading_deg, speed_kmh, accuracy_m, {attributes}]` with nil for what is not known.
//! Version 1, frozen in `golden/`.
//!
//! Invariants: the same position is always the same bytes (keys sorted, numbers of positions as 64-bit
//! floating point), because what tells two records apart is a hash of them; what [`pack`] writes,
//! [`unpack`] reads; nothing impossible is packed.

mod pack;
mod unpack;

pub use pack::{Packed, join_some, pack};
pub use unpack::{unpack, unpack_one, unpack_placed};

use serde_json::{Map, Value};
use thiserror::Error;

/// Positions in one envelope at most.
pub const POSITIONS_MAX: usize = 512;

/// Packed bytes of one envelope at most: as much as the largest frame of a tracker, which everything
/// on the way is made for.
pub const PACKED_BYTES_MAX: usize = 60_000;

/// Version of the wire form that is written, and the only one there is.
pub const VERSION: u8 = 1;

/// Attributes of one position at most, those inside others counted.
pub const ATTRIBUTES_MAX: usize = 64;

/// Bytes of all names and texts in the attributes of one position at most.
pub const ATTRIBUTES_BYTES_MAX: usize = 4096;

/// Objects and lists inside one another at most.
pub const ATTRIBUTES_DEPTH_MAX: usize = 4;

/// The last millisecond of the year 9999, since 1970 UTC.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// One position of one device, as an envelope of kind `position` carries it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Device clock, milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east, WGS 84.
    pub longitude: f64,
    /// Metres above sea level.
    pub altitude_m: Option<f64>,
    /// Degrees clockwise from north, 0 to 360.
    pub heading_deg: Option<f64>,
    /// km/h.
    pub speed_kmh: Option<f64>,
    /// Radius in metres within which the device probably is.
    pub accuracy_m: Option<f64>,
    /// Whatever else the sender knows.
    pub attributes: Map<String, Value>,
}

/// Why a position cannot be one.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Impossible {
    /// Outside its range, or no number at all.
    #[error("{field} is {found}; {least} to {most} is possible")]
    Number {
        /// Which.
        field: &'static str,
        /// As given.
        found: f64,
        /// Least possible value.
        least: f64,
        /// Largest possible value.
        most: f64,
    },
    /// Before 1970 or beyond the year 9999.
    #[error("time_ms is {0}; 0 to {TIME_MS_MAX} (years 1970 to 9999) is possible")]
    Time(i64),
    /// Leave some out.
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    Attributes,
    /// Leave some out, or make them shorter.
    #[error("more than {ATTRIBUTES_BYTES_MAX} bytes of attributes")]
    AttributeBytes,
    /// Make them flatter.
    #[error("attributes more than {ATTRIBUTES_DEPTH_MAX} levels deep")]
    AttributeDepth,
    /// No database keeps such text.
    #[error("an attribute has no name, or U+0000 in its name or text")]
    AttributeText,
}

/// Why positions could not be packed or read.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PositionError {
    /// An envelope is about something.
    #[error("no positions")]
    Empty,
    /// Put the rest into another envelope.
    #[error("{positions} positions in one envelope; {POSITIONS_MAX} is the most")]
    TooMany {
        /// How many there were.
        positions: usize,
    },
    /// Put the rest into another envelope: [`join_some`] says how many go in.
    #[error("{bytes} bytes of positions in one envelope; {PACKED_BYTES_MAX} is the most")]
    TooLarge {
        /// Their size, or that of the first that was too much.
        bytes: usize,
    },
    /// Leave it out and tell who sent it.
    #[error("position {index} is impossible")]
    Impossible {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: Impossible,
    },
    /// Upgrade the reader.
    #[error("positions of version {version}; this reader knows {VERSION}")]
    Newer {
        /// The version found.
        version: u64,
    },
    /// Not the wire form.
    #[error("byte {offset} does not belong to positions of version {VERSION}: {what}")]
    Bytes {
        /// First byte that does not fit.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl PositionError {
    /// Where in the bytes it is, if it is in the bytes.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Bytes { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

impl Position {
    /// Can this be? Judges ranges and sizes, not whether the time is plausible: the store does that,
    /// and keeps what is not.
    /// # Errors
    /// [`Impossible`]: the first thing that cannot be.
    pub fn check(&self) -> Result<(), Impossible> {
        self.check_with(named(&self.attributes))
    }

    /// As [`Position::check`], of these attributes.
    fn check_with<'a>(
        &self,
        attributes: impl IntoIterator<Item = Member<'a>>,
    ) -> Result<(), Impossible> {
        if !(0..=TIME_MS_MAX).contains(&self.time_ms) {
            return Err(Impossible::Time(self.time_ms));
        }
        let numbers = [
            ("latitude", Some(self.latitude), -90.0, 90.0),
            ("longitude", Some(self.longitude), -180.0, 180.0),
            ("altitude_m", self.altitude_m, -12_000.0, 1_000_000.0),
            ("heading_deg", self.heading_deg, 0.0, 360.0),
            ("speed_kmh", self.speed_kmh, 0.0, 100_000.0),
            ("accuracy_m", self.accuracy_m, 0.0, 50_000_000.0),
        ];
        for (field, found, least, most) in numbers {
            // Not a number is in no range.
            if let Some(found) = found.filter(|found| !(least..=most).contains(found)) {
                return Err(Impossible::Number {
                    field,
                    found,
                    least,
                    most,
                });
            }
        }
        let mut left = (ATTRIBUTES_MAX, ATTRIBUTES_BYTES_MAX);
        check_members(attributes, &mut left, 1)
    }
}

/// An attribute: its name and its value.
type Member<'a> = (&'a str, &'a Value);

fn named(members: &Map<String, Value>) -> impl DoubleEndedIterator<Item = Member<'_>> {
    members.iter().map(|(name, value)| (name.as_str(), value))
}

/// `left`: how many attributes, and how many bytes of text, there may still be.
fn check_members<'a>(
    members: impl IntoIterator<Item = Member<'a>>,
    left: &mut (usize, usize),
    depth: usize,
) -> Result<(), Impossible> {
    for (name, value) in members {
        if name.is_empty() {
            return Err(Impossible::AttributeText);
        }
        check_text(name, left)?;
        check_value(value, left, depth)?;
    }
    Ok(())
}

fn check_value(value: &Value, left: &mut (usize, usize), depth: usize) -> Result<(), Impossible> {
    left.0 = left.0.checked_sub(1).ok_or(Impossible::Attributes)?;
    if depth > ATTRIBUTES_DEPTH_MAX {
        return Err(Impossible::AttributeDepth);
    }
    match value {
        Value::String(text) => check_text(text, left),
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| check_value(value, left, depth + 1)),
        Value::Object(members) => check_members(named(members), left, depth + 1),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str, left: &mut (usize, usize)) -> Result<(), Impossible> {
    if text.contains('\0') {
        return Err(Impossible::AttributeText);
    }
    let rest = left.1.checked_sub(text.len());
    left.1 = rest.ok_or(Impossible::AttributeBytes)?;
    Ok(())
}

#[cfg(test)]
mod tests;
