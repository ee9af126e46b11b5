//! What the command-intent log keeps, and what no crash may do to it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use contract::Device;

use super::region::SNAPSHOT_AT;
use super::*;
use crate::fs::RealFs;

fn intent(number: u64) -> Intent {
    let device = match number % 3 {
        0 => Device::Text(format!("boat {number}")),
        _ => Device::Imei("356307042441013".parse().unwrap()),
    };
    Intent {
        cid: format!("cid-{number}"),
        device,
        at_ms: 1_700_000_000_000 + number,
        payload: vec![
            u8::try_from(number % 251).unwrap();
            usize::try_from(number * 37 % 900).unwrap()
        ],
    }
}

#[test]
fn what_was_begun_and_not_finished_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut log, none) = IntentLog::open(&fs).unwrap();
    assert!(none.is_empty());
    for number in 0..40 {
        assert_eq!(
            log.begin(&intent(number)).unwrap().cid(),
            intent(number).cid
        );
    }
    for number in (0..40).filter(|n| n % 4 != 0) {
        log.finish(&intent(number).cid).unwrap();
    }
    log.finish("never begun").unwrap();
    let left: BTreeMap<_, _> = (0..40)
        .filter(|n| n % 4 == 0)
        .map(|n| (intent(n).cid, intent(n)))
        .collect();
    for _ in 0..5 {
        let (_, found) = IntentLog::open(&fs).unwrap();
        let found: BTreeMap<_, _> = found.into_iter().map(|i| (i.cid.clone(), i)).collect();
        assert_eq!(found, left);
    }
}

#[test]
fn the_log_goes_round_and_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut log, _) = IntentLog::open(&fs).unwrap();
    let first = log.current.1;
    let _ = log.begin(&intent(1)).unwrap();
    for number in 2..2500 {
        let _ = log.begin(&intent(number)).unwrap();
        log.finish(&intent(number).cid).unwrap();
    }
    assert!(log.current.1 > first + 3, "every region was used");
    let (_, found) = IntentLog::open(&fs).unwrap();
    assert_eq!(found, [intent(1)]);
    let bytes = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert_eq!(bytes, (REGIONS * REGION_BYTES) as u64);
}

#[test]
fn too_large_and_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut log, _) = IntentLog::open(&fs).unwrap();
    let largest = Intent {
        cid: "c".repeat(CID_BYTES_MAX),
        device: Device::Text("d".repeat(255)),
        at_ms: u64::MAX,
        payload: vec![7; PAYLOAD_BYTES_MAX],
    };
    let bent: [fn(&mut Intent); 4] = [
        |i| i.cid.push('c'),
        |i| i.cid.clear(),
        |i| i.payload.push(7),
        |i| i.device = Device::Text("d".repeat(256)),
    ];
    for bend in bent {
        let mut intent = largest.clone();
        bend(&mut intent);
        assert!(matches!(
            log.begin(&intent),
            Err(SpoolError::TooLarge { .. })
        ));
    }
    let mut begun = vec![largest.clone()];
    let _ = log.begin(&largest).unwrap();
    let refused = loop {
        let intent = Intent {
            cid: format!("{}", begun.len()),
            ..largest.clone()
        };
        match log.begin(&intent) {
            Ok(_) => begun.push(intent),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full { .. }));
    assert!(begun.len() * 4500 > LIVE_BYTES_MAX / 2);
    // One with a known id takes the other's place, also when it is full.
    begun[0].payload = b"again".to_vec();
    let _ = log.begin(&begun[0]).unwrap();
    let (_, mut found) = IntentLog::open(&fs).unwrap();
    begun.sort_by(|a, b| a.cid.cmp(&b.cid));
    found.sort_by(|a, b| a.cid.cmp(&b.cid));
    assert_eq!(found, begun);
}

#[test]
fn every_flipped_bit_costs_one_intent_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut log, _) = IntentLog::open(&fs).unwrap();
    let _ = log.begin(&intent(1)).unwrap();
    drop(log);
    // One in the snapshot of the region, two behind it.
    let (mut log, _) = IntentLog::open(&fs).unwrap();
    let _ = log.begin(&intent(2)).unwrap();
    let _ = log.begin(&intent(3)).unwrap();
    let region = log.current.0 * REGION_BYTES;
    let used = log.next_at;
    let whole = std::fs::read(&path).unwrap();
    for bit in 0..used * 8 {
        // Every bit of what is used, every 61st of the rest.
        let in_use = bit / 8 % SECTOR_BYTES_OF_TEST < 200;
        if !in_use && bit % 61 != 0 {
            continue;
        }
        let mut bytes = whole[region..region + used].to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut live = BTreeMap::new();
        if let Some(found) = region::decode(&bytes) {
            region::replay(&bytes, found.header.generation, &mut live);
            assert!(live.len() >= 2, "bit {bit} costs more than one");
            assert!(live.values().all(|i| (1..=3).any(|n| *i == intent(n))));
        } else {
            assert!(bit / 8 < SECTOR_BYTES_OF_TEST, "bit {bit} hides the region");
        }
    }
    // A damaged snapshot is healed by the region before it.
    let mut bytes = whole.clone();
    bytes[region + SNAPSHOT_AT + 40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (_, found) = IntentLog::open(&fs).unwrap();
    assert_eq!(found, [intent(1), intent(2), intent(3)]);
}

