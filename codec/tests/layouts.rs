//! What the record layouts have that the public examples do not show: the 16-byte group,
//! Codec 7, variable values of every length, numbers nobody documented. All bytes are
//! written here, by hand.
#![allow(clippy::unwrap_used)]

use codec::{
    AvlData, BodyReason, Codec7Data, CodecId, GenerationType, IoWidth, Priority, RecordBuf, Stage,
};

/// Time to speed.
fn head(priority: u8) -> Vec<u8> {
    let mut head = vec![0, 0, 0x01, 0x6B, 0x40, 0xD8, 0xEA, 0x30, priority];
    head.extend([0x0F, 0x0E, 0xA8, 0x50, 0xE0, 0x9A, 0x69, 0x00]);
    head.extend([0xFF, 0xF6, 0x00, 0x5A, 0x12, 0x00, 0x32]);
    head
}

fn data(codec: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let count = u8::try_from(records.len()).unwrap();
    let mut data = vec![codec, count];
    data.extend(records.concat());
    data.push(count);
    data
}

/// Codec 8: event id 9, total and groups.
fn record_8(io: &[u8]) -> Vec<u8> {
    [head(0), vec![9], io.to_vec()].concat()
}

/// Codec 8 Extended with variable values only.
fn record_8e(values: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut record = [head(1), vec![0, 0]].concat();
    record.extend(count);
    record.extend([0; 8]);
    record.extend(count);
    for (id, value) in (0x0200u16..).zip(values) {
        record.extend(id.to_be_bytes());
        record.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        record.extend(*value);
    }
    record
}

/// Total 3; one byte, two bytes, and one value of sixteen.
fn with_16(value: u8) -> Vec<u8> {
    let mut io = vec![3, 1, 1, value, 1, 2, 0x31, 0x42, 0, 0, 1, 200];
    io.extend((0..16).map(|byte| byte ^ value));
    record_8(&io)
}

#[test]
fn the_16_byte_group_is_detected_and_read() {
    let bytes = data(8, &[with_16(0), with_16(0x80)]);
    let avl = AvlData::parse(&bytes).unwrap();
    assert!(avl.has_16_byte_group());
    assert_eq!((avl.count(), avl.io_total()), (2, 6));
    let second = avl.records().nth(1).unwrap();
    assert_eq!(second.raw, with_16(0x80));
    assert_eq!(second.io().len(), 3);
    let long = second.io_element(200).unwrap();
    assert_eq!((long.width, long.bytes.len()), (IoWidth::B16, 16));
    assert_eq!((long.as_u64(), long.as_i64()), (None, None));
    assert_eq!(
        long.as_u128(),
        Some(0x8081_8283_8485_8687_8889_8A8B_8C8D_8E8F)
    );
    assert_eq!(second.io_element(2).unwrap().as_u128(), Some(0x3142));
    assert_eq!(second.io_element(3), None);
}

#[test]
fn an_empty_16_byte_group_is_detected_too() {
    let bytes = data(8, &[record_8(&[0, 0, 0, 0, 0, 0]), with_16(1)]);
    let avl = AvlData::parse(&bytes).unwrap();
    assert!(avl.has_16_byte_group());
    let elements: Vec<usize> = avl.records().map(|record| record.io().count()).collect();
    assert_eq!(elements, [0, 3]);
}

#[test]
fn what_reads_as_documented_is_never_read_the_other_way() {
    for elements in 0..=255u8 {
        let mut io = vec![elements, elements];
        io.extend((0..elements).flat_map(|id| [id, 0]));
        io.extend([0, 0, 0]);
        let records = vec![record_8(&io); 3];
        let bytes = data(8, &records);
        assert!(!AvlData::parse(&bytes).unwrap().has_16_byte_group());
    }
    // One byte too many looks like the empty group of the one and only record.
    let bytes = data(8, &[record_8(&[0, 0, 0, 0, 0, 0])]);
    assert!(AvlData::parse(&bytes).unwrap().has_16_byte_group());
}

#[test]
fn records_of_both_layouts_in_one_data_field_are_an_error() {
    let plain = record_8(&[0, 0, 0, 0, 0]);
    for records in [[plain.clone(), with_16(0)], [with_16(0), plain]] {
        let bytes = data(8, &records);
        assert!(AvlData::parse(&bytes).is_err());
    }
}

