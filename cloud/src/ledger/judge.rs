//! Does it balance?
//!
//! Pure: no I/O, no clock.

use chrono::{DateTime, Utc};
use contract::ledger as names;
use serde_json::{Map, Value, json};

use crate::store::accounts::{Missing, Rows, Sums};

/// Records that are on their way: in a stream, and not yet settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// How many; `None`: Redis cannot tell.
    pub records: Option<u64>,
    /// Projected from the first few entries.
    pub estimated: bool,
}

/// The ledger of a time, of all gateways or of one.
#[derive(Clone, Debug, Default)]
pub struct Balance {
    /// Sums by gateway.
    pub sums: Vec<Sums>,
    /// On their way.
    pub in_flight: InFlight,
    /// Dead letters that are gone.
    pub letters_gone: Vec<Missing>,
    /// Positions that nobody will send again and nobody settled.
    pub positions_gone: Vec<Missing>,
}

impl Balance {
    /// Over all gateways.
    #[must_use]
    pub fn total(&self) -> Sums {
        let sum = |of: fn(&Sums) -> i64| self.sums.iter().map(of).sum();
        Sums {
            gateway: String::new(),
            received: sum(|s| s.received),
            stored: sum(|s| s.stored),
            quarantined: sum(|s| s.quarantined),
            duplicate: sum(|s| s.duplicate),
            dead: sum(|s| s.dead),
            dropped: sum(|s| s.dropped),
        }
    }

    /// What cannot be accounted for, each in a sentence. None: it balances.
    #[must_use]
    pub fn unaccounted(&self) -> Vec<String> {
        let mut told = Vec::new();
        for sums in &self.sums {
            let gap = gap(sums);
            if gap != 0 {
                told.push(format!("gateway {}: {gap} of the records received stand in no column; somebody changed settled by hand", sums.gateway));
            }
        }
        for gone in &self.letters_gone {
            let (gateway, spool, missing) = (&gone.gateway, gone.spool_id, gone.missing);
            told.push(format!("gateway {gateway}, spool {spool:016x}: {missing} dead records have no dead letter any more; somebody deleted them other than with cloud dlq"));
        }
        for gone in &self.positions_gone {
            let (gateway, spool, missing) = (&gone.gateway, gone.spool_id, gone.missing);
            told.push(format!("gateway {gateway}, spool {spool:016x}: {missing} positions were never settled and will not be sent again; was the database restored from a copy?"));
        }
        told
    }
}

/// Records received that stand in no column.
fn gap(s: &Sums) -> i64 {
    s.received - s.stored - s.quarantined - s.duplicate - s.dead - s.dropped
}

/// The columns under their names, for machines.
#[must_use]
pub fn columns(s: &Sums) -> Map<String, Value> {
    [
        (names::RECEIVED, s.received),
        (names::STORED, s.stored),
        (names::QUARANTINED, s.quarantined),
        (names::DUPLICATE, s.duplicate),
        (names::DEAD, s.dead),
        (names::DROPPED, s.dropped),
    ]
    .into_iter()
    .map(|(name, count)| (name.to_owned(), json!(count)))
    .collect()
}

/// The equation for people. Received counts what is on its way, too: it was acknowledged.
#[must_use]
pub fn equation(s: &Sums, in_flight: InFlight) -> String {
    let on_the_way = i64::try_from(in_flight.records.unwrap_or(0)).unwrap_or(i64::MAX);
    let about = if in_flight.estimated { "~" } else { "" };
    let mut text = format!(
        "received {about}{} = stored {}",
        grouped(s.received.saturating_add(on_the_way)),
        grouped(s.stored)
    );
    for (name, count) in [
        ("quarantined", s.quarantined),
        ("duplicate", s.duplicate),
        ("dead letters", s.dead),
        ("dropped", s.dropped),
    ] {
        text.push_str(&format!(" + {name} {}", grouped(count)));
    }
    match in_flight.records {
        Some(count) => {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            text.push_str(&format!(" + in flight {about}{}", grouped(count)));
        }
        None => text.push_str(" + in flight ?"),
    }
    text
}

