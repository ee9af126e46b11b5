//! Teltonika tracker protocol.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod crc;
mod imei;

pub use imei::{IMEI_DIGITS, Imei, ImeiError};
