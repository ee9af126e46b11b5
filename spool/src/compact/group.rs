//! One source's envelopes as zstd blocks: cut, compressed, sealed and written one after another.
//!
//! Invariants: the order of the source is kept; positions in a block follow one another and are of
//! one spool; the last block alone bears the mark that ends the group.

use std::io;

use contract::{SpoolId, SpoolSeq};

use super::is_wanted;
use crate::Geometry;
use crate::format::commit::{self, COMMIT_HEADER_BYTES, FLAG_PANIC, RAW_BYTES_MAX};
use crate::format::{
    Commit, FLAG_LAST_OF_SOURCE, FLAG_ZSTD, HEADER_BYTES, Identity, SECTOR_BYTES, align_up,
};
use crate::fs::FsFile;
use crate::index::{Part, Segment};
use crate::walk::{Step, WINDOW_BYTES_MAX, walk};

/// See the module's header for the measurement.
const LEVEL: i32 = 3;

/// Why a group did not come to its end.
pub(super) enum Stop {
    /// The target's file is full.
    NoRoom,
    /// It does not shrink.
    NotWorth,
    /// Something that should be in the source is not.
    Damaged,
    /// The source cannot be read.
    Source(io::Error),
    /// The target cannot be written.
    Target(io::Error),
}

/// A group being written.
pub(super) struct Group<'a, File> {
    file: &'a File,
    key: SpoolId,
    id: u64,
    start: u64,
    at: u64,
    segment_bytes: u64,
    bytes_worth: u64,
    compressor: zstd::bulk::Compressor<'static>,
    /// The block being filled.
    raw: Vec<u8>,
    block: Option<Part>,
    is_panic: bool,
    sealed: Vec<u8>,
    parts: Vec<Part>,
    envelopes: u64,
}

