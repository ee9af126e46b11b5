//! Files of a fixed size, zero-filled and durable before anything is put in them.
//!
//! Why: overwriting allocated blocks costs one flush and no journal entry, and a file that is
//! there is known to be there. Invariant: [`make`] returns a file only when its content, length
//! and name were all synced by this process.

use std::io::{self, ErrorKind};

use crate::fs::{Fs, FsFile};

/// Written at once.
const CHUNK_BYTES: u64 = 64 * 1024;

/// Makes `name` in `dir` (`""` for the root) anew, `bytes` zeros long. A file of that name goes:
/// it may be what an earlier process left after a sync that failed, about which no later sync
/// proves anything.
/// # Errors
/// As the file system says; the file is removed again as far as that works.
pub(crate) fn make<F: Fs>(fs: &F, dir: &str, name: &str, bytes: u64) -> io::Result<F::File> {
    match fs.remove(name) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = fs.create(name)?;
    let fill = || {
        let zeros = vec![0; usize::try_from(CHUNK_BYTES.min(bytes)).unwrap_or(0)];
        let mut done = 0;
        while done < bytes {
            let now = CHUNK_BYTES.min(bytes - done);
            file.write_all_at(&zeros[..usize::try_from(now).unwrap_or(0)], done)?;
            done += now;
        }
        file.sync()?;
        fs.sync_dir(dir)
    };
    match fill() {
        Ok(()) => Ok(file),
        Err(error) => {
            // If this fails too, whoever opens it finds nothing of ours in it and makes it anew.
            let _ = fs.remove(name);
            Err(error)
        }
    }
}
