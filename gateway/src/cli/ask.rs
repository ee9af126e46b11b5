//! One HTTP request to our own pages: what a running gateway says about itself, and what it is asked
//! to change.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use gateway::admin::change::HEADER;
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
    #[error("{}  {addr} takes no changes from here: {why}", pages::NO_CHANGE.code)]
    NoChange { addr: SocketAddr, why: String },
}

impl AskError {
    fn page(&self) -> &'static Page {
        match self {
            Self::NoPages => &pages::NO_PAGES,
            Self::Nobody { .. } => &pages::NOBODY,
            Self::Stranger { .. } => &pages::STRANGER,
            Self::NoChange { .. } => &pages::NO_CHANGE,
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
    match fetch(addr, &format!("GET {path}"), "")? {
        (404, _) => Ok(None),
        (_, Some(value)) => Ok(Some(value)),
        (code, None) => Err(AskError::Stranger {
            addr,
            answer: format!("{code} without JSON"),
        }),
    }
}

/// The text of a page; `None` when the gateway has no such page.
pub(super) fn text(addr: SocketAddr, path: &str) -> Result<Option<String>, AskError> {
    let (code, body) = said(addr, &format!("GET {path}"), "")?;
    Ok((code == 200).then_some(body))
}

/// Asks for a change; the code of the answer, and its JSON where it has some.
pub(super) fn post(
    addr: SocketAddr,
    path: &str,
    body: &str,
) -> Result<(u16, Option<Value>), AskError> {
    fetch(addr, &format!("POST {path}"), body)
}

fn fetch(addr: SocketAddr, request: &str, body: &str) -> Result<(u16, Option<Value>), AskError> {
    let (code, body) = said(addr, request, body)?;
    Ok((code, serde_json::from_str(&body).ok()))
}

fn said(addr: SocketAddr, request: &str, body: &str) -> Result<(u16, String), AskError> {
    let answer = send(addr, request, body).map_err(|source| AskError::Nobody { addr, source })?;
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.lines().next().unwrap_or_default();
    let code = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let Some(code) = code else {
        return Err(AskError::Stranger {
            addr,
            answer: first.chars().take(60).collect(),
        });
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((code, body.to_owned()))
}

fn send(addr: SocketAddr, request: &str, body: &str) -> io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    // HTTP/1.0: the body comes in one piece and ends with the connection.
    let request = format!(
        "{request} HTTP/1.0\r\nHost: {addr}\r\n{HEADER}: 1\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    tcp.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    tcp.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
