//! Bytes of every released version stay readable for ever: the files in `golden/` were packed by
//! another program (MsgPack and zstd for Python), so our writer is not its own witness.

use std::collections::HashMap;
use std::path::PathBuf;

use contract::{
    Coding, CommandResponse, Device, Entry, Order, Payload, SettledRanges, SpoolSeq, position,
};
use serde_json::Value;

fn golden(name: &str) -> Value {
    golden_of("v1", name)
}

fn golden_of(version: &str, name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(version)
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("golden files are JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal text")).expect("hexadecimal text")
}

fn pairs(name: &str) -> Vec<(String, String)> {
    serde_json::from_value(golden(name)["fields"].clone()).expect("fields are pairs")
}

#[test]
fn payload_of_version_1_is_read_and_written_alike() {
    let golden = golden("payload.json");
    for coding in [Coding::MsgPack, Coding::MsgPackZstd] {
        let stored = bytes(&golden[coding.as_str()]);
        let payload = Payload::open(&coding, &stored).expect("golden payload opens");
        let envelopes = payload.envelopes().expect("golden payload reads");
        let expected = golden["envelopes"].as_array().expect("a list");
        assert_eq!(envelopes.len(), expected.len());
        for (envelope, expected) in envelopes.iter().zip(expected) {
            assert_eq!(envelope.seq.get(), expected["seq"]);
            assert_eq!(envelope.received_at_ms, expected["received_at_ms"]);
            assert_eq!(
                envelope.device.to_string(),
                expected["device"].as_str().expect("text")
            );
            assert_eq!(envelope.transport.as_u8(), expected["transport"]);
            assert_eq!(envelope.lane.as_u8(), expected["lane"]);
            assert_eq!(envelope.record_count, expected["record_count"]);
            assert_eq!(envelope.bytes, bytes(&expected["bytes"]));
        }
        assert!(matches!(envelopes[0].device, Device::Imei(_)));
        assert!(matches!(envelopes[1].device, Device::Text(_)));
        // zstd may compress better one day; MsgPack must stay the same to the byte.
        if coding == Coding::MsgPack {
            assert_eq!(Payload::pack(&envelopes, &coding).expect("packs"), stored);
        }
    }
}

/// Reads the golden entry of `version` and makes sure that it is written alike.
fn entry_written_alike(version: &str) -> Entry {
    let golden = golden_of(version, "entry.json");
    let pairs: Vec<(String, String)> =
        serde_json::from_value(golden["fields"].clone()).expect("fields are pairs");
    let fields: Vec<(String, Vec<u8>)> = pairs
        .into_iter()
        .map(|(name, text)| {
            let value = if name == "d" {
                hex::decode(&text).expect("hexadecimal")
            } else {
                text.into_bytes()
            };
            (name, value)
        })
        .collect();
    let entry = Entry::from_fields(fields.iter().map(|(n, v)| (n.as_str(), v.as_slice())))
        .expect("golden entry reads");
    let written: Vec<(String, Vec<u8>)> = entry
        .to_fields()
        .into_iter()
        .map(|(n, v)| (n.to_owned(), v))
        .collect();
    assert_eq!(written, fields);
    entry
}

fn seqs_inside(entry: &Entry) -> Vec<u64> {
    let payload = Payload::open(&entry.coding, &entry.data).expect("opens");
    let envelopes = payload.envelopes().expect("reads");
    envelopes.iter().map(|e| e.seq.get()).collect()
}

#[test]
fn entry_of_version_1_is_read_and_written_alike() {
    let entry = entry_written_alike("v1");
    assert_eq!(
        (
            entry.first.get(),
            entry.last.get(),
            entry.low.get(),
            entry.records
        ),
        (5, 6, 3, 1)
    );
    assert_eq!(entry.spool.as_u64(), 0xabc);
    assert_eq!(entry.exact, None);
    assert_eq!(seqs_inside(&entry), [5, 6]);
}

#[test]
fn entry_of_version_2_is_read_and_written_alike() {
    let entry = entry_written_alike("v2");
    assert_eq!((entry.first.get(), entry.last.get()), (5, 9));
    assert_eq!(entry.positions().as_slice(), [(5, 5), (9, 9)]);
    assert_eq!(seqs_inside(&entry), [5, 9]);
}

#[test]
fn commands_of_version_1_are_read_and_written_alike() {
    let owned = |fields: Vec<(&'static str, String)>| -> Vec<(String, String)> {
        fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
    };
    let fields = pairs("order.json");
    let map: HashMap<_, _> = fields.iter().cloned().collect();
    assert_eq!(
        owned(
            Order::from_fields(&map)
                .expect("golden order reads")
                .to_fields()
        ),
        fields
    );
    let fields = pairs("response.json");
    let map: HashMap<_, _> = fields.iter().cloned().collect();
    assert_eq!(
        owned(
            CommandResponse::from_fields(&map)
                .expect("golden response reads")
                .to_fields()
        ),
        fields
    );
}

#[test]
fn floor_of_version_1_is_read_and_written_alike() {
    let golden = golden("floor.json");
    let text = golden["text"].as_str().expect("text");
    let settled = SettledRanges::parse(text).expect("golden floor reads");
    assert_eq!(settled.to_string(), text);
    assert_eq!(settled.low_edge(), golden["low_edge"]);
    for (key, expected) in [("settled", true), ("open", false)] {
        for seq in golden[key].as_array().expect("a list") {
            let seq = SpoolSeq::new(seq.as_u64().expect("a number")).expect("a position");
            assert_eq!(settled.contains(seq), expected, "{seq}");
        }
    }
}

#[test]
fn positions_of_version_1_are_read_and_written_alike() {
    let golden = golden("position.json");
    let packed = bytes(&golden["mp"]);
    let positions = position::unpack(&packed).expect("golden positions read");
    let expected = golden["positions"].as_array().expect("a list");
    assert_eq!(positions.len(), expected.len());
    for (position, expected) in positions.iter().zip(expected) {
        assert_eq!(position.time_ms, expected["time_ms"]);
        assert_eq!(position.latitude, expected["latitude"]);
        assert_eq!(position.longitude, expected["longitude"]);
        for (number, field) in [
            (position.altitude_m, "altitude_m"),
            (position.heading_deg, "heading_deg"),
            (position.speed_kmh, "speed_kmh"),
            (position.accuracy_m, "accuracy_m"),
        ] {
            assert_eq!(number, expected[field].as_f64(), "{field}");
        }
        let attributes = Value::Object(position.attributes.clone());
        assert_eq!(attributes, expected["attributes"]);
    }
    assert_eq!(position::pack(&positions).expect("packs"), packed);
}
