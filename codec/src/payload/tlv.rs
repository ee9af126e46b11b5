//! Lists of sensors and beacons as tagged parameters, the advanced mode of the trackers.
//!
//! A header byte 1, then per device a length and so many bytes of parameters: id, length,
//! value. Source: wiki, elements 548, 10828, 10829, 10831 and 11317 and the Bluetooth
//! sensor pages; vector `ble-10828-near-eye`.
//!
//! Invariant: whoever holds a [`TlvList`] or [`TlvDevice`] holds bytes that were walked to
//! their end. Lengths are structure and must add up; what a parameter means is content, so
//! one that is unknown or of another length than documented stays a [`Param::Raw`].

use core::fmt;

use super::beacon::BeaconId;
use super::eye::EyeAdvert;
use super::{PayloadError, PayloadReason};

const HEADER: u8 = 0x01;

/// A value of element 548, 10828, 10829, 10831 or 11317, still in the caller's buffer.
///
/// Nothing in range is the header alone; an empty value is taken for the same.
///
/// ```
/// use codec::payload::{Param, TlvList};
///
/// // The "near beacons" example of the manufacturer's wiki.
/// let value = b"\x01\x12\x00\x01\xE5\x0F\x06\x7C\xD9\xF4\x01\xEF\x77\x0D\x01\x00\x0E\x02\x0B\xFE";
/// let list = TlvList::parse(value)?;
/// let sensor = list.devices().next().expect("there is one");
/// assert_eq!(sensor.rssi_dbm(), Some(-27));
/// assert_eq!(sensor.mac(), Some(&[0x7C, 0xD9, 0xF4, 0x01, 0xEF, 0x77]));
/// assert_eq!(sensor.low_battery(), Some(false));
/// assert_eq!(sensor.battery_mv(), Some(3070));
/// assert_eq!(sensor.temperature_c_e2(), None);
/// assert_eq!(sensor.params().last(), Some(Param::BatteryMv(3070)));
/// # Ok::<(), codec::payload::PayloadError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TlvList<'a> {
    devices: &'a [u8],
    count: usize,
}

/// What is known of one sensor or beacon.
///
/// Every parameter may be missing. Should one come twice, the accessors give the first;
/// [`TlvDevice::params`] gives all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TlvDevice<'a> {
    // At most 255 bytes of whole parameters.
    params: &'a [u8],
}

