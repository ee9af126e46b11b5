#![allow(clippy::unwrap_used)]
use super::*;
use contract::{Device, Lane, SpoolId, SpoolSeq, Transport};
use proptest::prelude::*;

/// Wiki "Codec", first examples of Codec 8, 8 Extended and 16, and of Codec 12 (a response).
const CODEC8: &str = "08010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E000000000000000001";
const CODEC8E: &str = "8E010000016B412CEE000100000000000000000000000000000000010005000100010100010011001D00010010015E2C880002000B000000003544C87A000E000000001DD7E06A000001";
const RESPONSE: &str = "0C010600000088494E493A323031392F372F323220373A3232205254433A323031392F372F323220373A3533205253543A32204552523A312053523A302042523A302043463A302046473A3020464C3A302054553A302F302055543A3020534D533A30204E4F4750533A303A3330204750533A31205341543A302052533A332052463A36352053463A31204D443A3001";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn frames(frames: &[&[u8]]) -> Entry {
    let seq = |index: usize| SpoolSeq::new(index as u64 + 5).unwrap();
    let envelopes: Vec<Envelope<'_>> = frames
        .iter()
        .enumerate()
        .map(|(index, bytes)| Envelope {
            seq: seq(index),
            received_at_ms: 1_795_219_200_000,
            device: Device::Imei("356307042441013".parse().unwrap()),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: bytes.get(1).copied().unwrap_or(0).into(),
            bytes,
        })
        .collect();
    Entry {
        kind: Kind::Teltonika,
        gateway: "depot-1".parse().unwrap(),
        spool: SpoolId::from_u64(7).unwrap(),
        first: seq(0),
        last: seq(frames.len().max(1) - 1),
        exact: None,
        low: SpoolSeq::new(3).unwrap(),
        gaps: Vec::new(),
        records: 9,
        coding: Coding::MsgPack,
        data: Payload::pack(&envelopes, &Coding::MsgPack).unwrap(),
    }
}

fn fields(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let named = entry.to_fields().into_iter();
    named
        .map(|(name, value)| (name.as_bytes().to_vec(), value))
        .collect()
}

fn id() -> EntryId {
    EntryId {
        stream: "telemetry:teltonika".into(),
        id: "1795219200000-3".parse().unwrap(),
    }
}

fn decoded(entry: &Entry) -> Decoded {
    super::entry(&id(), &fields(entry)).unwrap()
}

fn set(fields: &mut [(Vec<u8>, Vec<u8>)], name: &str, value: &str) {
    let field = fields
        .iter_mut()
        .find(|(found, _)| found == name.as_bytes());
    field.unwrap().1 = value.as_bytes().to_vec();
}

