//! What a board says about its own health.
//!
//! Invariant: what cannot be read is `None`, never a number; a broken sensor stops nobody.

/// Looks at whatever the board has.
pub trait Sensors {
    /// Takes as long as the slowest device: call it where waiting harms nobody.
    fn read(&mut self) -> Readings;
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// Of the processor, °C.
    pub temperature_c: Option<f64>,
    /// Of the supply, volts.
    pub supply_v: Option<f64>,
    /// The board itself says that its supply is too low.
    pub is_supply_low: Option<bool>,
    /// Of the modem, in the unit of whoever writes the file; higher is better.
    pub modem_signal: Option<f64>,
    /// One for each storage device that tells.
    pub storage: Vec<StorageHealth>,
}

/// How worn an eMMC says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageHealth {
    /// Such as `mmcblk0`.
    pub block: String,
    /// How much of its life is used at most, in steps of ten; 110: more than all. The worse of the
    /// two kinds of memory in it. JEDEC JESD84-B51, `DEVICE_LIFE_TIME_EST_TYP_A` and `_B`.
    pub life_used_percent: Option<u8>,
    /// Its spare blocks.
    pub spare_blocks: Option<PreEol>,
}

/// `PRE_EOL_INFO` of JEDEC JESD84-B51: how many of the spare blocks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreEol {
    /// Fewer than four fifths.
    Normal,
    /// Four fifths.
    Warning,
    /// Nine tenths.
    Urgent,
}

impl PreEol {
    /// `normal`, `warning`, `urgent`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Urgent => "urgent",
        }
    }
}

/// From here on the card is to be replaced.
const LIFE_USED_WORN_PERCENT: u8 = 90;

impl StorageHealth {
    /// Should somebody replace it?
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.life_used_percent > Some(LIFE_USED_WORN_PERCENT)
            || self.spare_blocks > Some(PreEol::Normal)
    }
}
