//! The whole TCP conversation out of bytes in pieces, in memory that is given once.
//!
//! [`cut`] judges bytes that lie in one piece; this module is for those who
//! have none to offer: a socket read into a small array, an interrupt handler, a capture
//! file. Whole messages are told straight from the pushed bytes; only the front of a
//! message whose rest is still to come is copied.
//!
//! Invariant: what is told, and in which order, is a function of the bytes and of nothing
//! else, however they were split. Therefore a frame that does not fit the buffer is over
//! the limit even when it lies whole in one push.

mod seek;

use core::fmt;

use crate::frame::{CloseReason, Cut, Expect, Frame, Limits, RefuseReason, cut, missing};
use crate::login::Login;
use seek::{Found, Seek};

/// The smallest buffer a [`StreamParser`] works with: a login with an IMEI.
pub const BUFFER_BYTES_MIN: usize = 17;

/// What to do when bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Garbage {
    /// Tell [`Event::Close`] and take nothing more. Right for servers: TCP does not
    /// damage bytes, so whoever sends garbage is no tracker, or a broken one that sends
    /// everything again on its next connection.
    #[default]
    Close,
    /// Tell [`Event::Garbage`], look for the next plausible message, tell
    /// [`Event::Resync`] and go on. Right for serial lines and captures.
    ///
    /// Plausible is a frame with four zero bytes, a length within the limits, a known
    /// codec id and a checksum that holds; while a login is expected, it is a login of
    /// fifteen digits and nothing else, so that no frame is ever told before a login.
    /// The message that is whole first is taken. A damaged frame at a place where a
    /// frame belongs is no garbage: its end is known, and it is told as
    /// [`Event::Refuse`]. Where lengths get damaged too, low limits say how much one
    /// damaged length can swallow.
    Resync,
}

/// What a stream says next. Offsets count from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A keep-alive byte. Answer nothing.
    Ping {
        /// Where it is.
        offset: u64,
    },
    /// Answer [`login::ACCEPT`](crate::login::ACCEPT) or
    /// [`login::REFUSE`](crate::login::REFUSE). Frames are expected from here on.
    Login {
        /// Where it begins.
        offset: u64,
        /// The login.
        login: Login<'a>,
    },
    /// Keep it safe, then answer [`Frame::ack`].
    Frame {
        /// Where it begins.
        offset: u64,
        /// The frame.
        frame: Frame<'a>,
    },
    /// A frame damaged on its way: answer `ack(0)`. It was skipped.
    Refuse {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: usize,
        /// The byte where it shows.
        at: u64,
        /// What is wrong.
        reason: RefuseReason,
    },
    /// What begins here is no message. Only with [`Garbage::Resync`].
    Garbage {
        /// Where it begins.
        offset: u64,
        /// The byte where it shows.
        at: u64,
        /// What is wrong.
        reason: CloseReason,
    },
    /// The garbage ends here, the next event is a message. Only with [`Garbage::Resync`].
    Resync {
        /// Where the message begins.
        offset: u64,
        /// How many bytes of garbage there were before it.
        skipped: u64,
    },
    /// Hang up; nothing follows. Only with [`Garbage::Close`].
    Close {
        /// Where the message begins that is none.
        offset: u64,
        /// The byte where it shows.
        at: u64,
        /// What is wrong.
        reason: CloseReason,
    },
}

impl Event<'_> {
    /// Where in the stream it is.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match *self {
            Event::Ping { offset }
            | Event::Login { offset, .. }
            | Event::Frame { offset, .. }
            | Event::Refuse { offset, .. }
            | Event::Garbage { offset, .. }
            | Event::Resync { offset, .. }
            | Event::Close { offset, .. } => offset,
        }
    }
}

/// What a stream that ends now ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// Nothing is missing.
    Clean,
    /// A message was begun.
    Inside {
        /// Where it begins.
        offset: u64,
        /// How much of it there is.
        bytes: usize,
        /// How long it would be, or how much would have told.
        needed: usize,
    },
    /// Garbage, with no message behind it.
    Garbage {
        /// Where it begins.
        offset: u64,
        /// How much there is.
        bytes: u64,
    },
    /// [`Event::Close`] was told.
    Closed,
}

