//! The same bytes for people: every byte with its offset, its name and what it says.
//!
//! The walk behind it shares no code with the decoder, so that a test can hold the two
//! against each other: what one accepts the other names to the last byte, and where one
//! stops the other has a name for that byte. The verdict is always the decoder's.

mod avl;
mod codec7;
mod message;
mod payload;
mod time;
mod transport;
mod walk;

use super::json::{self, Kind, Problem};
use super::line::{Line, Transport};
pub(crate) use walk::Row;
use walk::Walk;

/// Bytes in a row of hex.
const ROW_BYTES: usize = 8;

/// Explains a line: the text, and whether its first message was accepted.
pub(crate) fn explain(line: &Line) -> (String, bool) {
    let mut text = String::new();
    let mut accepted = None;
    let (mut offset, mut transport) = (0, line.transport);
    while offset < line.bytes.len() {
        let bytes = &line.bytes[offset..];
        let read = json::describe(transport, bytes);
        accepted = accepted.or(Some(read.is_ok()));
        let rows = rows(json::kind(transport, bytes), bytes);
        let consumed = match &read {
            Ok(value) => value["consumed"]
                .as_u64()
                .map_or(bytes.len(), |n| n as usize),
            Err(_) => bytes.len(),
        };
        text.push_str(&render(&rows, offset, bytes, read.as_ref().err()));
        if let Ok(value) = &read {
            for issue in value["issues"].as_array().into_iter().flatten() {
                let issue = issue.as_str().unwrap_or_default();
                // What follows is explained next.
                if !issue.starts_with("bytes behind") {
                    text.push_str(&format!("accepted although: {issue}\n"));
                }
            }
        }
        text.push('\n');
        offset += consumed;
        // A login is followed by what a connection carries.
        if transport == Transport::Login {
            transport = Transport::Tcp;
        }
    }
    (text, accepted == Some(true))
}

/// Names the bytes of the first message of `input`.
pub(crate) fn rows(kind: Kind, input: &[u8]) -> Vec<Row> {
    let mut walk = Walk::new(input);
    match kind {
        Kind::Tcp(expect) => transport::tcp(&mut walk, expect),
        Kind::Udp => transport::datagram(&mut walk),
        Kind::Beacons => {
            walk.heading("beacon list");
            payload::beacons(&mut walk)
        }
        Kind::Tags => {
            walk.heading("sensor list");
            payload::tags(&mut walk)
        }
    };
    walk.into_rows()
}

/// Writes rows; with a problem, only up to the byte it is about.
fn render(rows: &[Row], base: usize, input: &[u8], problem: Option<&Problem>) -> String {
    let mut text = String::new();
    let last = problem.map_or(usize::MAX, |problem| problem.offset);
    let mut named = 0;
    for row in rows {
        if row.at > last {
            break;
        }
        if row.len == 0 {
            text.push_str(&format!("{}\n", row.name));
            continue;
        }
        named = row.at + row.len;
        for (index, chunk) in input[row.at..named].chunks(ROW_BYTES).enumerate() {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02X}")).collect();
            let at = base + row.at + index * ROW_BYTES;
            let (name, meaning) = if index == 0 {
                (row.name.as_str(), row.meaning.as_str())
            } else {
                ("", "")
            };
            let line = format!("{at:>6}  {:<24} {name:<24} {meaning}", hex.join(" "));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    if let Some(problem) = problem {
        text.push_str(&format!(
            "rejected at byte {}, {}: {}\n",
            base + problem.offset,
            problem.stage,
            problem.text
        ));
        if named < input.len() {
            text.push_str(&format!(
                "{} bytes behind it have no name\n",
                input.len() - named
            ));
        }
    }
    text
}
