//! What the shells tell whoever watches: one handle beside the counters.
//!
//! Why one: a shell that keeps a frame says so once, and the table, the tap and the log have it.
//!
//! Invariant: nothing told here is ever waited for, and nothing depends on anybody watching.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use codec::Imei;
use contract::Transport;

use crate::board::Shown;
use crate::devices::{Devices, codec_word, transport_word};
use crate::events::{Events, Kind};
use crate::logbook;
use crate::peer::Peer;
use crate::progress::Progress;
use crate::reload::Reload;
use crate::tap::Taps;

/// After it a connection over TCP would have been closed (the default of `listen.idle_timeout`), and
/// the tracker would have logged in again.
const DATAGRAM_SILENCE_MS: u64 = 30 * 60_000;

/// How far the gateway has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The doors for trackers are not open yet.
    Starting,
    /// Trackers are served.
    Serving,
    /// No new frames; what was begun is finished.
    Stopping,
}

/// Everything that is shown and not counted.
#[derive(Debug, Default)]
pub struct Panel {
    /// The table of devices.
    pub devices: Devices,
    /// What happened lately.
    pub events: Events,
    /// Frames for whoever watches.
    pub taps: Taps,
    /// Whether every stage moves.
    pub progress: Progress,
    /// The board, and what its light says.
    pub board: Shown,
    /// Rings when lists and certificates are to be read anew.
    pub reload: Reload,
    phase: AtomicU8,
}

impl Panel {
    /// A frame of `imei` is durable. `data` is codec id … second count.
    pub fn frame_kept(&self, imei: Imei, data: &[u8], received_at_ms: u64, transport: Transport) {
        self.devices.heard(imei, data, received_at_ms, transport);
        self.taps.offer(imei, data, received_at_ms, transport);
        tracing::debug!(
            imei = %logbook::imei(imei),
            transport = transport_word(transport),
            codec = codec_word(data.first().copied().unwrap_or_default()),
            bytes = data.len(),
            "frame kept"
        );
    }

    /// A tracker logged in.
    pub fn tracker_accepted(&self, imei: Imei, peer: Peer) {
        tracing::info!(%peer, imei = %logbook::imei(imei), "tracker accepted");
        self.events
            .note(Kind::TrackerAccepted, Some(imei), "tracker accepted");
    }

    /// A datagram of `imei` is durable. The first one, or the first after a long silence, is what a
    /// login is at the other doors.
    pub fn datagram_kept(&self, imei: Imei, data: &[u8], received_at_ms: u64, peer: Peer) {
        let last_ms = self.devices.get(imei).map(|device| device.last_seen_ms);
        let silence_ms = last_ms.map(|last_ms| received_at_ms.saturating_sub(last_ms));
        if silence_ms.is_none_or(|ms| ms >= DATAGRAM_SILENCE_MS) {
            self.tracker_accepted(imei, peer);
        }
        self.frame_kept(imei, data, received_at_ms, Transport::Udp);
    }

    /// A tracker was sent away; `why` in words and without its IMEI.
    pub fn tracker_refused(&self, imei: Imei, at_ms: u64, why: &str) {
        self.devices.refused(imei, why.to_owned(), at_ms);
        self.events.note(
            Kind::TrackerRefused,
            Some(imei),
            format!("tracker refused: {why}"),
        );
    }

    /// A second connection with its IMEI took a tracker's place.
    pub fn tracker_displaced(&self, imei: Imei, peer: Peer) {
        tracing::info!(%peer, imei = %logbook::imei(imei), "a newer connection of this tracker took its place");
        self.events.note(
            Kind::TrackerDisplaced,
            Some(imei),
            "a newer connection of this tracker took its place",
        );
    }

    /// A frame came with a wrong checksum.
    pub fn frame_damaged(&self, imei: Option<Imei>, peer: Peer) {
        tracing::warn!(%peer, imei = imei.map(|imei| tracing::field::display(logbook::imei(imei))), "frame checksum wrong: answered 0, the tracker will send it again");
        self.events.note(
            Kind::FrameDamaged,
            imei,
            "damaged frame: not kept, the tracker sends it again",
        );
    }

    /// How far the gateway has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// The doors are open.
    pub fn serving(&self) {
        self.phase.store(1, Relaxed);
    }

    /// The doors close.
    pub fn stopping(&self) {
        self.phase.store(2, Relaxed);
    }
}
