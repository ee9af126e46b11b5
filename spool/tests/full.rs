//! What happens when everything is full of unsettled records, under every policy.
#![allow(clippy::unwrap_used)]

mod kit;

use contract::{Lane, SettledRanges};
use kit::{SEGMENT_BYTES, keep, number, numbers, open, options, read_all, settle, try_open};
use spool::{FullPolicy, SpoolError, SpoolWriter};

/// Keeps frames until one is refused; answers how many were kept.
fn fill(writer: &mut SpoolWriter<spool::fs::RealFs>, lane: Lane, from: u64) -> u64 {
    for n in from.. {
        match keep(writer, n, lane, 3000) {
            Ok(_) => {}
            Err(SpoolError::Full {
                used_bytes,
                bytes_max,
            }) => {
                assert!(used_bytes <= bytes_max);
                return n - from;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!()
}

#[test]
fn refuse_keeps_a_part_for_the_high_lane_and_everything_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 20, 1);
    let normal = fill(&mut writer, Lane::Normal, 1);
    assert!(matches!(
        keep(&mut writer, 0, Lane::Bulk, 100),
        Err(SpoolError::Full { .. })
    ));
    let high = fill(&mut writer, Lane::High, 10_000);
    assert!(high >= 8, "{high}");
    let reader = writer.reader();
    assert!(reader.usage().file_bytes <= 20 * SEGMENT_BYTES);
    assert_eq!(
        numbers(&reader, Lane::Normal),
        (1..=normal).collect::<Vec<_>>()
    );
    assert_eq!(read_all(&reader, Lane::High).len() as u64, high);
    // Space that is settled is space again, without anybody writing the cursor.
    settle(&reader, report.spools[1], 1, normal);
    let more = fill(&mut writer, Lane::Normal, 50_000);
    assert!(more > normal / 2, "{more} of {normal}");
    assert!(!writer.has_failed());
}

#[test]
fn a_full_spool_opens_and_still_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 12, 1);
    let normal = fill(&mut writer, Lane::Normal, 1);
    let high = fill(&mut writer, Lane::High, 10_000);
    drop(writer);
    for life in 1..6 {
        let (mut writer, report) = open(dir.path(), 12, 10 * life + 1);
        assert!(report.gaps.is_empty() && report.backlog == normal + high);
        assert_eq!(fill(&mut writer, Lane::Normal, 20_000), 0);
        assert!(writer.reader().usage().file_bytes <= 12 * SEGMENT_BYTES);
        assert_eq!(
            numbers(&writer.reader(), Lane::Normal),
            (1..=normal).collect::<Vec<_>>()
        );
    }
}

#[test]
fn trust_redis_gives_up_what_was_accepted_and_only_that() {
    let dir = tempfile::tempdir().unwrap();
    let trusting = options(12, FullPolicy::TrustRedis);
    let (mut writer, report) = try_open(dir.path(), trusting.clone(), 1).unwrap();
    let normal = fill(&mut writer, Lane::Normal, 1);
    let reader = writer.reader();
    let mut ranges = SettledRanges::new();
    ranges.insert(1, normal / 2);
    reader.accepted(report.spools[1], &ranges);
    assert_eq!(
        numbers(&reader, Lane::Normal).len() as u64,
        normal,
        "it is not settled yet"
    );
    let more = fill(&mut writer, Lane::Normal, normal + 1);
    assert!(more >= 7, "{more}");
    let left = numbers(&reader, Lane::Normal);
    assert!(left.ends_with(&(normal / 2 + 1..=normal + more).collect::<Vec<_>>()));
    assert!(reader.gaps().is_empty());
    drop((writer, reader));
    // What was trusted to Redis is no loss to the next opening.
    let (writer, report) = try_open(dir.path(), trusting, 11).unwrap();
    assert!(report.gaps.is_empty(), "{:?}", report.gaps);
    assert_eq!(numbers(&writer.reader(), Lane::Normal), left);
}

#[test]
fn accepted_means_nothing_under_other_policies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 12, 1);
    let normal = fill(&mut writer, Lane::Normal, 1);
    let mut ranges = SettledRanges::new();
    ranges.insert(1, normal);
    writer.reader().accepted(report.spools[1], &ranges);
    assert_eq!(fill(&mut writer, Lane::Normal, normal + 1), 0);
}

#[test]
fn drop_oldest_gives_up_the_least_urgent_lane_and_says_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let dropping = options(12, FullPolicy::DropOldest);
    let (mut writer, report) = try_open(dir.path(), dropping.clone(), 1).unwrap();
    for n in 1..=24 {
        keep(&mut writer, n, Lane::Bulk, 3000).unwrap();
    }
    for n in 1..=200 {
        keep(&mut writer, 1000 + n, Lane::Normal, 3000).unwrap();
    }
    keep(&mut writer, 5000, Lane::High, 3000).unwrap();
    let reader = writer.reader();
    let gaps = reader.gaps();
    let mut expected: u64 = 0;
    for lane in [Lane::Bulk, Lane::Normal] {
        let at = Lane::ALL.iter().position(|l| *l == lane).unwrap();
        let of_lane: Vec<_> = gaps
            .iter()
            .filter(|(s, _)| *s == report.spools[at])
            .collect();
        assert!(!of_lane.is_empty(), "{lane:?}");
        let mut lost = SettledRanges::new();
        for (_, gap) in of_lane {
            assert_eq!(gap.reason.as_str(), "dropped");
            assert_eq!(gap.records, 2 * (gap.last.get() - gap.first.get() + 1));
            lost.insert(gap.first.get(), gap.last.get());
        }
        let there = read_all(&reader, lane);
        assert!(there.iter().all(|stored| !lost.contains(stored.seq)));
        let kept = if lane == Lane::Bulk { 24 } else { 200 };
        let gone: u64 = lost.as_slice().iter().map(|(a, z)| z - a + 1).sum();
        assert_eq!(gone + there.len() as u64, kept);
        assert_eq!(lost.low_edge(), gone, "the oldest");
        expected += gone;
    }
    assert_eq!(reader.usage().envelopes_lost, expected);
    assert_eq!(numbers(&reader, Lane::High), [5000]);
    drop((writer, reader));
    let (writer, report) = try_open(dir.path(), dropping, 11).unwrap();
    assert_eq!(report.gaps, gaps, "durable, and no other");
    let reader = writer.reader();
    for (spool, gap) in gaps {
        settle(&reader, spool, gap.first.get(), gap.last.get());
    }
    assert!(reader.gaps().is_empty());
    assert_eq!(
        read_all(&reader, Lane::High)
            .iter()
            .map(number)
            .collect::<Vec<_>>(),
        [5000]
    );
}
