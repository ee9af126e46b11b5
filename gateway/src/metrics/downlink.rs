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

    /// Name, type, help and value of each, for Prometheus.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, &'static str, &'static str, u64); 14] {
        let now = self.status();
        let counter = |name, help, value| (name, "counter", help, value);
        let gauge = |name, help, value| (name, "gauge", help, value);
        [
            gauge(
                "downlink_connected",
                "1 while orders can be read from Redis.",
                u64::from(now.connected),
            ),
            counter(
                "orders_received_total",
                "Orders read from the command stream.",
                now.orders_received,
            ),
            counter(
                "orders_unreadable_total",
                "Entries of the command stream that are no order.",
                now.orders_unreadable,
            ),
            counter(
                "commands_written_total",
                "Commands written to a tracker, repetitions included.",
                now.commands_written,
            ),
            counter(
                "commands_acked_total",
                "Commands that the tracker replied to.",
                now.acked,
            ),
            counter(
                "commands_nacked_total",
                "Orders that were refused or could not be carried out.",
                now.nacked,
            ),
            counter(
                "commands_timed_out_total",
                "Commands without a reply in time.",
                now.timed_out,
            ),
            counter(
                "commands_expired_total",
                "Orders that were too late before anything was written.",
                now.expired,
            ),
            counter(
                "commands_unknown_total",
                "Commands whose outcome nobody knows.",
                now.unknown,
            ),
            counter(
                "command_replies_late_total",
                "Replies after their timeout had been reported.",
                now.late_replies,
            ),
            counter(
                "command_responses_lost_total",
                "Outcomes that found no room to wait for Redis.",
                now.responses_lost,
            ),
            gauge(
                "commands_waiting",
                "Orders that wait for their tracker.",
                now.waiting,
            ),
            gauge(
                "commands_on_the_way",
                "Commands between intent and outcome.",
                now.on_the_way,
            ),
            gauge(
                "registry_connections",
                "Connections that the registry was told of.",
                now.registered,
            ),
        ]
    }
}
