//! Every number the gateway counts, in one list.
//!
//! Why one file: a counter that may lose something must carry the same name here and in the
//! cloud ([`contract::ledger`]), and a reader of a dashboard wants one place to look a name up.
//!
//! Invariant: names are `milepost_gateway_<noun>_<unit or total>`; pure code returns outcomes and
//! the shells count them here.

mod doors;
pub mod downlink;
#[cfg(feature = "ingest")]
mod ingest;
pub mod lines;
pub(crate) mod process;
mod text;
mod uplink;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use contract::Lane;
use serde::Serialize;

pub use doors::{Datagram, DoorMetrics, DoorStatus, Shed};
pub use uplink::LinkCounters;

use crate::panel::Panel;
use crate::spool::{LaneUsage, Usage};
use crate::uplink::Cause;
pub(crate) use text::Text;

type LaneFigure = fn(&LaneUsage) -> u64;

/// The counters; shared by every shell.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What was shed at the doors, and datagrams.
    pub doors: DoorMetrics,
    /// Requests to the HTTP door.
    #[cfg(feature = "ingest")]
    pub ingest: ingest::IngestMetrics,
    connections: AtomicU64,
    connections_total: AtomicU64,
    logins_accepted: AtomicU64,
    logins_refused: AtomicU64,
    frames_damaged: AtomicU64,
    frames_not_kept: AtomicU64,
    records_acked: AtomicU64,
    uplink_connected: AtomicBool,
    uplink_behind: AtomicBool,
    entries_sent: AtomicU64,
    records_sent: AtomicU64,
    envelopes_resent: AtomicU64,
    in_flight_bytes: AtomicU64,
    trouble: Mutex<Option<String>>,
    /// Of the downlink.
    pub downlink: downlink::DownlinkMetrics,
    /// The uplink's connection.
    pub uplink_link: LinkCounters,
    /// What is shown and not counted.
    pub panel: Panel,
}

