//! One connection driven by hand: for tests that say exactly what goes over the wire, and
//! that misbehave on purpose.
//!
//! Invariant: nothing here waits longer than its deadline, and running out of time is an
//! error that says what was waited for.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use codec::encode::MessageSpec;
use codec::{Imei, MessageData, encode, login, message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long each step may take unless [`Tracker::set_deadline`] says otherwise.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a gateway says to a tracker that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// So many records are safe.
    Ack(u32),
    /// A data field, codec id to second count: a command.
    Frame(Vec<u8>),
}

/// A TCP connection to a gateway and the identity it claims.
#[derive(Debug)]
pub struct Tracker {
    socket: TcpStream,
    imei: Imei,
    deadline: Duration,
}

impl Tracker {
    /// Connects. Nothing is said yet.
    ///
    /// # Errors
    /// When nobody listens there, or `imei` has not fifteen digits.
    pub async fn connect(to: SocketAddr, imei: u64) -> Result<Tracker> {
        let imei = Imei::from_u64(imei).with_context(|| format!("{imei} is no IMEI"))?;
        let socket = within(DEADLINE, "a connection", TcpStream::connect(to)).await?;
        socket.set_nodelay(true)?;
        Ok(Tracker {
            socket,
            imei,
            deadline: DEADLINE,
        })
    }

    /// Changes how long each step may take.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The identity this tracker claims.
    #[must_use]
    pub fn imei(&self) -> Imei {
        self.imei
    }

    /// Says who it is. True if the gateway wants its data, false if it was refused.
    ///
    /// # Errors
    /// When no answer comes, or one that is neither 0x01 nor 0x00.
    pub async fn login(&mut self) -> Result<bool> {
        let mut bytes = Vec::new();
        encode::login(self.imei, &mut bytes)?;
        self.send_raw(&bytes).await?;
        match self.read_byte().await.context("the answer to the login")? {
            login::ACCEPT => Ok(true),
            login::REFUSE => Ok(false),
            other => bail!("the login was answered with {other:#04x}"),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When they cannot be written in time.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        within(self.deadline, "room to send", self.socket.write_all(bytes)).await
    }

    /// Waits for one byte of an answer, whatever it is.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn read_byte(&mut self) -> Result<u8> {
        let mut answer = [0];
        let read = self.socket.read_exact(&mut answer);
        within(self.deadline, "an answer", read).await?;
        Ok(answer[0])
    }

    /// Waits for the four bytes of an answer and reads them as a count of records.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn read_ack(&mut self) -> Result<u32> {
        let mut answer = [0; 4];
        within(self.deadline, "an ACK", self.socket.read_exact(&mut answer)).await?;
        Ok(u32::from_be_bytes(answer))
    }

    /// Waits for whatever comes next. An ACK of 0 cannot be told from the head of a frame.
    ///
    /// # Errors
    /// When nothing comes, or a frame with a wrong checksum.
    pub async fn read_said(&mut self) -> Result<Said> {
        let count = self.read_ack().await?;
        if count > 0 {
            return Ok(Said::Ack(count));
        }
        let len = self.read_ack().await.context("the length of a frame")?;
        let mut rest = vec![0; usize::try_from(len)? + 4];
        let read = self.socket.read_exact(&mut rest);
        within(self.deadline, "the rest of a frame", read).await?;
        let crc = rest.split_off(rest.len() - 4);
        let mut whole = Vec::new();
        encode::frame(&rest, &mut whole)?;
        ensure!(whole.ends_with(&crc), "the checksum of a frame is wrong");
        Ok(Said::Frame(rest))
    }

    /// Waits for a command; `None` if it is an ACK.
    ///
    /// # Errors
    /// As [`Tracker::read_said`].
    pub async fn read_command(&mut self) -> Result<Option<Vec<u8>>> {
        match self.read_said().await? {
            Said::Frame(data) => Ok(Some(data)),
            Said::Ack(_) => Ok(None),
        }
    }

    /// Waits for a command. Its codec id and its text.
    ///
    /// # Errors
    /// As [`Tracker::read_said`]; when an ACK comes, or a frame that is not one command.
    pub async fn read_order(&mut self) -> Result<(u8, String)> {
        let data = self.read_command().await?.context("an ACK came")?;
        let parsed = MessageData::parse(&data)?;
        let messages: Vec<_> = parsed.messages().collect();
        let [message] = messages.as_slice() else {
            bail!("{} messages", messages.len());
        };
        ensure!(
            message.kind == message::COMMAND,
            "kind {:#04x}",
            message.kind
        );
        if let Some(imei) = message.imei() {
            ensure!(imei == self.imei, "for {imei:?}");
        }
        let text = String::from_utf8(message.payload.to_vec())?;
        Ok((data.first().copied().unwrap_or_default(), text))
    }

    /// Sends a message, such as a reply to a command; nothing answers it.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn send_message(&mut self, message: &MessageSpec<'_>) -> Result<()> {
        let mut frame = Vec::new();
        encode::message_frame(message, &mut frame)?;
        self.send_raw(&frame).await
    }

    /// Puts a frame around a data field (codec id to second count), sends it, returns the
    /// count it was answered with.
    ///
    /// # Errors
    /// When it cannot be sent or no answer comes.
    pub async fn send_frame(&mut self, data: &[u8]) -> Result<u32> {
        let mut frame = Vec::new();
        encode::frame(data, &mut frame)?;
        self.send_raw(&frame).await?;
        self.read_ack().await
    }

    /// Waits until the gateway hangs up. True if it does within the deadline without saying
    /// anything more, false if the connection still stands then.
    ///
    /// # Errors
    /// When bytes come instead of the end.
    pub async fn closed_by_peer(&mut self) -> Result<bool> {
        let mut byte = [0];
        match timeout(self.deadline, self.socket.read(&mut byte)).await {
            // A reset is an end too: it comes when the peer closes without reading all.
            Ok(Ok(0) | Err(_)) => Ok(true),
            Ok(Ok(_)) => bail!("byte {:#04x} came instead of the end", byte[0]),
            Err(_) => Ok(false),
        }
    }

    /// True if nothing at all arrives within `silence`.
    ///
    /// # Errors
    /// When the connection ends or breaks.
    pub async fn stays_silent(&mut self, silence: Duration) -> Result<bool> {
        let mut byte = [0];
        match timeout(silence, self.socket.read(&mut byte)).await {
            Ok(read) => {
                ensure!(read? > 0, "the connection ended");
                Ok(false)
            }
            Err(_) => Ok(true),
        }
    }
}

async fn within<T, E: std::error::Error + Send + Sync + 'static>(
    deadline: Duration,
    what: impl Display,
    doing: impl Future<Output = std::result::Result<T, E>>,
) -> Result<T> {
    let done = timeout(deadline, doing).await;
    let done = done.with_context(|| format!("waited {deadline:?} for {what}"))?;
    done.with_context(|| format!("while waiting for {what}"))
}
