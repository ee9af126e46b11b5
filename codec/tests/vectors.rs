//! The public examples, one file each in `vectors/`: what the vendor's pages print, what
//! an independent decoder makes of it, and where the page is wrong. And those of our own
//! in `vectors-ours/`, for what no page prints.
//!
//! Every file is broken and in the list below, or decodes to its `expected`; a new file
//! fails until it does.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/decode/tool/mod.rs"]
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use codec::{Datagram, login};
use serde_json::Value;
use tool::json;
use tool::line::Transport;

/// Broken in print: the part and byte at which we notice, and what we say.
const BROKEN: [(&str, &str, usize, &str); 7] = [
    (
        "c8-tcp-vendor-parser-readme",
        "data",
        179,
        "incomplete: needs 2092 bytes, has 179",
    ),
    (
        "c8-tcp-vendor-parser-readme-fixed-length",
        "checksum",
        175,
        "checksum is 0x00007949, the data has 0xba48",
    ),
    (
        "c8-udp-vendor-parser-readme",
        "length",
        0,
        "length says 253 bytes, 187 follow it",
    ),
    // A Codec 8 body under id 8E: its first pairs read as a group of 327 two-byte values.
    (
        "c8e-udp-fm64-mislabelled",
        "record 0, 2-byte IO group",
        63,
        "the data ends inside this field",
    ),
    (
        "c16-udp-wiki-as-printed",
        "length",
        0,
        "length says 347 bytes, 72 follow it",
    ),
    (
        "c13-old-wiki-truncated",
        "data",
        31,
        "incomplete: needs 35 bytes, has 31",
    ),
    (
        "c14-rsp-nack",
        "checksum",
        24,
        "checksum is 0x000032ac, the data has 0x635e",
    ),
];

struct Vector {
    bytes: Vec<u8>,
    transport: String,
    valid: bool,
    expected: Value,
    expected_beacons: Option<Value>,
}

fn vectors() -> BTreeMap<String, Vector> {
    vectors_in("vectors")
}

fn our_vectors() -> BTreeMap<String, Vector> {
    vectors_in("vectors-ours")
}

fn vectors_in(dir: &str) -> BTreeMap<String, Vector> {
    let read = |path: &Path| {
        let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let text = |key: &str| file[key].as_str().unwrap().to_owned();
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), text("name"));
        assert!(
            !text("source").is_empty(),
            "{path:?} says nowhere where it is from"
        );
        let ours = text("source").starts_with("ours: SYNTHETIC");
        assert_eq!(
            ours,
            dir == "vectors-ours",
            "{path:?} says where it is from"
        );
        let vector = Vector {
            bytes: hex::decode(text("hex")).unwrap(),
            transport: text("transport"),
            valid: file["valid"].as_bool().unwrap(),
            expected: file["expected"].take(),
            expected_beacons: file.get("expected_beacons_385").cloned(),
        };
        (file["name"].as_str().unwrap().to_owned(), vector)
    };
    fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir))
        .unwrap()
        .map(|entry| read(&entry.unwrap().path()))
        .collect()
}

#[test]
fn every_vector_of_ours_is_read_or_refused_as_it_says() {
    let vectors = our_vectors();
    assert_eq!(vectors.len(), 33, "a vector came or went");
    for (name, vector) in vectors {
        let said = Transport::named(vector.transport.as_bytes()).unwrap();
        for transport in [said, Transport::Auto] {
            let read = json::describe(transport, &vector.bytes);
            assert_eq!(read.is_ok(), vector.valid, "{name} as {transport:?}");
            let value = read.unwrap_or_else(|problem| problem.to_value());
            assert_eq!(value, vector.expected, "{name} as {transport:?}");
        }
    }
}

#[test]
fn every_valid_vector_decodes_to_what_it_expects() {
    let mut decoded = 0;
    for (name, vector) in vectors() {
        // Answers and values have tests of their own.
        let answers_only = matches!(vector.transport.as_str(), "server-answer" | "io-value");
        if !vector.valid || answers_only {
            continue;
        }
        let said = Transport::named(vector.transport.as_bytes()).unwrap();
        for transport in [said, Transport::Auto] {
            let value = json::describe(transport, &vector.bytes).unwrap_or_else(|problem| {
                panic!("{name} as {transport:?}: {problem:?}");
            });
            assert_eq!(value, vector.expected, "{name} as {transport:?}");
        }
        decoded += 1;
    }
    assert_eq!(decoded, 26, "a vector came or went");
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
    for (name, stage, offset, text) in BROKEN {
        let problem = json::describe(Transport::Auto, &vectors[name].bytes).unwrap_err();
        assert_eq!(
            (
                problem.stage.as_str(),
                problem.offset,
                problem.text.as_str()
            ),
            (stage, offset, text),
            "{name}"
        );
    }
}

#[test]
fn every_value_of_an_element_is_read_as_it_expects() {
    let mut read = 0;
    for (name, vector) in vectors() {
        if vector.transport == "io-value" {
            let value = json::describe(Transport::Tags, &vector.bytes).unwrap();
            same_fields(&name, &value, &vector.expected);
            read += 1;
        }
        if let Some(expected) = vector.expected_beacons {
            let element = &vector.expected["records"][0]["io"][0];
            assert_eq!(element["id"], 385, "{name}");
            let bytes = hex::decode(element["hex"].as_str().unwrap()).unwrap();
            let value = json::describe(Transport::Beacons, &bytes).unwrap();
            same_fields(&name, &value, &expected);
            read += 1;
        }
    }
    assert_eq!(read, 2, "a value came or went");
}

/// Every field expected is there; what is there besides says only what was read.
fn same_fields(name: &str, value: &Value, expected: &Value) {
    let expected = expected.as_object().unwrap();
    for (key, expected) in expected {
        assert_eq!(&value[key], expected, "{key} of {name}");
    }
    assert_eq!(value.as_object().unwrap().len(), expected.len() + 2);
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
