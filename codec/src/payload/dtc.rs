//! Trouble codes as trackers list them: `P0100,C0300`.
//!
//! Elements 281 (OBD) and 282 (CAN adapter) separate with commas, a page of the FMx6 line
//! prints full stops for 525; both are accepted everywhere. What stands between them need
//! not be a code of SAE J2012 (a CAN adapter may have its own), so nothing is refused.

use core::fmt;

/// A value of element 281, 282 or 525: any bytes, at most 128 by the documentation.
///
/// ```
/// use codec::payload::{DtcEntry, DtcList, DtcSystem};
///
/// let mut entries = DtcList::new(b"P0100,C0300,?").entries();
/// let Some(DtcEntry::Code(code)) = entries.next() else { panic!("a code of the standard") };
/// assert_eq!(code.to_string(), "P0100");
/// assert_eq!((code.system(), code.digits()), (DtcSystem::Powertrain, [0, 1, 0, 0]));
/// assert!(matches!(entries.next(), Some(DtcEntry::Code(code)) if code.as_u16() == 0x4300));
/// assert_eq!(entries.next(), Some(DtcEntry::Other(b"?")));
/// assert_eq!(entries.next(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DtcList<'a> {
    value: &'a [u8],
}

/// What stands between two separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtcEntry<'a> {
    /// A code in the form of SAE J2012.
    Code(Dtc),
    /// Anything else, without padding, as sent.
    Other(&'a [u8]),
}

impl<'a> DtcList<'a> {
    /// Every value is a list; an empty one has no entries.
    #[must_use]
    pub const fn new(value: &'a [u8]) -> DtcList<'a> {
        DtcList { value }
    }

    /// The entries in the order they were sent. Empty ones are left out.
    #[must_use]
    pub const fn entries(&self) -> DtcEntries<'a> {
        DtcEntries { rest: self.value }
    }
}

impl fmt::Debug for DtcList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// The entries of a [`DtcList`].
#[derive(Debug, Clone)]
pub struct DtcEntries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for DtcEntries<'a> {
    type Item = DtcEntry<'a>;

    fn next(&mut self) -> Option<DtcEntry<'a>> {
        while !self.rest.is_empty() {
            let separator = |byte: &u8| matches!(byte, b',' | b'.');
            let end = self.rest.iter().position(separator);
            let (entry, rest) = match end {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            let (_, text) = super::trimmed(entry);
            if !text.is_empty() {
                return Some(Dtc::parse(text).map_or(DtcEntry::Other(text), DtcEntry::Code));
            }
        }
        None
    }
}

/// A diagnostic trouble code: a letter, a digit of 0 to 3 and three hexadecimal digits,
/// in the two bytes that it has on the vehicle's bus (SAE J2012, ISO 15031-6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dtc(u16);

/// Which part of the vehicle complains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtcSystem {
    /// P.
    Powertrain,
    /// C.
    Chassis,
    /// B.
    Body,
    /// U: the bus between control units.
    Network,
}

impl DtcSystem {
    /// The letter in front of the digits.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            DtcSystem::Powertrain => b'P',
            DtcSystem::Chassis => b'C',
            DtcSystem::Body => b'B',
            DtcSystem::Network => b'U',
        }
    }
}

impl Dtc {
    /// Reads exactly five characters in capitals; `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Dtc> {
        let &[letter, first, a, b, c] = text else {
            return None;
        };
        let system = match letter {
            b'P' => 0,
            b'C' => 1,
            b'B' => 2,
            b'U' => 3,
            _ => return None,
        };
        let first = match first {
            b'0'..=b'3' => first - b'0',
            _ => return None,
        };
        let digits = [first, hex_digit(a)?, hex_digit(b)?, hex_digit(c)?];
        let code = digits
            .iter()
            .fold(0, |code, &digit| code << 4 | u16::from(digit));
        Some(Dtc(system << 14 | code))
    }

    /// The code with these two bytes; every value is one.
    #[must_use]
    pub const fn from_u16(code: u16) -> Dtc {
        Dtc(code)
    }

    /// The two bytes: system in the upper two bits, then the digits.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// The letter's meaning.
    #[must_use]
    pub const fn system(self) -> DtcSystem {
        match self.0 >> 14 {
            0 => DtcSystem::Powertrain,
            1 => DtcSystem::Chassis,
            2 => DtcSystem::Body,
            _ => DtcSystem::Network,
        }
    }

    /// The four digits behind the letter: 0 to 3, then 0 to 15 three times.
    #[must_use]
    pub const fn digits(self) -> [u8; 4] {
        [
            (self.0 >> 12 & 0x3) as u8,
            (self.0 >> 8 & 0xF) as u8,
            (self.0 >> 4 & 0xF) as u8,
            (self.0 & 0xF) as u8,
        ]
    }
}

const fn hex_digit(char: u8) -> Option<u8> {
    match char {
        b'0'..=b'9' => Some(char - b'0'),
        b'A'..=b'F' => Some(char - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for Dtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = char::from(self.system().letter());
        write!(f, "{letter}{:04X}", self.0 & 0x3FFF)
    }
}

impl fmt::Debug for Dtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dtc({self})")
    }
}
