//! Pure: no I/O, no clock.
//!
//! The bytes of one cursor slot.
//!
//! ```text
//! slot   | magic 8 | version u16 | flags u16 | body bytes u32 | generation u64 | kept u64 × 2 | CRC32C u32 | body | zeros
//! body   | entries u32 | entry …
//! entry  | spool id u64 | tail u64 | ranges u16 | (first u64, last u64) … | gaps u16 | gap …
//! gap    | first u64 | last u64 | records u64 | reason u8 (0 dropped, 1 corrupt, 2 other: length u16, text)
//! ```
//! All integers little-endian. The CRC covers everything before it and the body, so that neither a
//! torn slot nor one left of an older generation's tail is believed.
//!
//! Invariant: [`decode`] gives back exactly what [`encode`] was given, or nothing.

use std::collections::BTreeMap;

use contract::{Gap, GapReason, SettledRanges, SpoolId, SpoolSeq};

use super::{CursorEntry, CursorState};

/// Bytes of a slot before its body.
pub(crate) const HEADER_BYTES: usize = 44;

const MAGIC: [u8; 8] = *b"MPCURSR1";
const VERSION: u16 = 1;
const CRC_AT: usize = HEADER_BYTES - 4;

/// Written by a process that does not know yet whether the slot it read at its start is durable.
const FLAG_OPENING: u16 = 1;

/// What a slot says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotHeader {
    /// Grows with every attempt to write, successful or not. From 1.
    pub(crate) generation: u64,
    /// The generations that must outlive this slot's write: whoever finds this slot newest cannot
    /// know that it is durable, but one of these is. 0 = none.
    pub(crate) kept: [u64; 2],
    /// Nothing was done yet in the belief that this slot is durable.
    pub(crate) opening: bool,
}

