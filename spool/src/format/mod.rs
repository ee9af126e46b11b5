//! Pure: no I/O, no clock.
//!
//! The bytes of a spool segment, version 1; all integers little-endian.
//!
//! ```text
//! segment  | header, one 4 KiB block              | commit … | commit … | … | zeros or stale bytes
//! header   | magic 8 | version u16 | kind u8 | lane u8 | 0 u32 | key u64 | segment id u64 | order u64 | first seq u64 | CRC32C u32 |
//!          | the same again from byte 2048 on
//! commit   | magic u32 | key u64 | segment id u64 | body bytes u32 | first seq u64 | count u32 | flags u32 | CRC32C u32 | body
//! body     | envelope × count                      in a log segment
//!          | origin spool u64 | raw bytes u32 | zstd of envelope × count      in a compacted one
//! envelope | bytes u32 | received_at_ms u64 | transport u8 | lane u8 | device kind u8 | kind u8 | record_count u32 | device | frame
//! device   | kind 0: IMEI u64    kind 1: length u16, text
//! ```
//! The key is the spool id of the opening and lane that wrote the segment. It is random and never
//! leaves the box towards a tracker, and it stands in every commit: a tracker chooses the bytes of
//! its frames, and without the key a frame stuffed with well-formed commits could speak for others
//! once damage makes us search. The segment id tells stale bytes of a recycled segment from
//! damaged ones. A commit starts on a sector, so that no sector with acknowledged data is ever
//! written again.

pub(crate) mod commit;
pub(crate) mod envelope;
pub(crate) mod header;

pub(crate) use commit::{Commit, FLAG_LAST_OF_SOURCE, FLAG_ZSTD, Identity, Peek};
pub(crate) use header::{HeaderError, Kind, SegmentHeader};

use crate::Geometry;

/// The header takes one block, so that no commit shares a block with it.
pub(crate) const HEADER_BYTES: usize = Geometry::BLOCK_BYTES as usize;

/// Where commits may begin, as an offset.
pub(crate) const SECTOR_BYTES: u64 = Geometry::SECTOR_BYTES;

/// The first offset from `offset` on that `alignment` divides.
pub(crate) const fn align_up(offset: u64, alignment: u64) -> u64 {
    offset.div_ceil(alignment) * alignment
}

/// What is left to read of some bytes.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}
