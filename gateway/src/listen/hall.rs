//! What every door leads to: one small task per tracker around the pure session, over any stream.
//!
//! Why the task decides nothing: it reads when the session wants bytes, writes what the session
//! says, keeps what the session hands over, and hangs up when told.
//!
//! Invariants: a silent connection holds no buffer, any other one the bytes that wait for the rest
//! of their frame; a stopping gateway and a displaced connection still acknowledge the frame that
//! they have begun to keep; on a wire nothing is answered to a tracker that has begun anew since.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use codec::Imei;
use contract::{Device, Transport};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ListenConfig;
use super::places::{Place, PlaceLimits, Places};
use super::quiet::Quiet;
use crate::access::Access;
use crate::chain::chain;
use crate::clock;
use crate::downlink::{Command, Downlink, Line};
use crate::logbook;
use crate::metrics::{Metrics, Shed};
use crate::peer::Peer;
use crate::roster::{Roster, Seat};
use crate::session::{CloseReason, Effect, Keep, Reply, Session};
use crate::spool::{Append, KeepError, Spool};

/// Bytes asked of a socket at once.
const READ_BYTES: usize = 8192;

/// A tracker that does not take four bytes for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// For the end of a TLS stream, which is only a courtesy.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

thread_local! {
    /// Lent to whichever connection of this thread reads just now: ten thousand silent trackers
    /// need no buffer each.
    static SCRATCH: RefCell<[u8; READ_BYTES]> = const { RefCell::new([0; READ_BYTES]) };
}

/// Everything a connection needs; one for all doors.
pub struct Hall {
    pub(crate) config: ListenConfig,
    pub(crate) access: Access,
    pub(crate) spool: Spool,
    pub(crate) metrics: Arc<Metrics>,
    roster: Roster,
    downlink: Option<Downlink>,
    pub(crate) stop: CancellationToken,
    pub(super) places: Arc<Places>,
    /// One for each reason, so that a flood of one kind hides no other.
    quiet: [Quiet; Shed::ALL.len()],
    quiet_refusals: Quiet,
    quiet_broken: Quiet,
    #[cfg(feature = "ingest")]
    quiet_requests: Quiet,
}

/// Who came through which door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) peer: Peer,
    pub(super) transport: Transport,
    pub(crate) came_at: Instant,
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
    Displaced,
    GivenUp(Shed),
    Ours(CloseReason),
}

/// What a connection that waits can meet.
enum Event {
    Read(io::Result<usize>),
    Deadline,
    Command(Box<Command>),
    Stopping,
    Displaced,
    GivenUp(Shed),
}

impl Hall {
    /// For doors to lead to; `stop` ends every conversation after the frame it has begun to keep.
    #[must_use]
    pub fn new(
        config: ListenConfig,
        access: Access,
        spool: Spool,
        metrics: Arc<Metrics>,
        roster: Roster,
        stop: CancellationToken,
    ) -> Self {
        let places = Places::new(PlaceLimits {
            connections_max: config.connections_max,
            per_ip_max: config.connections_per_ip_max,
            pending_bytes_max: config.memory_bytes_max,
        });
        Self {
            config,
            access,
            spool,
            metrics,
            roster,
            downlink: None,
            stop,
            places: Arc::new(places),
            quiet: Default::default(),
            quiet_refusals: Quiet::default(),
            quiet_broken: Quiet::default(),
            #[cfg(feature = "ingest")]
            quiet_requests: Quiet::default(),
        }
    }

    /// Takes commands for trackers from there.
    #[must_use]
    pub fn with_downlink(mut self, downlink: Option<Downlink>) -> Self {
        self.downlink = downlink;
        self
    }

    /// Talks with one tracker until one of the two hangs up. Not an `async fn`: that would keep
    /// room for its arguments beside what is made of them, in every one of ten thousand.
    pub(super) fn receive<S>(
        self: Arc<Self>,
        stream: S,
        visitor: Visitor,
        place: Place,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let begin = match visitor.peer {
            Peer::Address(_) => Session::new,
            Peer::Line(_) => Session::on_wire,
        };
        let mut conversation = Conversation {
            stream,
            session: begin(self.config.session, visitor.came_at),
            hall: self,
            visitor,
            place,
            line: None,
            seat: None,
            pending: Vec::new(),
            has_more: false,
        };
        async move {
            conversation.hall.metrics.connection_opened();
            let end = conversation.converse().await;
            conversation.say_how_it_ended(end);
            // A peer that does not take the goodbye loses nothing.
            let _ = timeout(GOODBYE_TIMEOUT, conversation.stream.shutdown()).await;
            conversation.hall.metrics.connection_closed();
        }
    }