#[test]
fn where_neither_layout_fits_the_documented_one_says_why() {
    let mut bytes = data(8, &[with_16(0)]);
    bytes.remove(40);
    let error = AvlData::parse(&bytes).unwrap_err();
    assert_eq!(error.stage, Stage::IoHeader { record: 0 });
    assert_eq!(error.offset, 27);
    let (stated, counted) = (3, 2);
    assert_eq!(error.reason, BodyReason::IoTotal { stated, counted });
}

#[test]
fn no_other_codec_gets_a_16_byte_group() {
    let mut record = [head(0), vec![0, 9, 7, 1, 0, 0, 0, 0, 1, 0, 9]].concat();
    record.extend([0xAA; 16]);
    assert!(AvlData::parse(&data(0x10, &[record])).is_err());
}

#[test]
fn variable_values_of_every_length_keep_their_group() {
    let longest = vec![0x5A; 65_535];
    let values: [&[u8]; 7] = [
        &[],
        &[1],
        &[1, 2],
        &[1, 2, 3, 4],
        &[8; 8],
        &[16; 16],
        &longest,
    ];
    let bytes = data(0x8E, &[record_8e(&values), record_8e(&[])]);
    let avl = AvlData::parse(&bytes).unwrap();
    assert_eq!(avl.io_total(), 7);
    let first = avl.records().next().unwrap();
    // The total counts the variable ones.
    assert_eq!(first.io_total, 7);
    for (element, value) in first.io().zip(values) {
        assert_eq!((element.width, element.bytes), (IoWidth::Variable, value));
        assert_eq!((element.as_u64(), element.as_u128()), (None, None));
    }
    let ids: Vec<u16> = first.io().map(|element| element.id).collect();
    assert_eq!(ids, [0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206]);
    // One byte less and the longest no longer fits.
    let mut short = bytes.clone();
    short.truncate(bytes.len() - record_8e(&[]).len() - 2);
    assert!(AvlData::parse(&short).is_err());
}

#[test]
fn a_total_that_leaves_out_the_variable_group_is_an_error() {
    let mut record = record_8e(&[&[1]]);
    record[27] = 0;
    let error = AvlData::parse(&data(0x8E, &[record])).unwrap_err();
    let (stated, counted) = (0, 1);
    assert_eq!(error.reason, BodyReason::IoTotal { stated, counted });
    assert_eq!(error.offset, 28);
}

#[test]
fn a_loop_and_for_each_see_the_same_elements_from_wherever_they_start() {
    // Total, then each group with two elements, which count up.
    let elements = |id_bytes: usize, value_bytes: usize| {
        let zeros = |bytes: usize| std::iter::repeat_n(0, bytes - 1);
        (1..=2).flat_map(move |number| {
            let id = zeros(id_bytes).chain([number]);
            id.chain(zeros(value_bytes)).chain([0x80 | number])
        })
    };
    let groups = |id_bytes, count_bytes: usize, widths: &[usize]| {
        let count = |count: usize| std::iter::repeat_n(0, count_bytes - 1).chain([count as u8]);
        let mut io: Vec<u8> = count(2 * widths.len()).collect();
        for &width in widths {
            io.extend(count(2));
            io.extend(elements(id_bytes, width));
        }
        io
    };
    let extended = [head(0), vec![0, 9], groups(2, 2, &[1, 2, 4, 8]), vec![0, 0]].concat();
    let codec_16 = [head(0), vec![0, 9, 7], groups(2, 1, &[1, 2, 4, 8])].concat();
    for bytes in [
        data(8, &[record_8(&groups(1, 1, &[1, 2, 4, 8]))]),
        data(8, &[record_8(&groups(1, 1, &[1, 2, 4, 8, 16]))]),
        data(0x8E, &[extended]),
        data(0x8E, &[record_8e(&[&[], &[1], &[2; 300]])]),
        data(0x10, &[codec_16]),
    ] {
        let record = AvlData::parse(&bytes).unwrap().records().next().unwrap();
        let mut looped = Vec::new();
        for element in record.io() {
            looped.push(element);
        }
        let total = usize::from(record.io_total);
        assert_eq!(looped.len(), total);
        for element in looped
            .iter()
            .filter(|element| element.width != IoWidth::Variable)
        {
            assert_eq!(element.as_u128(), Some(0x80 | u128::from(element.id)));
        }
        for skipped in 0..=total {
            let mut elements = record.io();
            for _ in 0..skipped {
                elements.next();
            }
            assert_eq!(elements.len(), total - skipped);
            let mut folded = Vec::new();
            elements.for_each(|element| folded.push(element));
            assert_eq!(folded, looped[skipped..]);
        }
    }
}

