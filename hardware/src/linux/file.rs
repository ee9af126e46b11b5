//! An input that the kernel shows as a file with a word in it.

use std::path::PathBuf;

use embedded_hal::digital::{ErrorType, InputPin};

use super::word;
use crate::pin::PinError;

/// High while the file says one word. Opened anew each time: drivers come and go.
pub(crate) struct FilePin {
    path: PathBuf,
    yes: String,
}

impl FilePin {
    /// # Errors
    /// [`PinError`] when the file cannot be read now.
    pub(crate) fn open(path: PathBuf, yes: &str) -> Result<Self, PinError> {
        let pin = Self {
            path,
            yes: yes.to_owned(),
        };
        pin.says_yes().map(|_| pin)
    }

    fn says_yes(&self) -> Result<bool, PinError> {
        let said = word(&self.path).map_err(|source| PinError {
            place: self.path.display().to_string(),
            source,
        })?;
        Ok(said == self.yes)
    }
}

impl ErrorType for FilePin {
    type Error = PinError;
}

impl InputPin for FilePin {
    fn is_high(&mut self) -> Result<bool, PinError> {
        self.says_yes()
    }

    fn is_low(&mut self) -> Result<bool, PinError> {
        self.says_yes().map(|yes| !yes)
    }
}
