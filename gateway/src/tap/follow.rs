//! `gateway tap`: the watcher's end.
//!
//! Why HTTP/1.0: the answer then ends with the connection and needs no more of HTTP than its header.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;
use codec::Imei;
use thiserror::Error;

use super::line::Parsed;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway says something at least every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Longest line: the largest frame in hex, and its frame around it.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// What `gateway tap` understands.
#[derive(Args, Debug)]
pub struct TapArgs {
    /// This device alone.
    #[arg(long, value_name = "IMEI")]
    pub imei: Option<Imei>,
    /// Decode the records and print one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Address of the gateway's pages; else http.listen of the settings.
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
}

/// Why there is nothing to watch.
#[derive(Debug, Error)]
pub enum TapError {
    /// The gateway has no pages.
    #[error("http.listen is empty, so there is nothing to watch: set it, or give --http")]
    NoPages,
    /// Is the gateway running?
    #[error("no gateway answers at {at}: is it running, and is that its http.listen?")]
    Unreachable {
        /// Where.
        at: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It answered something else.
    #[error("{at} answers: {answer}")]
    Refused {
        /// Where.
        at: SocketAddr,
        /// Its words.
        answer: String,
    },
    /// It went away, or the reader of our output did.
    #[error("watching ended")]
    Lost(#[source] std::io::Error),
    /// Not a gateway, or a much newer one.
    #[error("{at} sends what is no frame: {line}")]
    Nonsense {
        /// Where.
        at: SocketAddr,
        /// The beginning of the line.
        line: String,
    },
}

/// Prints frames to `out` until the gateway ends or `out` is closed.
/// # Errors
/// [`TapError`].
pub fn follow(at: SocketAddr, args: &TapArgs, out: &mut impl Write) -> Result<(), TapError> {
    let unreachable = |source| TapError::Unreachable { at, source };
    let mut socket = TcpStream::connect_timeout(&at, CONNECT_TIMEOUT).map_err(unreachable)?;
    socket
        .set_read_timeout(Some(SILENCE_MAX))
        .map_err(unreachable)?;
    let only = args
        .imei
        .map_or_else(String::new, |imei| format!("?imei={imei}"));
    let request = format!("GET /tap{only} HTTP/1.0\r\nHost: {at}\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut lines = BufReader::new(socket);
    let mut next = || {
        let mut line = String::new();
        let read = (&mut lines).take(LINE_BYTES_MAX).read_line(&mut line);
        read.map(|length| (length > 0).then_some(line))
    };
    let head = next().map_err(unreachable)?.unwrap_or_default();
    let is_ok = head.split(' ').nth(1) == Some("200");
    // The header ends with an empty line; what is refused says why behind it.
    let mut line = next().map_err(TapError::Lost)?;
    while line.as_ref().is_some_and(|line| !line.trim().is_empty()) {
        line = next().map_err(TapError::Lost)?;
    }
    if !is_ok {
        let why = next().ok().flatten().unwrap_or_default();
        let answer = format!("{} {}", head.trim(), why.trim());
        return Err(TapError::Refused { at, answer });
    }
    while let Some(line) = next().map_err(TapError::Lost)? {
        let Some(parsed) = Parsed::read(&line) else {
            let line = line.chars().take(80).collect();
            return Err(TapError::Nonsense { at, line });
        };
        let shown = if args.json {
            parsed.to_json().map(|json| json.to_string())
        } else {
            parsed.to_text()
        };
        if let Some(shown) = shown {
            let written = writeln!(out, "{shown}").and_then(|()| out.flush());
            match written {
                // Whoever closes the pipe has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(TapError::Lost)?,
            }
        }
    }
    Ok(())
}
