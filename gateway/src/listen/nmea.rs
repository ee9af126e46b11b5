//! The door for sentences of NMEA 0183 over TCP: a task for each device around the pure session.
//!
//! Invariants: nothing more is read while sentences wait for the disk, so a device is slowed down and
//! never read ahead of; whoever cannot be kept is hung up on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use contract::{Device, Kind, Lane, Transport};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::accept::accept_all;
use super::hall::Visitor;
use super::places::Place;
use super::{Hall, ListenError, bind};
use crate::chain::chain;
use crate::clock;
use crate::metrics::Shed;
use crate::nmea::{Effect, Session};
use crate::spool::Append;

/// Bytes asked of a socket at once: some ten sentences.
const READ_BYTES: usize = 1024;

/// One listening socket.
pub struct NmeaDoor {
    listener: TcpListener,
    hall: Arc<Hall>,
}

impl NmeaDoor {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(addr: SocketAddr, hall: Arc<Hall>) -> Result<Self, ListenError> {
        let listener = bind(addr, "listen.nmea").await?;
        Ok(Self { listener, hall })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until told to stop; connections run on `sessions`.
    pub async fn run(self, sessions: TaskTracker) {
        let hall = &self.hall;
        let enter = |stream, visitor, place| {
            sessions.spawn(receive(Arc::clone(hall), stream, visitor, place));
        };
        accept_all(self.listener, hall, Transport::Tcp, enter).await;
    }
}

async fn receive(hall: Arc<Hall>, stream: TcpStream, visitor: Visitor, place: Place) {
    hall.metrics.connection_opened();
    let mut session = Session::default();
    let ended = converse(&hall, &mut session, stream, &visitor, place).await;
    if let Err((reason, why)) = ended {
        hall.shed(reason, visitor.peer, session.imei(), &why);
    }
    if session.damaged() > 0 {
        tracing::info!(peer = %visitor.peer, lines = session.damaged(), "sentences with a wrong checksum were left out");
    }
    hall.metrics.connection_closed();
}

/// Until the device hangs up, the gateway stops or we have to hang up.
async fn converse(
    hall: &Hall,
    session: &mut Session,
    mut stream: TcpStream,
    visitor: &Visitor,
    mut place: Place,
) -> Result<(), (Shed, String)> {
    let limits = hall.config.session;
    let mut pending = Vec::new();
    loop {
        let before = pending.len();
        while let Some(effect) = session.on_bytes(&mut pending) {
            match effect {
                Effect::Ask(imei) => {
                    let verdict = hall.access.ask(imei, visitor.peer);
                    if let Err(refusal) = verdict.await {
                        let why = chain(&refusal);
                        hall.metrics.login(false);
                        let what = "device refused; what it says is lost, it repeats nothing";
                        hall.refused(imei, visitor.peer, &why, what);
                        return Ok(());
                    }
                    session.admit(imei);
                    place.logged_in();
                    hall.metrics.login(true);
                    hall.metrics.panel.tracker_accepted(imei, visitor.peer);
                }
                Effect::Keep(sentences, count) => {
                    if let Some(imei) = session.imei() {
                        let append = Append {
                            device: Device::Imei(imei),
                            kind: Kind::Nmea,
                            transport: visitor.transport,
                            lane: Lane::Normal,
                            received_at_ms: clock::now_ms(),
                            record_count: count,
                            panic: false,
                            bytes: sentences,
                        };
                        if let Err(error) = hall.spool.append(append).await {
                            hall.metrics.frame_not_kept();
                            tracing::warn!(peer = %visitor.peer, error = chain(&error), "sentences not kept");
                            return Ok(());
                        }
                    }
                }
                Effect::Close(why) => return Err((Shed::Unreadable, why.to_owned())),
            }
        }
        let began = pending.len() < before;
        if pending.is_empty() {
            pending = Vec::new();
        }
        place.holds(pending.capacity(), began);
        let now = Instant::now();
        let (deadline, late) = match session.imei() {
            None => (
                visitor.came_at + limits.handshake_timeout,
                Shed::HandshakeTimeout,
            ),
            Some(_) => (now + limits.idle_timeout, Shed::IdleTimeout),
        };
        pending.reserve(READ_BYTES);
        tokio::select! {
            biased;
            () = hall.stop.cancelled() => return Ok(()),
            reason = place.given_up() => return Err((reason, "given up for others".to_owned())),
            read = timeout_at(deadline.into(), stream.read_buf(&mut pending)) => match read {
                Ok(Ok(0)) | Ok(Err(_)) => return Ok(()),
                Ok(Ok(_)) => {}
                Err(_) => return Err((late, "silent for too long".to_owned())),
            },
        }
    }
}
