//! What happens at the doors: connections that were shed, with the reason, and datagrams.
//!
//! Invariant: whatever ends a connection from our side, or leaves a datagram without an answer,
//! is counted under exactly one reason.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::lines::{Line, Lines};
use super::text::Text;

/// Why a connection was not taken, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// `listen.connections_max` reached, and everybody has logged in.
    NoPlace,
    /// `listen.connections_per_ip_max` reached.
    PerAddress,
    /// No login yet when a newcomer needed the place.
    NoLogin,
    /// `listen.memory_bytes_max` reached, and its incomplete frame was the oldest.
    Memory,
    /// No login in time.
    HandshakeTimeout,
    /// A frame did not end in time.
    FrameTimeout,
    /// Silent for too long.
    IdleTimeout,
    /// Did not take its answer.
    WriteTimeout,
    /// Its bytes cannot be followed, or its login is no IMEI.
    Unreadable,
    /// No TLS, or not with this certificate.
    TlsHandshake,
}

impl Shed {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::NoPlace,
        Self::PerAddress,
        Self::NoLogin,
        Self::Memory,
        Self::HandshakeTimeout,
        Self::FrameTimeout,
        Self::IdleTimeout,
        Self::WriteTimeout,
        Self::Unreadable,
        Self::TlsHandshake,
    ];

    /// The word in metrics, `/status` and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPlace => "no_place",
            Self::PerAddress => "per_ip",
            Self::NoLogin => "no_login",
            Self::Memory => "memory",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::FrameTimeout => "frame_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Unreadable => "unreadable",
            Self::TlsHandshake => "tls_handshake",
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// On disk, and answered if its codec wants an answer.
    Kept,
    /// Not a Teltonika datagram: no answer.
    Damaged,
    /// Its IMEI may not talk here: no answer.
    Refused,
    /// The spool did not take it: no answer, so the tracker sends it again.
    NotKept,
}

impl Datagram {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Kept, Self::Damaged, Self::Refused, Self::NotKept];

    /// The word in metrics and `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::NotKept => "not_kept",
        }
    }
}

/// The counters of the doors.
#[derive(Debug, Default)]
pub struct DoorMetrics {
    shed: [AtomicU64; Shed::ALL.len()],
    datagrams: [AtomicU64; Datagram::ALL.len()],
    /// The serial lines.
    pub lines: Lines,
}

/// The doors as `/status` shows them: reason → count, and the serial lines.
#[derive(Clone, Debug, Serialize)]
pub struct DoorStatus {
    shed: Counts<{ Shed::ALL.len() }>,
    datagrams: Counts<{ Datagram::ALL.len() }>,
    serial: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Counts<const N: usize>([(&'static str, u64); N]);

impl<const N: usize> Serialize for Counts<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(N))?;
        for (word, count) in self.0 {
            map.serialize_entry(word, &count)?;
        }
        map.end()
    }
}

impl DoorMetrics {
    /// A connection was not taken, or given up.
    pub fn shed(&self, reason: Shed) {
        self.shed[reason as usize].fetch_add(1, Relaxed);
    }

    /// How many were, for this reason.
    #[must_use]
    pub fn shed_count(&self, reason: Shed) -> u64 {
        self.shed[reason as usize].load(Relaxed)
    }

    /// A datagram was dealt with.
    pub fn datagram(&self, outcome: Datagram) {
        self.datagrams[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many had this outcome.
    #[must_use]
    pub fn datagram_count(&self, outcome: Datagram) -> u64 {
        self.datagrams[outcome as usize].load(Relaxed)
    }

    /// Now.
    #[must_use]
    pub fn status(&self) -> DoorStatus {
        let shed = Shed::ALL.map(|reason| (reason.as_str(), self.shed_count(reason)));
        let datagrams =
            Datagram::ALL.map(|outcome| (outcome.as_str(), self.datagram_count(outcome)));
        DoorStatus {
            shed: Counts(shed),
            datagrams: Counts(datagrams),
            serial: self.lines.status(),
        }
    }

    /// Appends the Prometheus rows.
    pub(super) fn write_prometheus(&self, text: &mut Text) {
        let status = self.status();
        let families = [
            (
                "connections_shed_total",
                "reason",
                "Connections that were not taken or were given up, by reason.",
                status.shed.0.as_slice(),
            ),
            (
                "datagrams_total",
                "outcome",
                "Datagrams, by what became of them.",
                status.datagrams.0.as_slice(),
            ),
        ];
        for (name, label, help, rows) in families {
            text.head(name, "counter", help);
            for (word, count) in rows {
                text.sample(name, &format!("{label}=\"{word}\""), count);
            }
        }
        self.lines.write_prometheus(text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reason_has_a_row_of_its_own_everywhere() {
        let metrics = DoorMetrics::default();
        for (n, reason) in Shed::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| metrics.shed(reason));
        }
        for (n, outcome) in Datagram::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| metrics.datagram(outcome));
        }
        let status = serde_json::to_value(metrics.status()).unwrap();
        let mut text = Text::default();
        metrics.write_prometheus(&mut text);
        let text = text.into_string();
        for (n, reason) in Shed::ALL.into_iter().enumerate() {
            assert_eq!(status["shed"][reason.as_str()], n as u64 + 1);
            let row = format!("shed_total{{reason=\"{}\"}} {}\n", reason.as_str(), n + 1);
            assert!(text.contains(&row), "{row} in {text}");
        }
        for (n, outcome) in Datagram::ALL.into_iter().enumerate() {
            assert_eq!(status["datagrams"][outcome.as_str()], n as u64 + 1);
            let row = format!(
                "datagrams_total{{outcome=\"{}\"}} {}\n",
                outcome.as_str(),
                n + 1
            );
            assert!(text.contains(&row), "{row} in {text}");
        }
    }
}
