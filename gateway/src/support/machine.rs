//! What the machine is: system, kernel, processors, memory, disk, service.
//!
//! Invariant: nothing here fails; what cannot be found out is `null`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::config::ENV_PREFIX;

/// The unit of `deploy/gateway.service`.
const UNIT: &str = "milepost-gateway";

/// What of it matters; none of these holds a setting.
const UNIT_FACTS: &str = "ActiveState,SubState,Result,NRestarts,ExecMainStartTimestamp,ExecMainStatus,MemoryCurrent,MemoryMax,LimitNOFILE,WatchdogUSec,User,FragmentPath,DropInPaths";

/// The machine, and the disk under `dir`.
#[must_use]
pub fn facts(dir: &Path) -> Value {
    let kernel = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    json!({
        "system": system(),
        "kernel": format!("{} {}", text(kernel.sysname()), text(kernel.release())),
        "machine": text(kernel.machine()),
        "board": first_line("/proc/device-tree/model"),
        "processors": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "memory_bytes": of_meminfo("MemTotal:"),
        "memory_free_bytes": of_meminfo("MemAvailable:"),
        "up_s": first_line("/proc/uptime").and_then(|line| line.split('.').next()?.parse::<u64>().ok()),
        "load": first_line("/proc/loadavg"),
        "disk": disk(dir),
        "variables": variables(),
    })
}

/// What the service manager says about the gateway, one `Name=value` a line.
#[must_use]
pub fn unit() -> Option<String> {
    let shown = Command::new("systemctl")
        .args(["show", UNIT, "--no-pager", "--property", UNIT_FACTS])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    (shown.status.success() && !text.is_empty()).then_some(text)
}

fn system() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim_end_matches('\0');
    Some(line.to_owned())
}

fn of_meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Of the nearest directory that is there.
fn disk(dir: &Path) -> Value {
    let Some(dir) = dir.ancestors().find(|dir| dir.is_dir()) else {
        return Value::Null;
    };
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return Value::Null;
    };
    json!({
        "dir": dir.display().to_string(),
        "bytes": stat.f_blocks * stat.f_frsize,
        "free_bytes": stat.f_bavail * stat.f_frsize,
        "files_free": stat.f_favail,
        "mount": mount(dir),
    })
}

/// Device, place, kind and options of the mount that `dir` is on.
fn mount(dir: &Path) -> Option<String> {
    let dir = std::fs::canonicalize(dir).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let under = |line: &&str| {
        line.split(' ')
            .nth(1)
            .is_some_and(|place| dir.starts_with(place))
    };
    let place_length = |line: &&str| line.split(' ').nth(1).map_or(0, str::len);
    // Of two at one place the later one hides the earlier.
    mounts
        .lines()
        .filter(under)
        .max_by_key(place_length)
        .map(str::to_owned)
}

/// Names only: values may be secrets, and those that count are among the settings, masked.
fn variables() -> Vec<String> {
    let ours = |name: &String| {
        let prefixes = [ENV_PREFIX, "REDIS_", "LOG_", "PROD", "NO_COLOR", "TZ"];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(ours).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machine_is_found_out_and_values_of_variables_are_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let facts = facts(&dir.path().join("not/there"));
        for name in ["kernel", "machine"] {
            assert!(
                facts[name].as_str().is_some_and(|text| text.len() > 2),
                "{facts}"
            );
        }
        assert!(facts["memory_bytes"].as_u64().unwrap() > 1 << 20, "{facts}");
        assert!(
            facts["disk"]["bytes"].as_u64().unwrap() > 1 << 20,
            "{facts}"
        );
        assert_eq!(facts["disk"]["dir"], dir.path().display().to_string());
        assert!(variables().iter().all(|name| !name.contains('=')));
    }
}