#[test]
fn every_generation_type_and_priority_is_kept() {
    for byte in 0..=u8::MAX {
        let record = [head(byte), vec![0, 9, byte, 0, 0, 0, 0, 0]].concat();
        let bytes = data(0x10, &[record]);
        let avl = AvlData::parse(&bytes).unwrap();
        let record = avl.records().next().unwrap();
        assert_eq!(record.priority.as_byte(), byte);
        assert_eq!(record.priority == Priority::Other(byte), byte > 2);
        assert_eq!(record.generation_type.unwrap().as_byte(), byte);
        assert_eq!(
            record.generation_type == Some(GenerationType::Other(byte)),
            byte > 7
        );
        assert_eq!(avl.most_urgent().as_byte(), byte);
        assert_eq!(codec::most_urgent(&bytes), Some(Priority::from_byte(byte)));
        assert_eq!((record.altitude_m, record.latitude_e7), (-10, -526_751_488));
    }
}

#[test]
fn most_urgent_answers_for_every_codec_with_records_and_no_other() {
    for byte in 0..=u8::MAX {
        let empty = [byte, 0, 0];
        let expected = CodecId::from_byte(byte)
            .has_records()
            .then_some(Priority::Low);
        assert_eq!(codec::most_urgent(&empty), expected);
    }
    assert_eq!(codec::most_urgent(&[]), None);
    assert_eq!(codec::most_urgent(&[8, 1, 1]), None);
}

/// Codec 7: priority, seconds since 2007, global mask, the rest.
fn record_7(priority: u8, seconds: u32, mask: u8, rest: &[u8]) -> Vec<u8> {
    let word = u32::from(priority) << 30 | seconds;
    [&word.to_be_bytes()[..], &[mask], rest].concat()
}

fn gps_7(mask: u8, fields: &[u8]) -> Vec<u8> {
    record_7(0, 0, 1, &[&[mask], fields].concat())
}

#[test]
fn a_codec_7_record_has_every_field_in_its_place() {
    let mut rest = vec![0xFF];
    rest.extend(54.6875f32.to_be_bytes());
    rest.extend((-25.25f32).to_be_bytes());
    rest.extend([0xFF, 0xF6, 64, 50, 9, 0x12, 0x34, 0x56, 0x78, 20]);
    rest.extend(24_602u32.to_be_bytes());
    rest.extend([2, 1, 0x57, 2, 0x58, 1, 67, 0x0F, 0x6E, 1, 5, 0xFF, 0, 0, 1]);
    let bytes = data(7, &[record_7(3, 0x3FFF_FFFF, 0x0F, &rest)]);
    let codec_7 = Codec7Data::parse(&bytes).unwrap();
    assert_eq!(codec_7.count(), 1);
    let record = codec_7.records().next().unwrap();
    assert_eq!(record.timestamp_ms, (1_167_609_600 + 0x3FFF_FFFF) * 1000);
    assert!(record.is_alarm());
    assert_eq!(record.priority, Priority::Other(3));
    assert_eq!(record.raw, &bytes[2..bytes.len() - 1]);
    let gps = record.gps.unwrap();
    let position = gps.position.unwrap();
    assert_eq!(
        (position.latitude_deg, position.longitude_deg),
        (54.6875, -25.25)
    );
    assert_eq!(position.latitude_e7(), Some(546_875_000));
    assert_eq!(position.longitude_e7(), Some(-252_500_000));
    assert_eq!((gps.altitude_m, gps.angle_raw256), (Some(-10), Some(64)));
    assert_eq!((gps.angle_deg(), gps.speed_kmh), (Some(90), Some(50)));
    assert_eq!((gps.satellites, gps.signal), (Some(9), Some(20)));
    let cell = gps.cell.unwrap();
    assert_eq!((cell.lac, cell.cell_id), (0x1234, 0x5678));
    assert_eq!(gps.operator, Some(24_602));
    let io: Vec<_> = record.io().map(|e| (e.id, e.width, e.as_u64())).collect();
    assert_eq!(
        io,
        [
            (1, IoWidth::B1, Some(0x57)),
            (2, IoWidth::B1, Some(0x58)),
            (67, IoWidth::B2, Some(0x0F6E)),
            (5, IoWidth::B4, Some(0xFF00_0001)),
        ]
    );
    assert_eq!(record.io_element(5).unwrap().as_i64(), Some(-0x00FF_FFFF));
    assert_eq!((record.io_total, record.io().len()), (4, 4));
}

