//! Pure: no I/O, no clock.
//!
//! The way of a record in five boxes: does each of them move?
//!
//! Invariant: what nobody can tell is unknown, and never idle.

use std::collections::VecDeque;
use std::time::Duration;

use contract::Beat;
use serde_json::{Value, json};

/// Rates are over the last so long.
const OVER: Duration = Duration::from_secs(10);

/// What waits longer without anything moving is stalled.
const STALLED_S: u64 = 30;

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// AVL records that came.
    pub(super) received: u64,
    /// Stream items read.
    pub(super) read: u64,
    /// Rows decoded.
    pub(super) decoded: u64,
    /// Rows committed.
    pub(super) committed: u64,
}

/// How fast each of them grows, each second; `None`: counted for too short a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) received: Option<f64>,
    pub(super) read: Option<f64>,
    pub(super) decoded: Option<f64>,
    pub(super) committed: Option<f64>,
}

/// Counts of the last seconds, the oldest first, each with the time since the process began.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<(Duration, Counts)>);

impl Samples {
    /// One more; what is older than [`OVER`] goes, but for the last such.
    pub(super) fn add(&mut self, at: Duration, counts: Counts) {
        self.0.push_back((at, counts));
        while self.0.get(1).is_some_and(|(next, _)| *next + OVER <= at) {
            self.0.pop_front();
        }
    }

    /// From the oldest to the newest.
    pub(super) fn rates(&self) -> Rates {
        let (Some((began, first)), Some((ended, last))) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let seconds = ended.saturating_sub(*began).as_secs_f64();
        let rate = |first: u64, last: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            (seconds >= 0.5).then(|| last.saturating_sub(first) as f64 / seconds)
        };
        Rates {
            received: rate(first.received, last.received),
            read: rate(first.read, last.read),
            decoded: rate(first.decoded, last.decoded),
            committed: rate(first.committed, last.committed),
        }
    }
}

/// A gateway as it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateway {
    pub(super) id: String,
    /// Its sign of life, or its newest rows, milliseconds since 1970.
    pub(super) last_seen_ms: Option<u64>,
    /// Does it give signs of life? `None`: nobody can tell.
    pub(super) is_alive: Option<bool>,
    /// What that sign says.
    pub(super) beat: Beat,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) rates: Rates,
    /// Is there a Redis, and does it answer?
    pub(super) is_redis_there: Option<bool>,
    /// Stream items unread or unacknowledged.
    pub(super) entries: Option<u64>,
    /// Age of the oldest of them.
    pub(super) oldest_s: Option<u64>,
    /// Stream items that wait to be decoded.
    pub(super) waiting: u64,
    /// Rows decoded and not committed.
    pub(super) in_hand: u64,
    pub(super) is_database_there: bool,
    pub(super) is_refused: bool,
    /// `postgresql`, or `timescaledb` and its version.
    pub(super) engine: String,
    /// What keeps this process from its work.
    pub(super) trouble: Option<&'static str>,
    /// Devices heard in the last five minutes, and all of them.
    pub(super) devices: Option<(i64, i64)>,
    pub(super) gateways: Vec<Gateway>,
}

fn is_moving(rate: Option<f64>) -> bool {
    rate.is_some_and(|rate| rate > 0.0)
}

