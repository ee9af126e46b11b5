//! The TCP door: one small task per tracker around the pure session.
//!
//! Why the task decides nothing: it reads when the session wants bytes, writes what the session
//! says, keeps what the session hands over, and hangs up when told.
//!
//! Invariants: at most one frame and one read of bytes are buffered per connection, and one read
//! while it is silent; a stopping gateway still finishes the frame it has begun to keep.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{Device, Transport};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain::chain;
use crate::clock;
use crate::logbook;
use crate::metrics::Metrics;
use crate::session::{Admission, CloseReason, Effect, Keep, Reply, Session, SessionLimits};
use crate::spool::{Append, KeepError, Spool};

/// Bytes asked of a socket at once.
const READ_BYTES: usize = 4096;

/// A tracker that does not take four bytes for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after the system refused a new connection (out of files, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A door where nobody knocks says so often that it still listens.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// A door that has not said so for this long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How to receive trackers.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Connections at the same time.
    pub connections_max: usize,
    /// Timeouts and sizes of a session.
    pub session: SessionLimits,
}

/// A door could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Choose another address, or stop what holds it.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address as configured.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Everything a connection needs.
struct Hall {
    config: ListenConfig,
    admission: Arc<Admission>,
    spool: Spool,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

/// One listening socket.
pub struct TcpDoor {
    listener: TcpListener,
    hall: Arc<Hall>,
}

/// Why a connection ended without the session wanting it.
#[derive(Debug, Error)]
enum Broken {
    #[error("connection lost")]
    Io(#[from] io::Error),
    #[error("the tracker did not take its answer within {} s", WRITE_TIMEOUT.as_secs())]
    WriteTimeout,
    #[error("frame not kept, so not acknowledged; the tracker will send it again")]
    NotKept(#[source] KeepError),
}

/// How a connection ended.
enum End {
    Peer { pending_bytes: usize },
    Stopping,
    Ours(CloseReason),
}

impl TcpDoor {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(
        addr: SocketAddr,
        config: ListenConfig,
        admission: Arc<Admission>,
        spool: Spool,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(addr).await;
        let listener = listener.map_err(|source| ListenError::Bind { addr, source })?;
        let places = Arc::new(Semaphore::new(config.connections_max));
        let hall = Hall {
            config,
            admission,
            spool,
            metrics,
            stop,
            places,
        };
        Ok(Self {
            listener,
            hall: Arc::new(hall),
        })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until told to stop; connections run on `tracker`.
    pub async fn run(self, tracker: TaskTracker) {
        let panel = &self.hall.metrics.panel;
        let name = self
            .local_addr()
            .map_or_else(|_| "tcp".to_owned(), |addr| format!("tcp {addr}"));
        let stage = panel.progress.stage(name, SILENCE_MAX);
        loop {
            stage.turn();
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = tokio::time::sleep(TURN_INTERVAL) => continue,
                () = self.hall.stop.cancelled() => return stage.finish(),
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.hall.places).try_acquire_owned() else {
                self.hall.metrics.connection_shed();
                tracing::warn!(%peer, connections_max = self.hall.config.connections_max, "too many connections: turned away");
                continue;
            };
            let hall = Arc::clone(&self.hall);
            tracker.spawn(async move {
                hall.metrics.connection_opened();
                hall.receive(stream, peer).await;
                hall.metrics.connection_closed();
                drop(place);
            });
        }
    }
}

impl Hall {
    async fn receive(&self, mut stream: TcpStream, peer: SocketAddr) {
        let now = Instant::now();
        let mut session = Session::new(self.config.session, Arc::clone(&self.admission), now);
        let end = self.converse(&mut stream, &mut session, peer).await;
        match end {
            Ok(End::Peer { pending_bytes: 0 }) => tracing::debug!(%peer, "tracker hung up"),
            Ok(End::Peer { pending_bytes }) => {
                tracing::info!(%peer, pending_bytes, "tracker hung up in the middle of a frame");
            }
            Ok(End::Stopping) => tracing::debug!(%peer, "closed: gateway is stopping"),
            Ok(End::Ours(CloseReason::Refused { imei, refusal })) => {
                let why = chain(&refusal);
                tracing::warn!(%peer, imei = %logbook::imei(imei), reason = why, "login refused");
                let panel = &self.metrics.panel;
                panel.tracker_refused(imei, clock::now_ms(), &why);
            }
            Ok(End::Ours(reason)) => {
                tracing::warn!(%peer, reason = chain(&reason), "connection closed");
            }
            Err(broken) => {
                let imei = session.imei().map(logbook::imei);
                tracing::warn!(%peer, imei = imei.map(tracing::field::display), reason = chain(&broken), "connection broken");
            }
        }
        // A peer that does not take the goodbye loses nothing.
        let _ = stream.shutdown().await;
    }

    async fn converse(
        &self,
        stream: &mut TcpStream,
        session: &mut Session,
        peer: SocketAddr,
    ) -> Result<End, Broken> {
        stream.set_nodelay(true)?;
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let mut rest = pending.as_slice();
            while let Some(effect) = session.on_bytes(&mut rest, Instant::now()) {
                match effect {
                    Effect::Send(reply) => self.answer(stream, &reply, session, peer).await?,
                    Effect::Keep(keep) => {
                        let append = append(&keep);
                        let received_at_ms = append.received_at_ms;
                        let receipt = self.spool.append(append).await.map_err(|error| {
                            self.metrics.frame_not_kept();
                            Broken::NotKept(error)
                        })?;
                        let panel = &self.metrics.panel;
                        panel.frame_kept(keep.imei, keep.data, received_at_ms, Transport::Tcp);
                        if let Some(reply) = session.on_durable(&receipt) {
                            self.answer(stream, &reply, session, peer).await?;
                            self.metrics.records_acked(receipt.record_count());
                        }
                    }
                    Effect::Close(reply, reason) => {
                        if let Some(reply) = reply {
                            self.answer(stream, &reply, session, peer).await?;
                        }
                        return Ok(End::Ours(reason));
                    }
                }
            }
            let taken = pending.len() - rest.len();
            if taken == pending.len() {
                pending = Vec::new(); // a silent tracker holds no old frame
            } else {
                pending.drain(..taken);
            }
            pending.reserve(READ_BYTES);
            let deadline = session.deadline();
            let read = tokio::select! {
                read = timeout_at(deadline.into(), stream.read_buf(&mut pending)) => read,
                () = self.stop.cancelled() => return Ok(End::Stopping),
            };
            match read {
                Ok(Ok(0)) => {
                    return Ok(End::Peer {
                        pending_bytes: pending.len(),
                    });
                }
                Ok(Ok(_)) => session.on_read(Instant::now()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    if let Some(Effect::Close(_, reason)) = session.on_timeout(Instant::now()) {
                        return Ok(End::Ours(reason));
                    }
                }
            }
        }
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        reply: &Reply,
        session: &Session,
        peer: SocketAddr,
    ) -> Result<(), Broken> {
        match reply {
            Reply::Accept => {
                self.metrics.login(true);
                if let Some(imei) = session.imei() {
                    self.metrics.panel.tracker_accepted(imei, peer);
                }
            }
            Reply::Refuse => self.metrics.login(false),
            Reply::Damaged => {
                self.metrics.frame_damaged();
                self.metrics.panel.frame_damaged(session.imei(), peer);
            }
            Reply::Ack(_) => {}
        }
        let (bytes, length) = reply.to_bytes();
        let written = timeout(WRITE_TIMEOUT, stream.write_all(&bytes[..length])).await;
        Ok(written.map_err(|_| Broken::WriteTimeout)??)
    }
}

fn append(keep: &Keep<'_>) -> Append {
    Append {
        device: Device::Imei(keep.imei),
        transport: Transport::Tcp,
        lane: keep.lane,
        received_at_ms: clock::now_ms(),
        record_count: keep.record_count,
        panic: keep.panic,
        bytes: keep.data.to_vec(),
    }
}
