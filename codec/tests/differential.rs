//! The same bytes through a decoder of other people, nom-teltonika 0.3.0 (crates.io, read
//! and run 2026-11): every field compared, every disagreement named in
//! `differential/table.rs` with who is right and why.
//!
//! A disagreement that is not in the table fails, and so does a line of the table that
//! nothing brings about any more.
#![allow(clippy::unwrap_used)]

#[path = "differential/table.rs"]
mod table;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use codec::{
    AvlData, Codec7Data, CodecId, Cut, Datagram, Expect, GenerationType, Limits, MessageData,
};
use nom_teltonika::decoder::{
    AvlPacketError, DatagramError, DecodeDatagramError, DecodeFrameError, DecodeImeiError,
    FrameError, GprsPacketError, HeaderError, take_datagram, take_frame, take_imei,
};
use nom_teltonika::protocol::{AvlPacketView, FrameView, IoValueView};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use table::{DISAGREEMENTS, OF_THE_VECTORS, Right};
use wire::recipe::{self, Element};
use wire::{crc16_slowly, framed};

/// What a decoder finds, in terms that both can be put in.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Records(Vec<Record>),
    Messages(Vec<(u8, Vec<u8>)>),
    /// Read by us alone.
    OursAlone,
}

#[derive(Debug, Clone, PartialEq)]
struct Record {
    timestamp_ms: u64,
    priority: u8,
    longitude: i32,
    latitude: i32,
    altitude: i16,
    angle: u16,
    satellites: u8,
    speed: u16,
    event: u16,
    generation: Option<u8>,
    io: Vec<Element>,
}

/// What comes of some bytes.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    /// Read, with the number of bytes taken.
    Read(Found, usize),
    /// So many bytes are missing.
    Missing(usize),
    /// Not to be had; go on behind so many bytes, or close.
    Rejected(Option<usize>),
}

fn our_data(data: &[u8]) -> Option<Found> {
    let codec = CodecId::from_byte(data[0]);
    if codec == CodecId::Codec7 {
        return Codec7Data::parse(data).ok().map(|_| Found::OursAlone);
    }
    if codec.is_message() {
        let read = MessageData::parse(data).ok()?;
        if codec != CodecId::Codec12 {
            return Some(Found::OursAlone);
        }
        let messages = read.messages();
        let messages = messages.map(|message| (message.kind, message.payload.to_vec()));
        return Some(Found::Messages(messages.collect()));
    }
    let records = AvlData::parse(data).ok()?.records().map(|record| Record {
        timestamp_ms: record.timestamp_ms,
        priority: record.priority.as_byte(),
        longitude: record.longitude_e7,
        latitude: record.latitude_e7,
        altitude: record.altitude_m,
        angle: record.angle_deg,
        satellites: record.satellites,
        speed: record.speed_kmh,
        event: record.event_io_id,
        generation: record.generation_type.map(GenerationType::as_byte),
        io: record
            .io()
            .map(|element| (element.id, element.width.bytes(), element.bytes.to_vec()))
            .collect(),
    });
    Some(Found::Records(records.collect()))
}

fn our_frame(input: &[u8]) -> Outcome {
    match codec::cut(input, Expect::Frame, Limits::default()) {
        Cut::Frame(frame) => match our_data(frame.data()) {
            Some(found) => Outcome::Read(found, frame.consumed()),
            None => Outcome::Rejected(Some(frame.consumed())),
        },
        Cut::NeedMore { needed } => Outcome::Missing(needed - input.len()),
        // Behind keep-alives comes what they announce nothing about.
        Cut::Ping => Outcome::Read(Found::OursAlone, 1),
        Cut::Refuse { consumed, .. } => Outcome::Rejected(Some(consumed)),
        _ => Outcome::Rejected(None),
    }
}