    /// Tells of somebody who may not talk here, unless that has been said often enough. `what`: with
    /// what becomes of its data.
    pub(super) fn refused(&self, imei: Imei, peer: Peer, reason: &str, what: &str) {
        let panel = &self.metrics.panel;
        panel.tracker_refused(imei, clock::now_ms(), reason);
        if let Some(left_out) = self.quiet_refusals.line(Instant::now()) {
            let imei = logbook::imei(imei);
            tracing::warn!(target: logbook::COUNTED, %peer, %imei, left_out, reason, "{what}");
        }
    }

    /// Counts a connection that we end or do not take, and says so unless it has been said often
    /// enough.
    pub(crate) fn shed(&self, reason: Shed, peer: Peer, imei: Option<Imei>, why: &str) {
        self.metrics.doors.shed(reason);
        if let Some(left_out) = self.quiet[reason as usize].line(Instant::now()) {
            let imei = imei.map(logbook::imei).map(tracing::field::display);
            tracing::warn!(target: logbook::COUNTED, %peer, imei, kind = reason.as_str(), why, left_out, "connection closed by us");
        }
    }
}

#[cfg(feature = "ingest")]
impl Hall {
    /// Says what a request could not have, unless that has been said often enough.
    pub(crate) fn complain(&self, peer: Peer, what: &str, reason: &str) {
        if let Some(left_out) = self.quiet_requests.line(Instant::now()) {
            tracing::warn!(target: logbook::COUNTED, %peer, reason, left_out, "{what}");
        }
    }
}

/// What a close is counted as; `None` for a refused login, which has a count of its own.
fn shed_of(reason: &CloseReason) -> Option<Shed> {
    match reason {
        CloseReason::Refused { .. } => None,
        CloseReason::NotAnImei(_) | CloseReason::Bytes { .. } => Some(Shed::Unreadable),
        CloseReason::HandshakeTimeout(_) => Some(Shed::HandshakeTimeout),
        CloseReason::FrameTimeout(_) => Some(Shed::FrameTimeout),
        CloseReason::IdleTimeout(_) => Some(Shed::IdleTimeout),
    }
}

/// One tracker's connection and everything that is known about it.
struct Conversation<S> {
    hall: Arc<Hall>,
    stream: S,
    session: Session,
    visitor: Visitor,
    place: Place,
    /// Where commands come from, from the login on. Before the seat, so that it goes first.
    line: Option<Line>,
    /// From the login on.
    seat: Option<Seat>,
    /// Bytes that the session has not taken yet.
    pending: Vec<u8>,
    /// Some of them it has not seen yet.
    has_more: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    fn say_how_it_ended(&self, end: Result<End, Broken>) {
        let (hall, peer) = (&self.hall, self.visitor.peer);
        let imei = self.seat.as_ref().map(Seat::imei);
        let who = imei.map(logbook::imei).map(tracing::field::display);
        let panel = &hall.metrics.panel;
        match end {
            Ok(End::Peer { pending_bytes: 0 }) => {
                tracing::debug!(%peer, imei = who, "tracker hung up");
            }
            Ok(End::Peer { pending_bytes }) => {
                tracing::info!(%peer, imei = who, pending_bytes, "tracker hung up in the middle of a frame");
            }
            Ok(End::Stopping) => tracing::debug!(%peer, imei = who, "closed: gateway is stopping"),
            Ok(End::Displaced) => {
                if let Some(imei) = imei {
                    panel.tracker_displaced(imei, peer);
                }
            }
            Ok(End::GivenUp(reason)) => hall.shed(reason, peer, imei, "given up for others"),
            Ok(End::Ours(CloseReason::Refused { imei, refusal })) => {
                let what = "tracker refused; its data stays in the device";
                hall.refused(imei, peer, &chain(&refusal), what);
            }
            Ok(End::Ours(reason)) => {
                if let Some(shed) = shed_of(&reason) {
                    hall.shed(shed, peer, imei, &chain(&reason));
                }
            }
            Err(broken) => {
                if matches!(broken, Broken::WriteTimeout) {
                    hall.metrics.doors.shed(Shed::WriteTimeout);
                }
                if let Some(left_out) = hall.quiet_broken.line(Instant::now()) {
                    tracing::warn!(target: logbook::COUNTED, %peer, imei = who, left_out, reason = chain(&broken), "connection broken");
                }
            }
        }
    }

