//! The push parser: what it tells is a function of the bytes, however they are split, and
//! what it tells is right: `judge` says what that is.
#![allow(clippy::unwrap_used)]

#[path = "split/judge.rs"]
mod judge;
mod wire;

use std::fs;
use std::path::Path;

use codec::stream::BUFFER_BYTES_MIN;
use codec::{CloseReason, Event, Expect, Garbage, Limits, StreamEnd, StreamParser};
use judge::{SERVER, Setting, Told, judge, settings, tell};
use proptest::prelude::*;
use serde_json::Value;
use wire::{crc16_slowly, framed};

// ---- Every split ---------------------------------------------------------------------

/// Every public example that travels on TCP, broken ones too.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file: Value =
            serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let on_tcp = ["tcp", "command", "login", "ping"];
        if on_tcp.contains(&file["transport"].as_str().unwrap()) {
            let bytes = hex::decode(file["hex"].as_str().unwrap()).unwrap();
            found.push((file["name"].as_str().unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    assert!(found.len() >= 26);
    found
}

/// Whole, byte by byte and in every two pieces; and all of it as the judge says.
fn every_split_tells_the_same(name: &str, stream: &[u8], setting: Setting) {
    let expected = judge(stream, setting);
    assert_eq!(
        tell(stream, &[], setting),
        expected,
        "{name} whole, {setting:?}"
    );
    let everywhere: Vec<usize> = (1..stream.len()).collect();
    let bytewise = tell(stream, &everywhere, setting);
    assert_eq!(bytewise, expected, "{name} bytewise, {setting:?}");
    for at in 0..=stream.len() {
        let split = tell(stream, &[at], setting);
        assert_eq!(split, expected, "{name} split at {at}, {setting:?}");
    }
}

#[test]
fn every_split_of_every_vector_tells_the_same() {
    for (name, bytes) in vectors() {
        for setting in settings(&[4096, 128, BUFFER_BYTES_MIN]) {
            every_split_tells_the_same(&name, &bytes, setting);
        }
    }
}

#[test]
fn every_truncation_of_every_vector_tells_the_same_and_what_is_missing() {
    for (name, bytes) in vectors() {
        for setting in settings(&[4096, 128]) {
            for have in 0..=bytes.len() {
                let short = &bytes[..have];
                let expected = judge(short, setting);
                assert_eq!(tell(short, &[], setting), expected, "{name} to {have}");
                let everywhere: Vec<usize> = (1..have).collect();
                let bytewise = tell(short, &everywhere, setting);
                assert_eq!(bytewise, expected, "{name} to {have}, bytewise");
            }
        }
    }
}

/// Ping, login, and every vector in turn, with `between` after every third.
fn session(between: &[u8]) -> Vec<u8> {
    let vectors = vectors();
    let login = vectors.iter().find(|(name, _)| name.starts_with("login"));
    let mut stream = [&[0xFF], login.unwrap().1.as_slice()].concat();
    for (index, (_, bytes)) in vectors.iter().enumerate() {
        stream.extend(bytes);
        if index % 3 == 0 {
            stream.extend(between);
        }
    }
    stream
}

#[test]
fn every_split_of_all_vectors_in_a_row_tells_the_same() {
    for (name, between) in [
        ("nothing between", &b""[..]),
        ("pings between", b"\xFF\xFF"),
        ("zeros between", &[0; 20]),
        (
            "noise between",
            b"AT+CSQ\r\n\x00\x00\x00\x00\x00\x00\x01\x00\x08\x00",
        ),
    ] {
        let stream = session(between);
        for setting in settings(&[2048]) {
            every_split_tells_the_same(name, &stream, setting);
        }
        // What gets through is not nothing.
        let resync = Setting {
            garbage: Garbage::Resync,
            ..SERVER
        };
        let (told, _) = tell(&stream, &[], resync);
        let frames = told.iter().filter(|told| matches!(told, Told::Frame(..)));
        assert!(frames.count() >= 15, "{name}: {told:?}");
    }
}

#[test]
fn a_ping_is_heard_at_every_boundary_and_nowhere_else() {
    let frame = framed(b"\x0C\x01\x05\0\0\0\x02\xFF\xFF\x01");
    let login = b"\x00\x0F356307042441013";
    let stream = [
        &b"\xFF\xFF"[..],
        login,
        b"\xFF",
        &frame,
        b"\xFF",
        &frame,
        b"\xFF",
    ]
    .concat();
    let (told, end) = tell(&stream, &[], SERVER);
    let expected = [
        Told::Ping(0),
        Told::Ping(1),
        Told::Login(2, 17),
        Told::Ping(19),
        Told::Frame(20, 22),
        Told::Ping(42),
        Told::Frame(43, 22),
        Told::Ping(65),
    ];
    assert_eq!((told.as_slice(), end), (&expected[..], StreamEnd::Clean));
}

// ---- Memory, limits, garbage -----------------------------------------------------------

#[test]
fn whole_messages_are_told_from_the_pushed_bytes_themselves() {
    let frame = framed(&[0x0C; 40]);
    let stream = [frame.as_slice(), &frame, &frame[..20]].concat();
    let mut parser = StreamParser::new([0; 64], Expect::Frame, Limits::default());
    let mut input = stream.as_slice();
    for start in [0, frame.len()] {
        let Some(Event::Frame { frame, .. }) = parser.push(&mut input) else {
            panic!("it is whole");
        };
        assert!(std::ptr::eq(
            frame.data(),
            &raw const stream[start + 8..start + 48]
        ));
    }
    assert_eq!(parser.push(&mut input), None);
    // The rest of the third, then one more in the same piece: the latter is not copied.
    let rest = [&frame[20..], &frame].concat();
    let mut input = rest.as_slice();
    let Some(Event::Frame { frame: third, .. }) = parser.push(&mut input) else {
        panic!("now it is whole");
    };
    assert_eq!(third.data(), [0x0C; 40]);
    assert_eq!(input.len(), frame.len(), "took more than the frame's end");
    let Some(Event::Frame { frame: fourth, .. }) = parser.push(&mut input) else {
        panic!("whole from the start");
    };
    let place = rest.len() - frame.len() + 8;
    assert!(std::ptr::eq(
        fourth.data(),
        &raw const rest[place..place + 40]
    ));
}

#[test]
fn the_buffer_may_be_borrowed_and_its_size_is_a_limit() {
    let frame = framed(&[8; 53]);
    for (room, fits) in [(64, false), (65, true)] {
        let mut memory = [0; 80];
        let mut parser = StreamParser::new(&mut memory[..room], Expect::Frame, Limits::default());
        assert_eq!(parser.limits().frame_bytes_max, room);
        let mut input = frame.as_slice();
        match parser.push(&mut input) {
            Some(Event::Frame { .. }) => assert!(fits),
            Some(Event::Close { at: 4, reason, .. }) => {
                let over = CloseReason::FrameOverLimit {
                    length: 53,
                    frame_bytes_max: room,
                };
                assert!(!fits && reason == over);
                assert_eq!(parser.push(&mut input), None, "closed is closed");
                assert_eq!((parser.end(), parser.needed()), (StreamEnd::Closed, 0));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[should_panic(expected = "at least a login")]
fn a_buffer_too_small_for_a_login_is_a_mistake() {
    let _ = StreamParser::new([0; BUFFER_BYTES_MIN - 1], Expect::Login, Limits::default());
}

#[test]
fn the_strict_reading_of_1280_bytes_counts_the_whole_frame() {
    for (data_bytes, fits) in [(1264, true), (1268, true), (1269, false), (1280, false)] {
        let frame = framed(&vec![8; data_bytes]);
        let strict = Setting {
            expecting: Expect::Frame,
            limits: Limits::strict_1280(),
            ..SERVER
        };
        let (told, _) = tell(&frame, &[], strict);
        assert_eq!(matches!(told[0], Told::Frame(..)), fits, "{data_bytes}");
    }
}

#[test]
fn a_reader_that_waits_for_what_is_needed_never_waits_too_long() {
    let stream = session(b"\xFF");
    let mut parser =
        StreamParser::new([0; 4096], Expect::Login, Limits::default()).on_garbage(Garbage::Resync);
    let (mut at, mut told) = (0, Vec::new());
    while at < stream.len() {
        let now = parser.needed().min(stream.len() - at);
        assert!(now > 0);
        let mut piece = &stream[at..at + now];
        at += now;
        while let Some(event) = parser.push(&mut piece) {
            // Nothing was read beyond the message that is told.
            if let Event::Frame { offset, frame } = event {
                assert_eq!(usize::try_from(offset).unwrap() + frame.consumed(), at);
            }
            told.push(event.offset());
        }
    }
    let (expected, _) = tell(
        &stream,
        &[],
        Setting {
            buffer_bytes: 4096,
            garbage: Garbage::Resync,
            ..SERVER
        },
    );
    assert_eq!(told.len(), expected.len());
}

#[test]
fn a_server_that_refused_a_login_may_hear_another() {
    let login = b"\x00\x0F356307042441013";
    let mut parser = StreamParser::new([0; 64], Expect::Login, Limits::default());
    for _ in 0..3 {
        let mut input = &login[..];
        assert!(matches!(parser.push(&mut input), Some(Event::Login { .. })));
        assert_eq!(parser.expecting(), Expect::Frame);
        parser.expect(Expect::Login);
    }
    assert!(!format!("{parser:?}").contains("3563"));
}

#[test]
fn a_change_of_mind_in_the_middle_of_a_search_starts_it_afresh() {
    let mut parser =
        StreamParser::new([0; 64], Expect::Frame, Limits::default()).on_garbage(Garbage::Resync);
    let frame = framed(&[8, 0, 0]);
    let mut input = &[b"no", &frame[..9]].concat()[..];
    assert!(matches!(
        parser.push(&mut input),
        Some(Event::Garbage { .. })
    ));
    assert_eq!(parser.push(&mut input), None);
    parser.expect(Expect::Login);
    let mut input = &[&frame[9..], b"\x00\x0F3563"].concat()[..];
    assert_eq!(
        parser.push(&mut input),
        None,
        "a frame is not what is looked for"
    );
    parser.expect(Expect::Frame);
    let mut input = &[b"07042441013", frame.as_slice()].concat()[..];
    let resync = Event::Resync {
        offset: 34,
        skipped: 34,
    };
    assert_eq!(parser.push(&mut input), Some(resync));
    // The search found a frame, so a frame it is.
    parser.expect(Expect::Login);
    assert!(matches!(
        parser.push(&mut input),
        Some(Event::Frame { offset: 34, .. })
    ));
    assert_eq!(parser.expecting(), Expect::Login);
}

#[test]
fn every_damaged_bit_behind_garbage_makes_the_frame_garbage_too() {
    let (frame, next) = (framed(&[8, 1, 2, 3, 0]), framed(&[8, 0, 0]));
    let setting = Setting {
        expecting: Expect::Frame,
        garbage: Garbage::Resync,
        ..SERVER
    };
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let stream = [b"x", damaged.as_slice(), b"x", &next].concat();
        let (told, _) = tell(&stream, &[], setting);
        let start = frame.len() + 2;
        let after = [Told::Resync(start, start), Told::Frame(start, next.len())];
        assert_eq!(told[1..], after, "bit {bit}");
    }
}

#[test]
fn of_two_frames_that_end_together_the_longer_is_taken() {
    // What stands in front of the inner data field sums to 0, so both sums are equal.
    let inner = [8, 0xAB, 0xCD, 0];
    let front = |a, b| [8, 1, a, b, 0, 0, 0, 0, 0, 0, 0, 4];
    let outer = (0..=u16::MAX)
        .map(|x| front(x.to_be_bytes()[0], x.to_be_bytes()[1]))
        .find(|front| crc16_slowly(front) == 0)
        .unwrap();
    let frame = framed(&[&outer[..], &inner].concat());
    assert!(frame.ends_with(&framed(&inner)[4..]));
    let stream = [b"x".as_slice(), &frame].concat();
    let setting = Setting {
        expecting: Expect::Frame,
        garbage: Garbage::Resync,
        ..SERVER
    };
    let (told, _) = tell(&stream, &[], setting);
    assert_eq!(told[1..], [Told::Resync(1, 1), Told::Frame(1, frame.len())]);
    assert_eq!(judge(&stream, setting).0, told);
}

#[test]
fn no_frame_is_told_before_a_login_however_good_it_is() {
    let frame = framed(&[8, 0, 0]);
    let stream = [&frame, b"\x00\x0F356307042441013".as_slice(), &frame].concat();
    let resync = Setting {
        garbage: Garbage::Resync,
        ..SERVER
    };
    let (told, end) = tell(&stream, &[], resync);
    let expected = [
        Told::Garbage(0, 0, CloseReason::FrameBeforeLogin),
        Told::Resync(15, 15),
        Told::Login(15, 17),
        Told::Frame(32, 15),
    ];
    assert_eq!((told.as_slice(), end), (&expected[..], StreamEnd::Clean));
}

#[test]
fn a_frame_inside_a_claim_that_never_ends_is_found_at_once() {
    // Zeros and a length of 60 000 in the garbage: the real frame must not wait for it.
    let claim = [0, 0, 0, 0, 0, 0, 0xEA, 0x60, 0x08];
    let frame = framed(&[8, 0, 0]);
    let stream = [&b"\x01"[..], &claim, b"garbage", &frame].concat();
    let setting = Setting {
        expecting: Expect::Frame,
        garbage: Garbage::Resync,
        ..SERVER
    };
    let (told, end) = tell(&stream, &[], setting);
    let expected = [
        Told::Garbage(0, 0, CloseReason::Preamble { found: 1 }),
        Told::Resync(17, 17),
        Told::Frame(17, 15),
    ];
    assert_eq!((told.as_slice(), end), (&expected[..], StreamEnd::Clean));
}

#[test]
fn a_frame_gets_through_any_number_of_false_heads_before_it() {
    // More claims than are remembered, all of them longer than the frame.
    for length in [2000u32, 20_000, 60_000] {
        let mut stream = vec![1];
        for _ in 0..5000 {
            stream.extend([0; 4]);
            stream.extend(length.to_be_bytes());
            stream.push(0x8E);
        }
        let start = stream.len();
        let frame = framed(&[8; 1000]);
        stream.extend(&frame);
        let setting = Setting {
            expecting: Expect::Frame,
            garbage: Garbage::Resync,
            ..SERVER
        };
        let cuts: Vec<usize> = (1..stream.len()).step_by(1460).collect();
        for cuts in [&[][..], &cuts] {
            let (told, _) = tell(&stream, cuts, setting);
            assert_eq!(
                told[1..],
                [Told::Resync(start, start), Told::Frame(start, 1012)]
            );
        }
    }
}

#[test]
fn a_damaged_frame_where_a_frame_belongs_is_skipped_by_its_length() {
    // Even when the bytes inside would make frames: the device waits for its answer.
    let frame = framed(&[8, 0, 0]);
    let mut damaged = framed(&[&[8][..], &frame, &[1]].concat());
    damaged[8] ^= 1;
    let stream = [damaged.as_slice(), &frame].concat();
    for setting in settings(&[65_535]) {
        if setting.expecting == Expect::Login {
            continue;
        }
        let (told, end) = tell(&stream, &[], setting);
        assert!(matches!(told[0], Told::Refuse(0, 29, _)));
        assert_eq!((told[1], end), (Told::Frame(29, 15), StreamEnd::Clean));
        assert_eq!(told.len(), 2);
    }
}

#[test]
fn a_mebibyte_of_anything_is_one_piece_of_garbage_and_one_frame() {
    const MEBIBYTE: usize = 1 << 20;
    let frame = framed(&[8; 100]);
    let head = [0, 0, 0, 0, 0, 0, 0xFF, 0xF3, 8];
    let nested: Vec<u8> = head.iter().copied().cycle().take(MEBIBYTE).collect();
    for garbage in [
        vec![0; MEBIBYTE],
        vec![8; MEBIBYTE],
        [b"x", &nested[1..]].concat(),
    ] {
        let stream = [garbage.as_slice(), &[0xAA], &frame].concat();
        let setting = Setting {
            expecting: Expect::Frame,
            garbage: Garbage::Resync,
            ..SERVER
        };
        let start = MEBIBYTE + 1;
        for piece_bytes in [stream.len(), 1460, 1] {
            let cuts: Vec<usize> = (1..stream.len()).step_by(piece_bytes).collect();
            let (told, end) = tell(&stream, &cuts, setting);
            assert!(matches!(told[0], Told::Garbage(0, ..)));
            assert_eq!(
                told[1..],
                [Told::Resync(start, start), Told::Frame(start, 112)]
            );
            assert_eq!(end, StreamEnd::Clean);
        }
    }
}

#[test]
fn frames_are_found_wherever_the_ring_wraps() {
    let frame = framed(&[0x8E; 30]);
    for noise in 0..200 {
        let stream = [&vec![0xAA; noise + 1][..], &frame, &[0xAA; 7], &frame].concat();
        for buffer_bytes in [42, 43, 64, 100] {
            let setting = Setting {
                buffer_bytes,
                expecting: Expect::Frame,
                garbage: Garbage::Resync,
                ..SERVER
            };
            assert_eq!(tell(&stream, &[], setting), judge(&stream, setting));
        }
    }
}

// ---- Mixtures --------------------------------------------------------------------------

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![Just(0u8), Just(8), Just(0xFF), any::<u8>()];
    let data = proptest::collection::vec(byte(), 1..60);
    let codec = prop_oneof![Just(8u8), Just(0x8E), Just(0x0C), Just(7), any::<u8>()];
    let frame = (codec, data).prop_map(|(codec, mut data)| {
        data.insert(0, codec);
        data.push(1);
        framed(&data)
    });
    let frame = frame.boxed();
    let damaged = (frame.clone(), any::<proptest::sample::Index>(), 0..8u8).prop_map(
        |(mut frame, at, bit)| {
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            frame
        },
    );
    let cut_short = (frame.clone(), any::<proptest::sample::Index>())
        .prop_map(|(frame, at)| frame[..at.index(frame.len())].to_vec());
    let nested = (frame.clone(), 0..40u32).prop_map(|(inner, more)| {
        let length = u32::try_from(inner.len()).unwrap() + more;
        [&[0; 4][..], &length.to_be_bytes(), &[8], &inner].concat()
    });
    prop_oneof![
        4 => frame,
        2 => damaged,
        1 => cut_short,
        2 => nested,
        2 => Just(vec![0xFF]),
        2 => Just(b"\x00\x0F356307042441013".to_vec()),
        1 => Just(b"\x00\x0F356307042441O13".to_vec()),
        1 => (1..30usize).prop_map(|zeros| vec![0; zeros]),
        2 => proptest::collection::vec(byte(), 1..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_mixture_in_any_pieces_tells_what_the_judge_says(
        pieces in proptest::collection::vec(piece(), 0..12),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        buffer_bytes in prop_oneof![Just(17usize), 17..120usize, Just(4096)],
        login in any::<bool>(),
        resync in any::<bool>(),
    ) {
        let stream = pieces.concat();
        let setting = Setting {
            buffer_bytes,
            expecting: if login { Expect::Login } else { Expect::Frame },
            garbage: if resync { Garbage::Resync } else { Garbage::Close },
            limits: Limits::DEFAULT,
        };
        let expected = judge(&stream, setting);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&tell(&stream, &[], setting), &expected);
        prop_assert_eq!(&tell(&stream, &cuts, setting), &expected);
        let everywhere: Vec<usize> = (1..stream.len()).collect();
        prop_assert_eq!(&tell(&stream, &everywhere, setting), &expected);
    }

    #[test]
    fn no_bytes_panic_and_none_are_lost(
        stream in proptest::collection::vec(
            prop_oneof![3 => Just(0u8), 1 => Just(8), 1 => Just(0x0F), 1 => any::<u8>()], 0..600),
        buffer_bytes in 17..80usize,
        frame_bytes_max in 0..100usize,
        login_bytes_max in 0..40usize,
        login in any::<bool>(),
    ) {
        let setting = Setting {
            buffer_bytes,
            expecting: if login { Expect::Login } else { Expect::Frame },
            garbage: Garbage::Resync,
            limits: Limits { frame_bytes_max, login_bytes_max },
        };
        let (told, end) = tell(&stream, &[], setting);
        // Every byte belongs to one thing that was told, or to the end.
        let mut at = 0;
        for told in told {
            let (start, bytes) = match told {
                Told::Ping(start) => (start, 1),
                Told::Login(start, bytes)
                | Told::Frame(start, bytes)
                | Told::Refuse(start, bytes, _) => (start, bytes),
                Told::Garbage(start, shows, _) => {
                    prop_assert!(start <= shows && shows < stream.len());
                    (start, 0)
                }
                Told::Resync(end, bytes) => (end - bytes, bytes),
                Told::Close(..) => panic!("it goes on"),
            };
            prop_assert_eq!(start, at);
            at = start + bytes;
        }
        let left = match end {
            StreamEnd::Clean => 0,
            StreamEnd::Inside { bytes, needed, .. } => {
                prop_assert!(bytes < needed && needed <= buffer_bytes);
                bytes as u64
            }
            StreamEnd::Garbage { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(at as u64 + left, stream.len() as u64);
    }
}
