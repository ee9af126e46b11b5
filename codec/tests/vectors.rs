//! The public examples, one file each in `vectors/`: what the vendor's pages print, what
//! an independent decoder makes of it, and where the page is wrong.
//!
//! Every file is in exactly one of the lists below or decodes to its `expected`; a new
//! file, or one that is suddenly understood, fails until the lists say so.
#![allow(clippy::unwrap_used)]

#[path = "../examples/decode/json.rs"]
mod json;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use codec::{AvlData, BodyReason, CodecId, Cut, Datagram, Expect, Limits, login};
use serde_json::Value;

/// Valid, but nothing in this crate reads it yet. (Nor the `expected_beacons_385` of
/// `c8e-tcp-beacon385`: the value is handed on as bytes.)
const NOT_READ: [&str; 2] = ["ble-10828-near-eye", "c7-tcp-synthetic"];

/// Broken in print: the byte at which we notice, and what we say.
const BROKEN: [(&str, usize, &str); 7] = [
    (
        "c8-tcp-vendor-parser-readme",
        179,
        "incomplete: needs 2092 bytes, has 179",
    ),
    (
        "c8-tcp-vendor-parser-readme-fixed-length",
        175,
        "checksum is 0x00007949, the data has 0xba48",
    ),
    (
        "c8-udp-vendor-parser-readme",
        0,
        "length says 253 bytes, 187 follow it",
    ),
    // A Codec 8 body under id 8E: its first pairs read as a group of 327 two-byte values.
    (
        "c8e-udp-fm64-mislabelled",
        63,
        "record 0, 2-byte IO group: the data ends inside this field",
    ),
    (
        "c16-udp-wiki-as-printed",
        0,
        "length says 347 bytes, 72 follow it",
    ),
    (
        "c13-old-wiki-truncated",
        31,
        "incomplete: needs 35 bytes, has 31",
    ),
    (
        "c14-rsp-nack",
        24,
        "checksum is 0x000032ac, the data has 0x635e",
    ),
];

struct Vector {
    bytes: Vec<u8>,
    transport: String,
    valid: bool,
    expected: Value,
}

fn vectors() -> BTreeMap<String, Vector> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let read = |path: &Path| {
        let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let text = |key: &str| file[key].as_str().unwrap().to_owned();
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), text("name"));
        assert!(
            !text("source").is_empty(),
            "{path:?} says nowhere where it is from"
        );
        let vector = Vector {
            bytes: hex::decode(text("hex")).unwrap(),
            transport: text("transport"),
            valid: file["valid"].as_bool().unwrap(),
            expected: file["expected"].take(),
        };
        (file["name"].as_str().unwrap().to_owned(), vector)
    };
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| read(&entry.unwrap().path()))
        .collect()
}

#[test]
fn every_valid_vector_decodes_to_what_it_expects() {
    let mut decoded = 0;
    for (name, vector) in vectors() {
        let answers_only = vector.transport == "server-answer";
        if !vector.valid || answers_only || NOT_READ.contains(&name.as_str()) {
            continue;
        }
        let (value, consumed) = json::describe(&vector.bytes).unwrap_or_else(|problem| {
            panic!("{name}: {problem:?}");
        });
        assert_eq!(value, vector.expected, "{name}");
        assert_eq!(consumed, vector.bytes.len(), "{name}");
        decoded += 1;
    }
    assert_eq!(decoded, 25, "a vector came or went");
}

#[test]
fn every_broken_vector_is_refused_where_it_is_broken() {
    let vectors = vectors();
    let invalid: Vec<&String> = vectors
        .iter()
        .filter(|(_, v)| !v.valid)
        .map(|(n, _)| n)
        .collect();
    for name in &invalid {
        assert!(
            BROKEN.iter().any(|(broken, ..)| broken == name),
            "{name} is not in BROKEN"
        );
    }
    assert_eq!(invalid.len(), BROKEN.len());
    for (name, offset, text) in BROKEN {
        let problem = json::describe(&vectors[name].bytes).unwrap_err();
        assert_eq!(
            (problem.offset, problem.text.as_str()),
            (offset, text),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_read_yet_is_known_by_name() {
    let vectors = vectors();
    for name in NOT_READ {
        let vector = &vectors[name];
        assert!(vector.valid, "{name}");
        assert!(
            json::describe(&vector.bytes).is_err(),
            "{name} is read now: say so"
        );
    }
    // Codec 7 all the same reaches storage and gets its answer.
    let codec_7 = &vectors["c7-tcp-synthetic"];
    let Cut::Frame(frame) = codec::cut(&codec_7.bytes, Expect::Frame, Limits::default()) else {
        panic!("a frame of an unread codec is a frame");
    };
    assert_eq!(frame.codec_id(), CodecId::Codec7);
    assert_eq!(
        hex::encode(frame.ack().unwrap()),
        codec_7.expected["ack_hex"]
    );
    let error = AvlData::parse(frame.data()).unwrap_err();
    assert_eq!(
        (error.offset, error.reason),
        (0, BodyReason::Codec { found: 7 })
    );
}

#[test]
fn the_servers_answers_are_the_printed_ones() {
    let vectors = vectors();
    let printed = |name: &str| vectors[name].bytes.as_slice();
    let answer_to = |name: &str| {
        let datagram = Datagram::parse(printed(name)).unwrap();
        datagram.answer(datagram.first_count())
    };
    let answers: [(&str, &[u8]); 7] = [
        ("ack-imei-accept", &[login::ACCEPT]),
        ("ack-imei-reject", &[login::REFUSE]),
        ("ack-tcp-1-record", &codec::ack(1)),
        ("ack-tcp-2-records", &codec::ack(2)),
        ("ack-udp-c8", &answer_to("c8-udp-1")),
        ("ack-udp-c8e", &answer_to("c8e-udp-1")),
        ("ack-udp-c16", &answer_to("c16-udp-fixed-length")),
    ];
    let listed = vectors
        .values()
        .filter(|vector| vector.transport == "server-answer")
        .count();
    assert_eq!(listed, answers.len());
    for (name, ours) in answers {
        assert_eq!(ours, printed(name), "{name}");
    }
}
