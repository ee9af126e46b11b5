//! What a board has, read from the TOML files in `boards/` or from one of the operator's.
//!
//! Invariant: an unknown key is refused, so a misspelt `watchdgo` cannot quietly leave a board
//! without one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::table::{self, Fields, Wrong};

/// Compiled in: a gateway must know its board before it can trust a disk. The list is made of the
/// folder by `build.rs`.
const BOARDS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// What one kind of board has. What is `None` is not there.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardProfile {
    /// The name used in settings; of a built-in board that of its file.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// The light.
    pub status_led: Option<StatusLed>,
    /// The hardware watchdog.
    pub watchdog: Option<WatchdogDevice>,
    /// The input that tells of a supply that goes, early enough for one more fsync.
    pub power_fail_input: Option<PowerFailInput>,
    /// Of the processor; thousandths of a degree Celsius, as Linux has them.
    pub temperature: Option<Gauge>,
    /// Of the supply.
    pub supply_voltage: Option<SupplyVoltage>,
    /// Anything but 0: the board finds its supply too low.
    pub supply_low: Option<Gauge>,
    /// Storage devices that say how worn they are.
    pub storage: Option<Storage>,
    /// The modem.
    pub modem: Option<Modem>,
}

/// A light of one lamp or of two colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusLed {
    /// The green half, or the only lamp, of any colour.
    pub green: Lamp,
    /// The red half. Amber is both at once.
    pub red: Option<Lamp>,
}

/// What lights a lamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lamp {
    /// `{ led = "ACT" }`: a directory below `/sys/class/leds`.
    Led(String),
    /// `{ gpio = { chip = "pinctrl-bcm2711", line = 17 } }`.
    Gpio(GpioLine),
}

/// A watchdog device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogDevice {
    /// Such as `/dev/watchdog0`.
    pub device: String,
    /// What the gateway asks for, in seconds, 2 to 600. A device that cannot says what it does.
    pub timeout_s: u16,
}

/// One line of a GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioLine {
    /// The chip's label such as `pinctrl-rp1`, or a device such as `/dev/gpiochip0`. Numbers change
    /// from kernel to kernel, labels do not.
    pub chip: String,
    /// The line's offset on that chip, from 0.
    pub line: u32,
    /// Whether low voltage means "yes".
    pub active_low: bool,
}

/// An input, and for how long it must say something to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerFailInput {
    /// Where to look. High, after `active_low`, means that the supply fails.
    pub input: InputSource,
    /// A supply fails after so long; default 20 ms.
    pub fail_after_ms: u64,
    /// And is good again after so long; default 2 s.
    pub good_after_ms: u64,
}

/// When the profile does not say.
const FAIL_AFTER_MS: u64 = 20;
const GOOD_AFTER_MS: u64 = 2_000;

impl PowerFailInput {
    /// [`PowerFailInput::fail_after_ms`] as a duration.
    #[must_use]
    pub fn fail_after(&self) -> Duration {
        Duration::from_millis(self.fail_after_ms)
    }

    /// [`PowerFailInput::good_after_ms`] as a duration.
    #[must_use]
    pub fn good_after(&self) -> Duration {
        Duration::from_millis(self.good_after_ms)
    }
}

/// Where an input is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// A line of a chip.
    Gpio(GpioLine),
    /// A file of the kernel, such as `online` of a power supply.
    File(FileInput),
}

/// A file that says one of several words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInput {
    /// Such as `/sys/class/power_supply/tps65217-charger/online`.
    pub path: String,
    /// The word that means "yes", such as `0`.
    pub yes: String,
}

/// A file with one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gauge {
    /// `{ file = "/sys/class/thermal/thermal_zone0/temp" }`.
    File(String),
    /// `{ hwmon = { chip = "rpi_volt", input = "in0_lcrit_alarm" } }`: a chip of `/sys/class/hwmon`
    /// by its `name`, because its number changes from start to start.
    Hwmon {
        /// What the file `name` says.
        chip: String,
        /// The file beside it.
        input: String,
    },
}

/// A voltage.
#[derive(Debug, Clone, PartialEq)]
pub struct SupplyVoltage {
    /// Where its number is.
    pub read: Gauge,
    /// Millivolts of the supply for each unit of the number; default 1. A divider of 11:1 in front
    /// of a sensor in millivolts is 11.
    pub millivolts_per_unit: f64,
}

