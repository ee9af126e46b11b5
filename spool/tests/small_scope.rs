//! Every workload of up to four operations, cut everywhere, with everything that may survive.
#![allow(clippy::unwrap_used)]

use spool::sim::{Scope, every_workload};

fn exhaust(full: bool, ops_max: usize, part: (usize, usize)) {
    let scope = Scope {
        ops_max,
        unsynced_max: 8,
        samples: 8,
        full,
        part,
    };
    let outcome = every_workload(scope).unwrap_or_else(|what| panic!("{what}"));
    eprintln!("full={full} part {part:?}: {outcome:?}");
    assert!(outcome.crashes > 10_000, "too few: {outcome:?}");
}

#[test]
fn every_workload_of_up_to_four_operations() {
    exhaust(false, 4, (0, 2));
}

#[test]
fn every_workload_of_up_to_four_operations_other_half() {
    exhaust(false, 4, (1, 2));
}

/// With four it takes a minute; the long run does that.
#[test]
fn every_workload_of_up_to_three_operations_on_a_full_spool() {
    exhaust(true, 3, (0, 1));
}
