//! The spool broken on purpose, one way at a time: a proof that never fails proves nothing.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use spool::mutant::{self, Mutant};
use spool::sim::{Trouble, run};

/// A mutant that lives this long would live in the crash tests too.
const SEEDS_MAX: u64 = 10_000;

const KINDS: [Trouble; 5] = [
    Trouble::Crashes,
    Trouble::Syncs { per_mille: 300 },
    Trouble::Syncs { per_mille: 100 },
    Trouble::Anything {
        sync_per_mille: 20,
        other_per_mille: 10,
    },
    Trouble::SmallDisk,
];

/// Where to begin: those that need several failures in a row show themselves once in thousands of
/// seeds, and a test run has no time for that.
fn first_seed(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::ReuseSegmentIds => 7_770,
        Mutant::TrustCopyOfFailedSync => 28_590,
        Mutant::CompactAnything => 3_080,
        Mutant::FreeSourceOnce => 59_190,
        _ => 0,
    }
}

/// Seeds needed, and the broken promise.
fn hunt(mutant: Mutant) -> Option<(u64, String)> {
    mutant::set(Some(mutant));
    let first = first_seed(mutant);
    let found = (first..first + SEEDS_MAX).find_map(|seed| {
        let violation = run(seed, KINDS[(seed % 5) as usize]).err()?;
        Some((seed + 1 - first, violation.to_string()))
    });
    mutant::set(None);
    found
}

#[test]
fn every_mutant_is_caught() {
    let waiting = Mutex::new(Mutant::ALL.to_vec());
    let survivors = Mutex::new(Vec::new());
    // A switch belongs to its thread.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(mutant) = waiting.lock().unwrap().pop() else {
                        break;
                    };
                    match hunt(mutant) {
                        Some((seeds, what)) => eprintln!("{mutant:?}: {seeds} seeds; {what}"),
                        None => survivors.lock().unwrap().push(mutant),
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(
        survivors.is_empty(),
        "not caught in {SEEDS_MAX} seeds: {survivors:?}"
    );
}
