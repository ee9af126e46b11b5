//! Pure: no I/O, no clock.
//!
//! What became of the last orders, for whoever asks this gateway and not the cloud.
//!
//! Invariant: at most [`OUTCOMES_MAX`], one for each order: its latest; replies are not kept, they
//! may hold a password.

use std::collections::VecDeque;

use codec::Imei;
use contract::command::CommandStatus;

use super::report::Report;

/// Outcomes remembered; `commands:responses` has all.
const OUTCOMES_MAX: usize = 50;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The order.
    pub cid: String,
    /// Its tracker; shorten it where people read it.
    pub imei: Imei,
    /// How far it came.
    pub status: CommandStatus,
    /// Why, in the word of the log; empty when there is nothing to explain.
    pub reason: &'static str,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<Outcome>);

impl Recent {
    pub(super) fn note(&mut self, report: &Report) {
        self.0.retain(|old| old.cid != report.cid);
        if self.0.len() >= OUTCOMES_MAX {
            self.0.pop_back();
        }
        self.0.push_front(Outcome {
            cid: report.cid.clone(),
            imei: report.imei,
            status: report.status,
            reason: report.reason.word(),
            at_ms: report.ts_ms,
        });
    }

    /// The latest first.
    pub(super) fn list(&self) -> Vec<Outcome> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn of(&self, cid: &str) -> Option<&Outcome> {
        self.0.iter().find(|outcome| outcome.cid == cid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::report::Reason;
    use super::*;

    fn report(cid: usize, status: CommandStatus, ts_ms: u64) -> Report {
        Report {
            cid: cid.to_string(),
            imei: "356307042441013".parse().unwrap(),
            status,
            reason: Reason::None,
            reply: "secret".to_owned(),
            ts_ms,
            attempt: 1,
            entry: None,
            settles: false,
        }
    }

    #[test]
    fn the_latest_word_about_an_order_counts_and_the_oldest_order_makes_room() {
        let mut recent = Recent::default();
        recent.note(&report(0, CommandStatus::Sent, 1));
        recent.note(&report(1, CommandStatus::Nack, 2));
        recent.note(&report(0, CommandStatus::Ack, 3));
        let shown: Vec<_> = recent
            .list()
            .into_iter()
            .map(|o| (o.cid, o.at_ms))
            .collect();
        assert_eq!(shown, [("0".to_owned(), 3), ("1".to_owned(), 2)]);
        assert_eq!(recent.of("0").unwrap().status, CommandStatus::Ack);
        for cid in 2..=OUTCOMES_MAX {
            recent.note(&report(cid, CommandStatus::Sent, 4));
        }
        assert_eq!(recent.list().len(), OUTCOMES_MAX);
        assert!(recent.of("1").is_none() && recent.of("0").is_some());
    }
}