impl<'a, File: FsFile> Group<'a, File> {
    pub(super) fn new(file: &'a File, key: SpoolId, id: u64, start: u64) -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        // No block is longer, and the memory follows the window.
        compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(17))?;
        Ok(Self {
            file,
            key,
            id,
            start,
            at: align_up(start, SECTOR_BYTES),
            segment_bytes: u64::MAX,
            bytes_worth: u64::MAX,
            compressor,
            raw: Vec::with_capacity(RAW_BYTES_MAX),
            block: None,
            is_panic: false,
            sealed: Vec::new(),
            parts: Vec::new(),
            envelopes: 0,
        })
    }

    pub(super) fn limited(self, segment_bytes: u64, bytes_worth: u64) -> Self {
        Self {
            segment_bytes,
            bytes_worth,
            ..self
        }
    }

    /// Behind the last block.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    pub(super) fn envelopes(&self) -> u64 {
        self.envelopes
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Writes everything wanted of `source`.
    pub(super) fn fill(
        &mut self,
        file: &File,
        identity: &Identity,
        source: &Segment,
        wanted: &[Part],
        geometry: &Geometry,
    ) -> Result<(), Stop> {
        let mut stopped = None;
        let mut unpacked = Vec::new();
        let visit = |_: u64, commit: &Commit<'_>| match self.take(
            commit,
            wanted,
            &mut unpacked,
            geometry.envelope_bytes_max,
        ) {
            Ok(()) => Step::On,
            Err(stop) => {
                stopped = Some(stop);
                Step::StopBefore
            }
        };
        let range = (HEADER_BYTES as u64, source.durable_bytes);
        let walked = walk(file, identity, range, WINDOW_BYTES_MAX, visit);
        if let Some(stop) = stopped {
            return Err(stop);
        }
        walked.map_err(Stop::Source)?;
        let there = self.parts.iter().chain(&self.block);
        let there: u64 = there.map(length).sum();
        if there == 0 || there != wanted.iter().map(length).sum::<u64>() {
            return Err(Stop::Damaged);
        }
        self.flush(FLAG_LAST_OF_SOURCE)
    }

    fn take(
        &mut self,
        commit: &Commit<'_>,
        wanted: &[Part],
        unpacked: &mut Vec<u8>,
        envelope_bytes_max: usize,
    ) -> Result<(), Stop> {
        let is_panic = commit.flags & FLAG_PANIC != 0;
        let raw = commit.raw(unpacked, envelope_bytes_max);
        let mut rest = raw.ok_or(Stop::Damaged)?;
        let mut seq = commit.first;
        while !rest.is_empty() {
            let (bytes, behind) = split_envelope(rest).ok_or(Stop::Damaged)?;
            if is_wanted(wanted, commit.spool, seq) {
                self.push(commit.spool, seq, is_panic, bytes)?;
            }
            (rest, seq) = (behind, seq.next());
        }
        Ok(())
    }

    fn push(
        &mut self,
        spool: SpoolId,
        seq: SpoolSeq,
        is_panic: bool,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        let goes_on = |block: &Part| {
            block.spool == spool
                && block.last.next() == seq
                && self.is_panic == is_panic
                && self.raw.len() + bytes.len() <= RAW_BYTES_MAX
        };
        match &mut self.block {
            Some(block) if goes_on(block) => block.last = seq,
            _ => {
                self.flush(0)?;
                self.is_panic = is_panic;
                self.block = Some(Part {
                    spool,
                    first: seq,
                    last: seq,
                });
            }
        }
        self.raw.extend_from_slice(bytes);
        self.envelopes += 1;
        Ok(())
    }

    /// Writes the block, when there is one.
    fn flush(&mut self, flags: u32) -> Result<(), Stop> {
        let Some(block) = self.block.take() else {
            return Ok(());
        };
        let raw_bytes = u32::try_from(self.raw.len()).expect("a block is far below 4 GiB");
        self.sealed.clear();
        self.sealed.resize(COMMIT_HEADER_BYTES, 0);
        self.sealed.extend(block.spool.as_u64().to_le_bytes());
        self.sealed.extend(raw_bytes.to_le_bytes());
        let packed = self.compressor.compress(&self.raw);
        self.sealed.extend(packed.map_err(Stop::Target)?);
        let count = u32::try_from(length(&block)).expect("a block holds fewer than it has bytes");
        let flags = flags | FLAG_ZSTD | if self.is_panic { FLAG_PANIC } else { 0 };
        let place = (self.key, self.id, block.first);
        commit::seal(&mut self.sealed, place, count, flags);
        let is_last = flags & FLAG_LAST_OF_SOURCE != 0;
        let end = self.at + self.sealed.len() as u64;
        let mark_at = align_up(end, SECTOR_BYTES);
        let end = if is_last {
            mark_at + COMMIT_HEADER_BYTES as u64
        } else {
            end
        };
        if end > self.segment_bytes {
            return Err(Stop::NoRoom);
        }
        if end - self.start > self.bytes_worth {
            return Err(Stop::NotWorth);
        }
        self.file.write_all_at(&self.sealed, self.at)?;
        if is_last {
            let mark = commit::end_mark(self.key, self.id, block.last);
            self.file.write_all_at(&mark, mark_at)?;
        }
        self.at = align_up(end, SECTOR_BYTES).min(self.segment_bytes);
        self.raw.clear();
        match self.parts.last_mut() {
            Some(last) if last.spool == block.spool && last.last.next() == block.first => {
                last.last = block.last;
            }
            _ => self.parts.push(block),
        }
        Ok(())
    }
}

fn length(part: &Part) -> u64 {
    part.last.get() - part.first.get() + 1
}

/// The first envelope with its length, and what comes after it.
fn split_envelope(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, _) = raw.split_first_chunk()?;
    let bytes = usize::try_from(u32::from_le_bytes(*bytes)).ok()?;
    raw.split_at_checked(bytes.checked_add(4)?)
}
