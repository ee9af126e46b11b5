//! One HTTP/1.1 connection driven by hand: for tests that post positions, and that misbehave on
//! purpose.
//!
//! Why no client library: one would repair, retry and hide what is tested here. Invariant: nothing
//! waits longer than its deadline.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// More than any answer here has.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// As long as `Content-Length` says.
    pub body: String,
}

impl Answer {
    /// The value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A connection on which requests follow one another.
#[derive(Debug)]
pub struct Poster<S = TcpStream> {
    stream: S,
    heard: Vec<u8>,
}

impl Poster {
    /// Connects. Nothing is said yet.
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = timeout(DEADLINE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Poster<S> {
    /// Over a stream that stands.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            heard: Vec::new(),
        }
    }

    /// Writes bytes as they are.
    /// # Errors
    /// When the other side is gone.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(DEADLINE, self.stream.write_all(bytes)).await??;
        Ok(self.stream.flush().await?)
    }

    /// Asks and waits for the answer. `Content-Length` is added when there is a body.
    /// # Errors
    /// When there is no answer in HTTP in time.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut request = head(
            method,
            path,
            headers,
            (!body.is_empty()).then_some(body.len()),
        );
        request.extend_from_slice(body);
        // Who is refused early may hang up before it has heard everything; the answer counts.
        let said = self.say(&request).await;
        let answer = self.answer().await;
        answer.with_context(|| format!("{method} {path} ({said:?})"))
    }

    /// Waits for an answer.
    /// # Errors
    /// When there is none in HTTP in time.
    pub async fn answer(&mut self) -> Result<Answer> {
        timeout(DEADLINE, self.read_answer())
            .await
            .context("no answer in time")?
    }

    async fn read_answer(&mut self) -> Result<Answer> {
        let end = loop {
            if let Some(end) = self.heard.windows(4).position(|it| it == b"\r\n\r\n") {
                break end;
            }
            self.hear().await?;
        };
        let rest = self.heard.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.heard, rest))?;
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("{first:?} has no status"))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length = answer.header("content-length").unwrap_or("0").parse()?;
        while self.heard.len() < length {
            self.hear().await?;
        }
        let rest = self.heard.split_off(length);
        answer.body = String::from_utf8(std::mem::replace(&mut self.heard, rest))?;
        Ok(answer)
    }

    async fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await?;
        if count == 0 || self.heard.len() > ANSWER_BYTES_MAX {
            bail!("it hung up after {} bytes of an answer", self.heard.len());
        }
        self.heard.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

/// The head of a request, with its empty line.
#[must_use]
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head += "Host: localhost\r\n";
    }
    // Writing to a String cannot fail.
    if let Some(length) = length {
        let _ = write!(head, "Content-Length: {length}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head += "\r\n";
    head.into_bytes()
}
