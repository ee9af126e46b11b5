//! A board, opened: what its profile names and what of it is really there.
//!
//! Invariant: a part that cannot be had is told and left out; it never keeps the others away.

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::light::Light;
use crate::linux::gpio::CdevLine;
use crate::linux::led::SysfsLed;
use crate::linux::sensors::SysfsSensors;
use crate::linux::watchdog::{LinuxWatchdog, Told, claims};
use crate::linux::{FilePin, below};
use crate::linux::{gpio, led};
use crate::pin::{Input, Output, PinError};
use crate::profile::{BoardProfile, InputSource, Lamp, PowerFailInput, StatusLed, WatchdogDevice};
use crate::sensors::Sensors;
use crate::watchdog::Watchdog;

/// What a board offers.
pub struct Board {
    /// The light.
    pub light: Option<Light>,
    /// The watchdog, armed.
    pub watchdog: Option<Box<dyn Watchdog + Send>>,
    /// High while the supply fails.
    pub power_fail: Option<Input>,
    /// What it says about its health.
    pub sensors: Box<dyn Sensors + Send>,
}

/// A part that the profile names and the box does not have as it says.
#[derive(Debug, Error)]
pub enum PartError {
    /// A lamp cannot be written: wrong profile, or not our right.
    #[error("status light")]
    Light(#[source] PinError),
    /// The watchdog cannot be opened: no driver, not our right, or held by another program.
    #[error("watchdog {device}")]
    Watchdog {
        /// The device.
        device: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It runs, and waits for another time than asked. It is used all the same.
    #[error("watchdog {device} waits {} s, {} s were asked for", got.as_secs(), asked.as_secs())]
    Timeout {
        /// The device.
        device: String,
        /// What the profile says.
        asked: Duration,
        /// What the device says.
        got: Duration,
    },
    /// It takes what is written and does not say how long it waits. It is used all the same.
    #[error("watchdog {device} does not say how long it waits")]
    NoTimeout {
        /// The device.
        device: String,
    },
    /// The power-fail input cannot be read: nobody will be warned before the supply goes.
    #[error("power-fail input")]
    PowerFail(#[source] PinError),
}

impl Board {
    /// Opens everything that `profile` names below `root`, and tells what is not as it says. Arms
    /// the watchdog.
    #[must_use]
    pub fn open(profile: &BoardProfile, root: &Path) -> (Self, Vec<PartError>) {
        let mut troubles = Vec::new();
        let light = profile.status_led.as_ref().and_then(|led| {
            let light = light(led, root).map_err(PartError::Light);
            light.map_err(|error| troubles.push(error)).ok()
        });
        let power_fail = profile.power_fail_input.as_ref().and_then(|wanted| {
            let input = Self::power_fail(wanted, root).map_err(PartError::PowerFail);
            input.map_err(|error| troubles.push(error)).ok()
        });
        let wanted = profile.watchdog.as_ref();
        let watchdog = wanted.and_then(|wanted| watchdog(wanted, root, &mut troubles));
        let board = Self {
            light,
            watchdog,
            power_fail,
            sensors: Self::sensors(profile, root),
        };
        (board, troubles)
    }

    /// What would not be as `profile` says, without driving anything and without arming the
    /// watchdog. `is_running`: a gateway holds the board's devices now.
    #[must_use]
    pub fn examine(profile: &BoardProfile, root: &Path, is_running: bool) -> Vec<PartError> {
        let mut troubles = Vec::new();
        let led = profile.status_led.iter();
        let lamps = led.flat_map(|led| [Some(&led.green), led.red.as_ref()]);
        let mut looks = lamps.flatten().map(|lamp| match lamp {
            Lamp::Led(name) => led::examine(root, name),
            Lamp::Gpio(line) => gpio::examine(root, line),
        });
        // One of two lamps is enough to say so.
        if let Some(Err(error)) = looks.find(Result::is_err) {
            troubles.push(PartError::Light(error));
        }
        if let Some(wanted) = &profile.power_fail_input {
            let looked = match &wanted.input {
                InputSource::Gpio(line) if is_running => gpio::examine(root, line),
                _ => Self::power_fail(wanted, root).map(drop),
            };
            troubles.extend(looked.map_err(PartError::PowerFail).err());
        }
        let watchdog = profile.watchdog.as_ref();
        troubles.extend(watchdog.and_then(|wanted| examine_watchdog(wanted, root, is_running)));
        troubles
    }

    /// What looks at the board's health; opens nothing.
    #[must_use]
    pub fn sensors(profile: &BoardProfile, root: &Path) -> Box<dyn Sensors + Send> {
        Box::new(SysfsSensors::new(profile, root))
    }

    /// The power-fail input alone.
    ///
    /// # Errors
    /// [`PinError`]: it cannot be read.
    pub fn power_fail(wanted: &PowerFailInput, root: &Path) -> Result<Input, PinError> {
        Ok(match &wanted.input {
            InputSource::Gpio(line) => Box::new(CdevLine::input(root, line)?),
            InputSource::File(file) => Box::new(FilePin::open(below(root, &file.path), &file.yes)?),
        })
    }
}

fn examine_watchdog(wanted: &WatchdogDevice, root: &Path, is_running: bool) -> Option<PartError> {
    let claims = claims(root, wanted);
    let device = wanted.device.clone();
    let asked = Duration::from_secs(wanted.timeout_s.into());
    let kind = if !claims.exists {
        io::ErrorKind::NotFound
    } else if !claims.is_ours {
        io::ErrorKind::PermissionDenied
    } else if claims.is_held == Some(true) && !is_running {
        io::ErrorKind::ResourceBusy
    } else {
        let most = claims.timeout_max_s.map(Duration::from_secs);
        let got = most.filter(|most| *most < asked)?;
        return Some(PartError::Timeout { device, asked, got });
    };
    let source = kind.into();
    Some(PartError::Watchdog { device, source })
}

fn light(led: &StatusLed, root: &Path) -> Result<Light, PinError> {
    let lamp = |lamp: &Lamp| -> Result<Output, PinError> {
        Ok(match lamp {
            Lamp::Led(name) => Box::new(SysfsLed::open(root, name)?),
            Lamp::Gpio(line) => Box::new(CdevLine::output(root, line)?),
        })
    };
    let red = led.red.as_ref().map(lamp).transpose()?;
    Ok(Light::new(lamp(&led.green)?, red))
}

fn watchdog(
    wanted: &WatchdogDevice,
    root: &Path,
    troubles: &mut Vec<PartError>,
) -> Option<Box<dyn Watchdog + Send>> {
    let device = wanted.device.clone();
    match LinuxWatchdog::open(root, wanted) {
        Ok((watchdog, told)) => {
            troubles.extend(match told {
                Told::AsAsked => None,
                Told::Instead(got) => Some(PartError::Timeout {
                    device,
                    asked: Duration::from_secs(wanted.timeout_s.into()),
                    got,
                }),
                Told::Nothing => Some(PartError::NoTimeout { device }),
            });
            Some(Box::new(watchdog))
        }
        Err(source) => {
            troubles.push(PartError::Watchdog { device, source });
            None
        }
    }
}
