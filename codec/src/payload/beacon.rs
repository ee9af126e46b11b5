//! The simple beacon list: which beacons were near, in one value or a series of them.
//!
//! A part byte, then per beacon a byte of flags, an identity whose length the flags give,
//! and up to three measurements. Source: wiki, "Beacon list" of FMB and FMx6 devices;
//! vector `c8e-tcp-beacon385`, whose battery of 3048 shows that the unit is mV.
//!
//! Invariant: whoever holds a [`BeaconList`] holds bytes that were walked to their end.

use core::fmt;

use super::{PayloadError, PayloadReason};

const HAS_RSSI: u8 = 1 << 0;
const HAS_BATTERY: u8 = 1 << 1;
const HAS_TEMPERATURE: u8 = 1 << 2;
const IS_IBEACON: u8 = 1 << 5;

/// A value of element 385 (10500 on FMx6), still in the caller's buffer.
///
/// Nothing in range is told in two ways: by an empty value or by a part byte alone.
///
/// ```
/// use codec::payload::{BeaconId, BeaconList};
///
/// let value = b"\x11\x07\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAB\xCD\xE0\x81\x00\x47\
///               \xAE\x0B\xE8\x00\x15";
/// let list = BeaconList::parse(value)?;
/// let part = list.part().expect("the value is not empty");
/// assert_eq!((part.number, part.parts), (1, 1));
///
/// let beacon = list.beacons().next().expect("there is one");
/// assert!(matches!(beacon.id, BeaconId::Eddystone { instance: [0xAB, ..], .. }));
/// assert_eq!(beacon.rssi_dbm, Some(-82));
/// assert_eq!(beacon.battery_mv, Some(3048));
/// assert_eq!(beacon.temperature_raw, Some(21));
///
/// // Cut in the middle of the battery: where that field begins.
/// assert_eq!(BeaconList::parse(&value[..20]).unwrap_err().offset, 19);
/// # Ok::<(), codec::payload::PayloadError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BeaconList<'a> {
    part: Option<BeaconPart>,
    beacons: &'a [u8],
    count: usize,
}

/// Which piece of a list that did not fit one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BeaconPart {
    /// This piece, from 1; 0 to 15 by its four bits.
    pub number: u8,
    /// How many pieces there are, 0 to 15.
    pub parts: u8,
}

/// One beacon that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon<'a> {
    /// The flags byte as sent. Bits 0, 1 and 2 announce the measurements, bit 5 an
    /// iBeacon; the others are reserved and change nothing here.
    pub flags: u8,
    /// Who it is: [`BeaconId::IBeacon`] or [`BeaconId::Eddystone`].
    pub id: BeaconId<'a>,
    /// Signal strength in dBm.
    pub rssi_dbm: Option<i8>,
    /// Battery voltage in mV.
    pub battery_mv: Option<u16>,
    /// Temperature. The unit is undocumented; the one public sample, 21, reads as whole °C.
    pub temperature_raw: Option<i16>,
}

/// What a beacon calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BeaconId<'a> {
    /// Apple's layout, 20 bytes.
    IBeacon {
        /// The fleet's UUID.
        uuid: &'a [u8; 16],
        /// Big-endian on the wire.
        major: u16,
        /// Big-endian on the wire.
        minor: u16,
    },
    /// Google's layout, 16 bytes.
    Eddystone {
        /// The fleet.
        namespace: &'a [u8; 10],
        /// The beacon in it.
        instance: &'a [u8; 6],
    },
    /// Six bytes, in a [`TlvList`](super::TlvList) only: a MAC where the device is
    /// configured to identify by it, an Eddystone instance where it cuts that out.
    Six(&'a [u8; 6]),
    /// Another slice of the advert, in a [`TlvList`](super::TlvList) only.
    Other(&'a [u8]),
}

const IBEACON_BYTES: usize = 20;
const EDDYSTONE_BYTES: usize = 16;

impl<'a> BeaconId<'a> {
    /// What an identity of this length is. Never fails.
    #[must_use]
    pub fn by_length(bytes: &'a [u8]) -> BeaconId<'a> {
        if let Ok(six) = bytes.try_into() {
            return BeaconId::Six(six);
        }
        let id = match bytes.len() {
            IBEACON_BYTES => ibeacon(bytes),
            EDDYSTONE_BYTES => eddystone(bytes),
            _ => None,
        };
        id.unwrap_or(BeaconId::Other(bytes))
    }
}

fn ibeacon(bytes: &[u8]) -> Option<BeaconId<'_>> {
    let (uuid, numbers) = bytes.split_first_chunk::<16>()?;
    let &[a, b, c, d] = numbers.first_chunk()?;
    Some(BeaconId::IBeacon {
        uuid,
        major: u16::from_be_bytes([a, b]),
        minor: u16::from_be_bytes([c, d]),
    })
}

fn eddystone(bytes: &[u8]) -> Option<BeaconId<'_>> {
    let (namespace, instance) = bytes.split_first_chunk::<10>()?;
    Some(BeaconId::Eddystone {
        namespace,
        instance: instance.first_chunk()?,
    })
}

