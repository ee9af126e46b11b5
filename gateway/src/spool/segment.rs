//! Pure: no I/O, no clock.
//!
//! The bytes of a spool segment: what a group commit looks like on disk, and how damage is told
//! from an unfinished write.
//!
//! ```text
//! segment  | header, one 4 KiB block                 | commit | commit | … | end of file
//! header   | magic 8 | version u16 | 0 u16 | 0 u32 | spool id u64 | segment id u64 | first seq u64 | CRC32C u32 | zeros
//!          | the same again from byte 2048 on
//! commit   | magic u32 | spool id u64 | segment id u64 | body bytes u32 | first seq u64 | count u32 | flags u32 | CRC32C u32 | body
//! body     | envelope × count
//! envelope | bytes u32 | received_at_ms u64 | transport u8 | lane u8 | device kind u8 | 0 u8 | record_count u32 | device | frame
//! device   | kind 0: IMEI u64    kind 1: length u16, text
//! ```
//! All integers little-endian. The CRC of a commit covers everything after the magic except the
//! CRC itself, so neither a stale block of another segment nor a moved one passes. The random
//! spool id stands in every commit because a tracker chooses the bytes of its frames: without it,
//! a frame stuffed with well-formed commits could speak for others once damage made us search.
//!
//! Invariant: [`SegmentHeader::commit_at`] returns a commit only when its CRC holds for this opening and segment.

use codec::Imei;
use contract::{Device, Envelope, Lane, SpoolId, SpoolSeq, Transport};
use thiserror::Error;

use super::Append;

/// The header takes one block, so that no commit shares a block with it.
pub const HEADER_BYTES: usize = 4096;

/// Bytes of a commit before its body.
pub const COMMIT_HEADER_BYTES: usize = 44;

/// Where the second copy of the segment header stands in its block.
const HEADER_COPY_AT: usize = 2048;

/// Bytes of a segment header with its CRC.
const HEADER_USED_BYTES: usize = 44;

/// Largest body of one commit: [`GROUP_BYTES_MAX`] and one frame of the largest size more.
pub const BODY_BYTES_MAX: usize = GROUP_BYTES_MAX + 128 * 1024;

/// A group is closed when it holds this many bytes.
pub const GROUP_BYTES_MAX: usize = 256 * 1024;

/// Flag of a commit that holds a record of priority Panic.
pub const FLAG_PANIC: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"MPSPOOL1";
const SEGMENT_VERSION: u16 = 1;
const COMMIT_MAGIC: [u8; 4] = *b"MPc1";
const ENVELOPE_FIXED_BYTES: usize = 8 + 1 + 1 + 1 + 1 + 4;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// Too short or another file: nothing of ours is in it.
    #[error("not a spool segment")]
    NotASegment,
    /// Written by a later version: start that version, or export with it first.
    #[error("segment format version {version}; this build reads version {SEGMENT_VERSION}")]
    NewerVersion {
        /// The version found.
        version: u16,
    },
    /// The header does not match its checksum.
    #[error("segment header is damaged")]
    HeaderDamaged,
    /// No whole commit stands here: the end of the segment, a torn write or damage.
    #[error("no whole commit at byte {offset}")]
    NoCommit {
        /// Where in the segment.
        offset: usize,
    },
    /// A commit whose checksum holds has a body that cannot be read: our own bug or a forgery.
    #[error("commit at position {first} holds an unreadable envelope")]
    Envelope {
        /// First position of the commit.
        first: SpoolSeq,
    },
}

/// What stands in the first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The opening of the spool that wrote it.
    pub spool: SpoolId,
    /// Number of the segment, growing by one, never reused.
    pub segment: u64,
    /// First position it may hold.
    pub first: SpoolSeq,
}

