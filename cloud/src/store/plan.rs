//! Which units of a batch are still to be written, and what settling them amounts to.
//!
//! Why apart from the SQL: who may settle what, and what was settled before, decides whether the
//! ledger balances; it must be testable without a server.
//!
//! Pure. Invariants: a position is settled at most once; a spool is settled only by entries of the
//! gateway it belongs to; the runs of a plan carry the tallies of all its jobs and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::AddAssign;

use contract::{GatewayId, Kind, SettledRanges, SpoolId};

use crate::batch::{DeadLetter, Place, Unit};

/// What became of AVL records: the columns of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acknowledged to trackers.
    pub received: u64,
    /// New rows in `positions`.
    pub stored: u64,
    /// New rows in `positions_quarantine`.
    pub quarantined: u64,
    /// There before.
    pub duplicate: u64,
    /// Unreadable.
    pub dead: u64,
    /// Given up by the gateway.
    pub dropped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.dropped += other.dropped;
    }
}

/// One unit to be written.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) unit: Cow<'a, Unit>,
    /// The positions that were not settled before; empty when it may not settle any.
    pub(super) settles: Vec<(u64, u64)>,
}

/// Positions settled together, as one row of `settled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) gateway: GatewayId,
    pub(super) spool: SpoolId,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) tally: Tally,
}

/// Leaves out what is settled already and puts aside what claims another gateway's spool.
/// `settled` grows by what the jobs settle, so the same envelope twice in a batch is one job.
pub(super) fn jobs<'a>(
    units: &'a [Unit],
    owners: &HashMap<SpoolId, GatewayId>,
    settled: &mut HashMap<SpoolId, SettledRanges>,
) -> Vec<Job<'a>> {
    let mut jobs = Vec::with_capacity(units.len());
    for unit in units {
        let unsettling = |unit| Job {
            unit,
            settles: Vec::new(),
        };
        let Some(place) = &unit.place else {
            jobs.push(unsettling(Cow::Borrowed(unit)));
            continue;
        };
        match owners.get(&place.spool) {
            None => jobs.push(unsettling(Cow::Borrowed(unit))),
            Some(owner) if *owner != place.gateway => {
                jobs.push(unsettling(Cow::Owned(foreign(unit, place, owner))));
            }
            Some(_) => {
                let known = settled.entry(place.spool).or_default();
                let settles = uncovered(place, known);
                if settles.is_empty() {
                    continue;
                }
                for &(first, last) in &settles {
                    known.insert(first, last);
                }
                let unit = still_given_up(unit, place, &settles);
                jobs.push(Job { unit, settles });
            }
        }
    }
    jobs
}

/// Of what a gateway gives up, some may have been stored: what is left counts by its share of
/// positions, because a gap does not say where in it its records were.
fn still_given_up<'a>(unit: &'a Unit, place: &Place, settles: &[(u64, u64)]) -> Cow<'a, Unit> {
    let all = u128::from(place.last - place.first) + 1;
    let open: u128 = settles
        .iter()
        .map(|(first, last)| u128::from(last - first) + 1)
        .sum();
    if unit.dropped == 0 || open == all {
        return Cow::Borrowed(unit);
    }
    let left = (u128::from(unit.dropped) * open).div_ceil(all);
    let left = u64::try_from(left).unwrap_or(unit.dropped);
    Cow::Owned(Unit {
        received: unit.received - unit.dropped + left,
        dropped: left,
        ..unit.clone()
    })
}

/// The parts of a place that are not in `settled`, ascending.
fn uncovered(place: &Place, settled: &SettledRanges) -> Vec<(u64, u64)> {
    let (first, last) = (place.first, place.last);
    let mut closed = Cow::Borrowed(settled);
    if !place.holes.is_empty() {
        closed.to_mut().merge(&place.holes);
    }
    let mut open = Vec::new();
    let mut from = first;
    for &(start, end) in closed.as_slice() {
        if start > last || from > last {
            break;
        }
        if end < from {
            continue;
        }
        if start > from {
            open.push((from, start - 1));
        }
        from = end.saturating_add(1);
    }
    if from <= last {
        open.push((from, last));
    }
    open
}

/// A unit that claims a spool of another gateway: kept, with its bytes, and settling nothing.
fn foreign(unit: &Unit, place: &Place, owner: &GatewayId) -> Unit {
    let reason = format!("spool {} belongs to gateway {owner}", place.spool);
    dead(unit, "foreign_spool", reason, None)
}