    async fn converse(&mut self) -> Result<End, Broken> {
        loop {
            if let Some(end) = self.obey().await? {
                return Ok(end);
            }
            if std::mem::take(&mut self.has_more) {
                self.session.on_read(Instant::now());
                continue;
            }
            match self.next_event().await {
                Event::Read(Ok(0)) => {
                    return Ok(End::Peer {
                        pending_bytes: self.pending.len(),
                    });
                }
                Event::Read(Ok(_)) => self.session.on_read(Instant::now()),
                Event::Read(Err(error)) => return Err(error.into()),
                Event::Deadline => {
                    if let Some(Effect::Close(_, reason)) = self.session.on_timeout(Instant::now())
                    {
                        return Ok(End::Ours(reason));
                    }
                }
                // Rare, and large: not part of what every silent connection carries.
                Event::Command(command) => Box::pin(self.command(command)).await?,
                Event::Stopping => return Ok(End::Stopping),
                Event::Displaced => return Ok(End::Displaced),
                Event::GivenUp(reason) => return Ok(End::GivenUp(reason)),
            }
        }
    }

    /// Does what the session wants done about the pending bytes. Between two calls nothing waits
    /// for its receipt, so this is where something else may be said to the tracker.
    async fn obey(&mut self) -> Result<Option<End>, Broken> {
        let pending = std::mem::take(&mut self.pending);
        let began_before = self.session.partial_since();
        let mut rest = pending.as_slice();
        while let Some(mut effect) = self.session.on_bytes(&mut rest, Instant::now()) {
            if let Effect::Ask(imei) = effect {
                let verdict = self.hall.access.ask(imei, self.visitor.peer);
                let Some(next) = self.session.on_verdict(verdict.await) else {
                    continue;
                };
                effect = next;
            }
            match effect {
                Effect::Ask(_) => {}
                Effect::Send(reply) => {
                    self.answer(&reply, rest).await?;
                }
                Effect::Keep(keep) => {
                    let transport = self.visitor.transport;
                    let append = append(&keep, transport);
                    let received_at_ms = append.received_at_ms;
                    // On the heap for as long as it takes: a silent connection carries none of it.
                    let kept = Box::pin(self.hall.spool.append(append)).await;
                    let receipt = kept.map_err(|error| {
                        self.hall.metrics.frame_not_kept();
                        Broken::NotKept(error)
                    })?;
                    let reply = self.session.on_durable(&receipt);
                    let answered = match &reply {
                        Some(reply) => self.answer(reply, rest).await,
                        None => Ok(false),
                    };
                    // After the answer, which the tracker waits for; also when it could not be
                    // given, for the frame is kept.
                    let panel = &self.hall.metrics.panel;
                    panel.frame_kept(keep.imei, keep.data, received_at_ms, transport);
                    if answered? {
                        self.hall.metrics.records_acked(receipt.record_count());
                    }
                    if let Some(line) = &self.line {
                        line.heard(keep.data);
                    }
                    if self.seat.as_ref().is_some_and(Seat::is_displaced) {
                        return Ok(Some(End::Displaced));
                    }
                }
                Effect::Close(reply, reason) => {
                    if let Some(reply) = reply {
                        self.answer(&reply, rest).await?;
                    }
                    return Ok(Some(End::Ours(reason)));
                }
            }
        }
        let came_since = std::mem::take(&mut self.pending);
        self.has_more = !came_since.is_empty();
        self.pending = if self.has_more {
            [rest, &came_since].concat()
        } else if rest.len() == pending.len() {
            pending
        } else {
            rest.to_vec() // of exactly this size: what was answered needs no room
        };
        let is_another = self.session.partial_since() != began_before;
        self.place.holds(self.pending.capacity(), is_another);
        if let Peer::Line(name) = self.visitor.peer {
            let skipped = self.session.take_skipped();
            self.hall.metrics.doors.lines.skipped(name, skipped);
        }
        Ok(None)
    }

