//! What the system says of a process: processor time, memory, open files.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// User and system time of a process so far.
/// # Errors
/// When it has ended.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in brackets, may hold anything; utime and stime are the 14th and 15th word.
    let (_, words) = stat.rsplit_once(") ").context(path)?;
    let ticks = words.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|word| word.parse().unwrap_or(0)).sum();
    let per_s = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_s as f64))
}

/// Resident memory of a process, bytes.
/// # Errors
/// When it has ended.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context(path)? * 1024)
}

/// Raises the limit of open files, for us and the children to come, as far as it goes; says how far
/// that is.
pub fn allow_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    match raised {
        Ok(()) => current.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Trackers that both ends of this many files have room for: one socket here, one there.
#[must_use]
pub fn trackers_within(files: u64) -> usize {
    /// Log, spool, Redis, pages.
    const OTHERS: u64 = 500;
    usize::try_from(files.saturating_sub(OTHERS)).unwrap_or(usize::MAX)
}
