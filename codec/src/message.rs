//! The data field of codecs 12 to 15: commands, their answers, and what devices say of
//! their own accord.
//!
//! Payloads are bytes. Devices put text there, but also Modbus replies, tachograph blocks
//! and camera chunks, so nothing here assumes UTF-8.
//!
//! Invariant: whoever holds a [`MessageData`] holds bytes that were walked once and came
//! out even. Second counts are kept and not compared: for these codecs the documentation
//! only recommends that they be equal.

use core::fmt;

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::{cond, map};
use nom::number::complete::{be_u8, be_u32, be_u64};

use crate::avl::ends;
use crate::codec_id::{CodecId, MessageCodec};
use crate::error::{BodyError, BodyReason, Read, Stage, placed};
use crate::imei::Imei;

/// Type byte of a command to the device (Codec 12, 14).
pub const COMMAND: u8 = 0x05;
/// Type byte of the device's answer (Codec 12, 14) and of most Codec 13 messages.
pub const RESPONSE: u8 = 0x06;
/// Type byte of a Codec 14 refusal: the IMEI was another, the command was not executed.
pub const NOT_EXECUTED: u8 = 0x11;

/// Type byte of the blocks in which a camera sends its pictures (Codec 12); see
/// [`camera`](crate::camera).
pub const CAMERA: u8 = 0x0D;

// 2005-01-01 and 2060-01-01 UTC in milliseconds since 1970: a clock that a Codec 13
// device can have. Above any time in seconds that fits four bytes by a factor of 250.
const WIDE_MS_MIN: u64 = 1_104_537_600_000;
const WIDE_MS_END: u64 = 2_840_140_800_000;

/// One message, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type byte, such as [`COMMAND`] or [`RESPONSE`]; free in Codec 15.
    pub kind: u8,
    /// The size field as sent.
    pub size: u32,
    /// Device clock in seconds since 1970-01-01 UTC; codecs 13 and 15.
    ///
    /// Recorded traffic also holds Codec 13 with eight bytes of milliseconds. Such a
    /// message shows a time of 1970 here and the lower four bytes in front of its payload;
    /// see [`Message::wide_time`].
    pub timestamp_s: Option<u32>,
    /// The eight IMEI bytes as sent; codecs 14 and 15. See [`Message::imei`].
    pub imei_bytes: Option<[u8; 8]>,
    /// What is left: text or raw bytes, possibly none.
    pub payload: &'a [u8],
}

/// A Codec 13 message read as having an eight-byte time; see [`Message::wide_time`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WideTime<'a> {
    /// Device clock in milliseconds since 1970-01-01 UTC, within 2005 to 2059.
    pub timestamp_ms: u64,
    /// What is left behind the eight bytes.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The IMEI inside the message; `None` if the codec has none or it is not decimal.
    #[must_use]
    pub fn imei(&self) -> Option<Imei> {
        Imei::from_bcd(self.imei_bytes?)
    }

    /// The other reading of a Codec 13 message: eight bytes of milliseconds where the
    /// documentation has four of seconds. `None` if that makes no sense, and for other
    /// codecs.
    ///
    /// This is a guess, for nothing in the frame tells the two apart. It is a good one:
    /// it is offered where the milliseconds fall within 2005 to 2059, and exactly then the
    /// documented reading says that the device has been counting since 1970 for between
    /// four and twelve minutes. A device that lost its clock and sends four bytes can say
    /// that too, so [`Message::timestamp_s`] and [`Message::payload`] stay as documented
    /// and the caller decides.
    /// Source: wiki "Codec", Codec 13, as drawn until May 2021; one recorded frame.
    #[must_use]
    pub fn wide_time(&self) -> Option<WideTime<'a>> {
        let (Some(upper), None) = (self.timestamp_s, self.imei_bytes) else {
            return None;
        };
        let (lower, payload) = self.payload.split_first_chunk::<4>()?;
        let timestamp_ms = u64::from(upper) << 32 | u64::from(u32::from_be_bytes(*lower));
        (WIDE_MS_MIN..WIDE_MS_END)
            .contains(&timestamp_ms)
            .then_some(WideTime {
                timestamp_ms,
                payload,
            })
    }
}

impl fmt::Debug for WideTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WideTime")
            .field("timestamp_ms", &self.timestamp_ms)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

// Payloads and IMEIs are personal data: logs get their shape.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("size", &self.size)
            .field("timestamp_s", &self.timestamp_s)
            .field("imei", &self.imei())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// A data field full of messages, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MessageData<'a> {
    messages: &'a [u8],
    layout: Layout,
    count: u8,
    second_count: u8,
}

impl fmt::Debug for MessageData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageData")
            .field("codec", &self.layout.codec)
            .field("messages", &self.messages())
            .finish()
    }
}

