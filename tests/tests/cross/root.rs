//! A private root that dpkg installs into: nothing of this machine's packages is touched.
//!
//! Maintainer scripts run outside of it with `DPKG_ROOT` set, so that packages for other processors can
//! be installed; dependencies are not looked at, since the root has nothing else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// The directory, removed when it is dropped.
pub(super) struct Root {
    dir: TempDir,
}

/// Runs `command` without input: whoever asks a question gets no answer.
pub(super) fn run(command: &mut Command) -> Result<Output> {
    let words = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| words.clone())?;
    ensure!(
        output.status.success(),
        "{words}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

impl Root {
    /// With an empty list of packages.
    pub(super) fn new() -> Result<Root> {
        let dir = tempfile::Builder::new()
            .prefix("milepost-root-")
            .tempdir()?;
        for directory in [
            "etc",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            std::fs::create_dir_all(dir.path().join(directory))?;
        }
        for file in [
            "var/lib/dpkg/status",
            "var/lib/dpkg/available",
            "etc/passwd",
            "etc/group",
        ] {
            std::fs::write(dir.path().join(file), "")?;
        }
        Ok(Root { dir })
    }

    /// `dpkg` with these words.
    pub(super) fn dpkg(&self, words: &[&str]) -> Result<Output> {
        let root = format!("--root={}", self.dir.path().display());
        let forced = "--force-not-root,script-chrootless,architecture,depends";
        run(Command::new("dpkg")
            .args([root.as_str(), forced, "--log=/dev/null"])
            .args(words))
    }

    /// Where a file of the installed system is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Its text.
    pub(super) fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.path(path)).with_context(|| path.to_owned())
    }

    /// Writes a file, with the directories above it.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Is there something?
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Permission bits.
    pub(super) fn mode(&self, path: &str) -> Result<u32> {
        let meta = std::fs::metadata(self.path(path)).with_context(|| path.to_owned())?;
        Ok(meta.permissions().mode() & 0o7777)
    }

    /// The root itself.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
