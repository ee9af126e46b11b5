//! What compaction keeps, what it gains, and what no crash in the middle of it may do.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use contract::{Lane, SettledRanges};
use kit::*;
use spool::fs::sim::{SimFile, SimFs};
use spool::fs::{Fs, FsFile};
use spool::{CompactPolicy, FullPolicy, SpoolReader, SpoolWriter, Stored};

const ALL: CompactPolicy = CompactPolicy { newest_spared: 0 };

fn contents(stored: &[Stored]) -> Vec<(String, u64, Vec<u8>, bool)> {
    let one = |s: &Stored| (s.spool.to_string(), s.seq.get(), s.bytes.clone(), s.panic);
    let mut all: Vec<_> = stored.iter().map(one).collect();
    all.sort();
    all
}

fn files(dir: &std::path::Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap();
    names
        .filter(|n| {
            n.as_ref()
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .starts_with("seg-")
        })
        .count()
}

#[test]
fn every_unsettled_envelope_is_kept_byte_for_byte_and_the_settled_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 40, 1);
    let mut spools = BTreeSet::new();
    for number in 0..100 {
        let lane = if number % 10 == 0 {
            Lane::High
        } else {
            Lane::Normal
        };
        let mut append = frame(number, lane, 300);
        append.panic = number % 20 == 0;
        spools.insert(writer.commit(&[append]).remove(0).unwrap().position().0);
    }
    let reader = writer.reader();
    let normal = reader
        .read(Lane::Normal, Default::default(), None, 1)
        .unwrap()
        .stored[0]
        .spool;
    let mut settled = SettledRanges::new();
    settled.insert(3, 5);
    settled.insert(8, 30);
    reader.settle(normal, &settled);
    reader.write_cursor().unwrap();
    let before: Vec<_> = Lane::ALL
        .map(|lane| contents(&read_all(&reader, lane)))
        .into();
    let backlog = reader.usage().backlog();
    let mut done = Vec::new();
    while let Some(compacted) = writer.compact(ALL).unwrap() {
        assert!(compacted.bytes_after * 4 < compacted.bytes_before * 3);
        done.push(compacted);
    }
    assert!(done.len() >= 5, "{done:?}");
    let rewritten: u64 = done.iter().map(|c| c.envelopes).sum();
    assert!(rewritten <= 100 - 23, "the settled were left out");
    let after: Vec<_> = Lane::ALL
        .map(|lane| contents(&read_all(&reader, lane)))
        .into();
    assert_eq!(before, after);
    assert_eq!(reader.usage().backlog(), backlog);
    assert!(reader.usage().used_bytes <= 4 * SEGMENT_BYTES);
    assert!(reader.gaps().is_empty());
    // The files that became free are used before new ones are made.
    let made = files(dir.path());
    for number in 100..130 {
        keep(&mut writer, number, Lane::Normal, 300).unwrap();
    }
    assert_eq!(files(dir.path()), made);
    drop((reader, writer));
    let (writer, report) = open(dir.path(), 40, 50);
    assert_eq!((report.gaps, report.strangers), (vec![], vec![]));
    let reader = writer.reader();
    let again = contents(&read_all(&reader, Lane::Normal));
    assert_eq!(again.len(), before[1].len() + 30);
    assert!(before[1].iter().all(|one| again.contains(one)));
    assert_eq!(contents(&read_all(&reader, Lane::High)), before[0]);
    // Settled as a whole, everything goes.
    for spool in reader.spools() {
        let mut all = SettledRanges::new();
        all.insert(1, 1000);
        reader.settle(spool, &all);
    }
    reader.write_cursor().unwrap();
    assert_eq!(reader.usage().backlog(), 0);
    assert!(read_all(&reader, Lane::Normal).is_empty() && reader.gaps().is_empty());
}

#[test]
fn while_somebody_reads_nothing_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 40, 1);
    for number in 0..30 {
        keep(&mut writer, number, Lane::Normal, 300).unwrap();
    }
    let reader = writer.reader();
    let reading = reader.begin_reading();
    assert_eq!(writer.compact(ALL).unwrap(), None);
    drop(reading);
    let spared = CompactPolicy { newest_spared: 100 };
    assert_eq!(writer.compact(spared).unwrap(), None);
    assert!(writer.compact(ALL).unwrap().is_some());
}

