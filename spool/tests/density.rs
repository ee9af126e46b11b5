//! How many records of a fleet fit in a gibibyte while nobody takes them: lone commits of one
//! record each, then compaction.
#![allow(clippy::unwrap_used)]

mod kit;

use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use codec::{AvlCodec, Priority, SliceSink};
use contract::{Device, Lane, Transport};
use spool::fs::RealFs;
use spool::{Append, CompactPolicy, FullPolicy, Geometry, Options, SpoolWriter};

const DEVICES: u64 = 1000;
const RECORDS: u64 = 5200;
const GIB: u64 = 1 << 30;

/// Numbers without a pattern that compression could find.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A Codec 8 Extended frame of one record with 16 IO values, as a vehicle in town sends it.
fn record(device: u64, at_ms: u64, noise: &mut Noise) -> Vec<u8> {
    let mut of_device = Noise(device);
    let iccid = 8_937_000_000_000_000_000 + of_device.below(1_000_000_000);
    let odometer = (of_device.below(200_000_000) + at_ms / 90 % 1_000_000) as u32;
    let speed = noise.below(60) as u16;
    let small = [
        (239, 1),
        (240, 1),
        (21, 2 + noise.below(4)),
        (200, 0),
        (69, 1),
        (113, 80 + noise.below(20)),
    ];
    let medium = [
        (181, 10 + noise.below(12)),
        (182, 6 + noise.below(8)),
        (66, 13_720 + noise.below(360)),
        (67, 3_800 + noise.below(300)),
        (24, u64::from(speed)),
        (205, 10_000 + of_device.below(40)),
    ];
    let large = [(241, 24_602), (199, odometer % 40_000), (16, odometer)];
    let io: Vec<IoSpec<'_>> = small
        .map(|(id, value)| (id, IoValue::U8(value as u8)))
        .into_iter()
        .chain(medium.map(|(id, value)| (id, IoValue::U16(value as u16))))
        .chain(large.map(|(id, value)| (id, IoValue::U32(value))))
        .chain([(11, IoValue::U64(iccid))])
        .map(|(id, value)| IoSpec { id, value })
        .collect();
    assert_eq!(io.len(), 16);
    let spec = RecordSpec {
        timestamp_ms: at_ms,
        priority: Priority::Low,
        longitude_e7: 252_797_000 + noise.below(2_000_000) as i32,
        latitude_e7: 546_872_000 + noise.below(1_000_000) as i32,
        altitude_m: 112 + noise.below(30) as i16,
        angle_deg: noise.below(360) as u16,
        satellites: 6 + noise.below(11) as u8,
        speed_kmh: speed,
        io: &io,
        ..RecordSpec::default()
    };
    let mut data = [0; 512];
    let mut sink = SliceSink::new(&mut data);
    encode::avl_data(AvlCodec::Codec8E, &[spec], &mut sink).unwrap();
    sink.written().to_vec()
}

#[test]
fn twenty_million_records_fit_in_a_gibibyte() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        gateway: "box-1".parse().unwrap(),
        bytes_max: GIB,
        full: FullPolicy::Refuse,
        geometry: Geometry::for_spool(GIB),
    };
    let fs = RealFs::locked(dir.path()).unwrap();
    let (mut writer, _) = SpoolWriter::open(fs, options, [1, 2, 3]).unwrap();
    let mut noise = Noise(42);
    for number in 0..RECORDS {
        let (device, at_ms) = (number % DEVICES, 1_760_000_000_000 + number * 10);
        let append = Append {
            kind: contract::Kind::Teltonika,
            device: Device::Imei(codec::Imei::from_u64(350_000_000_000_000 + device * 97).unwrap()),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            received_at_ms: at_ms + 1000,
            record_count: 1,
            panic: false,
            bytes: record(device, at_ms, &mut noise),
        };
        writer.commit(&[append]).remove(0).unwrap();
    }
    let reader = writer.reader();
    let (before, backlog) = (reader.usage(), reader.usage().backlog());
    let (mut records, mut bytes_after) = (0, 0);
    while let Some(compacted) = writer.compact(CompactPolicy::default()).unwrap() {
        records += compacted.envelopes;
        bytes_after += compacted.bytes_after;
    }
    let after = reader.usage();
    assert_eq!(after.backlog(), backlog);
    assert!(after.used_bytes < before.used_bytes / 2);
    let per_gib = GIB * records / bytes_after;
    let committed = records * Geometry::BLOCK_BYTES;
    eprintln!(
        "{per_gib} records per GiB ({:.1} bytes each); lone commits: {} per GiB; compaction wrote {:.3} of the blocks the commits wrote",
        bytes_after as f64 / records as f64,
        GIB / Geometry::BLOCK_BYTES,
        bytes_after as f64 / committed as f64,
    );
    assert!(per_gib >= 20_000_000);
    assert!(bytes_after * 10 < records * Geometry::BLOCK_BYTES);
}