/// One parameter. Numbers are big-endian on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Param<'a> {
    /// 0: signal strength in dBm, 1 byte.
    RssiDbm(i8),
    /// 1: identity, its kind told by its length.
    BeaconId(BeaconId<'a>),
    /// 2: a slice of the advert, whatever the device is configured to cut out. See
    /// [`EyeAdvert`].
    AdditionalData(&'a [u8]),
    /// 5: name without the NULs behind it; no promise that it is UTF-8.
    Name(&'a [u8]),
    /// 6: temperature in °C × 100, 2 bytes.
    TemperatureCE2(i16),
    /// 7: relative humidity in percent, 1 byte.
    HumidityPercent(u8),
    /// 8: whether a magnet is near, 1 byte of 0 or 1.
    Magnet(bool),
    /// 9: whether it moves, 1 byte of 0 or 1.
    Movement(bool),
    /// 10: movements counted, 2 bytes.
    MovementCount(u16),
    /// 11: pitch in degrees, 1 byte.
    PitchDeg(i8),
    /// 12: roll in degrees, 2 bytes.
    RollDeg(i16),
    /// 13: whether the battery is low, 1 byte of 0 or 1.
    LowBattery(bool),
    /// 14: battery voltage in mV, 2 bytes.
    BatteryMv(u16),
    /// 15: MAC address in the order of the wire, 6 bytes.
    Mac(&'a [u8; 6]),
    /// 16: times a magnet came near, 2 bytes.
    MagnetCount(u16),
    /// Any other id, and a known one whose value has another length or is neither 0 nor 1.
    Raw {
        /// The parameter id.
        id: u8,
        /// The value as sent.
        value: &'a [u8],
    },
}

impl<'a> Param<'a> {
    /// Reads the value of parameter `id`; never fails.
    #[must_use]
    pub fn read(id: u8, value: &'a [u8]) -> Param<'a> {
        Param::known(id, value).unwrap_or(Param::Raw { id, value })
    }

    fn known(id: u8, value: &'a [u8]) -> Option<Param<'a>> {
        Some(match id {
            0 => Param::RssiDbm(i8::from_be_bytes(exactly(value)?)),
            1 => Param::BeaconId(BeaconId::by_length(value)),
            2 => Param::AdditionalData(value),
            5 => Param::Name(without_nuls(value)),
            6 => Param::TemperatureCE2(i16::from_be_bytes(exactly(value)?)),
            7 => Param::HumidityPercent(u8::from_be_bytes(exactly(value)?)),
            8 => Param::Magnet(flag(value)?),
            9 => Param::Movement(flag(value)?),
            10 => Param::MovementCount(u16::from_be_bytes(exactly(value)?)),
            11 => Param::PitchDeg(i8::from_be_bytes(exactly(value)?)),
            12 => Param::RollDeg(i16::from_be_bytes(exactly(value)?)),
            13 => Param::LowBattery(flag(value)?),
            14 => Param::BatteryMv(u16::from_be_bytes(exactly(value)?)),
            15 => Param::Mac(value.try_into().ok()?),
            16 => Param::MagnetCount(u16::from_be_bytes(exactly(value)?)),
            _ => return None,
        })
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

fn flag(value: &[u8]) -> Option<bool> {
    match value {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn without_nuls(name: &[u8]) -> &[u8] {
    let padding = name.iter().rev().take_while(|&&byte| byte == 0).count();
    &name[..name.len() - padding]
}

impl<'a> TlvList<'a> {
    /// Checks a value in one walk, down to the last parameter.
    ///
    /// # Errors
    /// [`PayloadReason::Header`] if the value does not begin with 1;
    /// [`PayloadReason::Truncated`] at the length that promises more than there is, be it
    /// in the value or in its device's block.
    pub fn parse(value: &'a [u8]) -> Result<TlvList<'a>, PayloadError> {
        let Some((&found, devices)) = value.split_first() else {
            return Ok(TlvList {
                devices: &[],
                count: 0,
            });
        };
        if found != HEADER {
            let reason = PayloadReason::Header { found };
            return Err(PayloadError { offset: 0, reason });
        }
        let truncated = |left: usize| PayloadError {
            offset: value.len() - left,
            reason: PayloadReason::Truncated,
        };
        let (mut rest, mut count) = (devices, 0);
        while !rest.is_empty() {
            let (after, block) = counted(rest).ok_or_else(|| truncated(rest.len()))?;
            let mut params = block;
            while !params.is_empty() {
                (params, _, _) = take_param(params)
                    .map_err(|left_in_block| truncated(after.len() + left_in_block))?;
            }
            rest = after;
            count += 1;
        }
        Ok(TlvList { devices, count })
    }

    /// How many devices there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The devices in the order they were sent.
    #[must_use]
    pub const fn devices(&self) -> TlvDevices<'a> {
        TlvDevices {
            rest: self.devices,
            left: self.count,
        }
    }
}

impl fmt::Debug for TlvList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.devices()).finish()
    }
}

/// The devices of a [`TlvList`].
#[derive(Clone)]
pub struct TlvDevices<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for TlvDevices<'a> {
    type Item = TlvDevice<'a>;

    fn next(&mut self) -> Option<TlvDevice<'a>> {
        let (rest, params) = counted(self.rest)?;
        (self.rest, self.left) = (rest, self.left - 1);
        Some(TlvDevice { params })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for TlvDevices<'_> {}

impl fmt::Debug for TlvDevices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The parameters of a [`TlvDevice`].
#[derive(Clone)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        let (rest, id, value) = take_param(self.rest).ok()?;
        self.rest = rest;
        Some(Param::read(id, value))
    }
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

// One accessor per parameter: the first of its kind that reads as documented.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($type:ty);)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> Option<$type> {
                self.params().find_map(|param| match param {
                    Param::$variant(value) => Some(value),
                    _ => None,
                })
            }
        )*
    };
}

impl<'a> TlvDevice<'a> {
    /// All parameters in the order they were sent.
    #[must_use]
    pub const fn params(&self) -> Params<'a> {
        Params { rest: self.params }
    }

    /// What an EYE sensor says in parameter 2, if that is what the device is configured to
    /// cut out of the advert.
    #[must_use]
    pub fn eye(&self) -> Option<EyeAdvert> {
        EyeAdvert::read(self.additional_data()?)
    }

    accessors! {
        /// Signal strength in dBm.
        rssi_dbm: RssiDbm(i8);
        /// Identity, its kind told by its length.
        beacon_id: BeaconId(BeaconId<'a>);
        /// A slice of the advert, as configured.
        additional_data: AdditionalData(&'a [u8]);
        /// Name without the NULs behind it; no promise that it is UTF-8.
        name: Name(&'a [u8]);
        /// Temperature in °C × 100.
        temperature_c_e2: TemperatureCE2(i16);
        /// Relative humidity in percent.
        humidity_percent: HumidityPercent(u8);
        /// Whether a magnet is near.
        magnet: Magnet(bool);
        /// Whether it moves.
        movement: Movement(bool);
        /// Movements counted.
        movement_count: MovementCount(u16);
        /// Pitch in degrees.
        pitch_deg: PitchDeg(i8);
        /// Roll in degrees.
        roll_deg: RollDeg(i16);
        /// Whether the battery is low.
        low_battery: LowBattery(bool);
        /// Battery voltage in mV.
        battery_mv: BatteryMv(u16);
        /// MAC address in the order of the wire.
        mac: Mac(&'a [u8; 6]);
        /// Times a magnet came near.
        magnet_count: MagnetCount(u16);
    }
}

impl fmt::Debug for TlvDevice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.params().fmt(f)
    }
}

// A length byte and so many bytes.
fn counted(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = input.split_first()?;
    let (value, rest) = rest.split_at_checked(usize::from(length))?;
    Some((rest, value))
}

// What follows the parameter, its id, its value.
type Taken<'a> = (&'a [u8], u8, &'a [u8]);

// The error is how many bytes were left where the field begins that is cut off.
fn take_param(input: &[u8]) -> Result<Taken<'_>, usize> {
    let (&id, rest) = input.split_first().ok_or(input.len())?;
    let (rest, value) = counted(rest).ok_or(rest.len())?;
    Ok((rest, id, value))
}
