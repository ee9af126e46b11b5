//! Every number the gateway counts, in one list.
//!
//! Why one file: a counter that may lose something must carry the same name here and in the
//! cloud ([`contract::ledger`]), and a reader of a dashboard wants one place to look a name up.
//!
//! Invariant: names are `milepost_gateway_<noun>_<unit or total>`; pure code returns outcomes and
//! the shells count them here.

mod doors;
pub mod downlink;
mod uplink;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use contract::Lane;
use serde::Serialize;

pub use doors::{Datagram, DoorMetrics, DoorStatus, Shed};

use crate::spool::{LaneUsage, Usage};
use crate::uplink::Cause;

pub use uplink::LinkCounters;

type LaneFigure = fn(&LaneUsage) -> u64;

/// The counters; shared by every shell.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What was shed at the doors, and datagrams.
    pub doors: DoorMetrics,
    connections: AtomicU64,
    connections_total: AtomicU64,
    logins_accepted: AtomicU64,
    logins_refused: AtomicU64,
    frames_damaged: AtomicU64,
    frames_not_kept: AtomicU64,
    records_acked: AtomicU64,
    uplink_connected: AtomicBool,
    entries_sent: AtomicU64,
    records_sent: AtomicU64,
    envelopes_resent: AtomicU64,
    in_flight_bytes: AtomicU64,
    trouble: Mutex<Option<String>>,
    /// Of the downlink.
    pub downlink: downlink::DownlinkMetrics,
    /// The uplink's connection.
    pub uplink_link: LinkCounters,
}

/// The uplink as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct UplinkStatus {
    connected: bool,
    entries_sent: u64,
    records_sent: u64,
    envelopes_resent: u64,
    in_flight_bytes: u64,
    trouble: Option<String>,
    cause: Option<&'static str>,
    certificate_left_days: Option<f64>,
    certificate_trouble: Option<String>,
}

/// The device side as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct DeviceStatus {
    connections: u64,
    connections_total: u64,
    logins_accepted: u64,
    logins_refused: u64,
    frames_damaged: u64,
    frames_not_kept: u64,
    records_acked: u64,
    doors: DoorStatus,
}

