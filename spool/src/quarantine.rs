//! Copies of damaged segments, for whoever wants to know what happened.
//!
//! Why copies: the damaged segment itself is recycled once what is left of it was delivered.
//! Nothing depends on a copy, so everything here may fail.

use std::io;

use contract::SpoolId;

use crate::fs::{Fs, FsFile};
use crate::pool;

/// Where the copies are.
pub(crate) const DIR: &str = "quarantine";

/// More damage than this looks alike.
const COPIES_MAX: usize = 4;

const COPY_BYTES: usize = 64 * 1024;

/// Copies the file of `slot` once; answers the copy's name when one was made.
pub(crate) fn keep<F: Fs>(fs: &F, slot: u64, id: u64, key: SpoolId) -> Option<String> {
    let copy = format!("segment-{id}-{key}");
    let kept = || -> io::Result<Option<String>> {
        fs.make_dir(DIR)?;
        let there = fs.list(DIR)?;
        if there.len() >= COPIES_MAX || there.contains(&copy) {
            return Ok(None);
        }
        let name = format!("{DIR}/{copy}");
        let from = fs.open(&pool::name(slot))?;
        let to = fs.create(&name)?;
        if let Err(error) = copy_all(&from, &to) {
            drop(to);
            fs.remove(&name)?;
            return Err(error);
        }
        fs.sync_dir(DIR)?;
        Ok(Some(name))
    };
    kept().unwrap_or_else(|error| {
        tracing::warn!(slot, %error, "damaged segment could not be copied aside");
        None
    })
}

fn copy_all<File: FsFile>(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = match from.read_at(&mut buffer, at) {
            Ok(0) => return to.sync(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
}
