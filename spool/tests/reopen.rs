//! Opening again: after a stop, after a torn end, with files that are not ours.
#![allow(clippy::unwrap_used)]

mod kit;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use contract::{Lane, SettledRanges};
use kit::{frame, keep, number, numbers, open, options, read_all, settle, try_open};
use spool::fs::sim::SimFs;
use spool::fs::{OpenError, RealFs};
use spool::{FullPolicy, Geometry, SpoolError, SpoolWriter};

fn first_segment(dir: &Path) -> File {
    let mut options = File::options();
    let file = options.read(true).write(true).open(dir.join("seg-000000"));
    file.unwrap()
}

#[test]
fn everything_unsettled_is_there_again_under_its_old_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut spools = Vec::new();
    for life in 0..4 {
        let (mut writer, report) = open(dir.path(), 32, 10 * life + 1);
        assert!(report.gaps.is_empty() && report.strangers.is_empty());
        assert_eq!(report.backlog, life * 29);
        for n in 1..=30 {
            keep(&mut writer, life * 100 + n, Lane::Normal, 1000).unwrap();
        }
        settle(&writer.reader(), report.spools[1], 7, 7);
        assert!(writer.reader().write_cursor().unwrap());
        assert!(!writer.reader().write_cursor().unwrap(), "nothing new");
        spools.push(report.spools[1]);
    }
    let (writer, report) = open(dir.path(), 32, 99);
    let all = read_all(&writer.reader(), Lane::Normal);
    let expected: Vec<_> = (0..4u64)
        .flat_map(|life| (1..=30u64).filter(|n| *n != 7).map(move |n| (life, n)))
        .collect();
    let found: Vec<_> = all
        .iter()
        .map(|s| {
            let life = spools.iter().position(|spool| *spool == s.spool).unwrap() as u64;
            assert_eq!(number(s), life * 100 + s.seq.get());
            (life, s.seq.get())
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!((report.segments, report.backlog), (12, 4 * 29));
    let mut here = writer.reader().spools();
    here.sort_unstable();
    spools.sort_unstable();
    assert_eq!(here, spools);
}

#[test]
fn restarting_alone_uses_no_space() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..20 {
        let (mut writer, report) = open(dir.path(), 8, 10 * life + 1);
        keep(&mut writer, life, Lane::Normal, 100).unwrap();
        settle(&writer.reader(), report.spools[1], 1, 1);
        writer.reader().write_cursor().unwrap();
    }
    for life in 20..40 {
        let (writer, report) = open(dir.path(), 8, 10 * life + 1);
        assert!(report.gaps.is_empty());
        assert_eq!(writer.reader().usage().backlog(), 0);
    }
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 8 + 3);
}

#[test]
fn an_opening_never_uses_an_id_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for life in 0..3 {
        let (mut writer, report) = open(dir.path(), 8, 5); // the same "random" bits every time
        keep(&mut writer, life, Lane::High, 100).unwrap();
        assert!(
            seen.insert(report.spools[0]),
            "what holds something keeps its name"
        );
        writer.reader().write_cursor().unwrap();
    }
}

#[test]
fn a_torn_end_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    for n in 1..=3 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    drop(writer);
    // The fourth commit never got further than its first sector.
    let file = first_segment(dir.path());
    let mut first = vec![0; 512];
    file.read_exact_at(&mut first, 4096 + 2 * 4096).unwrap();
    file.write_all_at(&first, 4096 + 3 * 4096).unwrap();
    let (writer, report) = open(dir.path(), 8, 11);
    assert!(report.gaps.is_empty());
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1, 2, 3]);
}

