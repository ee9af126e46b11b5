//! What the downlink counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use contract::CommandStatus;
use serde::Serialize;

use crate::downlink::queue::{Reason, Report};

/// The counters of orders and their outcomes.
#[derive(Debug, Default)]
pub struct DownlinkMetrics {
    connected: AtomicBool,
    orders_received: AtomicU64,
    orders_unreadable: AtomicU64,
    written: AtomicU64,
    reports: [AtomicU64; CommandStatus::ALL.len()],
    late: AtomicU64,
    responses_lost: AtomicU64,
    waiting: AtomicU64,
    on_the_way: AtomicU64,
    registered: AtomicU64,
}

/// The downlink as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct DownlinkStatus {
    connected: bool,
    orders_received: u64,
    orders_unreadable: u64,
    commands_written: u64,
    acked: u64,
    nacked: u64,
    timed_out: u64,
    expired: u64,
    unknown: u64,
    late_replies: u64,
    responses_lost: u64,
    waiting: u64,
    on_the_way: u64,
    registered: u64,
}

impl DownlinkMetrics {
    /// The receiver has a connection, or lost it.
    pub fn connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    /// An entry was read from the command stream.
    pub fn received(&self) {
        self.orders_received.fetch_add(1, Relaxed);
    }

    /// It was no order.
    pub fn unreadable(&self) {
        self.orders_unreadable.fetch_add(1, Relaxed);
    }

    /// A command was written to a socket.
    pub fn written(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    /// An outcome is on its way to Redis.
    pub fn reported(&self, report: &Report) {
        self.of(report.status).fetch_add(1, Relaxed);
        if report.reason == Reason::Late {
            self.late.fetch_add(1, Relaxed);
        }
    }

    /// An outcome found no room.
    pub fn response_lost(&self) {
        self.responses_lost.fetch_add(1, Relaxed);
    }

    /// Orders that wait, and orders between intent and outcome.
    pub fn queued(&self, waiting: usize, on_the_way: usize) {
        self.waiting.store(waiting as u64, Relaxed);
        self.on_the_way.store(on_the_way as u64, Relaxed);
    }

    /// Connections that the registry was told of.
    pub fn registered(&self, connections: usize) {
        self.registered.store(connections as u64, Relaxed);
    }

    fn of(&self, status: CommandStatus) -> &AtomicU64 {
        let at = CommandStatus::ALL.iter().position(|(s, _)| *s == status);
        &self.reports[at.expect("every status stands in ALL")]
    }

    /// Now.
    #[must_use]
    pub fn status(&self) -> DownlinkStatus {
        let reported = |status| self.of(status).load(Relaxed);
        DownlinkStatus {
            connected: self.connected.load(Relaxed),
            orders_received: self.orders_received.load(Relaxed),
            orders_unreadable: self.orders_unreadable.load(Relaxed),
            commands_written: self.written.load(Relaxed),
            acked: reported(CommandStatus::Ack),
            nacked: reported(CommandStatus::Nack),
            timed_out: reported(CommandStatus::Timeout),
            expired: reported(CommandStatus::Expired),
            unknown: reported(CommandStatus::Unknown),
            late_replies: self.late.load(Relaxed),
            responses_lost: self.responses_lost.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            on_the_way: self.on_the_way.load(Relaxed),
            registered: self.registered.load(Relaxed),
        }
    }

    /// Name, type and value of each, for Prometheus.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, &'static str, u64); 14] {
        let now = self.status();
        [
            ("downlink_connected", "gauge", u64::from(now.connected)),
            ("orders_received_total", "counter", now.orders_received),
            ("orders_unreadable_total", "counter", now.orders_unreadable),
            ("commands_written_total", "counter", now.commands_written),
            ("commands_acked_total", "counter", now.acked),
            ("commands_nacked_total", "counter", now.nacked),
            ("commands_timed_out_total", "counter", now.timed_out),
            ("commands_expired_total", "counter", now.expired),
            ("commands_unknown_total", "counter", now.unknown),
            ("command_replies_late_total", "counter", now.late_replies),
            (
                "command_responses_lost_total",
                "counter",
                now.responses_lost,
            ),
            ("commands_waiting", "gauge", now.waiting),
            ("commands_on_the_way", "gauge", now.on_the_way),
            ("registry_connections", "gauge", now.registered),
        ]
    }
}
