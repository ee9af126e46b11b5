//! A small or read-only file system for one program alone, mounted in a name space of its own.
//!
//! Why: a full disk cannot be played on the disk that everybody uses. It needs no right but that of
//! making a user name space, and is gone with the program.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Words that mount a `tmpfs` with these options (`size=24m`, `ro`) at `place` and hand over to the
/// words behind them. `place` is made if it is not there. `None` where this user may not mount.
///
/// # Errors
/// When the directory cannot be made, or its name is no UTF-8.
pub fn mounted(place: &Path, options: &str) -> Result<Option<Vec<OsString>>> {
    std::fs::create_dir_all(place)?;
    let text = place.to_str().context("a path in UTF-8")?;
    let script = format!("mount -t tmpfs -o {options} none '{text}' && exec \"$@\"");
    let words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    let tried = Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    Ok(may.then(|| words.map(OsString::from).to_vec()))
}
