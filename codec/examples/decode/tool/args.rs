//! What the command line asks for.

use std::ffi::OsString;

use super::line::Transport;

/// A command line, understood.
pub(crate) enum Request {
    /// Show [`HELP`].
    Help,
    /// Not understood, and why.
    Wrong(String),
    /// Answer these lines.
    Lines {
        /// Each as it would stand in the input.
        lines: Vec<Vec<u8>>,
        /// Names for bytes instead of JSON.
        explain: bool,
    },
    /// Answer the lines of standard input.
    Stdin {
        /// Names for bytes instead of JSON.
        explain: bool,
    },
}

/// The answer to `--help`.
pub(crate) const HELP: &str = "\
decode: what a Teltonika tracker said

usage: decode [--explain] [[KIND] HEX ...]

  cargo run -q -p codec --example decode --features std -- --explain FF
  cargo run -q -p codec --example decode --features std < lines.txt > objects.jsonl

Each argument, or without arguments each line of standard input, is one message in hex. White
space between bytes is skipped; an argument with spaces needs quotes unless every byte stands
alone. In front of the hex may stand what it is:

  auto      find out (the default): FF is a ping, 00 00 begins a TCP frame, a length and 15
            digits are a login, everything else is a UDP datagram
  tcp       what a TCP connection carries: a frame (also: command), a login or a ping
  udp       one datagram
  login     a login
  beacons   the value of IO element 385 or 10500, a list of BLE beacons
  tags      the value of IO element 548, 10828, 10829, 10831 or 11317, BLE sensors

Prints one JSON object per message, in the order of the lines; blank lines are skipped.

  kind      tcp, udp, login, ping, beacons, tags; error for what is rejected
  issues    what was accepted although it deviates from the documentation, and how many bytes
            follow the message (only the first message of a line is described)
  ack_hex   what a server answers once the records are safe; absent where it answers nothing
  error     why it was rejected, with stage (in which part) and offset (at which byte, from 0)

  --explain   print every byte with its offset, name and meaning instead; what is rejected is
              explained up to the byte that does not fit
  --help      this text

Exit code: 0 when every line of standard input was answered, rejected or not; 1 when a message
given as an argument was rejected; 2 for a wrong option or failing input or output.
";

/// Understands the arguments (without the program's name).
pub(crate) fn read(arguments: Vec<OsString>) -> Request {
    let (mut words, mut explain, mut options) = (Vec::new(), false, true);
    for argument in arguments {
        match argument.to_str() {
            Some("--") if options => options = false,
            Some("--help" | "-h") if options => return Request::Help,
            Some("--explain") if options => explain = true,
            Some(other) if options && other.starts_with('-') => {
                return Request::Wrong(format!("there is no option {other}"));
            }
            _ => words.push(argument.into_encoded_bytes()),
        }
    }
    if words.is_empty() {
        return Request::Stdin { explain };
    }
    Request::Lines {
        lines: lines(words),
        explain,
    }
}

/// A kind belongs to the word behind it; bytes that stand alone (`00 00 …`) to each other.
fn lines(words: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let kind = |word: &[u8]| Transport::named(word).is_some();
    let bytes_alone = words.iter().filter(|word| !kind(word)).count() > 1
        && words.iter().all(|word| word.len() == 2 || kind(word));
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for word in words {
        let begins_anew = kind(&word);
        match lines.last_mut() {
            Some(line) if open && !begins_anew => {
                line.push(b' ');
                line.extend(word);
            }
            _ => lines.push(word),
        }
        open = begins_anew || bytes_alone;
    }
    lines
}
