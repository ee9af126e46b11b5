//! The record of the slots on its partition.
//!
//! Invariant: a record that [`write()`] returned from was read back from the disk as it was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::slots::{COPY_BYTES, COPY_OFFSETS, Record, newest};

/// What the two copies say together.
/// # Errors
/// What the system says; a copy that cannot be read does not matter while the other one can.
pub fn read(path: &Path) -> io::Result<Record> {
    let file = File::open(path)?;
    let copies = COPY_OFFSETS.map(|offset| copy(&file, offset));
    match &copies {
        [Err(error), Err(_)] => Err(io::Error::new(error.kind(), error.to_string())),
        [first, second] => {
            let bytes = |copy: &io::Result<[u8; COPY_BYTES]>| {
                copy.as_ref().map_or(Vec::new(), |copy| copy.to_vec())
            };
            Ok(newest([&bytes(first), &bytes(second)]))
        }
    }
}

/// Writes the copy that is not in force, and reads it back.
/// # Errors
/// What the system says, or that something else was read.
pub fn write(path: &Path, record: &Record) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let offset = COPY_OFFSETS[record.copy()];
    file.write_all_at(&record.bytes(), offset)?;
    file.sync_all()?;
    forget(&file)?;
    if copy(&file, offset)? == record.bytes() {
        return Ok(());
    }
    Err(io::Error::other(
        "the disk does not give back what was written to it",
    ))
}

fn copy(file: &File, offset: u64) -> io::Result<[u8; COPY_BYTES]> {
    let mut bytes = [0; COPY_BYTES];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// What is read next comes from the disk, not from memory. After a sync, or it does nothing.
/// # Errors
/// What the system says.
pub fn forget(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::update::slots::Slot;

    #[test]
    fn one_copy_of_two_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert_eq!(read(&path).unwrap(), Record::default());
        let offered = Record::default().offered("2");
        write(&path, &offered).unwrap();
        let begun = offered.start().first.unwrap();
        write(&path, &begun).unwrap();
        assert_eq!(read(&path).unwrap(), begun);
        // A partition that ends early: the second copy cannot be read.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4096)
            .unwrap();
        assert_eq!(read(&path).unwrap(), begun);
        assert_eq!(read(&path).unwrap().good, Slot::A);
        std::fs::write(&path, b"").unwrap();
        assert!(read(&path).is_err());
    }
}