impl Metrics {
    /// A tracker connected.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.connections_total.fetch_add(1, Relaxed);
    }

    /// A connection ended.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A login was answered.
    pub fn login(&self, accepted: bool) {
        let counter = if accepted {
            &self.logins_accepted
        } else {
            &self.logins_refused
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A frame came with a wrong checksum.
    pub fn frame_damaged(&self) {
        self.frames_damaged.fetch_add(1, Relaxed);
    }

    /// A good frame could not be kept, so it was not acknowledged.
    pub fn frame_not_kept(&self) {
        self.frames_not_kept.fetch_add(1, Relaxed);
    }

    /// Records were acknowledged.
    pub fn records_acked(&self, records: u32) {
        self.records_acked.fetch_add(u64::from(records), Relaxed);
    }

    /// The uplink has a connection, or lost it.
    pub fn uplink_connected(&self, connected: bool) {
        self.uplink_connected.store(connected, Relaxed);
    }

    /// Everything there was to send was accepted; a connection alone proves little.
    pub fn uplink_works(&self) {
        *self.trouble_slot() = None;
        self.uplink_link.works();
    }

    /// What keeps the uplink from sending.
    pub fn uplink_trouble(&self, trouble: String) {
        *self.trouble_slot() = Some(trouble);
    }

    /// Redis accepted entries.
    pub fn uplink_sent(&self, entries: u64, records: u64) {
        self.entries_sent.fetch_add(entries, Relaxed);
        self.records_sent.fetch_add(records, Relaxed);
    }

    /// Envelopes were sent again because they were not stored in time.
    pub fn uplink_resent(&self, envelopes: usize) {
        self.envelopes_resent.fetch_add(envelopes as u64, Relaxed);
    }

    /// Bytes that are sent and unsettled.
    pub fn uplink_in_flight(&self, bytes: usize) {
        self.in_flight_bytes.store(bytes as u64, Relaxed);
    }

    fn trouble_slot(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device side now.
    #[must_use]
    pub fn devices(&self) -> DeviceStatus {
        DeviceStatus {
            connections: self.connections.load(Relaxed),
            connections_total: self.connections_total.load(Relaxed),
            logins_accepted: self.logins_accepted.load(Relaxed),
            logins_refused: self.logins_refused.load(Relaxed),
            frames_damaged: self.frames_damaged.load(Relaxed),
            frames_not_kept: self.frames_not_kept.load(Relaxed),
            records_acked: self.records_acked.load(Relaxed),
            doors: self.doors.status(),
        }
    }

    /// The uplink now.
    #[must_use]
    pub fn uplink(&self) -> UplinkStatus {
        UplinkStatus {
            connected: self.uplink_connected.load(Relaxed),
            entries_sent: self.entries_sent.load(Relaxed),
            records_sent: self.records_sent.load(Relaxed),
            envelopes_resent: self.envelopes_resent.load(Relaxed),
            in_flight_bytes: self.in_flight_bytes.load(Relaxed),
            trouble: self.trouble_slot().clone(),
            cause: self.uplink_link.cause().map(Cause::name),
            certificate_left_days: self.uplink_link.certificate_left_days(),
            certificate_trouble: self.uplink_link.renewal_trouble(),
        }
    }

    /// Prometheus text, version 0.0.4. Days left are left out while they are not known.
    #[must_use]
    pub fn to_prometheus(&self, spool: Usage, days_left: Option<f64>) -> String {
        let (devices, uplink) = (self.devices(), self.uplink());
        let rows = [
            ("connections", "gauge", devices.connections),
            ("connections_total", "counter", devices.connections_total),
            ("logins_accepted_total", "counter", devices.logins_accepted),
            ("logins_refused_total", "counter", devices.logins_refused),
            ("frames_damaged_total", "counter", devices.frames_damaged),
            ("frames_not_kept_total", "counter", devices.frames_not_kept),
            ("records_acked_total", "counter", devices.records_acked),
            ("records_received_total", "counter", spool.records_durable),
            ("spool_used_bytes", "gauge", spool.used_bytes),
            ("spool_bytes_max", "gauge", spool.bytes_max),
            ("spool_file_bytes", "gauge", spool.file_bytes),
            ("spool_backlog_envelopes", "gauge", spool.backlog()),
            ("spool_commits_total", "counter", spool.commits),
            ("spool_syncs_total", "counter", spool.syncs),
            ("spool_payload_bytes_total", "counter", spool.payload_bytes),
            ("spool_written_bytes_total", "counter", spool.written_bytes),
            ("spool_upkeep_bytes_total", "counter", spool.upkeep_bytes),
            (
                "spool_segments_compacted_total",
                "counter",
                spool.segments_compacted,
            ),
            (
                "spool_segments_poisoned_total",
                "counter",
                spool.segments_poisoned,
            ),
            (
                "spool_envelopes_lost_total",
                "counter",
                spool.envelopes_lost,
            ),
            ("uplink_connected", "gauge", u64::from(uplink.connected)),
            ("uplink_entries_sent_total", "counter", uplink.entries_sent),
            ("uplink_records_sent_total", "counter", uplink.records_sent),
            (
                "uplink_envelopes_resent_total",
                "counter",
                uplink.envelopes_resent,
            ),
            ("uplink_in_flight_bytes", "gauge", uplink.in_flight_bytes),
        ];
        let mut text = String::new();
        for (name, kind, value) in rows.into_iter().chain(self.downlink.rows()) {
            let name = format!("milepost_gateway_{name}");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
        self.doors.write_prometheus(&mut text);
        if let Some(days) = days_left {
            let name = "milepost_gateway_spool_left_days";
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {days}");
        }
        self.uplink_link.to_prometheus(&mut text);
        let of_lanes: [(&str, LaneFigure); 2] = [
            ("spool_lane_backlog_envelopes", |lane| lane.backlog),
            ("spool_lane_segments", |lane| lane.segments),
        ];
        for (name, figure) in of_lanes {
            let name = format!("milepost_gateway_{name}");
            let _ = writeln!(text, "# TYPE {name} gauge");
            for lane in Lane::ALL {
                let value = figure(&spool.lane(lane));
                let _ = writeln!(text, "{name}{{lane=\"{}\"}} {value}", lane.as_str());
            }
        }
        text
    }
}
