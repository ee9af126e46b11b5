//! Walking the commits of one segment file, a window at a time.
//!
//! Why one walk for opening, reading and counting: all three must agree on what a commit is, and
//! none may need memory that grows with the segment.
//!
//! Invariant: every visited commit passed its CRC for the segment it was asked for.

use std::io;

use crate::Geometry;
use crate::format::{Commit, Identity, Peek, SECTOR_BYTES, align_up, commit::COMMIT_HEADER_BYTES};
use crate::fs::FsFile;

/// The most that is read at once.
pub(crate) const WINDOW_BYTES_MAX: usize = 512 * 1024;

/// What to do after a commit was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on behind it.
    On,
    /// Stop behind it.
    StopBehind,
    /// Stop in front of it.
    StopBefore,
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Where to go on: behind the last commit or in front of the one that stopped the walk; the
    /// end of the range when nothing stopped it.
    pub(crate) next: u64,
    /// Behind the last commit that was passed; the start when there was none.
    pub(crate) end: u64,
    /// A place where a commit had to begin held none, and a later place did.
    pub(crate) skipped: bool,
}

/// Part of a file in memory.
struct Window {
    bytes: Vec<u8>,
    base: u64,
    filled: usize,
}

impl Window {
    /// What is in memory from `at` on.
    fn from(&self, at: u64) -> &[u8] {
        let start = at
            .checked_sub(self.base)
            .and_then(|n| usize::try_from(n).ok());
        start
            .and_then(|start| self.bytes[..self.filled].get(start..))
            .unwrap_or_default()
    }

    fn load<File: FsFile>(&mut self, file: &File, at: u64, to: u64) -> io::Result<()> {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX);
        let wanted = left.min(self.bytes.len());
        self.filled = 0;
        file.read_exact_at(&mut self.bytes[..wanted], at)?;
        (self.base, self.filled) = (at, wanted);
        Ok(())
    }
}

/// Visits every commit that begins in `from..to` of `file` and ends there, in order; damaged
/// places are stepped over sector by sector. `window_bytes` is raised to hold a largest commit.
pub(crate) fn walk<File: FsFile>(
    file: &File,
    identity: &Identity,
    range: (u64, u64),
    window_bytes: usize,
    mut visit: impl FnMut(u64, &Commit<'_>) -> Step,
) -> io::Result<Walked> {
    let visit = |at: u64, commit: &Commit<'_>| match commit.is_end_mark() {
        true => Step::On,
        false => visit(at, commit),
    };
    walk_with_marks(file, identity, range, window_bytes, visit)
}

/// The same with the marks that end a group.
pub(crate) fn walk_with_marks<File: FsFile>(
    file: &File,
    identity: &Identity,
    (from, to): (u64, u64),
    window_bytes: usize,
    mut visit: impl FnMut(u64, &Commit<'_>) -> Step,
) -> io::Result<Walked> {
    let commit_bytes_max = identity.body_bytes_max + COMMIT_HEADER_BYTES;
    let range = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut window = Window {
        bytes: vec![0; window_bytes.max(commit_bytes_max).min(range)],
        base: from,
        filled: 0,
    };
    let mut walked = Walked {
        next: to.max(from),
        end: from,
        skipped: false,
    };
    let mut at = align_up(from, SECTOR_BYTES);
    // Up to here a commit may begin without a place having been passed over.
    let mut due = align_up(at, Geometry::BLOCK_BYTES);
    while at + (COMMIT_HEADER_BYTES as u64) <= to {
        if window.from(at).len() < COMMIT_HEADER_BYTES {
            window.load(file, at, to)?;
        }
        let len = match identity.peek(window.from(at)) {
            Peek::Maybe(len) if at + len as u64 <= to => len,
            _ => {
                at += SECTOR_BYTES;
                continue;
            }
        };
        if window.from(at).len() < len {
            window.load(file, at, to)?;
        }
        let Some(commit) = identity.read(window.from(at)) else {
            at += SECTOR_BYTES;
            continue;
        };
        walked.skipped |= at > due;
        let step = visit(at, &commit);
        if step == Step::StopBefore {
            walked.next = at;
            return Ok(walked);
        }
        walked.end = at + len as u64;
        if step == Step::StopBehind {
            walked.next = walked.end;
            return Ok(walked);
        }
        at = align_up(walked.end, SECTOR_BYTES);
        due = align_up(walked.end, Geometry::BLOCK_BYTES);
    }
    Ok(walked)
}
