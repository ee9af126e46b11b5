//! Writing, reading and settling while the spool stays open.
#![allow(clippy::unwrap_used)]

mod kit;

use contract::{Device, Lane};
use kit::{SEGMENT_BYTES, frame, keep, number, numbers, open, read_all, settle};
use spool::{Position, SpoolError};

#[test]
fn what_is_kept_is_read_in_order_until_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 16, 1);
    assert_eq!((report.segments, report.backlog), (0, 0));
    let reader = writer.reader();
    for n in 1..=100 {
        let durable = keep(&mut writer, n, Lane::Normal, 300).unwrap();
        assert_eq!(durable.position(), (report.spools[1], n.try_into_seq()));
        assert_eq!(durable.record_count(), 2);
    }
    let all = read_all(&reader, Lane::Normal);
    assert_eq!(
        all.iter().map(number).collect::<Vec<_>>(),
        (1..=100).collect::<Vec<_>>()
    );
    for stored in &all {
        let sent = frame(number(stored), Lane::Normal, 300);
        assert_eq!(
            (&stored.bytes, stored.received_at_ms),
            (&sent.bytes, sent.received_at_ms)
        );
        assert_eq!((stored.lane, stored.transport), (sent.lane, sent.transport));
        assert!(stored.device == sent.device && !stored.panic);
    }
    settle(&reader, report.spools[1], 11, 90);
    let left: Vec<u64> = (1..=10).chain(91..=100).collect();
    assert_eq!(numbers(&reader, Lane::Normal), left);
    let usage = reader.usage();
    assert_eq!(
        (usage.backlog(), usage.records_durable, usage.commits),
        (20, 200, 100)
    );
    assert_eq!(reader.low(report.spools[1]).get(), 1);
    settle(&reader, report.spools[1], 1, 10);
    assert_eq!(reader.low(report.spools[1]).get(), 91);
    assert_eq!(numbers(&reader, Lane::High), [0; 0]);
}

trait IntoSeq {
    fn try_into_seq(self) -> contract::SpoolSeq;
}

impl IntoSeq for u64 {
    fn try_into_seq(self) -> contract::SpoolSeq {
        contract::SpoolSeq::new(self).unwrap()
    }
}

#[test]
fn a_group_is_answered_in_its_order_and_each_lane_counts_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 16, 1);
    let lanes = [Lane::Bulk, Lane::High, Lane::Normal, Lane::High, Lane::Bulk];
    let mut group: Vec<_> = (1..)
        .zip(lanes)
        .map(|(n, lane)| frame(n, lane, 50))
        .collect();
    group.push(frame(6, Lane::High, 5000)); // larger than an envelope may be
    let mut named = frame(7, Lane::Normal, 10);
    named.device = Device::Text("x".repeat(256));
    group.push(named);
    let before = writer.reader().usage().syncs;
    let answers = writer.commit(&group);
    let places: Vec<_> = answers[..5]
        .iter()
        .map(|a| a.as_ref().unwrap().position())
        .collect();
    let [high, normal, bulk] = report.spools;
    let expected = [(bulk, 1), (high, 1), (normal, 1), (high, 2), (bulk, 2)];
    assert_eq!(
        places,
        expected.map(|(spool, seq)| (spool, seq.try_into_seq()))
    );
    for refused in &answers[5..] {
        assert!(matches!(refused, Err(SpoolError::TooLarge { .. })));
    }
    let usage = writer.reader().usage();
    assert_eq!(usage.commits, 3);
    assert_eq!(usage.lane(Lane::High).backlog, 2);
    assert!(
        usage.syncs - before <= 3 + 2 * 3,
        "one for each commit, two for each new file"
    );
    assert_eq!(numbers(&writer.reader(), Lane::Bulk), [1, 5]);
}

#[test]
fn a_commit_in_the_steady_state_takes_one_sync_and_its_own_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 64, 1);
    keep(&mut writer, 1, Lane::Normal, 120).unwrap();
    for (n, frame_bytes, blocks) in [(2, 120, 1), (3, 4096 - 44 - 28, 1), (4, 4096 - 44 - 27, 2)] {
        let before = writer.reader().usage();
        keep(&mut writer, n, Lane::Normal, frame_bytes).unwrap();
        let after = writer.reader().usage();
        assert_eq!(after.syncs - before.syncs, 1);
        // Of a block written in part the disk would have to read the rest first.
        assert_eq!(after.written_bytes - before.written_bytes, blocks * 4096);
    }
    assert_eq!(numbers(&writer.reader(), Lane::Normal), [1, 2, 3, 4]);
}

