//! The gateway's hold on its spool: receipts over restarts, company in a commit, the wait between
//! two commits, and what is said when a directory cannot be had. What the log itself promises is
//! proved where it lives.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use contract::{Device, Lane, Transport};
use gateway::spool::{
    Append, FullPolicy, KeepError, OpenError, Position, Spool, SpoolConfig, SpoolError, Stored,
};

const MIB: u64 = 1 << 20;

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        dir: dir.to_owned(),
        gateway: contract::GatewayId::new("test").unwrap(),
        bytes_max: 64 * MIB,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    }
}

/// An opening's random bits; the three must differ.
fn bits(life: u64) -> [u64; 3] {
    [life * 10, life * 10 + 1, life * 10 + 2]
}

fn open(dir: &Path, life: u64) -> Spool {
    Spool::open(config(dir), bits(life)).unwrap().0
}

fn frame(number: u64, bytes: usize) -> Append {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(bytes.max(8), number as u8);
    Append {
        kind: contract::Kind::Teltonika,
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
        let chunk = spool
            .reader()
            .read(Lane::Normal, at, None, 100_000)
            .unwrap();
        all.extend(chunk.stored);
        at = chunk.next;
        if chunk.at_end {
            return all;
        }
    }
}

fn number(stored: &Stored) -> u64 {
    u64::from_be_bytes(stored.bytes[..8].try_into().unwrap())
}

/// Waits until the writer thread has let go of the directory.
fn close(spool: Spool, dir: &Path) {
    drop(spool);
    let mut options = std::fs::File::options();
    let lock = options.write(true).open(dir.join("lock")).unwrap();
    lock.lock().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_read_back_after_every_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for life in 1..=5 {
        let spool = open(dir.path(), life);
        for number in 0..100 {
            let number = life * 1000 + number;
            let receipt = spool.append(frame(number, 300)).await.unwrap();
            assert_eq!(receipt.record_count(), 2);
            expected.push(number);
        }
        let found: Vec<u64> = read_all(&spool).iter().map(number).collect();
        assert_eq!(found, expected);
        close(spool, dir.path());
    }
    let (spool, report) = Spool::open(config(dir.path()), bits(6)).unwrap();
    assert_eq!(report.backlog, 500);
    // No (spool id, position) names two frames.
    let stored = read_all(&spool);
    let names: BTreeSet<_> = stored.iter().map(|s| (s.spool, s.seq)).collect();
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
        .map(|s| (s.seq, number(s)))
        .collect();
    assert_eq!(stored, receipts);
    let commits = spool.usage().commits;
    assert!(commits < 500, "group commit: {commits} commits");
}

/// Of several groups in one commit the first would wait for its receipts until the last is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_takes_no_more_than_one_group() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        commit_interval_min: Duration::from_secs(3600),
        ..config(dir.path())
    };
    let spool = Spool::open(config, bits(1)).unwrap().0;
    spool.append(frame(0, 100)).await.unwrap();
    let appends = (1..=40).map(|number| {
        let spool = spool.clone();
        tokio::spawn(async move { spool.append(frame(number, 60_000)).await.unwrap() })
    });
    // Full groups do not wait for the hour to pass: ten of four frames each.
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    assert_eq!(spool.tail().borrow().commits, 11);
    assert_eq!(spool.usage().commits, 11, "each is one group");
}

#[tokio::test]
async fn commits_keep_their_distance_and_a_panic_record_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        commit_interval_min: Duration::from_secs(3600),
        ..config(dir.path())
    };
    let spool = Spool::open(config, bits(1)).unwrap().0;
    spool.append(frame(1, 100)).await.unwrap();
    // In the queue from its first poll on.
    let mut waits = pin!(spool.append(frame(2, 100)));
    assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
    let alarm = Append {
        panic: true,
        lane: Lane::High,
        ..frame(3, 100)
    };
    spool.append(alarm).await.unwrap();
    // What waited in the queue before it went with it: one more group, not an hour later.
    waits.await.unwrap();
    assert_eq!(spool.tail().borrow().commits, 2);
    assert_eq!(spool.tail().borrow().panics, 1);
}

#[tokio::test]
async fn what_cannot_be_kept_is_said_and_the_next_frame_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), 1);
    let refused = spool.append(frame(1, 300_000)).await;
    assert!(matches!(
        refused,
        Err(KeepError::Spool(SpoolError::TooLarge { .. }))
    ));
    spool.append(frame(2, 100)).await.unwrap();
    assert_eq!(read_all(&spool).iter().map(number).collect::<Vec<_>>(), [2]);
    assert!(!spool.has_failed());
}

#[tokio::test]
async fn a_directory_that_cannot_be_had_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = open(dir.path(), 1);
    let second = Spool::open(config(dir.path()), bits(2)).err().unwrap();
    assert!(matches!(
        second,
        OpenError::Dir(spool::fs::OpenError::InUse { .. })
    ));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let in_a_file = Spool::open(config(&file), bits(2)).err().unwrap();
    assert!(in_a_file.to_string().contains("change spool.dir"));
    let other = tempfile::tempdir().unwrap();
    let small = SpoolConfig {
        bytes_max: MIB,
        ..config(other.path())
    };
    let small = Spool::open(small, bits(2)).err().unwrap();
    assert!(gateway::chain::chain(&small).contains("spool.bytes_max is 1048576"));
}