/// Cuts a stream that comes in pieces of any size.
///
/// `B` is where half messages wait: an array (`[u8; 2048]`), a borrowed slice, a `Vec`.
/// Its length never changes and is one more limit on the size of frames and logins.
///
/// ```
/// use codec::stream::{Event, StreamParser};
/// use codec::{Expect, Limits};
///
/// // A ping, a login, the first half of a frame; then the other half.
/// let first = b"\xFF\x00\x0F356307042441013\x00\x00\x00\x00\x00\x00\x00\x0D\x0C\x01\x05";
/// let second = b"\x00\x00\x00\x05getio\x01\x00\x00\x00\xCB";
///
/// let mut parser = StreamParser::new([0; 1280], Expect::Login, Limits::default());
/// let mut told = String::new();
/// for mut piece in [&first[..], &second[..]] {
///     while let Some(event) = parser.push(&mut piece) {
///         match event {
///             Event::Ping { .. } => told += "ping ",
///             Event::Login { login, .. } => told += &login.imei()?.to_string(),
///             Event::Frame { offset, frame } => {
///                 told += &format!(" {} bytes at {offset}", frame.consumed());
///             }
///             other => panic!("{other:?}"),
///         }
///     }
/// }
/// assert_eq!(told, "ping 356307042441013 25 bytes at 18");
/// # Ok::<(), codec::ImeiError>(())
/// ```
#[derive(Clone)]
pub struct StreamParser<B> {
    buffer: B,
    place: Place,
}

// Everything but the buffer, which events borrow from.
#[derive(Clone)]
struct Place {
    limits: Limits,
    garbage: Garbage,
    expecting: Expect,
    // Of the first byte not told yet; during a search, of the garbage.
    offset: u64,
    state: State,
}

// Of very different sizes, but without an allocator there is nowhere else to put a search.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
enum State {
    // At a boundary; the buffer begins with this much of the next message.
    Aligned {
        filled: usize,
    },
    Seeking(Seek),
    // The message that ended the search is still to be told.
    Found {
        start: usize,
        bytes: usize,
        expecting: Expect,
    },
    Closed,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> StreamParser<B> {
    /// A parser at the first byte of a stream, which closes on garbage.
    ///
    /// A server begins with [`Expect::Login`]; [`Expect::Frame`] is for streams that were
    /// joined later.
    ///
    /// # Panics
    /// If `buffer` is shorter than [`BUFFER_BYTES_MIN`].
    #[must_use]
    pub fn new(buffer: B, expecting: Expect, limits: Limits) -> StreamParser<B> {
        let buffer_bytes = buffer.as_ref().len();
        assert!(
            buffer_bytes >= BUFFER_BYTES_MIN,
            "a stream buffer holds at least a login of 17 bytes"
        );
        let place = Place {
            limits: limits.within(buffer_bytes),
            garbage: Garbage::default(),
            expecting,
            offset: 0,
            state: State::Aligned { filled: 0 },
        };
        StreamParser { buffer, place }
    }

    /// The same with another answer to garbage.
    #[must_use]
    pub fn on_garbage(mut self, garbage: Garbage) -> StreamParser<B> {
        self.place.garbage = garbage;
        self
    }

    /// Takes bytes from the front of `input` and tells what they say.
    ///
    /// Call it until it gives `None`: then `input` is empty, or the stream is closed.
    #[must_use = "what is told is told once"]
    pub fn push<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Event<'s>> {
        if let State::Seeking(seek) = &mut self.place.state {
            let (expecting, limits) = (self.place.expecting, self.place.limits);
            let found = seek.feed(self.buffer.as_mut(), input, expecting, limits)?;
            return Some(self.place.resync(found));
        }
        match self.place.state {
            State::Closed | State::Seeking(_) => None,
            State::Found {
                start,
                bytes,
                expecting,
            } => {
                let message = &self.buffer.as_ref()[start..start + bytes];
                let cut = cut(message, expecting, self.place.limits);
                self.place.tell(cut, 0)
            }
            State::Aligned { filled: 0 } => {
                let whole: &'i [u8] = input;
                let cut = cut(whole, self.place.expecting, self.place.limits);
                if let Cut::NeedMore { .. } = cut {
                    // Shorter than what is needed, which is within the limits.
                    self.buffer.as_mut()[..whole.len()].copy_from_slice(whole);
                    self.place.state = State::Aligned {
                        filled: whole.len(),
                    };
                    *input = &[];
                    return None;
                }
                *input = &whole[cut.consumed()..];
                self.place.tell(cut, 0)
            }
            State::Aligned { mut filled } => {
                let (expecting, limits) = (self.place.expecting, self.place.limits);
                let buffer = self.buffer.as_mut();
                while let Some(needed) = missing(&buffer[..filled], expecting, limits) {
                    let (now, rest) = input.split_at(input.len().min(needed - filled));
                    if now.is_empty() {
                        self.place.state = State::Aligned { filled };
                        return None;
                    }
                    buffer[filled..filled + now.len()].copy_from_slice(now);
                    filled += now.len();
                    *input = rest;
                }
                let cut = cut(&self.buffer.as_ref()[..filled], expecting, limits);
                self.place.tell(cut, filled)
            }
        }
    }

