//! The spool broken on purpose, one way at a time: a proof that never fails proves nothing.
#![allow(clippy::unwrap_used)]

mod kit;

use std::panic::catch_unwind;
use std::sync::Mutex;

use kit::aftermath::{self, Scene};
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

const TENTH: [Trouble; 1] = [Trouble::Syncs { per_mille: 100 }];

/// Where to look, for those that need several failures in a row: by chance they show themselves once
/// in many thousand seeds, and a test run has no time for that.
enum Trail {
    Seeds(u64, &'static [Trouble]),
    Scene(Scene),
}

fn trail(mutant: Mutant) -> Trail {
    match mutant {
        Mutant::ReuseSegmentIds => {
            Trail::Scene(aftermath::a_last_segment_that_could_not_be_seen_once)
        }
        Mutant::TrustCopyOfFailedSync => Trail::Scene(aftermath::a_copy_that_was_never_on_the_disk),
        Mutant::CompactAnything => Trail::Seeds(50_000, &TENTH),
        Mutant::FreeSourceOnce => {
            Trail::Scene(aftermath::a_compacted_source_says_twice_that_it_is_free)
        }
        Mutant::TrustUnreadableTail => Trail::Scene(aftermath::a_copy_that_could_not_be_read_once),
        Mutant::RepeatAsNewest => {
            Trail::Scene(aftermath::a_last_segment_that_could_not_be_read_once)
        }
        Mutant::ForgetForgotten => Trail::Scene(aftermath::a_forgotten_segment_that_came_back),
        _ => Trail::Seeds(0, &KINDS),
    }
}

/// How it was caught: the seeds needed, if any, and the broken promise.
fn hunt(mutant: Mutant) -> Option<String> {
    mutant::set(Some(mutant));
    let caught = match trail(mutant) {
        Trail::Seeds(first, kinds) => (first..first + SEEDS_MAX).find_map(|seed| {
            let violation = run(seed, kinds[(seed % kinds.len() as u64) as usize]).err()?;
            Some(format!("{} seeds; {violation}", seed + 1 - first))
        }),
        Trail::Scene(scene) => match catch_unwind(scene) {
            Ok(outcome) => outcome.err(),
            Err(_) => Some("panicked".to_owned()),
        },
    };
    mutant::set(None);
    caught
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
                        Some(how) => eprintln!("{mutant:?}: {how}"),
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