impl<'a> BeaconList<'a> {
    /// Checks a value in one walk.
    ///
    /// # Errors
    /// [`PayloadReason::Truncated`] at the identity or measurement that is cut off.
    pub fn parse(value: &'a [u8]) -> Result<BeaconList<'a>, PayloadError> {
        let Some((&byte, beacons)) = value.split_first() else {
            return Ok(BeaconList {
                part: None,
                beacons: &[],
                count: 0,
            });
        };
        let part = Some(BeaconPart {
            number: byte >> 4,
            parts: byte & 0x0F,
        });
        let (mut rest, mut count) = (beacons, 0);
        while !rest.is_empty() {
            (rest, _) = take_beacon(rest).map_err(|left| PayloadError {
                offset: value.len() - left,
                reason: PayloadReason::Truncated,
            })?;
            count += 1;
        }
        Ok(BeaconList {
            part,
            beacons,
            count,
        })
    }

    /// Which piece of a longer list this is; `None` for an empty value.
    #[must_use]
    pub const fn part(&self) -> Option<BeaconPart> {
        self.part
    }

    /// How many beacons there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The beacons in the order they were sent.
    #[must_use]
    pub const fn beacons(&self) -> Beacons<'a> {
        Beacons {
            rest: self.beacons,
            left: self.count,
        }
    }
}

impl fmt::Debug for BeaconList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeaconList")
            .field("part", &self.part)
            .field("count", &self.count)
            .finish()
    }
}

/// The beacons of a [`BeaconList`].
#[derive(Debug, Clone)]
pub struct Beacons<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Beacons<'a> {
    type Item = Beacon<'a>;

    fn next(&mut self) -> Option<Beacon<'a>> {
        let (rest, beacon) = take_beacon(self.rest).ok()?;
        (self.rest, self.left) = (rest, self.left - 1);
        Some(beacon)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Beacons<'_> {}

// The error is how many bytes were left where the field begins that is cut off.
fn take_beacon(input: &[u8]) -> Result<(&[u8], Beacon<'_>), usize> {
    let (&flags, rest) = input.split_first().ok_or(input.len())?;
    let (id_bytes, id) = if flags & IS_IBEACON != 0 {
        (IBEACON_BYTES, ibeacon(rest))
    } else {
        (EDDYSTONE_BYTES, eddystone(rest))
    };
    let id = id.ok_or(rest.len())?;
    let rest = &rest[id_bytes..];
    let (rest, rssi) = field::<1>(rest, flags & HAS_RSSI != 0)?;
    let (rest, battery) = field::<2>(rest, flags & HAS_BATTERY != 0)?;
    let (rest, temperature) = field::<2>(rest, flags & HAS_TEMPERATURE != 0)?;
    let beacon = Beacon {
        flags,
        id,
        rssi_dbm: rssi.map(i8::from_be_bytes),
        battery_mv: battery.map(u16::from_be_bytes),
        temperature_raw: temperature.map(i16::from_be_bytes),
    };
    Ok((rest, beacon))
}

fn field<const N: usize>(input: &[u8], announced: bool) -> Result<(&[u8], Option<[u8; N]>), usize> {
    if !announced {
        return Ok((input, None));
    }
    let (bytes, rest) = input.split_first_chunk().ok_or(input.len())?;
    Ok((rest, Some(*bytes)))
}
