//! The serial door: one wire, and one conversation after the other on it.
//!
//! Why a conversation begins with the first byte: nothing else tells that somebody is there. It ends
//! as one over TCP does, and what is hung up on begins anew with the next byte.
//!
//! Invariants: a line that is not there, or goes away, is waited for and never keeps the gateway from
//! its other doors; what is the matter with it is told once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use contract::Transport;
use hardware::{SerialError, SerialLine, SerialPort};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::Hall;
use super::accept::{DOOR_SILENCE_MAX, DOOR_TURN_INTERVAL};
use super::hall::Visitor;
use crate::chain::chain;
use crate::devices::transport_word;
use crate::events::Kind;
use crate::explain::{Page, serial as pages};
use crate::peer::Peer;
use crate::progress::Stage;

/// Between two attempts to open a line: twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// A line that was open for so long is tried again at once.
const OPEN_MIN: Duration = Duration::from_secs(10);

/// What a wire brings before it is looked at; the rest waits in the system.
const FIRST_BYTES_MAX: usize = 256;

/// One serial line.
pub struct SerialDoor {
    line: SerialLine,
    /// Lives as long as the process, as the line does.
    name: &'static str,
    hall: Arc<Hall>,
}

/// What to read about an error.
#[must_use]
pub fn page_of(error: &SerialError) -> &'static Page {
    match error {
        SerialError::Missing => &pages::MISSING,
        SerialError::Denied => &pages::DENIED,
        SerialError::Busy => &pages::BUSY,
        SerialError::NoPort | SerialError::System(_) => &pages::NO_PORT,
        SerialError::Speed => &pages::SPEED,
    }
}

/// Why a line is not read any more.
enum Ended {
    Stopping,
    Gone,
}

impl SerialDoor {
    /// Nothing is opened yet: a line may come at any time.
    #[must_use]
    pub fn new(line: SerialLine, hall: Arc<Hall>) -> Self {
        let name: &str = line.path.display().to_string().leak();
        hall.metrics.doors.lines.add(name);
        Self { line, name, hall }
    }

    /// Serves the line until told to stop; conversations run on `sessions`.
    pub async fn run(self, sessions: TaskTracker) {
        let panel = &self.hall.metrics.panel;
        let kind = transport_word(Transport::Serial);
        let name = format!("{kind} {}", self.name);
        let stage = panel.progress.stage(name, DOOR_SILENCE_MAX);
        let mut bell = panel.reload.subscribe();
        let mut pause = PAUSE_MIN;
        loop {
            stage.turn();
            let opened = SerialPort::open(&self.line);
            let opened = opened.and_then(|port| Wire::new(port).map_err(SerialError::System));
            match opened {
                Ok(wire) => {
                    self.opened();
                    let since = Instant::now();
                    if let Ended::Stopping = self.serve(wire, &sessions, &stage).await {
                        return stage.finish();
                    }
                    if since.elapsed() >= OPEN_MIN {
                        pause = PAUSE_MIN;
                    }
                    self.lost(&SerialError::Missing);
                }
                Err(error) => self.lost(&error),
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = rung(&mut bell) => {}
                () = self.hall.stop.cancelled() => return stage.finish(),
            }
        }
    }

    fn opened(&self) {
        let (metrics, line) = (&self.hall.metrics, &self.line);
        let before = metrics.doors.lines.opened(self.name);
        tracing::info!(%line, "listening for trackers over a serial line");
        if before.is_some() {
            let text = format!("serial line {} is here", self.name);
            metrics.panel.events.note(Kind::SerialBack, None, text);
        }
    }

    fn lost(&self, error: &SerialError) {
        let metrics = &self.hall.metrics;
        let why = chain(error);
        if metrics.doors.lines.lost(self.name, &why) {
            let text = format!(
                "serial line {}: {why}; it is tried again and again",
                self.name
            );
            tracing::warn!(code = page_of(error).code, "{text}");
            metrics.panel.events.note(Kind::SerialLost, None, text);
        }
    }

    async fn serve(&self, mut wire: Wire, sessions: &TaskTracker, stage: &Stage) -> Ended {
        let hall = &self.hall;
        while !wire.is_gone {
            stage.turn();
            tokio::select! {
                () = wire.first() => {}
                () = sleep(DOOR_TURN_INTERVAL) => {}
                () = hall.stop.cancelled() => return Ended::Stopping,
            }
            if wire.ahead.is_empty() {
                continue;
            }
            let visitor = Visitor {
                peer: Peer::Line(self.name),
                transport: Transport::Serial,
                came_at: Instant::now(),
            };
            let (hall_of_it, place) = (Arc::clone(hall), hall.places.wired());
            let mut conversation = sessions.spawn(async move {
                hall_of_it.receive(&mut wire, visitor, place).await;
                wire
            });
            wire = loop {
                stage.turn();
                tokio::select! {
                    ended = &mut conversation => match ended {
                        Ok(wire) => break wire,
                        // It panicked, and the port is closed.
                        Err(_) => return Ended::Gone,
                    },
                    () = sleep(DOOR_TURN_INTERVAL) => {}
                    // It ends by itself, after the frame that it has begun to keep.
                    () = hall.stop.cancelled() => return Ended::Stopping,
                }
            };
        }
        Ended::Gone
    }
}

/// Somebody who pressed "reload" has perhaps just plugged it in.
async fn rung(bell: &mut watch::Receiver<u64>) {
    if bell.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// An open line that remembers whether it is still there.
struct Wire {
    port: AsyncFd<SerialPort>,
    /// Read before the conversation began.
    ahead: Vec<u8>,
    is_gone: bool,
}

impl Wire {
    fn new(port: SerialPort) -> io::Result<Self> {
        // The function that is to follow it is unsafe, for types whose descriptor may change. A port
        // owns the one it always names.
        #[allow(deprecated)]
        let port = AsyncFd::new(port)?;
        Ok(Self {
            port,
            ahead: Vec::new(),
            is_gone: false,
        })
    }

    /// Waits for something to be said, or for the end.
    async fn first(&mut self) {
        let mut bytes = [0; FIRST_BYTES_MAX];
        // An error is an end, which was noted.
        if let Ok(length) = self.read(&mut bytes).await {
            self.ahead = bytes[..length].to_vec();
        }
    }

    fn end<T>(&mut self, error: io::Error) -> Poll<io::Result<T>> {
        self.is_gone = true;
        Poll::Ready(Err(error))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        if !wire.ahead.is_empty() {
            let length = wire.ahead.len().min(buffer.remaining());
            buffer.put_slice(&wire.ahead[..length]);
            wire.ahead.drain(..length);
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut guard = ready!(wire.port.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|port| port.get_ref().read(room)) {
                Ok(Ok(length)) => {
                    wire.is_gone = length == 0;
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return wire.end(error),
                Err(_nothing_yet) => {}
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *self;
        loop {
            let mut guard = ready!(wire.port.poll_write_ready(cx))?;
            match guard.try_io(|port| port.get_ref().write(bytes)) {
                Ok(Ok(length)) => return Poll::Ready(Ok(length)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return wire.end(error),
                Err(_no_room_yet) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Another conversation may follow.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_page() {
        for (error, code) in [
            (SerialError::Missing, "E-SER-001"),
            (SerialError::Denied, "E-SER-002"),
            (SerialError::Busy, "E-SER-003"),
            (SerialError::NoPort, "E-SER-004"),
            (
                SerialError::System(io::ErrorKind::OutOfMemory.into()),
                "E-SER-004",
            ),
            (SerialError::Speed, "E-SER-005"),
        ] {
            assert_eq!(page_of(&error).code, code);
        }
    }
}
