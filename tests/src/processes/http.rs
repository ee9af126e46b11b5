//! One HTTP GET, as much of HTTP/1.1 as our own status pages speak.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A page of ours is a few kilobytes, made without waiting for much.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Fetches `http://<at><path>`: status code and body.
///
/// # Errors
/// When nobody answers in five seconds, or not in HTTP.
pub async fn get(at: SocketAddr, path: &str) -> Result<(u16, String)> {
    let answer = timeout(PATIENCE, fetch(at, path)).await;
    answer
        .context("no answer in time")
        .flatten()
        .with_context(|| format!("GET http://{at}{path}"))
}

async fn fetch(at: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(at).await?;
    // Connection: close, so that the end of the body is the end of the stream.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    parse(&String::from_utf8(answer)?)
}

fn parse(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the header")?;
    let mut words = head.split(' ');
    let version = words.next().unwrap_or_default();
    ensure!(version.starts_with("HTTP/1."), "`{version}` is not HTTP/1");
    let code = words
        .next()
        .and_then(|code| code.parse().ok())
        .context("no status code")?;
    let chunked = head
        .lines()
        .any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    ensure!(!chunked, "a chunked body: our pages have a length");
    Ok((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers() {
        let ok = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!(ok, (503, "no".to_owned()));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
