//! Frames from a file: what somebody captured, or wrote down to provoke us.
//!
//! One item per line, in hexadecimal, spaces between the digits allowed; `#` starts a
//! comment. An item is a login (`000F3335…`), a whole TCP frame (`00000000…`) or a bare data
//! field (`08…`, `8E…`, anything not beginning with `00`). A login names the device of all
//! that follows; what stands before the first login belongs to `NAMELESS`.
//!
//! Invariant: every frame here has a good checksum. A device would send another one for ever.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use codec::{Cut, Expect, Imei, Limits, cut};

use super::frame::Frame;

/// The device of frames without a login: obviously synthetic.
const NAMELESS: u64 = 350_000_009_999_999;

/// One device's part of the file.
#[derive(Debug)]
pub(super) struct Replay {
    frames: std::vec::IntoIter<(u64, Frame)>,
}

impl Replay {
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.frames.as_slice().first().map(|(due_ms, _)| *due_ms)
    }

    pub(super) fn take(&mut self, now_ms: u64) -> Option<Frame> {
        let due = self.due_ms()? <= now_ms;
        if due {
            self.frames.next().map(|(_, frame)| frame)
        } else {
            None
        }
    }

    pub(super) fn frames_left(&self) -> usize {
        self.frames.len()
    }
}

/// Reads a file: every device in it with its frames in the order of the file.
pub(super) fn load(file: &Path, speed: f64) -> Result<Vec<(Imei, Replay)>> {
    ensure!(
        speed >= 0.0 && speed.is_finite(),
        "speed {speed}: must be 0 or more"
    );
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    read(&text, speed).with_context(|| format!("replay {}", file.display()))
}

fn read(text: &str, speed: f64) -> Result<Vec<(Imei, Replay)>> {
    let mut devices: BTreeMap<u64, Vec<Frame>> = BTreeMap::new();
    let mut device = NAMELESS;
    for (index, line) in text.lines().enumerate() {
        let item = line.split('#').next().unwrap_or_default();
        let digits: String = item.split_whitespace().collect();
        if digits.is_empty() {
            continue;
        }
        let read = hex::decode(&digits)
            .map_err(Into::into)
            .and_then(|bytes| read_item(&bytes));
        match read.with_context(|| format!("line {}", index + 1))? {
            Item::Login(imei) => device = imei.as_u64(),
            Item::Frame(frame) => devices.entry(device).or_default().push(frame),
        }
    }
    ensure!(!devices.is_empty(), "no frame in it");
    devices
        .into_iter()
        .map(|(imei, frames)| {
            let imei = Imei::from_u64(imei).context("an IMEI has 15 digits")?;
            Ok((
                imei,
                Replay {
                    frames: paced(frames, speed).into_iter(),
                },
            ))
        })
        .collect()
}

enum Item {
    Login(Imei),
    Frame(Frame),
}

fn read_item(bytes: &[u8]) -> Result<Item> {
    // No data field begins with 00, every login with a 15-digit IMEI does.
    match bytes {
        [0, 0, ..] => match cut(bytes, Expect::Frame, Limits::default()) {
            Cut::Frame(frame) => {
                ensure!(frame.consumed() == bytes.len(), "bytes after the frame");
                Ok(Item::Frame(Frame::new(frame.data())))
            }
            other => bail!("not a whole frame with a good checksum: {other:?}"),
        },
        [0, ..] => match cut(bytes, Expect::Login, Limits::default()) {
            Cut::Login(login) => Ok(Item::Login(login.imei()?)),
            other => bail!("not a whole login: {other:?}"),
        },
        [_, _, _, ..] => Ok(Item::Frame(Frame::new(bytes))),
        _ => bail!("{} bytes are no data field", bytes.len()),
    }
}

/// Each frame at the time of its first record, counted from the earliest of the device. A
/// frame without a time goes right after its predecessor.
fn paced(frames: Vec<Frame>, speed: f64) -> Vec<(u64, Frame)> {
    let first = |frame: &Frame| frame.keys.iter().map(|key| key.fix_time_ms).min();
    let base = frames.iter().filter_map(first).min().unwrap_or(0);
    let mut due_ms = 0;
    let pace = |frame: Frame| {
        if let Some(time) = first(&frame).filter(|_| speed > 0.0) {
            due_ms = due_ms.max(((time - base) as f64 / speed) as u64);
        }
        (due_ms, frame)
    };
    frames.into_iter().map(pace).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Codec 8 example of the wiki ("Codec", first example), one record at 1560161086000 ms.
    const WIKI: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000\
                        105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";
    const LOGIN: &str = "000F333536333037303432343431303133";

    #[test]
    fn logins_frames_and_data_fields() {
        let bare = &WIKI[16..WIKI.len() - 8];
        let text = format!("# capture\n{WIKI}\n\n {LOGIN} # a device\n{bare}\n770000\n");
        let mut devices = read(&text, 1.0).unwrap();
        let (named, nameless) = (devices.pop().unwrap(), devices.pop().unwrap());
        assert_eq!(nameless.0.as_u64(), NAMELESS);
        assert_eq!(named.0.as_u64(), 356_307_042_441_013);
        let frames: Vec<(u64, Frame)> = named.1.frames.collect();
        assert_eq!(hex::encode_upper(&frames[0].1.bytes), WIKI);
        assert_eq!(frames[0].1.keys[0].fix_time_ms, 1_560_161_086_000);
        assert_eq!(
            frames[1].1.ack,
            Some(0),
            "an unknown codec is sent as it is"
        );
    }

    #[test]
    fn pace_follows_the_records() {
        let mut later = hex::decode(&WIKI[16..WIKI.len() - 8]).unwrap();
        // Eight bytes of time begin after codec id and count: 0x2710 ms = 10 s later.
        let time = u64::from_be_bytes(later[2..10].try_into().unwrap()) + 10_000;
        later[2..10].copy_from_slice(&time.to_be_bytes());
        let text = format!("{WIKI}\n{}\n{WIKI}\n", hex::encode(&later));
        for (speed, due) in [
            (1.0, [0, 10_000, 10_000]),
            (10.0, [0, 1_000, 1_000]),
            (0.0, [0; 3]),
        ] {
            let (_, replay) = read(&text, speed).unwrap().pop().unwrap();
            assert_eq!(replay.frames.map(|(due, _)| due).collect::<Vec<_>>(), due);
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        let broken_crc = WIKI.replace("C7CF", "C7CE");
        for (text, says) in [
            ("", "no frame"),
            ("# nothing\n", "no frame"),
            ("\nxyz", "line 2"),
            (&broken_crc, "line 1"),
            ("000F3335", "line 1"),
            ("08", "line 1"),
        ] {
            let error = format!("{:#}", read(text, 1.0).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
