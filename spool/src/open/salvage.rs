//! Finding the commits of a segment whose header is gone.
//!
//! Why the key must be known from elsewhere: a tracker chooses the bytes of its frames, so a
//! well-formed commit inside a frame proves nothing. The key is random and never leaves the box.

use std::collections::BTreeSet;
use std::io;

use contract::SpoolId;

use crate::Geometry;
use crate::format::envelope::Envelopes;
use crate::format::{
    Commit, FLAG_ZSTD, HEADER_BYTES, Identity, Kind, Peek, SECTOR_BYTES, SegmentHeader, commit,
};
use crate::fs::FsFile;
use crate::shared::body_bytes_max;

const WINDOW_BYTES: usize = 64 * 1024;

/// What a file without a header holds.
#[derive(Debug)]
pub(super) struct Search {
    /// What its header must have said, when a whole commit was found.
    pub(super) header: Option<SegmentHeader>,
    /// Nothing but zeros in it.
    pub(super) is_zero: bool,
    /// The beginning of a commit of ours stands in it: one that was torn before it was
    /// acknowledged, or lost with its header.
    pub(super) has_remains: bool,
}

/// Looks at every sector of `file`; of several segments' commits the latest counts.
pub(super) fn search<File: FsFile>(
    file: &File,
    file_bytes: u64,
    geometry: &Geometry,
    known: &BTreeSet<SpoolId>,
) -> io::Result<Search> {
    let mut search = Search {
        header: None,
        is_zero: true,
        has_remains: false,
    };
    let mut window = vec![0; WINDOW_BYTES];
    let mut base = 0;
    while base < file_bytes {
        let left = usize::try_from(file_bytes - base).unwrap_or(usize::MAX);
        let filled = left.min(WINDOW_BYTES);
        file.read_exact_at(&mut window[..filled], base)?;
        search.is_zero &= window[..filled].iter().all(|&byte| byte == 0);
        for (at, sector) in window[..filled].chunks(SECTOR_BYTES as usize).enumerate() {
            let offset = base + at as u64 * SECTOR_BYTES;
            let claimed = commit::claimed(sector).filter(|(key, _)| known.contains(key));
            let Some((key, segment)) = claimed.filter(|_| offset >= HEADER_BYTES as u64) else {
                continue;
            };
            search.has_remains = true;
            let identity = Identity {
                key,
                segment,
                body_bytes_max: body_bytes_max(geometry),
            };
            let better = search.header.is_none_or(|header| segment >= header.id);
            if let (true, Peek::Maybe(len)) = (better, identity.peek(sector))
                && offset + len as u64 <= file_bytes
            {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                if let Some(commit) = identity.read(&bytes).filter(|c| !c.is_end_mark()) {
                    note(&mut search.header, segment, key, &commit, geometry);
                }
            }
        }
        base += filled as u64;
    }
    Ok(search)
}

fn note(
    header: &mut Option<SegmentHeader>,
    segment: u64,
    key: SpoolId,
    commit: &Commit<'_>,
    geometry: &Geometry,
) {
    if header.is_some_and(|header| header.id == segment) {
        return; // the first commit of a segment tells everything
    }
    let mut unpacked = Vec::new();
    let raw = commit.raw(&mut unpacked, geometry.envelope_bytes_max);
    let lane = Envelopes::new(raw.unwrap_or_default(), commit.first).next();
    let Some(lane) = lane.map(|read| read.envelope.lane) else {
        return;
    };
    *header = Some(SegmentHeader {
        kind: if commit.flags & FLAG_ZSTD == 0 {
            Kind::Log
        } else {
            Kind::Compacted
        },
        lane,
        key,
        id: segment,
        order: segment,
        first: commit.first,
    });
}