#[test]
fn a_file_made_ahead_is_written_in_pieces_with_a_turn_before_each_and_before_the_sync() {
    for (piece_bytes, expected) in [
        (u64::MAX, vec![0, SEGMENT_BYTES]),
        (0, (0..=SEGMENT_BYTES).step_by(4096).collect()),
        (SEGMENT_BYTES / 2, vec![0, SEGMENT_BYTES / 2, SEGMENT_BYTES]),
        (15_000, vec![0, 15_000, 30_000, SEGMENT_BYTES]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = open(dir.path(), 16, 1);
        let file_bytes = writer.reader().usage().file_bytes;
        let made = || {
            let names = std::fs::read_dir(dir.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().path());
            names.filter(|path| path.to_string_lossy().contains("/seg-"))
        };
        let before: Vec<_> = made().collect();
        let mut lengths = Vec::new();
        let filled = writer.begin_filling().unwrap().fill(|| {
            let mut new = made().filter(|path| !before.contains(path));
            lengths.push(new.next().unwrap().metadata().unwrap().len());
            piece_bytes
        });
        assert_eq!(lengths, expected);
        writer.adopt(filled).unwrap();
        assert_eq!(
            writer.reader().usage().file_bytes - file_bytes,
            SEGMENT_BYTES
        );
    }
}

#[test]
fn a_large_group_becomes_several_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 16, 1);
    let group: Vec<_> = (1..=100).map(|n| frame(n, Lane::Normal, 1000)).collect();
    assert!(writer.commit(&group).iter().all(Result::is_ok));
    assert_eq!(
        numbers(&writer.reader(), Lane::Normal),
        (1..=100).collect::<Vec<_>>()
    );
    assert!(writer.reader().usage().commits >= 100 * 1000 / (8 * 1024 + 1000));
}

#[test]
fn the_backlog_ends_where_the_live_cursor_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 32, 1);
    let reader = writer.reader();
    assert_eq!(reader.live_from(Lane::Normal), Position::default());
    for n in 1..=70 {
        keep(&mut writer, n, Lane::Normal, 400).unwrap();
    }
    let live = reader.live_from(Lane::Normal);
    for n in 71..=140 {
        keep(&mut writer, n, Lane::Normal, 400).unwrap();
    }
    let (mut from, mut backlog) = (Position::default(), Vec::new());
    loop {
        let chunk = reader.read(Lane::Normal, from, Some(live), 1500).unwrap();
        backlog.extend(chunk.stored.iter().map(number));
        from = chunk.next;
        if chunk.at_end {
            break;
        }
    }
    assert_eq!(backlog, (1..=70).collect::<Vec<_>>());
    let chunk = reader.read(Lane::Normal, live, None, usize::MAX).unwrap();
    assert_eq!(
        chunk.stored.iter().map(number).collect::<Vec<_>>(),
        (71..=140).collect::<Vec<_>>()
    );
    assert!(chunk.at_end);
    // From the place of a commit that commit comes again.
    let again = reader
        .read(Lane::Normal, chunk.stored[5].at, None, 1)
        .unwrap();
    assert_eq!(number(&again.stored[0]), 76);
}

#[test]
fn segments_are_recycled_and_old_positions_stay_valid() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, report) = open(dir.path(), 8, 1);
    let reader = writer.reader();
    let mut at = Position::default();
    for n in 1..=600 {
        keep(&mut writer, n, Lane::Normal, 2000).unwrap();
        let chunk = reader.read(Lane::Normal, at, None, usize::MAX).unwrap();
        assert_eq!(chunk.stored.iter().map(number).collect::<Vec<_>>(), [n]);
        assert!(chunk.gaps.is_empty());
        at = chunk.next;
        settle(&reader, report.spools[1], n, n);
    }
    assert!(
        reader
            .read(Lane::Normal, Position::default(), None, 10)
            .unwrap()
            .stored
            .is_empty()
    );
    assert!(reader.gaps().is_empty());
    assert!(reader.usage().file_bytes <= 8 * kit::SEGMENT_BYTES);
    drop((writer, reader));
    let (writer, report) = open(dir.path(), 8, 50);
    assert!(report.gaps.is_empty(), "{:?}", report.gaps);
    assert!(writer.reader().gaps().is_empty());
}

/// A box without a battery wakes up in 1970, some never leave 2038: the spool has no clock and
/// judges none.
#[test]
fn any_clock_is_kept_as_it_was() {
    let clocks = [0, 1, 2_147_483_648_000, 4_070_908_800_000, u64::MAX];
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 16, 1).0;
    let group: Vec<_> = clocks
        .iter()
        .map(|&received_at_ms| spool::Append {
            received_at_ms,
            ..frame(1, Lane::Normal, 40)
        })
        .collect();
    assert!(writer.commit(&group).iter().all(Result::is_ok));
    let stored = read_all(&writer.reader(), Lane::Normal);
    let kept: Vec<u64> = stored.iter().map(|s| s.received_at_ms).collect();
    assert_eq!(kept, clocks);
}