impl SegmentHeader {
    /// The first block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let copy = self.encode_once();
        let mut block = copy.clone();
        block.resize(HEADER_COPY_AT, 0);
        block.extend(copy);
        block.resize(HEADER_BYTES, 0);
        block
    }

    fn encode_once(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEADER_BYTES);
        block.extend(SEGMENT_MAGIC);
        block.extend(SEGMENT_VERSION.to_le_bytes());
        block.extend([0; 6]);
        block.extend(self.spool.as_u64().to_le_bytes());
        block.extend(self.segment.to_le_bytes());
        block.extend(self.first.get().to_le_bytes());
        block.extend(crc32c::crc32c(&block).to_le_bytes());
        block
    }

    /// Reads either copy: one flipped bit must not cost 4 MiB of acknowledged records.
    /// # Errors
    /// [`SegmentError::NotASegment`], [`SegmentError::NewerVersion`], [`SegmentError::HeaderDamaged`].
    pub fn decode(block: &[u8]) -> Result<Self, SegmentError> {
        if block.len() < HEADER_BYTES {
            return Err(SegmentError::NotASegment);
        }
        let first = Self::decode_once(block);
        let second = || Self::decode_once(&block[HEADER_COPY_AT..]);
        first.or_else(|error| second().map_err(|_| error))
    }

    fn decode_once(copy: &[u8]) -> Result<Self, SegmentError> {
        if copy[..8] != SEGMENT_MAGIC {
            return Err(SegmentError::NotASegment);
        }
        // The checksum first: a flipped bit in the version is damage, not a later version.
        let (stated, used) = (
            &copy[HEADER_USED_BYTES - 4..HEADER_USED_BYTES],
            HEADER_USED_BYTES - 4,
        );
        if stated != crc32c::crc32c(&copy[..used]).to_le_bytes() {
            return Err(SegmentError::HeaderDamaged);
        }
        let version = u16::from_le_bytes([copy[8], copy[9]]);
        if version > SEGMENT_VERSION {
            return Err(SegmentError::NewerVersion { version });
        }
        let mut reader = Reader(&copy[16..]);
        let header = || -> Option<Self> {
            Some(Self {
                spool: SpoolId::from_u64(reader.u64()?).ok()?,
                segment: reader.u64()?,
                first: SpoolSeq::new(reader.u64()?).ok()?,
            })
        }();
        header.ok_or(SegmentError::HeaderDamaged)
    }

    /// The commit that starts at `offset` of this segment.
    /// # Errors
    /// [`SegmentError::NoCommit`] when no whole commit of this segment stands there.
    pub fn commit_at<'a>(
        &self,
        bytes: &'a [u8],
        offset: usize,
    ) -> Result<Commit<'a>, SegmentError> {
        self.read_commit(bytes.get(offset..).unwrap_or_default())
            .ok_or(SegmentError::NoCommit { offset })
    }

    /// Looks for a whole commit behind damage, from `offset` on, byte by byte.
    #[must_use]
    pub fn next_commit_from(&self, bytes: &[u8], offset: usize) -> Option<usize> {
        (offset..bytes.len().saturating_sub(COMMIT_HEADER_BYTES - 1))
            .filter(|&at| bytes[at..at + 4] == COMMIT_MAGIC)
            .find(|&at| self.read_commit(&bytes[at..]).is_some())
    }

    /// The first place from `offset` on where a commit may begin whose end lies behind `bytes`.
    #[must_use]
    pub fn next_possible_from(&self, bytes: &[u8], offset: usize) -> usize {
        let headers_end = bytes.len().saturating_sub(COMMIT_HEADER_BYTES - 1);
        (offset..headers_end)
            .find(|&at| self.commit_bytes(&bytes[at..]).is_some())
            .unwrap_or(headers_end.max(offset))
    }

    /// Bytes of the commit whose header stands at the start of `bytes`, as far as the header can be
    /// believed before its checksum: it is of this segment and within the limits.
    #[must_use]
    pub fn commit_bytes(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() < COMMIT_HEADER_BYTES || bytes[..4] != COMMIT_MAGIC {
            return None;
        }
        let mut reader = Reader(&bytes[4..]);
        let ours = reader.u64()? == self.spool.as_u64() && reader.u64()? == self.segment;
        let body_bytes = reader.u32()? as usize;
        (ours && body_bytes <= BODY_BYTES_MAX).then_some(COMMIT_HEADER_BYTES + body_bytes)
    }

    fn read_commit<'a>(&self, bytes: &'a [u8]) -> Option<Commit<'a>> {
        let commit = bytes.get(..self.commit_bytes(bytes)?)?;
        let mut reader = Reader(&commit[24..]);
        let first = SpoolSeq::new(reader.u64()?).ok()?;
        let count = reader.u32()?;
        let flags = reader.u32()?;
        let crc = reader.u32()?;
        SpoolSeq::new(first.get().checked_add(u64::from(count))?).ok()?;
        let body = &commit[COMMIT_HEADER_BYTES..];
        let fits = count > 0 && count as usize <= body.len() / (4 + ENVELOPE_FIXED_BYTES);
        (fits && crc == commit_crc(commit)).then_some(Commit {
            first,
            count,
            flags,
            body,
        })
    }
}

