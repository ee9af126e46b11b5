//! Cuts, flips and failures of the cursor file.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use contract::{GapReason, SpoolSeq};

use super::*;
use crate::fs::RealFs;

pub(super) fn gap(first: u64, last: u64, records: u64, reason: GapReason) -> Gap {
    Gap {
        first: SpoolSeq::new(first).unwrap(),
        last: SpoolSeq::new(last).unwrap(),
        records,
        reason,
    }
}

pub(super) fn state(entries: &[(u64, u64, &str)]) -> CursorState {
    let entry = |&(spool, tail, settled): &(u64, u64, &str)| {
        let entry = CursorEntry {
            tail,
            settled: SettledRanges::parse(settled).unwrap(),
            gaps: Vec::new(),
        };
        (SpoolId::from_random(spool), entry)
    };
    CursorState {
        entries: entries.iter().map(entry).collect(),
    }
}

fn numbered(number: u64) -> CursorState {
    state(&[(7, number, "1-5,9-9")])
}

fn number(state: &CursorState) -> u64 {
    state.entries.values().next().map_or(0, |entry| entry.tail)
}

#[test]
fn the_last_state_is_read_after_any_number_of_writes() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::locked(dir.path()).unwrap();
    let (_, empty) = CursorFile::open(&fs).unwrap();
    assert_eq!(empty, CursorState::default());
    for round in 1..20 {
        let (mut cursor, before) = CursorFile::open(&fs).unwrap();
        assert_eq!(number(&before), (round - 1) * 10);
        for step in 0..=round % 6 {
            cursor.write(&numbered(round * 10 - 9 + step)).unwrap();
        }
        cursor.write(&numbered(round * 10)).unwrap();
        let looked = RealFs::read_only(dir.path()).unwrap();
        let (seen, generation) = read(&looked).unwrap();
        assert_eq!((number(&seen), generation), (round * 10, cursor.last.1));
    }
    let bytes = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert_eq!(bytes, SLOTS * SLOT_BYTES as u64);
}

#[test]
fn a_state_that_fits_no_slot_is_refused_and_the_last_one_stands() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut cursor, _) = CursorFile::open(&fs).unwrap();
    cursor.write(&numbered(1)).unwrap();
    let mut ranges = SettledRanges::new();
    (0..70_000).for_each(|at| ranges.insert(2 * at + 1, 2 * at + 1));
    let mut large = numbered(2);
    large.entries.values_mut().next().unwrap().settled = ranges;
    assert!(matches!(
        cursor.write(&large),
        Err(CursorWriteError::TooLarge { bytes_max: SLOT_BYTES, bytes }) if bytes > 70_000 * 16
    ));
    assert_eq!(number(&CursorFile::open(&fs).unwrap().1), 1);
    // The largest that fits does fit.
    let mut ranges = SettledRanges::new();
    let fixed = slot::HEADER_BYTES + 4 + 8 + 8 + 2 + 2;
    let most = (SLOT_BYTES - fixed) as u64 / 16;
    (0..most).for_each(|at| ranges.insert(2 * at + 1, 2 * at + 1));
    let mut full = numbered(3);
    full.entries.values_mut().next().unwrap().settled = ranges;
    cursor.write(&full).unwrap();
    assert_eq!(CursorFile::open(&fs).unwrap().1, full);
}

