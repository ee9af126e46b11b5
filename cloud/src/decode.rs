//! From a stream item to rows.
//!
//! Why one place: what cannot be read must still settle what it covers, or the gateway would send
//! it for ever; and what a newer reader could read must not be touched.
//!
//! Pure. Invariants: nothing that was acknowledged to a tracker is left out: every envelope becomes
//! records, messages or a dead letter; an item of a newer version, kind or coding is left alone.

mod kinds;
mod nmea;
mod position;
mod teltonika;

use contract::{
    Coding, Entry, EntryError, Envelope, GatewayId, Kind, Payload, PayloadError, SettledRanges,
    SpoolId,
};
use thiserror::Error;

use self::kinds::{Body, Unread};
use crate::batch::{DeadLetter, Decoded, EntryId, Frame, Place, Unit};

/// Leave the item pending and raise an alarm: a newer reader will understand it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForNewerReader {
    /// Field `v`.
    #[error("entry version {version} is newer than this processor; upgrade it")]
    Version {
        /// The version.
        version: u32,
    },
    /// Field `k`.
    #[error("payload kind {kind:?} is not known to this processor; upgrade it")]
    Kind {
        /// The word.
        kind: String,
    },
    /// Field `c`.
    #[error("payload coding {coding:?} is not known to this processor; upgrade it")]
    Coding {
        /// The word.
        coding: String,
    },
}

/// Names and values as they came from Redis.
pub type Fields = [(Vec<u8>, Vec<u8>)];

/// Reads one stream item.
///
/// # Errors
/// [`ForNewerReader`]: leave it pending. What nobody can read is no error but a dead letter.
pub fn entry(id: &EntryId, fields: &Fields) -> Result<Decoded, ForNewerReader> {
    let entry = match Entry::from_fields(named(fields)) {
        Ok(entry) => entry,
        Err(EntryError::Newer { version }) => return Err(ForNewerReader::Version { version }),
        Err(error) => return Ok(unreadable_entry(id, fields, &error)),
    };
    if let Some(newer) = unknown(&entry) {
        return Err(newer);
    }
    let mut units: Vec<Unit> = entry.gaps.iter().map(|gap| gap_unit(&entry, gap)).collect();
    match envelopes(&entry, id.id.ms()) {
        Ok(opened) => units.extend(opened),
        Err(error) => units.push(unreadable_payload(&entry, &error)),
    }
    Ok(Decoded {
        units,
        low: Some((entry.gateway, entry.spool, entry.low.get())),
    })
}

fn named(fields: &Fields) -> impl Iterator<Item = (&str, &[u8])> {
    fields.iter().filter_map(|(name, value)| {
        let name = std::str::from_utf8(name).ok()?;
        Some((name, value.as_slice()))
    })
}

/// Is this item for a newer reader? Asked of what another consumer holds, without opening it.
#[must_use]
pub fn newer(fields: &Fields) -> Option<ForNewerReader> {
    match Entry::from_fields(named(fields)) {
        Ok(entry) => unknown(&entry),
        Err(EntryError::Newer { version }) => Some(ForNewerReader::Version { version }),
        Err(_) => None,
    }
}

/// What of an entry that we can read is beyond us all the same.
fn unknown(entry: &Entry) -> Option<ForNewerReader> {
    if kinds::reader(&entry.kind).is_none() {
        let kind = entry.kind.as_str().to_owned();
        return Some(ForNewerReader::Kind { kind });
    }
    if let Coding::Other(coding) = &entry.coding {
        let coding = coding.clone();
        return Some(ForNewerReader::Coding { coding });
    }
    None
}

fn envelopes(entry: &Entry, arrived_ms: u64) -> Result<Vec<Unit>, Unopened> {
    let payload = Payload::open(&entry.coding, &entry.data)?;
    let claimed = entry.positions();
    let envelopes = payload.envelopes()?;
    if let Some(stray) = envelopes.iter().find(|e| !claimed.contains(e.seq)) {
        return Err(Unopened::Stray {
            seq: stray.seq.get(),
        });
    }
    Ok(envelopes
        .iter()
        .map(|e| envelope(entry, e, arrived_ms))
        .collect())
}

