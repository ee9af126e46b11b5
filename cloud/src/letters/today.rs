//! Would a dead letter be read today?
//!
//! Why apart from the writing: whoever looks at a dead letter wants to know before anything changes,
//! and the answer must be the one that a redrive gets.
//!
//! Pure: no I/O, no clock. Invariant: what is refused here has a reason for people, and nothing is made up:
//! a record of Teltonika whose frame is gone is read only when its bytes fit one codec alone.

use contract::{Kind, SpoolId};

use crate::batch::{Frame, Unit};
use crate::decode;
use crate::store::letters::{COMMAND_RESPONSE, Letter};

/// What nobody knows of a frame that was not kept: TCP, the normal lane.
const UNKNOWN_WAY: (u8, u8) = (0, 2);

/// Why a dead letter stays one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    /// A sentence.
    pub reason: String,
    /// First byte that does not fit, of the letter's bytes.
    pub offset: Option<usize>,
    /// Never for a decoder of frames: pass it by.
    pub not_for_us: bool,
}

fn still(reason: impl Into<String>) -> Still {
    Still {
        reason: reason.into(),
        offset: None,
        not_for_us: false,
    }
}

/// Reads a dead letter with today's decoder.
///
/// # Errors
/// [`Still`]: why not.
pub fn read(letter: &Letter) -> Result<Vec<Unit>, Still> {
    if letter.error_class == COMMAND_RESPONSE {
        return Err(Still {
            not_for_us: true,
            ..still("it is a gateway's answer to a command; see `cloud cmd show` for the command")
        });
    }
    if let Some(owner) = letter
        .owner
        .as_ref()
        .filter(|owner| **owner != letter.gateway)
    {
        let (spool, gateway) = (letter.spool_id, &letter.gateway);
        return Err(still(format!(
            "gateway {gateway} claims spool {spool:016x}, which belongs to gateway {owner}"
        )));
    }
    match (letter.error_class.as_str(), letter.record_index) {
        ("entry", _) => entry(letter),
        ("payload", _) => payload(letter),
        (_, Some(index)) => record(letter, index),
        (_, None) => frame(letter),
    }
}

fn entry(letter: &Letter) -> Result<Vec<Unit>, Still> {
    let fields = decode::read_back(&letter.bytes)
        .ok_or_else(|| still("its fields are not written down whole"))?;
    let (stream, id) = letter.entry_id.rsplit_once(' ').unwrap_or_default();
    let id = id
        .parse()
        .map_err(|_| still("its stream id is not written down"))?;
    let stream = stream.into();
    let decoded = decode::entry(&crate::batch::EntryId { stream, id }, &fields)
        .map_err(|newer| still(newer.to_string()))?;
    readable(decoded.units)
}

fn payload(letter: &Letter) -> Result<Vec<Unit>, Still> {
    if decode::is_stray(&letter.reason) {
        return Err(still(
            "it holds positions that its entry did not claim; nobody can say whose they are",
        ));
    }
    let place = letter
        .place()
        .ok_or_else(|| still("its place is not written down"))?;
    let units = decode::payload(
        &place.gateway,
        place.spool,
        &letter.kind,
        &letter.bytes,
        letter.seen_ms,
    );
    readable(units.map_err(still)?)
}

/// All of them, or the first reason.
fn readable(units: Vec<Unit>) -> Result<Vec<Unit>, Still> {
    if let Some(bad) = units.iter().find_map(|unit| unit.dead_letters.first()) {
        return Err(still(bad.reason.clone()));
    }
    match units.iter().any(|unit| unit.frame.is_some()) {
        true => Ok(units),
        false => Err(still("there is no frame in it")),
    }
}

fn frame(letter: &Letter) -> Result<Vec<Unit>, Still> {
    let place = letter
        .place()
        .ok_or_else(|| still("its place is not written down"))?;
    let raw = match &letter.frame {
        Some(frame) => frame.clone(),
        None => raw(letter, letter.bytes.clone())?,
    };
    let unit = decode::frame(place, raw, letter.seen_ms);
    match unit.dead_letters.first() {
        Some(bad) => Err(Still {
            offset: bad.offset,
            ..still(bad.reason.clone())
        }),
        None => Ok(vec![unit]),
    }
}

/// What is known of a frame that was not kept.
fn raw(letter: &Letter, data: Vec<u8>) -> Result<Frame, Still> {
    let device = letter.device.clone();
    let received_at = letter.received_at.map(|at| at.timestamp_millis());
    Ok(Frame {
        kind: letter.kind.clone(),
        device: device.ok_or_else(|| still("nobody wrote down which tracker sent it"))?,
        received_at_ms: received_at
            .and_then(|at| u64::try_from(at).ok())
            .ok_or_else(|| still("nobody wrote down when it was received"))?,
        transport: UNKNOWN_WAY.0,
        lane: UNKNOWN_WAY.1,
        record_count: match letter.kind {
            Kind::Teltonika => data.get(1).copied().unwrap_or(0).into(),
            _ => u32::try_from(letter.records).unwrap_or(0),
        },
        data,
    })
}