#[test]
fn a_record_of_the_wiki_field_by_field() {
    let decoded = decoded(&frames(&[&bytes(CODEC8)]));
    assert_eq!(decoded.low.unwrap().2, 3);
    let [unit] = &decoded.units[..] else { panic!() };
    let place = unit.place.as_ref().unwrap();
    assert_eq!(
        (place.first, place.last, place.only_if_known),
        (5, 5, false)
    );
    assert_eq!((unit.received, unit.dead, unit.dropped), (1, 0, 0));
    let [record] = &unit.records[..] else {
        panic!()
    };
    assert_eq!(record.device_time_ms, 1_560_161_086_000);
    assert_eq!(
        (record.priority, record.event_io_id, record.generation_type),
        (Some(1), 1, None)
    );
    assert_eq!(
        (record.valid, record.satellites, record.quarantine),
        (false, Some(0), None)
    );
    assert_eq!(record.hot.gsm_signal, Some(3));
    assert_eq!(record.hot.external_voltage_mv, Some(0x5E0F));
    assert_eq!(record.io, r#"{"1":1,"78":0,"241":24602}"#);
    let frame = unit.frame.as_ref().unwrap();
    assert_eq!(frame.data, bytes(CODEC8));
    let (offset, length) = record.bytes_at;
    assert_eq!((offset, offset + length), (2, frame.data.len() - 1));
    assert_eq!(
        crate::normalise::record_hash(&frame.data[offset..offset + length]),
        record.hash
    );
}

#[test]
fn records_of_one_frame_know_their_own_bytes() {
    let body = &bytes(CODEC8E)[2..];
    let record = &body[..body.len() - 1];
    let frame = [&[0x8E, 3][..], record, record, record, &[3]].concat();
    let decoded = decoded(&frames(&[&frame]));
    let unit = &decoded.units[0];
    assert_eq!(unit.received, 3);
    for (index, found) in unit.records.iter().enumerate() {
        let (offset, length) = found.bytes_at;
        assert_eq!(found.index as usize, index);
        assert_eq!(offset, 2 + index * record.len());
        assert_eq!(&frame[offset..offset + length], record);
    }
}

#[test]
fn messages_are_kept_with_their_payload() {
    let decoded = decoded(&frames(&[&bytes(RESPONSE)]));
    let unit = &decoded.units[0];
    assert_eq!((unit.received, unit.records.len()), (0, 0));
    let [message] = &unit.messages[..] else {
        panic!()
    };
    assert_eq!(
        (message.codec, message.kind, message.device_time_s),
        (12, 6, None)
    );
    assert!(message.payload.starts_with(b"INI:2019/7/22 7:22"));
}

#[test]
fn an_unknown_codec_is_a_dead_letter_and_its_neighbours_live() {
    let decoded = decoded(&frames(&[
        &bytes(CODEC8),
        &[0xFF, 4, 1, 2, 4],
        &bytes(CODEC8),
    ]));
    assert_eq!(
        decoded
            .units
            .iter()
            .map(|unit| unit.records.len())
            .collect::<Vec<_>>(),
        [1, 0, 1]
    );
    let dead = &decoded.units[1];
    assert_eq!((dead.received, dead.dead), (4, 4));
    let letter = &dead.dead_letters[0];
    assert_eq!(
        (letter.error_class, letter.offset, letter.records),
        ("codec", Some(0), 4)
    );
    assert_eq!(letter.bytes, [0xFF, 4, 1, 2, 4]);
    assert!(dead.frame.is_some());
}

/// Every truncation of a frame of each family: never a panic, always a dead letter with its bytes.
#[test]
fn every_truncated_frame_is_a_dead_letter() {
    for whole in [bytes(CODEC8), bytes(CODEC8E), bytes(RESPONSE)] {
        for length in 0..whole.len() {
            let cut = &whole[..length];
            let decoded = decoded(&frames(&[cut]));
            let unit = &decoded.units[0];
            assert_eq!(
                (unit.records.len(), unit.messages.len()),
                (0, 0),
                "{length}"
            );
            assert_eq!(unit.dead_letters.len(), 1, "{length}");
            assert_eq!(unit.dead_letters[0].bytes, cut);
            assert_eq!(unit.received, unit.dead);
        }
    }
}

#[test]
fn an_unreadable_payload_covers_all_it_claims_if_the_spool_is_known() {
    let mut entry = frames(&[bytes(CODEC8).as_slice(); 4]);
    entry.data = vec![1, 2, 3];
    let decoded = decoded(&entry);
    let [unit] = &decoded.units[..] else { panic!() };
    let place = unit.place.as_ref().unwrap();
    assert_eq!((place.first, place.last, place.only_if_known), (5, 8, true));
    assert_eq!((unit.received, unit.dead), (9, 9));
    assert_eq!(
        (
            unit.dead_letters[0].error_class,
            &unit.dead_letters[0].bytes[..]
        ),
        ("payload", &[1, 2, 3][..])
    );
}

#[test]
fn an_unreadable_payload_leaves_the_holes_of_its_entry_alone() {
    let mut entry = frames(&[bytes(CODEC8).as_slice(); 4]);
    entry.data = vec![1, 2, 3];
    entry.last = SpoolSeq::new(12).unwrap();
    entry.exact = Some(SettledRanges::parse("5-5,8-9,12-12").unwrap());
    let decoded = decoded(&entry);
    let [unit] = &decoded.units[..] else { panic!() };
    let place = unit.place.as_ref().unwrap();
    assert_eq!((place.first, place.last), (5, 12));
    assert_eq!(place.holes.to_string(), "6-7,10-11");
}

#[test]
fn an_envelope_in_a_hole_of_its_entry_makes_the_payload_unreadable() {
    let mut entry = frames(&[bytes(CODEC8).as_slice(); 4]);
    entry.exact = Some(SettledRanges::parse("5-6,8-8").unwrap());
    let unit = decoded(&entry).units.swap_remove(0);
    let letter = &unit.dead_letters[0];
    assert!(letter.reason.contains("position 7"), "{}", letter.reason);
    assert_eq!(unit.place.unwrap().holes.to_string(), "7-7");
}

#[test]
fn an_envelope_outside_its_entry_makes_the_payload_unreadable() {
    let mut entry = frames(&[bytes(CODEC8).as_slice(); 4]);
    entry.last = SpoolSeq::new(6).unwrap();
    let decoded = decoded(&entry);
    assert!(
        decoded.units[0].dead_letters[0]
            .reason
            .contains("position 7")
    );
    assert_eq!(decoded.units[0].place.as_ref().unwrap().last, 6);
}

#[test]
fn what_a_newer_reader_knows_is_left_alone() {
    let entry = frames(&[&bytes(CODEC8)]);
    for (name, value) in [("v", "3"), ("k", "gtfs"), ("c", "cbor")] {
        let mut fields = fields(&entry);
        set(&mut fields, name, value);
        let newer = super::entry(&id(), &fields).unwrap_err();
        assert!(newer.to_string().contains(value), "{newer}");
    }
}

/// A newer version is seen before anything else is judged, even when all the rest is gone.
#[test]
fn a_newer_version_is_seen_first() {
    let fields = [(b"v".to_vec(), b"3".to_vec())];
    assert!(matches!(
        super::entry(&id(), &fields),
        Err(ForNewerReader::Version { version: 3 })
    ));
}

#[test]
fn every_missing_field_makes_a_dead_letter_that_keeps_the_rest() {
    let entry = frames(&[&bytes(CODEC8)]);
    let whole = fields(&entry);
    for index in 0..whole.len() {
        let mut fields = whole.clone();
        let (name, _) = fields.remove(index);
        let decoded = super::entry(&id(), &fields).unwrap();
        let [unit] = &decoded.units[..] else { panic!() };
        assert!(unit.place.is_none() && decoded.low.is_none());
        let letter = &unit.dead_letters[0];
        assert_eq!(
            (letter.error_class, letter.entry.clone()),
            ("entry", Some(id()))
        );
        assert!(letter.reason.contains(std::str::from_utf8(&name).unwrap()));
        let written: usize = fields
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum();
        assert_eq!(letter.bytes.len(), written);
    }
}

#[test]
fn gaps_are_settled_and_counted_as_dropped() {
    let mut entry = frames(&[&bytes(CODEC8)]);
    entry.gaps = contract::ledger::gaps_from_text("1-2:7:dropped,4-4:0:corrupt").unwrap();
    let decoded = decoded(&entry);
    let shape: Vec<_> = decoded
        .units
        .iter()
        .map(|unit| {
            (
                unit.place.as_ref().unwrap().first,
                unit.received,
                unit.dropped,
            )
        })
        .collect();
    assert_eq!(shape, [(1, 7, 7), (4, 0, 0), (5, 1, 0)]);
}

proptest! {
    /// Whatever comes: no panic, and received = records + dead + dropped.
    #[test]
    fn any_frame_balances(data in proptest::collection::vec(any::<u8>(), 0..200), first in prop_oneof![Just(0x08u8), Just(0x8E), Just(0x10), Just(0x0C), any::<u8>()]) {
        let frame = [&[first][..], &data].concat();
        for unit in decoded(&frames(&[&frame])).units {
            prop_assert_eq!(unit.received, unit.records.len() as u64 + unit.dead + unit.dropped);
        }
    }

    #[test]
    fn any_fields_are_survived(fields in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..3), proptest::collection::vec(any::<u8>(), 0..20)), 0..12)) {
        let _ = super::entry(&id(), &fields);
    }
}