#[test]
fn missing_short_zeroed_and_foreign_files_are_as_empty_as_they_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut cursor, _) = CursorFile::open(&fs).unwrap();
    // Slots 0 (opening) and 1 (its confirmation) hold 1, slot 2 holds 2, slot 3 holds 3.
    (1..=3).for_each(|n| cursor.write(&numbered(n)).unwrap());
    let whole = std::fs::read(&path).unwrap();
    for (kept, expected) in [(0, 0), (1, 0), (4096, 1), (2, 1), (3, 2), (4, 3)] {
        let kept_bytes = if kept > 4 { kept } else { kept * SLOT_BYTES };
        let kept_bytes = if kept == 1 { 40 } else { kept_bytes };
        std::fs::write(&path, &whole[..kept_bytes]).unwrap();
        let (mut cursor, found) = CursorFile::open(&fs).unwrap();
        assert_eq!(number(&found), expected, "{kept_bytes} bytes");
        cursor.write(&numbered(9)).unwrap();
        assert_eq!(number(&CursorFile::open(&fs).unwrap().1), 9);
    }
    for foreign in [
        vec![0; whole.len()],
        vec![0xff; 9000],
        b"settled 1-5".to_vec(),
    ] {
        std::fs::write(&path, foreign).unwrap();
        let (mut cursor, found) = CursorFile::open(&fs).unwrap();
        assert_eq!(found, CursorState::default());
        cursor.write(&numbered(4)).unwrap();
        assert_eq!(number(&CursorFile::open(&fs).unwrap().1), 4);
    }
}

#[test]
fn every_flipped_bit_costs_its_own_slot_at_most() {
    let memory = Memory::default();
    let (mut cursor, _) = CursorFile::open(&memory).unwrap();
    (1..=9).for_each(|n| cursor.write(&numbered(n)).unwrap());
    let mut flips = 0;
    for at in 0..SLOTS as usize {
        for bit in 0..BLOCK_BYTES * 8 {
            let byte = at * BLOCK_BYTES + bit / 8;
            memory.flip(byte, bit);
            let (_, found) = CursorFile::open(&memory).unwrap();
            assert!([8, 9].contains(&number(&found)), "slot {at} bit {bit}");
            flips += u32::from(number(&found) == 8);
            memory.flip(byte, bit);
        }
    }
    let mut used = Vec::new();
    let header = SlotHeader {
        generation: 1,
        kept: [0; 2],
        opening: false,
    };
    slot::encode(&mut used, header, &numbered(9));
    assert_eq!(
        flips as usize,
        used.len() * 8,
        "every used bit of the newest slot counts"
    );
}

/// A file that remembers what is durable, only the first block of every slot to be quick, and whose next calls can be made to fail.
#[derive(Clone, Default)]
struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What a reader sees.
    cache: Option<Vec<u8>>,
    /// What a power cut leaves at the worst.
    disk: Option<Vec<u8>>,
    /// Written since the last sync, failed or not.
    dirty: Vec<(usize, usize)>,
    /// Name and length are on the disk too.
    named: bool,
    fail_write: u32,
    fail_sync: u32,
    fail_sync_dir: u32,
}

impl Memory {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap())
    }

    fn flip(&self, byte: usize, bit: usize) {
        self.with(|inner| inner.cache.as_mut().unwrap()[byte] ^= 1 << (bit % 8));
    }

    /// A power cut; `tear` leaves the first half of each unsynced write behind.
    fn cut(&self, tear: bool) -> Self {
        self.with(|inner| {
            let mut disk = inner.named.then(|| inner.disk.clone()).flatten();
            if let (true, Some(disk), Some(cache)) = (tear, &mut disk, &inner.cache) {
                for &(from, to) in &inner.dirty {
                    tear_into(disk, cache, from, to);
                }
            }
            let inner = Inner {
                cache: disk.clone(),
                named: disk.is_some(),
                disk,
                ..Inner::default()
            };
            Self {
                inner: Arc::new(Mutex::new(inner)),
            }
        })
    }
}

/// A write of which only the first bytes arrived.
fn tear_into(disk: &mut [u8], cache: &[u8], from: usize, to: usize) {
    let to = to.min(from + 32).min(disk.len());
    let from = from.min(to);
    disk[from..to].copy_from_slice(&cache[from..to]);
}

/// Where the first block of a slot is remembered, and how much of it lies from `offset` on.
fn place(offset: u64, bytes: usize) -> (usize, usize) {
    let (slot, within) = (offset as usize / SLOT_BYTES, offset as usize % SLOT_BYTES);
    let bytes = bytes.min(BLOCK_BYTES.saturating_sub(within));
    (slot * BLOCK_BYTES + within.min(BLOCK_BYTES), bytes)
}

fn failed(counter: &mut u32) -> bool {
    let fails = *counter > 0;
    *counter = counter.saturating_sub(1);
    fails
}