fn record(letter: &Letter, index: usize) -> Result<Vec<Unit>, Still> {
    let place = letter
        .place()
        .ok_or_else(|| still("its place is not written down"))?;
    let (raw, wanted) = match &letter.frame {
        Some(frame) => (frame.clone(), index),
        None => {
            let around = decode::alone(&letter.kind, &letter.bytes);
            (raw(letter, around.map_err(still)?)?, 0)
        }
    };
    let mut unit = decode::frame(place, raw, letter.seen_ms);
    if let Some(bad) = unit.dead_letters.first() {
        return Err(still(bad.reason.clone()));
    }
    unit.records
        .retain(|record| usize::try_from(record.index) == Ok(wanted));
    match unit.records.is_empty() {
        true => Err(still(format!("its frame has no record {index}"))),
        false => Ok(vec![unit]),
    }
}

/// The spool as people write it.
#[must_use]
pub fn spool_text(spool_id: i64) -> String {
    let spool = u64::try_from(spool_id).ok().map(SpoolId::from_u64);
    match spool {
        Some(Ok(spool)) => spool.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrono::{DateTime, Utc};
    use contract::Device;

    use super::*;

    /// Wiki "Codec", first example of Codec 8.
    const CODEC8: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";

    fn letter(class: &str, bytes: Vec<u8>) -> Letter {
        let at = DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap();
        Letter {
            id: 7,
            gateway: "depot-1".into(),
            spool_id: 5,
            seq: 3,
            record_index: None,
            entry_id: String::new(),
            kind: Kind::Teltonika,
            device: Some(Device::Imei("350000000000017".parse().unwrap())),
            received_at: Some(at),
            error_class: class.into(),
            reason: "a reason".into(),
            byte_offset: None,
            sqlstate: None,
            records: 1,
            delivery_count: 1,
            first_failed: at,
            last_failed: at,
            bytes,
            frame: None,
            seen_ms: 1_790_000_000_000,
            owner: None,
        }
    }

    fn good() -> Vec<u8> {
        hex::decode(CODEC8).unwrap()
    }

    #[test]
    fn a_frame_that_reads_today_gives_its_records_and_its_place() {
        let units = read(&letter("frame", good())).unwrap();
        let place = units[0].place.as_ref().unwrap();
        assert_eq!((units[0].records.len(), place.first), (1, 3));
        let mut bad = good();
        bad.truncate(20);
        let refused = read(&letter("frame", bad)).unwrap_err();
        assert!(
            refused.offset.is_some() && !refused.not_for_us,
            "{refused:?}"
        );
    }

    #[test]
    fn what_is_no_frame_of_ours_is_passed_by_with_a_reason() {
        assert!(
            read(&letter(COMMAND_RESPONSE, b"{}".to_vec()))
                .unwrap_err()
                .not_for_us
        );
        let mut foreign = letter("foreign_spool", good());
        foreign.owner = Some("yard".into());
        assert!(
            read(&foreign)
                .unwrap_err()
                .reason
                .contains("belongs to gateway yard")
        );
        let mut nameless = letter("database", good());
        nameless.device = None;
        assert!(
            read(&nameless)
                .unwrap_err()
                .reason
                .contains("which tracker")
        );
    }

    #[test]
    fn a_record_is_taken_from_its_frame_or_known_by_the_one_codec_that_fits() {
        let bytes = good();
        let mut one = letter("database", bytes[2..bytes.len() - 1].to_vec());
        one.record_index = Some(4);
        // Without the frame: the bytes alone.
        assert_eq!(read(&one).unwrap()[0].records.len(), 1);
        one.frame = Some(raw(&letter("frame", Vec::new()), good()).unwrap());
        assert!(read(&one).unwrap_err().reason.contains("no record 4"));
        one.record_index = Some(0);
        assert_eq!(read(&one).unwrap()[0].records.len(), 1);
        one.frame = None;
        one.bytes.pop();
        assert!(read(&one).unwrap_err().reason.contains("fits 0 codecs"));
    }

    #[test]
    fn a_payload_with_positions_of_others_is_not_believed_later_either() {
        let mut stray = letter("payload", b"?!".to_vec());
        assert!(read(&stray).unwrap_err().reason.contains("MsgPack"));
        stray.reason = "payload holds position 9, which its entry does not claim".into();
        assert!(read(&stray).unwrap_err().reason.contains("did not claim"));
    }
}
