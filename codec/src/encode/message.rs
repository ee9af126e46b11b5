//! Messages of codecs 12 to 15, camera blocks among them.

use super::{EncodeError, framed};
use crate::camera::{ANNOUNCE, CameraBlock, TRANSFER};
use crate::imei::Imei;
use crate::message::{CAMERA, COMMAND, NOT_EXECUTED, RESPONSE};
use crate::sink::Sink;

/// One message to write, by codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageSpec<'a> {
    /// Type byte and payload.
    Codec12 { kind: u8, payload: &'a [u8] },
    /// With seconds since 1970-01-01 UTC, counted in the size.
    Codec13 {
        kind: u8,
        timestamp_s: u32,
        payload: &'a [u8],
    },
    /// With the IMEI it is for or from.
    Codec14 {
        kind: u8,
        imei: Imei,
        payload: &'a [u8],
    },
    /// With both.
    Codec15 {
        kind: u8,
        timestamp_s: u32,
        imei: Imei,
        payload: &'a [u8],
    },
}

impl<'a> MessageSpec<'a> {
    /// A Codec 12 command, from the server. Devices want no line end.
    #[must_use]
    pub const fn command(payload: &'a [u8]) -> MessageSpec<'a> {
        let kind = COMMAND;
        MessageSpec::Codec12 { kind, payload }
    }

    /// What a device answers to a Codec 12 command.
    #[must_use]
    pub const fn response(payload: &'a [u8]) -> MessageSpec<'a> {
        let kind = RESPONSE;
        MessageSpec::Codec12 { kind, payload }
    }

    /// A Codec 14 command, which only the device with this IMEI executes.
    #[must_use]
    pub const fn command_for(imei: Imei, payload: &'a [u8]) -> MessageSpec<'a> {
        MessageSpec::Codec14 {
            kind: COMMAND,
            imei,
            payload,
        }
    }

    /// What a device answers to a Codec 14 command that it executed.
    #[must_use]
    pub const fn executed(imei: Imei, payload: &'a [u8]) -> MessageSpec<'a> {
        MessageSpec::Codec14 {
            kind: RESPONSE,
            imei,
            payload,
        }
    }

    /// What a device answers to a Codec 14 command for another IMEI: an IMEI and no more.
    /// The printed example has neither text nor the IMEI of the printed command.
    #[must_use]
    pub const fn not_executed(imei: Imei) -> MessageSpec<'a> {
        MessageSpec::Codec14 {
            kind: NOT_EXECUTED,
            imei,
            payload: &[],
        }
    }

    fn parts(&self) -> Parts<'a> {
        let (codec, kind, timestamp_s, imei, payload) = match *self {
            MessageSpec::Codec12 { kind, payload } => (0x0C, kind, None, None, payload),
            MessageSpec::Codec13 {
                kind,
                timestamp_s,
                payload,
            } => (0x0D, kind, Some(timestamp_s), None, payload),
            MessageSpec::Codec14 {
                kind,
                imei,
                payload,
            } => (0x0E, kind, None, Some(imei), payload),
            MessageSpec::Codec15 {
                kind,
                timestamp_s,
                imei,
                payload,
            } => (0x0F, kind, Some(timestamp_s), Some(imei), payload),
        };
        Parts {
            codec,
            kind,
            time: timestamp_s.map(u32::to_be_bytes),
            imei: imei.map(Imei::to_bcd),
            payload,
        }
    }
}

// A message in the order of the wire, its codec id in front.
struct Parts<'a> {
    codec: u8,
    kind: u8,
    time: Option<[u8; 4]>,
    imei: Option<[u8; 8]>,
    payload: &'a [u8],
}

/// Writes a Codec 12 command as a whole frame. The text goes out as it is: devices want
/// no line end.
///
/// # Errors
/// [`EncodeError::TooLong`], [`EncodeError::Full`].
pub fn command(text: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    message_frame(&MessageSpec::command(text), sink)
}

/// Writes a frame of one message: a command, or what a device answers.
///
/// # Errors
/// [`EncodeError::TooLong`], [`EncodeError::Full`].
pub fn message_frame(message: &MessageSpec<'_>, sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| write_messages(&[*message], sink))
}

/// Writes a frame of several messages, 1 to 255, all of one codec.
///
/// # Errors
/// [`EncodeError::NoMessages`], [`EncodeError::MixedCodecs`],
/// [`EncodeError::TooManyMessages`], [`EncodeError::TooLong`]: then nothing was written;
/// [`EncodeError::Full`].
pub fn messages_frame(
    messages: &[MessageSpec<'_>],
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    framed(sink, &|sink| write_messages(messages, sink))
}

/// Writes a camera block as a whole Codec 12 frame: the server's request, or what a
/// simulated camera says.
///
/// # Errors
/// [`EncodeError::AmbiguousChunk`] for a chunk of no bytes, [`EncodeError::TooLong`],
/// [`EncodeError::Full`].
pub fn camera_frame(block: &CameraBlock<'_>, sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| write_camera(block, sink))
}

fn write_messages(messages: &[MessageSpec<'_>], sink: &mut dyn Sink) -> Result<(), EncodeError> {
    let Some(Parts { codec, .. }) = messages.first().map(MessageSpec::parts) else {
        return Err(EncodeError::NoMessages);
    };
    let too_many = EncodeError::TooManyMessages {
        messages: messages.len(),
    };
    let count = u8::try_from(messages.len()).map_err(|_| too_many)?;
    sink.put(&[codec, count])?;
    for (index, message) in messages.iter().enumerate() {
        let parts = message.parts();
        if parts.codec != codec {
            return Err(EncodeError::MixedCodecs { message: index });
        }
        let time: &[u8] = parts.time.as_ref().map_or(&[], |time| time);
        let imei: &[u8] = parts.imei.as_ref().map_or(&[], |imei| imei);
        write_one(parts.kind, &[time, imei, parts.payload], sink)?;
    }
    Ok(sink.put(&[count])?)
}

// Type and size, then the body in its parts.
fn write_one(kind: u8, body: &[&[u8]], sink: &mut dyn Sink) -> Result<(), EncodeError> {
    let bytes = body
        .iter()
        .fold(0usize, |sum, part| sum.saturating_add(part.len()));
    let size = u32::try_from(bytes).map_err(|_| EncodeError::TooLong { bytes })?;
    sink.put(&[kind])?;
    sink.put(&size.to_be_bytes())?;
    for part in body {
        sink.put(part)?;
    }
    Ok(())
}

fn write_camera(block: &CameraBlock<'_>, sink: &mut dyn Sink) -> Result<(), EncodeError> {
    sink.put(&[0x0C, 1])?;
    let transfer = |photo_id: u32, offset: u32, length: u16, bytes, sink| {
        let (photo_id, offset) = (photo_id.to_be_bytes(), offset.to_be_bytes());
        let length = length.to_be_bytes();
        write_one(
            CAMERA,
            &[&[TRANSFER], &photo_id, &offset, &length, bytes],
            sink,
        )
    };
    match *block {
        CameraBlock::Announce {
            photo_id,
            size_bytes,
        } => {
            let (photo_id, size) = (photo_id.to_be_bytes(), size_bytes.to_be_bytes());
            write_one(CAMERA, &[&[ANNOUNCE], &photo_id, &size], sink)?;
        }
        CameraBlock::Request {
            photo_id,
            offset,
            length,
        } => transfer(photo_id, offset, length, &[], sink)?,
        CameraBlock::Chunk { bytes: [], .. } => return Err(EncodeError::AmbiguousChunk),
        CameraBlock::Chunk {
            photo_id,
            offset,
            bytes,
        } => {
            let too_long = EncodeError::TooLong { bytes: bytes.len() };
            let length = u16::try_from(bytes.len()).map_err(|_| too_long)?;
            transfer(photo_id, offset, length, bytes, sink)?;
        }
        CameraBlock::Other(bytes) => write_one(CAMERA, &[bytes], sink)?,
    }
    Ok(sink.put(&[1])?)
}