impl Fs for Memory {
    type File = Memory;

    fn make_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        self.with(|inner| {
            if failed(&mut inner.fail_sync_dir) {
                return Err(io::ErrorKind::Other.into());
            }
            inner.named = true;
            Ok(())
        })
    }

    fn create(&self, _: &str) -> io::Result<Self> {
        self.with(|inner| {
            inner.cache = Some(Vec::new());
            inner.disk = Some(Vec::new());
            inner.named = false;
            inner.dirty.clear();
        });
        Ok(self.clone())
    }

    fn open(&self, _: &str) -> io::Result<Self> {
        let there = self.with(|inner| inner.cache.is_some());
        there
            .then(|| self.clone())
            .ok_or(ErrorKind::NotFound.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        self.with(|inner| inner.cache.take().map(|_| ()))
            .ok_or(ErrorKind::NotFound.into())
    }
}

impl FsFile for Memory {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.with(|inner| inner.cache.as_ref().map_or(0, Vec::len)) as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|inner| {
            let cache = inner.cache.as_deref().unwrap_or_default();
            let (from, bytes) = place(offset, buffer.len());
            let rest = cache.get(from..).unwrap_or_default();
            let bytes = rest.len().min(bytes);
            buffer[..bytes].copy_from_slice(&rest[..bytes]);
            Ok(bytes)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|inner| {
            if failed(&mut inner.fail_write) {
                return Err(io::ErrorKind::Other.into());
            }
            let (from, kept) = place(offset, bytes.len());
            let to = from + kept;
            let cache = inner.cache.get_or_insert_default();
            if cache.len() < to {
                cache.resize(to, 0);
            }
            cache[from..to].copy_from_slice(&bytes[..kept]);
            inner.dirty.push((from, to));
            Ok(bytes.len())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|inner| {
            let dirty = std::mem::take(&mut inner.dirty);
            let fails = failed(&mut inner.fail_sync);
            let cache = inner.cache.clone().unwrap_or_default();
            let disk = inner.disk.get_or_insert_default();
            if fails {
                // The worst a disk can do: part of it arrived, and nobody will try again.
                for (from, to) in dirty {
                    tear_into(disk, &cache, from, to);
                }
                return Err(io::ErrorKind::Other.into());
            }
            disk.resize(cache.len(), 0);
            for (from, to) in dirty {
                disk[from..to].copy_from_slice(&cache[from..to]);
            }
            Ok(())
        })
    }
}

/// Every sequence of six steps out of: write, write whose sync fails, write that fails, restart
/// with the cache kept. After each step a power cut, clean or torn, shows the last state whose
/// write was reported durable, or a later attempt.
#[test]
fn no_order_of_failures_and_restarts_loses_the_last_durable_state() {
    let steps: [&str; 4] = ["write", "fail-sync", "fail-write", "restart"];
    let acted = Rc::new(RefCell::new(BTreeMap::new()));
    for run in 0..steps.len().pow(6) {
        let memory = Memory::default();
        let (mut cursor, _) = CursorFile::open(&memory).unwrap();
        let (mut durable, mut tried) = (0, 0);
        let mut rest = run;
        for _ in 0..6 {
            let step = steps[rest % steps.len()];
            rest /= steps.len();
            *acted.borrow_mut().entry(step).or_insert(0) += 1;
            if step == "restart" {
                let (again, found) = CursorFile::open(&memory).unwrap();
                assert!(
                    number(&found) >= durable,
                    "run {run}: {} < {durable}",
                    number(&found)
                );
                cursor = again;
                // What a kill left is the newest there is, whole or not: a process must go by it.
                continue;
            }
            memory.with(|inner| match step {
                "fail-sync" => inner.fail_sync = 1,
                "fail-write" => inner.fail_write = 1,
                _ => {}
            });
            tried += 1;
            if cursor.write(&numbered(tried)).is_ok() {
                durable = tried;
            }
            for tear in [false, true] {
                let (_, found) = CursorFile::open(&memory.cut(tear)).unwrap();
                let found = number(&found);
                assert!(
                    (durable..=tried).contains(&found),
                    "run {run}: after {step} a cut shows {found}, durable is {durable}"
                );
            }
        }
    }
    assert_eq!(acted.borrow().len(), steps.len());
}

