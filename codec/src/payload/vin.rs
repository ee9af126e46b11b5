//! The vehicle identification number that a tracker reads off OBD or the CAN bus.
//!
//! Invariant: a [`Vin`] is seventeen characters of ISO 3779. The check digit is not
//! verified, because only North America has one.

use core::fmt;

use super::{PayloadError, PayloadReason, trimmed};

/// How many characters a VIN has (ISO 3779).
pub const VIN_CHARS: usize = 17;

/// A vehicle identification number: digits and capital letters without I, O and Q.
///
/// `Debug` shows the last four characters only, so that a log line never names a vehicle
/// by accident; [`Vin::as_str`] and `Display` show all.
///
/// ```
/// use codec::payload::{PayloadReason, Vin};
///
/// let vin = Vin::parse(b"WVWZZZ1JZXW000001\0\0")?;
/// assert_eq!(vin.as_str(), "WVWZZZ1JZXW000001");
/// assert_eq!(format!("{vin:?}"), "Vin(…0001)");
///
/// // The letter O is no digit 0.
/// let error = Vin::parse(b"WVWZZZ1JZXW00000O").unwrap_err();
/// assert_eq!((error.offset, error.reason), (16, PayloadReason::Character { found: b'O' }));
/// # Ok::<(), codec::payload::PayloadError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vin([u8; VIN_CHARS]);

impl Vin {
    /// Reads the text of an element, padding around it ignored.
    ///
    /// # Errors
    /// [`PayloadReason::Length`] with what is left without padding, 0 where the vehicle
    /// gave none; [`PayloadReason::Character`] at the first that no VIN has.
    pub fn parse(value: &[u8]) -> Result<Vin, PayloadError> {
        let (start, text) = trimmed(value);
        let Ok(&chars) = <&[u8; VIN_CHARS]>::try_from(text) else {
            let reason = PayloadReason::Length {
                wanted: VIN_CHARS,
                found: text.len(),
            };
            return Err(PayloadError {
                offset: start,
                reason,
            });
        };
        match chars.iter().position(|&char| !is_vin_char(char)) {
            None => Ok(Vin(chars)),
            Some(index) => Err(PayloadError {
                offset: start + index,
                reason: PayloadReason::Character {
                    found: chars[index],
                },
            }),
        }
    }

    /// The seventeen characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("digits and capital letters are UTF-8")
    }
}

const fn is_vin_char(char: u8) -> bool {
    char.is_ascii_digit() || (char.is_ascii_uppercase() && !matches!(char, b'I' | b'O' | b'Q'))
}

impl fmt::Display for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vin(…{})", &self.as_str()[VIN_CHARS - 4..])
    }
}