#[test]
fn every_codec_7_mask_reads_exactly_the_fields_it_names() {
    const FIELD_BYTES: [usize; 8] = [8, 2, 1, 1, 1, 4, 1, 4];
    for mask in 0..=u8::MAX {
        let bytes: usize = (0..8)
            .filter(|bit| mask & 1 << bit != 0)
            .map(|bit| FIELD_BYTES[bit])
            .sum();
        let whole = data(7, &[gps_7(mask, &vec![0; bytes])]);
        let record = Codec7Data::parse(&whole).unwrap().records().next().unwrap();
        let gps = record.gps.unwrap();
        let there = [
            gps.position.is_some(),
            gps.altitude_m.is_some(),
            gps.angle_raw256.is_some(),
            gps.speed_kmh.is_some(),
            gps.satellites.is_some(),
            gps.cell.is_some(),
            gps.signal.is_some(),
            gps.operator.is_some(),
        ];
        assert_eq!(there, std::array::from_fn(|bit| mask & 1 << bit != 0));
        let long = data(7, &[gps_7(mask, &vec![0; bytes + 1])]);
        let error = Codec7Data::parse(&long).unwrap_err();
        assert_eq!(error.reason, BodyReason::LeftOver { left: 1 });
        if bytes > 0 {
            let short = data(7, &[gps_7(mask, &vec![0; bytes - 1])]);
            let error = Codec7Data::parse(&short).unwrap_err();
            assert_eq!(error.reason, BodyReason::Truncated);
            assert_eq!(error.stage, Stage::RecordHead { record: 0 });
        }
    }
    // The global mask: which parts, in the same way; its upper bits mean nothing.
    for mask in 0..=u8::MAX {
        let parts = [
            vec![0u8],
            vec![1, 1, 1],
            vec![1, 2, 0, 2],
            vec![1, 4, 0, 0, 0, 4],
        ];
        let present = (0..4).filter(|bit| mask & 1 << bit != 0);
        let rest: Vec<u8> = present.clone().flat_map(|bit| parts[bit].clone()).collect();
        let whole = data(7, &[record_7(0, 1, mask, &rest), record_7(1, 2, 0, &[])]);
        let codec_7 = Codec7Data::parse(&whole).unwrap();
        let record = codec_7.records().next().unwrap();
        assert_eq!(
            (record.global_mask, record.gps.is_some()),
            (mask, mask & 1 != 0)
        );
        let read: Vec<u64> = record
            .io()
            .map(|element| element.as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = present
            .filter(|bit| *bit > 0)
            .map(|bit| 1 << (bit - 1))
            .collect();
        assert_eq!(read, expected);
        assert_eq!(codec_7.most_urgent(), Priority::High);
    }
}

#[test]
fn every_truncation_of_codec_7_is_an_error_with_a_place() {
    let whole = data(
        7,
        &[
            gps_7(0xFF, &[0; 22]),
            record_7(2, 9, 0x0E, &[1, 1, 1, 1, 2, 2, 2, 1, 4, 4, 4, 4, 4]),
        ],
    );
    Codec7Data::parse(&whole).unwrap();
    for have in 0..whole.len() {
        let error = Codec7Data::parse(&whole[..have]).unwrap_err();
        assert!(error.offset <= have, "{error} of {have}");
    }
    for at in 0..whole.len() {
        for value in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[at] = value;
            let Ok(codec_7) = Codec7Data::parse(&changed) else {
                continue;
            };
            let raw: Vec<u8> = codec_7
                .records()
                .flat_map(|record| record.raw)
                .copied()
                .collect();
            assert_eq!(raw, changed[2..changed.len() - 1]);
            for record in codec_7.records() {
                assert_eq!(record.io().count(), usize::from(record.io_total));
            }
        }
    }
    let error = Codec7Data::parse(&[8, 0, 0]).unwrap_err();
    assert_eq!(error.reason, BodyReason::Codec { found: 8 });
    let error = Codec7Data::parse(&[7, 0, 1]).unwrap_err();
    let (first, second) = (0, 1);
    assert_eq!(error.reason, BodyReason::CountMismatch { first, second });
}

