//! Who reads which kind of payload. A new kind is one line in [`reader`].
//!
//! Pure. Invariant: the kind decides, never the bytes.

use contract::Kind;

use super::{nmea, position, teltonika};
use crate::batch::{Frame, Message, Record};

/// What was in a frame.
pub(super) enum Body {
    Records(Vec<Record>),
    Messages(Vec<Message>),
}

/// Why a frame cannot be read.
#[derive(Debug)]
pub(super) struct Unread {
    /// One word for counting: see [`crate::batch::DeadLetter::error_class`].
    pub(super) class: &'static str,
    /// A sentence for people.
    pub(super) reason: String,
    /// First byte that does not fit.
    pub(super) offset: Option<usize>,
}

/// How one kind is read.
pub(super) struct Reader {
    /// A whole frame. The number: when a clock that can be trusted saw it, milliseconds since 1970.
    pub(super) read: fn(&Frame, u64) -> Result<Body, Unread>,
    /// A frame around the bytes of one record, or a sentence why there is none.
    pub(super) alone: fn(&[u8]) -> Result<Vec<u8>, String>,
}

/// The reader of a kind; `None`: a later version has one.
pub(super) fn reader(kind: &Kind) -> Option<Reader> {
    Some(match kind {
        Kind::Teltonika => Reader {
            read: teltonika::read,
            alone: teltonika::alone,
        },
        Kind::Position => Reader {
            read: position::read,
            alone: position::alone,
        },
        Kind::Nmea => Reader {
            read: nmea::read,
            alone: nmea::alone,
        },
        Kind::Other(_) => return None,
    })
}
