//! What the push parser tells, made comparable, and a second parser to compare it with:
//! written from the definition over the whole input, slow and without any state.

use codec::{CloseReason, Event, Expect, Garbage, Limits, RefuseReason, StreamEnd, StreamParser};

use super::wire::crc16_slowly;

/// An event by where and how long it is. That its content is what lies there in the
/// stream is asserted where it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Ping(usize),
    Login(usize, usize),
    Frame(usize, usize),
    Refuse(usize, usize, RefuseReason),
    // Where it begins and where it shows.
    Garbage(usize, usize, CloseReason),
    // Where it ends, and how long it was.
    Resync(usize, usize),
    Close(usize, usize, CloseReason),
}

/// What a parser is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) buffer_bytes: usize,
    pub(crate) expecting: Expect,
    pub(crate) garbage: Garbage,
    pub(crate) limits: Limits,
}

pub(crate) const SERVER: Setting = Setting {
    buffer_bytes: 65_535,
    expecting: Expect::Login,
    garbage: Garbage::Close,
    limits: Limits::DEFAULT,
};

pub(crate) fn settings(buffer_bytes: &[usize]) -> Vec<Setting> {
    let mut settings = Vec::new();
    for &buffer_bytes in buffer_bytes {
        for expecting in [Expect::Login, Expect::Frame] {
            for garbage in [Garbage::Close, Garbage::Resync] {
                settings.push(Setting {
                    buffer_bytes,
                    expecting,
                    garbage,
                    limits: Limits::DEFAULT,
                });
            }
        }
    }
    settings
}

/// Pushes `stream` in pieces that end at `cuts` and at its end.
pub(crate) fn tell(stream: &[u8], cuts: &[usize], setting: Setting) -> (Vec<Told>, StreamEnd) {
    let place = |offset: u64| usize::try_from(offset).unwrap();
    let mut parser = StreamParser::new(
        vec![0xA5; setting.buffer_bytes],
        setting.expecting,
        setting.limits,
    )
    .on_garbage(setting.garbage);
    let (mut told, mut from) = (Vec::new(), 0);
    for to in cuts.iter().copied().chain([stream.len()]) {
        let mut piece = &stream[from..to];
        from = to;
        assert!(parser.needed() > 0 || parser.end() == StreamEnd::Closed);
        while let Some(event) = parser.push(&mut piece) {
            assert!(place(event.offset()) <= to, "told before it came");
            told.push(match event {
                Event::Ping { offset } => Told::Ping(place(offset)),
                Event::Login { offset, login } => {
                    let offset = place(offset);
                    let end = offset + login.consumed();
                    assert_eq!(login.raw(), &stream[offset + 2..end]);
                    Told::Login(offset, login.consumed())
                }
                Event::Frame { offset, frame } => {
                    let offset = place(offset);
                    let end = offset + frame.consumed();
                    assert_eq!(frame.data(), &stream[offset + 8..end - 4]);
                    Told::Frame(offset, frame.consumed())
                }
                Event::Refuse {
                    offset,
                    bytes,
                    at,
                    reason,
                } => {
                    assert_eq!(place(at), place(offset) + bytes - 4);
                    Told::Refuse(place(offset), bytes, reason)
                }
                Event::Garbage { offset, at, reason } => {
                    Told::Garbage(place(offset), place(at), reason)
                }
                Event::Resync { offset, skipped } => Told::Resync(place(offset), place(skipped)),
                Event::Close { offset, at, reason } => {
                    Told::Close(place(offset), place(at), reason)
                }
                other => panic!("{other:?}"),
            });
        }
        assert!(piece.is_empty() || parser.end() == StreamEnd::Closed);
    }
    (told, parser.end())
}

/// A frame that begins at the front of `bytes` with everything but its checksum judged.
fn head(bytes: &[u8], limits: Limits) -> Result<Option<usize>, (usize, CloseReason)> {
    for (at, &found) in bytes.iter().take(4).enumerate() {
        if found != 0 {
            return Err((at, CloseReason::Preamble { found }));
        }
    }
    let Some(field) = bytes.get(4..8) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(field.try_into().unwrap());
    let frame_bytes_max = limits.frame_bytes_max;
    if length < 3 {
        return Err((4, CloseReason::FrameTooShort { length }));
    }
    if u64::from(length) + 12 > frame_bytes_max as u64 {
        let reason = CloseReason::FrameOverLimit {
            length,
            frame_bytes_max,
        };
        return Err((4, reason));
    }
    Ok(Some(length as usize + 12))
}

