//! Flipped bits: the spool always opens, never panics, and loses no more than what was hit.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use contract::{Lane, SettledRanges};
use kit::{frame, keep, number, open, read_all};

const SEGMENTS: u64 = 12;

/// Three commits of three frames and one of one in every lane, over several segments.
fn small_spool(dir: &Path) {
    let (mut writer, report) = open(dir, SEGMENTS, 1);
    let mut n = 0;
    for _ in 0..3 {
        let group: Vec<_> = Lane::ALL
            .into_iter()
            .flat_map(|lane| [lane; 3])
            .map(|lane| {
                n += 1;
                frame(n, lane, 60)
            })
            .collect();
        assert!(writer.commit(&group).iter().all(Result::is_ok));
    }
    for lane in Lane::ALL {
        n += 1;
        keep(&mut writer, n, lane, 60).unwrap();
    }
    let mut ranges = SettledRanges::new();
    ranges.insert(2, 2);
    writer.reader().settle(report.spools[1], &ranges);
    writer.reader().write_cursor().unwrap();
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let files = entries.filter(|p| p.is_file() && !p.ends_with("lock"));
    files.map(|p| (p.clone(), fs::read(&p).unwrap())).collect()
}

/// What an opening finds: numbers read, and positions in gaps.
fn look(dir: &Path) -> (BTreeSet<u64>, u64) {
    let (writer, _) = open(dir, SEGMENTS, 101);
    let reader = writer.reader();
    let mut found = BTreeSet::new();
    for lane in Lane::ALL {
        found.extend(read_all(&reader, lane).iter().map(number));
    }
    let gaps = reader.gaps();
    let lost = gaps
        .iter()
        .map(|(_, gap)| gap.last.get() - gap.first.get() + 1)
        .sum();
    (found, lost)
}

/// `flips.rs` flips every bit, on a simulated disk; here a few of each file on a real one.
#[test]
fn a_flipped_bit_on_a_real_disk_costs_one_commit_at_most() {
    let source = tempfile::tempdir().unwrap();
    small_spool(source.path());
    let all = files(source.path());
    let dir = tempfile::tempdir().unwrap();
    let restore = || {
        let _ = fs::remove_dir_all(dir.path().join("quarantine"));
        for (path, _) in files(dir.path()) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &all {
            fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
    };
    restore();
    let (whole, lost) = look(dir.path());
    assert_eq!((whole.len(), lost), (29, 0));
    let mut hits = 0;
    for (path, bytes) in &all {
        let name = path.file_name().unwrap();
        // Only bytes that mean something; a stride that visits every bit position in turn.
        let used = (0..bytes.len()).filter(|&at| bytes[at] != 0 || at % 512 == 0);
        for (turn, at) in used.enumerate().step_by(61) {
            restore();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (turn % 8);
            fs::write(dir.path().join(name), &flipped).unwrap();
            let (found, lost) = look(dir.path());
            let place = format!("{} byte {at}", name.to_string_lossy());
            let missing: Vec<_> = whole.difference(&found).collect();
            assert!(missing.len() <= 3, "{place}: {missing:?} are missing");
            // Frame 5 was settled; an older cursor slot does not know it.
            assert!(
                found.difference(&whole).all(|n| *n == 5),
                "{place}: {found:?}"
            );
            // The last commit of a log cannot be told from one that was never finished, unless
            // the cursor knows it; here it does.
            assert!(
                lost >= missing.len() as u64,
                "{place}: {missing:?} missing, {lost} in gaps"
            );
            assert!(lost <= 3, "{place}: {lost} in gaps");
            hits += usize::from(!missing.is_empty());
        }
    }
    assert!(hits > 5, "{hits}");
}

#[test]
fn damage_found_while_reading_is_a_gap_once_and_a_copy_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 16, 1);
    for n in 1..=30 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    drop(writer);
    // A commit in the middle of the first, sealed segment.
    let path = dir.path().join("seg-000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3 * 4096 + 500] ^= 4;
    fs::write(&path, bytes).unwrap();
    let (writer, again) = open(dir.path(), 16, 11);
    assert!(
        again.gaps.is_empty(),
        "sealed segments are not read at open"
    );
    let reader = writer.reader();
    let read: Vec<_> = read_all(&reader, Lane::Normal).iter().map(number).collect();
    assert_eq!(read, (1..=30).filter(|n| *n != 3).collect::<Vec<_>>());
    let gaps: Vec<_> = reader
        .gaps()
        .iter()
        .map(|(s, g)| (*s, g.to_string()))
        .collect();
    assert_eq!(gaps, [(report.spools[1], "3-3:0:corrupt".to_owned())]);
    let chunk = reader
        .read(Lane::Normal, spool::Position::default(), None, usize::MAX)
        .unwrap();
    assert!(chunk.gaps.is_empty(), "told once");
    assert_eq!(
        fs::read_dir(dir.path().join("quarantine")).unwrap().count(),
        1
    );
    reader.write_cursor().unwrap();
    drop((writer, reader));
    let (_, third) = open(dir.path(), 16, 21);
    assert_eq!(third.gaps.len(), 1);
}

#[test]
fn a_segment_without_its_header_is_found_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 16, 1);
    for n in 1..=30 {
        keep(&mut writer, n, Lane::High, 3000).unwrap();
    }
    drop(writer);
    for slot in 0..4 {
        let path = dir.path().join(format!("seg-00000{slot}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[..4096].fill(0xa5);
        fs::write(&path, bytes).unwrap();
    }
    let (writer, report) = open(dir.path(), 16, 11);
    assert!(
        report.gaps.is_empty() && report.strangers.is_empty(),
        "{report:?}"
    );
    let read: Vec<_> = read_all(&writer.reader(), Lane::High)
        .iter()
        .map(number)
        .collect();
    assert_eq!(read, (1..=30).collect::<Vec<_>>());
}

#[test]
fn a_frame_full_of_commits_speaks_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 16, 1);
    keep(&mut writer, 1, Lane::Normal, 3000).unwrap();
    drop(writer);
    // A commit as it stands on the disk, sent by a tracker that has seen one of another spool.
    let forged = fs::read(dir.path().join("seg-000000")).unwrap()[4096..7500].to_vec();
    let other = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(other.path(), 16, 1_000_000);
    let mut carrier = frame(2, Lane::Normal, 8);
    carrier.bytes.resize(512 - (44 + 28), 0);
    carrier.bytes.extend(&forged);
    assert!(writer.commit(&[carrier])[0].is_ok());
    keep(&mut writer, 3, Lane::Normal, 100).unwrap();
    drop(writer);
    let path = other.path().join("seg-000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 20] ^= 1; // the carrier's own header: now the search goes through its frame
    fs::write(&path, bytes).unwrap();
    let (writer, report) = open(other.path(), 16, 2_000_000);
    assert_eq!(report.gaps.len(), 1);
    let read: Vec<_> = read_all(&writer.reader(), Lane::Normal)
        .iter()
        .map(number)
        .collect();
    assert_eq!(read, [3]);
}