    /// How many more bytes are at least needed before anything can be told: what a
    /// blocking reader may safely wait for. 0 once the stream is closed.
    #[must_use]
    pub fn needed(&self) -> usize {
        match self.place.state {
            State::Aligned { filled } => self.place.missing(self.buffer.as_ref(), filled) - filled,
            State::Seeking(_) => 1,
            State::Found { .. } | State::Closed => 0,
        }
    }

    /// What the stream ends with if it ends here, after everything was told.
    #[must_use]
    pub fn end(&self) -> StreamEnd {
        let offset = self.place.offset;
        match &self.place.state {
            State::Aligned { filled: 0 } => StreamEnd::Clean,
            &State::Aligned { filled } => StreamEnd::Inside {
                offset,
                bytes: filled,
                needed: self.place.missing(self.buffer.as_ref(), filled),
            },
            State::Seeking(seek) => StreamEnd::Garbage {
                offset,
                bytes: seek.taken(),
            },
            &State::Found { bytes, .. } => StreamEnd::Inside {
                offset,
                bytes,
                needed: bytes,
            },
            State::Closed => StreamEnd::Closed,
        }
    }
}

impl<B> StreamParser<B> {
    /// Says what the device may say next, where that is not what the parser assumes: it
    /// expects frames after any login, and a server that refused one may hear another.
    pub fn expect(&mut self, expecting: Expect) {
        self.place.expecting = expecting;
        if let State::Seeking(seek) = &mut self.place.state {
            seek.forget();
        }
    }

    /// What the device may say next.
    #[must_use]
    pub const fn expecting(&self) -> Expect {
        self.place.expecting
    }

    /// The limits in force: the caller's, and the buffer's where it is the smaller.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.place.limits
    }
}

// What waits in the buffer is personal data: logs get its length.
impl<B> fmt::Debug for StreamParser<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.place.state {
            State::Aligned { .. } => "aligned",
            State::Seeking(_) => "seeking",
            State::Found { .. } => "found",
            State::Closed => "closed",
        };
        f.debug_struct("StreamParser")
            .field("expecting", &self.place.expecting)
            .field("offset", &self.place.offset)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn missing(&self, buffer: &[u8], filled: usize) -> usize {
        missing(&buffer[..filled], self.expecting, self.limits).unwrap_or(filled)
    }

    // `buffered` is how much of what was cut waits in the buffer.
    fn tell<'s>(&mut self, cut: Cut<'s>, buffered: usize) -> Option<Event<'s>> {
        let offset = self.offset;
        self.state = State::Aligned { filled: 0 };
        self.offset += cut.consumed() as u64;
        Some(match cut {
            Cut::NeedMore { .. } => return None,
            Cut::Ping => Event::Ping { offset },
            Cut::Login(login) => {
                self.expecting = Expect::Frame;
                Event::Login { offset, login }
            }
            Cut::Frame(frame) => Event::Frame { offset, frame },
            Cut::Refuse {
                consumed,
                offset: within,
                reason,
            } => Event::Refuse {
                offset,
                bytes: consumed,
                at: offset + within as u64,
                reason,
            },
            Cut::Close {
                offset: within,
                reason,
            } => {
                let at = offset + within as u64;
                match self.garbage {
                    Garbage::Close => {
                        self.state = State::Closed;
                        Event::Close { offset, at, reason }
                    }
                    Garbage::Resync => {
                        self.state = State::Seeking(Seek::new(buffered));
                        Event::Garbage { offset, at, reason }
                    }
                }
            }
        })
    }

    fn resync(&mut self, found: Found) -> Event<'static> {
        self.offset += found.skipped;
        self.state = State::Found {
            start: found.start,
            bytes: found.bytes,
            expecting: self.expecting,
        };
        Event::Resync {
            offset: self.offset,
            skipped: found.skipped,
        }
    }
}
