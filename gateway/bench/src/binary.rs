//! The gateway as it is delivered: one static, stripped binary, built here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::print::progress;

/// Builds it and says where it is; cargo's own progress goes to standard error.
/// # Errors
/// When cargo is missing or the build fails.
pub fn build(root: &Path) -> Result<PathBuf> {
    let target = host()?;
    progress(&format!(
        "building the gateway: release, static, {target} (minutes when it is new)"
    ));
    let dir = root.join("target/bench");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "-p",
            "gateway",
            "--bin",
            "gateway",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(root)
        .status()
        .context("cargo")?;
    ensure!(
        status.success(),
        "the gateway could not be built, see above"
    );
    Ok(dir.join(target).join("release/gateway"))
}

/// The target triple of this machine, as the compiler calls it.
fn host() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let said = String::from_utf8(said.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
