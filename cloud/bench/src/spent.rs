//! What the system says of a server with all its processes, and of memory at its highest.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// User and system time so far of a process, of its children, and of those it had.
/// # Errors
/// When it has ended.
pub fn family_cpu_time(pid: u32) -> Result<Duration> {
    let (_, own, gone) = stat(pid)?;
    let mut ticks = own + gone;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Whoever has ended meanwhile is among those it had.
        if let Ok((parent, own, gone)) = stat(child)
            && parent == pid
        {
            ticks += own + gone;
        }
    }
    let per_s = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_s as f64))
}

/// Parent; ticks of its own; ticks of children that have ended.
fn stat(pid: u32) -> Result<(u32, u64, u64)> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in brackets, may hold anything; then come state, parent and others, and as the 12th
    // to 15th word utime, stime, cutime and cstime.
    let (_, words) = stat.rsplit_once(") ").context(path)?;
    let words: Vec<&str> = words.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let ticks = |at| number(at).unwrap_or(0) + number(at + 1).unwrap_or(0);
    let parent = number(1).and_then(|parent| u32::try_from(parent).ok());
    Ok((parent.unwrap_or(0), ticks(11), ticks(13)))
}

/// The most memory a process ever had resident, bytes.
/// # Errors
/// When it has ended.
pub fn resident_peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context(path)? * 1024)
}
