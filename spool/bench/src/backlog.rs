//! Days offline: opening on a gibibyte, draining it, memory meanwhile, and how much fits.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use contract::{Lane, SettledRanges};
use spool::fs::RealFs;
use spool::{CompactPolicy, Position, SpoolReader};

use crate::device;
use crate::engines::{self, Sqlite};
use crate::fleet::{self, Fleet};
use crate::ratio;

const GIB: u64 = 1 << 30;
const BYTES_MAX: u64 = 2 * GIB;
const GROUP: usize = 512;
const DRAIN_BYTES: usize = 256 * 1024;

pub fn run(base: &Path) -> Result<()> {
    println!("\na backlog of 1 GiB of 120-byte records");
    let dir = tempfile::tempdir_in(base)?;
    let ours = dir.path().join("spool");
    let filled = child("fill", &ours)?;
    drop_caches();
    let opened = child("open", &ours)?;
    println!("opened to first durable append in {:.0} ms", opened[0] * 1e3);
    ratio("open-1gib-seconds", opened[0], "<=", 1.0);
    let drained = child("drain", &ours)?;
    let dir_sqlite = tempfile::tempdir_in(base)?;
    child("sqlite-fill", dir_sqlite.path())?;
    drop_caches();
    let sqlite = child("sqlite-drain", dir_sqlite.path())?;
    println!("drained {:.0} records/s, SQLite {:.0} records/s", drained[0], sqlite[0]);
    ratio("drain-to-sqlite", drained[0] / sqlite[0], ">=", 1.0);
    let peak = [filled[1], opened[1], drained[1]].into_iter().fold(0.0, f64::max);
    println!(
        "peak memory above an idle process, MiB: fill {:.1}, open {:.1}, drain {:.1}",
        filled[1], opened[1], drained[1]
    );
    ratio("peak-memory-mib", peak, "<=", 4.0);
    drop(dir);
    drop(dir_sqlite);

    println!("\nthe simulated fleet offline: one record a commit, then compaction");
    let dir = tempfile::tempdir_in(base)?;
    let compacted = child("compact", dir.path())?;
    let [records_per_gib, written_part, mib] = compacted[..] else {
        anyhow::bail!("compact says {compacted:?}");
    };
    println!("{:.1} million records a GiB; memory {mib:.1} MiB", records_per_gib / 1e6);
    ratio("offline-million-records-per-gib", records_per_gib / 1e6, ">=", 20.0);
    ratio("compaction-writes-to-commit-writes", written_part, "<=", 0.1);
    ratio("compaction-memory-mib", mib, "<=", 4.0);
    Ok(())
}

/// Runs one part as a process of its own; the numbers of its last line.
fn child(role: &str, dir: &Path) -> Result<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["role", role])
        .arg(dir)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{role} failed");
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().context("no result")?;
    Ok(last
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?)
}

/// Only root may; without it the reopening is measured warm, and the line says nothing else.
fn drop_caches() {
    if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        println!("caches not dropped (not root): opened warm");
    }
}

/// Most memory this process ever had, MiB.
fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no VmHWM")?
        .parse()?;
    Ok(kib / 1024.0)
}

pub fn role(role: &str, dir: &Path) -> Result<()> {
    let idle = peak_mib()?;
    match role {
        "fill" => {
            let mut writer = engines::open_ours(dir, BYTES_MAX)?;
            let groups = groups();
            let records = GIB / 160;
            for group in 0..records / GROUP as u64 {
                let group = &groups[group as usize % groups.len()];
                engines::commit_ours(&mut writer, group)?;
                while writer.upkeep()? {}
            }
            // The prepared groups are the bench's, not the spool's.
            let ours = (groups.len() * GROUP * (120 + 80)) as f64 / (1 << 20) as f64;
            println!("{records} {:.3}", peak_mib()? - idle - ours);
        }
        "open" => {
            let started = Instant::now();
            let mut writer = engines::open_ours(dir, BYTES_MAX)?;
            engines::commit_ours(&mut writer, &[fleet::blob(1, 120)])?;
            println!("{:.6} {:.3}", started.elapsed().as_secs_f64(), peak_mib()? - idle);
        }
        "drain" => {
            let writer = engines::open_ours(dir, BYTES_MAX)?;
            let started = Instant::now();
            let records = drain(&writer.reader())?;
            let seconds = started.elapsed().as_secs_f64();
            println!("{:.0} {:.3}", records as f64 / seconds, peak_mib()? - idle);
        }
        "sqlite-fill" => {
            let mut sqlite = Sqlite::new(dir)?;
            let groups = groups();
            for group in 0..GIB / 160 / GROUP as u64 {
                sqlite.commit(&groups[group as usize % groups.len()])?;
            }
            println!("0");
        }
        "sqlite-drain" => {
            let mut sqlite = Sqlite::new(dir)?;
            let started = Instant::now();
            let mut records = 0;
            loop {
                match sqlite.drain(GROUP * 4)? {
                    0 => break,
                    read => records += read,
                }
            }
            println!("{:.0}", records as f64 / started.elapsed().as_secs_f64());
        }
        "compact" => compact(dir, idle)?,
        other => anyhow::bail!("no role {other}"),
    }
    Ok(())
}

