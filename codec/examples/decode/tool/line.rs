//! One line of input: what it is said to be, and its bytes.

use super::json::Problem;

/// How the bytes are said to have travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Not said.
    Auto,
    /// Over TCP: frame, login or ping.
    Tcp,
    /// As one datagram.
    Udp,
    /// As a login.
    Login,
    /// As the value of a beacon list element.
    Beacons,
    /// As the value of a sensor element.
    Tags,
}

impl Transport {
    /// The kind of this name; `command` and `ping` are what the vector files say for TCP.
    pub(crate) fn named(word: &[u8]) -> Option<Transport> {
        match word.to_ascii_lowercase().as_slice() {
            b"auto" => Some(Transport::Auto),
            b"tcp" | b"command" | b"ping" => Some(Transport::Tcp),
            b"udp" => Some(Transport::Udp),
            b"login" => Some(Transport::Login),
            b"beacons" => Some(Transport::Beacons),
            b"tags" => Some(Transport::Tags),
            _ => None,
        }
    }
}

/// A line, understood.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) transport: Transport,
    pub(crate) bytes: Vec<u8>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a line; `None` if it is blank.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Line>, Problem> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let word_bytes = line
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len());
    let (transport, digits) = match Transport::named(&line[..word_bytes]) {
        Some(transport) => (transport, &line[word_bytes..]),
        None => (Transport::Auto, line),
    };
    let bytes = bytes(digits)?;
    if bytes.is_empty() {
        return Err(Problem::new("hex", 0, "no bytes".to_owned()));
    }
    Ok(Some(Line { transport, bytes }))
}

fn bytes(digits: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    for &byte in digits.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let Some(nibble) = char::from(byte).to_digit(16) else {
            let text = if byte.is_ascii_graphic() {
                format!("{:?} is no hex digit", char::from(byte))
            } else {
                format!("byte {byte:#04x} is no hex digit")
            };
            return Err(Problem::new("hex", bytes.len(), text));
        };
        high = match high {
            None => Some(nibble),
            Some(high) => {
                bytes.push((high << 4 | nibble) as u8);
                None
            }
        };
    }
    if high.is_some() {
        let text = format!("an odd number of hex digits, {}", 2 * bytes.len() + 1);
        return Err(Problem::new("hex", bytes.len(), text));
    }
    Ok(bytes)
}
