//! Pure: no I/O, no clock.
//!
//! The bytes of one region of the command-intent log.
//!
//! ```text
//! region  | header sector | confirmation sector | record … | old bytes
//! header  | magic 8 | version u16 | flags u16 | snapshot bytes u32 | generation u64 | kept u64 × 2 | snapshot CRC32C u32 | CRC32C u32
//! confirm | magic u32 | 0 u32 | generation u64 | CRC32C u32
//! record  | magic u32 | kind u8 (1 begun, 2 finished) | 0 × 3 | body bytes u32 | generation u64 | CRC32C u32 | body | zeros
//! begun   | cid: length u8, text | at_ms u64 | device kind u8 (0 IMEI, 1 text) | device: IMEI u64, or length u16, text | payload
//! finished| cid: length u8, text
//! ```
//! All integers little-endian; every part starts on a sector and fills it with zeros. The snapshot
//! is the records that were written together with the header: everything that was begun and not
//! finished then.
//!
//! Invariant: records of another generation are old bytes, never content.

use std::collections::BTreeMap;

use codec::Imei;
use contract::Device;

use super::{CID_BYTES_MAX, Intent, PAYLOAD_BYTES_MAX};

/// What storage writes whole or not at all at best; no record shares one.
pub(super) const SECTOR_BYTES: usize = 512;

/// Where the confirmation stands.
pub(super) const CONFIRM_AT: usize = SECTOR_BYTES;

/// Where the snapshot starts.
pub(super) const SNAPSHOT_AT: usize = 2 * SECTOR_BYTES;

const MAGIC: [u8; 8] = *b"MPINTNT1";
const VERSION: u16 = 1;
const FLAG_OPENING: u16 = 1;
const HEADER_BYTES: usize = 48;
const CONFIRM_MAGIC: [u8; 4] = *b"MPi0";
const CONFIRM_BYTES: usize = 20;
const RECORD_MAGIC: [u8; 4] = *b"MPi1";
const RECORD_HEADER_BYTES: usize = 24;
const BEGUN: u8 = 1;
const FINISHED: u8 = 2;

/// What a region says about itself; the meaning of `kept` and `opening` is that of a cursor slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RegionHeader {
    pub(super) generation: u64,
    pub(super) kept: [u64; 2],
    pub(super) opening: bool,
}

/// A region as it can be read.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) header: RegionHeader,
    /// The process that wrote it as its opening went on to work with it.
    pub(super) confirmed: bool,
    /// The snapshot is there to its last byte.
    pub(super) whole: bool,
}

/// One record, encoded but for the generation of the region it goes to.
#[derive(Clone, Debug)]
pub(super) struct Record(Vec<u8>);

impl Record {
    pub(super) fn begun(intent: &Intent) -> Self {
        let mut body = Vec::new();
        push_cid(&mut body, &intent.cid);
        body.extend(intent.at_ms.to_le_bytes());
        match &intent.device {
            Device::Imei(imei) => {
                body.push(0);
                body.extend(imei.as_u64().to_le_bytes());
            }
            Device::Text(text) => {
                body.push(1);
                let bytes = u16::try_from(text.len()).expect("begin refuses longer names");
                body.extend(bytes.to_le_bytes());
                body.extend(text.as_bytes());
            }
        }
        body.extend(&intent.payload);
        Self::new(BEGUN, &body)
    }

    pub(super) fn finished(cid: &str) -> Self {
        let mut body = Vec::new();
        push_cid(&mut body, cid);
        Self::new(FINISHED, &body)
    }

    fn new(kind: u8, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES + body.len());
        bytes.extend(RECORD_MAGIC);
        bytes.extend([kind, 0, 0, 0]);
        let body_bytes = u32::try_from(body.len()).expect("an intent is far below 4 GiB");
        bytes.extend(body_bytes.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        Self(bytes)
    }

    /// Bytes it takes, whole sectors.
    pub(super) fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// Puts it behind `out` as a record of region generation `generation`.
    pub(super) fn push_to(&self, out: &mut Vec<u8>, generation: u64) {
        let start = out.len();
        out.extend(&self.0);
        let record = &mut out[start..];
        record[12..20].copy_from_slice(&generation.to_le_bytes());
        let crc = record_crc(record).expect("made with its length");
        record[20..24].copy_from_slice(&crc.to_le_bytes());
    }
}

fn push_cid(body: &mut Vec<u8>, cid: &str) {
    body.push(u8::try_from(cid.len()).expect("longer ids are refused"));
    body.extend(cid.as_bytes());
}

/// A whole region up to the end of `snapshot`, confirmation missing.
pub(super) fn encode<'a>(
    out: &mut Vec<u8>,
    header: RegionHeader,
    snapshot: impl IntoIterator<Item = &'a Record>,
) {
    out.clear();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    let flags = if header.opening { FLAG_OPENING } else { 0 };
    out.extend(flags.to_le_bytes());
    out.extend([0; 4]);
    out.extend(header.generation.to_le_bytes());
    out.extend(header.kept[0].to_le_bytes());
    out.extend(header.kept[1].to_le_bytes());
    out.resize(SNAPSHOT_AT, 0);
    for record in snapshot {
        record.push_to(out, header.generation);
    }
    let snapshot_bytes = out.len() - SNAPSHOT_AT;
    let snapshot_bytes = u32::try_from(snapshot_bytes).expect("a region is far below 4 GiB");
    out[12..16].copy_from_slice(&snapshot_bytes.to_le_bytes());
    let crc = crc32c::crc32c(&out[SNAPSHOT_AT..]);
    out[40..44].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&out[..HEADER_BYTES - 4]);
    out[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// The sector that confirms an opening region.
pub(super) fn encode_confirm(generation: u64) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    sector[..4].copy_from_slice(&CONFIRM_MAGIC);
    sector[8..16].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32c::crc32c(&sector[..CONFIRM_BYTES - 4]);
    sector[CONFIRM_BYTES - 4..CONFIRM_BYTES].copy_from_slice(&crc.to_le_bytes());
    sector
}

