//! The three inputs, written byte by byte, so that no encoder decides what is measured.

use std::fs;
use std::path::Path;

/// What one measured call works through, and how many records that is.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) records: usize,
}

impl Input {
    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }
}

pub(crate) fn all() -> [Input; 3] {
    [one_record_8e(), twenty_five_records_8(), public()]
}

/// (a) Codec 8 Extended, one record of twelve elements, 106 bytes.
fn one_record_8e() -> Input {
    let mut data = vec![0x8E, 1];
    head(&mut data, 0);
    data.extend([0, 239, 0, 12]);
    data.extend([0, 5]);
    for (id, value) in [(239, 1), (240, 1), (21, 4), (200, 0), (69, 1)] {
        data.extend([0, id, value]);
    }
    data.extend([0, 4]);
    for (id, value) in [(66u8, 13_844u16), (67, 4_022), (24, 50), (181, 9)] {
        data.extend([0, id]);
        data.extend(value.to_be_bytes());
    }
    data.extend([0, 2]);
    for (id, value) in [(16u8, 1_234_567u32), (241, 24_602)] {
        data.extend([0, id]);
        data.extend(value.to_be_bytes());
    }
    data.extend([0, 1, 0, 11]);
    data.extend(893_700_100_212_345_678u64.to_be_bytes());
    data.extend([0, 0, 1]);
    let frame = framed(data);
    assert_eq!(frame.len(), 106);
    Input {
        name: "a",
        frames: vec![frame],
        records: 1,
    }
}

/// (b) Codec 8, 25 records of five elements, 1215 bytes.
fn twenty_five_records_8() -> Input {
    let mut data = vec![0x08, 25];
    for index in 0..25u8 {
        head(&mut data, index);
        data.extend([0, 5]);
        data.extend([3, 239, index & 1, 240, 1, 21, 4]);
        data.extend([1, 66, 0x36, index]);
        data.extend([0]);
        data.extend([1, 11, 0x0C, 0x67, 0x07, 0x3B, 0x2F, 0x8E, 0x43, index]);
    }
    data.push(25);
    let frame = framed(data);
    assert_eq!(frame.len(), 1215);
    Input {
        name: "b",
        frames: vec![frame],
        records: 25,
    }
}

/// (c) Every public TCP example that the peer accepts, one after the other.
fn public() -> Input {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut frames: Vec<Vec<u8>> = fs::read_dir(dir)
        .expect("the vectors lie beside the crate")
        .map(|entry| {
            let text = fs::read(entry.expect("a directory entry").path()).expect("a vector");
            let file: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            hex::decode(file["hex"].as_str().expect("every vector has its bytes"))
                .expect("hexadecimal digits")
        })
        .filter(|bytes| nom_teltonika::decoder::take_frame(&mut &bytes[..]).is_ok())
        .collect();
    frames.sort();
    let records = frames.iter().map(|frame| usize::from(frame[9])).sum();
    Input {
        name: "c",
        frames,
        records,
    }
}

fn head(data: &mut Vec<u8>, index: u8) {
    data.extend((1_732_190_400_000u64 + 1_000 * u64::from(index)).to_be_bytes());
    data.push(0);
    data.extend((252_797_000i32 + i32::from(index)).to_be_bytes());
    data.extend((546_872_000i32 - i32::from(index)).to_be_bytes());
    data.extend([0, 112, 0, 90 + index, 11, 0, 50]);
}

fn framed(data: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("a short frame");
    let checksum = data.iter().fold(0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xA001 } else { 0 }
        })
    });
    let mut frame = vec![0; 4];
    frame.extend(length.to_be_bytes());
    frame.extend(data);
    frame.extend(checksum.to_be_bytes());
    frame
}
