//! Pure: no I/O, no clock.
//!
//! One tracker's conversation: what its bytes ask of us, and when we may answer.
//!
//! Why a state machine that is handed bytes and the time: every order of events can be tried in a
//! test, and the shell around it has nothing left to decide.
//!
//! Invariants:
//! - Nothing is acknowledged but by [`Session::on_durable`], which takes the spool's receipt.
//! - A frame whose CRC holds is kept, whatever is inside; the cloud judges it.
//! - While a login waits for its verdict or a frame for its receipt no further byte is looked at,
//!   so answers keep the order of what they answer.
//! - What follows a refused login or a broken frame is never read; a wire, which cannot be hung up,
//!   goes on behind it with the next message that is whole.

mod admission;
pub mod wire;

use std::time::{Duration, Instant};

use codec::{CodecId, Cut, Expect, Frame, Imei, ImeiError, Priority};
use contract::Lane;
use thiserror::Error;

pub use admission::{ImeiList, ListError, ListLine, Mode, Refusal, Verdict, decide};

use crate::spool::Durable;
use wire::Wire;

/// How long a tracker may take, and how much it may send at once.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// From the connection to the whole login.
    pub handshake_timeout: Duration,
    /// From the first byte of a frame to its last: a slow drip ends here.
    pub frame_timeout: Duration,
    /// Without any byte.
    pub idle_timeout: Duration,
    /// Frame and login sizes.
    pub codec: codec::Limits,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect<'a> {
    /// Write this answer.
    Send(Reply),
    /// Find out whether this one may talk, then call [`Session::on_verdict`].
    Ask(Imei),
    /// Keep this frame, then call [`Session::on_durable`]; if it cannot be kept, hang up without
    /// an answer.
    Keep(Keep<'a>),
    /// Answer if there is something to say, then hang up.
    Close(Option<Reply>, CloseReason),
}

/// A frame to keep.
#[derive(Debug)]
pub struct Keep<'a> {
    /// Who sent it.
    pub imei: Imei,
    /// Codec id … second count.
    pub data: &'a [u8],
    /// The first count: AVL records (0 for messages).
    pub record_count: u32,
    /// How urgent its most urgent record is.
    pub lane: Lane,
    /// Does it hold a record of priority Panic?
    pub panic: bool,
}

/// The lane of a frame, and whether it holds a record of priority Panic. What cannot be read goes to
/// the normal lane and is judged in the cloud.
pub(crate) fn urgency(data: &[u8]) -> (Lane, bool) {
    match codec::most_urgent(data) {
        Some(Priority::Panic) => (Lane::High, true),
        Some(Priority::High) => (Lane::High, false),
        _ => (Lane::Normal, false),
    }
}

/// AVL records that a frame or datagram claims; 0 for messages.
pub(crate) fn records_claimed(codec_id: CodecId, first_count: u8) -> u32 {
    if codec_id.wants_ack() {
        u32::from(first_count)
    } else {
        0
    }
}

/// What goes to the tracker. An [`Ack`] can only come from a [`Durable`].
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Login accepted.
    Accept,
    /// Login refused.
    Refuse,
    /// Records are safe.
    Ack(Ack),
    /// The frame was damaged; 0 records taken, send it again.
    Damaged,
}

/// So many records are safe. Private field: only [`Session::on_durable`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Ack(u32);

impl Reply {
    /// The bytes on the wire and how many of them count (1 for a login, 4 for a frame).
    #[must_use]
    pub fn to_bytes(&self) -> ([u8; 4], usize) {
        match self {
            Self::Accept => ([codec::login::ACCEPT, 0, 0, 0], 1),
            Self::Refuse => ([codec::login::REFUSE, 0, 0, 0], 1),
            Self::Ack(Ack(count)) => (codec::ack(*count), 4),
            Self::Damaged => (codec::ack(0), 4),
        }
    }
}

