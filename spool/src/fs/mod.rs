//! The few things the spool asks of a file system, so that a simulated one can take its place.
//!
//! Why so few: every call here is a point at which a test cuts the power. What is not in this
//! trait cannot be forgotten by the simulation.
//!
//! What the spool relies on, and a simulation must not promise more than: written bytes are
//! durable once [`FsFile::sync`] of their file returned `Ok`, with the length that reaches them;
//! a name is durable once [`Fs::sync_dir`] returned `Ok`. After a sync that failed nothing is
//! known about what was written since the last good one, and a later sync that succeeds proves
//! nothing about it (Linux reports a lost write once).

mod real;
#[cfg(feature = "sim")]
pub mod sim;

use std::io;

pub use real::{OpenError, RealFs};

/// Zeros given to the system at once.
const ZEROS_AT_ONCE: usize = 256 * 1024;

/// Writes what is in `zeros` again and again.
fn write_over<F: FsFile + ?Sized>(
    file: &F,
    zeros: &[u8],
    bytes: u64,
    offset: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        let left = usize::try_from(bytes - done).unwrap_or(usize::MAX);
        let part = &zeros[..left.min(zeros.len())];
        file.write_all_at(part, offset + done)?;
        done += part.len() as u64;
    }
    Ok(())
}

/// A directory of files. Names are relative, `"a"` or `"dir/a"`; the directory itself is `""`.
pub trait Fs: Send + Sync {
    /// An open file; closing it is dropping it.
    type File: FsFile;

    /// Makes a directory below the root; one that is there is fine. Its name is durable after
    /// `sync_dir("")`.
    /// # Errors
    /// As the system says.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Names of the plain files in `dir`, in no order.
    /// # Errors
    /// As the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in `dir` durable.
    /// # Errors
    /// As the system says; then no name made since the last good call can ever be relied on.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes a new, empty file.
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or as the system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that is there, for reading, and for writing where the file system allows it.
    /// # Errors
    /// As the system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file. The name may come back after a power cut until `sync_dir`.
    /// # Errors
    /// As the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// One file.
pub trait FsFile: Send + Sync {
    /// Its length in bytes.
    /// # Errors
    /// As the system says.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for is normal, 0 is the end of the file.
    /// # Errors
    /// As the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`; fewer bytes than given is normal.
    /// # Errors
    /// As the system says; what is on the disk then is unknown.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes zeros over `bytes` bytes from `offset` on, in a file that nobody reads meanwhile.
    /// Neither has to be a whole number of anything.
    /// # Errors
    /// As [`FsFile::write_all_at`].
    fn write_zeros(&self, bytes: u64, offset: u64) -> io::Result<()> {
        let most = usize::try_from(bytes).map_or(ZEROS_AT_ONCE, |bytes| bytes.min(ZEROS_AT_ONCE));
        let zeros = vec![0; most];
        write_over(self, &zeros, bytes, offset)
    }

    /// Makes everything written durable, and the length needed to read it (fdatasync).
    /// # Errors
    /// As the system says; then what was written since the last good sync is lost or not, and
    /// must never be relied on nor synced again.
    fn sync(&self) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes.
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before, or as the system says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until the buffer is full or the file ends; gives the bytes read.
    /// # Errors
    /// As the system says.
    fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes`.
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] when nothing more is taken, or as the system says.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
