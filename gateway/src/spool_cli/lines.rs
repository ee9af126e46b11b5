//! Pure: no I/O, no clock.
//!
//! Kept frames as lines of text: what `export` prints and `import` reads, and what the fleet
//! simulator replays and the decoder explains.
//!
//! A line is a login (`000f3335…`), which names the device of the frames that follow, or a whole
//! TCP frame (`00000000…`), in hexadecimal. A note before a frame says what the frame does not
//! know: `# received_at_ms=1700000000000 lane=normal transport=0 records=2`. What is no data field of a
//! tracker says so in its note (`kind=position`) and has the same frame around it.
//!
//! Invariants: what a spool holds comes back the same when notes are written; a frame is never
//! given to a device that is not known for sure, and never without a good checksum.

use std::fmt::Write as _;

use codec::{Cut, Expect, Imei, ImeiError, Limits, cut, encode};
use contract::{Device, Kind, Lane, Transport};
use thiserror::Error;

use crate::session::{records_claimed, urgency};
use crate::spool::{Append, Stored};

/// A login as a line: two bytes of length, fifteen digits.
const LOGIN_DIGITS: usize = 2 * (2 + 15);

/// Words that the decoder takes before the digits.
const PREFIXES: [&str; 2] = ["tcp", "login"];

/// Why a line was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum LineError {
    #[error("no hexadecimal: correct it, or put # before a comment")]
    NotHex,
    #[error("an odd number of hexadecimal digits: one is missing")]
    OddHex,
    #[error("no login: write 000f and the fifteen digits of the IMEI as ASCII")]
    NotALogin,
    #[error("the login is no IMEI: the frames up to the next login are refused")]
    NotAnImei(#[source] ImeiError),
    #[error("the frame is cut short: {bytes} of {needed} bytes or more")]
    Short { bytes: usize, needed: usize },
    #[error("the frame is damaged")]
    Damaged(#[source] codec::RefuseReason),
    #[error(
        "no TCP frame: it begins with 00000000, its length and its data, and ends with a checksum"
    )]
    NotAFrame,
    #[error("{bytes} bytes behind the frame: one frame a line")]
    Behind { bytes: usize },
    #[error("nobody knows whose frame this is: a login line must stand before it")]
    NoDevice,
    #[error("the note before this frame cannot be read: {word:?}")]
    Note { word: String },
}

/// Adds the note of a frame.
pub(super) fn write_note(stored: &Stored, text: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# received_at_ms={} lane={} transport={} records={}",
        stored.received_at_ms,
        stored.lane.as_str(),
        stored.transport.as_u8(),
        stored.record_count,
    );
    if stored.kind != Kind::Teltonika {
        let _ = write!(text, " kind={}", stored.kind.as_str());
    }
    if let Device::Text(name) = &stored.device {
        text.push_str(" device=");
        hex(name.as_bytes(), text);
    }
    let _ = writeln!(text, " spool={} seq={}", stored.spool, stored.seq);
}

/// Adds the login of a device.
pub(super) fn write_login(imei: Imei, text: &mut String) {
    let mut login = Vec::new();
    encode::login(imei, &mut login).expect("a vector is never full");
    hex(&login, text);
    text.push('\n');
}

/// Adds a frame.
pub(super) fn write_frame(data: &[u8], text: &mut String) {
    let mut frame = Vec::new();
    let encoded = encode::frame(data, &mut frame);
    encoded.expect("a vector is never full, and a spool holds no frame above 4 GiB");
    hex(&frame, text);
    text.push('\n');
}

fn hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

/// What stands before a frame.
#[derive(Debug, Default, PartialEq, Eq)]
struct Note {
    received_at_ms: Option<u64>,
    lane: Option<Lane>,
    transport: Option<Transport>,
    records: Option<u32>,
    kind: Option<Kind>,
    device: Option<String>,
}

/// Reads line after line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    device: Option<Imei>,
    /// Of the frame that comes next.
    note: Option<Result<Note, LineError>>,
}

