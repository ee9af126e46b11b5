//! Looking at a spool while it is written, when it is damaged, and after it was compacted.
#![allow(clippy::unwrap_used)]

mod kit;

use contract::{Lane, SettledRanges};
use kit::*;
use spool::CompactPolicy;
use spool::fs::RealFs;
use spool::inspect::{Damage, DamageKind, Verified, View, verify};

fn look(dir: &std::path::Path) -> View<RealFs> {
    View::open(RealFs::read_only(dir).unwrap()).unwrap()
}

fn verified(dir: &std::path::Path) -> Verified {
    verify(|| View::open(RealFs::read_only(dir).unwrap())).unwrap()
}

fn missing(damage: &Damage) -> Vec<(u64, u64)> {
    let missing = damage.missing.iter();
    missing.map(|(_, a, z)| (a.get(), z.get())).collect()
}

fn exported(view: &View<RealFs>, lane: Lane, all: bool) -> Vec<u64> {
    let mut numbers = Vec::new();
    let done = view.export(lane, all, &mut |stored| {
        numbers.push(number(&stored));
        true
    });
    done.unwrap();
    numbers
}

#[test]
fn a_running_spool_is_seen_as_it_is_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 40, 1);
    for number in 0..40 {
        let lane = if number % 4 == 0 {
            Lane::High
        } else {
            Lane::Normal
        };
        keep(&mut writer, number, lane, 100).unwrap();
    }
    let reader = writer.reader();
    let normal = read_all(&reader, Lane::Normal);
    let mut settled = SettledRanges::new();
    settled.insert(1, 10);
    reader.settle(normal[0].spool, &settled);
    reader.write_cursor().unwrap();
    let names = || {
        let names = std::fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> = names
            .map(|n| n.unwrap())
            .map(|n| (n.file_name(), n.metadata().unwrap().modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let before = names();
    let view = look(dir.path());
    let stat = view.stat();
    assert_eq!(stat.owner.unwrap().as_str(), "box-1");
    assert_eq!(stat.lanes.map(|lane| lane.envelopes), [10, 20, 0]);
    assert_eq!(stat.lanes.map(|lane| lane.records), [20, 40, 0]);
    assert_eq!(stat.lanes[0].bytes, 1000);
    assert_eq!(stat.lanes[0].oldest_received_at_ms, Some(1_700_000_000_000));
    assert_eq!(stat.lanes[2].oldest_received_at_ms, None);
    assert_eq!((stat.gaps, stat.strangers), (vec![], vec![]));
    assert!(stat.cursor_generation > 0);
    let envelopes: u64 = view.segments().iter().map(|s| s.envelopes).sum();
    let closed: u64 = view.segments().iter().map(|s| s.closed).sum();
    assert_eq!((envelopes, closed), (40, 10));
    assert_eq!(verified(dir.path()).damages, []);
    let high: Vec<u64> = (0..40).filter(|n| n % 4 == 0).collect();
    assert_eq!(exported(&view, Lane::High, false), high);
    let all: Vec<u64> = (0..40).filter(|n| n % 4 != 0).collect();
    assert_eq!(exported(&view, Lane::Normal, true), all);
    assert_eq!(exported(&view, Lane::Normal, false), all[10..]);
    assert_eq!(names(), before, "nothing was written");
    while writer.compact(CompactPolicy::default()).unwrap().is_some() {}
    let view = look(dir.path());
    assert!(view.stat().compacted > 0);
    assert_eq!(verified(dir.path()).damages, []);
    assert_eq!(exported(&view, Lane::High, false), high);
    assert_eq!(exported(&view, Lane::Normal, false), all[10..]);
}

#[test]
fn damage_is_named_by_file_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 40, 1);
    for number in 0..20 {
        keep(&mut writer, number, Lane::Normal, 100).unwrap();
    }
    drop(writer);
    let view = look(dir.path());
    let segment = view.segments().remove(0);
    let path = dir.path().join(&segment.file);
    let mut bytes = std::fs::read(&path).unwrap();
    // The third commit of the first segment; each has a block of its own.
    bytes[3 * 4096 + 60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let view = look(dir.path());
    let damages = verified(dir.path()).damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!(damages[0].file.as_ref(), Some(&segment.file));
    assert_eq!(damages[0].what, DamageKind::Commit);
    assert!(
        (2 * 4096..3 * 4096).contains(&damages[0].offset),
        "{damages:?}"
    );
    assert_eq!(missing(&damages[0]), [(3, 3)]);
    let rest: Vec<u64> = (0..20).filter(|n| *n != 2).collect();
    assert_eq!(exported(&view, Lane::Normal, false), rest);
}

#[test]
fn an_empty_directory_is_an_empty_spool() {
    let dir = tempfile::tempdir().unwrap();
    let view = look(dir.path());
    assert_eq!(view.stat().spools, []);
    assert!(view.stat().owner.is_none() && verified(dir.path()).damages.is_empty());
}

#[test]
fn damage_at_the_beginning_and_a_segment_that_is_gone_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 40, 1);
    for number in 0..20 {
        keep(&mut writer, number, Lane::Normal, 100).unwrap();
    }
    let reader = writer.reader();
    settle(&reader, read_all(&reader, Lane::Normal)[0].spool, 1, 1);
    reader.write_cursor().unwrap();
    drop((reader, writer));
    let segments = look(dir.path()).segments();
    let last = dir.path().join(&segments[segments.len() - 1].file);
    let whole = std::fs::read(&last).unwrap();
    let mut bytes = whole.clone();
    bytes[..4096].fill(7);
    std::fs::write(&last, bytes).unwrap();
    let damages = verified(dir.path()).damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!(damages[0].what, DamageKind::Beginning);
    assert_eq!(damages[0].missing, []);
    std::fs::write(&last, whole).unwrap();
    assert_eq!(verified(dir.path()).damages, []);
    let (_, from, to) = segments[0].positions[0];
    std::fs::remove_file(dir.path().join(&segments[0].file)).unwrap();
    let damages = verified(dir.path()).damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!(
        (damages[0].what.clone(), &damages[0].file),
        (DamageKind::Segment, &None)
    );
    // The first one is settled, so nobody misses it.
    assert_eq!(from.get(), 1);
    assert_eq!(missing(&damages[0]), [(2, to.get())]);
}

#[test]
fn a_spool_that_is_written_and_recycled_is_never_called_damaged() {
    const ROUNDS: u32 = 200;
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), 10, 1);
    keep(&mut writer, 0, Lane::Normal, 100).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    let (mut recycled, mut looks) = (false, 0);
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let reader = writer.reader();
            let mut number = 0;
            while !stop.load(order) {
                number += 1;
                let receipt = keep(&mut writer, number, Lane::Normal, 1500).unwrap();
                let (spool, seq) = receipt.position();
                // A few wait, so that segments hold both kinds.
                settle(&reader, spool, 1, seq.get().saturating_sub(12).max(1));
                if number % 5 == 0 {
                    reader.write_cursor().unwrap();
                }
                if number % 40 == 0 {
                    writer.compact(CompactPolicy::default()).unwrap();
                }
                writer.upkeep().unwrap();
            }
            number
        });
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while looks < ROUNDS || (!recycled && std::time::Instant::now() < until) {
            let seen = verified(dir.path());
            if !seen.damages.is_empty() || !seen.gaps.is_empty() {
                stop.store(true, order);
                panic!("{seen:?}");
            }
            recycled |= look(dir.path()).segments().iter().any(|s| s.id > 20);
            looks += 1;
        }
        stop.store(true, order);
        writes.join().unwrap();
    });
    assert!(recycled, "the writer went round the pool meanwhile");
}
