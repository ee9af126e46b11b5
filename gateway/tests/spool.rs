//! The spool from outside: what it promises across kills, damage, a full disk's worth of data and
//! a second process. A "kill" is a handle that is forgotten: nothing is flushed on the way out,
//! because nothing is held back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use contract::{Device, Lane, SettledRanges, SpoolId, Transport};
use gateway::spool::{
    Append, Position, SEGMENT_BYTES, SPOOL_BYTES_MIN, Spool, SpoolConfig, SpoolError, Stored,
};

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        dir: dir.to_owned(),
        gateway: gateway_id(),
        bytes_max: 64 * SEGMENT_BYTES,
    }
}

fn open(dir: &Path, random: u64) -> Spool {
    Spool::open(config(dir), random).unwrap().0
}

fn gateway_id() -> contract::GatewayId {
    contract::GatewayId::new("test").unwrap()
}

fn frame(number: u64, bytes: usize) -> Append {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(bytes.max(8), number as u8);
    Append {
        device: Device::Imei("356307042441013".parse().unwrap()),
        transport: Transport::Tcp,
        lane: Lane::Normal,
        received_at_ms: number,
        record_count: 2,
        panic: false,
        bytes: data,
    }
}

fn read_all(spool: &Spool) -> Vec<Stored> {
    let (mut all, mut at) = (Vec::new(), Position::default());
    loop {
        let chunk = spool.read(at, 100_000).unwrap();
        all.extend(chunk.stored);
        at = chunk.next;
        if chunk.at_end {
            return all;
        }
    }
}

fn numbers(stored: &[Stored]) -> Vec<u64> {
    stored
        .iter()
        .map(|s| u64::from_be_bytes(s.bytes[..8].try_into().unwrap()))
        .collect()
}

fn ranges(text: &str) -> SettledRanges {
    SettledRanges::parse(text).unwrap()
}

/// Waits until the writer thread has let go of the directory lock.
fn close(spool: Spool) {
    let dir = spool_dir_of(&spool);
    drop(spool);
    let lock = fs::File::options()
        .write(true)
        .open(dir.join("lock"))
        .unwrap();
    lock.lock().unwrap();
}

thread_local! {
    static DIRS: std::cell::RefCell<BTreeMap<SpoolId, std::path::PathBuf>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

fn spool_dir_of(spool: &Spool) -> std::path::PathBuf {
    DIRS.with_borrow(|dirs| dirs[&spool.id()].clone())
}

fn tracked(dir: &Path, random: u64) -> Spool {
    let spool = open(dir, random);
    DIRS.with_borrow_mut(|dirs| dirs.insert(spool.id(), dir.to_owned()));
    spool
}

#[tokio::test]
async fn what_was_acknowledged_is_read_back_after_every_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for life in 1..=5 {
        let spool = tracked(dir.path(), life);
        for number in 0..200 {
            let number = life * 1000 + number;
            let receipt = spool.append(frame(number, 300)).await.unwrap();
            assert_eq!(receipt.position().0, SpoolId::from_random(life));
            assert_eq!(receipt.record_count(), 2);
            expected.push(number);
        }
        assert_eq!(numbers(&read_all(&spool)), expected);
        assert_eq!(spool.usage().backlog, expected.len() as u64);
        close(spool);
    }
    let (spool, report) = Spool::open(config(dir.path()), 99).unwrap();
    assert_eq!((report.backlog, report.segments), (1000, 5));
    let stored = read_all(&spool);
    assert_eq!(numbers(&stored), expected);
    // No (spool id, position) names two frames.
    let names: BTreeMap<_, _> = stored.iter().map(|s| ((s.spool, s.seq), ())).collect();
    assert_eq!(names.len(), stored.len());
}

