//! Cutting the stream: the same answers however the bytes arrive, and never a wait for
//! more than the limits allow.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::{CloseReason, Cut, Expect, Limits, RefuseReason, Stage, ack, crc, cut};
use proptest::prelude::*;
use wire::{framed, frames, logins, plain_data};

const LIMITS: fn() -> Limits = Limits::default;

fn cut_frame(input: &[u8]) -> Cut<'_> {
    cut(input, Expect::Frame, LIMITS())
}

fn cut_login(input: &[u8]) -> Cut<'_> {
    cut(input, Expect::Login, LIMITS())
}

#[test]
fn every_truncation_of_a_frame_asks_for_exactly_the_rest() {
    for (name, frame) in frames() {
        for have in 0..frame.len() {
            let needed = match have {
                0 => 1,
                1..8 => 8,
                _ => frame.len(),
            };
            assert_eq!(
                cut_frame(&frame[..have]),
                Cut::NeedMore { needed },
                "{name} at {have}"
            );
        }
        let Cut::Frame(whole) = cut_frame(&frame) else {
            panic!("{name}")
        };
        assert_eq!(whole.consumed(), frame.len());
        assert_eq!(whole.data(), &frame[8..frame.len() - 4]);
    }
}

#[test]
fn every_truncation_of_a_login_asks_for_exactly_the_rest() {
    for (name, login) in logins() {
        for have in 0..login.len() {
            let needed = [1, 2].get(have).copied().unwrap_or(17);
            assert_eq!(
                cut_login(&login[..have]),
                Cut::NeedMore { needed },
                "{name} at {have}"
            );
        }
        let Cut::Login(whole) = cut_login(&login) else {
            panic!("{name}")
        };
        assert_eq!(whole.imei().unwrap().to_string().as_bytes(), &login[2..]);
    }
}

/// A session as a gateway would see it, with what each message was.
fn session() -> (Vec<u8>, Vec<String>) {
    let mut bytes = vec![0xFF];
    let mut told = vec!["ping".to_owned()];
    bytes.extend(&logins()[0].1);
    told.push("login".to_owned());
    for (index, (_, frame)) in frames().into_iter().enumerate() {
        if index % 3 == 0 {
            bytes.push(0xFF);
            told.push("ping".to_owned());
        }
        told.push(format!("frame {}", hex::encode(&frame[8..frame.len() - 4])));
        bytes.extend(&frame);
        if index % 4 == 0 {
            let mut damaged = frame.clone();
            damaged[10] ^= 1;
            told.push(format!("refuse {}", damaged.len()));
            bytes.extend(damaged);
        }
    }
    (bytes, told)
}

/// Takes everything that is whole out of `buffer`.
fn drain(buffer: &mut Vec<u8>, expecting: &mut Expect, told: &mut Vec<String>) {
    loop {
        let cut = cut(buffer, *expecting, LIMITS());
        told.push(match cut {
            Cut::NeedMore { needed } => {
                assert!(needed > buffer.len());
                return;
            }
            Cut::Ping => "ping".to_owned(),
            Cut::Login(_) => {
                *expecting = Expect::Frame;
                "login".to_owned()
            }
            Cut::Frame(frame) => format!("frame {}", hex::encode(frame.data())),
            Cut::Refuse { consumed, .. } => format!("refuse {consumed}"),
            Cut::Close { offset, reason } => panic!("{reason} at {offset}"),
        });
        let consumed = cut.consumed();
        assert!(consumed > 0, "no progress");
        buffer.drain(..consumed);
    }
}

