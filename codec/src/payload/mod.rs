//! What lies inside IO elements: beacon lists, sensor lists, positions and codes in text.
//!
//! A record hands these values on as bytes, because only the device's model says which id
//! carries which layout: 385 is a beacon list on most models and something else on FMx6.
//! Whoever knows the model calls the reader that fits:
//!
//! | id | reader |
//! |---|---|
//! | 385; 10500 on FMx6 | [`BeaconList`] |
//! | 548, 10828, 10829, 10831, 11317 | [`TlvList`], and [`EyeAdvert`] inside it |
//! | 387 | [`Iso6709`] |
//! | 256, 325; 528 on FMx6 | [`Vin`] |
//! | 281, 282; 525 on FMx6 | [`DtcList`] |
//! | 11 and 14 together | [`Iccid`] |
//!
//! Lists are `Copy` views of the caller's bytes: parsing walks them once and says where
//! they break, after that the iterators cannot fail. What is merely unknown (a flag bit, a
//! parameter, a code in a form of its own) is kept, not refused.

mod beacon;
mod dtc;
mod eye;
mod iccid;
mod iso6709;
mod tlv;
mod vin;

pub use beacon::{Beacon, BeaconId, BeaconList, BeaconPart, Beacons};
pub use dtc::{Dtc, DtcEntries, DtcEntry, DtcList, DtcSystem};
pub use eye::{EyeAdvert, EyeAngle, EyeMovement};
pub use iccid::Iccid;
pub use iso6709::{Iso6709, Iso6709Reading, Position};
pub use tlv::{Param, Params, TlvDevice, TlvDevices, TlvList};
pub use vin::{VIN_CHARS, Vin};

/// A value that does not read as its element promises: show it as raw bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct PayloadError {
    /// The first byte that does not fit, counted from the start of the value.
    pub offset: usize,
    /// What is wrong there.
    pub reason: PayloadReason,
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadReason {
    /// The field that begins here is longer than what is left.
    #[error("the value ends inside this field")]
    Truncated,
    /// A sensor list begins with 1.
    #[error("a sensor list begins with 0x01, this is {found:#04x}")]
    Header {
        /// The first byte.
        found: u8,
    },
    /// Not the number of characters it must have.
    #[error("{found} characters, this has {wanted}")]
    Length {
        /// How many there must be.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// A character that cannot be at this place.
    #[error("{found:#04x} has no place here")]
    Character {
        /// The byte.
        found: u8,
    },
    /// No place on Earth.
    #[error("an angle beyond {limit_deg} degrees")]
    Angle {
        /// The largest there is: 90 for a latitude, 180 for a longitude.
        limit_deg: u8,
    },
}

/// The part of `text` between padding, and where it begins. Devices fill fields of fixed
/// size with NUL or spaces.
fn trimmed(text: &[u8]) -> (usize, &[u8]) {
    let is_padding = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n');
    let start = text.iter().take_while(|byte| is_padding(byte)).count();
    let inner = &text[start..];
    let end = inner.iter().rev().take_while(|byte| is_padding(byte));
    (start, &inner[..inner.len() - end.count()])
}