/// Stated and computed checksum of a whole frame.
fn checksums(frame: &[u8]) -> (u32, u16) {
    let (rest, field) = frame.split_at(frame.len() - 4);
    (
        u32::from_be_bytes(field.try_into().unwrap()),
        crc16_slowly(&rest[8..]),
    )
}

fn is_login(bytes: &[u8]) -> bool {
    bytes.len() >= 17 && bytes[..2] == [0, 15] && bytes[2..17].iter().all(u8::is_ascii_digit)
}

/// The message behind garbage that began at `from`: start and length of the one that
/// ends first, of those the longest.
fn next_message(
    stream: &[u8],
    from: usize,
    expecting: Expect,
    limits: Limits,
) -> Option<(usize, usize)> {
    let known = [0x07, 0x08, 0x8E, 0x10, 0x0C, 0x0D, 0x0E, 0x0F];
    (from..stream.len())
        .filter_map(|start| {
            let bytes = &stream[start..];
            if expecting == Expect::Login {
                return is_login(bytes).then_some((start, 17));
            }
            let length = head(bytes, limits).ok()??;
            let frame = bytes.get(..length)?;
            let (stated, computed) = checksums(frame);
            let good = stated == u32::from(computed) && known.contains(&frame[8]);
            good.then_some((start, length))
        })
        .min_by_key(|&(start, length)| (start + length, start))
}

pub(crate) fn judge(stream: &[u8], setting: Setting) -> (Vec<Told>, StreamEnd) {
    let least = |a: usize| a.min(setting.buffer_bytes);
    let limits = Limits {
        frame_bytes_max: least(setting.limits.frame_bytes_max),
        login_bytes_max: least(setting.limits.login_bytes_max),
    };
    let (mut told, mut at, mut expecting) = (Vec::new(), 0, setting.expecting);
    loop {
        let rest = &stream[at..];
        let inside = |needed| StreamEnd::Inside {
            offset: at as u64,
            bytes: rest.len(),
            needed,
        };
        let wrong: Option<(usize, CloseReason)> = match rest {
            [] => return (told, StreamEnd::Clean),
            [0xFF, ..] => {
                told.push(Told::Ping(at));
                at += 1;
                None
            }
            _ if expecting == Expect::Login => match *rest {
                [_] => return (told, inside(2)),
                [0, 0, ..] => Some((0, CloseReason::FrameBeforeLogin)),
                [high, low, ..] => {
                    let length = u16::from_be_bytes([high, low]);
                    let bytes = usize::from(length) + 2;
                    if bytes > limits.login_bytes_max {
                        let login_bytes_max = limits.login_bytes_max;
                        let reason = CloseReason::LoginOverLimit {
                            length,
                            login_bytes_max,
                        };
                        Some((0, reason))
                    } else if rest.len() < bytes {
                        return (told, inside(bytes));
                    } else {
                        told.push(Told::Login(at, bytes));
                        at += bytes;
                        expecting = Expect::Frame;
                        None
                    }
                }
                [] => unreachable!(),
            },
            _ => match head(rest, limits) {
                Err(wrong) => Some(wrong),
                Ok(None) => return (told, inside(8)),
                Ok(Some(bytes)) if rest.len() < bytes => return (told, inside(bytes)),
                Ok(Some(bytes)) => {
                    let (stated, computed) = checksums(&rest[..bytes]);
                    told.push(if stated == u32::from(computed) {
                        Told::Frame(at, bytes)
                    } else {
                        Told::Refuse(at, bytes, RefuseReason::Crc { stated, computed })
                    });
                    at += bytes;
                    None
                }
            },
        };
        let Some((within, reason)) = wrong else {
            continue;
        };
        if setting.garbage == Garbage::Close {
            told.push(Told::Close(at, at + within, reason));
            return (told, StreamEnd::Closed);
        }
        told.push(Told::Garbage(at, at + within, reason));
        let Some((start, bytes)) = next_message(stream, at, expecting, limits) else {
            let end = StreamEnd::Garbage {
                offset: at as u64,
                bytes: (stream.len() - at) as u64,
            };
            return (told, end);
        };
        told.push(Told::Resync(start, start - at));
        told.push(match expecting {
            Expect::Login => Told::Login(start, bytes),
            Expect::Frame => Told::Frame(start, bytes),
        });
        expecting = Expect::Frame;
        at = start + bytes;
    }
}
