//! Simulated trackers that behave like real ones and keep the truth.
//!
//! [`Fleet`] runs thousands of devices that drive, log in, send, wait for their ACK and send
//! again what was not acknowledged; [`Truth`] is what they said and what they were answered.
//! [`Tracker`] is one connection driven by hand, for tests that misbehave on purpose.
//!
//! A device is a pure machine (`device`); sockets and clocks are in `shell` alone.

mod config;
mod device;
mod dice;
mod drive;
mod frame;
pub mod replay;
mod shell;
mod stats;
mod tracker;
mod truth;
mod vehicle;

#[cfg(test)]
mod shell_tests;

pub use config::{FleetConfig, Profile, Rate, ReplayConfig};
pub use frame::RecordKey;
pub use shell::{Fleet, synthetic_imei};
pub use stats::FleetStats;
pub use tracker::{Said, Tracker};
pub use truth::{Record, Truth};
