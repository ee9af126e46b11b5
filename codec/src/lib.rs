//! Teltonika's tracker protocol: what a device says, cut from the stream, checked and read
//! without copying, and what it wants to hear.
//!
//! # The conversation
//!
//! A device opens a TCP connection and says who it is: a length and its IMEI in ASCII. One
//! byte answers, [`login::ACCEPT`] or [`login::REFUSE`]. From then on it sends frames:
//!
//! ```text
//! 00 00 00 00 | length N | codec id · count · … · count | 00 00 CRC-16
//!   preamble     4 bytes    N bytes, the data field         4 bytes
//! ```
//!
//! and waits, after each one, for the number of records that were taken ([`ack`]). If it is
//! the number the device sent, the device forgets them; any other number, or silence, and
//! it sends them again. So two rules govern everything that calls this crate:
//!
//! * Answer only when the records are safe, because the answer is what erases them.
//! * Never answer 0 for content you do not understand, because the device would repeat the
//!   frame for ever and everything behind it would wait. Only a wrong checksum is refused.
//!
//! An idle device may send the single byte `FF`, before the login too; it wants no answer.
//! Commands travel the other way as Codec 12 or 14 messages, and messages get no count.
//!
//! # The layers
//!
//! * [`cut`] looks at lengths and checksums alone and says the caller's next move: read
//!   on, skip a ping, answer a login, keep a frame, refuse it, hang up. This is all a
//!   gateway needs. [`Datagram`] is its counterpart for UDP.
//! * [`AvlData`] (codecs 8, 8 Extended, 16) and [`MessageData`] (12 to 15) read a data
//!   field. Parsing walks it once; after that the iterators cannot fail. Everything is a
//!   `Copy` view of the caller's bytes, and unknown values are kept, not rejected.
//! * [`encode`] writes logins, frames and commands into any [`Sink`].
//!
//! What an IO id means, and whether its value has a sign, depends on the model of the
//! device and is decided elsewhere. Codec 7, the beacon lists inside IO elements and the
//! camera protocol are not read yet; their frames are cut and answered like any other.
//!
//! # Reading a frame
//!
//! ```
//! use codec::{AvlData, Cut, Expect, Limits, Priority};
//!
//! // The first Codec 8 example of the manufacturer's wiki.
//! let mut input = [0u8; 66];
//! hex::decode_to_slice(
//!     "000000000000003608010000016B40D8EA300100000000000000000000000000000001050215030101\
//!      01425E0F01F10000601A014E0000000000000000010000C7CF",
//!     &mut input,
//! )?;
//!
//! // A part of it: how long the input must get.
//! let cut = codec::cut(&input[..20], Expect::Frame, Limits::default());
//! assert_eq!(cut, Cut::NeedMore { needed: 66 });
//!
//! let Cut::Frame(frame) = codec::cut(&input, Expect::Frame, Limits::default()) else {
//!     panic!("the checksum holds");
//! };
//! assert_eq!(frame.ack(), Some([0, 0, 0, 1]));
//!
//! let avl = AvlData::parse(frame.data())?;
//! let record = avl.records().next().expect("its count is 1");
//! assert_eq!(record.timestamp_ms, 1_560_161_086_000);
//! assert_eq!(record.priority, Priority::High);
//!
//! let voltage = record.io().find(|element| element.id == 66).expect("it has five elements");
//! assert_eq!(voltage.as_u64(), Some(24_079));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! None by default, and then neither std nor an allocator is needed. `alloc` lets encoders
//! write into a `Vec<u8>`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod avl;
pub mod codec7;
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
#[cfg(feature = "alloc")]
pub mod owned;
pub mod record;
mod record_buf;
#[cfg(feature = "serde")]
mod serial;
mod sink;

pub use avl::{AvlData, most_urgent};
pub use codec_id::{AvlCodec, CodecId, MessageCodec};
pub use codec7::{Codec7Data, Codec7Record};
pub use datagram::{Datagram, DatagramError, DatagramReason};
pub use error::{BodyError, BodyReason, Stage};
pub use frame::{CloseReason, Cut, Expect, Frame, Limits, RefuseReason, ack, cut};
pub use imei::{IMEI_DIGITS, Imei, ImeiError};
pub use io::{IoElement, IoWidth};
pub use login::Login;
pub use message::{Message, MessageData};
#[cfg(feature = "alloc")]
pub use owned::{OwnedAvlData, OwnedRecord};
pub use record::{AvlRecord, GenerationType, Priority, RecordHead};
pub use record_buf::{RecordBuf, RecordTooLong};
pub use sink::{Full, Sink, SliceSink};
