//! Bytes for the tests, put together by hand so that the encoder is not its own witness.
#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod recipe;

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Name and bytes of every valid frame in the vectors, of others and of ours.
pub(crate) fn frames() -> Vec<(String, Vec<u8>)> {
    let mut frames = public_frames();
    frames.extend(of_transports("vectors-ours", &["tcp", "command"]));
    frames
}

/// Name and bytes of every valid public example that is a TCP message.
pub(crate) fn public_frames() -> Vec<(String, Vec<u8>)> {
    of_transports("vectors", &["tcp", "command"])
}

/// Name and bytes of both public logins.
pub(crate) fn logins() -> Vec<(String, Vec<u8>)> {
    of_transports("vectors", &["login"])
}

/// Name and bytes of every valid public datagram.
pub(crate) fn public_datagrams() -> Vec<(String, Vec<u8>)> {
    of_transports("vectors", &["udp"])
}

/// Name and bytes of every valid datagram in the vectors, of others and of ours.
pub(crate) fn datagrams() -> Vec<(String, Vec<u8>)> {
    let mut datagrams = public_datagrams();
    datagrams.extend(of_transports("vectors-ours", &["udp"]));
    datagrams
}

fn of_transports(dir: &str, transports: &[&str]) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file: Value =
            serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let transport = file["transport"].as_str().unwrap();
        if file["valid"] == true && transports.contains(&transport) {
            let bytes = hex::decode(file["hex"].as_str().unwrap()).unwrap();
            found.push((file["name"].as_str().unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// CRC-16/ARC one bit at a time.
pub(crate) fn crc16_slowly(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xA001
            } else {
                crc >> 1
            };
        }
    }
    crc
}

/// Preamble, length, data, checksum.
pub(crate) fn framed(data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0];
    frame.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    frame.extend(data);
    frame.extend([0, 0]);
    frame.extend(crc16_slowly(data).to_be_bytes());
    frame
}

/// One Codec 8 record of 30 bytes without IO elements.
pub(crate) fn plain_record(priority: u8) -> Vec<u8> {
    let mut record = vec![0, 0, 0x01, 0x6B, 0x40, 0xD8, 0xEA, 0x30, priority];
    record.extend([0x0F, 0x0E, 0xA8, 0x50, 0x20, 0x9A, 0x69, 0x00]);
    record.extend([0x00, 0x94, 0x00, 0x5A, 0x12, 0x00, 0x32]);
    record.extend([0, 0, 0, 0, 0, 0]);
    record
}

/// A Codec 8 data field of such records.
pub(crate) fn plain_data(priorities: &[u8]) -> Vec<u8> {
    let count = u8::try_from(priorities.len()).unwrap();
    let mut data = vec![0x08, count];
    data.extend(
        priorities
            .iter()
            .flat_map(|priority| plain_record(*priority)),
    );
    data.push(count);
    data
}
