//! What the machine gives: random numbers, time, memory, files.

use std::collections::BTreeSet;

use crate::check::clock as check;
use crate::clock as wall;

const DRAWS: usize = 256;

/// A spool's index, buffers and a few thousand trackers.
const MEMORY_MIN_MIB: u64 = 32;

/// A tracker is a file; the spool, Redis and the pages need a few dozen.
const FILES_MIN: u64 = 256;

pub(super) fn random() -> Result<String, String> {
    let mut drawn = BTreeSet::new();
    for _ in 0..DRAWS {
        let number = getrandom::u64();
        drawn.insert(number.map_err(|error| format!("the system gives none: {error}"))?);
    }
    if drawn.len() < DRAWS {
        return Err(format!("only {} of {DRAWS} numbers differ", drawn.len()));
    }
    Ok(format!("{DRAWS} numbers, no two alike"))
}

pub(super) fn clock() -> Result<String, String> {
    let look = check::look(wall::now_ms(), None);
    let said: Vec<String> = look
        .findings
        .iter()
        .map(|finding| finding.what.clone())
        .collect();
    let said = said.join("; ");
    if look.has_errors() {
        Err(said)
    } else {
        Ok(said)
    }
}

pub(super) fn memory() -> Result<String, String> {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    match kib.map(|kib| kib / 1024) {
        None => Ok("the system does not tell how much there is".to_owned()),
        Some(mib) if mib < MEMORY_MIN_MIB => Err(format!(
            "{mib} MiB available, at least {MEMORY_MIN_MIB} are needed"
        )),
        Some(mib) => Ok(format!("{mib} MiB available")),
    }
}

pub(super) fn files() -> Result<String, String> {
    use rustix::process::{Resource, getrlimit};
    match getrlimit(Resource::Nofile).maximum {
        None => Ok("as many open files as wanted".to_owned()),
        Some(max) if max < FILES_MIN => Err(format!(
            "{max} open files are allowed; raise LimitNOFILE or `ulimit -Hn`"
        )),
        Some(max) => Ok(format!(
            "{max} open files are allowed: about as many trackers"
        )),
    }
}
