//! Every single bit of a small spool flipped, one at a time: it always starts, never panics, and
//! loses nothing but the commit that was hit, which it says.
//!
//! Which bits: every bit of every byte that a run on the whole spool reads. A run follows from
//! what it reads and from nothing else, so a bit in a byte that it does not read (behind the used
//! part of a cursor slot, in the body of a freed segment) cannot change it; of those one in every
//! sector is flipped all the same.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use contract::{GatewayId, Lane, SettledRanges, SpoolId};
use kit::frame;
use spool::fs::sim::{End, SimFile, SimFs};
use spool::fs::{Fs, FsFile};
use spool::{
    CompactPolicy, FullPolicy, Geometry, Options, Position, SpoolReader, SpoolWriter, Stored,
};

const SEGMENT_BYTES: u64 = 12 * 1024;
const SECTOR_BYTES: usize = 512;

/// A place in the log: whose position.
type Place = (SpoolId, u64);

fn options() -> Options {
    Options {
        gateway: GatewayId::new("box-1").unwrap(),
        bytes_max: 16 * SEGMENT_BYTES,
        full: FullPolicy::Refuse,
        geometry: Geometry {
            segment_bytes: SEGMENT_BYTES,
            group_bytes_max: 1024,
            envelope_bytes_max: 1024,
        },
    }
}

fn open<F: Fs>(fs: F, random: u64) -> SpoolWriter<F> {
    let random = [random, random + 1, random + 2];
    SpoolWriter::open(fs, options(), random).unwrap().0
}

fn settle(reader: &SpoolReader<SimFs>, spool: SpoolId, first: u64, last: u64) {
    let mut ranges = SettledRanges::new();
    ranges.insert(first, last);
    reader.settle(spool, &ranges);
}

/// What was put in, and what of it may come again when a cursor slot is lost.
struct Small {
    fs: SimFs,
    sent: BTreeMap<Place, Vec<u8>>,
    settled: BTreeSet<Place>,
}

impl Small {
    fn keep(&mut self, writer: &mut SpoolWriter<SimFs>, lane: Lane, frames: u64) -> SpoolId {
        let from = self.sent.len() as u64 + 1;
        let group: Vec<_> = (from..from + frames).map(|n| frame(n, lane, 60)).collect();
        let mut spool = None;
        for (append, answer) in group.iter().zip(writer.commit(&group)) {
            let (of, seq) = answer.unwrap().position();
            self.sent.insert((of, seq.get()), append.bytes.clone());
            spool = Some(of);
        }
        spool.unwrap()
    }

    fn settle(&mut self, writer: &SpoolWriter<SimFs>, spool: SpoolId, first: u64, last: u64) {
        settle(&writer.reader(), spool, first, last);
        self.settled.extend((first..=last).map(|seq| (spool, seq)));
    }
}

/// Two openings, three lanes, a few commits in each; a compacted segment and the one it was made
/// of; a damaged commit that is a gap already; commits on blocks and on sectors; a cursor that has
/// settled ranges in the middle and at the start of a log.
fn small_spool() -> Small {
    let fs = SimFs::new(1);
    fs.write_back_never();
    let (sent, settled) = (BTreeMap::new(), BTreeSet::new());
    let mut small = Small { fs, sent, settled };
    let mut writer = open(small.fs.clone(), 1);
    small.keep(&mut writer, Lane::High, 2);
    let mut normal = None;
    for _ in 0..4 {
        normal = Some(small.keep(&mut writer, Lane::Normal, 3));
    }
    let normal = normal.unwrap();
    small.keep(&mut writer, Lane::Bulk, 2);
    small.settle(&writer, normal, 2, 2);
    writer.reader().write_cursor().unwrap();
    let policy = CompactPolicy { newest_spared: 0 };
    assert!(writer.compact(policy).unwrap().is_some());
    drop(writer);
    small.fs.end(End::Kill);

    // The first commit of the second normal segment; positions 7 to 9.
    small.fs.flip("seg-000002", 4096 + 100, 3);
    let mut writer = open(small.fs.clone(), 11);
    let read = look(&writer.reader());
    assert_eq!(read.lost, (7..=9).map(|seq| (normal, seq)).collect());
    for _ in 0..3 {
        small.keep(&mut writer, Lane::Normal, 2);
    }
    let high = small.keep(&mut writer, Lane::High, 1);
    small.keep(&mut writer, Lane::High, 3);
    small.keep(&mut writer, Lane::High, 1);
    small.settle(&writer, high, 1, 2);
    writer.reader().write_cursor().unwrap();
    drop(writer);
    small.fs.end(End::Kill);
    small
}

/// What one run finds.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    found: BTreeMap<Place, Vec<u8>>,
    /// Frames that stand in one commit.
    commits: BTreeMap<(Lane, Position), BTreeSet<Place>>,
    lost: BTreeSet<Place>,
}

