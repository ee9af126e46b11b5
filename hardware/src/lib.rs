//! The boards a gateway runs on, told apart from what the gateway does there.
//!
//! A profile says what a board has, [`Board::open`] what of it is really there, and the traits what
//! the gateway may ask of it. Nothing here knows trackers, spools or Redis.
//!
//! Judgement is pure and takes the time as an argument: [`blink`] (how a light says something),
//! [`pet`] (when the watchdog is fed), [`power`] (when a wobbling input counts). What speaks to
//! Linux is in `linux`, one part a file, and joins every path to a root directory, so that a test
//! runs against a tree of files of its own.
//!
//! # Adding a board
//!
//! Put a file `NAME.toml` into `boards/`; nothing else. The build lists that folder, `board.profile
//! = "NAME"` finds it, and the tests of this crate read it. [`BoardProfile`] lists every key;
//! `docs/hardware.md` says where to find the values on a running board.
//!
//! Invariant: a board that lacks something says so in its profile; no caller guesses from a name.

pub mod blink;
mod board;
pub mod fake;
mod light;
mod linux;
pub mod pet;
mod pin;
pub mod power;
mod profile;
mod sensors;
pub mod serial;
mod table;
mod watchdog;

pub use blink::LedState;
pub use board::{Board, PartError};
pub use light::Light;
pub use linux::is_read_only;
pub use linux::watchdog::{Claims, claims};
pub use pin::{Input, Output, PinError};
pub use profile::{
    BoardError, BoardProfile, FileInput, Gauge, GpioLine, InputSource, Lamp, Modem, PowerFailInput,
    StatusLed, Storage, SupplyVoltage, WatchdogDevice,
};
pub use sensors::{PreEol, Readings, Sensors, StorageHealth};
pub use serial::{NoSerialLine, SerialError, SerialLine, SerialPort};
pub use table::Wrong;
pub use watchdog::Watchdog;
