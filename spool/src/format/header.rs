//! Pure: no I/O, no clock.
//!
//! The first block of a segment: who wrote it, in which lane, from which position on.
//!
//! Invariants: the checksum is judged before the version, so that a flipped bit is damage and not
//! a later version; when the two copies differ, the higher segment id is the truth, because a
//! segment is only taken for new data when everything in it was closed before.

use contract::{Lane, SpoolId, SpoolSeq};
use thiserror::Error;

use super::{Cursor, HEADER_BYTES};

const MAGIC: [u8; 8] = *b"MPSEGMT1";

/// The format this build writes and reads.
pub(crate) const VERSION: u16 = 1;

/// Where the second copy stands: in another sector than the first.
pub(crate) const COPY_AT: usize = 2048;

/// Bytes of one copy with its CRC.
pub(crate) const COPY_BYTES: usize = 52;

const CRC_AT: usize = COPY_BYTES - 4;

/// How the commits of a segment are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As they came.
    Log,
    /// Content of earlier segments, compressed.
    Compacted,
    /// Nothing in it counts: its content stands in a compacted segment.
    Free,
}

impl Kind {
    pub(crate) const fn as_u8(self) -> u8 {
        match self {
            Self::Log => 0,
            Self::Compacted => 1,
            Self::Free => 2,
        }
    }

    const fn from_u8(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Log),
            1 => Some(Self::Compacted),
            2 => Some(Self::Free),
            _ => None,
        }
    }
}

/// Why a block is no header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum HeaderError {
    /// Nothing but zeros: made and never used, or its header never reached the disk.
    #[error("segment header is empty")]
    Zero,
    /// Written by a later version: start that version.
    #[error("segment format version {version}; this build reads version {VERSION}")]
    Newer { version: u16 },
    /// Neither copy can be read: search the commits, or leave the file alone.
    #[error("segment header is damaged")]
    Damaged,
}

/// What stands in the first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) kind: Kind,
    pub(crate) lane: Lane,
    /// The opening and lane that wrote it.
    pub(crate) key: SpoolId,
    /// Grows with every segment begun, over all lanes and openings.
    pub(crate) id: u64,
    /// Of a log: its place among the segments of its key, which is its own id, or the place of the
    /// segment whose last commit it repeats. Of a compacted segment: its place in the order of its
    /// lane, which is that of the first segment it took the content of.
    pub(crate) order: u64,
    /// First position it may hold.
    pub(crate) first: SpoolSeq,
}

impl SegmentHeader {
    /// Appends the whole block.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let copy = self.encode_copy();
        out.extend(copy);
        out.resize(start + COPY_AT, 0);
        out.extend(copy);
        out.resize(start + HEADER_BYTES, 0);
    }

    /// One copy.
    pub(crate) fn encode_copy(&self) -> [u8; COPY_BYTES] {
        let mut copy = [0; COPY_BYTES];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&VERSION.to_le_bytes());
        copy[10] = self.kind.as_u8();
        copy[11] = self.lane.as_u8();
        copy[16..24].copy_from_slice(&self.key.as_u64().to_le_bytes());
        copy[24..32].copy_from_slice(&self.id.to_le_bytes());
        copy[32..40].copy_from_slice(&self.order.to_le_bytes());
        copy[40..48].copy_from_slice(&self.first.get().to_le_bytes());
        let crc = crc32c::crc32c(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        copy
    }

    /// Reads the first block of a segment; a shorter one is judged as far as it goes.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        let first = Self::decode_copy(block);
        let second = Self::decode_copy(block.get(COPY_AT..).unwrap_or_default());
        match (first, second) {
            (Ok(a), Ok(b)) => Ok(if b.id > a.id { b } else { a }),
            (Ok(header), _) | (_, Ok(header)) => Ok(header),
            (Err(HeaderError::Newer { version }), _) | (_, Err(HeaderError::Newer { version })) => {
                Err(HeaderError::Newer { version })
            }
            _ if block.iter().all(|&byte| byte == 0) => Err(HeaderError::Zero),
            _ => Err(HeaderError::Damaged),
        }
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, HeaderError> {
        let copy = bytes.get(..COPY_BYTES).ok_or(HeaderError::Damaged)?;
        let stated = u32::from_le_bytes([copy[48], copy[49], copy[50], copy[51]]);
        if copy[..8] != MAGIC || stated != crc32c::crc32c(&copy[..CRC_AT]) {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([copy[8], copy[9]]);
        if version > VERSION {
            return Err(HeaderError::Newer { version });
        }
        Self::decode_fields(copy).ok_or(HeaderError::Damaged)
    }

    fn decode_fields(copy: &[u8]) -> Option<Self> {
        let mut rest = Cursor(&copy[16..CRC_AT]);
        Some(Self {
            kind: Kind::from_u8(copy[10])?,
            lane: Lane::from_u8(copy[11]),
            key: SpoolId::from_u64(rest.u64()?).ok()?,
            id: rest.u64()?,
            order: rest.u64()?,
            first: SpoolSeq::new(rest.u64()?).ok()?,
        })
    }
}