fn their_records(packet: &AvlPacketView<'_>) -> Found {
    let records = packet.records().map(|record| {
        let gps = record.gps();
        Record {
            timestamp_ms: record.timestamp().into(),
            priority: record.priority().into(),
            longitude: gps.longitude_raw,
            latitude: gps.latitude_raw,
            altitude: gps.altitude_meters_signed(),
            angle: gps.angle_degrees,
            satellites: gps.satellites,
            speed: gps.speed_kph,
            event: record.event_io_id().map_or(0, u16::from),
            generation: record.generation_type().map(u8::from),
            io: record
                .io_elements()
                .map(|element| {
                    let (width, bytes) = match element.value() {
                        IoValueView::U8(value) => (Some(1), vec![value]),
                        IoValueView::U16(value) => (Some(2), value.to_be_bytes().to_vec()),
                        IoValueView::U32(value) => (Some(4), value.to_be_bytes().to_vec()),
                        IoValueView::U64(value) => (Some(8), value.to_be_bytes().to_vec()),
                        IoValueView::Bytes(bytes) => (None, bytes.to_vec()),
                    };
                    (element.id().into(), width, bytes)
                })
                .collect(),
        }
    });
    Found::Records(records.collect())
}

fn their_frame(input: &[u8]) -> (Outcome, Option<DecodeFrameError>) {
    let mut rest = input;
    let read = take_frame(&mut rest);
    let consumed = input.len() - rest.len();
    match read {
        Ok(FrameView::Avl(packet)) => (Outcome::Read(their_records(&packet), consumed), None),
        Ok(FrameView::Gprs(packet)) => {
            let messages = packet.messages();
            let messages =
                messages.map(|message| (message.kind().into(), message.payload().to_vec()));
            let found = Found::Messages(messages.collect());
            (Outcome::Read(found, consumed), None)
        }
        Ok(_) => panic!("a kind of frame that 0.3.0 does not have"),
        Err(DecodeFrameError::Incomplete { needed }) => (Outcome::Missing(needed.get()), None),
        Err(error @ DecodeFrameError::InvalidFrame { len, .. }) => {
            (Outcome::Rejected(Some(len)), Some(error))
        }
        Err(error) => (Outcome::Rejected(None), Some(error)),
    }
}

type Seen = BTreeMap<&'static str, usize>;

/// Holds both readings of a frame against each other.
fn compare_frame(input: &[u8], seen: &mut Seen) {
    let ours = our_frame(input);
    let (theirs, error) = their_frame(input);
    if ours == theirs {
        return;
    }
    let name = match (&ours, &theirs) {
        // Of the header theirs asks for all eight bytes at once.
        (Outcome::Missing(1), Outcome::Missing(8)) if input.is_empty() => return,
        // A length above its smaller limit makes theirs ask for the codec id first.
        (Outcome::Missing(_), Outcome::Missing(1)) if input.len() == 8 => return,
        _ if input.first() == Some(&0xFF) => Some("keep-alive byte in front"),
        (Outcome::Rejected(_), Outcome::Missing(_)) if input.len() < 8 => {
            Some("wrong preamble, fewer than eight bytes")
        }
        (Outcome::Rejected(None), _) if matches!(input, [0, 0, 0, 0, 0, 0, 0, 0..3, ..]) => {
            Some("data length below 3")
        }
        _ => name_of(
            input
                .get(8..input.len().saturating_sub(4))
                .unwrap_or_default(),
            &error,
        ),
    };
    let name = name.unwrap_or_else(|| {
        panic!(
            "{}\nours   {ours:?}\ntheirs {theirs:?} {error:?}",
            hex::encode(input)
        )
    });
    *seen.entry(name).or_default() += 1;
}

/// The line of the table that explains why they refuse what we do not.
fn name_of(data: &[u8], error: &Option<DecodeFrameError>) -> Option<&'static str> {
    let reason = match (*error)? {
        DecodeFrameError::InvalidFrame { reason, .. } => reason,
        DecodeFrameError::InvalidHeader(HeaderError::TooLong { .. }) => {
            return Some("frame of codec 8 or 8E above 1280 bytes");
        }
        _ => return None,
    };
    match reason {
        FrameError::UnsupportedCodec(0x07) => Some("codec 7"),
        FrameError::UnsupportedCodec(0x0D..=0x0F) => Some("codec 13, 14, 15"),
        FrameError::Gprs(GprsPacketError::InvalidMessageType(_)) => {
            Some("codec 12 type that is neither command nor answer")
        }
        FrameError::Gprs(GprsPacketError::NoMessages) => Some("no records or messages"),
        FrameError::Avl(error) => name_of_avl(data, error),
        _ => None,
    }
}

