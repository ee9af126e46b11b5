//! What a body error says: in which part, at which byte, why.
//!
//! Offsets count from the codec id byte, so they hold for a data field from a frame, from
//! a datagram or from storage alike. nom stays inside: its error is [`Fault`], which
//! remembers the input left at the point of failure and is turned into an offset here.

use core::fmt;

use nom::error::{ErrorKind, ParseError};

use crate::io::IoWidth;

/// A data field that does not read as its codec id promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{stage}, byte {offset}: {reason}")]
pub struct BodyError {
    /// Which part of the data field.
    pub stage: Stage,
    /// The first byte that does not fit, counted from the codec id.
    pub offset: usize,
    /// What is wrong there.
    pub reason: BodyReason,
}

/// The part that was being read, of a data field or of what it travels in. Records and
/// messages count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The login of a connection.
    Login,
    /// The four zero bytes in front of a frame.
    Preamble,
    /// The length field of a frame or datagram.
    Length,
    /// The checksum behind a frame.
    Checksum,
    /// A datagram's ids and identity.
    DatagramHead,
    /// The codec id.
    CodecId,
    /// The count in front of the records or messages.
    FirstCount,
    /// A record from its time to its speed.
    RecordHead {
        /// Which record.
        record: u8,
    },
    /// A record's event IO id, generation type and number of elements.
    IoHeader {
        /// Which record.
        record: u8,
    },
    /// One group of IO elements.
    IoGroup {
        /// Which record.
        record: u8,
        /// Which group.
        width: IoWidth,
    },
    /// A message's type and size.
    MessageHead {
        /// Which message.
        message: u8,
    },
    /// What a message carries.
    MessageBody {
        /// Which message.
        message: u8,
    },
    /// The count behind the records or messages.
    SecondCount,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Login => f.write_str("login"),
            Stage::Preamble => f.write_str("preamble"),
            Stage::Length => f.write_str("length"),
            Stage::Checksum => f.write_str("checksum"),
            Stage::DatagramHead => f.write_str("datagram head"),
            Stage::CodecId => f.write_str("codec id"),
            Stage::FirstCount => f.write_str("first count"),
            Stage::RecordHead { record } => write!(f, "record {record}, head"),
            Stage::IoHeader { record } => write!(f, "record {record}, IO header"),
            Stage::IoGroup { record, width } => write!(f, "record {record}, {width} IO group"),
            Stage::MessageHead { message } => write!(f, "message {message}, head"),
            Stage::MessageBody { message } => write!(f, "message {message}, body"),
            Stage::SecondCount => f.write_str("second count"),
        }
    }
}

/// What is wrong with a data field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyReason {
    /// The field that begins here is longer than what is left.
    #[error("the data ends inside this field")]
    Truncated,
    /// Not a codec that the called reader reads.
    #[error("codec {found:#04x} is not read here")]
    Codec {
        /// The codec id.
        found: u8,
    },
    /// The record says it has another number of IO elements than its groups add up to.
    #[error("{stated} IO elements announced, the groups have {counted}")]
    IoTotal {
        /// The record's own number.
        stated: u16,
        /// Sum over the groups.
        counted: u32,
    },
    /// The records end before the second count.
    #[error("{left} bytes left over before the second count")]
    LeftOver {
        /// How many bytes.
        left: usize,
    },
    /// First and second count differ.
    #[error("the second count is {second}, the first was {first}")]
    CountMismatch {
        /// Count in front.
        first: u8,
        /// Count behind.
        second: u8,
    },
    /// The message is too small for the time or IMEI its codec puts in front.
    #[error("size {size} is below the {size_min} bytes this codec puts in front")]
    MessageSize {
        /// The size field.
        size: u32,
        /// Bytes of time and IMEI.
        size_min: u32,
    },
}

/// Where nom gave up: `at` is the input that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    pub(crate) at: &'a [u8],
}

impl<'a> ParseError<&'a [u8]> for Fault<'a> {
    // `complete` parsers of fixed-width fields and `take` fail in one way only.
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Fault { at }
    }

    fn append(_: &'a [u8], _: ErrorKind, first: Self) -> Self {
        first
    }
}

pub(crate) type Read<'a, T> = nom::IResult<&'a [u8], T, Fault<'a>>;

/// Gives a nom result its place: `region` is what offsets count in, and what every input
/// seen by the parser is a tail of.
pub(crate) fn placed<'a, T>(
    region: &'a [u8],
    stage: Stage,
    read: Read<'a, T>,
) -> Result<(&'a [u8], T), BodyError> {
    read.map_err(|error| {
        let left = match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => fault.at.len(),
            nom::Err::Incomplete(_) => 0,
        };
        BodyError {
            stage,
            offset: region.len() - left,
            reason: BodyReason::Truncated,
        }
    })
}
