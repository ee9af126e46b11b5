//! The one light a driver at the depot can read without a phone.

use std::io;

/// What the light says, from best to worst, and that nobody is speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedState {
    /// Green, steady: every stage moved lately.
    Moving,
    /// Amber, blinking: records are safe in the spool and cannot leave.
    Buffering,
    /// Red: data is at risk, or trackers no longer get an ACK.
    AtRisk,
    /// Dark: the gateway is not running.
    Off,
}

/// A light that can be told what to say.
pub trait StatusLed {
    /// Shows `state` until told otherwise. Saying the same twice changes nothing.
    ///
    /// # Errors
    /// When the device cannot be written. Log it and go on: a broken light is no reason to stop.
    fn show(&mut self, state: LedState) -> io::Result<()>;
}