fn groups() -> Vec<Vec<spool::Append>> {
    (0..8u64)
        .map(|group| {
            (0..GROUP as u64)
                .map(|number| fleet::blob(group * GROUP as u64 + number, 120))
                .collect()
        })
        .collect()
}

/// Reads everything, settles as it goes and writes the cursor now and then.
fn drain(reader: &SpoolReader<RealFs>) -> Result<u64> {
    let mut records = 0;
    for lane in Lane::ALL {
        let mut at = Position::default();
        loop {
            let chunk = reader.read(lane, at, None, DRAIN_BYTES)?;
            records += chunk.stored.len() as u64;
            settle(reader, &chunk.stored);
            if records % (1 << 15) < 2048 {
                reader.write_cursor()?;
            }
            if chunk.at_end {
                break;
            }
            at = chunk.next;
        }
    }
    reader.write_cursor()?;
    Ok(records)
}

fn settle(reader: &SpoolReader<RealFs>, stored: &[spool::Stored]) {
    for part in stored.chunk_by(|a, b| a.spool == b.spool && a.seq.next() == b.seq) {
        let mut ranges = SettledRanges::new();
        let (first, last) = (part[0].seq.get(), part[part.len() - 1].seq.get());
        ranges.insert(first, last);
        reader.settle(part[0].spool, &ranges);
    }
}

/// Fills a part of a gibibyte with lone commits, compacts, and counts what a gibibyte would hold.
fn compact(dir: &Path, idle: f64) -> Result<()> {
    const SEGMENTS: u64 = 49;
    let start_bytes = device::written_below(dir);
    let mut writer = engines::open_ours(&dir.join("spool"), GIB)?;
    let reader = writer.reader();
    let (mut fleet, mut records, mut sealed_records) = (Fleet::new(), 0u64, 0);
    let mut segments = 0;
    while segments < SEGMENTS {
        engines::commit_ours(&mut writer, &[fleet.next_append()])?;
        let now = reader.usage().lane(Lane::Normal).segments;
        if now > segments {
            // The newest segment is being written: what it holds is not compacted.
            (segments, sealed_records) = (now, records);
        }
        records += 1;
        while writer.upkeep()? {}
    }
    let (before, commits_bytes) = (reader.usage(), device::written_below(dir));
    let (mut bytes_after, mut envelopes) = (0, 0);
    while let Some(compacted) = writer.compact(CompactPolicy::default())? {
        bytes_after += compacted.bytes_after;
        envelopes += compacted.envelopes;
    }
    ensure!(envelopes == sealed_records, "{envelopes} of {sealed_records}");
    let after_bytes = device::written_below(dir);
    // Without a counter of the device our own must do: a lone commit is a block.
    let own = (reader.usage().upkeep_bytes - before.upkeep_bytes, before.commits * 4096);
    let (written, commits) = match (start_bytes, commits_bytes, after_bytes) {
        // Zero-filling is no commit's work.
        (Some(start), Some(commits), Some(after)) => {
            (after - commits, commits - start - before.upkeep_bytes)
        }
        _ => own,
    };
    println!(
        "{:.0} {:.4} {:.3}",
        sealed_records as f64 / bytes_after as f64 * GIB as f64,
        written as f64 / commits as f64,
        peak_mib()? - idle
    );
    Ok(())
}