    async fn next_event(&mut self) -> Event {
        let deadline = self.session.deadline();
        let (stream, pending) = (&mut self.stream, &mut self.pending);
        let seat = self.seat.as_ref();
        let displaced = async {
            match seat {
                Some(seat) => seat.displaced().await,
                None => std::future::pending().await,
            }
        };
        let may_command = self.session.may_command();
        let line = self.line.as_mut();
        let command = async {
            match line {
                Some(line) if may_command => line.command().await,
                _ => std::future::pending().await,
            }
        };
        // In this order: a frame that is there already goes before a command.
        tokio::select! {
            biased;
            () = self.hall.stop.cancelled() => Event::Stopping,
            () = displaced => Event::Displaced,
            reason = self.place.given_up() => Event::GivenUp(reason),
            read = poll_fn(|cx| poll_read(stream, cx, pending)) => Event::Read(read),
            command = command => Event::Command(command),
            () = sleep_until(deadline.into()) => Event::Deadline,
        }
    }

    async fn command(&mut self, command: Box<Command>) -> Result<(), Broken> {
        // One that came too late says so by itself.
        let Some(saying) = command.begin(clock::now_ms()) else {
            return Ok(());
        };
        let written = timeout(WRITE_TIMEOUT, async {
            self.stream.write_all(saying.bytes()).await?;
            self.stream.flush().await
        });
        written.await.map_err(|_| Broken::WriteTimeout)??;
        saying.written();
        Ok(())
    }

    /// `false`: it came too late to be said. `rest` is what came behind what it answers.
    async fn answer(&mut self, reply: &Reply, rest: &[u8]) -> Result<bool, Broken> {
        let metrics = &self.hall.metrics;
        let peer = self.visitor.peer;
        let imei = self.session.imei();
        match (reply, imei) {
            (Reply::Accept, Some(imei)) => {
                metrics.login(true);
                self.place.logged_in();
                let seat = self.hall.roster.enter(imei);
                let downlink = self.hall.downlink.as_ref();
                self.line = downlink.map(|downlink| downlink.attach(imei, seat.epoch()));
                self.seat = Some(seat);
                metrics.panel.tracker_accepted(imei, peer);
            }
            (Reply::Refuse, _) => metrics.login(false),
            (Reply::Damaged, _) => {
                metrics.frame_damaged();
                metrics.panel.frame_damaged(imei, peer);
            }
            (Reply::Ack(_) | Reply::Accept, _) => {}
        }
        if matches!(peer, Peer::Line(_)) && self.is_too_late(rest).await {
            return Ok(false);
        }
        let (bytes, length) = reply.to_bytes();
        let written = timeout(WRITE_TIMEOUT, async {
            self.stream.write_all(&bytes[..length]).await?;
            self.stream.flush().await
        });
        written.await.map_err(|_| Broken::WriteTimeout)??;
        Ok(true)
    }

    /// Has the tracker begun a message since? Then it has given up waiting, and would take this for
    /// the answer to what it says now: an ACK for records that nobody has. Over TCP it would have
    /// hung up, so only a wire is asked.
    async fn is_too_late(&mut self, rest: &[u8]) -> bool {
        let (stream, pending) = (&mut self.stream, &mut self.pending);
        poll_fn(|cx| {
            // An end is met again by whoever waits for bytes.
            let _ = poll_read(stream, cx, pending);
            Poll::Ready(())
        })
        .await;
        let mut behind = rest.iter().chain(&self.pending);
        // Logins and frames begin with it.
        behind.find(|&&byte| byte != codec::frame::PING) == Some(&0)
    }
}

/// Reads what is there behind `pending`; 0 at the end of the stream. Nothing is taken from the
/// stream unless this returns ready.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pending: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        let read = Pin::new(stream).poll_read(cx, &mut buffer);
        read.map_ok(|()| {
            pending.extend_from_slice(buffer.filled());
            buffer.filled().len()
        })
    })
}

pub(super) fn append(keep: &Keep<'_>, transport: Transport) -> Append {
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Imei(keep.imei),
        transport,
        lane: keep.lane,
        received_at_ms: clock::now_ms(),
        record_count: keep.record_count,
        panic: keep.panic,
        bytes: keep.data.to_vec(),
    }
}