fn name_of_avl(data: &[u8], error: AvlPacketError) -> Option<&'static str> {
    // How theirs stumbles over the fifth group depends on what the values hold.
    if AvlData::parse(data).is_ok_and(|avl| avl.has_16_byte_group()) {
        return Some("group of 16-byte values in codec 8");
    }
    match error {
        AvlPacketError::InvalidPriority(3..) => Some("priority 3 and above"),
        AvlPacketError::InvalidGenerationType(8..) => Some("generation type 8 and above"),
        AvlPacketError::NoRecords => Some("no records or messages"),
        _ => None,
    }
}

/// Holds both readings of a datagram against each other.
fn compare_datagram(input: &[u8], seen: &mut Seen) {
    let ours = Datagram::parse(input).ok();
    let our_found = ours.and_then(|datagram| our_data(datagram.data()));
    let mut rest = input;
    let (name, explained) = match take_datagram(&mut rest) {
        Ok(theirs) => {
            let ours = ours.expect("they read the datagram");
            assert_eq!(theirs.packet_id(), ours.packet_id());
            assert_eq!(theirs.avl_packet_id(), ours.avl_packet_id());
            assert_eq!(our_found, Some(their_records(&theirs.packet())));
            let identity = theirs.imei();
            assert_eq!(identity.as_str().as_bytes(), ours.raw_identity());
            match ours.imei() {
                Ok(imei) => {
                    assert_eq!(imei.to_string(), identity.as_str());
                    return;
                }
                Err(_) => ("identity that is not 15 digits", true),
            }
        }
        Err(_) if our_found.is_none() => return,
        Err(DecodeDatagramError::InvalidDatagram { reason, .. }) => {
            let data = ours.unwrap().data();
            let name = match reason {
                DatagramError::ImeiNotAscii(_) => Some("identity that is not ASCII"),
                DatagramError::UnsupportedCodec(0x07) => Some("codec 7"),
                DatagramError::UnsupportedCodec(0x0C..=0x0F) => Some("messages in a datagram"),
                DatagramError::Avl(error) => name_of_avl(data, error),
                _ => None,
            };
            (name.unwrap_or("?"), name.is_some())
        }
        Err(_) => ("?", false),
    };
    assert!(explained, "{}: {our_found:?}", hex::encode(input));
    *seen.entry(name).or_default() += 1;
}

/// Holds both readings of a login against each other.
fn compare_login(input: &[u8], seen: &mut Seen) {
    let mut rest = input;
    let theirs = take_imei(&mut rest);
    let name = match (codec::cut(input, Expect::Login, Limits::default()), &theirs) {
        (Cut::Login(ours), Ok(identity)) => {
            assert_eq!(ours.raw(), identity.as_str().as_bytes());
            assert_eq!(ours.consumed(), input.len() - rest.len());
            if ours.imei().is_ok() {
                return;
            }
            "identity that is not 15 digits"
        }
        (Cut::Login(ours), Err(DecodeImeiError::NotAscii(_))) => {
            assert!(ours.imei().is_err());
            return;
        }
        (Cut::NeedMore { needed }, Err(DecodeImeiError::Incomplete { needed: theirs })) => {
            // Of the length itself theirs asks for both bytes at once.
            assert!(needed - input.len() == theirs.get() || input.len() < 2);
            return;
        }
        (Cut::Ping, _) => "keep-alive byte in front",
        (Cut::Close { .. }, _) if input.starts_with(&[0, 0]) => return,
        (Cut::Close { .. }, _) => "login above the limit",
        (ours, theirs) => panic!("{}: {ours:?} {theirs:?}", hex::encode(input)),
    };
    *seen.entry(name).or_default() += 1;
}

/// Name, transport and bytes of every vector, the broken ones as well.
fn vectors() -> Vec<(String, String, Vec<u8>)> {
    let mut found = Vec::new();
    for dir in ["vectors", "vectors-ours"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        for entry in fs::read_dir(dir).unwrap() {
            let file = fs::read(entry.unwrap().path()).unwrap();
            let file: Value = serde_json::from_slice(&file).unwrap();
            let text = |key: &str| file[key].as_str().unwrap().to_owned();
            let bytes = hex::decode(text("hex")).unwrap();
            found.push((text("name"), text("transport"), bytes));
        }
    }
    found.sort();
    found
}

fn compare(transport: &str, bytes: &[u8], seen: &mut Seen) {
    match transport {
        "tcp" | "command" | "ping" => compare_frame(bytes, seen),
        "udp" => compare_datagram(bytes, seen),
        "login" => compare_login(bytes, seen),
        "server-answer" | "io-value" => {}
        other => panic!("transport {other}"),
    }
}