/// One group commit, its CRC checked.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// First position inside.
    pub first: SpoolSeq,
    /// Envelopes inside, at least 1.
    pub count: u32,
    /// See [`FLAG_PANIC`].
    pub flags: u32,
    body: &'a [u8],
}

impl<'a> Commit<'a> {
    /// Last position inside.
    #[must_use]
    pub fn last(&self) -> SpoolSeq {
        SpoolSeq::new(self.first.get() + u64::from(self.count) - 1)
            .expect("commit_at checked that the positions fit")
    }

    /// Bytes on disk.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        COMMIT_HEADER_BYTES + self.body.len()
    }

    /// The envelopes in order.
    /// # Errors
    /// [`SegmentError::Envelope`] when the body does not hold `count` envelopes exactly.
    pub fn envelopes(&self) -> Result<Vec<Envelope<'a>>, SegmentError> {
        let mut reader = Reader(self.body);
        let mut envelopes = Vec::with_capacity(self.count as usize);
        let mut seq = self.first;
        for _ in 0..self.count {
            let envelope = reader.envelope(seq);
            envelopes.push(envelope.ok_or(SegmentError::Envelope { first: self.first })?);
            seq = seq.next();
        }
        if reader.0.is_empty() {
            Ok(envelopes)
        } else {
            Err(SegmentError::Envelope { first: self.first })
        }
    }
}

/// Bytes that `append` will take in a commit.
#[must_use]
pub fn envelope_bytes(append: &Append) -> usize {
    let device = match &append.device {
        Device::Imei(_) => 8,
        Device::Text(text) => 2 + text.len(),
    };
    4 + ENVELOPE_FIXED_BYTES + device + append.bytes.len()
}

/// Appends one commit to `out`.
pub fn encode_commit<'a>(
    out: &mut Vec<u8>,
    spool: SpoolId,
    segment: u64,
    first: SpoolSeq,
    appends: impl IntoIterator<Item = &'a Append>,
) {
    let start = out.len();
    out.extend(COMMIT_MAGIC);
    out.extend([0; COMMIT_HEADER_BYTES - 4]);
    let (mut count, mut flags) = (0u32, 0u32);
    for append in appends {
        count += 1;
        flags |= if append.panic { FLAG_PANIC } else { 0 };
        encode_envelope(out, append);
    }
    let body_bytes = out.len() - start - COMMIT_HEADER_BYTES;
    let body_bytes = u32::try_from(body_bytes).expect("a group is far below 4 GiB");
    let header = &mut out[start..start + COMMIT_HEADER_BYTES];
    header[4..12].copy_from_slice(&spool.as_u64().to_le_bytes());
    header[12..20].copy_from_slice(&segment.to_le_bytes());
    header[20..24].copy_from_slice(&body_bytes.to_le_bytes());
    header[24..32].copy_from_slice(&first.get().to_le_bytes());
    header[32..36].copy_from_slice(&count.to_le_bytes());
    header[36..40].copy_from_slice(&flags.to_le_bytes());
    let crc = commit_crc(&out[start..]);
    out[start + 40..start + 44].copy_from_slice(&crc.to_le_bytes());
}

fn commit_crc(commit: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&commit[4..40]);
    crc32c::crc32c_append(crc, &commit[COMMIT_HEADER_BYTES..])
}

