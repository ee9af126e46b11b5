//! Pure: no I/O, no clock.
//!
//! One group commit as it stands on disk.
//!
//! Invariant: a [`Commit`] is only made when its CRC holds for the key and the segment id it was
//! asked for, so neither a stale block of another segment nor a moved one becomes one. The CRC
//! covers everything after the magic but itself.

use contract::{SpoolId, SpoolSeq};

use super::{Cursor, envelope};
use crate::Append;
use crate::mutant::{Mutant, active};

/// Bytes of a commit before its body.
pub(crate) const COMMIT_HEADER_BYTES: usize = 44;

/// The commit holds a record of priority Panic.
pub(crate) const FLAG_PANIC: u32 = 1;
/// The body is compressed and names the spool it came from.
pub(crate) const FLAG_ZSTD: u32 = 2;
/// The last block that one compacted segment gave: the source is whole up to here.
pub(crate) const FLAG_LAST_OF_SOURCE: u32 = 4;
/// Holds nothing: stands behind the last block of a group and says the same as its flag, so that
/// damage to that block costs the block and not the group.
pub(crate) const FLAG_END_MARK: u32 = 8;

/// Bytes before the zstd frame in a compressed body.
pub(crate) const ORIGIN_BYTES: usize = 12;

/// Largest uncompressed block but for a single larger envelope.
pub(crate) const RAW_BYTES_MAX: usize = 128 * 1024;

const MAGIC: [u8; 4] = *b"MPc1";
const CRC_AT: usize = 40;

/// What a commit must carry to belong to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) key: SpoolId,
    pub(crate) segment: u64,
    /// Largest body that is believed before the CRC is known.
    pub(crate) body_bytes_max: usize,
}

/// What the first bytes at a place say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// No commit of this segment begins here.
    No,
    /// One may: it takes this many bytes, header included.
    Maybe(usize),
}

/// One group commit, its CRC checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) first: SpoolSeq,
    pub(crate) last: SpoolSeq,
    pub(crate) flags: u32,
    /// Of a compressed commit: the spool its positions belong to. Otherwise the key.
    pub(crate) spool: SpoolId,
    body: &'a [u8],
}

/// The key and segment id that stand at the start of `bytes`, when the magic does; no proof.
pub(crate) fn claimed(bytes: &[u8]) -> Option<(SpoolId, u64)> {
    let mut cursor = Cursor(bytes);
    (cursor.array()? == MAGIC).then_some(())?;
    Some((SpoolId::from_u64(cursor.u64()?).ok()?, cursor.u64()?))
}

impl Identity {
    /// Judges at least [`COMMIT_HEADER_BYTES`] bytes without the body.
    pub(crate) fn peek(&self, bytes: &[u8]) -> Peek {
        let body_bytes = || {
            let mut cursor = Cursor(bytes);
            (cursor.array()? == MAGIC
                && cursor.u64()? == self.key.as_u64()
                && cursor.u64()? == self.segment)
                .then_some(())?;
            let body_bytes = usize::try_from(cursor.u32()?).ok()?;
            (bytes.len() >= COMMIT_HEADER_BYTES && body_bytes <= self.body_bytes_max)
                .then_some(body_bytes)
        };
        body_bytes().map_or(Peek::No, |body| Peek::Maybe(COMMIT_HEADER_BYTES + body))
    }

    /// The commit at the start of `bytes`, which holds all of it.
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Option<Commit<'a>> {
        let Peek::Maybe(len) = self.peek(bytes) else {
            return None;
        };
        let commit = bytes.get(..len)?;
        let mut cursor = Cursor(&commit[24..]);
        let first = SpoolSeq::new(cursor.u64()?).ok()?;
        let count = cursor.u32()?;
        let flags = cursor.u32()?;
        let crc = cursor.u32()?;
        if count == 0 || (crc != crc_of(commit) && !active(Mutant::NoCrc)) {
            return None;
        }
        let last = first.get().checked_add(u64::from(count) - 1)?;
        let body = &commit[COMMIT_HEADER_BYTES..];
        let spool = if flags & FLAG_ZSTD == 0 {
            self.key
        } else {
            SpoolId::from_u64(Cursor(body).u64()?).ok()?
        };
        Some(Commit {
            first,
            last: SpoolSeq::new(last).ok()?,
            flags,
            spool,
            body,
        })
    }
}

impl<'a> Commit<'a> {
    /// Does it only say that a group ends here?
    pub(crate) fn is_end_mark(&self) -> bool {
        self.flags & FLAG_END_MARK != 0
    }

    /// Bytes on disk.
    pub(crate) fn len_bytes(&self) -> usize {
        COMMIT_HEADER_BYTES + self.body.len()
    }