/// Why a connection ends from our side.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The login is no IMEI.
    #[error("login is not an IMEI")]
    NotAnImei(#[source] ImeiError),
    /// This IMEI may not talk here.
    #[error("login refused")]
    Refused {
        /// Who asked.
        imei: Imei,
        /// Why not.
        #[source]
        refusal: Refusal,
    },
    /// The bytes cannot be followed any further.
    #[error("byte {offset} of what was pending cannot be followed")]
    Bytes {
        /// Where.
        offset: usize,
        /// What is wrong.
        #[source]
        reason: codec::CloseReason,
    },
    /// No login in time.
    #[error("no login within {} s", .0.as_secs_f32())]
    HandshakeTimeout(Duration),
    /// A frame began and did not end in time.
    #[error("a frame was not complete within {} s", .0.as_secs_f32())]
    FrameTimeout(Duration),
    /// Silence.
    #[error("no byte for {} s", .0.as_secs_f32())]
    IdleTimeout(Duration),
}

#[derive(Debug)]
enum State {
    AwaitImei,
    AwaitVerdict(Imei),
    Ready(Imei),
    AwaitDurable { imei: Imei, wants_ack: bool },
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    limits: SessionLimits,
    opened_at: Instant,
    last_byte_at: Instant,
    /// When the frame that is still incomplete began.
    partial_since: Option<Instant>,
    /// Of a wire; `None` for a connection.
    wire: Option<Wire>,
}

impl Session {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(limits: SessionLimits, now: Instant) -> Self {
        Self {
            state: State::AwaitImei,
            limits,
            opened_at: now,
            last_byte_at: now,
            partial_since: None,
            wire: None,
        }
    }

    /// A wire on which something came at `now`: see [`wire`].
    #[must_use]
    pub fn on_wire(limits: SessionLimits, now: Instant) -> Self {
        Self {
            wire: Some(Wire::default()),
            ..Self::new(limits, now)
        }
    }

    /// Bytes of a wire that belonged to nothing, since the last time.
    pub fn take_skipped(&mut self) -> u32 {
        self.wire.as_mut().map_or(0, Wire::take_skipped)
    }

    /// Who is talking, once admitted.
    #[must_use]
    pub fn imei(&self) -> Option<Imei> {
        match self.state {
            State::Ready(imei) | State::AwaitDurable { imei, .. } => Some(imei),
            State::AwaitImei | State::AwaitVerdict(_) | State::Closed => None,
        }
    }

    /// Notes that the tracker sent something.
    pub fn on_read(&mut self, now: Instant) {
        self.last_byte_at = now;
    }

