//! One HTTP GET to our own pages: what a running gateway says about itself.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use gateway::explain::{Page, status as pages};
use serde_json::Value;
use settings::Settings;
use thiserror::Error;

use super::Failure;

const PATIENCE: Duration = Duration::from_secs(5);

/// Ten thousand devices fit.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Why it could not be asked.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error("{}  http.listen is empty, so this gateway cannot be asked: set it to 127.0.0.1:8080 and restart it", pages::NO_PAGES.code)]
    NoPages,
    #[error("{}  no gateway answers at {addr} (http.listen): is it running, and with these settings? `systemctl status gateway`", pages::NOBODY.code)]
    Nobody {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{}  what answers at {addr} is no gateway: {answer}", pages::STRANGER.code)]
    Stranger { addr: SocketAddr, answer: String },
}

impl AskError {
    fn page(&self) -> &'static Page {
        match self {
            Self::NoPages => &pages::NO_PAGES,
            Self::Nobody { .. } => &pages::NOBODY,
            Self::Stranger { .. } => &pages::STRANGER,
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Failure::new(error.page().exit, error)
    }
}

/// Where to ask; a gateway that listens on every address is asked at its own.
pub(super) fn addr(settings: &Settings) -> Result<SocketAddr, Failure> {
    if !settings.is_set("http.listen") {
        return Err(AskError::NoPages.into());
    }
    let mut addr = settings
        .socket("http.listen")
        .map_err(|error| Failure::new(2, error))?;
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(addr)
}

/// The JSON of a page; `None` when the gateway has no such page.
pub(super) fn get(addr: SocketAddr, path: &str) -> Result<Option<Value>, AskError> {
    let answer = fetch(addr, path).map_err(|source| AskError::Nobody { addr, source })?;
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.lines().next().unwrap_or_default().to_owned();
    let code = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match (code, serde_json::from_str::<Value>(body)) {
        (Some("404"), _) => Ok(None),
        (Some(_), Ok(value)) => Ok(Some(value)),
        _ => Err(AskError::Stranger {
            addr,
            answer: first.chars().take(60).collect(),
        }),
    }
}

fn fetch(addr: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the body comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
    tcp.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    tcp.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
