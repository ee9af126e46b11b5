//! What `/status` takes from the parts themselves: who may talk, which commands wait, how long the
//! trackers' certificate lasts.
//!
//! Why only the first word of a command: the rest of it may hold a password, and the pages ask for
//! none.
//!
//! Invariant: an IMEI leaves here in the style of `log.imei`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::access::{Access, RefusedDevice};
use crate::clock;
use crate::downlink::queue::OrderView;
use crate::downlink::{Downlink, Outcome};
use crate::listen::Identity;
use crate::logbook::ImeiStyle;

/// Commands in `/status`; `/commands` has all.
const COMMANDS_SHOWN: usize = 20;

/// Outcomes in `/status`; `/commands` has all that are remembered.
const OUTCOMES_SHOWN: usize = 10;

/// Refused devices in `/status`; `/devices` has more.
const REFUSED_SHOWN: usize = 20;

/// Parts of the gateway that can be asked.
#[derive(Clone, Default)]
pub struct Parts {
    /// Who may talk.
    pub access: Option<Access>,
    /// The commands; `None` while they are off.
    pub downlink: Option<Downlink>,
    /// The certificate for trackers; empty until the doors are open, or without a TLS door.
    pub identity: Arc<OnceLock<Arc<Identity>>>,
    /// Every setting as it may be shown, with its origin.
    pub settings: Arc<Value>,
    /// Where the spool is.
    pub spool_dir: PathBuf,
    /// Where records go from here, without a password.
    pub forward_to: String,
}

impl Parts {
    /// Adds what they say to the object of `/status`.
    pub(super) fn extend(&self, status: &mut Value, style: ImeiStyle) {
        if let Some(access) = &self.access {
            status["access"] = who_may_talk(access, style);
        }
        status["uplink"]["forward_to"] = self.forward_to.as_str().into();
        status["downlink"]["enabled"] = self.downlink.is_some().into();
        let mut commands = self.commands(COMMANDS_SHOWN, OUTCOMES_SHOWN, style);
        for part in ["commands", "outcomes"] {
            status["downlink"][part] = commands[part].take();
        }
        let identity = self.identity.get();
        status["doors"]["certificate_left_days"] = json!(self.certificate_left_days());
        let trouble = identity.and_then(|identity| identity.trouble());
        status["doors"]["certificate_trouble"] = json!(trouble);
    }

    /// Of the certificate for trackers.
    pub(super) fn certificate_left_days(&self) -> Option<f64> {
        self.identity.get()?.left_days()
    }

    /// The object of `/commands`: so many of the orders that wait or are on their way, and so many
    /// of the last outcomes.
    pub(super) fn commands(&self, limit: usize, outcomes: usize, style: ImeiStyle) -> Value {
        let orders = self.downlink.as_ref().map(Downlink::snapshot);
        let orders = orders.unwrap_or_default();
        let ended = self.downlink.as_ref().map(Downlink::outcomes);
        let ended = ended.unwrap_or_default();
        // One that was sent has been reported already, and is on its way still.
        let is_here = |outcome: &&Outcome| orders.iter().any(|order| order.cid == outcome.cid);
        let ended = ended.iter().filter(|outcome| !is_here(outcome));
        let ended = ended.take(outcomes);
        let ended = ended.map(|outcome| of_outcome(outcome, style));
        let shown = orders
            .iter()
            .take(limit)
            .map(|order| of_order(order, style));
        json!({
            "commands": shown.collect::<Vec<_>>(),
            "outcomes": ended.collect::<Vec<_>>(),
        })
    }
}

fn of_order(order: &OrderView, style: ImeiStyle) -> Value {
    json!({
        "cid": order.cid,
        "imei": style.show(order.imei).to_string(),
        "state": order.state,
        "command": order.payload.split_whitespace().next().unwrap_or_default(),
        "expires_ms": order.expires_ms,
        "sends": order.sends,
    })
}

fn of_outcome(outcome: &Outcome, style: ImeiStyle) -> Value {
    json!({
        "cid": outcome.cid,
        "imei": style.show(outcome.imei).to_string(),
        "state": "ended",
        "status": outcome.status.as_str(),
        "reason": outcome.reason,
        "at_ms": outcome.at_ms,
    })
}

/// `nack (busy)`, `ack`.
pub(super) fn word_of(outcome: &Outcome) -> String {
    let status = outcome.status.as_str();
    match outcome.reason {
        "" => status.to_owned(),
        reason => format!("{status} ({reason})"),
    }
}

fn who_may_talk(access: &Access, style: ImeiStyle) -> Value {
    let now = access.status();
    json!({
        "mode": now.mode,
        "accepts": now.to_words(),
        "listed": now.listed,
        "window_left_s": now.window_left_s,
        "window_until_ms": now.window_left_s.map(|left| clock::now_ms() + left * 1_000),
        "trouble": now.trouble,
        "refused": refused(access, REFUSED_SHOWN, style),
    })
}

/// Who was sent away and did not get in since, the last one first.
pub(super) fn refused(access: &Access, limit: usize, style: ImeiStyle) -> Value {
    let refused = access.refused();
    let shown = refused.iter().take(limit);
    shown.map(|device| of_refused(device, style)).collect()
}

fn of_refused(device: &RefusedDevice, style: ImeiStyle) -> Value {
    let nearest = device.nearest.map(|imei| style.show(imei).to_string());
    json!({
        "imei": style.show(device.imei).to_string(),
        "why": device.reason,
        "nearest": nearest,
        "peer": device.peer,
        "at_ms": device.last_seen_ms,
        "times": device.count,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::access::{AccessConfig, AccessMode};
    use crate::peer::Peer;

    #[tokio::test]
    async fn who_is_sent_away_is_shown_short_and_a_command_by_its_first_word() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list.txt");
        std::fs::write(&list, "356307042441013\n").unwrap();
        let config = AccessConfig {
            mode: AccessMode::List,
            list: Some(list),
            ..AccessConfig::open()
        };
        let access = Access::open(config).unwrap();
        let stranger = "356307042441031".parse().unwrap();
        let asked = access.ask(stranger, Peer::Line("/dev/ttyS1")).await;
        assert!(asked.is_err());
        let shown = who_may_talk(&access, ImeiStyle::Short);
        assert_eq!(shown["accepts"], "1 listed IMEIs");
        assert_eq!(shown["refused"][0]["imei"], "35630…031");
        assert_eq!(shown["refused"][0]["nearest"], "35630…013");
        assert_eq!(shown["refused"][0]["peer"], "/dev/ttyS1");
        for imei in ["356307042441031", "356307042441013"] {
            assert!(!shown.to_string().contains(imei), "{shown}");
        }
        let order = OrderView {
            cid: "c-1".to_owned(),
            imei: stranger,
            state: "waiting",
            payload: "setparam 2003:secret".to_owned(),
            expires_ms: 9,
            sends: 0,
        };
        let shown = of_order(&order, ImeiStyle::Short);
        assert_eq!(
            (&shown["command"], &shown["imei"]),
            (&json!("setparam"), &json!("35630…031"))
        );
        assert!(!shown.to_string().contains("secret"), "{shown}");
    }
}