/// The same unit with nothing but its bytes and a reason.
pub(super) fn dead(
    unit: &Unit,
    error_class: &'static str,
    reason: String,
    sqlstate: Option<String>,
) -> Unit {
    let records = unit.received - unit.dropped;
    let bytes = match (&unit.frame, unit.dead_letters.first()) {
        (Some(frame), _) => frame.data.clone(),
        (None, Some(letter)) => letter.bytes.clone(),
        (None, None) => Vec::new(),
    };
    let kind = match (&unit.frame, unit.dead_letters.first()) {
        (Some(frame), _) => frame.kind.clone(),
        (None, Some(letter)) => letter.kind.clone(),
        (None, None) => Kind::Teltonika,
    };
    Unit {
        dead: records,
        frame: None,
        records: Vec::new(),
        messages: Vec::new(),
        dead_letters: vec![DeadLetter {
            kind,
            record_index: None,
            entry: unit
                .dead_letters
                .first()
                .and_then(|letter| letter.entry.clone()),
            device: None,
            received_at_ms: unit.frame.as_ref().map(|frame| frame.received_at_ms),
            error_class,
            reason: reason.replace('\0', "\u{fffd}"),
            offset: None,
            sqlstate,
            records,
            bytes,
        }],
        ..unit.clone()
    }
}

