//! Reads Teltonika bytes as hex, one frame, datagram, login or ping per line, from the
//! arguments or standard input; writes one JSON object per message.
//!
//! ```text
//! cargo run -p codec --example decode -- 000F333536333037303432343431303133
//! ```
//!
//! What cannot be read goes to standard error with a mark under the byte, and the exit
//! code is 1. White space inside a line is ignored; several messages may follow one
//! another in a line, as they do on TCP.

mod json;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use json::Problem;

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let lines: Box<dyn Iterator<Item = io::Result<String>>> = if arguments.is_empty() {
        Box::new(io::stdin().lock().lines())
    } else {
        Box::new(arguments.into_iter().map(Ok))
    };
    let mut out = io::stdout().lock();
    let mut failed = false;
    for (index, line) in lines.enumerate() {
        let hex: String = line?.split_whitespace().collect();
        if let Err(problem) = decode(&hex, &mut out)? {
            failed = true;
            explain(index + 1, &hex, &problem)?;
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn decode(hex: &str, out: &mut impl Write) -> io::Result<Result<(), Problem>> {
    let bytes = match hex::decode(hex) {
        Ok(bytes) => bytes,
        Err(hex::FromHexError::InvalidHexCharacter { c, index }) => {
            let text = format!("{c:?} is no hex digit");
            return Ok(Err(Problem {
                offset: index / 2,
                text,
            }));
        }
        Err(error) => {
            return Ok(Err(Problem {
                offset: hex.len() / 2,
                text: error.to_string(),
            }));
        }
    };
    let mut offset = 0;
    while offset < bytes.len() {
        match json::describe(&bytes[offset..]) {
            Ok((value, consumed)) => {
                writeln!(out, "{value}")?;
                offset += consumed;
            }
            Err(problem) => {
                return Ok(Err(Problem {
                    offset: offset + problem.offset,
                    ..problem
                }));
            }
        }
    }
    Ok(Ok(()))
}

/// Shows the sixteen bytes on either side and a mark under the one that does not fit.
fn explain(line: usize, hex: &str, problem: &Problem) -> io::Result<()> {
    let digits: Vec<char> = hex.chars().collect();
    let mark = problem.offset * 2;
    let start = mark.saturating_sub(32);
    let end = digits.len().min(mark + 32);
    let shown: String = digits.get(start..end).unwrap_or_default().iter().collect();
    let (before, after) = (
        if start > 0 { "…" } else { " " },
        if end < digits.len() { "…" } else { "" },
    );
    let mut err = io::stderr().lock();
    writeln!(
        err,
        "line {line}, byte {}: {}",
        problem.offset, problem.text
    )?;
    writeln!(err, "  {before}{shown}{after}")?;
    writeln!(err, "   {:indent$}^^", "", indent = mark - start)
}