#[test]
fn codec_7_alarms_go_before_everything() {
    let urgency = |priorities: &[u8]| {
        let records: Vec<Vec<u8>> = priorities
            .iter()
            .map(|&priority| record_7(priority, 0, 0, &[]))
            .collect();
        codec::most_urgent(&data(7, &records))
    };
    assert_eq!(urgency(&[]), Some(Priority::Low));
    assert_eq!(urgency(&[0, 1, 0]), Some(Priority::High));
    assert_eq!(urgency(&[1, 2]), Some(Priority::Panic));
    assert_eq!(urgency(&[0, 3, 1]), Some(Priority::Panic));
}

#[test]
fn codec_7_coordinates_are_the_nearest_whole_ten_millionths() {
    let e7 = |degrees: f32| {
        let mut fields = degrees.to_be_bytes().to_vec();
        fields.extend(degrees.to_be_bytes());
        let bytes = data(7, &[gps_7(1, &fields)]);
        let record = Codec7Data::parse(&bytes).unwrap().records().next().unwrap();
        let position = record.gps.unwrap().position.unwrap();
        (position.latitude_e7(), position.longitude_e7())
    };
    assert_eq!(e7(90.0), (Some(900_000_000), Some(900_000_000)));
    assert_eq!(e7(-90.0), (Some(-900_000_000), Some(-900_000_000)));
    assert_eq!(e7(180.0), (None, Some(1_800_000_000)));
    assert_eq!(e7(180.00002), (None, None));
    for nowhere in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        assert_eq!(e7(nowhere), (None, None));
    }
    assert_eq!(e7(-0.0), (Some(0), Some(0)));
    assert_eq!(e7(f32::MIN_POSITIVE), (Some(0), Some(0)));
    // Against whole numbers: a float is an integer times a power of two.
    let mut bits = 0u32;
    while let Some(next) = bits.checked_add(0x0000_9E37) {
        bits = next;
        let degrees = f32::from_bits(bits);
        if !(degrees.abs() <= 180.0 && degrees.abs() > 1e-9) {
            continue;
        }
        let exponent = (bits >> 23 & 0xFF) as i32 - 150;
        let mantissa = i128::from(bits & 0x7F_FFFF | 0x80_0000) * 10_000_000;
        let halves = if exponent >= 0 {
            mantissa << (exponent + 1)
        } else {
            mantissa >> (-exponent - 1)
        };
        let nearest = i32::try_from((halves + 1) >> 1).unwrap();
        let expected = if degrees < 0.0 { -nearest } else { nearest };
        assert_eq!(e7(degrees).1, Some(expected), "{degrees}");
    }
}

#[test]
fn every_codec_7_angle_is_within_half_a_degree() {
    for raw in 0..=u8::MAX {
        let bytes = data(7, &[gps_7(4, &[raw])]);
        let record = Codec7Data::parse(&bytes).unwrap().records().next().unwrap();
        let angle = record.gps.unwrap().angle_deg().unwrap();
        let exact = f64::from(raw) * 360.0 / 256.0;
        let off = (f64::from(angle) - exact).abs();
        assert!(angle < 360 && off.min(360.0 - off) <= 0.5, "{raw}: {angle}");
    }
}

fn samples() -> Vec<Vec<u8>> {
    let wide = [head(2), vec![0, 9, 6, 1, 1, 0, 5, 8, 0, 0, 0]].concat();
    vec![
        data(8, &[record_8(&[1, 0, 0, 0, 1, 11, 1, 2, 3, 4, 5, 6, 7, 8])]),
        data(8, &[with_16(0), with_16(1)]),
        data(0x8E, &[record_8e(&[&[], &[1, 2, 3]]), record_8e(&[&[9]])]),
        data(0x10, &[wide.clone(), wide]),
        data(8, &[]),
    ]
}