    /// The envelopes' bytes, uncompressed into `raw` where needed; `None` when they are not what
    /// the CRC says they should be: our own bug.
    pub(crate) fn raw<'b>(
        &self,
        raw: &'b mut Vec<u8>,
        envelope_bytes_max: usize,
    ) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        if self.flags & FLAG_ZSTD == 0 {
            return Some(self.body);
        }
        let mut cursor = Cursor(self.body);
        let (_, raw_bytes) = (cursor.u64()?, usize::try_from(cursor.u32()?).ok()?);
        if raw_bytes > RAW_BYTES_MAX.max(envelope_bytes_max) {
            return None;
        }
        raw.clear();
        raw.reserve_exact(raw_bytes);
        let unpacked = zstd::bulk::decompress(cursor.0, raw_bytes).ok()?;
        *raw = unpacked;
        (raw.len() == raw_bytes).then_some(raw.as_slice())
    }
}

/// Appends one log commit to `out`; answers how many bytes it took.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    (key, segment, first): (SpoolId, u64, SpoolSeq),
    appends: impl IntoIterator<Item = &'a Append>,
) -> usize {
    let start = out.len();
    out.resize(start + COMMIT_HEADER_BYTES, 0);
    let (mut count, mut flags) = (0u32, 0u32);
    for append in appends {
        count += 1;
        flags |= if append.panic { FLAG_PANIC } else { 0 };
        envelope::encode(out, append);
    }
    seal(&mut out[start..], (key, segment, first), count, flags);
    out.len() - start
}

/// The mark behind a group whose last position is `last`.
pub(crate) fn end_mark(key: SpoolId, segment: u64, last: SpoolSeq) -> [u8; COMMIT_HEADER_BYTES] {
    let mut mark = [0; COMMIT_HEADER_BYTES];
    seal(&mut mark, (key, segment, last), 1, FLAG_END_MARK);
    mark
}