#[test]
fn a_tail_that_the_cursor_saw_and_nobody_has_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 8, 1);
    for n in 1..=3 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    settle(&writer.reader(), report.spools[1], 1, 1);
    writer.reader().write_cursor().unwrap();
    drop(writer);
    let file = first_segment(dir.path());
    file.write_all_at(&[0; 4096], 3 * 4096).unwrap();
    let (writer, again) = open(dir.path(), 8, 11);
    let gaps: Vec<_> = again
        .gaps
        .iter()
        .map(|(s, gap)| (*s, gap.to_string()))
        .collect();
    assert_eq!(gaps, [(report.spools[1], "3-3:0:corrupt".to_owned())]);
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [2]);
    // Until the cloud has settled it, every opening names it.
    drop(writer);
    let (writer, again) = open(dir.path(), 8, 21);
    assert_eq!(again.gaps.len(), 1);
    settle(&writer.reader(), report.spools[1], 2, 3);
    assert!(writer.reader().gaps().is_empty());
    writer.reader().write_cursor().unwrap();
    drop(writer);
    assert!(open(dir.path(), 8, 31).1.gaps.is_empty());
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    keep(&mut writer, 1, Lane::Normal, 100).unwrap();
    drop(writer);
    let foreign = [
        "notes.txt",
        "seg-7",
        "seg-000070",
        "seg-000071",
        "seg-000072",
    ];
    for name in &foreign[..4] {
        fs::write(dir.path().join(name), format!("not a segment: {name}")).unwrap();
    }
    // A copy of a segment under another name.
    fs::copy(dir.path().join("seg-000000"), dir.path().join("seg-000072")).unwrap();
    let (mut writer, report) = open(dir.path(), 8, 11);
    let mut strangers = report.strangers;
    strangers.sort();
    assert_eq!(
        strangers,
        ["seg-000070", "seg-000071", "seg-000072", "seg-7"]
    );
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1]);
    while writer.upkeep().unwrap() {}
    for n in 2..20 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    for name in &foreign[..4] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text, format!("not a segment: {name}"));
    }
}

#[test]
fn a_file_without_a_header_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    keep(&mut writer, 1, Lane::Normal, 100).unwrap();
    assert!(writer.upkeep().unwrap(), "one ahead");
    assert!(!writer.upkeep().unwrap());
    drop(writer);
    // Cut while it was filled, and cut right after it was made.
    fs::write(dir.path().join("seg-000007"), vec![0; 9000]).unwrap();
    fs::write(dir.path().join("seg-000008"), []).unwrap();
    let (_writer, report) = open(dir.path(), 8, 11);
    assert!(report.strangers.is_empty(), "{:?}", report.strangers);
    for name in ["seg-000001", "seg-000007", "seg-000008"] {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_segment_cut_short_is_read_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    for n in 1..=3 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    drop(writer);
    let file = first_segment(dir.path());
    file.set_len(3 * 4096 + 100).unwrap();
    let (mut writer, _) = open(dir.path(), 8, 11);
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1, 2]);
    keep(&mut writer, 4, Lane::Normal, 3000).unwrap();
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1, 2, 4]);
}

#[test]
fn a_spool_may_get_another_cap_and_other_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 24, 1);
    for n in 1..=80 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
    }
    settle(&writer.reader(), report.spools[1], 1, 60);
    writer.reader().write_cursor().unwrap();
    drop(writer);
    let mut other = options(8, FullPolicy::Refuse);
    other.geometry.segment_bytes *= 2;
    other.bytes_max *= 2;
    let (mut writer, report) = try_open(dir.path(), other.clone(), 11).unwrap();
    assert!(report.gaps.is_empty());
    while writer.upkeep().unwrap() {}
    let reader = writer.reader();
    assert_eq!(
        numbers(&reader, Lane::Normal),
        (61..=80).collect::<Vec<_>>()
    );
    settle(&reader, report.spools[1], 1, 1);
    for (spool, last) in reader.spools().into_iter().map(|s| (s, 80)) {
        settle(&reader, spool, 1, last);
    }
    for n in 1..=100 {
        keep(&mut writer, n, Lane::Normal, 3000).unwrap();
        settle(&reader, report.spools[1], n, n);
    }
    drop((writer, reader));
    let (_, report) = try_open(dir.path(), other, 21).unwrap();
    assert!(report.gaps.is_empty(), "{:?}", report.gaps);
}