/// `1 234 567`
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// What became of one record of a raw frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A row that this frame brought.
    Stored,
    /// The same in quarantine.
    Quarantined,
    /// A row that another frame brought.
    Duplicate,
    /// In the dead letters.
    Dead,
    /// Older than what is kept.
    Expired,
    /// Nowhere.
    Missing,
}

/// Judges one record by what the tables have. `kept_from`: older positions are deleted.
#[must_use]
pub fn fate(
    key: (i64, i32),
    received_at: DateTime<Utc>,
    is_dead: bool,
    is_repeated: bool,
    rows: &Rows,
    kept_from: Option<DateTime<Utc>>,
) -> Fate {
    if is_dead {
        return Fate::Dead;
    }
    let found = match (rows.positions.get(&key), rows.quarantine.get(&key)) {
        (Some(at), _) => Some((Fate::Stored, *at)),
        (None, Some(at)) => Some((Fate::Quarantined, *at)),
        (None, None) => None,
    };
    match found {
        Some((fate, at)) if at == received_at && !is_repeated => fate,
        Some(_) => Fate::Duplicate,
        None if kept_from.is_some_and(|from| key.0 < from.timestamp_millis()) => Fate::Expired,
        None => Fate::Missing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sums() -> Sums {
        Sums {
            gateway: "depot-1".into(),
            received: 1_234_567,
            stored: 1_234_500,
            quarantined: 7,
            duplicate: 50,
            dead: 6,
            dropped: 4,
        }
    }

    #[test]
    fn the_equation_reads_as_one() {
        let some = InFlight {
            records: Some(11),
            estimated: true,
        };
        assert_eq!(
            equation(&sums(), some),
            "received ~1 234 578 = stored 1 234 500 + quarantined 7 + duplicate 50 + dead letters 6 + dropped 4 + in flight ~11"
        );
        assert!(equation(&sums(), InFlight::default()).ends_with("in flight ?"));
        assert_eq!(
            (grouped(-1_000), grouped(999)),
            ("-1 000".to_owned(), "999".to_owned())
        );
    }

    #[test]
    fn every_side_that_does_not_agree_is_named() {
        let good = Balance {
            sums: vec![sums()],
            ..Balance::default()
        };
        assert!(good.unaccounted().is_empty());
        let missing = Missing {
            gateway: "yard".into(),
            spool_id: 5,
            missing: 3,
        };
        let mut bad = good.clone();
        bad.sums[0].stored -= 2;
        assert!(
            bad.unaccounted()[0].contains("2 of the records"),
            "{:?}",
            bad.unaccounted()
        );
        let bad = Balance {
            letters_gone: vec![missing.clone()],
            positions_gone: vec![missing],
            ..good
        };
        let told = bad.unaccounted();
        assert!(
            told[0].contains("3 dead records") && told[1].contains("3 positions"),
            "{told:?}"
        );
    }

    #[test]
    fn a_record_is_where_its_row_says() {
        let at = |s| DateTime::<Utc>::from_timestamp(s, 0).unwrap();
        let rows = Rows {
            positions: [((1_000, 1), at(50))].into(),
            quarantine: [((2_000, 2), at(50))].into(),
        };
        let of = |key, dead, repeated| fate(key, at(50), dead, repeated, &rows, None);
        assert_eq!(of((1_000, 1), false, false), Fate::Stored);
        assert_eq!(of((2_000, 2), false, false), Fate::Quarantined);
        assert_eq!(of((1_000, 1), false, true), Fate::Duplicate);
        assert_eq!(
            fate((1_000, 1), at(60), false, false, &rows, None),
            Fate::Duplicate
        );
        assert_eq!(of((1_000, 2), false, false), Fate::Missing);
        assert_eq!(of((1_000, 2), true, false), Fate::Dead);
        let kept = Some(at(2));
        assert_eq!(
            fate((1_000, 2), at(50), false, false, &rows, kept),
            Fate::Expired
        );
        assert_eq!(
            fate((3_000, 2), at(50), false, false, &rows, kept),
            Fate::Missing
        );
    }
}