/// Why the payload gave no envelopes.
#[derive(Debug, Error)]
enum Unopened {
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("payload holds position {seq}, {STRAY}")]
    Stray { seq: u64 },
}

fn envelope(entry: &Entry, envelope: &Envelope<'_>, arrived_ms: u64) -> Unit {
    let raw = Frame {
        kind: entry.kind.clone(),
        device: envelope.device.clone(),
        received_at_ms: envelope.received_at_ms,
        transport: envelope.transport.as_u8(),
        lane: envelope.lane.as_u8(),
        record_count: envelope.record_count,
        data: envelope.bytes.to_vec(),
    };
    let place = Place {
        gateway: entry.gateway.clone(),
        spool: entry.spool,
        first: envelope.seq.get(),
        last: envelope.seq.get(),
        holes: SettledRanges::new(),
        only_if_known: false,
    };
    frame(place, raw, arrived_ms)
}

/// Reads one raw frame: as it comes, or again from the table. `arrived_ms` is when a clock that can
/// be trusted saw it, milliseconds since 1970. What cannot be read is in `dead_letters`.
#[must_use]
pub fn frame(place: Place, frame: Frame, arrived_ms: u64) -> Unit {
    let mut unit = Unit {
        place: Some(place),
        received: 0,
        dead: 0,
        dropped: 0,
        frame: None,
        records: Vec::new(),
        messages: Vec::new(),
        dead_letters: Vec::new(),
    };
    match read_body(&frame, arrived_ms) {
        Ok(Body::Records(records)) => unit.records = records,
        Ok(Body::Messages(messages)) => unit.messages = messages,
        Err(letter) => {
            unit.dead = letter.records;
            unit.dead_letters.push(*letter);
        }
    }
    unit.received = unit.records.len() as u64 + unit.dead;
    unit.frame = Some(frame);
    unit
}

/// First bytes of every zstd frame. Source: RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Reads a payload again that was put aside without the entry around it. Its kind was written down; its
/// coding is known by its first bytes: MsgPack of envelopes begins with an array, never with those of
/// zstd.
///
/// # Errors
/// A sentence: why nobody can read it.
pub fn payload(
    gateway: &GatewayId,
    spool: SpoolId,
    kind: &Kind,
    data: &[u8],
    arrived_ms: u64,
) -> Result<Vec<Unit>, String> {
    let coding = match data.starts_with(&ZSTD_MAGIC) {
        true => Coding::MsgPackZstd,
        false => Coding::MsgPack,
    };
    let opened = Payload::open(&coding, data).map_err(|error| chain(&error))?;
    let envelopes = opened.envelopes().map_err(|error| chain(&error))?;
    let seqs = || envelopes.iter().map(|envelope| envelope.seq);
    let (Some(first), Some(last)) = (seqs().min(), seqs().max()) else {
        return Err("the payload holds no envelope".to_owned());
    };
    let entry = Entry {
        kind: kind.clone(),
        gateway: gateway.clone(),
        spool,
        first,
        last,
        exact: None,
        low: first,
        gaps: Vec::new(),
        records: 0,
        coding,
        data: Vec::new(),
    };
    let units = envelopes.iter().map(|e| envelope(&entry, e, arrived_ms));
    Ok(units.collect())
}

/// Was a payload put aside because it holds what its entry does not claim? It reads well, and is no
/// more to be believed than before.
#[must_use]
pub fn is_stray(reason: &str) -> bool {
    reason.contains(STRAY)
}

/// How the reason for a stray position goes on behind its number.
const STRAY: &str = "which its entry does not claim";