#[test]
fn owned_values_say_what_the_view_says() {
    for bytes in samples() {
        let view = AvlData::parse(&bytes).unwrap();
        let owned = view.into_owned();
        assert_eq!(owned.codec(), view.codec());
        assert_eq!(owned.has_16_byte_group(), view.has_16_byte_group());
        assert_eq!(owned.count(), usize::from(view.count()));
        assert_eq!(owned.records().len(), owned.count());
        for (index, record) in view.records().enumerate() {
            let kept = owned.record(index).unwrap();
            assert_eq!(*kept, record.head());
            assert_eq!(kept.timestamp_ms, record.timestamp_ms);
            assert!(kept.io().eq(record.io()));
            assert_eq!(owned.records().nth(index), Some(kept));
        }
        assert_eq!(owned.record(owned.count()), None);
    }
}

#[test]
fn a_record_in_a_bounded_buffer_is_the_record() {
    for bytes in samples() {
        for record in AvlData::parse(&bytes).unwrap().records() {
            let kept = RecordBuf::<64>::copy_of(&record).unwrap();
            assert_eq!(kept.record(), record);
            let error = RecordBuf::<8>::copy_of(&record).unwrap_err();
            assert_eq!((error.bytes, error.bytes_max), (record.raw.len(), 8));
            // The fields are the caller's to change; what was checked is not.
            let mut emptied = record;
            emptied.raw = &[];
            assert_eq!(RecordBuf::<64>::copy_of(&emptied).unwrap(), kept);
        }
    }
}

#[test]
fn views_and_owned_values_are_written_alike_and_read_back() {
    for bytes in samples() {
        let view = AvlData::parse(&bytes).unwrap();
        let owned = view.into_owned();
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::to_string(&owned).unwrap(), text);
        let again: codec::OwnedAvlData = serde_json::from_str(&text).unwrap();
        assert_eq!(again, owned);
    }
    let bytes = samples().remove(0);
    let first = AvlData::parse(&bytes).unwrap().records().next();
    assert_eq!(
        serde_json::to_value(first).unwrap(),
        serde_json::json!({
            "timestamp_ms": 1_560_161_086_000u64, "priority": 0,
            "longitude_e7": 252_618_832, "latitude_e7": -526_751_488, "altitude_m": -10,
            "angle_deg": 90, "satellites": 18, "speed_kmh": 50,
            "event_io_id": 9, "generation_type": null,
            "io": [{"id": 11, "width": 8, "bytes": "0102030405060708"}],
        })
    );
    for wrong in [
        r#"{"codec":7,"has_16_byte_group":false,"records":[]}"#,
        r#"{"codec":8,"records":[]}"#,
    ] {
        assert!(serde_json::from_str::<codec::OwnedAvlData>(wrong).is_err());
    }
    let good = serde_json::to_string(&AvlData::parse(&samples()[0]).unwrap()).unwrap();
    for (from, to) in [
        ("\"width\":8", "\"width\":4"),
        ("\"width\":8", "\"width\":3"),
        ("0102", "01021"),
        ("0102", "01x2"),
    ] {
        let wrong = good.replace(from, to);
        assert_ne!(wrong, good);
        assert!(serde_json::from_str::<codec::OwnedAvlData>(&wrong).is_err());
    }
}

#[test]
fn codec_7_is_written_with_what_its_masks_name() {
    let bytes = data(
        7,
        &[gps_7(0x10, &[9]), record_7(3, 1, 4, &[1, 67, 0x0F, 0x6E])],
    );
    let codec_7 = Codec7Data::parse(&bytes).unwrap();
    let (none, null) = (serde_json::json!([]), serde_json::Value::Null);
    assert_eq!(
        serde_json::to_value(codec_7).unwrap(),
        serde_json::json!({"records": [
            {
                "timestamp_ms": 1_167_609_600_000u64, "priority": 0, "global_mask": 1,
                "gps": {
                    "mask": 16, "position": null, "altitude_m": null, "angle_raw256": null,
                    "speed_kmh": null, "satellites": 9, "cell": null, "signal": null,
                    "operator": null,
                },
                "io": none,
            },
            {
                "timestamp_ms": 1_167_609_601_000u64, "priority": 3, "global_mask": 4,
                "gps": null, "io": [{"id": 67, "width": 2, "bytes": "0f6e"}],
            },
        ]})
    );
    let gps = codec_7.records().next().unwrap().gps.unwrap();
    let again: codec::codec7::Codec7Gps =
        serde_json::from_value(serde_json::to_value(gps).unwrap()).unwrap();
    assert_eq!(again, gps);
    assert_eq!(serde_json::to_value(gps.position).unwrap(), null);
}