#[tokio::test]
async fn many_at_once_share_a_commit_and_keep_their_own_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), 1);
    let appends = (0..500).map(|number| {
        let spool = spool.clone();
        tokio::spawn(async move { (number, spool.append(frame(number, 100)).await.unwrap()) })
    });
    let mut receipts = BTreeMap::new();
    for append in appends.collect::<Vec<_>>() {
        let (number, receipt) = append.await.unwrap();
        receipts.insert(receipt.position().1, number);
    }
    let stored: BTreeMap<_, _> = read_all(&spool)
        .iter()
        .map(|s| (s.seq, numbers(std::slice::from_ref(s))[0]))
        .collect();
    assert_eq!(stored, receipts);
    assert!(
        spool.usage().commits < 500,
        "group commit: {} commits",
        spool.usage().commits
    );
}

#[tokio::test]
async fn settled_frames_are_not_read_again_and_stay_settled_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    for number in 1..=10 {
        spool.append(frame(number, 50)).await.unwrap();
    }
    spool.settle(spool.id(), &ranges("1-4,7-8"));
    spool.settle(SpoolId::from_random(77), &ranges("1-1000"));
    assert_eq!(numbers(&read_all(&spool)), [5, 6, 9, 10]);
    assert_eq!((spool.low(spool.id()).get(), spool.usage().backlog), (5, 4));
    spool.sync_settled().unwrap();
    close(spool);
    let spool = tracked(dir.path(), 2);
    assert_eq!(numbers(&read_all(&spool)), [5, 6, 9, 10]);
    close(spool);
    // A lost cursor file only means reading more.
    fs::remove_file(dir.path().join("settled")).unwrap();
    assert_eq!(read_all(&open(dir.path(), 3)).len(), 10);
}

#[tokio::test]
async fn a_torn_end_loses_nothing_acknowledged_whatever_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    for number in 1..=3 {
        spool.append(frame(number, 40)).await.unwrap();
    }
    let path = dir.path().join("seg-0000000000");
    let whole = fs::read(&path).unwrap();
    spool.append(frame(4, 40)).await.unwrap();
    close(spool);
    let longer = fs::read(&path).unwrap();
    for cut in whole.len()..longer.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("seg-0000000000"), &longer[..cut]).unwrap();
        let (spool, report) = Spool::open(config(copy.path()), 2).unwrap();
        assert_eq!(numbers(&read_all(&spool)), [1, 2, 3], "cut at {cut}");
        assert!(report.gaps.is_empty(), "a torn end is no damage");
        assert!(spool.append(frame(5, 40)).await.is_ok());
        assert_eq!(numbers(&read_all(&spool)), [1, 2, 3, 5]);
    }
}

#[tokio::test]
async fn damage_in_the_middle_costs_that_commit_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    for number in 1..=5 {
        spool.append(frame(number, 40)).await.unwrap();
    }
    close(spool);
    let path = dir.path().join("seg-0000000000");
    let whole = fs::read(&path).unwrap();
    for byte in 4096..whole.len() {
        let copy = tempfile::tempdir().unwrap();
        let mut bent = whole.clone();
        bent[byte] ^= 0x10;
        fs::write(copy.path().join("seg-0000000000"), bent).unwrap();
        let (spool, report) = Spool::open(config(copy.path()), 2).unwrap();
        let left = numbers(&read_all(&spool));
        assert_eq!(left.len(), 4, "byte {byte}: {left:?}");
        let lost: Vec<u64> = (1..=5).filter(|n| !left.contains(n)).collect();
        if lost != [5] {
            let (of, gap) = report.gaps[0].clone();
            assert_eq!(
                (of, gap.first.get(), gap.last.get()),
                (SpoolId::from_random(1), lost[0], lost[0])
            );
        }
    }
}