/// What a region says about itself; `None` without a whole header of this version.
pub(super) fn decode(region: &[u8]) -> Option<Region> {
    let head = region.get(..HEADER_BYTES)?;
    let crc = crc32c::crc32c(&head[..HEADER_BYTES - 4]);
    let whole = head.starts_with(&MAGIC) && u32_at(head, HEADER_BYTES - 4) == crc;
    if !whole || head[8..10] != VERSION.to_le_bytes() {
        return None;
    }
    let flags = u16::from_le_bytes([head[10], head[11]]);
    let header = RegionHeader {
        generation: u64_at(head, 16),
        kept: [u64_at(head, 24), u64_at(head, 32)],
        opening: flags & FLAG_OPENING != 0,
    };
    let snapshot = SNAPSHOT_AT
        .checked_add(u32_at(head, 12) as usize)
        .and_then(|end| region.get(SNAPSHOT_AT..end));
    let confirm = region.get(CONFIRM_AT..SNAPSHOT_AT);
    Some(Region {
        header,
        confirmed: confirm == Some(&encode_confirm(header.generation)[..]),
        whole: snapshot.is_some_and(|bytes| crc32c::crc32c(bytes) == u32_at(head, 40)),
    })
}

/// Applies every whole record of `generation` in `region` to `live`, in order. A damaged one costs
/// itself alone: the next sector is tried.
pub(super) fn replay(region: &[u8], generation: u64, live: &mut BTreeMap<String, Intent>) {
    let mut at = SNAPSHOT_AT;
    while at + SECTOR_BYTES <= region.len() {
        let rest = &region[at..];
        let Some((kind, body)) = record(rest, generation) else {
            at += SECTOR_BYTES;
            continue;
        };
        at += (RECORD_HEADER_BYTES + body.len()).next_multiple_of(SECTOR_BYTES);
        match kind {
            BEGUN => {
                if let Some(intent) = intent(body) {
                    live.insert(intent.cid.clone(), intent);
                }
            }
            FINISHED => {
                if let Some(cid) = Reader(body).cid() {
                    live.remove(&cid);
                }
            }
            _ => {}
        }
    }
}

/// The highest generation that any whole record in `region` bears, whatever its header says. A new
/// generation must be above it: a region whose header was torn away may have left records behind,
/// and they must never come to life under a later header.
pub(super) fn highest_generation(region: &[u8]) -> u64 {
    let generation = |sector: usize| {
        let bytes = &region[sector * SECTOR_BYTES..];
        let generation = bytes
            .starts_with(&RECORD_MAGIC)
            .then(|| u64_at(bytes, 12))?;
        record(bytes, generation).map(|_| generation)
    };
    let sectors = 0..region.len() / SECTOR_BYTES;
    sectors.filter_map(generation).max().unwrap_or(0)
}

fn record(bytes: &[u8], generation: u64) -> Option<(u8, &[u8])> {
    let ours = bytes.starts_with(&RECORD_MAGIC) && u64_at(bytes, 12) == generation;
    let crc = if ours {
        record_crc(bytes)?
    } else {
        return None;
    };
    let body = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + u32_at(bytes, 8) as usize;
    (crc == u32_at(bytes, 20)).then(|| (bytes[4], &bytes[body]))
}

fn record_crc(record: &[u8]) -> Option<u32> {
    let end = RECORD_HEADER_BYTES.checked_add(u32_at(record, 8) as usize)?;
    let body = record.get(RECORD_HEADER_BYTES..end)?;
    Some(crc32c::crc32c_append(crc32c::crc32c(&record[..20]), body))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into();
    u32::from_le_bytes(bytes.expect("four bytes are four"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].try_into();
    u64::from_le_bytes(bytes.expect("eight bytes are eight"))
}

fn intent(body: &[u8]) -> Option<Intent> {
    let mut reader = Reader(body);
    let cid = reader.cid()?;
    let at_ms = u64::from_le_bytes(reader.array()?);
    let device = match reader.array()? {
        [0] => Device::Imei(Imei::from_u64(u64::from_le_bytes(reader.array()?))?),
        [1] => {
            let bytes = u16::from_le_bytes(reader.array()?);
            let text = std::str::from_utf8(reader.take(usize::from(bytes))?).ok()?;
            Device::Text(text.to_owned())
        }
        _ => return None,
    };
    (reader.0.len() <= PAYLOAD_BYTES_MAX).then(|| Intent {
        cid,
        device,
        at_ms,
        payload: reader.0.to_vec(),
    })
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

    fn cid(&mut self) -> Option<String> {
        let [bytes] = self.array()?;
        let text = std::str::from_utf8(self.take(usize::from(bytes))?).ok()?;
        (text.len() <= CID_BYTES_MAX).then(|| text.to_owned())
    }
}
