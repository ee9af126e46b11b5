//! Pure: no I/O, no clock.
//!
//! Cutting the bytes of a wire: a stream without a beginning, without an end, and with noise.
//!
//! Why beside [`codec::cut`]: over TCP whoever sends garbage is hung up on and begins anew. A wire
//! cannot be hung up. A tracker that restarts logs in again in the middle of what we take for a
//! frame, and its plug may bounce while it does.
//!
//! Invariants:
//! - Behind garbage nothing is believed but a whole login of fifteen digits, or a whole frame of a
//!   known codec whose checksum holds; of several, the one that is whole first.
//! - Never is more than [`FRAME_BYTES_MAX`] waited for, and nothing outlives a silence.

use std::time::Duration;

use codec::{CodecId, Cut, Expect, IMEI_DIGITS, Limits};

/// Longest frame on a wire; records take up to 1,280 bytes, replies to commands half of this. A
/// damaged length field can swallow no more.
pub const FRAME_BYTES_MAX: usize = 4096;

/// Within a frame no byte is this late: at 300 baud one takes 33 ms.
pub const SILENCE: Duration = Duration::from_secs(1);

const LOGIN_HEAD: [u8; 2] = [0, IMEI_DIGITS as u8];
const LOGIN_BYTES: usize = LOGIN_HEAD.len() + IMEI_DIGITS;

/// Where a wire is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wire {
    /// In garbage.
    is_lost: bool,
    /// What waits belongs to nothing that will still come.
    is_torn: bool,
    skipped: u32,
}

impl Wire {
    /// As [`codec::cut`], but it takes garbage off the front of `input` and never closes. A login
    /// may come at any time.
    pub(super) fn cut<'a>(
        &mut self,
        input: &mut &'a [u8],
        expect: Expect,
        limits: Limits,
    ) -> Cut<'a> {
        let limits = limits.within(FRAME_BYTES_MAX);
        let bytes: &'a [u8] = input;
        if !self.is_lost {
            match at_boundary(bytes, expect, limits) {
                Cut::Close { .. } => self.is_lost = true,
                cut => return cut,
            }
        }
        let found = first_whole(bytes, expect, limits);
        let skip = match found {
            Some((start, _)) => start,
            None if self.is_torn => bytes.len(),
            None => bytes.len().saturating_sub(limits.frame_bytes_max),
        };
        *input = &bytes[skip..];
        self.skipped = self
            .skipped
            .saturating_add(u32::try_from(skip).unwrap_or(u32::MAX));
        self.is_lost = found.is_none() && !self.is_torn;
        self.is_torn = false;
        let needed = input.len() + 1;
        found.map_or(Cut::NeedMore { needed }, |(_, cut)| cut)
    }

    /// Nothing came for a while: what is incomplete stays so.
    pub(super) fn tear(&mut self) {
        self.is_lost = true;
        self.is_torn = true;
    }

    /// Bytes that belonged to nothing, since the last time.
    pub(super) fn take_skipped(&mut self) -> u32 {
        std::mem::take(&mut self.skipped)
    }
}

/// Where a message is expected to begin.
fn at_boundary(input: &[u8], expect: Expect, limits: Limits) -> Cut<'_> {
    if let Some(login) = login(input) {
        return login;
    }
    match (expect, input) {
        (Expect::Frame, _) => codec::cut(input, Expect::Frame, limits),
        (Expect::Login, [] | [0]) => Cut::NeedMore { needed: 2 },
        (Expect::Login, [codec::frame::PING, ..]) => Cut::Ping,
        (Expect::Login, _) => Cut::Close {
            offset: 0,
            reason: codec::CloseReason::FrameBeforeLogin,
        },
    }
}

/// A login, or the beginning of what can be nothing else; `None` otherwise.
fn login(input: &[u8]) -> Option<Cut<'_>> {
    let digits = input.strip_prefix(&LOGIN_HEAD)?;
    let there = &digits[..digits.len().min(IMEI_DIGITS)];
    if !there.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match input.split_at_checked(LOGIN_BYTES) {
        Some((whole, _)) => codec::cut(whole, Expect::Login, Limits::default()),
        None => Cut::NeedMore {
            needed: LOGIN_BYTES,
        },
    })
}

