//! The same data field over UDP, where every datagram brings its own login and the
//! network's checksum has to do.
//!
//! `u16 length` of what follows, `u16 packet id`, `u8 packet type`, `u8 AVL packet id`,
//! `u16` length of the identity, identity, data field; no preamble, no CRC.
//! Source: wiki "Codec", sending data over UDP.
//!
//! Invariant: one datagram is one message. A length field that disagrees with what the
//! network delivered is an error, never a reason to go looking for a second message.

use nom::Parser;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16};

use crate::codec_id::CodecId;
use crate::error::{Read, Stage};
use crate::frame::DATA_BYTES_MIN;
use crate::imei::{Imei, ImeiError};

/// One datagram, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    packet_id: u16,
    packet_type: u8,
    avl_packet_id: u8,
    identity: &'a [u8],
    // At least DATA_BYTES_MIN long.
    data: &'a [u8],
}

/// The packet type of a datagram that wants [`Datagram::channel_ack`].
pub const TYPE_NEEDS_CHANNEL_ACK: u8 = 0x00;
/// The packet type of every datagram seen: the AVL answer is all it wants.
pub const TYPE_PLAIN: u8 = 0x01;
/// The packet type of a channel acknowledgement.
pub const TYPE_CHANNEL_ACK: u8 = 0x02;

/// Why a datagram cannot be taken apart: drop it, answer nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct DatagramError {
    /// The first byte that does not fit.
    pub offset: usize,
    /// What is wrong there.
    pub reason: DatagramReason,
}

/// What is wrong with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramReason {
    /// The field that begins here is longer than what is left.
    #[error("the datagram ends inside this field")]
    Truncated,
    /// The length field does not match what arrived.
    #[error("length says {stated} bytes, {found} follow it")]
    Length {
        /// The length field.
        stated: u16,
        /// Bytes behind the length field.
        found: usize,
    },
    /// No room for codec id and both counts.
    #[error("a data field of {found} bytes, the least possible is 3")]
    DataTooShort {
        /// Bytes behind the identity.
        found: usize,
    },
}

impl DatagramError {
    /// Which part of the datagram it is about.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self.reason {
            DatagramReason::Length { .. } => Stage::Length,
            // Two bytes are too few for the length field itself.
            DatagramReason::Truncated if self.offset == 0 => Stage::Length,
            DatagramReason::Truncated => Stage::DatagramHead,
            DatagramReason::DataTooShort { found: 0 } => Stage::CodecId,
            DatagramReason::DataTooShort { found: 1 } => Stage::FirstCount,
            DatagramReason::DataTooShort { .. } => Stage::SecondCount,
        }
    }
}

impl<'a> Datagram<'a> {
    /// Takes one whole datagram apart. The data field is not looked at.
    ///
    /// # Errors
    /// [`DatagramError`] with the offset of the first byte that does not fit.
    pub fn parse(input: &'a [u8]) -> Result<Datagram<'a>, DatagramError> {
        let fault = |left: &[u8], reason| DatagramError {
            offset: input.len() - left.len(),
            reason,
        };
        let (rest, stated) = read(be_u16(input)).map_err(|at| fault(at, TRUNCATED))?;
        if usize::from(stated) != rest.len() {
            let reason = DatagramReason::Length {
                stated,
                found: rest.len(),
            };
            return Err(fault(input, reason));
        }
        let (rest, (packet_id, packet_type, avl_packet_id, identity)) =
            read(head(rest)).map_err(|at| fault(at, TRUNCATED))?;
        if rest.len() < DATA_BYTES_MIN {
            return Err(fault(
                rest,
                DatagramReason::DataTooShort { found: rest.len() },
            ));
        }
        Ok(Datagram {
            packet_id,
            packet_type,
            avl_packet_id,
            identity,
            data: rest,
        })
    }

    /// The packet id. Devices were only ever seen to send 0xCAFE: it identifies nothing.
    #[must_use]
    pub const fn packet_id(&self) -> u16 {
        self.packet_id
    }

    /// 1 in every datagram seen; the wiki calls it unusable, older manuals use it to ask
    /// for [`Datagram::channel_ack`]. Kept as sent.
    #[must_use]
    pub const fn packet_type(&self) -> u8 {
        self.packet_type
    }

    /// What the device recognises the answer by.
    #[must_use]
    pub const fn avl_packet_id(&self) -> u8 {
        self.avl_packet_id
    }

    /// The identity exactly as sent.
    #[must_use]
    pub const fn raw_identity(&self) -> &'a [u8] {
        self.identity
    }

    /// The identity as an IMEI.
    ///
    /// # Errors
    /// [`ImeiError`] if it is not fifteen digits.
    pub fn imei(&self) -> Result<Imei, ImeiError> {
        Imei::parse(self.identity)
    }

    /// The data field: codec id to second count, at least 3 bytes.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// How to read the data field.
    #[must_use]
    pub const fn codec_id(&self) -> CodecId {
        CodecId::from_byte(self.data[0])
    }

    /// How many records the datagram says it has: the number to acknowledge.
    #[must_use]
    pub const fn first_count(&self) -> u8 {
        self.data[1]
    }

    /// What to answer once the first `accepted` records are safe: 0 to
    /// [`first_count`](Datagram::first_count). Over UDP a part may be accepted; the device
    /// sends the rest again.
    ///
    /// Both ids are echoed: devices match on the AVL packet id, and no source says that
    /// any of them would mind the other.
    #[must_use]
    pub const fn answer(&self, accepted: u8) -> [u8; 7] {
        let [high, low] = self.packet_id.to_be_bytes();
        let kind = TYPE_PLAIN;
        [0x00, 0x05, high, low, kind, self.avl_packet_id, accepted]
    }

    /// What a datagram of packet type 0 wants besides [`Datagram::answer`]: word that it
    /// arrived, whatever becomes of its records. `None` for all others.
    ///
    /// Source: "FMXXXX Protocols" 2.10, UDP channel protocol.
    #[must_use]
    pub const fn channel_ack(&self) -> Option<[u8; 5]> {
        if self.packet_type != TYPE_NEEDS_CHANNEL_ACK {
            return None;
        }
        let [high, low] = self.packet_id.to_be_bytes();
        Some([0x00, 0x03, high, low, TYPE_CHANNEL_ACK])
    }
}

// Personal data stays out of logs: the IMEI's own Debug, and no payload.
impl core::fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Datagram")
            .field("packet_id", &self.packet_id)
            .field("packet_type", &self.packet_type)
            .field("avl_packet_id", &self.avl_packet_id)
            .field("imei", &self.imei().ok())
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

const TRUNCATED: DatagramReason = DatagramReason::Truncated;

type Head<'a> = (u16, u8, u8, &'a [u8]);

fn head(input: &[u8]) -> Read<'_, Head<'_>> {
    (be_u16, be_u8, be_u8, length_data(be_u16)).parse(input)
}

fn read<'a, T>(read: Read<'a, T>) -> Result<(&'a [u8], T), &'a [u8]> {
    read.map_err(|error| match error {
        nom::Err::Error(fault) | nom::Err::Failure(fault) => fault.at,
        nom::Err::Incomplete(_) => &[],
    })
}
