//! Who was sent away lately, for the person who wonders why a tracker does not appear.
//!
//! Invariant: bounded; when it is full the one seen longest ago makes room.

use std::collections::HashMap;

use codec::Imei;
use serde::Serialize;

use crate::peer::Peer;
use crate::session::Refusal;

/// More than one depot ever mistypes, small enough for a page.
const REFUSED_MAX: usize = 256;

/// A tracker that was sent away and did not get in since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedDevice {
    /// All fifteen digits; shorten it for a log.
    #[serde(serialize_with = "as_text")]
    pub imei: Imei,
    /// In words, with what would let it in.
    pub reason: String,
    /// A listed IMEI that differs by a misprint, all digits.
    #[serde(serialize_with = "as_optional_text")]
    pub nearest: Option<Imei>,
    /// Where from, the last time.
    pub peer: Peer,
    /// Milliseconds since 1970 UTC, the last time.
    pub last_seen_ms: u64,
    /// How often.
    pub count: u64,
}

fn as_text<S: serde::Serializer>(imei: &Imei, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(imei)
}

fn as_optional_text<S: serde::Serializer>(
    imei: &Option<Imei>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match imei {
        Some(imei) => serializer.collect_str(imei),
        None => serializer.serialize_none(),
    }
}

#[derive(Debug, Default)]
pub(super) struct Refused {
    devices: HashMap<Imei, RefusedDevice>,
}

impl Refused {
    /// `true` when it is new on the list: worth a line in the log.
    pub(super) fn note(&mut self, imei: Imei, refusal: &Refusal, peer: Peer, now_ms: u64) -> bool {
        let nearest = match refusal {
            Refusal::NotListed { nearest, .. } | Refusal::WindowClosed { nearest, .. } => *nearest,
            Refusal::Denied | Refusal::NotRemembered => None,
        };
        let count = self.devices.get(&imei).map_or(0, |device| device.count);
        if count == 0 && self.devices.len() >= REFUSED_MAX {
            let oldest = self.devices.values().min_by_key(|one| one.last_seen_ms);
            if let Some(oldest) = oldest.map(|one| one.imei) {
                self.devices.remove(&oldest);
            }
        }
        let device = RefusedDevice {
            imei,
            reason: refusal.to_string(),
            nearest,
            peer,
            last_seen_ms: now_ms,
            count: count + 1,
        };
        self.devices.insert(imei, device);
        count == 0
    }

    pub(super) fn forget(&mut self, imei: Imei) {
        self.devices.remove(&imei);
    }

    /// The last seen first.
    pub(super) fn list(&self) -> Vec<RefusedDevice> {
        let mut all: Vec<_> = self.devices.values().cloned().collect();
        all.sort_unstable_by_key(|one| (std::cmp::Reverse(one.last_seen_ms), one.imei));
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_counts_and_the_oldest_makes_room() {
        let mut refused = Refused::default();
        let peer = Peer::Line("/dev/ttyS1");
        let imei = |n: u64| Imei::from_u64(350_000_000_000_000 + n).unwrap();
        for n in 0..REFUSED_MAX as u64 {
            assert!(refused.note(imei(n), &Refusal::Denied, peer, n));
        }
        assert!(!refused.note(imei(0), &Refusal::Denied, peer, 1000));
        assert!(refused.note(imei(999), &Refusal::Denied, peer, 1001));
        let list = refused.list();
        assert_eq!(list.len(), REFUSED_MAX);
        assert_eq!((list[0].imei, list[0].count), (imei(999), 1));
        assert_eq!((list[1].imei, list[1].count), (imei(0), 2));
        assert!(list.iter().all(|one| one.imei != imei(1)), "the oldest");
        refused.forget(imei(999));
        assert_eq!(refused.list().len(), REFUSED_MAX - 1);
    }
}