/// Rows of `settled`: neighbours of one spool melt into one. `tallies` stand beside `jobs`.
pub(super) fn runs(jobs: &[Job<'_>], tallies: &[Tally]) -> Vec<Run> {
    let mut parts = Vec::new();
    for (job, tally) in jobs.iter().zip(tallies) {
        let Some(place) = &job.unit.place else {
            continue;
        };
        for (index, &(first, last)) in job.settles.iter().enumerate() {
            parts.push(Run {
                gateway: place.gateway.clone(),
                spool: place.spool,
                first,
                last,
                // The count of a range in pieces cannot be divided: its first piece carries it.
                tally: if index == 0 { *tally } else { Tally::default() },
            });
        }
    }
    parts.sort_by_key(|run| (run.spool, run.first));
    let mut runs: Vec<Run> = Vec::with_capacity(parts.len());
    for part in parts {
        match runs.last_mut() {
            Some(run) if run.spool == part.spool && run.last + 1 == part.first => {
                run.last = part.last;
                run.tally += part.tally;
            }
            _ => runs.push(part),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn gateway(name: &str) -> GatewayId {
        name.parse().unwrap()
    }

    fn spool(number: u64) -> SpoolId {
        SpoolId::from_u64(number).unwrap()
    }

    fn unit(name: &str, spool_number: u64, first: u64, last: u64) -> Unit {
        Unit {
            place: Some(Place {
                gateway: gateway(name),
                spool: spool(spool_number),
                first,
                last,
                holes: SettledRanges::new(),
                only_if_known: false,
            }),
            received: 3,
            dead: 0,
            dropped: 3,
            frame: None,
            records: Vec::new(),
            messages: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    fn owners() -> HashMap<SpoolId, GatewayId> {
        HashMap::from([(spool(1), gateway("a")), (spool(2), gateway("b"))])
    }

    fn tallies(jobs: &[Job<'_>]) -> Vec<Tally> {
        let one = Tally {
            received: 1,
            stored: 1,
            ..Tally::default()
        };
        vec![one; jobs.len()]
    }

    #[test]
    fn settled_before_is_left_out_also_within_the_batch() {
        let units = [unit("a", 1, 5, 5), unit("a", 1, 6, 6), unit("a", 1, 5, 5)];
        let mut settled = HashMap::from([(spool(1), SettledRanges::parse("1-4,6-6").unwrap())]);
        let jobs = jobs(&units, &owners(), &mut settled);
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].settles, [(5, 5)]);
        assert_eq!(settled[&spool(1)].to_string(), "1-6");
    }

    /// A unit with holes, and what it settles when `before` is settled already.
    fn settled_by(holes: &str, before: &str) -> (Vec<(u64, u64)>, String) {
        let mut scattered = unit("a", 1, 5, 20);
        if let Some(place) = &mut scattered.place {
            place.holes = SettledRanges::parse(holes).unwrap();
        }
        let units = [scattered];
        let mut settled = HashMap::from([(spool(1), SettledRanges::parse(before).unwrap())]);
        let jobs = jobs(&units, &owners(), &mut settled);
        let settles = jobs.first().map(|job| job.settles.clone());
        (settles.unwrap_or_default(), settled[&spool(1)].to_string())
    }

    #[test]
    fn holes_are_left_to_whom_they_belong() {
        let (settles, after) = settled_by("7-9,15-15", "1-4");
        assert_eq!(settles, [(5, 6), (10, 14), (16, 20)]);
        assert_eq!(after, "1-6,10-14,16-20");
        let (settles, after) = settled_by("7-9,15-15", "1-6,12-17");
        assert_eq!(settles, [(10, 11), (18, 20)]);
        assert_eq!(after, "1-6,10-20");
        let (settles, after) = settled_by("7-9", "5-6,10-20");
        assert!(settles.is_empty(), "{settles:?}");
        assert_eq!(after, "5-6,10-20");
    }

    #[test]
    fn what_was_stored_of_a_gap_is_not_given_up() {
        let (received, dropped) = (4, 4);
        let unit = Unit {
            received,
            dropped,
            ..unit("a", 1, 3, 6)
        };
        for (before, wanted) in [("1-2", 4), ("3-3", 3), ("1-5", 1), ("4-5", 2)] {
            let mut settled = HashMap::from([(spool(1), SettledRanges::parse(before).unwrap())]);
            let units = [unit.clone()];
            let jobs = jobs(&units, &owners(), &mut settled);
            let left = (jobs[0].unit.received, jobs[0].unit.dropped);
            assert_eq!(left, (wanted, wanted), "{before}");
        }
    }

    #[test]
    fn another_gateways_spool_settles_nothing_and_keeps_the_bytes() {
        let mut stolen = unit("a", 2, 1, 1);
        stolen.received = 2;
        stolen.dropped = 0;
        stolen.frame = Some(crate::batch::Frame {
            kind: Kind::Teltonika,
            device: contract::Device::Text("x".into()),
            received_at_ms: 7,
            transport: 0,
            lane: 2,
            record_count: 2,
            data: vec![1, 2, 3],
        });
        let units = [stolen];
        let mut settled = HashMap::new();
        let jobs = jobs(&units, &owners(), &mut settled);
        assert!(jobs[0].settles.is_empty());
        let letter = &jobs[0].unit.dead_letters[0];
        assert_eq!(
            (letter.error_class, letter.bytes.as_slice()),
            ("foreign_spool", &[1, 2, 3][..])
        );
        assert_eq!(letter.records, 2);
        assert!(runs(&jobs, &tallies(&jobs)).is_empty());
        assert!(settled.is_empty());
    }

    #[test]
    fn an_unknown_spool_is_written_and_not_settled() {
        let units = [unit("a", 9, 1, 3)];
        let jobs = jobs(&units, &owners(), &mut HashMap::new());
        assert_eq!(jobs.len(), 1);
        assert!(jobs[0].settles.is_empty());
    }

    #[test]
    fn neighbours_melt_and_other_spools_do_not() {
        let units = [
            unit("a", 1, 2, 2),
            unit("b", 2, 4, 4),
            unit("a", 1, 1, 1),
            unit("a", 1, 3, 9),
            unit("a", 1, 11, 11),
        ];
        let jobs = jobs(&units, &owners(), &mut HashMap::new());
        let runs = runs(&jobs, &tallies(&jobs));
        let shape: Vec<_> = runs
            .iter()
            .map(|run| (run.spool, run.first, run.last, run.tally.stored))
            .collect();
        assert_eq!(
            shape,
            [
                (spool(1), 1, 9, 3),
                (spool(1), 11, 11, 1),
                (spool(2), 4, 4, 1)
            ]
        );
    }

    proptest! {
        /// Whatever overlaps: every position is settled once, and every tally is counted once.
        #[test]
        fn positions_are_settled_once_and_tallies_are_kept(
            before in proptest::collection::vec((1u64..60, 0u64..8), 0..8),
            ranges in proptest::collection::vec((1u64..60, 0u64..8), 1..20),
        ) {
            let mut model = std::collections::BTreeSet::new();
            let mut known = SettledRanges::new();
            for (first, length) in before {
                known.insert(first, first + length);
                model.extend(first..=first + length);
            }
            let untouched = model.clone();
            let units: Vec<Unit> = ranges.iter().map(|(first, length)| unit("a", 1, *first, first + length)).collect();
            let mut settled = HashMap::from([(spool(1), known)]);
            let jobs = jobs(&units, &owners(), &mut settled);
            let runs = runs(&jobs, &tallies(&jobs));
            for run in &runs {
                for seq in run.first..=run.last {
                    prop_assert!(model.insert(seq), "{} settled twice", seq);
                }
            }
            let all: std::collections::BTreeSet<u64> = ranges.iter().flat_map(|(first, length)| *first..=first + length).collect();
            prop_assert_eq!(&model, &untouched.union(&all).copied().collect());
            prop_assert_eq!(runs.iter().map(|run| run.tally.received).sum::<u64>(), jobs.len() as u64);
        }
    }
}