#[test]
fn every_split_of_a_session_tells_the_same() {
    let (bytes, expected) = session();
    for split in 0..=bytes.len() {
        let (mut buffer, mut expecting, mut told) = (Vec::new(), Expect::Login, Vec::new());
        for piece in [&bytes[..split], &bytes[split..]] {
            buffer.extend(piece);
            drain(&mut buffer, &mut expecting, &mut told);
        }
        assert_eq!(told, expected, "split at {split}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn a_session_byte_by_byte_tells_the_same() {
    let (bytes, expected) = session();
    let (mut buffer, mut expecting, mut told) = (Vec::new(), Expect::Login, Vec::new());
    for byte in bytes {
        buffer.push(byte);
        drain(&mut buffer, &mut expecting, &mut told);
    }
    assert_eq!(told, expected);
}

#[test]
fn every_codec_id_is_framed_and_answered_by_its_class() {
    for id in 0..=u8::MAX {
        let frame = framed(&[id, 7, 0xAB, 3]);
        let Cut::Frame(cut) = cut_frame(&frame) else {
            panic!("{id:#04x}")
        };
        assert_eq!(cut.codec_id().as_byte(), id);
        assert_eq!(cut.first_count(), 7);
        let messages = (0x0C..=0x0F).contains(&id);
        assert_eq!(cut.ack(), (!messages).then_some([0, 0, 0, 7]), "{id:#04x}");
    }
}

#[test]
fn content_is_never_a_reason_to_refuse() {
    let mut counts_differ = plain_data(&[0, 1]);
    *counts_differ.last_mut().unwrap() = 9;
    for data in [
        vec![0x08, 0, 0],
        vec![0x08, 255, 0],
        counts_differ,
        vec![0xFF; 300],
    ] {
        let frame = framed(&data);
        assert!(matches!(cut_frame(&frame), Cut::Frame(cut) if cut.data() == data));
    }
}

#[test]
fn every_changed_bit_is_noticed_and_the_frame_skipped_whole() {
    for (name, frame) in frames() {
        for offset in 8..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[offset] ^= 1 << bit;
                let Cut::Refuse {
                    consumed,
                    offset: shown,
                    reason,
                } = cut_frame(&damaged)
                else {
                    panic!("{name}: bit {bit} of byte {offset}");
                };
                assert_eq!((consumed, shown), (frame.len(), frame.len() - 4));
                let RefuseReason::Crc { stated, computed } = reason else {
                    panic!("{reason}")
                };
                assert_ne!(stated, u32::from(computed));
                assert_eq!(computed, crc::crc16(&damaged[8..frame.len() - 4]));
            }
        }
    }
}

#[test]
fn the_first_wrong_byte_of_a_preamble_closes() {
    let (_, frame) = &frames()[0];
    for offset in 0..4 {
        for found in 1..=u8::MAX {
            let mut damaged = frame.clone();
            damaged[offset] = found;
            let ping = offset == 0 && found == 0xFF;
            for have in offset + 1..=damaged.len() {
                let expected = if ping {
                    Cut::Ping
                } else {
                    Cut::Close {
                        offset,
                        reason: CloseReason::Preamble { found },
                    }
                };
                assert_eq!(cut_frame(&damaged[..have]), expected);
            }
        }
    }
}

#[test]
fn a_second_login_is_no_frame() {
    let (_, login) = &logins()[0];
    let reason = CloseReason::Preamble { found: 0x0F };
    assert_eq!(cut_frame(login), Cut::Close { offset: 1, reason });
}

#[test]
fn a_frame_is_no_login() {
    let (_, frame) = &frames()[0];
    let closed = Cut::Close {
        offset: 0,
        reason: CloseReason::FrameBeforeLogin,
    };
    assert_eq!(cut_login(frame), closed);
    assert_eq!(cut_login(&[0, 0]), closed);
    assert_eq!(cut_login(&[0]), Cut::NeedMore { needed: 2 });
}

fn header(length: u32) -> [u8; 8] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, 0, 0, 0, a, b, c, d]
}

#[test]
fn the_header_alone_decides_about_size() {
    let limits = Limits {
        frame_bytes_max: 1292,
        login_bytes_max: 17,
    };
    let frame_bytes_max = 1292;
    for length in [
        1281,
        1282,
        65_535,
        65_536,
        0x7FFF_FFFF,
        0x8000_0000,
        u32::MAX - 12,
        u32::MAX,
    ] {
        let reason = CloseReason::FrameOverLimit {
            length,
            frame_bytes_max,
        };
        let closed = Cut::Close { offset: 4, reason };
        assert_eq!(cut(&header(length), Expect::Frame, limits), closed);
    }
    let most = header(1280);
    assert_eq!(
        cut(&most, Expect::Frame, limits),
        Cut::NeedMore { needed: 1292 }
    );
    for length in 0..3 {
        let closed = Cut::Close {
            offset: 4,
            reason: CloseReason::FrameTooShort { length },
        };
        assert_eq!(cut(&header(length), Expect::Frame, limits), closed);
    }
    assert_eq!(
        cut(&header(3), Expect::Frame, limits),
        Cut::NeedMore { needed: 15 }
    );
}

#[test]
fn limits_of_nothing_and_of_everything_do_not_overflow() {
    for frame_bytes_max in [0, 1, 11, 12, 14, usize::MAX] {
        for login_bytes_max in [0, 1, 2, usize::MAX] {
            let limits = Limits {
                frame_bytes_max,
                login_bytes_max,
            };
            for length in [0, 2, 3, 12, u32::MAX - 12, u32::MAX - 11, u32::MAX] {
                match cut(&header(length), Expect::Frame, limits) {
                    Cut::NeedMore { needed } => assert!(needed <= frame_bytes_max),
                    other => assert!(matches!(other, Cut::Close { offset: 4, .. })),
                }
            }
            for length in [1u16, 15, 0xFEFF] {
                match cut(&length.to_be_bytes(), Expect::Login, limits) {
                    Cut::NeedMore { needed } => assert!(needed <= login_bytes_max),
                    other => assert!(matches!(other, Cut::Close { offset: 0, .. })),
                }
            }
        }
    }
}