/// The uplink as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct UplinkStatus {
    connected: bool,
    entries_sent: u64,
    pub(crate) records_sent: u64,
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
    pub(crate) connections: u64,
    connections_total: u64,
    logins_accepted: u64,
    logins_refused: u64,
    frames_damaged: u64,
    pub(crate) frames_not_kept: u64,
    pub(crate) records_acked: u64,
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

    /// The spool holds, or no longer holds, what was not handed over.
    pub fn uplink_behind(&self, behind: bool) {
        self.uplink_behind.store(behind, Relaxed);
    }

    /// Does the spool hold what was not handed over?
    #[must_use]
    pub fn is_uplink_behind(&self) -> bool {
        self.uplink_behind.load(Relaxed)
    }

    /// Everything there was to send was accepted; a connection alone proves little.
    pub fn uplink_works(&self) {
        *self.trouble_slot() = None;
        self.uplink_link.works();
    }

    /// Does Redis take entries?
    #[must_use]
    pub fn is_uplink_connected(&self) -> bool {
        self.uplink_connected.load(Relaxed)
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
            (
                "connections",
                "gauge",
                "Trackers connected now.",
                devices.connections,
            ),
            (
                "connections_total",
                "counter",
                "Connections of trackers.",
                devices.connections_total,
            ),
            (
                "logins_accepted_total",
                "counter",
                "Trackers that logged in.",
                devices.logins_accepted,
            ),
            (
                "logins_refused_total",
                "counter",
                "Trackers that were sent away.",
                devices.logins_refused,
            ),
            (
                "frames_damaged_total",
                "counter",
                "Frames with a wrong checksum; the tracker sends them again.",
                devices.frames_damaged,
            ),
            (
                "frames_not_kept_total",
                "counter",
                "Good frames that could not be kept and so were not acknowledged.",
                devices.frames_not_kept,
            ),
            (
                "records_acked_total",
                "counter",
                "AVL records acknowledged.",
                devices.records_acked,
            ),
            (
                "records_received_total",
                "counter",
                "AVL records made durable.",
                spool.records_durable,
            ),
            (
                "spool_used_bytes",
                "gauge",
                "Bytes of the spool that unsettled records need.",
                spool.used_bytes,
            ),
            (
                "spool_bytes_max",
                "gauge",
                "Cap of the spool.",
                spool.bytes_max,
            ),
            (
                "spool_file_bytes",
                "gauge",
                "Bytes that the spool's files take on disk.",
                spool.file_bytes,
            ),
            (
                "spool_backlog_envelopes",
                "gauge",
                "Frames that are not stored in the database yet.",
                spool.backlog(),
            ),
            (
                "spool_commits_total",
                "counter",
                "Group commits.",
                spool.commits,
            ),
            (
                "spool_syncs_total",
                "counter",
                "Syncs of any file or directory.",
                spool.syncs,
            ),
            (
                "spool_payload_bytes_total",
                "counter",
                "Bytes of frames made durable.",
                spool.payload_bytes,
            ),
            (
                "spool_written_bytes_total",
                "counter",
                "Bytes written for commits and headers.",
                spool.written_bytes,
            ),
            (
                "spool_upkeep_bytes_total",
                "counter",
                "Bytes written for cursors, compaction and zero-filling.",
                spool.upkeep_bytes,
            ),
            (
                "spool_segments_compacted_total",
                "counter",
                "Segments compacted.",
                spool.segments_compacted,
            ),
            (
                "spool_segments_poisoned_total",
                "counter",
                "Segments given up after a failed write.",
                spool.segments_poisoned,
            ),
            (
                "spool_envelopes_lost_total",
                "counter",
                "Frames in gaps, found or made.",
                spool.envelopes_lost,
            ),
            (
                "uplink_connected",
                "gauge",
                "1 while Redis takes entries.",
                u64::from(uplink.connected),
            ),
            (
                "uplink_entries_sent_total",
                "counter",
                "Stream entries accepted by Redis.",
                uplink.entries_sent,
            ),
            (
                "uplink_records_sent_total",
                "counter",
                "AVL records in them.",
                uplink.records_sent,
            ),
            (
                "uplink_envelopes_resent_total",
                "counter",
                "Frames sent again because they were not stored in time.",
                uplink.envelopes_resent,
            ),
            (
                "uplink_in_flight_bytes",
                "gauge",
                "Bytes sent and not stored in the database yet.",
                uplink.in_flight_bytes,
            ),
        ];
        let mut text = Text::default();
        for (name, kind, help, value) in rows.into_iter().chain(self.downlink.rows()) {
            text.one(name, kind, help, value);
        }
        self.doors.write_prometheus(&mut text);
        #[cfg(feature = "ingest")]
        self.ingest.write_prometheus(&mut text);
        if let Some(days) = days_left {
            let help = "Days until the spool is full without a link, at the rate of the last two.";
            text.one("spool_left_days", "gauge", help, days);
        }
        self.uplink_link.write_prometheus(&mut text);
        let of_lanes: [(&str, &str, LaneFigure); 2] = [
            (
                "spool_lane_backlog_envelopes",
                "Frames of the lane that are not stored in the database yet.",
                |lane| lane.backlog,
            ),
            (
                "spool_lane_segments",
                "Segments of the lane that hold some of them or are being written.",
                |lane| lane.segments,
            ),
        ];
        for (name, help, figure) in of_lanes {
            text.head(name, "gauge", help);
            for lane in Lane::ALL {
                let label = format!("lane=\"{}\"", lane.as_str());
                text.sample(name, &label, figure(&spool.lane(lane)));
            }
        }
        text.into_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;
    use std::time::Duration;

    /// Reads the text as Prometheus would: name to kind, and how many samples.
    fn read(text: &str) -> HashMap<String, (String, usize)> {
        let mut known: HashMap<String, (String, usize)> = HashMap::new();
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(words.ends_with('.') && !words.contains('\\'), "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "TYPE without HELP");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(name.starts_with("milepost_gateway_"), "{line}");
                let twice = known.insert(name.to_owned(), (kind.to_owned(), 0));
                assert!(twice.is_none(), "{name} twice");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
                let name = sample.split('{').next().unwrap();
                assert_eq!(name, helped, "a sample away from its head");
                known.get_mut(name).unwrap().1 += 1;
            }
        }
        known
    }

    #[test]
    fn every_metric_has_its_kind_its_help_and_a_value_once() {
        let mut text = Metrics::default().to_prometheus(Usage::default(), Some(1.5));
        text += &process::to_prometheus(Some(0), 3, Duration::from_secs(9), Some(12.5));
        let known = read(&text);
        for (name, (_, samples)) in &known {
            let expected = match name.strip_prefix("milepost_gateway_").unwrap() {
                "connections_shed_total" => Shed::ALL.len(),
                "datagrams_total" => Datagram::ALL.len(),
                "uplink_trouble" => Cause::ALL.len(),
                lane if lane.contains("_lane_") => Lane::ALL.len(),
                #[cfg(feature = "ingest")]
                of_ingest if of_ingest.starts_with("ingest_") => {
                    let known = ingest::SAMPLES.iter().find(|(name, _)| *name == of_ingest);
                    known.unwrap().1
                }
                _ => 1,
            };
            assert_eq!(*samples, expected, "{name}");
        }
        for name in [
            "build_info",
            "commands_acked_total",
            "process_memory_bytes",
            "doors_certificate_left_days",
            "spool_left_days",
            "spool_oldest_waiting_seconds",
        ] {
            assert!(
                known.contains_key(&format!("milepost_gateway_{name}")),
                "{name}"
            );
        }
        assert!(known.len() > 30, "{}", known.len());
    }
}
