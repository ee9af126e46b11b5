//! Cutting the TCP byte stream at its joints, by length and checksum alone.
//!
//! Four zero bytes, a length, the data field, a checksum: nothing in the data field is
//! looked at here. That is on purpose. A frame whose checksum holds is whole, so it is
//! handed on whatever it says; judging the content (unknown codec, counts that differ,
//! odd priorities) is for readers who can afford to be wrong, because a device whose
//! frame is refused sends it again, for ever, in front of everything it still has.
//!
//! Invariants: limits are tested on the header alone and before any addition, so that
//! neither memory nor 32-bit arithmetic is at the mercy of a length field; what is cut
//! never depends on how the bytes were split on their way.

use core::fmt;

use crate::codec_id::CodecId;
use crate::crc::crc16;
use crate::error::Stage;
use crate::login::{self, Login};

/// The keep-alive byte of an idle device. It gets no answer.
pub const PING: u8 = 0xFF;

/// Preamble and length field.
pub const HEADER_BYTES: usize = 8;
/// What a frame has besides its data field: header and checksum.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + CRC_BYTES;
/// The smallest data field: codec id, first count, second count.
pub const DATA_BYTES_MIN: usize = 3;

const PREAMBLE_BYTES: usize = 4;
const CRC_BYTES: usize = 4;

/// [`Limits::frame_bytes_max`] unless the caller says otherwise: 64 KiB less one byte.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 65_535;
/// [`Limits::login_bytes_max`] unless the caller says otherwise.
pub const LOGIN_BYTES_MAX_DEFAULT: usize = 34;
/// What the documentation allows a packet of records to take.
/// Source: wiki "Codec", AVL packet size.
pub const PACKET_BYTES_MAX_DOCUMENTED: usize = 1280;

/// How much one message may take before the connection is given up.
///
/// # The 1280-byte rule
///
/// The documentation says that a packet of AVL records is at most 1280 bytes (512 on
/// FMB630, FMB640 and FM63xx). It leaves open whether that counts preamble, length and
/// checksum, or the data field alone. Read strictly ([`Limits::strict_1280`]) the whole
/// frame is within 1280 bytes; read loosely (`frame_bytes_max` of 1280 +
/// [`OVERHEAD_BYTES`]) the data field is. The largest recorded frame of records has 1276
/// bytes, so both readings let it pass. The rule is about records alone: answers to
/// commands and camera blocks in Codec 12 reach 2079 bytes in recorded traffic. That is
/// why the default keeps the rule to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame in bytes, preamble and checksum included (data length + 12).
    ///
    /// Default [`FRAME_BYTES_MAX_DEFAULT`]: longer than anything recorded, and a buffer
    /// that a small gateway can afford per connection.
    pub frame_bytes_max: usize,
    /// Largest login in bytes, its two length bytes included.
    ///
    /// Default [`LOGIN_BYTES_MAX_DEFAULT`]: an IMEI needs 17; the rest leaves room to
    /// refuse other identities politely instead of hanging up on them.
    pub login_bytes_max: usize,
}

impl Limits {
    /// The default limits.
    pub const DEFAULT: Limits = Limits {
        frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        login_bytes_max: LOGIN_BYTES_MAX_DEFAULT,
    };

    /// The 1280-byte rule read strictly: no frame above 1280 bytes, preamble and checksum
    /// included. Closes on long command answers and camera blocks.
    #[must_use]
    pub const fn strict_1280() -> Limits {
        Limits {
            frame_bytes_max: PACKET_BYTES_MAX_DOCUMENTED,
            ..Limits::DEFAULT
        }
    }

