//! Bytes that reached the block device, by its own counter.
//!
//! Why not `/proc/self/io`: it counts whole page-cache folios and over-counts small writes up to
//! two thousandfold. Why a device of our own where root may make one: everybody else on the
//! machine writes to the one that is there.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const IMAGE_BYTES: u64 = 6 << 30;

/// Where the bench works, and what lies below it.
pub struct Device {
    dir: tempfile::TempDir,
    /// The loop device that is mounted on `dir`, and its image.
    own: Option<(String, PathBuf)>,
    stat: Option<PathBuf>,
    name: String,
}

impl Device {
    /// An ext4 of our own in a file below `base`, reached with direct I/O through a loop device; or
    /// `base` itself where that may not be.
    pub fn new(base: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix("spool-bench-").tempdir_in(base)?;
        let own = match mounted(base, dir.path()) {
            Ok(own) => Some(own),
            Err(error) => {
                println!("no loop device of our own ({error:#}): working on the one that is there");
                None
            }
        };
        let sys = sys_of(dir.path())?;
        let name = fs::read_link(&sys)
            .ok()
            .and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| sys.display().to_string());
        let stat = sys.join("stat");
        Ok(Self {
            dir,
            own,
            stat: stat.exists().then_some(stat),
            name,
        })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Bytes written to the device so far; `None` where it keeps no count.
    pub fn written_bytes(&self) -> Option<u64> {
        written_by(self.stat.as_ref()?)
    }

    /// Waits until nothing is left to be written.
    pub fn settle(&self) {
        if let Ok(dir) = File::open(self.path()) {
            // What cannot be synced is counted late, no more.
            let _ = rustix::fs::syncfs(&dir);
        }
    }
}

/// Bytes written to the device below `dir` once everything is written that waits.
pub fn written_below(dir: &Path) -> Option<u64> {
    rustix::fs::syncfs(File::open(dir).ok()?).ok()?;
    written_by(&sys_of(dir).ok()?.join("stat"))
}

fn sys_of(dir: &Path) -> Result<PathBuf> {
    let id = fs::metadata(dir)?.dev();
    let (major, minor) = (rustix::fs::major(id), rustix::fs::minor(id));
    Ok(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
}

fn written_by(stat: &Path) -> Option<u64> {
    let stat = fs::read_to_string(stat).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some((device, image)) = self.own.take() {
            let _ = run("umount", &[&self.dir.path().to_string_lossy()]);
            let _ = run("losetup", &["-d", &device]);
            let _ = fs::remove_file(image);
        }
    }
}

fn mounted(base: &Path, dir: &Path) -> Result<(String, PathBuf)> {
    ensure!(rustix::process::geteuid().is_root(), "not root");
    let image = base.join("spool-bench.img");
    let _ = fs::remove_file(&image);
    File::create_new(&image)?.set_len(IMAGE_BYTES)?;
    let made = || {
        let path = image.to_string_lossy();
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &path])?;
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &path])?;
        let dir = dir.to_string_lossy();
        if let Err(error) = run("mount", &[&device, &dir]) {
            let _ = run("losetup", &["-d", &device]);
            return Err(error);
        }
        Ok(device)
    };
    match made() {
        Ok(device) => Ok((device, image)),
        Err(error) => {
            let _ = fs::remove_file(&image);
            Err(error)
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.stat, &self.own) {
            (Some(_), Some((device, _))) => {
                write!(f, "ext4 on {device}, direct I/O; bytes by that device's own counter")
            }
            (Some(stat), None) => write!(
                f,
                "{}; bytes by {} (whoever else writes there is counted too)",
                self.name,
                stat.display()
            ),
            (None, _) => write!(f, "{} keeps no count of its own", self.name),
        }
    }
}
