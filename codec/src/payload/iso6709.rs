//! Element 387: a position as text, in which manual and devices disagree on the digits.
//!
//! Documented (wiki, FMB AVL ids) is ISO 6709, `±DDMMSS.SSSS±DDDMMSS.SSSS±AAA.AAA/`:
//! degrees, minutes, seconds, and metres. A recorded value, taken where the record's own
//! fix is −33.7335583°, −70.7196233° at 446 m, is `-337335.5833-0707196.2333+000.446/`:
//! decimal degrees × 10 000, and kilometres. Seventy-three minutes give that one away; a
//! value without such digits is judged by the record's fix, if there is one.
//!
//! All arithmetic is on integers, so that a position is the same on every machine.

use core::fmt;

use super::{PayloadError, PayloadReason, trimmed};

/// A place on the ground.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Degrees north × 10^7, south negative.
    pub latitude_e7: i32,
    /// Degrees east × 10^7, west negative.
    pub longitude_e7: i32,
}

/// A value of element 387.
///
/// ```
/// use codec::payload::{Iso6709, Iso6709Reading, Position};
///
/// // As recorded: 73 minutes cannot be.
/// let real = Iso6709::parse(b"-337335.5833-0707196.2333+000.446/", None)?;
/// assert_eq!(real.reading, Iso6709Reading::DecimalDegrees);
/// assert_eq!(real.position.latitude_e7, -337_335_583);
/// assert_eq!(real.position.longitude_e7, -707_196_233);
/// assert_eq!(real.altitude_mm, 446_000);
///
/// // Both readings are possible. Without a fix the documented one holds...
/// let text = b"+543000.0000+0251500.0000+102.500/";
/// let documented = Iso6709::parse(text, None)?;
/// assert_eq!(documented.reading, Iso6709Reading::DegreesMinutesSeconds);
/// assert_eq!(documented.position.latitude_e7, 545_000_000);
/// assert_eq!(documented.altitude_mm, 102_500);
///
/// // ...and with one the reading that is nearer.
/// let fix = Position { latitude_e7: 543_000_100, longitude_e7: 251_500_200 };
/// let near = Iso6709::parse(text, Some(fix))?;
/// assert_eq!(near.reading, Iso6709Reading::DecimalDegrees);
/// assert_eq!(near.position.latitude_e7, 543_000_000);
/// # Ok::<(), codec::payload::PayloadError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Iso6709<'a> {
    /// The text as sent, without padding around it.
    pub text: &'a [u8],
    /// How it was read.
    pub reading: Iso6709Reading,
    /// Where, by that reading.
    pub position: Position,
    /// Height in millimetres, by that reading: the same digits are metres as documented,
    /// kilometres next to decimal degrees.
    pub altitude_mm: i32,
}

/// What the digits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Iso6709Reading {
    /// As documented.
    DegreesMinutesSeconds,
    /// As recorded: degrees × 10 000.
    DecimalDegrees,
}

const TEXT_BYTES: usize = 34;
const LATITUDE_LIMIT_DEG: u8 = 90;
const LONGITUDE_LIMIT_DEG: u8 = 180;
const E7: i64 = 10_000_000;
const TURN_E7: u64 = 360 * E7 as u64;

impl<'a> Iso6709<'a> {
    /// Reads the text. Decimal degrees are taken where minutes or seconds are 60 or more,
    /// or where that reading is nearer to `fix`, the position of the record around it;
    /// degrees, minutes and seconds otherwise. Give no fix that is none (0 satellites).
    ///
    /// # Errors
    /// [`PayloadReason::Length`] if it is not 34 characters, [`PayloadReason::Character`]
    /// at the first that is out of place, [`PayloadReason::Angle`] at a latitude beyond
    /// 90 or a longitude beyond 180 degrees.
    pub fn parse(value: &'a [u8], fix: Option<Position>) -> Result<Iso6709<'a>, PayloadError> {
        let (start, text) = trimmed(value);
        if text.len() != TEXT_BYTES {
            let reason = PayloadReason::Length {
                wanted: TEXT_BYTES,
                found: text.len(),
            };
            return Err(PayloadError {
                offset: start,
                reason,
            });
        }
        let mut digits = Digits { value, at: start };
        let latitude = digits.angle(2)?;
        let longitude = digits.angle(3)?;
        let altitude = digits.altitude()?;
        digits.expect(b'/')?;
        let read = |reading| {
            let limits = (LATITUDE_LIMIT_DEG, LONGITUDE_LIMIT_DEG);
            Ok(Position {
                latitude_e7: latitude.degrees_e7(reading, limits.0)?,
                longitude_e7: longitude.degrees_e7(reading, limits.1)?,
            })
        };
        let decimal = read(Iso6709Reading::DecimalDegrees)?;
        let documented = if latitude.has_sixty() || longitude.has_sixty() {
            None
        } else {
            Some(read(Iso6709Reading::DegreesMinutesSeconds)?)
        };
        let (reading, position) = match (documented, fix) {
            (Some(documented), Some(fix)) if decimal.is_nearer(documented, fix) => {
                (Iso6709Reading::DecimalDegrees, decimal)
            }
            (Some(documented), _) => (Iso6709Reading::DegreesMinutesSeconds, documented),
            (None, _) => (Iso6709Reading::DecimalDegrees, decimal),
        };
        let altitude_mm = match reading {
            Iso6709Reading::DegreesMinutesSeconds => altitude,
            Iso6709Reading::DecimalDegrees => altitude * 1000,
        };
        Ok(Iso6709 {
            text,
            reading,
            position,
            altitude_mm,
        })
    }
}

// Where a vehicle was is personal data: logs get the kind of the text.
impl fmt::Debug for Iso6709<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iso6709")
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position").finish_non_exhaustive()
    }
}

