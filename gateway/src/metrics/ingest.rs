//! What happens at the HTTP door: requests by their answer, positions by their fate.
//!
//! Invariant: every answered request is counted under exactly one status.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::text::Text;

/// Statuses that the door answers with; the last place is for any other.
const STATUSES: [u16; 15] = [
    200, 202, 400, 401, 403, 404, 405, 408, 411, 413, 415, 422, 429, 503, 0,
];

/// The counters of the HTTP door.
#[derive(Debug, Default)]
pub struct IngestMetrics {
    answered: [AtomicU64; STATUSES.len()],
    accepted: AtomicU64,
    rejected: AtomicU64,
    held_bytes: AtomicU64,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    doors: Vec<String>,
    sources: Option<usize>,
    trouble: Option<String>,
}

impl IngestMetrics {
    /// A request was answered.
    pub fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        let place = place.unwrap_or(STATUSES.len() - 1);
        self.answered[place].fetch_add(1, Relaxed);
    }

    /// Positions are durable, and that was answered.
    pub fn accepted(&self, positions: usize) {
        self.accepted.fetch_add(positions as u64, Relaxed);
    }

    /// Items cannot be positions, and that was answered.
    pub fn rejected(&self, items: usize) {
        self.rejected.fetch_add(items as u64, Relaxed);
    }

    /// Requests hold so much more memory.
    pub fn holds(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// So much was given back.
    pub fn gives_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes as u64, Relaxed);
    }

    /// A door is open.
    pub fn door(&self, url: String) {
        self.shown().doors.push(url);
    }

    /// How many have a token (`None`: nobody needs one), and why the newest file is not in force.
    pub fn sources(&self, sources: Option<usize>, trouble: Option<String>) {
        let mut shown = self.shown();
        (shown.sources, shown.trouble) = (sources, trouble);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> impl Iterator<Item = (String, u64)> {
        let word = |status: u16| match status {
            0 => "other".to_owned(),
            known => known.to_string(),
        };
        let counts = STATUSES.iter().zip(&self.answered);
        counts.map(move |(status, count)| (word(*status), count.load(Relaxed)))
    }

    /// As `/status` shows it.
    #[must_use]
    pub fn status(&self) -> Value {
        let requests = self.requests().filter(|(_, count)| *count > 0);
        let requests: Map<String, Value> = requests
            .map(|(status, count)| (status, count.into()))
            .collect();
        let shown = self.shown();
        json!({
            "doors": shown.doors,
            "sources": shown.sources,
            "trouble": shown.trouble,
            "requests": requests,
            "positions_accepted": self.accepted.load(Relaxed),
            "items_rejected": self.rejected.load(Relaxed),
            "memory_bytes": self.held_bytes.load(Relaxed),
        })
    }

    pub(super) fn write_prometheus(&self, text: &mut Text) {
        let help = "Requests to the HTTP door, by the status of their answer.";
        text.head("ingest_requests_total", "counter", help);
        for (status, count) in self.requests() {
            text.sample(
                "ingest_requests_total",
                &format!("status=\"{status}\""),
                count,
            );
        }
        let help = "Items of requests: accepted ones are durable.";
        text.head("ingest_items_total", "counter", help);
        for (outcome, count) in [("accepted", &self.accepted), ("rejected", &self.rejected)] {
            let label = format!("outcome=\"{outcome}\"");
            text.sample("ingest_items_total", &label, count.load(Relaxed));
        }
        let help = "What requests hold of ingest.memory_bytes_max now.";
        let held = self.held_bytes.load(Relaxed);
        text.one("ingest_memory_bytes", "gauge", help, held);
    }
}

/// Samples of its metrics, for whoever counts them.
#[cfg(test)]
pub(super) const SAMPLES: [(&str, usize); 3] = [
    ("ingest_requests_total", STATUSES.len()),
    ("ingest_items_total", 2),
    ("ingest_memory_bytes", 1),
];