#[test]
fn logins_of_any_length_up_to_the_limit_are_cut_by_their_length() {
    for length in 1..=u8::MAX {
        let mut input = vec![0, length];
        input.extend(std::iter::repeat_n(b'7', usize::from(length)));
        input.extend(b"rest");
        match cut_login(&input) {
            Cut::Login(login) => {
                assert!(length <= 32);
                assert_eq!(login.consumed(), 2 + usize::from(length));
                assert_eq!(login.raw().len(), usize::from(length));
                assert_eq!(login.imei().is_ok(), length == 15);
            }
            Cut::Close {
                offset: 0,
                reason: CloseReason::LoginOverLimit { length: told, .. },
            } => {
                assert!(length > 32 && told == u16::from(length));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_wrong_names_its_stage() {
    let stage = |input: &[u8], expecting| match cut(input, expecting, Limits::strict_1280()) {
        Cut::Refuse { reason, .. } => reason.stage(),
        Cut::Close { reason, .. } => reason.stage(),
        other => panic!("{other:?}"),
    };
    let mut damaged = framed(&[8, 0, 0]);
    damaged[9] = 1;
    assert_eq!(stage(&damaged, Expect::Frame), Stage::Checksum);
    assert_eq!(stage(&[0, 1], Expect::Frame), Stage::Preamble);
    assert_eq!(stage(&header(2), Expect::Frame), Stage::Length);
    assert_eq!(stage(&header(1269), Expect::Frame), Stage::Length);
    assert_eq!(stage(&[0, 0], Expect::Login), Stage::Login);
    assert_eq!(stage(&[1, 0], Expect::Login), Stage::Login);
    let stages = [
        Stage::Login,
        Stage::Preamble,
        Stage::Length,
        Stage::Checksum,
    ];
    let texts = stages.map(|stage| stage.to_string());
    assert_eq!(texts, ["login", "preamble", "length", "checksum"]);
}

#[test]
fn limits_have_names_and_shrink_to_a_buffer() {
    let default = Limits::default();
    assert_eq!(default, Limits::DEFAULT);
    assert_eq!(
        (default.frame_bytes_max, default.login_bytes_max),
        (65_535, 34)
    );
    let strict = Limits::strict_1280();
    assert_eq!((strict.frame_bytes_max, strict.login_bytes_max), (1280, 34));
    let tiny = strict.within(20);
    assert_eq!((tiny.frame_bytes_max, tiny.login_bytes_max), (20, 20));
    assert_eq!(strict.within(usize::MAX), strict);
}

#[test]
fn debug_of_a_login_keeps_the_identity_to_itself() {
    let (_, login) = &logins()[1];
    assert!(!format!("{:?}", cut_login(login)).contains("35630704244"));
    let odd = cut_login(b"\x00\x0E35630704244101");
    assert_eq!(format!("{odd:?}"), "Login(Login(14 bytes, no IMEI))");
}

#[test]
fn counts_are_acknowledged_in_network_order() {
    assert_eq!(ack(0), [0; 4]);
    assert_eq!(ack(0x0102_0304), [1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn no_input_panics_or_waits_beyond_the_limits(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 0..64),
            proptest::collection::vec(any::<u8>(), 0..64).prop_map(|tail| {
                let mut input = vec![0, 0, 0, 0, 0, 0, 0];
                input.extend(tail);
                input
            }),
        ],
        frame_bytes_max in 0usize..200,
        login_bytes_max in 0usize..40,
        login in any::<bool>(),
    ) {
        let limits = Limits { frame_bytes_max, login_bytes_max };
        let expecting = if login { Expect::Login } else { Expect::Frame };
        let cut = cut(&input, expecting, limits);
        prop_assert!(cut.consumed() <= input.len());
        if let Cut::NeedMore { needed } = cut {
            prop_assert!(needed > input.len());
            prop_assert!(needed <= frame_bytes_max.max(login_bytes_max).max(8));
        }
        if let Cut::Close { offset, .. } | Cut::Refuse { offset, .. } = cut {
            prop_assert!(offset < input.len());
        }
    }

    #[test]
    fn any_data_in_a_good_frame_comes_out_unchanged(
        data in proptest::collection::vec(any::<u8>(), 3..2000),
        after in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut input = framed(&data);
        let whole = input.len();
        input.extend(after);
        let Cut::Frame(frame) = cut_frame(&input) else { panic!("refused a good frame") };
        prop_assert_eq!(frame.data(), &data[..]);
        prop_assert_eq!(frame.consumed(), whole);
    }
}