#[tokio::test]
async fn a_full_spool_refuses_keeps_a_tenth_for_urgent_frames_and_frees_what_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 10 * SEGMENT_BYTES;
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        gateway: gateway_id(),
        bytes_max,
    };
    let (spool, _) = Spool::open(config, 1).unwrap();
    let mut number = 0;
    let full = loop {
        match spool.append(frame(number, 60_000)).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full { .. }), "{full}");
    let urgent = Append {
        lane: Lane::High,
        ..frame(9999, 60_000)
    };
    let first_urgent = spool.append(urgent.clone()).await.unwrap();
    while spool.append(urgent.clone()).await.is_ok() {}
    assert!(spool.usage().used_bytes <= bytes_max);
    assert!(dir_bytes(dir.path()) <= bytes_max + 4096);
    assert_eq!(
        read_all(&spool).iter().take(number as usize).count() as u64,
        number
    );
    // Settling frees space for both lanes, oldest first.
    spool.settle(spool.id(), &ranges(&format!("1-{}", number / 2)));
    spool.append(frame(number, 60_000)).await.unwrap();
    let left = numbers(&read_all(&spool));
    assert_eq!(left[0], number / 2);
    assert!(first_urgent.position().1.get() > number / 2);
}

fn dir_bytes(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn strangers_are_left_alone_and_wrong_directories_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seg-0000000000"), b"not ours").unwrap();
    let (spool, report) = Spool::open(config(dir.path()), 1).unwrap();
    assert_eq!(report.strangers, [dir.path().join("seg-0000000000")]);
    spool.append(frame(1, 10)).await.unwrap();
    assert_eq!(
        fs::read(dir.path().join("seg-0000000000")).unwrap(),
        b"not ours"
    );

    let second = Spool::open(config(dir.path()), 2).unwrap_err();
    assert!(matches!(second, SpoolError::InUse { .. }), "{second}");

    let file = dir.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let error = Spool::open(config(&file), 1).unwrap_err();
    assert!(error.to_string().contains("a-file"), "{error}");

    let small = SpoolConfig {
        dir: dir.path().join("small"),
        gateway: gateway_id(),
        bytes_max: SPOOL_BYTES_MIN - 1,
    };
    assert!(matches!(
        Spool::open(small, 1),
        Err(SpoolError::TooSmall { .. })
    ));
}

#[tokio::test]
async fn a_segment_of_a_later_version_is_neither_read_nor_touched() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    spool.append(frame(1, 10)).await.unwrap();
    close(spool);
    let path = dir.path().join("seg-0000000000");
    let mut later = fs::read(&path).unwrap();
    for copy in [0, 2048] {
        later[copy + 8] = 2;
        let crc = crc32c::crc32c(&later[copy..copy + 40]).to_le_bytes();
        later[copy + 40..copy + 44].copy_from_slice(&crc);
    }
    fs::write(&path, &later).unwrap();
    let error = Spool::open(config(dir.path()), 2).unwrap_err();
    assert!(matches!(error, SpoolError::Newer { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), later);
}

#[tokio::test]
async fn restarting_without_data_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for life in 1..=20 {
        close(tracked(dir.path(), life));
    }
    let (_, report) = Spool::open(config(dir.path()), 50).unwrap();
    assert_eq!(report.segments, 0);
    assert!(dir_bytes(dir.path()) <= 2 * 4096);
}

#[tokio::test]
async fn a_frame_that_no_commit_could_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), 1);
    assert!(spool.append(frame(1, 65_535)).await.is_ok());
    let error = spool.append(frame(2, 200_000)).await.unwrap_err();
    assert!(matches!(error, SpoolError::TooLarge { .. }), "{error}");
    assert_eq!(numbers(&read_all(&spool)), [1]);
}

#[tokio::test]
async fn a_directory_never_changes_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(gateway::spool::owner(dir.path()).unwrap(), None);
    let spool = tracked(dir.path(), 1);
    spool.append(frame(1, 10)).await.unwrap();
    close(spool);
    assert_eq!(
        gateway::spool::owner(dir.path()).unwrap(),
        Some(gateway_id())
    );
    let stranger = SpoolConfig {
        gateway: contract::GatewayId::new("other").unwrap(),
        ..config(dir.path())
    };
    let error = Spool::open(stranger, 2).unwrap_err();
    assert!(
        error.to_string().contains("gateway.id = \"test\""),
        "{error}"
    );
    assert_eq!(numbers(&read_all(&open(dir.path(), 3))), [1]);
}

