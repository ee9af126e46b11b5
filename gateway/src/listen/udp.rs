//! The UDP door: every datagram brings its own login, and is answered when its records are safe.
//!
//! Why a task for each datagram: all that arrive during one commit share the next one. What holds
//! them back is a budget of bytes; behind it the system drops, and trackers send again.
//!
//! Invariants: no answer but from a receipt, except the word that a datagram arrived, which some
//! trackers ask for and which promises nothing; a datagram that is not kept is not answered.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::{Datagram, Imei};
use contract::Transport;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::accept::{DOOR_SILENCE_MAX, DOOR_TURN_INTERVAL};
use super::hall::{Hall, append};
use super::quiet::Quiet;
use super::{ListenError, udp_socket};
use crate::chain::chain;
use crate::clock;
use crate::events::Kind;
use crate::logbook;
use crate::metrics;
use crate::session::{Keep, records_claimed, urgency};

/// More than UDP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Received and not yet answered, all together.
const OUTSTANDING_BYTES_MAX: usize = 4 << 20;

/// What a datagram costs at least, its task included: bounds their number to 4096.
const DATAGRAM_COST_MIN: usize = 1 << 10;

/// Pause after the system failed to receive, lest an error that stays heats the processor.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket.
pub struct UdpDoor {
    socket: Arc<UdpSocket>,
    hall: Arc<Hall>,
}

impl UdpDoor {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(addr: SocketAddr, hall: Arc<Hall>) -> Result<Self, ListenError> {
        let socket = Arc::new(udp_socket(addr).await?);
        Ok(Self { socket, hall })
    }

    /// Where it listens.
    /// # Errors
    /// What the system says about its own socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives until told to stop; datagrams are kept and answered on `sessions`.
    pub async fn run(self, sessions: TaskTracker) {
        let budget = Arc::new(Semaphore::new(OUTSTANDING_BYTES_MAX));
        let quiet = Arc::new(Quiet::default());
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let name = self
            .local_addr()
            .map_or_else(|_| "udp".to_owned(), |addr| format!("udp {addr}"));
        let progress = &self.hall.metrics.panel.progress;
        let stage = progress.stage(name, DOOR_SILENCE_MAX);
        loop {
            stage.turn();
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = tokio::time::sleep(DOOR_TURN_INTERVAL) => continue,
                () = self.hall.stop.cancelled() => return stage.finish(),
            };
            let (length, peer) = match received {
                Ok(received) => received,
                // On some systems an answer that nobody took comes back as an error here.
                Err(error) => {
                    tracing::debug!(%error, "receive failed");
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                    continue;
                }
            };
            let cost = u32::try_from(length.max(DATAGRAM_COST_MIN)).unwrap_or(u32::MAX);
            let share = loop {
                tokio::select! {
                    share = Arc::clone(&budget).acquire_many_owned(cost) => break share,
                    // A full budget is the spool's slowness, which has a stage of its own.
                    () = tokio::time::sleep(DOOR_TURN_INTERVAL) => stage.turn(),
                    () = self.hall.stop.cancelled() => return stage.finish(),
                }
            };
            let one = One {
                hall: Arc::clone(&self.hall),
                socket: Arc::clone(&self.socket),
                quiet: Arc::clone(&quiet),
                bytes: buffer[..length].to_vec(),
                peer,
            };
            sessions.spawn(async move {
                let outcome = one.receive().await;
                one.hall.metrics.doors.datagram(outcome);
                drop(share);
            });
        }
    }
}

/// A datagram on its way to the disk.
struct One {
    hall: Arc<Hall>,
    socket: Arc<UdpSocket>,
    quiet: Arc<Quiet>,
    bytes: Vec<u8>,
    peer: SocketAddr,
}

impl One {
    async fn receive(&self) -> metrics::Datagram {
        let datagram = match Datagram::parse(&self.bytes) {
            Ok(datagram) => datagram,
            Err(error) => {
                return self.damaged(&error);
            }
        };
        let imei = match datagram.imei() {
            Ok(imei) => imei,
            Err(error) => {
                return self.damaged(&error);
            }
        };
        let verdict = self.hall.access.ask(imei, self.peer.into());
        if let Err(refusal) = verdict.await {
            let reason = chain(&refusal);
            let panel = &self.hall.metrics.panel;
            panel.tracker_refused(imei, clock::now_ms(), &reason);
            self.complain(Some(imei), "datagram refused: not answered", &reason);
            return metrics::Datagram::Refused;
        }
        if let Some(arrived) = datagram.channel_ack() {
            self.send(&arrived).await;
        }
        let (lane, panic) = urgency(datagram.data());
        let wants_answer = datagram.codec_id().wants_ack();
        let keep = Keep {
            imei,
            data: datagram.data(),
            record_count: records_claimed(datagram.codec_id(), datagram.first_count()),
            lane,
            panic,
        };
        let append = append(&keep, Transport::Udp);
        let received_at_ms = append.received_at_ms;
        match self.hall.spool.append(append).await {
            Ok(receipt) => {
                let panel = &self.hall.metrics.panel;
                panel.datagram_kept(imei, keep.data, received_at_ms, self.peer.into());
                if wants_answer {
                    // As many as are safe; the tracker would send the rest again.
                    let accepted = u8::try_from(receipt.record_count()).unwrap_or(u8::MAX);
                    self.send(&datagram.answer(accepted)).await;
                    self.hall.metrics.records_acked(receipt.record_count());
                }
                metrics::Datagram::Kept
            }
            Err(error) => {
                self.hall.metrics.frame_not_kept();
                self.complain(
                    Some(imei),
                    "datagram not kept, so not answered; the tracker will send it again",
                    &chain(&error),
                );
                metrics::Datagram::NotKept
            }
        }
    }

    fn damaged(&self, error: &(dyn Error + 'static)) -> metrics::Datagram {
        self.complain(None, "datagram damaged: not answered", &chain(error));
        let text = "damaged datagram: not kept and not answered";
        let events = &self.hall.metrics.panel.events;
        events.note(Kind::FrameDamaged, None, text);
        metrics::Datagram::Damaged
    }

    async fn send(&self, answer: &[u8]) {
        if let Err(error) = self.socket.send_to(answer, self.peer).await {
            tracing::debug!(peer = %self.peer, %error, "answer not sent; the tracker will send again");
        }
    }

    fn complain(&self, imei: Option<Imei>, what: &str, reason: &str) {
        if let Some(left_out) = self.quiet.line(Instant::now()) {
            let imei = imei.map(logbook::imei).map(tracing::field::display);
            tracing::warn!(target: logbook::COUNTED, peer = %self.peer, imei, reason, left_out, "{what}");
        }
    }
}
