//! The boards a gateway runs on, told apart from what the gateway does there.
//!
//! A profile says what a board has; the traits say what the gateway may ask of it. Nothing here
//! knows trackers, spools or Redis, so a new board is a TOML file and, at most, one driver.
//!
//! Invariant: a board that lacks something says so in its profile; no caller guesses from a name.

mod led;
mod profile;
mod watchdog;

pub mod fake;

pub use led::{LedState, StatusLed};
pub use profile::{BoardError, BoardProfile, GpioInput, LedPaths, WatchdogDevice};
pub use watchdog::Watchdog;