/// A tracker chooses the bytes of its frames. One that is stuffed with well-formed commits for
/// every segment number must not be mistaken for the log, however the log is read or damaged.
#[tokio::test]
async fn commits_inside_a_frame_are_never_believed() {
    use gateway::spool::segment;
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    let mut forged = Vec::new();
    for number in 0..200 {
        let victim = contract::SpoolSeq::new(900 + number).unwrap();
        let guess = SpoolId::from_random(number + 2);
        segment::encode_commit(
            &mut forged,
            guess,
            number % 3,
            victim,
            [&frame(4_000_000 + number, 100)],
        );
    }
    forged.truncate(60_000);
    let mut expected = Vec::new();
    for number in 0..60u64 {
        let bytes = [&number.to_be_bytes()[..], &forged].concat();
        let append = Append {
            bytes,
            ..frame(number, 8)
        };
        spool.append(append).await.unwrap();
        expected.push(number);
    }
    for bytes_max in [1, 70_000, 300_000, 10_000_000] {
        let (mut all, mut at) = (Vec::new(), Position::default());
        loop {
            let chunk = spool.read(at, bytes_max).unwrap();
            all.extend(numbers(&chunk.stored));
            at = chunk.next;
            if chunk.at_end {
                break;
            }
        }
        assert_eq!(all, expected, "read by {bytes_max}");
    }
    close(spool);
    // Damaged in its header, the third commit is lost and nobody speaks in its place.
    let path = dir.path().join("seg-0000000000");
    let mut bytes = fs::read(&path).unwrap();
    let commit = bytes.len().min(4096 + 2 * (44 + 20 + 8 + 8 + forged.len()));
    bytes[commit + 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (spool, report) = Spool::open(config(dir.path()), 2).unwrap();
    expected.remove(2);
    assert_eq!(numbers(&read_all(&spool)), expected);
    assert_eq!((report.gaps.len(), report.gaps[0].1.first.get()), (1, 3));
}

/// What a segment lost at its end shows in where the next one begins.
#[tokio::test]
async fn a_lost_end_of_a_full_segment_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    for number in 1..=100 {
        spool.append(frame(number, 60_000)).await.unwrap();
    }
    close(spool);
    let path = dir.path().join("seg-0000000000");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    fs::write(&path, bytes).unwrap();
    let (spool, report) = Spool::open(config(dir.path()), 2).unwrap();
    let left = numbers(&read_all(&spool));
    let (_, gap) = &report.gaps[0];
    let lost: Vec<u64> = (1..=100).filter(|n| !left.contains(n)).collect();
    assert_eq!(
        (gap.first.get(), gap.last.get()),
        (lost[0], *lost.last().unwrap())
    );
    assert!(lost.len() > 20 && lost.len() as u64 == gap.last.get() - gap.first.get() + 1);
}

#[tokio::test]
async fn a_copy_of_a_segment_under_another_name_is_a_stranger() {
    let dir = tempfile::tempdir().unwrap();
    let spool = tracked(dir.path(), 1);
    spool.append(frame(1, 10)).await.unwrap();
    fs::copy(
        dir.path().join("seg-0000000000"),
        dir.path().join("seg-0000000000.bak"),
    )
    .unwrap();
    spool.append(frame(2, 10)).await.unwrap();
    close(spool);
    let (spool, report) = Spool::open(config(dir.path()), 2).unwrap();
    assert_eq!(report.strangers, [dir.path().join("seg-0000000000.bak")]);
    assert_eq!(numbers(&read_all(&spool)), [1, 2]);
}