/// The message that ends first, and where it begins.
fn first_whole(input: &[u8], expect: Expect, limits: Limits) -> Option<(usize, Cut<'_>)> {
    let mut first: Option<(usize, Cut<'_>)> = None;
    for (start, &byte) in input.iter().enumerate() {
        // Whatever begins, begins so.
        if byte != 0 {
            continue;
        }
        let rest = &input[start..];
        let cut = match (login(rest), expect) {
            (Some(login), _) => login,
            (None, Expect::Frame) => codec::cut(rest, Expect::Frame, limits),
            (None, Expect::Login) => continue,
        };
        let is_whole = match &cut {
            Cut::Login(_) => true,
            Cut::Frame(frame) => !matches!(frame.codec_id(), CodecId::Other(_)),
            _ => false,
        };
        let end = start + cut.consumed();
        let is_sooner = first
            .as_ref()
            .is_none_or(|(at, cut)| end < at + cut.consumed());
        if is_whole && is_sooner {
            first = Some((start, cut));
        }
    }
    first
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const LOGIN: &[u8] = b"\x00\x0F356307042441013";

    /// Wiki "Codec", Codec 8 example 1: one record.
    const FRAME: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";

    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Login,
        Frame(usize),
        Damaged,
    }
    use Told::{Damaged, Frame, Login};

    /// Someone who listens to a wire and lets everybody in.
    struct Listener {
        wire: Wire,
        pending: Vec<u8>,
        expect: Expect,
    }

    impl Listener {
        fn new() -> Self {
            Self {
                wire: Wire::default(),
                pending: Vec::new(),
                expect: Expect::Login,
            }
        }

        fn logged_in() -> Self {
            let mut listener = Self::new();
            assert_eq!(listener.hear(LOGIN), [Login]);
            listener
        }

        fn hear(&mut self, bytes: &[u8]) -> Vec<Told> {
            self.pending.extend_from_slice(bytes);
            let pending = std::mem::take(&mut self.pending);
            let (mut rest, mut told) = (&pending[..], Vec::new());
            loop {
                let cut = self.wire.cut(&mut rest, self.expect, Limits::default());
                rest = &rest[cut.consumed()..];
                match cut {
                    Cut::NeedMore { .. } => break,
                    Cut::Ping => {}
                    Cut::Login(_) => {
                        self.expect = Expect::Frame;
                        told.push(Login);
                    }
                    Cut::Frame(frame) => told.push(Frame(frame.data().len())),
                    Cut::Refuse { .. } => told.push(Damaged),
                    Cut::Close { .. } => panic!("a wire is never closed"),
                }
            }
            self.pending = rest.to_vec();
            told
        }

        fn silence(&mut self) -> Vec<Told> {
            self.wire.tear();
            let told = self.hear(&[]);
            assert!(self.pending.is_empty(), "nothing outlives a silence");
            told
        }
    }

    fn frame() -> Vec<u8> {
        hex::decode(FRAME).unwrap()
    }

    #[test]
    fn what_comes_as_over_tcp_is_taken_as_over_tcp() {
        let mut listener = Listener::new();
        assert_eq!(listener.hear(&[codec::frame::PING]), []);
        let both = [LOGIN, &[codec::frame::PING], &frame(), &frame()].concat();
        let mut told = Vec::new();
        for byte in both {
            told.extend(listener.hear(&[byte]));
        }
        assert_eq!(told, [Login, Frame(54), Frame(54)]);
        let mut damaged = frame();
        damaged[30] ^= 1;
        assert_eq!(listener.hear(&damaged), [Damaged]);
        assert_eq!(listener.hear(&frame()), [Frame(54)]);
        assert_eq!(listener.wire.take_skipped(), 0);
    }

    #[test]
    fn a_tracker_that_starts_again_is_heard_at_once_or_after_a_silence() {
        let mut listener = Listener::logged_in();
        assert_eq!(listener.hear(LOGIN), [Login], "between two frames");
        for end in 1..frame().len() {
            let mut listener = Listener::logged_in();
            assert_eq!(listener.hear(&frame()[..end]), []);
            assert_eq!(listener.silence(), [], "{end}");
            assert_eq!(
                listener.hear(&[LOGIN, &frame()].concat()),
                [Login, Frame(54)]
            );
            assert_eq!(listener.wire.take_skipped() as usize, end);
        }
        // No silence between: it waits for its answer, so there is one behind.
        let too_near = frame().len() - LOGIN.len();
        for end in 1..too_near {
            let mut listener = Listener::logged_in();
            let mut told = listener.hear(&[&frame()[..end], LOGIN].concat());
            told.extend(listener.silence());
            assert!(told.ends_with(&[Login]), "{end}: {told:?}");
        }
        // Its first login ends the frame of before, so it hears no and says it again.
        for end in too_near..frame().len() {
            let mut listener = Listener::logged_in();
            let mut told = listener.hear(&[&frame()[..end], LOGIN].concat());
            told.extend(listener.silence());
            assert_eq!(told, [Damaged], "{end}");
            assert_eq!(listener.hear(LOGIN), [Login]);
        }
    }

    #[test]
    fn the_message_that_is_whole_first_is_taken_without_waiting_for_a_longer_one() {
        let head = [1, 0, 0, 0, 0, 0, 0, 0x0B, 0xB8, 8];
        let mut listener = Listener::logged_in();
        assert_eq!(listener.hear(&[&head, &frame()[..]].concat()), [Frame(54)]);
        assert_eq!(listener.wire.take_skipped() as usize, head.len());
        assert_eq!(listener.hear(&[&head, LOGIN].concat()), [Login]);
    }

    #[test]
    fn behind_garbage_only_frames_of_known_codecs_count() {
        // Its checksum holds, as that of nothing but zeros does.
        let none = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        let mut listener = Listener::logged_in();
        assert_eq!(listener.hear(&[&[9], &none[..]].concat()), []);
        assert_eq!(listener.hear(&none), []);
        assert_eq!(listener.hear(&frame()), [Frame(54)]);
        assert_eq!(listener.hear(&none), [Frame(3)], "where one is expected");
    }

    #[test]
    fn a_length_that_was_damaged_swallows_little() {
        let mut listener = Listener::logged_in();
        let above = u32::try_from(FRAME_BYTES_MAX - 11).unwrap().to_be_bytes();
        assert_eq!(
            listener.hear(&[&[0; 4], &above[..], &[8; 100]].concat()),
            []
        );
        assert_eq!(listener.hear(&frame()), [Frame(54)]);
        // Noise without an end takes no more memory than one frame.
        for _ in 0..10 {
            assert_eq!(listener.hear(&[0x55; 1000]), []);
        }
        assert_eq!(listener.pending.len(), FRAME_BYTES_MAX);
        assert_eq!(listener.hear(LOGIN), [Login]);
    }

    #[test]
    fn before_a_login_a_frame_is_noise() {
        let mut listener = Listener::new();
        assert_eq!(listener.hear(&frame()), []);
        assert_eq!(listener.hear(LOGIN), [Login]);
        assert_eq!(listener.wire.take_skipped() as usize, frame().len());
    }

    /// Zeros, lengths and login heads more often than chance would have them.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => Just(0), 1 => Just(15), 1 => Just(8), 1 => b'0'..=b'9', 2 => any::<u8>()];
        prop::collection::vec(byte, 0..200)
    }

    fn has_login(bytes: &[u8]) -> bool {
        bytes
            .windows(LOGIN_BYTES)
            .any(|window| matches!(login(window), Some(Cut::Login(_))))
    }

    proptest! {
        #[test]
        fn a_login_behind_any_noise_is_heard_at_once(noise in noise(), pieces in 1..40_usize) {
            prop_assume!(!has_login(&noise));
            let mut listener = Listener::new();
            let mut told = Vec::new();
            for piece in [&noise[..], LOGIN].concat().chunks(pieces) {
                told.extend(listener.hear(piece));
            }
            prop_assert_eq!(told, [Login]);
            prop_assert_eq!(listener.hear(&frame()), [Frame(54)]);
        }

        #[test]
        fn a_frame_that_is_sent_again_after_any_noise_is_heard(noise in noise(), pieces in 1..40_usize) {
            prop_assume!(!has_login(&noise));
            let mut listener = Listener::logged_in();
            for piece in [&noise[..], &frame()].concat().chunks(pieces) {
                listener.hear(piece);
            }
            listener.silence();
            prop_assert_eq!(listener.hear(&frame()), [Frame(54)]);
        }
    }
}