// The documented Codec 13 size includes the time, some frames were seen without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    codec: MessageCodec,
    time_in_size: bool,
}

impl Layout {
    const fn has_time(self) -> bool {
        matches!(self.codec, MessageCodec::Codec13 | MessageCodec::Codec15)
    }

    const fn has_imei(self) -> bool {
        matches!(self.codec, MessageCodec::Codec14 | MessageCodec::Codec15)
    }

    // Bytes of time and IMEI that the size field covers.
    const fn size_min(self) -> u32 {
        let time = if self.has_time() && self.time_in_size {
            4
        } else {
            0
        };
        let imei = if self.has_imei() { 8 } else { 0 };
        time + imei
    }
}

impl<'a> MessageData<'a> {
    /// Checks a data field (codec id to second count, no length, no checksum) in one walk.
    ///
    /// Codec 13 is read with its time inside the size, as documented; if that does not
    /// come out even but the other reading does, the other one is taken.
    ///
    /// # Errors
    /// [`BodyError`] with the offset of the first byte that does not fit.
    pub fn parse(data: &'a [u8]) -> Result<MessageData<'a>, BodyError> {
        let (codec_byte, count, second_count) = ends(data)?;
        let Some(codec) = CodecId::from_byte(codec_byte).message() else {
            let reason = BodyReason::Codec { found: codec_byte };
            return Err(BodyError {
                stage: Stage::CodecId,
                offset: 0,
                reason,
            });
        };
        let region = &data[..data.len() - 1];
        let whole = |layout| {
            walk(region, layout, count)?;
            Ok(MessageData {
                messages: &region[2..],
                layout,
                count,
                second_count,
            })
        };
        let documented = whole(Layout {
            codec,
            time_in_size: true,
        });
        match (documented, codec) {
            (Err(error), MessageCodec::Codec13) => whole(Layout {
                codec,
                time_in_size: false,
            })
            .map_err(|_| error),
            (documented, _) => documented,
        }
    }

    /// Which of the four layouts it was.
    #[must_use]
    pub const fn codec(&self) -> MessageCodec {
        self.layout.codec
    }

    /// Whether the sizes count the time, as documented. `false` only for Codec 13 whose
    /// sizes come out even no other way: a deviation worth a note.
    #[must_use]
    pub const fn time_in_size(&self) -> bool {
        self.layout.time_in_size
    }

    /// How many messages there are by the first count.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// The count behind the messages, which need not be the same.
    #[must_use]
    pub const fn second_count(&self) -> u8 {
        self.second_count
    }

    /// The messages in the order they were sent.
    #[must_use]
    pub const fn messages(&self) -> Messages<'a> {
        Messages {
            rest: self.messages,
            layout: self.layout,
            left: self.count,
        }
    }
}

/// The messages of a [`MessageData`].
#[derive(Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
    layout: Layout,
    left: u8,
}

impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (rest, message) = take_message(self.rest, self.rest, self.layout, 0).ok()?;
        self.rest = rest;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Messages<'_> {}

fn walk(region: &[u8], layout: Layout, count: u8) -> Result<(), BodyError> {
    let mut rest = &region[2..];
    for message in 0..count {
        (rest, _) = take_message(region, rest, layout, message)?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    let reason = BodyReason::LeftOver { left: rest.len() };
    let offset = region.len() - rest.len();
    Err(BodyError {
        stage: Stage::SecondCount,
        offset,
        reason,
    })
}

fn head(input: &[u8]) -> Read<'_, (u8, u32)> {
    (be_u8, be_u32).parse(input)
}

type Prefix = (Option<u32>, Option<[u8; 8]>);

fn prefix(input: &[u8], layout: Layout) -> Read<'_, Prefix> {
    let imei = map(be_u64, u64::to_be_bytes);
    (
        cond(layout.has_time(), be_u32),
        cond(layout.has_imei(), imei),
    )
        .parse(input)
}

fn take_message<'a>(
    region: &'a [u8],
    input: &'a [u8],
    layout: Layout,
    message: u8,
) -> Result<(&'a [u8], Message<'a>), BodyError> {
    let stage = Stage::MessageHead { message };
    let (rest, (kind, size)) = placed(region, stage, head(input))?;
    let size_min = layout.size_min();
    let Some(payload_bytes) = size.checked_sub(size_min) else {
        let reason = BodyReason::MessageSize { size, size_min };
        return Err(BodyError {
            stage,
            offset: region.len() - input.len() + 1,
            reason,
        });
    };
    let stage = Stage::MessageBody { message };
    let (rest, (timestamp_s, imei_bytes)) = placed(region, stage, prefix(rest, layout))?;
    let (rest, payload) = placed(region, stage, take(payload_bytes)(rest))?;
    Ok((
        rest,
        Message {
            kind,
            size,
            timestamp_s,
            imei_bytes,
            payload,
        },
    ))
}
