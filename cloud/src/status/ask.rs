//! One HTTP GET of our own page, as much of HTTP as that takes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::explain::{Page, running as pages};

/// The page is made within a second, whatever Redis does.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Why a running processor could not be asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// Set `http.listen` and restart it.
    #[error("{}  http.listen is empty, so this processor cannot be asked: set it to 127.0.0.1:8081 and restart it; `cloud lag` works without", pages::NO_PAGES.code)]
    NoPages,
    /// Start it, or give the settings it has.
    #[error("{}  no processor answers at {addr} (http.listen): is it running, and with these settings?", pages::NOBODY.code)]
    Nobody {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Look at the port.
    #[error("{}  what answers at {addr} is no processor: {answer}", pages::STRANGER.code)]
    Stranger {
        /// Where.
        addr: SocketAddr,
        /// Its first line.
        answer: String,
    },
}

impl AskError {
    /// Its page.
    #[must_use]
    pub fn page(&self) -> &'static Page {
        match self {
            Self::NoPages => &pages::NO_PAGES,
            Self::Nobody { .. } => &pages::NOBODY,
            Self::Stranger { .. } => &pages::STRANGER,
        }
    }
}

/// Fetches `/status` from where `http.listen` says.
/// # Errors
/// [`AskError`].
pub async fn status(listen: Option<SocketAddr>) -> Result<Value, AskError> {
    let mut addr = listen.ok_or(AskError::NoPages)?;
    // Who listens on every address is asked at its own.
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    let answer = match timeout(PATIENCE, fetch(addr)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(AskError::Nobody { addr, source }),
        Err(_) => {
            let source = io::ErrorKind::TimedOut.into();
            return Err(AskError::Nobody { addr, source });
        }
    };
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Value>(body) {
        Ok(page) if page["stages"].is_object() => Ok(page),
        _ => Err(AskError::Stranger {
            addr,
            answer: answer
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(60)
                .collect(),
        }),
    }
}

async fn fetch(addr: SocketAddr) -> io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect(addr).await?;
    // HTTP/1.0: the body comes in one piece and ends with the connection.
    let request = format!("GET /status HTTP/1.0\r\nHost: {addr}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tcp.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}