fn read_body(frame: &Frame, arrived_ms: u64) -> Result<Body, Box<DeadLetter>> {
    let read = match kinds::reader(&frame.kind) {
        Some(reader) => (reader.read)(frame, arrived_ms),
        None => Err(Unread {
            class: "kind",
            reason: unknown_kind(&frame.kind),
            offset: None,
        }),
    };
    read.map_err(|unread| {
        Box::new(DeadLetter {
            record_index: None,
            entry: None,
            kind: frame.kind.clone(),
            device: Some(frame.device.clone()),
            received_at_ms: Some(frame.received_at_ms),
            error_class: unread.class,
            reason: unread.reason,
            offset: unread.offset,
            sqlstate: None,
            records: u64::from(frame.record_count),
            bytes: frame.data.clone(),
        })
    })
}

fn unknown_kind(kind: &Kind) -> String {
    let kind = kind.as_str();
    ForNewerReader::Kind { kind: kind.into() }.to_string()
}

/// A frame around the bytes of one record, so that it can be read by itself.
///
/// # Errors
/// A sentence: why there is none.
pub fn alone(kind: &Kind, record: &[u8]) -> Result<Vec<u8>, String> {
    let reader = kinds::reader(kind).ok_or_else(|| unknown_kind(kind))?;
    (reader.alone)(record)
}

fn gap_unit(entry: &Entry, gap: &contract::Gap) -> Unit {
    Unit {
        place: Some(Place {
            gateway: entry.gateway.clone(),
            spool: entry.spool,
            first: gap.first.get(),
            last: gap.last.get(),
            holes: SettledRanges::new(),
            only_if_known: false,
        }),
        received: gap.records,
        dead: 0,
        dropped: gap.records,
        frame: None,
        records: Vec::new(),
        messages: Vec::new(),
        dead_letters: Vec::new(),
    }
}

fn unreadable_payload(entry: &Entry, error: &Unopened) -> Unit {
    dead_unit(
        Some(Place {
            gateway: entry.gateway.clone(),
            spool: entry.spool,
            first: entry.first.get(),
            last: entry.last.get(),
            holes: entry.positions().holes(),
            only_if_known: true,
        }),
        DeadLetter {
            record_index: None,
            entry: None,
            kind: entry.kind.clone(),
            device: None,
            received_at_ms: None,
            error_class: "payload",
            reason: chain(error),
            offset: None,
            sqlstate: None,
            records: entry.records,
            bytes: entry.data.clone(),
        },
    )
}

fn unreadable_entry(id: &EntryId, fields: &Fields, error: &EntryError) -> Decoded {
    let kind = named(fields).find(|(name, _)| *name == contract::entry::field::KIND);
    let kind = kind.and_then(|(_, word)| std::str::from_utf8(word).ok());
    let letter = DeadLetter {
        record_index: None,
        entry: Some(id.clone()),
        kind: kind.map_or(Kind::Teltonika, Kind::from_word),
        device: None,
        received_at_ms: Some(id.id.ms()),
        error_class: "entry",
        reason: chain(error),
        offset: None,
        sqlstate: None,
        records: 0,
        bytes: written_down(fields),
    };
    Decoded {
        units: vec![dead_unit(None, letter)],
        low: None,
    }
}

fn dead_unit(place: Option<Place>, letter: DeadLetter) -> Unit {
    Unit {
        place,
        received: letter.records,
        dead: letter.records,
        dropped: 0,
        frame: None,
        records: Vec::new(),
        messages: Vec::new(),
        dead_letters: vec![letter],
    }
}

/// Names and values of an unreadable item, each behind its length as 4 bytes, big-endian.
#[must_use]
pub fn written_down(fields: &Fields) -> Vec<u8> {
    let parts = fields.iter().flat_map(|(name, value)| [name, value]);
    parts
        .flat_map(|part| {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            length.to_be_bytes().into_iter().chain(part.iter().copied())
        })
        .collect()
}

/// The fields of an unreadable item, from what was written down of them. `None`: cut short.
#[must_use]
pub fn read_back(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        parts.push(rest.get(..length)?.to_vec());
        bytes = &rest[length..];
    }
    let mut parts = parts.into_iter();
    let mut fields = Vec::new();
    while let Some(name) = parts.next() {
        fields.push((name, parts.next()?));
    }
    Some(fields)
}

/// A dead letter is read without the program at hand: the reason is the whole chain.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
