//! One digital line, in or out, behind the traits that drivers of lamps and switches are written
//! for.
//!
//! Invariant: high means the thing itself, never a voltage: lit, or failing. Whether a low voltage
//! means it is settled where the line is opened.

use std::io;

use embedded_hal::digital::{self, ErrorKind, InputPin, OutputPin};
use thiserror::Error;

/// A line did not do what it was told. Log it and go on: no lamp is a reason to stop.
#[derive(Debug, Error)]
#[error("{place}")]
pub struct PinError {
    /// The file or device.
    pub place: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl digital::Error for PinError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// A line we drive.
pub type Output = Box<dyn OutputPin<Error = PinError> + Send>;

/// A line we look at.
pub type Input = Box<dyn InputPin<Error = PinError> + Send>;
