//! Teltonika tracker protocol.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod avl;
mod codec_id;
pub mod crc;
pub mod datagram;
pub mod encode;
mod error;
pub mod frame;
mod imei;
pub mod io;
pub mod login;
pub mod message;
pub mod record;
mod sink;

pub use avl::AvlData;
pub use codec_id::{AvlCodec, CodecId, MessageCodec};
pub use datagram::{Datagram, DatagramError, DatagramReason};
pub use error::{BodyError, BodyReason, Stage};
pub use frame::{CloseReason, Cut, Expect, Frame, Limits, RefuseReason, ack, cut};
pub use imei::{IMEI_DIGITS, Imei, ImeiError};
pub use io::{IoElement, IoWidth};
pub use login::Login;
pub use message::{Message, MessageData};
pub use record::{AvlRecord, GenerationType, Priority};
pub use sink::{Full, Sink, SliceSink};