/// Writes the header in front of a body that stands at [`COMMIT_HEADER_BYTES`] already.
pub(crate) fn seal(
    commit: &mut [u8],
    (key, segment, first): (SpoolId, u64, SpoolSeq),
    count: u32,
    flags: u32,
) {
    let body_bytes = u32::try_from(commit.len() - COMMIT_HEADER_BYTES)
        .expect("a group is far below 4 GiB: sizes are checked before");
    commit[..4].copy_from_slice(&MAGIC);
    commit[4..12].copy_from_slice(&key.as_u64().to_le_bytes());
    commit[12..20].copy_from_slice(&segment.to_le_bytes());
    commit[20..24].copy_from_slice(&body_bytes.to_le_bytes());
    commit[24..32].copy_from_slice(&first.get().to_le_bytes());
    commit[32..36].copy_from_slice(&count.to_le_bytes());
    commit[36..40].copy_from_slice(&flags.to_le_bytes());
    let crc = crc_of(commit);
    commit[CRC_AT..COMMIT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Makes a whole commit one of another segment.
pub(crate) fn readdress(commit: &mut [u8], segment: u64) {
    commit[12..20].copy_from_slice(&segment.to_le_bytes());
    let crc = crc_of(commit);
    commit[CRC_AT..COMMIT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn crc_of(commit: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&commit[4..CRC_AT]);
    crc32c::crc32c_append(crc, &commit[COMMIT_HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::envelope::{Envelopes, Read, bytes as envelope_bytes};
    use super::*;
    use contract::{Device, Kind, Lane, Transport};

    fn append(device: Device, bytes: &[u8], panic: bool) -> Append {
        Append {
            device,
            kind: Kind::Teltonika,
            transport: Transport::Tcp,
            lane: Lane::High,
            received_at_ms: 1_700_000_000_123,
            record_count: 3,
            panic,
            bytes: bytes.to_vec(),
        }
    }

    fn two() -> Vec<Append> {
        let imei = Device::Imei("356307042441013".parse().unwrap());
        vec![
            append(imei, b"frame", false),
            Append {
                kind: Kind::Position,
                ..append(Device::Text("boat".into()), b"", true)
            },
        ]
    }

    fn identity(key: u64, segment: u64) -> Identity {
        Identity {
            key: SpoolId::from_random(key),
            segment,
            body_bytes_max: 1000,
        }
    }

    fn commit(segment: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let at = (SpoolId::from_random(9), segment, SpoolSeq::new(41).unwrap());
        assert_eq!(encode(&mut out, at, &two()), out.len());
        out
    }

    #[test]
    fn a_commit_gives_back_what_went_in() {
        let bytes = commit(7);
        assert_eq!(identity(9, 7).peek(&bytes), Peek::Maybe(bytes.len()));
        let read = identity(9, 7).read(&bytes).unwrap();
        assert_eq!((read.first.get(), read.last.get()), (41, 42));
        assert_eq!(
            (read.flags, read.spool),
            (FLAG_PANIC, SpoolId::from_random(9))
        );
        assert_eq!(read.len_bytes(), bytes.len());
        let expected: usize = two().iter().map(envelope_bytes).sum();
        assert_eq!(bytes.len(), COMMIT_HEADER_BYTES + expected);
        let mut raw = Vec::new();
        let raw = read.raw(&mut raw, 1000).unwrap();
        let envelopes: Vec<_> = Envelopes::new(raw, read.first).collect();
        assert_eq!(envelopes.len(), 2);
        for (Read { envelope, kind }, append) in envelopes.iter().zip(two()) {
            assert_eq!(*kind, append.kind);
            assert_eq!(envelope.device, append.device);
            assert_eq!(envelope.bytes, append.bytes);
            assert_eq!(envelope.received_at_ms, append.received_at_ms);
            assert_eq!(
                (envelope.transport, envelope.lane, envelope.record_count),
                (append.transport, append.lane, 3)
            );
        }
        assert_eq!(envelopes[1].envelope.seq.get(), 42);
    }

    /// What spools of earlier versions hold: an envelope with 0 where the kind stands now.
    #[test]
    fn an_envelope_of_an_earlier_version_is_one_of_teltonika() {
        let earlier = concat!(
            "1d000000",         // bytes
            "7b68e5cf8b010000", // received_at_ms
            "000100",           // transport, lane, device kind
            "00",               // what was reserved
            "03000000",         // record_count
            "3517b2320f440100", // IMEI
            "6672616d65",       // frame
        );
        let earlier = hex(earlier);
        let mut envelopes = Envelopes::new(&earlier, SpoolSeq::FIRST);
        let Read { envelope, kind } = envelopes.next().unwrap();
        assert_eq!((kind, envelope.bytes), (Kind::Teltonika, &b"frame"[..]));
        assert_eq!(
            (envelope.received_at_ms, envelope.record_count),
            (1_700_000_000_123, 3)
        );
        let mut written = Vec::new();
        let imei = envelope.device.clone();
        envelope::encode(&mut written, &append(imei, b"frame", false));
        assert_eq!(written, earlier);
    }

    #[test]
    fn a_kind_of_a_later_version_keeps_its_number() {
        let imei = || Device::Imei("356307042441013".parse().unwrap());
        let later = Append {
            kind: Kind::from_u8(200),
            ..append(imei(), b"?", false)
        };
        let mut bytes = Vec::new();
        envelope::encode(&mut bytes, &later);
        let read = Envelopes::new(&bytes, SpoolSeq::FIRST).next().unwrap();
        assert_eq!(read.kind, later.kind);
        // A word says nothing that a byte could keep: it is refused before anything is written.
        let named = Append {
            kind: Kind::Other("gtfs".into()),
            ..append(imei(), b"?", false)
        };
        assert!(envelope::fits(&later, 1000) && !envelope::fits(&named, 1000));
    }

    fn hex(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        pairs.map(|pair| byte(pair).unwrap()).collect()
    }

    #[test]
    fn a_commit_of_another_segment_or_opening_or_too_large_is_not_ours() {
        assert!(identity(9, 8).read(&commit(7)).is_none());
        assert!(identity(10, 7).read(&commit(7)).is_none());
        let narrow = Identity {
            body_bytes_max: 20,
            ..identity(9, 7)
        };
        assert_eq!(narrow.peek(&commit(7)), Peek::No);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let bytes = commit(7);
        for cut in 0..bytes.len() {
            assert!(identity(9, 7).read(&bytes[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(identity(9, 7).read(&flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_compressed_commit_speaks_for_its_origin() {
        let mut raw = Vec::new();
        two()
            .iter()
            .for_each(|append| envelope::encode(&mut raw, append));
        let origin = SpoolId::from_random(5);
        let mut bytes = vec![0; COMMIT_HEADER_BYTES];
        bytes.extend(origin.as_u64().to_le_bytes());
        bytes.extend(u32::try_from(raw.len()).unwrap().to_le_bytes());
        bytes.extend(zstd::bulk::compress(&raw, 3).unwrap());
        let at = (SpoolId::from_random(9), 7, SpoolSeq::new(3).unwrap());
        seal(&mut bytes, at, 2, FLAG_ZSTD);
        let read = identity(9, 7).read(&bytes).unwrap();
        assert_eq!((read.spool, read.first.get()), (origin, 3));
        let mut unpacked = Vec::new();
        assert_eq!(read.raw(&mut unpacked, 1000).unwrap(), raw);
    }
}
