//! A small spool on the real file system, and frames to put into it.
#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod aftermath;

use std::path::Path;

use contract::{Device, Lane, SettledRanges, SpoolId, Transport};
use spool::fs::RealFs;
use spool::{
    Append, Durable, FullPolicy, Geometry, OpenReport, Options, Position, SpoolError, SpoolReader,
    SpoolWriter, Stored,
};

pub(crate) const SEGMENT_BYTES: u64 = 32 * 1024;

pub(crate) fn options(segments: u64, full: FullPolicy) -> Options {
    Options {
        gateway: "box-1".parse().unwrap(),
        bytes_max: segments * SEGMENT_BYTES,
        full,
        geometry: Geometry {
            segment_bytes: SEGMENT_BYTES,
            group_bytes_max: 8 * 1024,
            envelope_bytes_max: 4 * 1024,
        },
    }
}

pub(crate) fn try_open(
    dir: &Path,
    options: Options,
    random: u64,
) -> Result<(SpoolWriter<RealFs>, OpenReport), SpoolError> {
    let fs = RealFs::locked(dir).unwrap();
    SpoolWriter::open(fs, options, [random, random + 1, random + 2])
}

pub(crate) fn open(dir: &Path, segments: u64, random: u64) -> (SpoolWriter<RealFs>, OpenReport) {
    try_open(dir, options(segments, FullPolicy::Refuse), random).unwrap()
}

/// A frame of `bytes` bytes that no other number has.
pub(crate) fn frame(number: u64, lane: Lane, bytes: usize) -> Append {
    let mut content = number.to_le_bytes().to_vec();
    content.resize(bytes.max(8), u8::try_from(number % 251).unwrap());
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Imei("356307042441013".parse().unwrap()),
        transport: Transport::Tcp,
        lane,
        received_at_ms: 1_700_000_000_000 + number,
        record_count: 2,
        panic: false,
        bytes: content,
    }
}

pub(crate) fn number(stored: &Stored) -> u64 {
    u64::from_le_bytes(stored.bytes[..8].try_into().unwrap())
}

/// Keeps one frame.
pub(crate) fn keep(
    writer: &mut SpoolWriter<RealFs>,
    number: u64,
    lane: Lane,
    bytes: usize,
) -> Result<Durable, SpoolError> {
    writer.commit(&[frame(number, lane, bytes)]).remove(0)
}

/// Everything unsettled of a lane, in small steps.
pub(crate) fn read_all(reader: &SpoolReader<RealFs>, lane: Lane) -> Vec<Stored> {
    let (mut all, mut from) = (Vec::new(), Position::default());
    loop {
        let chunk = reader.read(lane, from, None, 5000).unwrap();
        all.extend(chunk.stored);
        if chunk.at_end {
            return all;
        }
        assert!(chunk.next > from, "a read always gets on");
        from = chunk.next;
    }
}

pub(crate) fn numbers(reader: &SpoolReader<RealFs>, lane: Lane) -> Vec<u64> {
    read_all(reader, lane).iter().map(number).collect()
}

pub(crate) fn settle(reader: &SpoolReader<RealFs>, spool: SpoolId, first: u64, last: u64) {
    let mut ranges = SettledRanges::new();
    ranges.insert(first, last);
    reader.settle(spool, &ranges);
}