/// The write in progress is torn by the cut: the state before it must still be there.
#[test]
fn a_torn_write_never_falls_on_what_is_durable() {
    let fail = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    for (failures, restarts) in fail.iter().flat_map(|f| fail.iter().map(move |r| (*f, *r))) {
        let memory = Memory::default();
        let (mut cursor, _) = CursorFile::open(&memory).unwrap();
        (1..=3).for_each(|n| cursor.write(&numbered(n)).unwrap());
        for restart in 0..=restarts {
            if restart > 0 {
                cursor = CursorFile::open(&memory).unwrap().0;
            }
            for _ in 0..failures {
                memory.with(|inner| inner.fail_sync = 1);
                assert!(cursor.write(&numbered(4)).is_err());
            }
            // Written, torn by the disk, power cut.
            memory.with(|inner| inner.fail_sync = 1);
            assert!(cursor.write(&numbered(5)).is_err());
            let (_, found) = CursorFile::open(&memory.cut(true)).unwrap();
            assert_eq!(number(&found), 3, "{failures} failures, {restart} restarts");
        }
    }
}

#[test]
fn a_file_whose_creation_failed_is_made_again() {
    for (fail_sync, fail_sync_dir, fail_write) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        let memory = Memory::default();
        memory.with(|inner| {
            inner.fail_sync = fail_sync;
            inner.fail_sync_dir = fail_sync_dir;
            inner.fail_write = fail_write;
        });
        assert!(CursorFile::open(&memory).is_err());
        let (mut cursor, _) = CursorFile::open(&memory).unwrap();
        cursor.write(&numbered(1)).unwrap();
        let (_, found) = CursorFile::open(&memory.cut(false)).unwrap();
        assert_eq!(number(&found), 1);
    }
    // Killed between the zero-filling and a sync that then failed: the file is all zeros, its name
    // is not on the disk.
    let memory = Memory::default();
    let zeros = memory.create(FILE).unwrap();
    zeros
        .write_all_at(&[0; SLOTS as usize * SLOT_BYTES], 0)
        .unwrap();
    let (mut cursor, _) = CursorFile::open(&memory).unwrap();
    cursor.write(&numbered(1)).unwrap();
    let (_, found) = CursorFile::open(&memory.cut(false)).unwrap();
    assert_eq!(number(&found), 1);
}

/// Lives on the simulated disk: kills, power cuts, failing calls, in any order.
#[cfg(feature = "sim")]
#[test]
fn no_crash_shows_a_state_before_the_last_durable_one() {
    use crate::fs::sim::{Chance, End, Faults, SimFs};
    for (seed, faulty) in (0..400).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut chance = Chance::new(seed);
        let fs = SimFs::new(chance.next());
        let (mut durable, mut tried) = (0, 0);
        for life in 0..10 {
            if life < 9 {
                if faulty {
                    fs.set_faults(Faults::Random {
                        sync_per_mille: 300,
                        other_per_mille: 20,
                    });
                }
                if chance.one_in(2) {
                    fs.crash_in(chance.between(1, 40));
                }
            }
            let faults = fs.faults_hit();
            match CursorFile::open(&fs) {
                Ok((mut cursor, found)) => {
                    let found = number(&found);
                    assert!(
                        (durable..=tried).contains(&found),
                        "seed {seed}, faulty {faulty}, life {life}: {found}, durable {durable}"
                    );
                    for _ in 0..chance.below(12) {
                        tried += 1;
                        if cursor.write(&numbered(tried)).is_ok() {
                            durable = tried;
                        }
                    }
                }
                Err(error) => assert!(
                    fs.is_down() || fs.faults_hit() > faults,
                    "seed {seed}: does not open: {error:?}"
                ),
            }
            fs.set_faults(Faults::None);
            fs.end(if chance.one_in(2) {
                End::Kill
            } else {
                End::PowerCut
            });
        }
    }
}