impl Position {
    // Sum of the differences of both angles: enough to tell two readings of one text
    // apart, and it needs no roots. Longitudes close at 180 degrees.
    fn distance_e7(self, other: Position) -> u64 {
        let north = i64::from(self.latitude_e7).abs_diff(i64::from(other.latitude_e7));
        let east = i64::from(self.longitude_e7).abs_diff(i64::from(other.longitude_e7));
        north + east.min(TURN_E7.abs_diff(east))
    }

    fn is_nearer(self, than: Position, to: Position) -> bool {
        self.distance_e7(to) < than.distance_e7(to)
    }
}

// Reads from `value` on, so that errors name its bytes.
struct Digits<'a> {
    value: &'a [u8],
    at: usize,
}

// One angle, taken apart but not understood yet. At most 999 degrees.
struct Angle {
    offset: usize,
    negative: bool,
    degrees: i64,
    minutes: i64,
    seconds: i64,
    // Of a second, or of a ten-thousandth of a degree.
    fraction_e4: i64,
}

impl Digits<'_> {
    fn next(&mut self) -> Result<u8, PayloadError> {
        let found = self.value.get(self.at).copied();
        let found = found.ok_or(PayloadError {
            offset: self.at,
            reason: PayloadReason::Truncated,
        })?;
        self.at += 1;
        Ok(found)
    }

    fn refused<T>(&self, found: u8) -> Result<T, PayloadError> {
        Err(PayloadError {
            offset: self.at - 1,
            reason: PayloadReason::Character { found },
        })
    }

    fn expect(&mut self, wanted: u8) -> Result<(), PayloadError> {
        match self.next()? {
            found if found == wanted => Ok(()),
            found => self.refused(found),
        }
    }

    fn is_negative(&mut self) -> Result<bool, PayloadError> {
        match self.next()? {
            b'+' => Ok(false),
            b'-' => Ok(true),
            found => self.refused(found),
        }
    }

    fn number(&mut self, digits: usize) -> Result<i64, PayloadError> {
        let mut number = 0;
        for _ in 0..digits {
            match self.next()? {
                found @ b'0'..=b'9' => number = number * 10 + i64::from(found - b'0'),
                found => return self.refused(found),
            }
        }
        Ok(number)
    }

    fn angle(&mut self, degree_digits: usize) -> Result<Angle, PayloadError> {
        let offset = self.at;
        let negative = self.is_negative()?;
        let degrees = self.number(degree_digits)?;
        let minutes = self.number(2)?;
        let seconds = self.number(2)?;
        self.expect(b'.')?;
        let fraction_e4 = self.number(4)?;
        Ok(Angle {
            offset,
            negative,
            degrees,
            minutes,
            seconds,
            fraction_e4,
        })
    }

    // In thousandths of whatever unit; at most 999 999, so 32 bits hold it times 1000.
    fn altitude(&mut self) -> Result<i32, PayloadError> {
        let negative = self.is_negative()?;
        let whole = self.number(3)?;
        self.expect(b'.')?;
        let altitude_e3 = (whole * 1000 + self.number(3)?) as i32;
        Ok(if negative { -altitude_e3 } else { altitude_e3 })
    }
}

impl Angle {
    const fn has_sixty(&self) -> bool {
        self.minutes >= 60 || self.seconds >= 60
    }

    // Rounded to the nearest, halves away from zero.
    fn degrees_e7(&self, reading: Iso6709Reading, limit_deg: u8) -> Result<i32, PayloadError> {
        let beyond_degrees = match reading {
            Iso6709Reading::DegreesMinutesSeconds => {
                let seconds_e4 = (self.minutes * 60 + self.seconds) * 10_000 + self.fraction_e4;
                // 10^7 per 3600 × 10^4 is 5 per 18.
                (seconds_e4 * 5 + 9) / 18
            }
            Iso6709Reading::DecimalDegrees => {
                let degrees_e8 = (self.minutes * 100 + self.seconds) * 10_000 + self.fraction_e4;
                (degrees_e8 + 5) / 10
            }
        };
        let magnitude = self.degrees * E7 + beyond_degrees;
        if magnitude > i64::from(limit_deg) * E7 {
            return Err(PayloadError {
                offset: self.offset,
                reason: PayloadReason::Angle { limit_deg },
            });
        }
        let degrees_e7 = if self.negative { -magnitude } else { magnitude };
        Ok(degrees_e7 as i32)
    }
}
