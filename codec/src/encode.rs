//! The other direction: what a device says, for simulators and tests, and the commands a
//! server sends.
//!
//! Nothing is allocated: a frame needs its length in front, so its body is written twice,
//! first to be counted, then for good with the checksum running along. Whatever cannot be
//! said on the wire (an id above 255 in Codec 8, 256 records) is found while counting,
//! before the first byte goes out.

mod avl;
mod codec7;
mod datagram;
mod message;

use crate::crc;
use crate::frame::{self, PING};
use crate::imei::Imei;
use crate::login::{ACCEPT, REFUSE};
use crate::sink::{Full, Sink};

pub use avl::{IoSpec, IoValue, RecordSpec, avl_data, avl_frame};
pub use codec7::{Codec7Gps, Codec7Spec, codec7_data, codec7_frame};
pub use datagram::{DatagramSpec, avl_datagram, channel_ack, datagram, datagram_answer};
pub use message::{MessageSpec, camera_frame, command, message_frame, messages_frame};

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The sink has no room. What it took before is an incomplete message.
    #[error("the sink is full")]
    Full(#[from] Full),
    /// More than the count byte can say: send several frames.
    #[error("{records} records, a frame holds 255")]
    TooManyRecords {
        /// How many there were.
        records: usize,
    },
    /// More than the codec's count can say.
    #[error("record {record} has {elements} IO elements, this codec counts to {elements_max}")]
    TooManyElements {
        /// Which record, from 0.
        record: usize,
        /// How many elements.
        elements: usize,
        /// What the count can say.
        elements_max: usize,
    },
    /// Codecs 7 and 8 have one-byte ids: use 8 Extended.
    #[error("record {record}: id {id} does not fit the one-byte ids of this codec")]
    IdTooWide {
        /// Which record, from 0.
        record: usize,
        /// The IO id or event IO id.
        id: u16,
    },
    /// Only Codec 8 Extended has a variable group.
    #[error("record {record}: id {id} has a variable value, only Codec 8 Extended has those")]
    VariableValue {
        /// Which record, from 0.
        record: usize,
        /// The IO id.
        id: u16,
    },
    /// Only Codec 8 has a group of sixteen-byte values, on some firmware.
    #[error("record {record}: id {id} has a sixteen-byte value, only Codec 8 may have those")]
    SixteenByteValue {
        /// Which record, from 0.
        record: usize,
        /// The IO id.
        id: u16,
    },
    /// Codec 7 has groups of one, two and four bytes.
    #[error("record {record}: id {id} has a value of a width that Codec 7 lacks")]
    NotInCodec7 {
        /// Which record, from 0.
        record: usize,
        /// The IO id.
        id: u16,
    },
    /// Codec 7 has two bits for the priority.
    #[error("record {record}: priority {priority} does not fit the two bits of Codec 7")]
    PriorityTooWide {
        /// Which record, from 0.
        record: usize,
        /// The priority byte.
        priority: u8,
    },
    /// Codec 7 counts 30 bits of seconds from 2007: to the start of 2041.
    #[error("record {record}: {timestamp_s} s is not within 2007 to 2040, all that Codec 7 has")]
    TimeOutOfRange {
        /// Which record, from 0.
        record: usize,
        /// Seconds since 1970-01-01 UTC.
        timestamp_s: u32,
    },
    /// More than the count byte can say: send several frames.
    #[error("{messages} messages, a frame holds 255")]
    TooManyMessages {
        /// How many there were.
        messages: usize,
    },
    /// Without a message there is no codec to name.
    #[error("a frame of no messages has no codec id")]
    NoMessages,
    /// A frame has one codec id for all its messages.
    #[error("message {message} is not of the codec that the frame is of")]
    MixedCodecs {
        /// Which message, from 0.
        message: usize,
    },
    /// A chunk of no bytes reads as a request: send none.
    #[error("a camera chunk of no bytes would read as a request")]
    AmbiguousChunk,
    /// A login of no length reads as a preamble.
    #[error("an identity of no bytes would read as the start of a frame")]
    NoIdentity,
    /// Longer than the length field can say.
    #[error("{bytes} bytes do not fit the length field")]
    TooLong {
        /// How many bytes.
        bytes: usize,
    },
}

/// Writes a login: 17 bytes.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn login(imei: Imei, sink: &mut impl Sink) -> Result<(), EncodeError> {
    login_as(&imei.to_digits(), sink)
}

/// Writes the login of a device that calls itself something else.
///
/// # Errors
/// [`EncodeError::NoIdentity`]; [`EncodeError::TooLong`] from 65 280 bytes up, where the
/// length would begin with the byte of a ping; [`EncodeError::Full`].
pub fn login_as(identity: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    let bytes = identity.len();
    match u16::try_from(bytes) {
        Ok(0) => Err(EncodeError::NoIdentity),
        Ok(length) if length.to_be_bytes()[0] != PING => {
            sink.put(&length.to_be_bytes())?;
            Ok(sink.put(identity)?)
        }
        _ => Err(EncodeError::TooLong { bytes }),
    }
}

/// Writes the one-byte answer to a login.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn login_answer(accepted: bool, sink: &mut impl Sink) -> Result<(), EncodeError> {
    Ok(sink.put(&[if accepted { ACCEPT } else { REFUSE }])?)
}

/// Writes the answer to a frame of records: how many were taken.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn ack(count: u32, sink: &mut impl Sink) -> Result<(), EncodeError> {
    Ok(sink.put(&frame::ack(count))?)
}

/// Writes the keep-alive byte of an idle device.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn ping(sink: &mut impl Sink) -> Result<(), EncodeError> {
    Ok(sink.put(&[PING])?)
}

/// Writes a frame around a data field that is already there (codec id to second count).
///
/// The data field is not looked at, so tests can frame nonsense.
///
/// # Errors
/// [`EncodeError::TooLong`] above `u32::MAX` bytes, [`EncodeError::Full`].
pub fn frame(data: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| Ok(sink.put(data)?))
}

type Body<'b> = &'b dyn Fn(&mut dyn Sink) -> Result<(), EncodeError>;

fn framed(sink: &mut dyn Sink, body: Body<'_>) -> Result<(), EncodeError> {
    let mut count = Count { bytes: 0 };
    body(&mut count)?;
    let length = length_field(count.bytes)?;
    sink.put(&[0; 4])?;
    sink.put(&length)?;
    let mut summed = Summed { sink, crc: 0 };
    body(&mut summed)?;
    let crc = u32::from(summed.crc);
    Ok(sink.put(&crc.to_be_bytes())?)
}

struct Count {
    bytes: usize,
}

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.bytes = self
            .bytes
            .checked_add(bytes.len())
            .ok_or(Full { bytes: bytes.len() })?;
        Ok(())
    }
}

struct Summed<'s> {
    sink: &'s mut dyn Sink,
    crc: u16,
}

impl Sink for Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.crc = crc::update(self.crc, bytes);
        self.sink.put(bytes)
    }
}

fn length_field(bytes: usize) -> Result<[u8; 4], EncodeError> {
    let length = u32::try_from(bytes).map_err(|_| EncodeError::TooLong { bytes })?;
    Ok(length.to_be_bytes())
}