impl Lines {
    /// Reads one line; the frame in it, if any. `now_ms` is for frames without a note.
    pub(super) fn read(&mut self, line: &str, now_ms: u64) -> Result<Option<Append>, LineError> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(note) = note(comment) {
                self.note = Some(note);
            }
            return Ok(None);
        }
        let (content, _comment) = line.split_once('#').unwrap_or((line, ""));
        let mut words: Vec<&str> = content.split_ascii_whitespace().collect();
        if words.first().is_some_and(|word| PREFIXES.contains(word)) {
            words.remove(0);
        }
        let digits = words.concat();
        if digits.is_empty() {
            return Ok(None);
        }
        // Frames behind a login that cannot be read are not the former device's.
        let is_login = digits.len() == LOGIN_DIGITS || begins_like_a_login(&digits);
        if is_login {
            self.device = None;
            self.note = None;
            self.device = Some(login(&unhex(&digits)?)?);
            return Ok(None);
        }
        let note = self.note.take().transpose()?.unwrap_or_default();
        let bytes = unhex(&digits)?;
        let device = match note.device {
            Some(name) => Device::Text(name),
            None => Device::Imei(self.device.ok_or(LineError::NoDevice)?),
        };
        let frame = match cut(&bytes, Expect::Frame, Limits::default()) {
            Cut::Frame(frame) => frame,
            Cut::NeedMore { needed } => {
                let bytes = bytes.len();
                return Err(LineError::Short { bytes, needed });
            }
            Cut::Refuse { reason, .. } => return Err(LineError::Damaged(reason)),
            Cut::Ping | Cut::Login(_) | Cut::Close { .. } => return Err(LineError::NotAFrame),
        };
        if frame.consumed() < bytes.len() {
            let bytes = bytes.len() - frame.consumed();
            return Err(LineError::Behind { bytes });
        }
        // What a note does not say is judged as if the frame came now.
        let kind = note.kind.unwrap_or(Kind::Teltonika);
        let (usual_lane, panic, claimed) = match kind {
            Kind::Teltonika => {
                let (lane, panic) = urgency(frame.data());
                let claimed = records_claimed(frame.codec_id(), frame.first_count());
                (lane, panic, claimed)
            }
            _ => (Lane::Normal, false, 1),
        };
        Ok(Some(Append {
            device,
            kind,
            transport: note.transport.unwrap_or(Transport::Tcp),
            lane: note.lane.unwrap_or(usual_lane),
            received_at_ms: note.received_at_ms.unwrap_or(now_ms),
            record_count: note.records.unwrap_or(claimed),
            panic,
            bytes: frame.data().to_vec(),
        }))
    }
}

fn begins_like_a_login(digits: &str) -> bool {
    digits.starts_with("00") && !digits.starts_with("0000")
}

fn login(bytes: &[u8]) -> Result<Imei, LineError> {
    match cut(bytes, Expect::Login, Limits::default()) {
        Cut::Login(login) if login.consumed() == bytes.len() => {
            login.imei().map_err(LineError::NotAnImei)
        }
        _ => Err(LineError::NotALogin),
    }
}

/// `None` for an ordinary comment.
fn note(comment: &str) -> Option<Result<Note, LineError>> {
    let comment = comment.trim();
    let is_note = comment.starts_with("received_at_ms=");
    is_note.then(|| {
        let mut note = Note::default();
        for word in comment.split_ascii_whitespace() {
            let read = word.split_once('=').and_then(|(key, value)| {
                match key {
                    "received_at_ms" => note.received_at_ms = Some(value.parse().ok()?),
                    "lane" => note.lane = Some(lane(value)?),
                    "transport" => note.transport = Some(Transport::from_u8(value.parse().ok()?)),
                    "records" => note.records = Some(value.parse().ok()?),
                    "kind" => {
                        let kind = Kind::from_word(value);
                        // Only a kind with a number can be kept.
                        note.kind = kind.as_u8().map(|_| kind);
                        note.kind.as_ref()?;
                    }
                    "device" => {
                        note.device = Some(String::from_utf8(unhex(value).ok()?).ok()?);
                    }
                    // Where it was kept; a later version may say more.
                    _ => {}
                }
                Some(())
            });
            read.ok_or_else(|| LineError::Note {
                word: word.to_owned(),
            })?;
        }
        Ok(note)
    })
}

/// The lane of a word.
pub(super) fn lane(word: &str) -> Option<Lane> {
    Lane::ALL.into_iter().find(|lane| lane.as_str() == word)
}

fn unhex(digits: &str) -> Result<Vec<u8>, LineError> {
    let nibbles = digits.chars().map(|digit| digit.to_digit(16));
    let nibbles: Option<Vec<u32>> = nibbles.collect();
    let nibbles = nibbles.ok_or(LineError::NotHex)?;
    if nibbles.len() % 2 == 1 {
        return Err(LineError::OddHex);
    }
    let pairs = nibbles.chunks_exact(2);
    Ok(pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}