const SECTOR_BYTES_OF_TEST: usize = 512;

#[test]
fn foreign_and_damaged_files_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let fs = RealFs::locked(dir.path()).unwrap();
    for bytes in [
        vec![],
        vec![0; 100],
        vec![0; REGIONS * REGION_BYTES],
        vec![0xff; 70_000],
    ] {
        std::fs::write(&path, bytes).unwrap();
        let (mut log, found) = IntentLog::open(&fs).unwrap();
        assert!(found.is_empty());
        let _ = log.begin(&intent(5)).unwrap();
        drop(log);
        assert_eq!(IntentLog::open(&fs).unwrap().1, [intent(5)]);
    }
}

#[cfg(feature = "sim")]
mod crashes {
    use super::*;
    use crate::fs::sim::{Chance, End, Faults, SimFile, SimFs};

    /// What a log owes: must be there, must not be there, or nobody can say.
    #[derive(Default)]
    struct Owed {
        live: BTreeMap<String, Intent>,
        /// A begin or a finish that was not confirmed: there or not, with either content.
        unsure: BTreeMap<String, Vec<Intent>>,
        gone: BTreeSet<String>,
    }

    impl Owed {
        fn check(&self, found: &[Intent]) -> Result<(), String> {
            for intent in found {
                let fits = match self.unsure.get(&intent.cid) {
                    Some(forms) => forms.contains(intent),
                    None => self.live.get(&intent.cid) == Some(intent),
                };
                if !fits {
                    let gone = self.gone.contains(&intent.cid);
                    return Err(format!("{} is there, finished: {gone}", intent.cid));
                }
            }
            let there = |cid: &String| found.iter().any(|intent| intent.cid == *cid);
            match self.live.keys().find(|cid| !there(cid)) {
                Some(cid) => Err(format!("{cid} was begun and is lost")),
                None => Ok(()),
            }
        }

        /// An opening that succeeded has made what it found durable.
        fn settle(&mut self, found: Vec<Intent>) {
            for cid in std::mem::take(&mut self.unsure).into_keys() {
                self.gone.insert(cid);
            }
            self.live = found.into_iter().map(|i| (i.cid.clone(), i)).collect();
            self.gone.retain(|cid| !self.live.contains_key(cid));
        }
    }

    fn work(log: &mut IntentLog<SimFile>, owed: &mut Owed, chance: &mut Chance, number: &mut u64) {
        for _ in 0..chance.below(40) * chance.below(2) {
            if chance.below(100) < 55 || owed.live.is_empty() {
                *number += 1;
                let mut intent = intent(*number);
                // Large ones, so that regions fill.
                intent.payload.resize(chance.index(4000), 3);
                match log.begin(&intent) {
                    Ok(_) => drop(owed.live.insert(intent.cid.clone(), intent)),
                    Err(SpoolError::Full { .. }) => {}
                    Err(_) => drop(owed.unsure.insert(intent.cid.clone(), vec![intent])),
                }
            } else {
                let at = chance.index(owed.live.len());
                let cid = owed.live.keys().nth(at).unwrap().clone();
                let finished = log.finish(&cid);
                let intent = owed.live.remove(&cid).unwrap();
                match finished {
                    Ok(()) => drop(owed.gone.insert(cid)),
                    Err(_) => drop(owed.unsure.insert(cid, vec![intent])),
                }
            }
        }
    }

    fn lives(seed: u64, faulty: bool) -> Result<(u64, u64), String> {
        let mut chance = Chance::new(seed);
        let fs = SimFs::new(chance.next());
        let mut owed = Owed::default();
        let (mut number, mut openings) = (0, 0);
        for life in 0..12 {
            let last = life == 11;
            if !last {
                if faulty {
                    fs.set_faults(Faults::Random {
                        sync_per_mille: chance.between(0, 600),
                        other_per_mille: 20,
                    });
                }
                if chance.one_in(2) {
                    fs.crash_in(chance.between(1, 120));
                }
            }
            let faults = fs.faults_hit();
            match IntentLog::open(&fs) {
                Ok((mut log, found)) => {
                    owed.check(&found)?;
                    owed.settle(found);
                    openings += 1;
                    work(&mut log, &mut owed, &mut chance, &mut number);
                }
                Err(_) if fs.is_down() || fs.faults_hit() > faults => {}
                Err(error) => return Err(format!("does not open: {error:?}")),
            }
            fs.set_faults(Faults::None);
            fs.end(if chance.one_in(2) {
                End::Kill
            } else {
                End::PowerCut
            });
        }
        Ok((openings, fs.faults_hit()))
    }

    #[test]
    fn nothing_begun_is_lost_and_nothing_finished_comes_back() {
        for faulty in [false, true] {
            let (mut openings, mut faults) = (0, 0);
            for seed in (0..100).chain([429, 860]) {
                let (opened, hit) = lives(seed, faulty)
                    .unwrap_or_else(|what| panic!("seed {seed}, faulty {faulty}: {what}"));
                openings += opened;
                faults += hit;
            }
            assert!(openings > 300 && (faults > 300) == faulty);
        }
    }
}
