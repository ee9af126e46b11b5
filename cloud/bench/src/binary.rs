//! Cloud and gateway as they are delivered, built here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::print::progress;

/// Builds them and names their directory; cargo's own progress goes to standard error.
/// # Errors
/// When cargo is missing or the build fails.
pub fn build(root: &Path) -> Result<PathBuf> {
    progress("building cloud and gateway: release (minutes when they are new)");
    let dir = root.join("target/bench");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "-p",
            "cloud",
            "-p",
            "gateway",
            "--bins",
        ])
        .arg("--target-dir")
        .arg(&dir)
        .current_dir(root)
        .status()
        .context("cargo")?;
    ensure!(status.success(), "they could not be built, see above");
    Ok(dir.join("release"))
}