/// Does this block, which holds no header, look as if one of ours had been there?
pub(crate) fn is_ours(block: &[u8]) -> bool {
    let copies = [0, COPY_AT].into_iter();
    let mut starts = copies.map(|at| block.get(at..at + MAGIC.len()));
    starts.any(|start| start == Some(&MAGIC))
}

/// Was this first block, which holds no header, never written whole? Then one of its copies is
/// missing or breaks off before its checksum.
pub(crate) fn was_never_whole(block: &[u8]) -> bool {
    if block.len() < HEADER_BYTES {
        // Cut while it was filled: zeros, as far as the disk got.
        let start = block.get(..COPY_BYTES);
        return start.is_some_and(|start| start.iter().all(|&byte| byte == 0));
    }
    [0, COPY_AT].into_iter().any(|at| {
        let copy = block.get(at..at + COPY_BYTES).unwrap_or_default();
        let is_begun = copy
            .iter()
            .zip(MAGIC)
            .all(|(&byte, m)| byte == m || byte == 0);
        is_begun && copy.get(CRC_AT..).is_none_or(|crc| crc == [0; 4])
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(id: u64) -> SegmentHeader {
        SegmentHeader {
            kind: Kind::Log,
            lane: Lane::Bulk,
            key: SpoolId::from_random(9),
            id,
            order: id,
            first: SpoolSeq::new(77).unwrap(),
        }
    }

    fn block(header: &SegmentHeader) -> Vec<u8> {
        let mut out = Vec::new();
        header.encode(&mut out);
        out
    }

    #[test]
    fn a_header_survives_every_single_flipped_bit() {
        let header = header(3);
        let block = block(&header);
        assert_eq!(block.len(), HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Ok(header), "bit {bit}");
        }
    }

    #[test]
    fn a_half_written_header_is_the_newer_one() {
        let (old, new) = (block(&header(3)), block(&header(8)));
        let mut torn = old.clone();
        torn[COPY_AT..].copy_from_slice(&new[COPY_AT..]);
        assert_eq!(SegmentHeader::decode(&torn).unwrap().id, 8);
        let mut torn = new.clone();
        torn[COPY_AT..].copy_from_slice(&old[COPY_AT..]);
        assert_eq!(SegmentHeader::decode(&torn).unwrap().id, 8);
    }

    #[test]
    fn zeros_damage_and_a_later_version_are_told_apart() {
        assert_eq!(
            SegmentHeader::decode(&[0; HEADER_BYTES]),
            Err(HeaderError::Zero)
        );
        let mut both = block(&header(3));
        both[20] ^= 1;
        both[COPY_AT + 20] ^= 1;
        assert_eq!(SegmentHeader::decode(&both), Err(HeaderError::Damaged));
        assert_eq!(
            SegmentHeader::decode(&both[..30]),
            Err(HeaderError::Damaged)
        );
        let mut later = block(&header(3));
        for at in [0, COPY_AT] {
            later[at + 8] = 2;
            let crc = crc32c::crc32c(&later[at..at + CRC_AT]);
            later[at + CRC_AT..at + COPY_BYTES].copy_from_slice(&crc.to_le_bytes());
        }
        assert_eq!(
            SegmentHeader::decode(&later),
            Err(HeaderError::Newer { version: 2 })
        );
    }
}