    /// These limits, but nothing above `bytes`, which is what a buffer can hold.
    #[must_use]
    pub const fn within(self, bytes: usize) -> Limits {
        const fn least(a: usize, b: usize) -> usize {
            if a < b { a } else { b }
        }
        Limits {
            frame_bytes_max: least(self.frame_bytes_max, bytes),
            login_bytes_max: least(self.login_bytes_max, bytes),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// What the device may say next. The caller knows: it is a login until one was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing but pings came so far.
    Login,
    /// A login was accepted.
    Frame,
}

/// What lies at the front of the input, told as the caller's next move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut<'a> {
    /// Read on: nothing can be said before the input is `needed` bytes long in all.
    NeedMore {
        /// Length the whole input must reach, always more than it has.
        needed: usize,
    },
    /// One keep-alive byte ([`PING`]). Skip it, answer nothing. Also legal before a login.
    Ping,
    /// Answer [`login::ACCEPT`] or [`login::REFUSE`].
    Login(Login<'a>),
    /// Keep it safe, then answer [`Frame::ack`].
    Frame(Frame<'a>),
    /// Damaged on the way, but its end is known: answer `ack(0)`, skip it, go on.
    Refuse {
        /// Bytes to skip.
        consumed: usize,
        /// Where in the input it shows.
        offset: usize,
        /// What is wrong.
        reason: RefuseReason,
    },
    /// Nobody can say where the next frame begins: hang up.
    Close {
        /// Where in the input it shows.
        offset: usize,
        /// What is wrong.
        reason: CloseReason,
    },
}

impl Cut<'_> {
    /// How many bytes to drop from the front of the input before cutting again. 0 when
    /// more is needed and when the connection is to be closed.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        match self {
            Cut::NeedMore { .. } | Cut::Close { .. } => 0,
            Cut::Ping => 1,
            Cut::Login(login) => login.consumed(),
            Cut::Frame(frame) => frame.consumed(),
            Cut::Refuse { consumed, .. } => *consumed,
        }
    }
}

/// Why a frame is answered with 0 records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefuseReason {
    /// The checksum field is not the checksum of the data field.
    #[error("checksum is {stated:#010x}, the data has {computed:#06x}")]
    Crc {
        /// The whole field; its upper half must be zero.
        stated: u32,
        /// CRC-16/ARC of the data field.
        computed: u16,
    },
}

impl RefuseReason {
    /// Which part of the frame it is about.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            RefuseReason::Crc { .. } => Stage::Checksum,
        }
    }
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// A frame begins with four zero bytes.
    #[error("a frame begins with four zero bytes, this is {found:#04x}")]
    Preamble {
        /// The first byte that is not zero.
        found: u8,
    },
    /// The length field asks for more than the limit allows.
    #[error("data length {length} makes a frame above the limit of {frame_bytes_max} bytes")]
    FrameOverLimit {
        /// The length field.
        length: u32,
        /// [`Limits::frame_bytes_max`].
        frame_bytes_max: usize,
    },
    /// The length field leaves no room for codec id and both counts.
    #[error("data length {length} is below the least possible, 3")]
    FrameTooShort {
        /// The length field.
        length: u32,
    },
    /// The login asks for more than the limit allows.
    #[error("login length {length} makes a login above the limit of {login_bytes_max} bytes")]
    LoginOverLimit {
        /// The length field.
        length: u16,
        /// [`Limits::login_bytes_max`].
        login_bytes_max: usize,
    },
    /// Two zero bytes where a login should be: a preamble, or a login of no length.
    #[error("a frame before the login")]
    FrameBeforeLogin,
}

impl CloseReason {
    /// Which part of the frame or login it is about.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            CloseReason::Preamble { .. } => Stage::Preamble,
            CloseReason::FrameOverLimit { .. } | CloseReason::FrameTooShort { .. } => Stage::Length,
            CloseReason::LoginOverLimit { .. } | CloseReason::FrameBeforeLogin => Stage::Login,
        }
    }
}

/// A whole frame with a good checksum, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    // At least DATA_BYTES_MIN long.
    data: &'a [u8],
    crc: u16,
}

impl<'a> Frame<'a> {
    /// The data field: codec id to second count, at least 3 bytes. What the checksum
    /// covers, and all that is worth keeping.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// How to read the data field.
    #[must_use]
    pub const fn codec_id(&self) -> CodecId {
        CodecId::from_byte(self.data[0])
    }

    /// How many records or messages the frame says it has: the number to acknowledge.
    #[must_use]
    pub const fn first_count(&self) -> u8 {
        self.data[1]
    }

    /// The checksum, stated and computed alike.
    #[must_use]
    pub const fn crc(&self) -> u16 {
        self.crc
    }

    /// How many bytes of the input the frame takes, preamble and checksum included.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        self.data.len() + OVERHEAD_BYTES
    }

    /// What to answer once the frame is safe: its first count, or nothing for messages
    /// (codecs 12 to 15).
    #[must_use]
    pub const fn ack(&self) -> Option<[u8; 4]> {
        if self.codec_id().wants_ack() {
            Some(ack(self.first_count() as u32))
        } else {
            None
        }
    }
}

// Positions and IMEIs are personal data: logs get the shape of a frame.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("codec_id", &self.codec_id())
            .field("first_count", &self.first_count())
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