/// A box without a battery behind its clock says that it received records of 2019 in 1970.
#[test]
fn a_gateway_that_woke_up_in_1970_puts_nothing_into_the_quarantine() {
    let data = bytes(CODEC8);
    let mut entry = frames(&[&data]);
    let asleep = Envelope {
        seq: entry.first,
        received_at_ms: 5_000,
        device: Device::Imei("356307042441013".parse().unwrap()),
        transport: Transport::Tcp,
        lane: Lane::Normal,
        record_count: 1,
        bytes: &data,
    };
    entry.data = Payload::pack(&[asleep], &Coding::MsgPack).unwrap();
    assert_eq!(decoded(&entry).units[0].records[0].quarantine, None);
    // Without any clock that knows better, the future stays the future.
    let early = EntryId {
        id: "5000-1".parse().unwrap(),
        ..id()
    };
    let early = super::entry(&early, &fields(&entry)).unwrap();
    assert!(early.units[0].records[0].quarantine.is_some());
}

#[test]
fn an_unreadable_item_is_read_back_from_what_was_written_down() {
    let strange = vec![
        (b"v".to_vec(), b"1".to_vec()),
        (b"d".to_vec(), Vec::new()),
        (vec![0xFF, 0], vec![7; 300]),
    ];
    let letter = super::entry(&id(), &strange).unwrap().units.remove(0);
    let bytes = letter.dead_letters[0].bytes.clone();
    assert_eq!(read_back(&bytes).unwrap(), strange);
    for cut in 1..bytes.len() {
        // Cut at the end of a whole field it is a shorter list; anywhere else nothing.
        if let Some(fields) = read_back(&bytes[..cut]) {
            assert_eq!(fields[..], strange[..fields.len()]);
        }
    }
    assert_eq!(read_back(&[0, 0, 0, 9, 1]), None);
}

#[test]
fn a_payload_put_aside_is_read_by_its_first_bytes() {
    let frames = frames(&[&bytes(CODEC8), &bytes(RESPONSE)]);
    let opened = Payload::open(&Coding::MsgPack, &frames.data).unwrap();
    let zstd = Payload::pack(&opened.envelopes().unwrap(), &Coding::MsgPackZstd).unwrap();
    for data in [&frames.data, &zstd] {
        let units = payload(&frames.gateway, frames.spool, &Kind::Teltonika, data, 0).unwrap();
        let firsts: Vec<u64> = units
            .iter()
            .filter_map(|u| Some(u.place.as_ref()?.first))
            .collect();
        assert_eq!(firsts, [5, 6]);
        assert_eq!((units[0].records.len(), units[1].messages.len()), (1, 1));
    }
    let reason = payload(&frames.gateway, frames.spool, &Kind::Teltonika, b"?!", 0).unwrap_err();
    assert!(reason.contains("MsgPack"), "{reason}");
    let error = Unopened::Stray { seq: 9 };
    assert!(is_stray(&chain(&error)) && !is_stray(&reason));
}
