//! A lamp of `/sys/class/leds`. Source: kernel documentation, `leds/leds-class.rst`.
//!
//! Invariant: whatever the kernel let the lamp show before is switched off when it is opened, and
//! no file is ever made.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use embedded_hal::digital::{ErrorType, OutputPin};
use rustix::fs::{Access, access};

use super::{below, word};
use crate::pin::PinError;

/// One lamp.
pub(crate) struct SysfsLed {
    brightness: PathBuf,
    /// What full brightness is: 1 for most, 255 for those that can be dimmed.
    lit: String,
}

impl SysfsLed {
    /// # Errors
    /// [`PinError`] when the lamp is not there or not ours to write.
    pub(crate) fn open(root: &Path, name: &str) -> Result<Self, PinError> {
        let dir = below(root, "/sys/class/leds").join(name);
        let trigger = dir.join("trigger");
        // A kernel without triggers has no such file.
        if trigger.exists() {
            write(&trigger, "none")?;
        }
        let led = Self {
            brightness: dir.join("brightness"),
            lit: word(&dir.join("max_brightness")).unwrap_or_else(|_| "1".to_owned()),
        };
        write(&led.brightness, "0")?;
        Ok(led)
    }
}

/// Could the lamp be opened? Nothing is written.
/// # Errors
/// [`PinError`].
pub(crate) fn examine(root: &Path, name: &str) -> Result<(), PinError> {
    let brightness = below(root, "/sys/class/leds").join(name).join("brightness");
    access(&brightness, Access::WRITE_OK).map_err(|errno| PinError {
        place: brightness.display().to_string(),
        source: errno.into(),
    })
}

fn write(path: &Path, text: &str) -> Result<(), PinError> {
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    written().map_err(|source| PinError {
        place: path.display().to_string(),
        source,
    })
}

impl ErrorType for SysfsLed {
    type Error = PinError;
}

impl OutputPin for SysfsLed {
    fn set_low(&mut self) -> Result<(), PinError> {
        write(&self.brightness, "0")
    }

    fn set_high(&mut self) -> Result<(), PinError> {
        write(&self.brightness, &self.lit)
    }
}
