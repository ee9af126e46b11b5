//! The timer that resets the board when the gateway hangs.
//!
//! Invariant: only [`Watchdog::close`] disarms it. Dropping without closing lets the board reset,
//! because a gateway that vanished is what the watchdog is there for.

use std::io;
use std::time::Duration;

/// An armed watchdog.
pub trait Watchdog {
    /// How long the board waits for the next [`Watchdog::pet`]. Pet at less than half of it.
    fn timeout(&self) -> Duration;

    /// Postpones the reset by another timeout.
    ///
    /// # Errors
    /// When the device cannot be written: the board will reset. Save what can be saved.
    fn pet(&mut self) -> io::Result<()>;

    /// Disarms it before an orderly stop (the "magic close" of Linux, kernel documentation
    /// `watchdog/watchdog-api.rst`).
    ///
    /// # Errors
    /// When the device refuses; kernels built with `CONFIG_WATCHDOG_NOWAYOUT` reset all the same.
    fn close(self: Box<Self>) -> io::Result<()>;
}
