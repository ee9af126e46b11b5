//! The simulated disk itself: it must do what it says, or it proves nothing.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use spool::fs::sim::{End, Failure, Fate, Faults, SECTOR_BYTES, SimFs};
use spool::fs::{Fs, FsFile};

fn made(fs: &SimFs) -> spool::fs::sim::SimFile {
    let file = fs.create("a").unwrap();
    file.write_all_at(&[1; 2 * SECTOR_BYTES], 0).unwrap();
    file.sync().unwrap();
    fs.sync_dir("").unwrap();
    file
}

fn read(fs: &SimFs) -> Option<Vec<u8>> {
    let file = fs.open("a").ok()?;
    let mut bytes = vec![9; file.len_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn a_kill_keeps_everything_and_a_power_cut_what_was_synced() {
    for seed in 0..200 {
        let fs = SimFs::new(seed);
        let file = made(&fs);
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        fs.end(End::Kill);
        assert!(file.write_at(&[0], 0).is_err(), "its process is dead");
        assert_eq!(read(&fs).unwrap()[0], 2);
        fs.open("a").unwrap().sync().unwrap();
        fs.end(End::PowerCut);
        assert_eq!(read(&fs).unwrap()[..SECTOR_BYTES], [2; SECTOR_BYTES]);
        assert_eq!(read(&fs).unwrap()[SECTOR_BYTES..], [1; SECTOR_BYTES]);
    }
}

#[test]
fn unsynced_sectors_lengths_and_names_go_each_their_own_way() {
    let mut seen = BTreeSet::new();
    for seed in 0..20_000 {
        let fs = SimFs::new(seed);
        let file = made(&fs);
        file.write_all_at(&[2; 3 * SECTOR_BYTES], 0).unwrap();
        fs.create("b").unwrap();
        fs.end(End::PowerCut);
        let bytes = read(&fs).unwrap();
        let sectors: Vec<u8> = bytes
            .chunks(SECTOR_BYTES)
            .map(|sector| match sector {
                s if s.iter().all(|&b| b == s[0]) => s[0],
                s if s[0] == 2 => 100, // torn
                _ => 101,              // garbage
            })
            .collect();
        seen.insert((sectors, fs.open("b").is_ok()));
    }
    for first in [1, 2, 100] {
        for second in [1, 2, 100] {
            for b in [true, false] {
                assert!(
                    seen.contains(&(vec![first, second], b)),
                    "{first} {second} {b}"
                );
                for third in [0, 2] {
                    if first == 100 && second == 100 {
                        continue; // too rare to wait for
                    }
                    assert!(seen.contains(&(vec![first, second, third], b)));
                }
            }
        }
    }
    assert!(seen.iter().any(|(sectors, _)| sectors.contains(&101)));
}

#[test]
fn after_a_failed_sync_a_good_one_proves_nothing() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..400 {
        let fs = SimFs::new(seed);
        let file = made(&fs);
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        fs.create("b").unwrap();
        fs.set_faults(Faults::Random {
            sync_per_mille: 1000,
            other_per_mille: 0,
        });
        assert!(file.sync().is_err() && fs.sync_dir("").is_err());
        fs.set_faults(Faults::None);
        file.sync().unwrap();
        fs.sync_dir("").unwrap();
        let again = fs.copy();
        fs.end(End::PowerCut);
        let data = read(&fs).unwrap()[0] == 2;
        let name = fs.open("b").is_ok();
        kept += u32::from(data) + u32::from(name);
        lost += u32::from(!data) + u32::from(!name);
        // Only writing again makes it durable.
        let file = again.open("a").unwrap();
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        file.sync().unwrap();
        again.end(End::PowerCut);
        assert_eq!(read(&again).unwrap()[0], 2);
    }
    assert!(kept > 100 && lost > 100, "{kept} {lost}");
}

#[test]
fn a_call_fails_as_planned_and_the_power_goes_where_it_should() {
    let fs = SimFs::new(1);
    let file = made(&fs);
    let next = fs.calls() + 1;
    for failure in Failure::ALL {
        let at = fs.calls() + 2;
        fs.set_faults(Faults::At {
            at,
            failure,
            sticky: false,
        });
        assert!(file.len_bytes().is_ok());
        let written = file.write_at(&[3; 10], 0);
        assert_eq!(written.is_ok(), failure == Failure::Short);
        assert!(written.unwrap_or(5) == 5);
        assert_eq!(file.write_at(&[3; 10], 0).unwrap(), 10);
    }
    assert_eq!((fs.calls() - next, fs.faults_hit()), (11, 4));
    fs.set_capacity(Some(2 * SECTOR_BYTES as u64 + 3));
    assert_eq!(file.write_at(&[4; 10], 2 * SECTOR_BYTES as u64).unwrap(), 3);
    let full = file.write_at(&[4; 10], 2 * SECTOR_BYTES as u64 + 3);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    fs.crash_in(2);
    assert!(fs.open("a").is_ok() && !fs.is_down());
    assert!(file.sync().is_err() && fs.is_down());
    assert!(fs.list("").is_err());
    fs.end(End::PowerCut);
    assert!(fs.list("").is_ok());
}

#[test]
fn chosen_fates_are_obeyed() {
    for pattern in 0..8u32 {
        let fs = SimFs::new(5);
        fs.write_back_never();
        let file = made(&fs);
        file.write_all_at(&[2; 2 * SECTOR_BYTES], 0).unwrap();
        fs.remove("a").unwrap();
        assert_eq!(fs.unsynced(), 3);
        let fates = [0, 1, 2].map(|bit| match pattern >> bit & 1 {
            1 => Fate::Kept,
            _ => Fate::Lost,
        });
        fs.power_cut(&fates);
        let expected = |bit: u32| if pattern >> bit & 1 == 1 { 2 } else { 1 };
        match read(&fs) {
            None => assert_eq!(pattern & 1, 1, "the removal was kept"),
            Some(bytes) => {
                assert_eq!(pattern & 1, 0);
                assert_eq!(bytes[0], expected(1));
                assert_eq!(bytes[SECTOR_BYTES], expected(2));
            }
        }
    }
}
