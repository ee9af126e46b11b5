//! What an EYE sensor broadcasts, where a tracker hands on a slice of the advert.
//!
//! Parameter 2 of a sensor list holds whatever bytes the tracker is configured to cut out.
//! Nothing marks them as an EYE sensor's, so the only test is arithmetic: the first byte
//! says which fields follow, and they must fill the slice exactly.
//! Source: manufacturer's data of the EYE sensor (wiki); two recorded adverts of ten bytes.

/// The manufacturer's part of an EYE sensor's advert: 1 to 10 bytes.
///
/// ```
/// use codec::payload::EyeAdvert;
///
/// let advert = EyeAdvert::read(b"\xB7\x0A\x8F\x26\x4C\x60\x00\xFF\xFF\x6B").expect("EYE");
/// assert_eq!(advert.temperature_c_e2, Some(2703));
/// assert_eq!(advert.humidity_percent, Some(38));
/// assert_eq!(advert.magnet, Some(false));
/// assert_eq!(advert.movement.map(|m| (m.moving, m.count)), Some((false, 19_552)));
/// assert_eq!(advert.angle.map(|a| (a.pitch_deg, a.roll_deg)), Some((0, -1)));
/// assert_eq!(advert.battery_mv, Some(3070));
///
/// // One byte more than the flags announce: something else.
/// assert_eq!(EyeAdvert::read(b"\x80\x6D\x00"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EyeAdvert {
    /// The first byte as sent: bits 0 temperature, 1 humidity, 2 magnet sensor fitted,
    /// 3 magnet near, 4 movement, 5 angle, 6 battery low, 7 battery voltage.
    pub flags: u8,
    /// Temperature in °C × 100.
    pub temperature_c_e2: Option<i16>,
    /// Relative humidity in percent.
    pub humidity_percent: Option<u8>,
    /// Whether a magnet is near; `None` without a magnet sensor.
    pub magnet: Option<bool>,
    /// Movement since power-on.
    pub movement: Option<EyeMovement>,
    /// How it lies.
    pub angle: Option<EyeAngle>,
    /// Whether the battery is low.
    pub low_battery: bool,
    /// Battery voltage in mV, 2000 to 4550 in steps of 10.
    pub battery_mv: Option<u16>,
}

/// How often an EYE sensor moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EyeMovement {
    /// Whether it moves now.
    pub moving: bool,
    /// Movements counted, 0 to 32 767.
    pub count: u16,
}

/// How an EYE sensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EyeAngle {
    /// Pitch in degrees.
    pub pitch_deg: i8,
    /// Roll in degrees.
    pub roll_deg: i16,
}

const MOVING: u16 = 0x8000;
const BATTERY_MV_MIN: u16 = 2000;
const BATTERY_STEP_MV: u16 = 10;

impl EyeAdvert {
    /// Reads a slice of an advert. `None` if the fields that its first byte announces do
    /// not fill it exactly: then it is something else, a whole advert of 31 bytes perhaps.
    #[must_use]
    pub fn read(slice: &[u8]) -> Option<EyeAdvert> {
        let (&flags, mut rest) = slice.split_first()?;
        let has = |bit: u8| flags & (1 << bit) != 0;
        let temperature = field(&mut rest, has(0))?;
        let humidity = field(&mut rest, has(1))?;
        let movement = field(&mut rest, has(4))?.map(u16::from_be_bytes);
        let angle = field(&mut rest, has(5))?;
        let battery = field(&mut rest, has(7))?;
        let advert = EyeAdvert {
            flags,
            temperature_c_e2: temperature.map(i16::from_be_bytes),
            humidity_percent: humidity.map(u8::from_be_bytes),
            magnet: has(2).then_some(has(3)),
            movement: movement.map(|word| EyeMovement {
                moving: word & MOVING != 0,
                count: word & !MOVING,
            }),
            angle: angle.map(|[pitch, high, low]| EyeAngle {
                pitch_deg: i8::from_be_bytes([pitch]),
                roll_deg: i16::from_be_bytes([high, low]),
            }),
            low_battery: has(6),
            battery_mv: battery.map(|[step]| BATTERY_MV_MIN + BATTERY_STEP_MV * u16::from(step)),
        };
        rest.is_empty().then_some(advert)
    }
}

// `None` is a field that was announced and is cut off.
fn field<const N: usize>(rest: &mut &[u8], announced: bool) -> Option<Option<[u8; N]>> {
    if !announced {
        return Some(None);
    }
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(Some(*bytes))
}