/// The answer to a frame: how many records were taken, big-endian.
///
/// The device forgets its records if the number is the one it sent, and sends all of them
/// again for any other, so `ack(0)` is the refusal.
/// Source: wiki "Codec", communication with server.
#[must_use]
pub const fn ack(count: u32) -> [u8; 4] {
    count.to_be_bytes()
}

/// Says what lies at the front of `input` and what to do about it.
///
/// Never panics, never waits for more than the limits allow, and gives the same answer
/// for the same bytes however they arrive. A preamble is refused at its first wrong byte.
#[must_use]
pub fn cut(input: &[u8], expecting: Expect, limits: Limits) -> Cut<'_> {
    match expecting {
        Expect::Login => login::cut(input, limits),
        Expect::Frame => cut_frame(input, limits),
    }
}

/// How long the input must get before [`cut`] says anything but `NeedMore`; `None` if it
/// is that long. Costs a look at the header, never a checksum.
pub(crate) fn missing(input: &[u8], expecting: Expect, limits: Limits) -> Option<usize> {
    match expecting {
        Expect::Login => match login::cut(input, limits) {
            Cut::NeedMore { needed } => Some(needed),
            _ => None,
        },
        Expect::Frame => match shape(input, limits) {
            Shape::NeedMore { needed } => Some(needed),
            _ => None,
        },
    }
}

// What the header alone tells.
enum Shape<'a> {
    NeedMore {
        needed: usize,
    },
    Ping,
    Close {
        offset: usize,
        reason: CloseReason,
    },
    Whole {
        data: &'a [u8],
        checksum: [u8; CRC_BYTES],
    },
}

fn shape(input: &[u8], limits: Limits) -> Shape<'_> {
    match input.first() {
        None => return Shape::NeedMore { needed: 1 },
        Some(&PING) => return Shape::Ping,
        Some(_) => {}
    }
    let preamble = &input[..input.len().min(PREAMBLE_BYTES)];
    if let Some(offset) = preamble.iter().position(|&byte| byte != 0) {
        let reason = CloseReason::Preamble {
            found: preamble[offset],
        };
        return Shape::Close { offset, reason };
    }
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return Shape::NeedMore {
            needed: HEADER_BYTES,
        };
    };
    let [_, _, _, _, a, b, c, d] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    let data_bytes = match data_bytes_within(length, limits) {
        Ok(data_bytes) => data_bytes,
        Err(reason) => {
            return Shape::Close {
                offset: PREAMBLE_BYTES,
                reason,
            };
        }
    };
    let needed = data_bytes + OVERHEAD_BYTES;
    let Some((data, tail)) = rest.split_at_checked(data_bytes) else {
        return Shape::NeedMore { needed };
    };
    match tail.first_chunk::<CRC_BYTES>() {
        Some(&checksum) => Shape::Whole { data, checksum },
        None => Shape::NeedMore { needed },
    }
}

fn cut_frame(input: &[u8], limits: Limits) -> Cut<'_> {
    let (data, checksum) = match shape(input, limits) {
        Shape::NeedMore { needed } => return Cut::NeedMore { needed },
        Shape::Ping => return Cut::Ping,
        Shape::Close { offset, reason } => return Cut::Close { offset, reason },
        Shape::Whole { data, checksum } => (data, checksum),
    };
    let stated = u32::from_be_bytes(checksum);
    let computed = crc16(data);
    if stated != u32::from(computed) {
        let reason = RefuseReason::Crc { stated, computed };
        return Cut::Refuse {
            consumed: data.len() + OVERHEAD_BYTES,
            offset: HEADER_BYTES + data.len(),
            reason,
        };
    }
    Cut::Frame(Frame {
        data,
        crc: computed,
    })
}

// The subtraction is on the limit, which is ours, never an addition to the length, which
// is the device's: u32::MAX + 12 does not fit a 32-bit usize.
pub(crate) fn data_bytes_within(length: u32, limits: Limits) -> Result<usize, CloseReason> {
    let data_bytes_max = limits.frame_bytes_max.saturating_sub(OVERHEAD_BYTES);
    match usize::try_from(length) {
        Ok(data_bytes) if data_bytes < DATA_BYTES_MIN => Err(CloseReason::FrameTooShort { length }),
        Ok(data_bytes) if data_bytes <= data_bytes_max => Ok(data_bytes),
        _ => Err(CloseReason::FrameOverLimit {
            length,
            frame_bytes_max: limits.frame_bytes_max,
        }),
    }
}
