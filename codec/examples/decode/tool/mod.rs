//! The decode tool without its process: arguments and lines in, lines out.
//!
//! Invariant: every line that is not blank is answered by exactly one JSON object (or one
//! explained block), in order, whatever the line holds; nothing ends the run before the
//! input does.

mod args;
pub(crate) mod explain;
pub(crate) mod json;
pub(crate) mod line;

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};

use args::Request;
use json::Problem;

/// Something given as an argument was rejected.
const EXIT_REJECTED: u8 = 1;
/// The arguments make no sense, or input or output failed.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Longest line read, in bytes. The largest message, 65 535 bytes, takes 196 605 when its
/// bytes are written apart; beyond a mebibyte a line is somebody's wrong file.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Runs the tool; gives its exit code.
pub(crate) fn run(
    arguments: Vec<OsString>,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match args::read(arguments) {
        Request::Help => {
            out.write_all(args::HELP.as_bytes())?;
            Ok(0)
        }
        Request::Wrong(what) => {
            writeln!(err, "decode: {what}; --help shows the uses")?;
            Ok(EXIT_USAGE)
        }
        Request::Lines { lines, explain } => {
            let mut rejected = false;
            for line in lines {
                rejected |= answer(&line, explain, out)? == Some(false);
            }
            Ok(if rejected { EXIT_REJECTED } else { 0 })
        }
        Request::Stdin { explain } => {
            let mut line = Vec::new();
            while let Some(whole) = next_line(input, &mut line)? {
                if whole {
                    answer(&line, explain, out)?;
                } else {
                    let text = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                    reject(&Problem::new("line", 0, text), explain, out)?;
                }
            }
            Ok(0)
        }
    }
}

/// Answers one line; `None` if it was blank, else whether it was accepted.
fn answer(line: &[u8], explain: bool, out: &mut dyn Write) -> io::Result<Option<bool>> {
    let line = match line::parse(line) {
        Ok(None) => return Ok(None),
        Ok(Some(line)) => line,
        Err(problem) => {
            reject(&problem, explain, out)?;
            return Ok(Some(false));
        }
    };
    if explain {
        let (text, accepted) = explain::explain(&line);
        out.write_all(text.as_bytes())?;
        return Ok(Some(accepted));
    }
    match json::describe(line.transport, &line.bytes) {
        Ok(value) => writeln!(out, "{value}")?,
        Err(problem) => {
            writeln!(out, "{}", problem.to_value())?;
            return Ok(Some(false));
        }
    }
    Ok(Some(true))
}

fn reject(problem: &Problem, explain: bool, out: &mut dyn Write) -> io::Result<()> {
    if explain {
        writeln!(out, "rejected: {}\n", problem.text)
    } else {
        writeln!(out, "{}", problem.to_value())
    }
}

/// Reads up to a line end into `line`; `None` at the end of input, else whether the line
/// fits the limit. What does not is read away without being kept.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let limit = LINE_BYTES_MAX as u64 + 1;
    if input.take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") || line.len() <= LINE_BYTES_MAX {
        return Ok(Some(true));
    }
    loop {
        let buffer = input.fill_buf()?;
        let (used, last) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if last {
            return Ok(Some(false));
        }
    }
}