/// Storage devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Names below `/sys/block`; one that is not there, or does not tell, is left out.
    pub blocks: Vec<String>,
}

/// A modem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modem {
    /// A file with one number that somebody keeps fresh; `docs/hardware.md` has one way to do so.
    pub signal: Gauge,
}

impl StatusLed {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let green = fields.table("green", Lamp::of)?;
        Ok(Self {
            green: green.ok_or_else(|| fields.missing("green"))?,
            red: fields.table("red", Lamp::of)?,
        })
    }
}

impl Lamp {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        match (fields.text("led")?, fields.table("gpio", GpioLine::of)?) {
            (Some(led), None) => Ok(Self::Led(led)),
            (None, Some(line)) => Ok(Self::Gpio(line)),
            _ => Err(fields.missing("either led or gpio")),
        }
    }
}

impl WatchdogDevice {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let device = fields.needs_text("device")?;
        let timeout_s = fields.integer("timeout_s")?;
        let timeout_s = timeout_s.ok_or_else(|| fields.missing("timeout_s"))?;
        Ok(Self {
            device,
            // What does not fit is refused with the range.
            timeout_s: u16::try_from(timeout_s).unwrap_or(u16::MAX),
        })
    }
}

impl GpioLine {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let chip = fields.needs_text("chip")?;
        let line = fields.integer("line")?;
        let line = line.and_then(|line| u32::try_from(line).ok());
        Ok(Self {
            chip,
            line: line.ok_or_else(|| fields.missing("line"))?,
            active_low: fields.flag("active_low")?,
        })
    }
}

impl PowerFailInput {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let input = fields.table("input", InputSource::of)?;
        Ok(Self {
            input: input.ok_or_else(|| fields.missing("input"))?,
            fail_after_ms: fields.integer("fail_after_ms")?.unwrap_or(FAIL_AFTER_MS),
            good_after_ms: fields.integer("good_after_ms")?.unwrap_or(GOOD_AFTER_MS),
        })
    }
}

impl InputSource {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let gpio = fields.table("gpio", GpioLine::of)?;
        let file = fields.table("file", |fields| {
            let (path, yes) = (fields.needs_text("path")?, fields.needs_text("yes")?);
            Ok(FileInput { path, yes })
        })?;
        match (gpio, file) {
            (Some(line), None) => Ok(Self::Gpio(line)),
            (None, Some(file)) => Ok(Self::File(file)),
            _ => Err(fields.missing("either gpio or file")),
        }
    }
}

impl Gauge {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let file = fields.text("file")?;
        let hwmon = fields.table("hwmon", |fields| {
            let (chip, input) = (fields.needs_text("chip")?, fields.needs_text("input")?);
            Ok(Self::Hwmon { chip, input })
        })?;
        match (file, hwmon) {
            (Some(path), None) => Ok(Self::File(path)),
            (None, Some(hwmon)) => Ok(hwmon),
            _ => Err(fields.missing("either file or hwmon")),
        }
    }
}

