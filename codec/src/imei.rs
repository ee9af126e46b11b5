//! The device identity, kept as a number so that it is `Copy`, cheap to compare and
//! cannot be anything but fifteen digits.
//!
//! Invariant: the value is below 10^15. `Debug` shows the last four digits only, so that
//! a log line never names a vehicle by accident; `Display` shows all fifteen.

use core::fmt;
use core::str::FromStr;

/// How many digits an IMEI has (3GPP TS 23.003, section 6.2.1).
pub const IMEI_DIGITS: usize = 15;

const IMEI_MAX: u64 = 999_999_999_999_999;

/// International Mobile Equipment Identity: fifteen decimal digits, leading zeros kept.
///
/// The check digit is not verified: documentation examples and bench devices break it,
/// and the allow list decides who may talk, not arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Imei(u64);

/// Why some bytes are no IMEI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImeiError {
    /// Not fifteen bytes long.
    #[error("an IMEI has 15 digits, this has {found}")]
    Length {
        /// How many bytes there were.
        found: usize,
    },
    /// A byte that is not an ASCII digit.
    #[error("an IMEI has digits only, byte {offset} is {found:#04x}")]
    NotADigit {
        /// Which byte, counted from 0.
        offset: usize,
        /// The byte.
        found: u8,
    },
}

impl Imei {
    /// Reads exactly fifteen ASCII digits, as a login carries them.
    ///
    /// # Errors
    /// [`ImeiError`] with the length or the first byte that is no digit.
    pub fn parse(digits: &[u8]) -> Result<Imei, ImeiError> {
        if digits.len() != IMEI_DIGITS {
            return Err(ImeiError::Length {
                found: digits.len(),
            });
        }
        let mut value = 0u64;
        for (offset, &found) in digits.iter().enumerate() {
            if !found.is_ascii_digit() {
                return Err(ImeiError::NotADigit { offset, found });
            }
            value = value * 10 + u64::from(found - b'0');
        }
        Ok(Imei(value))
    }

    /// The IMEI with this value, or `None` above fifteen digits.
    #[must_use]
    pub const fn from_u64(value: u64) -> Option<Imei> {
        if value <= IMEI_MAX {
            Some(Imei(value))
        } else {
            None
        }
    }

    /// Reads eight bytes of two decimal digits each behind a leading zero nibble, as
    /// Codec 14 and 15 carry it. `None` if a nibble is no digit or the first is not zero.
    #[must_use]
    pub fn from_bcd(bytes: [u8; 8]) -> Option<Imei> {
        let mut value = 0u64;
        for byte in bytes {
            let (high, low) = (byte >> 4, byte & 0x0F);
            if high > 9 || low > 9 {
                return None;
            }
            value = value * 100 + u64::from(high) * 10 + u64::from(low);
        }
        Imei::from_u64(value)
    }

    /// The eight bytes that Codec 14 and 15 carry: sixteen nibbles, the first zero.
    #[must_use]
    pub fn to_bcd(self) -> [u8; 8] {
        let mut rest = self.0;
        let mut bytes = [0u8; 8];
        for byte in bytes.iter_mut().rev() {
            let pair = (rest % 100) as u8;
            *byte = ((pair / 10) << 4) | (pair % 10);
            rest /= 100;
        }
        bytes
    }

    /// The fifteen ASCII digits, as a login carries them.
    #[must_use]
    pub fn to_digits(self) -> [u8; IMEI_DIGITS] {
        let mut rest = self.0;
        let mut digits = [b'0'; IMEI_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        digits
    }

    /// The digits read as one number, 0 to 999 999 999 999 999.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl FromStr for Imei {
    type Err = ImeiError;

    fn from_str(digits: &str) -> Result<Imei, ImeiError> {
        Imei::parse(digits.as_bytes())
    }
}

impl fmt::Display for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}", self.0)
    }
}

impl fmt::Debug for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Imei(…{:04})", self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::format;

    #[test]
    fn shows_all_digits_to_people_and_four_to_logs() {
        let imei = Imei::parse(b"356307042441013").unwrap();
        assert_eq!(format!("{imei}"), "356307042441013");
        assert_eq!(format!("{imei:?}"), "Imei(…1013)");
        assert_eq!(imei.as_u64(), 356_307_042_441_013);
        assert_eq!("356307042441013".parse(), Ok(imei));
    }

    #[test]
    fn keeps_leading_zeros() {
        let imei = Imei::parse(b"000000000000042").unwrap();
        assert_eq!(format!("{imei}"), "000000000000042");
        assert_eq!(format!("{imei:?}"), "Imei(…0042)");
        assert_eq!(&imei.to_digits(), b"000000000000042");
    }

    #[test]
    fn refuses_every_byte_that_is_no_digit_at_every_place() {
        for offset in 0..IMEI_DIGITS {
            for found in 0..=u8::MAX {
                let mut digits = *b"356307042441013";
                digits[offset] = found;
                let read = Imei::parse(&digits);
                if found.is_ascii_digit() {
                    assert_eq!(read.unwrap().to_digits(), digits);
                } else {
                    assert_eq!(read, Err(ImeiError::NotADigit { offset, found }));
                }
            }
        }
    }

    #[test]
    fn refuses_other_lengths() {
        for found in [0, 1, 14, 16, 17, 255] {
            let digits = std::vec![b'1'; found];
            assert_eq!(Imei::parse(&digits), Err(ImeiError::Length { found }));
        }
    }

    #[test]
    fn numbers_end_at_fifteen_digits() {
        assert_eq!(Imei::from_u64(IMEI_MAX).map(Imei::as_u64), Some(IMEI_MAX));
        assert_eq!(Imei::from_u64(IMEI_MAX + 1), None);
        assert_eq!(Imei::from_u64(u64::MAX), None);
    }

    #[test]
    fn packed_digits_carry_a_zero_nibble_in_front() {
        let imei = Imei::parse(b"352093081452251").unwrap();
        let packed = [0x03, 0x52, 0x09, 0x30, 0x81, 0x45, 0x22, 0x51];
        assert_eq!(imei.to_bcd(), packed);
        assert_eq!(Imei::from_bcd(packed), Some(imei));
        assert_eq!(
            Imei::from_bcd([0x13, 0x52, 0x09, 0x30, 0x81, 0x45, 0x22, 0x51]),
            None
        );
        assert_eq!(
            Imei::from_bcd([0x03, 0x5A, 0x09, 0x30, 0x81, 0x45, 0x22, 0x51]),
            None
        );
        assert_eq!(
            Imei::from_bcd([0x03, 0xA5, 0x09, 0x30, 0x81, 0x45, 0x22, 0x51]),
            None
        );
    }
}
