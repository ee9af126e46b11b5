//! A hundred thousand crashes on a simulated disk, and what an oracle says about each.
//!
//! A failure prints the command that repeats it.
#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use spool::sim::{Outcome, Trouble, run, run_plain};

/// Repeats one seed instead of all.
const SEED: &str = "MILEPOST_SPOOL_SEED";

/// Runs seeds from `from` on until so many crashes happened.
fn crash(test: &str, trouble: Trouble, from: u64, crashes: u64) {
    let mut sum = Outcome::default();
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let mut seed = one.unwrap_or(from);
    while sum.crashes < crashes {
        match run(seed, trouble) {
            Ok(outcome) => sum += outcome,
            Err(violation) => panic!(
                "{violation}\nrepeat it: {SEED}={seed} cargo test -p spool --test crashes {test}"
            ),
        }
        if one.is_some() {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    eprintln!("{test}: {sum:?}");
    assert!(
        sum.openings > 0 && sum.acked > 0 && (one.is_some() || sum.compacted > 0),
        "nothing was proven: {sum:?}"
    );
}

fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}

#[test]
fn crashes_from_fixed_seeds() {
    crash("crashes_from_fixed_seeds", Trouble::Crashes, 0, 40_000);
}

#[test]
fn crashes_from_fresh_seeds() {
    crash(
        "crashes_from_fresh_seeds",
        Trouble::Crashes,
        fresh(),
        30_000,
    );
}

/// The prototype of this log lost acknowledged data here and nobody found out why; see
/// [`seeds_that_lost_records_once`] for what such a loss is made of.
#[test]
fn crashes_with_one_sync_in_ten_failing() {
    let trouble = Trouble::Syncs { per_mille: 100 };
    crash(
        "crashes_with_one_sync_in_ten_failing",
        trouble,
        fresh(),
        20_000,
    );
}

#[test]
fn crashes_with_any_call_failing() {
    let trouble = Trouble::Anything {
        sync_per_mille: 20,
        other_per_mille: 10,
    };
    crash("crashes_with_any_call_failing", trouble, fresh(), 10_000);
}

/// Hardly anything is settled, what waits is compacted, and no call can be relied on.
#[test]
fn crashes_of_a_box_without_a_link() {
    let trouble = Trouble::Offline {
        sync_per_mille: 20,
        other_per_mille: 50,
    };
    crash("crashes_of_a_box_without_a_link", trouble, fresh(), 10_000);
}

#[test]
fn crashes_on_a_disk_smaller_than_the_cap() {
    let trouble = Trouble::SmallDisk;
    crash(
        "crashes_on_a_disk_smaller_than_the_cap",
        trouble,
        fresh(),
        5_000,
    );
}

/// Seeds that found a loss while the log was built, with what they found.
///
/// Those with failing syncs are one class: *what can be read need not be on the disk, and what
/// cannot be seen need not be gone*. A sync fails; the pages stay readable, are clean, and vanish
/// whenever the kernel likes. A process that dies then hands its successor a picture that no later
/// sync makes true.
/// - A copy of a last commit, its sync failed, was taken by the next opening for the commit
///   itself, and the durable original for free. The page was dropped: an acknowledged record was
///   gone (mutant `TrustCopyOfFailedSync`).
/// - A file whose removal was never synced came back after its segment id had been given again;
///   one of the two was taken for a copy of the other, and ignored (mutant `ReuseSegmentIds`).
/// - A file of a spool that the cursor had forgotten came back, and what stood before it was
///   called lost; once more so when another file could not be read at that opening.
/// - The last segment of a log could not be read, so the last commit of the one before it was
///   repeated, and counted as the newest from then on: what the unreadable segment held was taken
///   for a group that was tried and never kept.
/// - A copy whose sync had failed hid the durable original when no segment was free to make
///   another copy in.
#[test]
fn seeds_that_lost_records_once() {
    let tenth = Trouble::Syncs { per_mille: 100 };
    let third = Trouble::Syncs { per_mille: 300 };
    let anything = Trouble::Anything {
        sync_per_mille: 20,
        other_per_mille: 10,
    };
    for (seed, trouble) in [
        (15_577, tenth),
        (1_795_275_266_517_955_477, tenth),
        (3_641, third),
        (1_795_274_919_575_131_779, tenth),
        (1_795_275_742_046_423_030, anything),
        (1_795_274_638_359_367_321, tenth),
        // Two last commits and no free segment to repeat the second one in.
        (56, Trouble::Crashes),
        (469, Trouble::Crashes),
        // A header torn before it was ever whole.
        (1096, Trouble::Crashes),
    ] {
        run_plain(seed, trouble).unwrap();
    }
    let offline = |sync_per_mille, other_per_mille| Trouble::Offline {
        sync_per_mille,
        other_per_mille,
    };
    for (seed, trouble) in [
        (1_795_280_434_031_929, anything),
        (1_795_277_402_265_749_309, tenth),
        (21_367, tenth),
        (7_450, offline(20, 50)),
        (11_477, offline(20, 50)),
        (19_980, offline(20, 50)),
        (14_470, offline(100, 100)),
        (14_781, offline(100, 100)),
        (19_843, offline(100, 100)),
        (176, offline(100, 50)),
        (37_614, offline(100, 50)),
        // The owner's file, torn while a removed segment came back.
        (12_915, offline(300, 100)),
        (103_250, offline(100, 100)),
        // A segment half overwritten that the cursor knew to be settled.
        (20_897, Trouble::Crashes),
        // The copy that could not be written counted as newer than the second one, which was.
        (1_795_364_739_122_104_435, anything),
        // A last commit was gone before it could be repeated, and what was gone back to was a try that
        // failed before the commits in front of it.
        (1_795_364_744_311_627_531, tenth),
    ] {
        run(seed, trouble).unwrap();
    }
}
