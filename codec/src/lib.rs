//! Teltonika tracker protocol.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod codec_id;
pub mod crc;
pub mod frame;
mod imei;
pub mod login;

pub use codec_id::{AvlCodec, CodecId, MessageCodec};
pub use frame::{CloseReason, Cut, Expect, Frame, Limits, RefuseReason, ack, cut};
pub use imei::{IMEI_DIGITS, Imei, ImeiError};
pub use login::Login;