fn encode_envelope(out: &mut Vec<u8>, append: &Append) {
    let bytes = envelope_bytes(append) - 4;
    out.extend(
        u32::try_from(bytes)
            .expect("a frame is far below 4 GiB")
            .to_le_bytes(),
    );
    out.extend(append.received_at_ms.to_le_bytes());
    out.extend([append.transport.as_u8(), append.lane.as_u8()]);
    match &append.device {
        Device::Imei(imei) => {
            out.extend([0, 0]);
            out.extend(append.record_count.to_le_bytes());
            out.extend(imei.as_u64().to_le_bytes());
        }
        Device::Text(text) => {
            out.extend([1, 0]);
            out.extend(append.record_count.to_le_bytes());
            let length = u16::try_from(text.len()).expect("Spool::append refuses longer names");
            out.extend(length.to_le_bytes());
            out.extend(text.as_bytes());
        }
    }
    out.extend(&append.bytes);
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

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn envelope(&mut self, seq: SpoolSeq) -> Option<Envelope<'a>> {
        let bytes = self.u32()? as usize;
        let mut inner = Reader(self.take(bytes)?);
        let received_at_ms = inner.u64()?;
        let [transport, lane, device_kind, _] = inner.array()?;
        let record_count = inner.u32()?;
        let device = match device_kind {
            0 => Device::Imei(Imei::from_u64(inner.u64()?)?),
            1 => {
                let length = inner.array().map(u16::from_le_bytes)?;
                let text = std::str::from_utf8(inner.take(usize::from(length))?).ok()?;
                Device::Text(text.to_owned())
            }
            _ => return None,
        };
        Some(Envelope {
            seq,
            received_at_ms,
            device,
            transport: Transport::from_u8(transport),
            lane: Lane::from_u8(lane),
            record_count,
            bytes: inner.0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn append(device: Device, bytes: &[u8], panic: bool) -> Append {
        Append {
            device,
            transport: Transport::Tcp,
            lane: Lane::High,
            received_at_ms: 1_700_000_000_123,
            record_count: 3,
            panic,
            bytes: bytes.to_vec(),
        }
    }

    fn seq(number: u64) -> SpoolSeq {
        SpoolSeq::new(number).unwrap()
    }

    fn two() -> Vec<Append> {
        vec![
            append(
                Device::Imei("356307042441013".parse().unwrap()),
                b"frame",
                false,
            ),
            append(Device::Text("boat".into()), b"", true),
        ]
    }

    fn header(segment: u64) -> SegmentHeader {
        SegmentHeader {
            spool: SpoolId::from_random(9),
            segment,
            first: seq(1),
        }
    }

    fn commit(segment: u64, first: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_commit(
            &mut out,
            SpoolId::from_random(9),
            segment,
            seq(first),
            &two(),
        );
        out
    }

    #[test]
    fn a_commit_gives_back_what_went_in() {
        let bytes = commit(7, 41);
        let read = header(7).commit_at(&bytes, 0).unwrap();
        assert_eq!(
            (read.first, read.last(), read.flags),
            (seq(41), seq(42), FLAG_PANIC)
        );
        assert_eq!(read.len_bytes(), bytes.len());
        let expected: usize = two().iter().map(envelope_bytes).sum();
        assert_eq!(bytes.len(), COMMIT_HEADER_BYTES + expected);
        let envelopes = read.envelopes().unwrap();
        for (envelope, append) in envelopes.iter().zip(two()) {
            assert_eq!(envelope.device, append.device);
            assert_eq!(envelope.bytes, append.bytes);
            assert_eq!(envelope.received_at_ms, append.received_at_ms);
            assert_eq!(
                (envelope.transport, envelope.lane),
                (append.transport, append.lane)
            );
            assert_eq!(envelope.record_count, 3);
        }
        assert_eq!(envelopes[1].seq, seq(42));
    }

    #[test]
    fn a_commit_of_another_segment_or_opening_is_not_ours() {
        assert!(header(8).commit_at(&commit(7, 1), 0).is_err());
        let other = SegmentHeader {
            spool: SpoolId::from_random(10),
            ..header(7)
        };
        assert!(other.commit_at(&commit(7, 1), 0).is_err());
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let bytes = commit(7, 1);
        for cut in 0..bytes.len() {
            assert!(
                header(7).commit_at(&bytes[..cut], 0).is_err(),
                "cut at {cut}"
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(header(7).commit_at(&flipped, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_survives_damage_to_either_copy() {
        let header = header(3);
        let block = header.encode();
        assert_eq!(block.len(), HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Ok(header), "bit {bit}");
        }
        let mut both = block.clone();
        (both[20], both[HEADER_COPY_AT + 20]) = (!both[20], !both[HEADER_COPY_AT + 20]);
        assert_eq!(
            SegmentHeader::decode(&both),
            Err(SegmentError::HeaderDamaged)
        );
        assert_eq!(
            SegmentHeader::decode(&block[..100]),
            Err(SegmentError::NotASegment)
        );
        assert_eq!(
            SegmentHeader::decode(&[0; HEADER_BYTES]),
            Err(SegmentError::NotASegment)
        );
    }

    #[test]
    fn the_next_whole_commit_is_found_behind_damage() {
        let mut bytes = commit(7, 1);
        let second = bytes.len();
        bytes.extend(commit(7, 3));
        bytes[10] ^= 1;
        assert!(header(7).commit_at(&bytes, 0).is_err());
        assert_eq!(header(7).next_commit_from(&bytes, 1), Some(second));
        assert_eq!(header(7).next_commit_from(&bytes, second + 1), None);
    }
}