#[test]
fn the_vectors_are_read_alike_but_for_these() {
    let mut disagreed = BTreeSet::new();
    for (name, transport, bytes) in vectors() {
        let mut seen = Seen::new();
        compare(&transport, &bytes, &mut seen);
        disagreed.extend(seen.into_keys().map(|what| (name.clone(), what)));
    }
    let listed: BTreeSet<_> = OF_THE_VECTORS
        .into_iter()
        .map(|(name, what)| (name.to_owned(), what))
        .collect();
    assert_eq!(disagreed, listed);
}

/// Everything that brings about disagreements: vectors cut and changed in every place,
/// and recipes. Always the same, so that the table can be held against it.
fn all_that_is_seen() -> Seen {
    let mut seen = Seen::new();
    for (_, transport, bytes) in vectors() {
        for have in 0..=bytes.len() {
            compare(&transport, &bytes[..have], &mut seen);
        }
        change_every_byte(&transport, &bytes, &mut seen);
    }
    let mut runner = TestRunner::deterministic();
    let mut make =
        |strategy: &BoxedStrategy<Vec<u8>>| strategy.new_tree(&mut runner).unwrap().current();
    let datas = [
        recipe::avl().prop_map(|recipe| recipe.data()).boxed(),
        tame_avl().boxed(),
        recipe::wide_avl().prop_map(|recipe| recipe.data()).boxed(),
        recipe::messages().prop_map(|recipe| recipe.data()).boxed(),
        recipe::codec7().prop_map(|recipe| recipe.data()).boxed(),
    ];
    for data in datas.iter().cycle().take(4000) {
        let data = make(data);
        compare_frame(&framed(&data), &mut seen);
        let identity = if data.len() % 7 == 0 {
            &b"35630704244101X"[..]
        } else {
            b"356307042441013"
        };
        compare_datagram(&recipe::datagram(0xCAFE, 7, identity, &data), &mut seen);
    }
    for length in [0, 1, 2, 3, 1268, 1269, 65_523, 65_524] {
        let mut data = vec![0x08; length];
        data.iter_mut().skip(1).for_each(|byte| *byte = 0);
        compare_frame(&framed(&data), &mut seen);
    }
    seen
}

/// Records that theirs has no reason to refuse.
fn tame_avl() -> impl Strategy<Value = Vec<u8>> {
    recipe::avl().prop_map(|mut recipe| {
        for record in &mut recipe.records {
            record.head[8] %= 3;
            record.generation %= 8;
        }
        recipe.data()
    })
}

/// Puts eleven other values in the place of every byte, one at a time; the checksum of
/// frames is put right again where the data changed.
fn change_every_byte(transport: &str, bytes: &[u8], seen: &mut Seen) {
    for at in 0..bytes.len() {
        let was = bytes[at];
        let others = [0, 1, 2, 3, 4, 8, 0x0C, 0x7F, 0x80, 0x8E, 0xFF];
        for other in others.into_iter().chain((0..8).map(|bit| was ^ 1 << bit)) {
            let mut changed = bytes.to_vec();
            changed[at] = other;
            compare(transport, &changed, seen);
            if matches!(transport, "tcp" | "command") && (8..bytes.len() - 4).contains(&at) {
                let end = changed.len() - 4;
                let crc = crc16_slowly(&changed[8..end]);
                changed[end + 2..].copy_from_slice(&crc.to_be_bytes());
                compare(transport, &changed, seen);
            }
        }
    }
}

#[test]
fn every_disagreement_is_in_the_table_and_happens() {
    let seen = all_that_is_seen();
    assert!(DISAGREEMENTS.iter().all(|(_, _, why)| !why.is_empty()));
    let happens: BTreeSet<&str> = seen.keys().copied().collect();
    let listed: BTreeSet<&str> = DISAGREEMENTS.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(happens, listed, "{seen:?}");
    // Nobody is right about everything, or this test compares nothing.
    assert!(
        DISAGREEMENTS
            .iter()
            .any(|(_, right, _)| *right == Right::They)
    );
    assert!(
        DISAGREEMENTS
            .iter()
            .any(|(_, right, _)| *right == Right::We)
    );
}