fn moving_or(rate: Option<f64>, otherwise: &'static str) -> &'static str {
    if is_moving(rate) { "moving" } else { otherwise }
}

fn stage(
    name: &str,
    state: &str,
    rate: Option<f64>,
    backlog: Option<u64>,
    oldest_s: Option<u64>,
    detail: String,
) -> Value {
    json!({
        "name": name,
        "state": state,
        "rate_per_s": rate,
        "backlog": backlog,
        "oldest_s": oldest_s,
        "detail": detail,
    })
}

/// The five boxes.
pub(super) fn stages(seen: &Seen) -> Vec<Value> {
    let received = seen.rates.received;
    vec![
        tracker(seen, received),
        gateway(seen, received),
        streams(seen),
        cloud(seen),
        database(seen),
    ]
}

fn tracker(seen: &Seen, rate: Option<f64>) -> Value {
    let (state, detail) = match seen.devices {
        Some((heard, all)) => (
            moving_or(rate, "idle"),
            format!("{heard} of {all} devices heard in the last 5 minutes"),
        ),
        None => (
            moving_or(rate, "unknown"),
            "the database does not tell".to_owned(),
        ),
    };
    stage("tracker", state, rate, None, None, detail)
}

fn gateway(seen: &Seen, rate: Option<f64>) -> Value {
    let known: Vec<bool> = seen.gateways.iter().filter_map(|it| it.is_alive).collect();
    let alive = known.iter().filter(|it| **it).count();
    let (state, detail) = match known.len() {
        0 => (
            moving_or(rate, "unknown"),
            "no gateway is known, or Redis cannot tell of its sign of life".to_owned(),
        ),
        all if alive == 0 => (
            "stalled",
            format!("none of {all} gateways gives a sign of life"),
        ),
        all => (
            moving_or(rate, "idle"),
            format!("{alive} of {all} gateways give a sign of life"),
        ),
    };
    stage("gateway", state, rate, None, None, detail)
}

fn streams(seen: &Seen) -> Value {
    let rate = seen.rates.read;
    let (state, detail) = match (seen.is_redis_there, seen.entries) {
        (None, _) => (
            "unknown",
            "there is none: gateways deliver at a socket".to_owned(),
        ),
        (Some(false), _) => ("stalled", "Redis does not answer".to_owned()),
        (Some(true), None) => (
            moving_or(rate, "unknown"),
            "Redis does not tell what waits".to_owned(),
        ),
        (Some(true), Some(entries)) => {
            let is_old = seen.oldest_s.is_some_and(|oldest| oldest > STALLED_S);
            let state = match entries > 0 && is_old && !is_moving(rate) {
                true => "stalled",
                false => moving_or(rate, "idle"),
            };
            (state, format!("{entries} entries wait in the streams"))
        }
    };
    stage("redis", state, rate, seen.entries, seen.oldest_s, detail)
}

fn cloud(seen: &Seen) -> Value {
    let rate = seen.rates.decoded;
    let (state, detail) = match seen.trouble {
        Some(trouble) => ("stalled", trouble.to_owned()),
        None => (
            moving_or(rate, "idle"),
            "this process; others are not told here".to_owned(),
        ),
    };
    stage("cloud", state, rate, Some(seen.waiting), None, detail)
}

fn database(seen: &Seen) -> Value {
    let rate = seen.rates.committed;
    let (state, detail) = match (seen.is_database_there, seen.is_refused) {
        (false, _) => ("stalled", "the database does not answer".to_owned()),
        (true, true) => (
            "stalled",
            "the database refuses the batch in hand".to_owned(),
        ),
        (true, false) => (moving_or(rate, "idle"), seen.engine.clone()),
    };
    stage("database", state, rate, Some(seen.in_hand), None, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn states(seen: &Seen) -> Vec<String> {
        let stages = stages(seen);
        let states = stages.iter().map(|it| it["state"].as_str().unwrap());
        states.map(str::to_owned).collect()
    }

    fn healthy() -> Seen {
        let gateway = Gateway {
            id: "depot".to_owned(),
            last_seen_ms: Some(1),
            is_alive: Some(true),
            beat: Beat::default(),
        };
        Seen {
            is_redis_there: Some(true),
            entries: Some(0),
            is_database_there: true,
            devices: Some((1, 2)),
            gateways: vec![gateway],
            ..Seen::default()
        }
    }

    #[test]
    fn what_is_still_is_idle_and_what_cannot_be_told_is_unknown() {
        assert_eq!(states(&healthy()), ["idle"; 5]);
        let mut seen = healthy();
        seen.rates = Rates {
            received: Some(3.0),
            read: Some(1.0),
            decoded: Some(3.0),
            committed: Some(3.0),
        };
        assert_eq!(states(&seen), ["moving"; 5]);
        let blind = Seen {
            is_database_there: true,
            ..Seen::default()
        };
        assert_eq!(states(&blind)[..3], ["unknown"; 3]);
    }

    #[test]
    fn what_waits_and_does_not_move_is_stalled() {
        let mut seen = healthy();
        (seen.entries, seen.oldest_s) = (Some(5), Some(31));
        assert_eq!(states(&seen)[2], "stalled");
        seen.oldest_s = Some(30);
        assert_eq!(states(&seen)[2], "idle");
        let mut seen = healthy();
        seen.is_redis_there = Some(false);
        seen.gateways[0].is_alive = Some(false);
        (seen.trouble, seen.is_database_there) = (Some("no connection"), false);
        assert_eq!(states(&seen)[1..], ["stalled"; 4]);
        let mut seen = healthy();
        seen.is_refused = true;
        assert_eq!(states(&seen)[4], "stalled");
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut samples = Samples::default();
        assert_eq!(samples.rates(), Rates::default());
        for second in 0..60 {
            let received = if second < 30 {
                second * 100
            } else {
                3_000 + second
            };
            let counts = Counts {
                received,
                ..Counts::default()
            };
            samples.add(Duration::from_secs(second), counts);
        }
        let rates = samples.rates();
        assert_eq!((rates.received, rates.read), (Some(1.0), Some(0.0)));
        assert!(samples.0.len() <= 12);
    }
}