fn look<F: Fs>(reader: &SpoolReader<F>) -> Look {
    let (mut found, mut commits) = (BTreeMap::new(), BTreeMap::new());
    for lane in Lane::ALL {
        let mut from = Position::default();
        loop {
            let chunk = reader.read(lane, from, None, usize::MAX).unwrap();
            for stored in chunk.stored {
                let Stored { spool, seq, at, .. } = stored;
                let place = (spool, seq.get());
                let commit: &mut BTreeSet<Place> = commits.entry((lane, at)).or_default();
                commit.insert(place);
                assert_eq!(stored.lane, lane);
                assert!(
                    found.insert(place, stored.bytes).is_none(),
                    "{place:?} twice"
                );
            }
            if chunk.at_end {
                break;
            }
            assert!(chunk.next > from, "a read always gets on");
            from = chunk.next;
        }
    }
    let gaps = reader.gaps().into_iter();
    let lost = gaps
        .flat_map(|(spool, gap)| (gap.first.get()..=gap.last.get()).map(move |seq| (spool, seq)));
    Look {
        found,
        commits,
        lost: lost.collect(),
    }
}

/// Opens what is there, and goes on with it if it `writes`.
fn run<F: Fs>(fs: F, writes: bool) -> Look {
    let mut writer = open(fs, 101);
    let seen = look(&writer.reader());
    let more = frame(1000, Lane::High, 60);
    assert!(!writes || writer.commit(&[more])[0].is_ok());
    seen
}

/// A disk that notes which bytes are read.
#[derive(Clone)]
struct Watched {
    fs: SimFs,
    read: Arc<Mutex<BTreeMap<String, Vec<bool>>>>,
}

struct WatchedFile {
    file: SimFile,
    name: String,
    read: Arc<Mutex<BTreeMap<String, Vec<bool>>>>,
}

impl Watched {
    fn file(&self, name: &str, file: SimFile) -> WatchedFile {
        let (name, read) = (name.to_owned(), Arc::clone(&self.read));
        WatchedFile { file, name, read }
    }
}

impl Fs for Watched {
    type File = WatchedFile;

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.fs.make_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.fs.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }

    fn create(&self, name: &str) -> io::Result<WatchedFile> {
        Ok(self.file(name, self.fs.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<WatchedFile> {
        Ok(self.file(name, self.fs.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fs.remove(name)
    }
}

impl FsFile for WatchedFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, offset)?;
        let mut read = self.read.lock().unwrap();
        let of_file = read.entry(self.name.clone()).or_default();
        let from = usize::try_from(offset).unwrap();
        if of_file.len() < from + count {
            of_file.resize(from + count, false);
        }
        of_file[from..from + count].fill(true);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Every bit to flip: file, byte, bit.
fn bits(fs: &SimFs, read: &BTreeMap<String, Vec<bool>>) -> Vec<(String, usize, u8)> {
    let mut bits = Vec::new();
    for (name, bytes) in fs.files() {
        let is_read = |at: usize| read.get(&name).and_then(|r| r.get(at)).is_some_and(|&r| r);
        for at in 0..usize::try_from(bytes).unwrap() {
            if is_read(at) {
                bits.extend((0..8).map(|bit| (name.clone(), at, bit)));
            } else if at % SECTOR_BYTES == 0 {
                bits.push((name.clone(), at, (at / SECTOR_BYTES % 8) as u8));
            }
        }
    }
    bits
}

/// Flips one part of all bits; of `PARTS` tests each takes every one of its own.
fn flip_part(part: usize) {
    let small = small_spool();
    let read = Arc::default();
    let watched = Watched {
        fs: small.fs.copy(),
        read: Arc::clone(&read),
    };
    let whole = run(watched, true);
    assert_eq!(whole.lost.len(), 3);
    assert_eq!(
        whole.found.len(),
        small.sent.len() - whole.lost.len() - small.settled.len()
    );
    let read = std::mem::take(&mut *read.lock().unwrap());
    let (mut hits, mut flips) = (BTreeSet::new(), 0);
    for (name, at, bit) in bits(&small.fs, &read).into_iter().skip(part).step_by(PARTS) {
        let fs = small.fs.copy();
        fs.flip(&name, at, bit);
        // Writing as well doubles the work: one bit of every byte does it.
        let seen = run(fs, usize::from(bit) == at % 8);
        flips += 1;
        if seen == whole {
            continue;
        }
        let place = || format!("{name} byte {at} bit {bit}");
        // What comes is what was sent; when a cursor slot is lost, also what was settled.
        for (found, bytes) in &seen.found {
            assert_eq!(small.sent.get(found), Some(bytes), "{}", place());
            let is_open = whole.found.contains_key(found) || small.settled.contains(found);
            assert!(is_open, "{}: {found:?}", place());
        }
        // What does not come stood in one commit, and is in a gap; nothing else is.
        let missing = whole.found.keys().filter(|p| !seen.found.contains_key(*p));
        let missing: BTreeSet<Place> = missing.copied().collect();
        let is_one = |commit: &BTreeSet<Place>| missing.is_subset(commit);
        assert!(
            missing.is_empty() || whole.commits.values().any(is_one),
            "{}: {missing:?} are missing",
            place()
        );
        let lost: BTreeSet<Place> = whole.lost.union(&missing).copied().collect();
        assert_eq!(seen.lost, lost, "{}", place());
        hits.extend(missing);
    }
    assert!(flips > 300_000, "{flips}");
    assert_eq!(hits.len(), whole.found.len(), "some frame was never hit");
}

const PARTS: usize = 2;

#[test]
fn every_single_flipped_bit_costs_one_commit_at_most() {
    flip_part(0);
}

#[test]
fn every_single_flipped_bit_costs_one_commit_at_most_other_half() {
    flip_part(1);
}