#[test]
fn what_does_not_shrink_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    // Few segments, so that commits are dense.
    let (mut writer, _) = open(dir.path(), 12, 1);
    let mut noise = 1u64;
    for number in 0..30 {
        let mut append = frame(number, Lane::Normal, 3900);
        for byte in &mut append.bytes[8..] {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (noise >> 33) as u8;
        }
        if writer.commit(&[append]).remove(0).is_err() {
            break; // full
        }
    }
    let reader = writer.reader();
    let before = contents(&read_all(&reader, Lane::Normal));
    assert!(before.len() > 10);
    for _ in 0..10 {
        assert_eq!(writer.compact(ALL).unwrap(), None);
    }
    assert_eq!(contents(&read_all(&reader, Lane::Normal)), before);
    drop((reader, writer));
    let (writer, _) = open(dir.path(), 12, 20);
    assert_eq!(contents(&read_all(&writer.reader(), Lane::Normal)), before);
}

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A disk on which something happens in the middle of the next sync.
#[derive(Clone)]
struct Hooked(SimFs, Hook);

struct HookedFile(SimFile, Hook);

impl Fs for Hooked {
    type File = HookedFile;

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.0.make_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn create(&self, name: &str) -> io::Result<HookedFile> {
        Ok(HookedFile(self.0.create(name)?, Arc::clone(&self.1)))
    }

    fn open(&self, name: &str) -> io::Result<HookedFile> {
        Ok(HookedFile(self.0.open(name)?, Arc::clone(&self.1)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

impl FsFile for HookedFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let hook = self.1.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.0.sync()
    }
}

/// The uplink may come back at any moment; from then on every segment stays where it was seen.
#[test]
fn a_reader_that_appears_during_the_sync_finds_everything_where_it_was() {
    // Into a fresh compacted segment, and behind the groups that stand in one already.
    for compacted_before in [0, 1, 2] {
        for syncs_before in [0, 1] {
            let disk = Hooked(SimFs::new(3), Hook::default());
            let (mut writer, _) =
                SpoolWriter::open(disk.clone(), options(40, FullPolicy::Refuse), [1, 2, 3])
                    .unwrap();
            for number in 0..60 {
                let append = frame(number, Lane::Normal, 300);
                assert!(writer.commit(&[append]).remove(0).is_ok());
            }
            for _ in 0..compacted_before {
                assert!(writer.compact(ALL).unwrap().is_some());
            }
            let reader = writer.reader();
            let read = |reader: &SpoolReader<Hooked>| {
                let from = Default::default();
                reader.read(Lane::Normal, from, None, usize::MAX).unwrap()
            };
            let (before, usage) = (read(&reader), reader.usage());
            let guard = Arc::new(Mutex::new(None));
            let appears: Box<dyn FnOnce() + Send> = {
                let (reader, guard) = (reader.clone(), Arc::clone(&guard));
                Box::new(move || *guard.lock().unwrap() = Some(reader.begin_reading()))
            };
            let hook = Arc::clone(&disk.1);
            *disk.1.lock().unwrap() = match syncs_before {
                0 => Some(appears),
                // The second sync of a first group: the first one was its header's.
                _ => Some(Box::new(move || *hook.lock().unwrap() = Some(appears))),
            };
            let compacted = writer.compact(ALL).unwrap();
            let appeared = guard.lock().unwrap().is_some();
            assert!(appeared, "nothing was proven");
            if compacted_before > 0 && syncs_before == 1 {
                continue; // a group behind others has one sync: it stood when the reader came
            }
            assert_eq!(compacted, None);
            let after = read(&reader);
            assert_eq!(contents(&before.stored), contents(&after.stored));
            let places = |stored: &[Stored]| stored.iter().map(|s| s.at).collect::<Vec<_>>();
            assert_eq!(places(&before.stored), places(&after.stored));
            assert_eq!(usage.backlog(), reader.usage().backlog());
            // The group is of no weight after a power cut, and compaction goes on once it may.
            *guard.lock().unwrap() = None;
            let mut twin =
                SpoolWriter::open(disk.clone(), options(40, FullPolicy::Refuse), [9, 8, 7]).ok();
            assert!(twin.is_some());
            let all = read(&twin.as_ref().unwrap().0.reader());
            assert_eq!(contents(&before.stored), contents(&all.stored));
            assert!(all.gaps.is_empty());
            let writer = &mut twin.as_mut().unwrap().0;
            assert!(writer.compact(ALL).unwrap().is_some());
            assert_eq!(
                contents(&before.stored),
                contents(&read(&writer.reader()).stored)
            );
        }
    }
}
