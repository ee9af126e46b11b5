//! Numbers of a running fleet: counted by its devices, read by whoever watches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest ACK delay that is told apart from longer ones: ten minutes.
const DELAY_MS_MAX: u64 = 600_000;

/// A look at a fleet. Records are AVL records; a record is `sent` once however often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FleetStats {
    /// Trackers there are.
    pub devices: u64,
    /// Trackers logged in at this moment.
    pub connected: u64,
    /// Records that went out at least once.
    pub sent: u64,
    /// Records the server said OK to.
    pub acked: u64,
    /// Records that went out again because no good answer came, each time counted.
    pub resent: u64,
    /// Logins answered with 0x00 or not at all.
    pub refused: u64,
    /// Connections after the first of their device.
    pub reconnects: u64,
    /// Attempts to connect that came to nothing.
    pub connects_failed: u64,
    /// Answers with another count than was sent.
    pub wrong_counts: u64,
    /// Frames without an answer in time.
    pub timeouts: u64,
    /// Records in the devices' memories: not sent yet or not ACKed.
    pub waiting: u64,
    /// Frames written to sockets, repeats included.
    pub frames: u64,
    /// Bytes written to sockets.
    pub bytes: u64,
    /// Lone 0xFF bytes written.
    pub pings: u64,
    /// Time from frame to ACK, median, in milliseconds.
    pub ack_delay_p50_ms: u64,
    /// The same, 99th percentile.
    pub ack_delay_p99_ms: u64,
    /// The same, longest.
    pub ack_delay_max_ms: u64,
}

/// Where the devices count.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) connects_failed: AtomicU64,
    pub(super) wrong_counts: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) pings: AtomicU64,
    delays_ms: Mutex<Histogram<u64>>,
}

impl Counters {
    pub(super) fn new() -> Counters {
        let delays = Histogram::new_with_max(DELAY_MS_MAX, 3);
        Counters {
            connected: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            connects_failed: AtomicU64::new(0),
            wrong_counts: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            delays_ms: Mutex::new(delays.expect("bounds and precision are constants")),
        }
    }

    pub(super) fn ack_delay(&self, delay_ms: u64) {
        let mut delays = self
            .delays_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        delays.saturating_record(delay_ms);
    }

    pub(super) fn look(&self, devices: u64) -> FleetStats {
        let delays = self
            .delays_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // ACKed before sent: whoever reads must never see more ACKed than sent.
        let acked = self.acked.load(Relaxed);
        FleetStats {
            devices,
            connected: self.connected.load(Relaxed),
            acked,
            sent: self.sent.load(Relaxed).max(acked),
            resent: self.resent.load(Relaxed),
            refused: self.refused.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            connects_failed: self.connects_failed.load(Relaxed),
            wrong_counts: self.wrong_counts.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            pings: self.pings.load(Relaxed),
            ack_delay_p50_ms: delays.value_at_quantile(0.5),
            ack_delay_p99_ms: delays.value_at_quantile(0.99),
            ack_delay_max_ms: delays.max(),
        }
    }
}
