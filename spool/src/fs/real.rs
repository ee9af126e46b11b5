//! The spool's directory on a real file system.
//!
//! Invariant: one process at a time writes; its lock goes with the process, however it ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use thiserror::Error;

use super::{Fs, FsFile, ZEROS_AT_ONCE, write_over};

const LOCK: &str = "lock";

/// What memory, length and place of a direct write have to be multiples of: the largest block that
/// disks of boxes have (open(2), "`O_DIRECT`").
const DIRECT_ALIGN: usize = 4096;

/// Why a directory cannot be a spool.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// Make it writable for this user, or name another one.
    #[error("spool directory {} cannot be used: make it writable for this user, or change spool.dir", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Stop the other process, or give this one its own directory.
    #[error("spool {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
}

/// A directory of the real file system; clones share its lock.
#[derive(Clone, Debug)]
pub struct RealFs {
    dir: PathBuf,
    writable: bool,
    /// Held for the life of this value and its clones.
    _lock: Option<Arc<File>>,
}

impl RealFs {
    /// Makes the directory when it is missing and takes its lock.
    /// # Errors
    /// [`OpenError::Directory`], [`OpenError::InUse`].
    pub fn locked(dir: &Path) -> Result<Self, OpenError> {
        let lock = || {
            fs::create_dir_all(dir)?;
            let mut options = File::options();
            options.create(true).truncate(false).write(true);
            options.open(dir.join(LOCK))
        };
        let file = lock().map_err(|source| unusable(dir, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                writable: true,
                _lock: Some(Arc::new(file)),
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                dir: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(unusable(dir, source)),
        }
    }

    /// Looks at a spool that may be in use, without ever writing to it.
    /// # Errors
    /// [`OpenError::Directory`] when it is not there or cannot be read.
    pub fn read_only(dir: &Path) -> Result<Self, OpenError> {
        fs::read_dir(dir).map_err(|source| unusable(dir, source))?;
        Ok(Self {
            dir: dir.to_owned(),
            writable: false,
            _lock: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn may_write(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

fn unusable(dir: &Path, source: io::Error) -> OpenError {
    OpenError::Directory {
        dir: dir.to_owned(),
        source: Arc::new(source),
    }
}

fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, is_direct);
    Ok(fcntl_setfl(file, flags)?)
}

impl Fs for RealFs {
    type File = File;

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.may_write()?;
        fs::create_dir_all(self.dir.join(dir))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir.join(dir))? {
            let entry = entry?;
            // A name that is no text is none of ours.
            if let (true, Ok(name)) = (
                entry.file_type()?.is_file(),
                entry.file_name().into_string(),
            ) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.may_write()?;
        File::open(self.dir.join(dir))?.sync_all()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.may_write()?;
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        options.open(self.dir.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(self.writable);
        options.open(self.dir.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_write()?;
        fs::remove_file(self.dir.join(name))
    }
}

impl FsFile for File {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    /// Past the page cache where the file system allows it: what is filled is several times what a
    /// commit writes, and neither copying it nor keeping it serves anybody.
    fn write_zeros(&self, bytes: u64, offset: u64) -> io::Result<()> {
        let most = usize::try_from(bytes).map_or(ZEROS_AT_ONCE, |bytes| bytes.min(ZEROS_AT_ONCE));
        let zeros = vec![0; most + DIRECT_ALIGN];
        let aligned = zeros.as_ptr().align_offset(DIRECT_ALIGN);
        let zeros = zeros.get(aligned..aligned + most);
        let whole = (bytes | offset).is_multiple_of(DIRECT_ALIGN as u64);
        if let (Some(zeros), true) = (zeros, whole)
            && set_direct(self, true).is_ok()
        {
            let written = write_over(self, zeros, bytes, offset);
            set_direct(self, false)?;
            match written {
                // It took the flag and not the write; some file systems want larger blocks.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                written => return written,
            }
        }
        write_over(self, &vec![0; most], bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn zeros_stand_where_they_were_asked_for_and_nowhere_else() {
        // On a disk where there is one: a file system in memory knows no direct writes.
        for dir in [std::env::current_dir().unwrap(), std::env::temp_dir()] {
            let dir = tempfile::tempdir_in(dir).unwrap();
            let fs = RealFs::locked(dir.path()).unwrap();
            let long = 3 * ZEROS_AT_ONCE as u64;
            for (bytes, offset) in [
                (long, 0),
                (4096, 8192),
                (long + 4096, 4096),
                (5000, 0),
                (7, 4095),
            ] {
                let file = fs.create("zeros").unwrap();
                let end = usize::try_from(bytes + offset).unwrap();
                let mut wanted = vec![0xA5; end + 10];
                file.write_all_at(&wanted, 0).unwrap();
                file.write_zeros(bytes, offset).unwrap();
                wanted[usize::try_from(offset).unwrap()..end].fill(0);
                let mut found = vec![1; end + 10];
                FsFile::read_exact_at(&file, &mut found, 0).unwrap();
                assert!(found == wanted, "{bytes} from {offset} on");
                // What is written afterwards has to be a whole number of nothing.
                file.write_all_at(b"frame", 3).unwrap();
                file.sync().unwrap();
                fs.remove("zeros").unwrap();
            }
        }
    }
}
