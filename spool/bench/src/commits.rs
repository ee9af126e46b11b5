//! One commit after the other: time, flushes and bytes on the device.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use spool::Append;

use crate::device::Device;
use crate::engines::{self, Raw, Sqlite};
use crate::{fleet, ratio};

const CASES: [(usize, usize); 5] = [(120, 1), (120, 32), (120, 512), (1200, 1), (1200, 32)];
const ROUNDS: usize = 300;
/// Commits of one engine alone, for the device's byte counter.
const COUNTED: usize = 400;
const MIB: u64 = 1 << 20;

pub fn run(dir: &Path, device: &Device) -> Result<()> {
    println!("\nbytes x batch |  raw p50 µs | ours p50 µs | sqlite p50 | ours/raw | rec/s ours | flushes (with upkeep) | device bytes/payload: raw, ours, sqlite");
    for (bytes, batch) in CASES {
        case(dir, device, bytes, batch)?;
    }
    Ok(())
}

fn case(base: &Path, device: &Device, bytes: usize, batch: usize) -> Result<()> {
    let dir = tempfile::tempdir_in(base)?;
    let (raw_dir, sqlite_dir) = (dir.path().join("r"), dir.path().join("s"));
    std::fs::create_dir(&raw_dir)?;
    std::fs::create_dir(&sqlite_dir)?;
    let mut raw = Raw::new(&raw_dir, 256 * MIB)?;
    let mut ours = engines::open_ours(&dir.path().join("spool"), 1024 * MIB)?;
    let mut sqlite = Sqlite::new(&sqlite_dir)?;
    let groups: Vec<Vec<Append>> = (0..16u64)
        .map(|group| {
            let numbers = group * batch as u64..(group + 1) * batch as u64;
            numbers.map(|number| fleet::blob(number, bytes)).collect()
        })
        .collect();
    let mut times: [Vec<Duration>; 3] = Default::default();
    let before = ours.reader().usage();
    for round in 0..ROUNDS {
        let group = &groups[round % groups.len()];
        // Whoever goes first differs, so that no engine always follows the same other.
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let started = Instant::now();
            match which {
                0 => raw.commit(group)?,
                1 => engines::commit_ours(&mut ours, group)?,
                _ => sqlite.commit(group)?,
            }
            times[which].push(started.elapsed());
        }
        while ours.upkeep()? {}
    }
    let after = ours.reader().usage();
    let commits = (after.commits - before.commits) as f64;
    let flushes = (after.commit_syncs - before.commit_syncs) as f64 / commits;
    let all_flushes = (after.syncs - before.syncs) as f64 / commits;
    let [raw_us, ours_us, sqlite_us] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    });
    let payload = (bytes * batch * COUNTED) as f64;
    let counted = |commit: &mut dyn FnMut(&[Append]) -> Result<()>| -> Result<Option<f64>> {
        device.settle();
        let from = device.written_bytes();
        for round in 0..COUNTED {
            commit(&groups[round % groups.len()])?;
        }
        device.settle();
        let to = device.written_bytes();
        Ok(from.zip(to).map(|(from, to)| (to - from) as f64))
    };
    let raw_bytes = counted(&mut |group| raw.commit(group))?;
    let ours_bytes = counted(&mut |group| engines::commit_ours(&mut ours, group))?;
    let sqlite_bytes = counted(&mut |group| sqlite.commit(group))?;
    let per = |written: Option<f64>| {
        written.map_or_else(|| "?".to_owned(), |w| format!("{:.2}", w / payload))
    };
    println!(
        "{bytes:>6} x {batch:<4} | {raw_us:>10.0} | {ours_us:>11.0} | {sqlite_us:>10.0} | {:>8.3} | {:>10.0} | {flushes:>7.3} ({all_flushes:.3}) | {}, {}, {}",
        ours_us / raw_us,
        batch as f64 / ours_us * 1e6,
        per(raw_bytes),
        per(ours_bytes),
        per(sqlite_bytes),
    );
    let name = format!("{bytes}x{batch}");
    ratio(&format!("commit-p50-to-raw-{name}"), ours_us / raw_us, "<=", 1.15);
    ratio(&format!("flushes-per-commit-{name}"), flushes, "<=", 1.0);
    if let (1, Some(written)) = (batch, ours_bytes) {
        let kib = written / COUNTED as f64 / 1024.0;
        ratio(&format!("device-kib-per-commit-{name}"), kib, "<=", 4.3);
    }
    Ok(())
}
