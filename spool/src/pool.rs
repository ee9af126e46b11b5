//! The files of the pool: made ahead, zero-filled once, given up when they cannot be trusted.
//!
//! Why zero-filled: a later commit then changes no length and no allocation, so one `fdatasync`
//! makes it durable with a single flush.
//!
//! Invariants: a file is only used when it was created, filled, synced and its name synced, all
//! without an error; a name is used once in the life of a process, because after a failed
//! directory sync nothing can be known about it any more.

use std::io;

use crate::Geometry;
use crate::fs::{Fs, FsFile};
use crate::mutant::{Mutant, active};

const PREFIX: &str = "seg-";

/// Commits that pass before a disk that refused a new file is asked again: asking costs writes.
const BACKOFF: u32 = 32;

/// The name of a slot's file.
pub(crate) fn name(slot: u64) -> String {
    format!("{PREFIX}{slot:06}")
}

/// The slot a name stands for.
pub(crate) fn slot_of(file: &str) -> Option<u64> {
    let digits = file.strip_prefix(PREFIX)?;
    let slot = digits.parse().ok()?;
    (name(slot) == file).then_some(slot)
}

#[derive(Debug)]
pub(crate) struct Pool {
    /// Ready to be written, nothing of value in them.
    free: Vec<u64>,
    /// To be removed: nothing of value in them and not to be trusted.
    doomed: Vec<u64>,
    /// Files there are, whatever is in them.
    files: u64,
    files_max: u64,
    /// Names given out for files that are filled elsewhere just now.
    filling: u64,
    next: u64,
    backoff: u32,
    segment_bytes: u64,
}

impl Pool {
    pub(crate) fn new(geometry: &Geometry, bytes_max: u64, files: u64, next: u64) -> Self {
        Self {
            free: Vec::new(),
            doomed: Vec::new(),
            files,
            files_max: bytes_max / geometry.segment_bytes,
            filling: 0,
            next,
            backoff: 0,
            segment_bytes: geometry.segment_bytes,
        }
    }

    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// A slot that was made before.
    pub(crate) fn take_free(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// Are so many files ready, or about to be?
    pub(crate) fn has_ahead(&self, count: u64) -> bool {
        self.free.len() as u64 + self.filling >= count
    }

    /// Gives a slot whose content is worth nothing back for the next segment.
    pub(crate) fn give_back(&mut self, slot: u64) {
        self.free.push(slot);
    }

    /// Takes a slot whose content is worth nothing, if it has the size of all others.
    pub(crate) fn take_in(&mut self, slot: u64, file_bytes: u64) {
        if file_bytes == self.segment_bytes {
            self.free.push(slot);
        } else {
            self.doomed.push(slot);
        }
    }

    /// Never to be written again: removed when there is time.
    pub(crate) fn doom(&mut self, slot: u64) {
        self.doomed.push(slot);
    }

    pub(crate) fn take_doomed(&mut self) -> Option<u64> {
        // The oldest: one that cannot be removed must not stand before the others for ever.
        (!self.doomed.is_empty()).then(|| self.doomed.remove(0))
    }

    /// May the pool grow by a file?
    pub(crate) fn may_make(&mut self) -> bool {
        self.backoff = self.backoff.saturating_sub(1);
        self.files + self.filling < self.files_max && self.backoff == 0
    }

    /// More files than the cap allows now?
    pub(crate) fn is_over(&self) -> bool {
        self.files > self.files_max
    }

    /// Makes one file; answers its slot and the bytes written.
    pub(crate) fn make<F: Fs>(&mut self, fs: &F) -> Result<(u64, u64), (String, io::Error)> {
        let slot = self.begin();
        let filled = fill(fs, &name(slot), self.segment_bytes, || u64::MAX);
        self.adopt(fs, slot, filled)
    }

    /// Gives out a name for a file that is to be filled.
    pub(crate) fn begin(&mut self) -> u64 {
        let slot = self.next;
        self.next += 1;
        self.filling += 1;
        slot
    }

    /// Takes a file in that was filled, or was not; answers its slot and the bytes written.
    pub(crate) fn adopt<F: Fs>(
        &mut self,
        fs: &F,
        slot: u64,
        filled: io::Result<()>,
    ) -> Result<(u64, u64), (String, io::Error)> {
        self.filling -= 1;
        let name = name(slot);
        let made = filled.and_then(|()| {
            if active(Mutant::NoDirSync) {
                return Ok(());
            }
            let synced = fs.sync_dir("");
            if active(Mutant::TrustFileOfFailedDirSync) {
                return Ok(());
            }
            synced
        });
        match made {
            Ok(()) => {
                self.files += 1;
                Ok((slot, self.segment_bytes))
            }
            Err(error) => {
                self.backoff = BACKOFF;
                // One that comes back after a power cut holds no header and is never trusted.
                let is_ours = error.kind() != io::ErrorKind::AlreadyExists;
                if is_ours && (fs.remove(&name).is_err() || fs.sync_dir("").is_err()) {
                    self.files += 1; // for all we know
                }
                Err((name, error))
            }
        }
    }

    /// Removes a slot's file. `Ok(false)`: it may come back after a power cut.
    pub(crate) fn remove<F: Fs>(&mut self, fs: &F, slot: u64) -> io::Result<bool> {
        match fs.remove(&name(slot)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let is_gone = fs.sync_dir("").is_ok();
        if is_gone {
            self.files = self.files.saturating_sub(1);
        }
        Ok(is_gone)
    }
}

/// `turn`: as in [`Filling::fill`](crate::Filling::fill).
pub(crate) fn fill<F: Fs>(
    fs: &F,
    name: &str,
    bytes: u64,
    mut turn: impl FnMut() -> u64,
) -> io::Result<()> {
    let file = fs.create(name)?;
    let mut done = 0;
    while done < bytes {
        let piece = turn().max(Geometry::BLOCK_BYTES).min(bytes - done);
        file.write_zeros(piece, done)?;
        done += piece;
    }
    turn();
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_slots() {
        assert_eq!(name(7), "seg-000007");
        assert_eq!(slot_of("seg-000007"), Some(7));
        assert_eq!(slot_of("seg-1234567"), Some(1_234_567));
        for other in ["seg-7", "seg-+00007", "seg-000007.bak", "lock", "seg-"] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }
}