    /// Looks at the pending bytes and takes what it has understood off their front. Call again
    /// until `None`: then more bytes, a receipt or the deadline is needed.
    pub fn on_bytes<'a>(&mut self, input: &mut &'a [u8], now: Instant) -> Option<Effect<'a>> {
        loop {
            let expect = match self.state {
                State::AwaitImei => Expect::Login,
                State::Ready(_) => Expect::Frame,
                State::AwaitVerdict(_) | State::AwaitDurable { .. } | State::Closed => {
                    return None;
                }
            };
            let cut = match &mut self.wire {
                None => codec::cut(input, expect, self.limits.codec),
                Some(wire) => wire.cut(input, expect, self.limits.codec),
            };
            *input = &input[cut.consumed()..];
            if !matches!(cut, Cut::NeedMore { .. }) {
                self.partial_since = None;
            }
            match cut {
                Cut::NeedMore { .. } => {
                    if input.is_empty() {
                        self.partial_since = None;
                    } else {
                        self.partial_since.get_or_insert(now);
                    }
                    return None;
                }
                Cut::Ping => {}
                Cut::Login(login) => return Some(self.on_login(login.imei())),
                Cut::Frame(frame) => return Some(self.on_frame(frame)),
                Cut::Refuse { .. } => return Some(Effect::Send(Reply::Damaged)),
                Cut::Close { offset, reason } => {
                    let reason = CloseReason::Bytes { offset, reason };
                    return Some(self.close(None, reason));
                }
            }
        }
    }

    fn on_login<'a>(&mut self, imei: Result<Imei, ImeiError>) -> Effect<'a> {
        let imei = match imei {
            Ok(imei) => imei,
            Err(error) => return self.close(Some(Reply::Refuse), CloseReason::NotAnImei(error)),
        };
        self.state = State::AwaitVerdict(imei);
        Effect::Ask(imei)
    }

    /// It is known whether the tracker may talk: what to do now. `None` if nobody asked.
    pub fn on_verdict(&mut self, verdict: Result<(), Refusal>) -> Option<Effect<'static>> {
        let State::AwaitVerdict(imei) = self.state else {
            return None;
        };
        Some(match verdict {
            Ok(()) => {
                self.state = State::Ready(imei);
                Effect::Send(Reply::Accept)
            }
            Err(refusal) => self.close(Some(Reply::Refuse), CloseReason::Refused { imei, refusal }),
        })
    }

    fn on_frame<'a>(&mut self, frame: Frame<'a>) -> Effect<'a> {
        let State::Ready(imei) = self.state else {
            unreachable!("frames are only cut in state Ready")
        };
        let wants_ack = frame.codec_id().wants_ack();
        self.state = State::AwaitDurable { imei, wants_ack };
        let (lane, panic) = urgency(frame.data());
        Effect::Keep(Keep {
            imei,
            data: frame.data(),
            record_count: records_claimed(frame.codec_id(), frame.first_count()),
            lane,
            panic,
        })
    }

    /// The frame is safe: what may be said to the tracker now.
    pub fn on_durable(&mut self, receipt: &Durable) -> Option<Reply> {
        let State::AwaitDurable { imei, wants_ack } = self.state else {
            return None;
        };
        self.state = State::Ready(imei);
        wants_ack.then(|| Reply::Ack(Ack(receipt.record_count())))
    }

    /// When the frame that is still incomplete began; `None` while none is.
    #[must_use]
    pub fn partial_since(&self) -> Option<Instant> {
        self.partial_since
    }

    /// May something else be said to the tracker now? Not before the login, not while a frame waits
    /// for its receipt, and not while a frame is arriving, after which the tracker listens for its
    /// acknowledgement alone. Ask when [`Session::on_bytes`] has nothing more to do.
    #[must_use]
    pub fn may_command(&self) -> bool {
        matches!(self.state, State::Ready(_)) && self.partial_since.is_none()
    }

    /// When [`Session::on_timeout`] wants to be called if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let ours = self.deadline_of_connection();
        let torn = self.tears_at();
        torn.map_or(ours, |torn| ours.min(torn))
    }

    /// When what is incomplete on a wire will stay so.
    fn tears_at(&self) -> Option<Instant> {
        let since = self.partial_since.filter(|_| self.wire.is_some())?;
        let silent = self.last_byte_at + wire::SILENCE;
        Some(silent.min(since + self.limits.frame_timeout))
    }

    fn deadline_of_connection(&self) -> Instant {
        let idle = self.last_byte_at + self.limits.idle_timeout;
        match (&self.state, self.partial_since) {
            (State::AwaitImei | State::AwaitVerdict(_), _) => {
                self.opened_at + self.limits.handshake_timeout
            }
            (_, Some(since)) => idle.min(since + self.limits.frame_timeout),
            (_, None) => idle,
        }
    }

    /// Closes the conversation when its deadline has passed. `None` from a wire: call
    /// [`Session::on_bytes`], what waits is to be looked at anew.
    pub fn on_timeout(&mut self, now: Instant) -> Option<Effect<'static>> {
        if self.tears_at().is_some_and(|at| at <= now)
            && let Some(wire) = &mut self.wire
        {
            wire.tear();
            self.partial_since = None;
        }
        if now < self.deadline_of_connection() {
            return None;
        }
        let limits = self.limits;
        let reason = match (&self.state, self.partial_since) {
            (State::AwaitVerdict(_) | State::AwaitDurable { .. } | State::Closed, _) => {
                return None;
            }
            (State::AwaitImei, _) => CloseReason::HandshakeTimeout(limits.handshake_timeout),
            (State::Ready(_), Some(since)) if now >= since + limits.frame_timeout => {
                CloseReason::FrameTimeout(limits.frame_timeout)
            }
            (State::Ready(_), _) => CloseReason::IdleTimeout(limits.idle_timeout),
        };
        Some(self.close(None, reason))
    }

    fn close<'a>(&mut self, reply: Option<Reply>, reason: CloseReason) -> Effect<'a> {
        self.state = State::Closed;
        Effect::Close(reply, reason)
    }
}