/// Puts a whole slot in `out`, without padding.
pub(crate) fn encode(out: &mut Vec<u8>, header: SlotHeader, state: &CursorState) {
    out.clear();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    let flags = if header.opening { FLAG_OPENING } else { 0 };
    out.extend(flags.to_le_bytes());
    out.extend([0; 4]);
    out.extend(header.generation.to_le_bytes());
    out.extend(header.kept[0].to_le_bytes());
    out.extend(header.kept[1].to_le_bytes());
    out.extend([0; 4]);
    encode_body(out, state);
    let body_bytes = out.len() - HEADER_BYTES;
    let body_bytes = u32::try_from(body_bytes).expect("a cursor is far below 4 GiB");
    out[12..16].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = crc(out);
    out[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn encode_body(out: &mut Vec<u8>, state: &CursorState) {
    let entries = u32::try_from(state.entries.len()).unwrap_or(u32::MAX);
    out.extend(entries.to_le_bytes());
    for (spool, entry) in &state.entries {
        out.extend(spool.as_u64().to_le_bytes());
        out.extend(entry.tail.to_le_bytes());
        // More than a u16 counts is more than a slot holds: the caller refuses by length.
        let ranges = entry.settled.as_slice();
        out.extend(
            u16::try_from(ranges.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        for (first, last) in ranges {
            out.extend(first.to_le_bytes());
            out.extend(last.to_le_bytes());
        }
        let gaps = u16::try_from(entry.gaps.len()).unwrap_or(u16::MAX);
        out.extend(gaps.to_le_bytes());
        entry.gaps.iter().for_each(|gap| encode_gap(out, gap));
    }
}

fn encode_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.extend(gap.first.get().to_le_bytes());
    out.extend(gap.last.get().to_le_bytes());
    out.extend(gap.records.to_le_bytes());
    match &gap.reason {
        GapReason::Dropped => out.push(0),
        GapReason::Corrupt => out.push(1),
        GapReason::Other(word) => {
            out.push(2);
            let bytes = u16::try_from(word.len()).unwrap_or(u16::MAX);
            out.extend(bytes.to_le_bytes());
            out.extend(word.as_bytes());
        }
    }
}

/// Bytes the slot at the start of `block` says it has, before its checksum is looked at.
pub(crate) fn stated_bytes(block: &[u8]) -> usize {
    let ours = block.starts_with(&MAGIC);
    let body = block.get(12..16).and_then(|bytes| bytes.try_into().ok());
    match body.map(u32::from_le_bytes) {
        Some(bytes) if ours => HEADER_BYTES.saturating_add(bytes as usize),
        _ => 0,
    }
}

/// Reads a slot; `None` for anything but a whole one of this version.
pub(crate) fn decode(slot: &[u8]) -> Option<(SlotHeader, CursorState)> {
    let mut reader = Reader(slot);
    let magic: [u8; 8] = reader.array()?;
    let version = reader.u16()?;
    let flags = reader.u16()?;
    let body_bytes = reader.u32()? as usize;
    let header = SlotHeader {
        generation: reader.u64()?,
        kept: [reader.u64()?, reader.u64()?],
        opening: flags & FLAG_OPENING != 0,
    };
    let stated = reader.u32()?;
    let whole = slot.get(..HEADER_BYTES.checked_add(body_bytes)?)?;
    if magic != MAGIC || stated != crc(whole) || version != VERSION {
        return None;
    }
    Some((header, decode_body(&whole[HEADER_BYTES..])?))
}

fn decode_body(body: &[u8]) -> Option<CursorState> {
    let mut reader = Reader(body);
    let mut entries = BTreeMap::new();
    for _ in 0..reader.u32()? {
        let spool = SpoolId::from_u64(reader.u64()?).ok()?;
        let tail = reader.u64()?;
        let mut settled = SettledRanges::new();
        for _ in 0..reader.u16()? {
            settled.insert(reader.u64()?, reader.u64()?);
        }
        let mut gaps = Vec::new();
        for _ in 0..reader.u16()? {
            gaps.push(reader.gap()?);
        }
        let entry = CursorEntry {
            tail,
            settled,
            gaps,
        };
        entries.insert(spool, entry);
    }
    reader.0.is_empty().then_some(CursorState { entries })
}

fn crc(slot: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&slot[..CRC_AT]);
    crc32c::crc32c_append(crc, &slot[HEADER_BYTES..])
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn gap(&mut self) -> Option<Gap> {
        let first = SpoolSeq::new(self.u64()?).ok()?;
        let last = SpoolSeq::new(self.u64()?).ok()?;
        let records = self.u64()?;
        let reason = match self.array()? {
            [0] => GapReason::Dropped,
            [1] => GapReason::Corrupt,
            [2] => {
                let bytes = self.u16()?;
                let word = std::str::from_utf8(self.take(usize::from(bytes))?).ok()?;
                GapReason::Other(word.to_owned())
            }
            _ => return None,
        };
        Some(Gap {
            first,
            last,
            records,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{gap, state};
    use super::*;

    const HEADER: SlotHeader = SlotHeader {
        generation: 7,
        kept: [5, 6],
        opening: true,
    };

    #[test]
    fn what_goes_in_comes_out() {
        let mut full = state(&[(1, 90, "1-5,9-9"), (2, 0, ""), (u64::MAX, 1 << 60, "4-4")]);
        let entry = full.entries.values_mut().next().unwrap();
        entry.gaps = vec![
            gap(6, 8, 30, GapReason::Dropped),
            gap(20, 20, 0, GapReason::Corrupt),
            gap(
                21,
                1 << 61,
                1 << 40,
                GapReason::Other("of-a-later-version".into()),
            ),
            gap(1, 1, 0, GapReason::Other(String::new())),
            // Not what a text would give back, so not a text.
            gap(2, 2, 0, GapReason::Other("dropped".into())),
        ];
        for state in [CursorState::default(), full] {
            for opening in [false, true] {
                let header = SlotHeader { opening, ..HEADER };
                let mut bytes = vec![9; 3];
                encode(&mut bytes, header, &state);
                assert_eq!(decode(&bytes), Some((header, state.clone())));
                bytes.extend([0xa5; 300]);
                assert_eq!(decode(&bytes), Some((header, state.clone())), "old tail");
            }
        }
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes() {
        let mut state = state(&[(1, 90, "1-5,9-9"), (2, 3, "")]);
        state.entries.values_mut().next().unwrap().gaps =
            vec![gap(6, 8, 30, GapReason::Other("why".into()))];
        let mut bytes = Vec::new();
        encode(&mut bytes, HEADER, &state);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(decode(&[0; 4096]), None);
        assert!(decode(&bytes).is_some());
    }

    #[test]
    fn another_version_is_not_guessed_at() {
        let mut bytes = Vec::new();
        encode(&mut bytes, HEADER, &CursorState::default());
        bytes[8] = 2;
        let crc = crc(&bytes);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes), None);
    }
}