#[test]
fn the_wrong_owner_a_second_process_and_a_small_cap_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    keep(&mut writer, 1, Lane::Normal, 100).unwrap();
    let second = RealFs::locked(dir.path());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    drop(writer);
    let mut other = options(8, FullPolicy::Refuse);
    other.gateway = "box-2".parse().unwrap();
    let refused = try_open(dir.path(), other, 11).map(|_| ());
    assert!(matches!(refused, Err(SpoolError::Owned { owner }) if owner.as_str() == "box-1"));
    let small = try_open(dir.path(), options(7, FullPolicy::Refuse), 11).map(|_| ());
    assert!(matches!(small, Err(SpoolError::TooSmall { .. })));
    fs::write(dir.path().join("gateway"), "box 1!").unwrap();
    let nobody = try_open(dir.path(), options(8, FullPolicy::Refuse), 11).map(|_| ());
    assert!(matches!(nobody, Err(SpoolError::OwnerUnreadable)));
    fs::write(dir.path().join("gateway"), "").unwrap();
    let (writer, _) = open(dir.path(), 8, 11);
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1]);
    let owner = spool::owner(&RealFs::read_only(dir.path()).unwrap()).unwrap();
    assert_eq!(owner.unwrap().as_str(), "box-1");
}

#[test]
fn what_cannot_be_written_to_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        RealFs::locked(&file),
        Err(OpenError::Directory { .. })
    ));
    let fs = RealFs::read_only(dir.path()).unwrap();
    let refused = SpoolWriter::open(fs, options(8, FullPolicy::Refuse), [1, 2, 3]).map(|_| ());
    assert!(matches!(refused, Err(SpoolError::Open { .. })));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing was made"
    );
}

#[test]
fn a_later_version_is_named_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 8, 1);
    keep(&mut writer, 1, Lane::Normal, 100).unwrap();
    drop(writer);
    let path = dir.path().join("seg-000000");
    let mut bytes = fs::read(&path).unwrap();
    for at in [0, 2048] {
        bytes[at + 8] = 9;
        let crc = crc32c::crc32c(&bytes[at..at + 48]).to_le_bytes();
        bytes[at + 48..at + 52].copy_from_slice(&crc);
    }
    fs::write(&path, &bytes).unwrap();
    let refused = try_open(dir.path(), options(8, FullPolicy::Refuse), 11).map(|_| ());
    let newer =
        matches!(&refused, Err(SpoolError::Newer { version: 9, file, .. }) if file == "seg-000000");
    assert!(newer, "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_gigabyte_of_segments_is_not_read_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut large = options(8, FullPolicy::Refuse);
    large.geometry = Geometry::for_spool(256 << 20);
    large.bytes_max = 256 << 20;
    let (mut writer, _) = try_open(dir.path(), large.clone(), 1).unwrap();
    let group: Vec<_> = (1..=40)
        .map(|n| kit::frame(n, Lane::Normal, 100_000))
        .collect();
    for _ in 0..20 {
        assert!(writer.commit(&group).iter().all(Result::is_ok));
    }
    drop(writer);
    let started = std::time::Instant::now();
    let (_writer, report) = try_open(dir.path(), large, 11).unwrap();
    assert_eq!(report.backlog, 800);
    assert!(
        started.elapsed().as_millis() < 500,
        "{:?}",
        started.elapsed()
    );
}

/// Hundreds of openings without a link, each settled in every other position: more than a slot takes.
#[test]
fn a_cursor_that_no_slot_holds_refuses_no_start() {
    let fs = SimFs::new(5);
    fs.write_back_never();
    let options = options(4000, FullPolicy::Refuse);
    let (mut waiting, mut overflowed) = (0, 0);
    for life in 0.. {
        let ids = [life * 3 + 1, life * 3 + 2, life * 3 + 3];
        let (mut writer, report) = SpoolWriter::open(fs.clone(), options.clone(), ids).unwrap();
        assert_eq!(report.gaps, []);
        assert_eq!(report.backlog, waiting, "life {life}");
        if overflowed == 3 {
            break;
        }
        let group: Vec<_> = (1..=128).map(|n| frame(n, Lane::Normal, 8)).collect();
        assert!(writer.commit(&group).iter().all(Result::is_ok));
        let reader = writer.reader();
        let mut ranges = SettledRanges::new();
        (1..=64).for_each(|n| ranges.insert(2 * n, 2 * n));
        reader.settle(report.spools[1], &ranges);
        match reader.write_cursor() {
            Ok(_) => waiting += 64,
            // What is settled comes again then, as after every cursor that is lost.
            Err(SpoolError::Cursor { .. }) => {
                (waiting, overflowed) = (waiting + 128, overflowed + 1)
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}
