//! A stream tells the same however it is split, and what `cut` tells of it in one piece.
//!
//! Input: a byte of choices, a number of piece lengths, the lengths, the stream. The last
//! length holds to the end; 0 is an empty piece once and then 1.
#![no_main]

use codec::crc::crc16;
use codec::frame::{HEADER_BYTES, OVERHEAD_BYTES};
use codec::{Cut, Event, Expect, Garbage, Limits, StreamEnd, StreamParser};
use libfuzzer_sys::fuzz_target;

// The last holds whatever libFuzzer makes, 4096 bytes by default.
const BUFFER_BYTES: [usize; 4] = [17, 60, 300, 4096];

fuzz_target!(|input: &[u8]| {
    let Some((&[choices, count], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(count)) else {
        return;
    };
    let expecting = if choices & 1 == 0 {
        Expect::Login
    } else {
        Expect::Frame
    };
    let garbage = if choices & 2 == 0 {
        Garbage::Close
    } else {
        Garbage::Resync
    };
    let buffer_bytes = BUFFER_BYTES[usize::from(choices >> 2 & 3)];
    let mut stream = stream.to_vec();
    // The fuzzer does not find checksums; without this it would hardly ever see a frame.
    if choices & 16 == 0 {
        repair(&mut stream, expecting);
    }
    let parser = || {
        StreamParser::new(vec![0; buffer_bytes], expecting, Limits::default()).on_garbage(garbage)
    };
    let whole = told(parser(), [&stream[..]].into_iter());
    let split = told(parser(), pieces(&stream, lengths));
    assert_eq!(whole, split);
    if garbage == Garbage::Close {
        let limits = Limits::default().within(buffer_bytes);
        assert_eq!(whole.0, cut_in_one_piece(&stream, expecting, limits));
    }
});

fn repair(stream: &mut [u8], mut expecting: Expect) {
    let mut at = 0;
    while at < stream.len() {
        let (consumed, refused) = match codec::cut(&stream[at..], expecting, Limits::default()) {
            Cut::NeedMore { .. } => return,
            // As after garbage: whatever comes next may be a message.
            Cut::Close { .. } => (1, false),
            Cut::Refuse { consumed, .. } => (consumed, true),
            Cut::Login(login) => {
                expecting = Expect::Frame;
                (login.consumed(), false)
            }
            cut => (cut.consumed(), false),
        };
        if refused {
            let frame = &mut stream[at..at + consumed];
            let data_end = consumed + HEADER_BYTES - OVERHEAD_BYTES;
            // A tenth or so stays damaged.
            if frame[data_end + 3] % 8 != 7 {
                let crc = u32::from(crc16(&frame[HEADER_BYTES..data_end]));
                frame[data_end..].copy_from_slice(&crc.to_be_bytes());
            }
        }
        at += consumed;
    }
}

fn pieces<'a>(stream: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut turn) = (stream, 0);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = match lengths.get(turn) {
            Some(&length) => usize::from(length),
            None => usize::from(lengths.last().copied().unwrap_or(1)).max(1),
        };
        turn += 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

// An event without what it borrows, and the bytes it handed over. The name keeps apart
// those that are told by their offset alone.
type Told = Vec<(&'static str, Event<'static>, Vec<u8>)>;

fn told<'a>(
    mut parser: StreamParser<Vec<u8>>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Told, StreamEnd) {
    let mut told = Vec::new();
    for mut piece in pieces {
        while let Some(event) = parser.push(&mut piece) {
            told.push(tell(event));
        }
        let closed = parser.end() == StreamEnd::Closed;
        assert!(closed || piece.is_empty());
        assert_eq!(closed, parser.needed() == 0);
    }
    (told, parser.end())
}

fn tell(event: Event<'_>) -> (&'static str, Event<'static>, Vec<u8>) {
    match event {
        Event::Login { offset, login } => ("login", Event::Ping { offset }, login.raw().to_vec()),
        Event::Frame { offset, frame } => ("frame", Event::Ping { offset }, frame.data().to_vec()),
        Event::Ping { offset } => ("ping", Event::Ping { offset }, Vec::new()),
        #[rustfmt::skip]
        Event::Refuse { offset, bytes, at, reason } => {
            ("refuse", Event::Refuse { offset, bytes, at, reason }, Vec::new())
        },
        Event::Garbage { offset, at, reason } => {
            ("garbage", Event::Garbage { offset, at, reason }, Vec::new())
        }
        Event::Resync { offset, skipped } => {
            ("resync", Event::Resync { offset, skipped }, Vec::new())
        }
        Event::Close { offset, at, reason } => {
            ("close", Event::Close { offset, at, reason }, Vec::new())
        }
        other => panic!("{other:?} is new: say what it hands over"),
    }
}

fn cut_in_one_piece(stream: &[u8], mut expecting: Expect, limits: Limits) -> Told {
    let (mut told, mut at) = (Vec::new(), 0);
    loop {
        let cut = codec::cut(&stream[at..], expecting, limits);
        let offset = at as u64;
        at += cut.consumed();
        told.push(tell(match cut {
            Cut::NeedMore { .. } => return told,
            Cut::Ping => Event::Ping { offset },
            Cut::Login(login) => {
                expecting = Expect::Frame;
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
                told.push(tell(Event::Close { offset, at, reason }));
                return told;
            }
        }));
    }
}
