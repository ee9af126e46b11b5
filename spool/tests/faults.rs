//! Every call of a script made to fail, in every way, once and for ever.
#![allow(clippy::unwrap_used)]

use spool::FullPolicy;
use spool::fs::sim::{End, Failure, Faults};
use spool::sim::scripted;

fn faults_at_every_call_index(end: End) {
    let mut runs = 0;
    for full in [
        FullPolicy::Refuse,
        FullPolicy::TrustRedis,
        FullPolicy::DropOldest,
    ] {
        let calls = scripted(Faults::None, end, full).unwrap();
        assert!(calls > 100, "the script does too little: {calls} calls");
        for at in 1..=calls {
            for failure in Failure::ALL {
                for sticky in [false, true] {
                    let faults = Faults::At {
                        at,
                        failure,
                        sticky,
                    };
                    if let Err(what) = scripted(faults, end, full) {
                        panic!("{faults:?}, {end:?}, {full:?}: {what}");
                    }
                    runs += 1;
                }
            }
        }
    }
    eprintln!("{end:?}: {runs} runs");
}

#[test]
fn faults_at_every_call_index_then_a_power_cut() {
    faults_at_every_call_index(End::PowerCut);
}

#[test]
fn faults_at_every_call_index_then_a_kill() {
    faults_at_every_call_index(End::Kill);
}
