//! One line of a GPIO chip, through the character device.
//!
//! Why `gpiocdev-uapi`: the numbers and layouts of the kernel are its business, and all we want is
//! one line at a time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use gpiocdev_uapi::v2::{
    Error, LineConfig, LineFlags, LineRequest, LineValues, Offsets, get_chip_info, get_line,
    get_line_values, set_line_values,
};

use super::below;
use crate::pin::PinError;
use crate::profile::GpioLine;

/// Who holds the line, as `gpioinfo` shows it.
const CONSUMER: &str = "milepost";

/// A line that is ours until this is dropped.
pub(crate) struct CdevLine {
    request: File,
    place: String,
}

impl CdevLine {
    /// A line to be looked at.
    /// # Errors
    /// [`PinError`] when there is no such chip or line, or somebody else holds it.
    pub(crate) fn input(root: &Path, line: &GpioLine) -> Result<Self, PinError> {
        Self::open(root, line, LineFlags::INPUT)
    }

    /// A line to be driven; low at first.
    /// # Errors
    /// As [`CdevLine::input`].
    pub(crate) fn output(root: &Path, line: &GpioLine) -> Result<Self, PinError> {
        Self::open(root, line, LineFlags::OUTPUT)
    }

    fn open(root: &Path, line: &GpioLine, mut flags: LineFlags) -> Result<Self, PinError> {
        let place = place(line);
        flags.set(LineFlags::ACTIVE_LOW, line.active_low);
        let request = LineRequest {
            offsets: Offsets::from_slice(&[line.line]),
            consumer: CONSUMER.into(),
            config: LineConfig {
                flags,
                ..LineConfig::default()
            },
            num_lines: 1,
            ..LineRequest::default()
        };
        let opened = chip(root, &line.chip).and_then(|chip| get_line(&chip, request).map_err(of));
        match opened {
            Ok(request) => Ok(Self { request, place }),
            Err(source) => Err(PinError { place, source }),
        }
    }

    fn failed(&self, error: Error) -> PinError {
        PinError {
            place: self.place.clone(),
            source: of(error),
        }
    }

    fn set(&mut self, high: bool) -> Result<(), PinError> {
        let values = LineValues::from_slice(&[high]);
        set_line_values(&self.request, &values).map_err(|error| self.failed(error))
    }

    fn get(&self) -> Result<bool, PinError> {
        let mut values = LineValues::from_slice(&[false]);
        get_line_values(&self.request, &mut values).map_err(|error| self.failed(error))?;
        Ok(values.get(0) == Some(true))
    }
}

fn place(line: &GpioLine) -> String {
    format!("line {} of {}", line.line, line.chip)
}

/// Is the chip there and ours? The line is left to whoever holds it.
/// # Errors
/// [`PinError`].
pub(crate) fn examine(root: &Path, line: &GpioLine) -> Result<(), PinError> {
    let opened = chip(root, &line.chip).map(drop);
    opened.map_err(|source| PinError {
        place: place(line),
        source,
    })
}

fn of(error: Error) -> io::Error {
    match error {
        Error::Os(errno) => io::Error::from_raw_os_error(errno.0),
        other => io::Error::other(other),
    }
}

/// The chip of this device, or with this label.
fn chip(root: &Path, name: &str) -> io::Result<File> {
    if name.starts_with('/') {
        return open(&below(root, name));
    }
    let mut refused = None;
    for device in devices(root)? {
        match open(&device) {
            Ok(chip) => {
                let label = get_chip_info(&chip).map(|info| String::from(&info.label));
                if label.is_ok_and(|label| label == name) {
                    return Ok(chip);
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let words = format!("no chip in /dev has the label {name}; `gpiodetect` lists them");
        io::Error::new(io::ErrorKind::NotFound, words)
    }))
}

fn devices(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut devices = Vec::new();
    for entry in std::fs::read_dir(below(root, "/dev"))? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"gpiochip")
        {
            devices.push(entry.path());
        }
    }
    Ok(devices)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

impl ErrorType for CdevLine {
    type Error = PinError;
}

impl OutputPin for CdevLine {
    fn set_low(&mut self) -> Result<(), PinError> {
        self.set(false)
    }

    fn set_high(&mut self) -> Result<(), PinError> {
        self.set(true)
    }
}

impl InputPin for CdevLine {
    fn is_high(&mut self) -> Result<bool, PinError> {
        self.get()
    }

    fn is_low(&mut self) -> Result<bool, PinError> {
        self.get().map(|high| !high)
    }
}
