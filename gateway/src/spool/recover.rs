//! Opening after anything: which segments are there, how far each is whole, what is damaged.
//!
//! Why it never refuses to start over damage: the records behind it are acknowledged and nobody
//! else has them. Damage with whole commits behind it becomes a gap that is reported upwards; the
//! bytes stay where they are.
//!
//! Invariants: nothing is rewritten here, and nothing deleted but segments that hold a header and
//! not one byte more; a commit that was acknowledged before a power cut is found again, because
//! its CRC was synced with it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{Gap, GapReason, SpoolId, SpoolSeq};

use super::SpoolError;
use super::index::Segment;
use super::segment::{HEADER_BYTES, SegmentError, SegmentHeader};

const PREFIX: &str = "seg-";

#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    pub(crate) gaps: Vec<(SpoolId, Gap)>,
    pub(crate) strangers: Vec<PathBuf>,
    /// Segments in which nothing was ever committed.
    pub(crate) empty: Vec<PathBuf>,
}

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:010}"))
}

/// Makes the directory and takes its lock for this process.
pub(crate) fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let open = || {
        fs::create_dir_all(dir)?;
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
    };
    let unusable = |source| SpoolError::Directory {
        dir: dir.to_owned(),
        source: Arc::new(source),
    };
    let file = open().map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

pub(crate) fn scan(dir: &Path) -> Result<Recovered, SpoolError> {
    let storage = |source| SpoolError::storage(dir, source);
    let mut recovered = Recovered::default();
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(storage)? {
        let path = entry.map_err(storage)?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if name.starts_with(PREFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        // A file that cannot be read holds back nothing else; it stays where it is.
        let bytes = match read_whole(&path) {
            Ok(bytes) => bytes,
            Err(source) => {
                tracing::error!(file = %path.display(), %source, "segment cannot be read");
                recovered.strangers.push(path);
                continue;
            }
        };
        match SegmentHeader::decode(&bytes) {
            Ok(header) if segment_path(dir, header.segment) != path => {
                recovered.strangers.push(path); // a copy under another name
            }
            Ok(_) if bytes.len() == HEADER_BYTES => recovered.empty.push(path),
            Ok(header) => {
                let (segment, gaps) = walk(path, header, &bytes);
                recovered.segments.push(segment);
                recovered.gaps.extend(gaps);
            }
            Err(source @ SegmentError::NewerVersion { .. }) => {
                return Err(SpoolError::Newer { path, source });
            }
            // A crash between making the file and syncing its header: nothing was acknowledged.
            Err(_) => recovered.strangers.push(path),
        }
    }
    recovered.segments.sort_by_key(|segment| segment.number);
    let lost_between = recovered.segments.windows(2).filter_map(between);
    recovered.gaps.extend(lost_between.collect::<Vec<_>>());
    Ok(recovered)
}

/// Positions that one segment lost at its end, seen by where the next one of the opening begins.
fn between(pair: &[Segment]) -> Option<(SpoolId, Gap)> {
    let (before, after) = (&pair[0], &pair[1]);
    let expected = before.last.map_or(before.first, SpoolSeq::next);
    (before.spool == after.spool && after.first > expected)
        .then(|| (before.spool, gap(expected, after.first)))
}

/// Everything from `expected` up to, and without, `found`.
fn gap(expected: SpoolSeq, found: SpoolSeq) -> Gap {
    Gap {
        first: expected,
        last: SpoolSeq::new(found.get() - 1).unwrap_or(expected),
        records: 0,
        reason: GapReason::Corrupt,
    }
}

/// Every opening starts a segment; without this a box that only restarts would fill its spool.
pub(crate) fn drop_empty(paths: &[PathBuf]) {
    for path in paths {
        if let Err(source) = fs::remove_file(path) {
            tracing::warn!(file = %path.display(), %source, "empty segment could not be removed");
        }
    }
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Walks the commits of one segment; damage with a whole commit behind it becomes a gap.
fn walk(path: PathBuf, header: SegmentHeader, bytes: &[u8]) -> (Segment, Vec<(SpoolId, Gap)>) {
    let mut gaps = Vec::new();
    let mut expected = header.first;
    let mut last: Option<SpoolSeq> = None;
    let (mut at, mut whole) = (HEADER_BYTES, HEADER_BYTES);
    while at < bytes.len() {
        match header.commit_at(bytes, at) {
            Ok(commit) => {
                if commit.first > expected {
                    gaps.push((header.spool, gap(expected, commit.first)));
                }
                expected = expected.max(commit.last().next());
                last = last.max(Some(commit.last()));
                at += commit.len_bytes();
                whole = at;
            }
            Err(_) => match header.next_commit_from(bytes, at + 1) {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    let segment = Segment {
        number: header.segment,
        path,
        spool: header.spool,
        first: header.first,
        last,
        durable_bytes: whole as u64,
        file_bytes: bytes.len() as u64,
    };
    (segment, gaps)
}
