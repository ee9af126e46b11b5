//! The blocks in which a serial camera's pictures travel: payloads of Codec 12 messages
//! of type [`CAMERA`].
//!
//! The device announces a picture, the server asks for a stretch of it, the device sends
//! the stretch, and so on to the end. Undocumented by the manufacturer; known from
//! Traccar, which serves such cameras, and from recorded traffic. Blocks that are none of
//! the three are kept as they are: the device also sends some while idle.
//!
//! Invariant: reading judges by type byte and length together, so what was read as a
//! chunk has all the bytes it announces.

use core::fmt;

use crate::message::{CAMERA, Message};

pub(crate) const ANNOUNCE: u8 = 0x01;
pub(crate) const TRANSFER: u8 = 0x02;

/// One block, its bytes still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CameraBlock<'a> {
    /// From the device: there is a picture.
    Announce {
        /// What it is asked for by.
        photo_id: u32,
        /// Its length.
        size_bytes: u32,
    },
    /// From the server: send this stretch of it.
    Request {
        /// The id from the announcement.
        photo_id: u32,
        /// First byte of the stretch.
        offset: u32,
        /// Bytes in the stretch.
        length: u16,
    },
    /// From the device: a stretch, of the length it has itself.
    Chunk {
        /// The id from the announcement.
        photo_id: u32,
        /// First byte of the stretch.
        offset: u32,
        /// The stretch, at most 65 535 bytes.
        bytes: &'a [u8],
    },
    /// Anything else.
    Other(&'a [u8]),
}

impl<'a> CameraBlock<'a> {
    /// Reads the payload of a message of type [`CAMERA`]; never fails.
    ///
    /// A transfer of eleven bytes is a request: a chunk that announces no bytes and has
    /// none is told as one of length 0.
    #[must_use]
    pub fn read(payload: &'a [u8]) -> CameraBlock<'a> {
        let number = |at: usize| -> Option<u32> {
            let bytes = payload.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*bytes))
        };
        let block = || match payload {
            [ANNOUNCE, rest @ ..] if rest.len() == 8 => Some(CameraBlock::Announce {
                photo_id: number(1)?,
                size_bytes: number(5)?,
            }),
            [TRANSFER, _, _, _, _, _, _, _, _, high, low, bytes @ ..] => {
                let (photo_id, offset) = (number(1)?, number(5)?);
                let length = u16::from_be_bytes([*high, *low]);
                if bytes.is_empty() {
                    return Some(CameraBlock::Request {
                        photo_id,
                        offset,
                        length,
                    });
                }
                (bytes.len() == usize::from(length)).then_some(CameraBlock::Chunk {
                    photo_id,
                    offset,
                    bytes,
                })
            }
            _ => None,
        };
        block().unwrap_or(CameraBlock::Other(payload))
    }

    /// The block in a message, `None` if the message is of another type. Which codec it
    /// was is for the caller to know: only Codec 12 has camera blocks.
    #[must_use]
    pub fn of(message: &Message<'a>) -> Option<CameraBlock<'a>> {
        (message.kind == CAMERA).then(|| CameraBlock::read(message.payload))
    }
}

// Pictures are personal data: logs get their length.
impl fmt::Debug for CameraBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CameraBlock::Announce {
                photo_id,
                size_bytes,
            } => f
                .debug_struct("Announce")
                .field("photo_id", &photo_id)
                .field("size_bytes", &size_bytes)
                .finish(),
            CameraBlock::Request {
                photo_id,
                offset,
                length,
            } => f
                .debug_struct("Request")
                .field("photo_id", &photo_id)
                .field("offset", &offset)
                .field("length", &length)
                .finish(),
            CameraBlock::Chunk {
                photo_id,
                offset,
                bytes,
            } => f
                .debug_struct("Chunk")
                .field("photo_id", &photo_id)
                .field("offset", &offset)
                .field("length", &bytes.len())
                .finish(),
            CameraBlock::Other(bytes) => write!(f, "Other({} bytes)", bytes.len()),
        }
    }
}
