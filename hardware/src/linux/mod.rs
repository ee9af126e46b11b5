//! The parts as Linux has them: files below one root directory, and two kinds of device.
//!
//! Invariant: every path goes through [`below`], so that a test has a machine of its own.

mod file;
pub(crate) mod gpio;
mod ioctl;
pub(crate) mod led;
pub(crate) mod sensors;
pub(crate) mod watchdog;

pub(crate) use file::FilePin;

use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// `path`, absolute or not, as it lies below `root`.
pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The text of a small file without the white space around it.
pub(crate) fn word(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim().to_owned())
}

/// Is the file system of `path` mounted read-only, as the system does after errors? `None` when it
/// does not tell.
#[must_use]
pub fn is_read_only(path: &Path) -> Option<bool> {
    let stat = statvfs(path).ok()?;
    Some(stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}
