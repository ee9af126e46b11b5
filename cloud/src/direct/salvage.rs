//! A spool's directory that no gateway uses: opened as its gateway would, with its lock.
//!
//! Why as a writer: only an opening recovers what the last one left in doubt, and what is committed
//! must be written down where the gateway will look for it.
//!
//! Invariants: a directory that is no spool is not made one; while another process has the lock,
//! nothing in it is touched.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use contract::GatewayId;
use spool::fs::{OpenError, RealFs};
use spool::inspect::View;
use spool::{FullPolicy, Geometry, OpenReport, Options, SpoolError, SpoolWriter};
use thiserror::Error;

/// Why a directory cannot be drained.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// Stop the gateway, or let it deliver by itself.
    #[error(
        "the spool {} is in use by {holder}\n  why  a spool has one owner, and this one sends by itself\n  do   stop it first; or leave it running, and let it deliver: set its uplink.url to unix:/path and run `cloud run --from-spool /path`",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who has its lock.
        holder: Holder,
    },
    /// Name the directory that `spool.dir` of a gateway names.
    #[error(
        "{} is no spool of a gateway\n  why  no file in it says whose it is\n  do   name the directory in spool.dir of the gateway",
        dir.display()
    )]
    NoSpool {
        /// The directory.
        dir: PathBuf,
    },
    /// Run as the user who owns the files.
    #[error("the spool {} cannot be opened: run as the user of its gateway, such as `sudo -u milepost cloud run ...`", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: OpenError,
    },
    /// As the text below says.
    #[error("the spool {} cannot be opened", dir.display())]
    Spool {
        /// The directory.
        dir: PathBuf,
        /// What is wrong and what to do.
        #[source]
        source: SpoolError,
    },
    /// Nothing can be done here.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Who has a spool's lock, as far as the system tells.
#[derive(Debug, Default)]
pub struct Holder(Option<(u32, String)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, name)) => write!(f, "process {pid} ({name})"),
            None => f.write_str("another process"),
        }
    }
}

impl Holder {
    /// Looks in the kernel's list of locks. Those of other containers are not in it.
    fn of(dir: &Path) -> Self {
        let find = || {
            let inode = fs::metadata(dir.join("lock")).ok()?.ino();
            let pid = pid_of(&fs::read_to_string("/proc/locks").ok()?, inode)?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((pid, name.trim().to_owned()))
        };
        Self(find())
    }
}

/// The process that has a lock on this inode. A line of /proc/locks, from proc(5):
/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`
fn pid_of(locks: &str, inode: u64) -> Option<u32> {
    let ending = format!(":{inode}");
    let held = locks.lines().filter(|line| !line.contains("->"));
    held.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.get(5).filter(|place| place.ends_with(&ending));
        place.and(words.get(4))?.parse().ok()
    })
    .next()
}

/// An open spool.
pub struct Salvage {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Kept as long as it is read: with it goes the lock.
    pub writer: SpoolWriter<RealFs>,
    /// What opening found.
    pub found: OpenReport,
}

impl Salvage {
    /// Takes the lock and recovers. Blocks on the disk.
    /// # Errors
    /// [`SalvageError`].
    pub fn open(dir: &Path) -> Result<Self, SalvageError> {
        let no_way = |source| SalvageError::Directory {
            dir: dir.to_owned(),
            source,
        };
        let broken = |source| SalvageError::Spool {
            dir: dir.to_owned(),
            source,
        };
        let look = RealFs::read_only(dir).map_err(no_way)?;
        let Some(gateway) = spool::owner(&look).map_err(broken)? else {
            return Err(SalvageError::NoSpool {
                dir: dir.to_owned(),
            });
        };
        let fs = RealFs::locked(dir).map_err(|error| match error {
            OpenError::InUse { dir } => SalvageError::InUse {
                holder: Holder::of(&dir),
                dir,
            },
            other => no_way(other),
        })?;
        // With the lock in hand, so that nothing moves under the view.
        let view = View::open(look).map_err(broken)?;
        let bytes = view.file_bytes();
        // The sizes its files were made with; nothing new is written but what opening must.
        let geometry = view.geometry().unwrap_or(Geometry::for_spool(bytes));
        drop(view);
        let options = Options {
            gateway: gateway.clone(),
            bytes_max: bytes.max(geometry.spool_bytes_min()),
            full: FullPolicy::Refuse,
            geometry,
        };
        let mut random = [0; 3];
        for bits in &mut random {
            *bits = getrandom::u64().map_err(SalvageError::Random)?;
        }
        let (writer, found) = SpoolWriter::open(fs, options, random).map_err(broken)?;
        Ok(Self {
            gateway,
            writer,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  READ 17 08:01:99 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 4321 08:01:5678 0 EOF\n\
            3: FLOCK  ADVISORY  WRITE 42 08:01:15678 0 EOF\n";
        assert_eq!(pid_of(locks, 5678), Some(1234));
        assert_eq!(pid_of(locks, 678), None);
        assert_eq!(pid_of("", 1), None);
    }
}