impl SupplyVoltage {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        let read = fields.table("read", Gauge::of)?;
        Ok(Self {
            read: read.ok_or_else(|| fields.missing("read"))?,
            millivolts_per_unit: fields.number("millivolts_per_unit")?.unwrap_or(1.0),
        })
    }
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No board of this name is built in. Choose one of those listed.
    #[error("no board is called `{name}`; this gateway knows {}", BoardProfile::names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The operator's file cannot be read. Correct the path, or its rights.
    #[error("board profile {} cannot be read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A profile that does not say what a profile says. Correct the file.
    #[error("board profile `{name}` cannot be read")]
    Malformed {
        /// Which profile.
        name: String,
        /// The line, and what was expected there.
        #[source]
        source: Wrong,
    },
    /// A number that no board can have. Correct the file.
    #[error("board profile `{name}`: {key} is {expected}")]
    Range {
        /// Which profile.
        name: String,
        /// Which key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

impl BoardProfile {
    fn of(fields: &mut Fields<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            name: fields.needs_text("name")?,
            summary: fields.needs_text("summary")?,
            status_led: fields.table("status_led", StatusLed::of)?,
            watchdog: fields.table("watchdog", WatchdogDevice::of)?,
            power_fail_input: fields.table("power_fail_input", PowerFailInput::of)?,
            temperature: fields.table("temperature", Gauge::of)?,
            supply_voltage: fields.table("supply_voltage", SupplyVoltage::of)?,
            supply_low: fields.table("supply_low", Gauge::of)?,
            storage: fields.table("storage", |fields| {
                let blocks = fields.texts("blocks")?;
                Ok(Storage { blocks })
            })?,
            modem: fields.table("modem", |fields| {
                let signal = fields.table("signal", Gauge::of)?;
                let signal = signal.ok_or_else(|| fields.missing("signal"))?;
                Ok(Modem { signal })
            })?,
        })
    }

    /// The names of the built-in boards.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BOARDS.iter().map(|(name, _)| *name)
    }

    /// The built-in board of this name.
    ///
    /// # Errors
    /// `Unknown` for any other name. Built-in profiles are well formed; a test reads them all.
    pub fn built_in(name: &str) -> Result<Self, BoardError> {
        let board = BOARDS.iter().find(|(known, _)| *known == name);
        let (name, text) = board.ok_or_else(|| BoardError::Unknown {
            name: name.to_owned(),
        })?;
        Self::parse(name, text)
    }

    /// A profile from a file of the operator's.
    ///
    /// # Errors
    /// `File`, and as [`BoardProfile::parse`].
    pub fn read(path: &Path) -> Result<Self, BoardError> {
        let text = std::fs::read_to_string(path).map_err(|source| BoardError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a profile. `name` is for the error only.
    ///
    /// # Errors
    /// `Malformed` for anything but a complete profile without unknown keys; `Range`.
    pub fn parse(name: &str, text: &str) -> Result<Self, BoardError> {
        let profile = table::parse(text, Self::of).map_err(|source| BoardError::Malformed {
            name: name.to_owned(),
            source,
        })?;
        let range = |key, expected| {
            let name = name.to_owned();
            Err(BoardError::Range {
                name,
                key,
                expected,
            })
        };
        let timeout_s = profile.watchdog.as_ref().map(|dog| dog.timeout_s);
        if timeout_s.is_some_and(|seconds| !(2..=600).contains(&seconds)) {
            return range("watchdog.timeout_s", "2 to 600");
        }
        let input = profile.power_fail_input.as_ref();
        if input.is_some_and(|input| input.fail_after_ms > 10_000) {
            return range("power_fail_input.fail_after_ms", "at most 10000");
        }
        if input.is_some_and(|input| input.good_after_ms > 600_000) {
            return range("power_fail_input.good_after_ms", "at most 600000");
        }
        let ratio = profile.supply_voltage.as_ref();
        if ratio.is_some_and(|supply| !supply.millivolts_per_unit.is_normal()) {
            return range("supply_voltage.millivolts_per_unit", "a number, not 0");
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::error::Error;

    #[test]
    fn every_built_in_board_reads_and_has_its_own_name() {
        for name in BoardProfile::names() {
            assert_eq!(BoardProfile::built_in(name).unwrap().name, name);
        }
        for name in [
            "generic",
            "fake",
            "raspberry-pi-4",
            "raspberry-pi-5",
            "raspberry-pi-cm4",
            "beaglebone-black",
            "qemu-virt",
        ] {
            assert!(BoardProfile::names().any(|known| known == name), "{name}");
        }
    }

    /// Nobody has to name a new board anywhere else.
    #[test]
    fn a_board_exists_because_its_file_exists() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/boards");
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut known: Vec<String> = BoardProfile::names().map(|n| format!("{n}.toml")).collect();
        known.sort();
        assert_eq!(files, known);
    }

    #[test]
    fn generic_drives_nothing_and_fake_has_everything() {
        let generic = BoardProfile::built_in("generic").unwrap();
        assert!(generic.status_led.is_none() && generic.watchdog.is_none());
        assert!(generic.power_fail_input.is_none());
        let fake = BoardProfile::built_in("fake").unwrap();
        assert!(fake.status_led.unwrap().red.is_some());
        assert_eq!(fake.watchdog.unwrap().timeout_s, 15);
        let input = fake.power_fail_input.unwrap();
        assert_eq!(input.fail_after(), Duration::from_millis(20));
        assert_eq!(input.good_after(), Duration::from_secs(2));
        assert!(fake.temperature.is_some() && fake.supply_voltage.is_some());
        assert!(fake.supply_low.is_some() && fake.storage.is_some() && fake.modem.is_some());
    }

    /// A pin that hangs in the air would stop the acknowledgements of a box that has no such wire.
    #[test]
    fn no_board_as_sold_claims_an_input_that_somebody_must_wire() {
        for name in BoardProfile::names().filter(|name| *name != "fake") {
            let profile = BoardProfile::built_in(name).unwrap();
            let input = profile.power_fail_input.map(|input| input.input);
            assert!(!matches!(input, Some(InputSource::Gpio(_))), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = BoardProfile::built_in("rpi9").unwrap_err().to_string();
        let rest = error.strip_prefix("no board is called `rpi9`; this gateway knows ");
        let listed: Vec<&str> = rest.unwrap().split(", ").collect();
        assert_eq!(listed, BoardProfile::names().collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = BoardProfile::read(Path::new("/no/such.toml")).unwrap_err();
        let said = error.to_string();
        assert_eq!(said, "board profile /no/such.toml cannot be read");
        assert!(error.source().is_some());
    }

    #[test]
    fn unknown_and_missing_keys_are_refused_at_every_level() {
        let good = include_str!("../boards/fake.toml");
        for (line, bad) in [
            ("name = \"fake\"", ""),
            ("name = \"fake\"", "name = \"fake\"\nwatchdgo = 1"),
            ("green = { led = \"fake:green\" }", ""),
            ("red = { led =", "blue = { led ="),
            ("red = { led =", "red = { lead ="),
            ("timeout_s = 15", "timeout_s = \"15\""),
            ("timeout_s = 15", "timeout_s = 15\ntimeout_ms = 1"),
            ("line = 0", "line = -1"),
            ("active_low = true", "active_high = true"),
            ("blocks = [", "disks = ["),
            ("blocks = [", "blocks = [1, "),
            ("{ file = \"/fake/signal\" }", "{}"),
            ("{ led = \"fake:green\" }", "\"fake:green\""),
        ] {
            assert!(good.contains(line), "{line}");
            let error = BoardProfile::parse("x", &good.replace(line, bad)).unwrap_err();
            assert_eq!(error.to_string(), "board profile `x` cannot be read");
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let head = "name = \"t\"\nsummary = \"t\"\n";
        for (text, said) in [
            ("x", "line 3: "),
            (
                "watchdgo = 1",
                "line 3: unknown key `watchdgo`, expected name, ",
            ),
            ("[watchdog]\ndevice = 1", "line 4: `device` is a text"),
            ("[storage]\n", "line 3: `blocks` is missing"),
        ] {
            let error = BoardProfile::parse("x", &format!("{head}{text}")).unwrap_err();
            let source = error.source().unwrap().to_string();
            assert!(source.starts_with(said), "{source}");
        }
    }

    #[test]
    fn numbers_that_no_board_can_have_are_refused() {
        let good = include_str!("../boards/fake.toml");
        for (line, bad, said) in [
            (
                "timeout_s = 15",
                "timeout_s = 1",
                "watchdog.timeout_s is 2 to 600",
            ),
            (
                "timeout_s = 15",
                "timeout_s = 70000",
                "watchdog.timeout_s is 2 to 600",
            ),
            (
                "timeout_s = 15",
                "timeout_s = 601",
                "watchdog.timeout_s is 2 to 600",
            ),
            (
                "[power_fail_input]",
                "[power_fail_input]\nfail_after_ms = 10001",
                "power_fail_input.fail_after_ms is at most 10000",
            ),
            (
                "[power_fail_input]",
                "[power_fail_input]\ngood_after_ms = 600001",
                "power_fail_input.good_after_ms is at most 600000",
            ),
            (
                "millivolts_per_unit = 11.0",
                "millivolts_per_unit = 0.0",
                "supply_voltage.millivolts_per_unit is a number, not 0",
            ),
        ] {
            assert!(good.contains(line), "{line}");
            let error = BoardProfile::parse("x", &good.replace(line, bad)).unwrap_err();
            assert_eq!(error.to_string(), format!("board profile `x`: {said}"));
        }
    }
}
