//! Reading data fields: what is well formed comes out as it went in, everything else is
//! an error with a place, and nothing panics.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::{
    AvlCodec, AvlData, BodyError, BodyReason, Datagram, DatagramReason, GenerationType, IoWidth,
    MessageData, Priority,
};
use proptest::prelude::*;
use wire::{datagrams, frames, plain_data, plain_record};

fn data_fields() -> Vec<(String, Vec<u8>)> {
    let cut = |(name, bytes): (String, Vec<u8>)| (name, bytes[8..bytes.len() - 4].to_vec());
    frames()
        .into_iter()
        .map(cut)
        .filter(|(_, data)| data[0] != 0x07)
        .collect()
}

/// Reads by codec id; what was read must account for every byte.
fn read(data: &[u8]) -> Result<(), BodyError> {
    if matches!(data.first(), Some(0x0C..=0x0F)) {
        let messages = MessageData::parse(data)?;
        assert_eq!(messages.messages().len(), usize::from(data[1]));
        assert_eq!(messages.messages().count(), usize::from(data[1]));
        let bytes: usize = messages
            .messages()
            .map(|m| {
                let time = m.timestamp_s.map_or(0, |_| 4);
                5 + time + m.imei_bytes.map_or(0, |_| 8) + m.payload.len()
            })
            .sum();
        assert_eq!(bytes + 3, data.len());
        return Ok(());
    }
    let avl = AvlData::parse(data)?;
    assert_eq!(avl.records().len(), usize::from(data[1]));
    let mut raw: Vec<u8> = Vec::new();
    for record in avl.records() {
        raw.extend(record.raw);
        assert_eq!(record.io().len(), usize::from(record.io_total));
        let mut elements = record.io();
        for left in (0..record.io_total).rev() {
            let element = elements.next().unwrap();
            assert_eq!(elements.len(), usize::from(left));
            assert!(
                element
                    .width
                    .bytes()
                    .is_none_or(|bytes| bytes == element.bytes.len())
            );
            let is_number = element.width.bytes().is_some_and(|bytes| bytes <= 8);
            assert_eq!(element.as_u64().is_some(), is_number);
        }
        assert_eq!(elements.next(), None);
        assert_eq!(elements.next(), None);
    }
    assert_eq!(raw, data[2..data.len() - 1]);
    Ok(())
}

#[test]
fn every_truncation_of_a_body_is_an_error_with_a_place() {
    for (name, data) in data_fields() {
        // Four bytes shorter, its size is right by the documentation.
        if name == "c13-size-without-time" {
            continue;
        }
        for have in 0..data.len() {
            let error = read(&data[..have]).expect_err(&name);
            assert!(error.offset <= have, "{name}: {error} of {have}");
        }
        read(&data).unwrap();
    }
}

#[test]
fn every_value_of_every_byte_reads_or_fails_without_panic() {
    for (name, data) in data_fields() {
        for offset in 0..data.len() {
            for value in 0..=u8::MAX {
                let mut changed = data.clone();
                changed[offset] = value;
                if let Err(error) = read(&changed) {
                    assert!(error.offset < data.len(), "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn every_priority_is_kept() {
    for byte in 0..=u8::MAX {
        let data = plain_data(&[byte]);
        let record = AvlData::parse(&data).unwrap().records().next().unwrap();
        assert_eq!(record.priority.as_byte(), byte);
        assert_eq!(matches!(record.priority, Priority::Other(_)), byte > 2);
    }
}

#[test]
fn the_most_urgent_record_speaks_for_all_and_unknown_ones_hide_nothing() {
    let most_urgent = |priorities: &[u8]| {
        AvlData::parse(&plain_data(priorities))
            .unwrap()
            .most_urgent()
            .as_byte()
    };
    assert_eq!(most_urgent(&[]), 0);
    assert_eq!(most_urgent(&[0, 0]), 0);
    for byte in 0..=u8::MAX {
        assert_eq!(most_urgent(&[0, byte, 2, byte]), 2);
        assert_eq!(most_urgent(&[byte, 1, 0]), if byte == 2 { 2 } else { 1 });
        assert_eq!(most_urgent(&[0, byte]), byte);
    }
}

#[test]
fn a_record_reads_field_by_field() {
    let data = plain_data(&[1]);
    let record = AvlData::parse(&data).unwrap().records().next().unwrap();
    assert_eq!(record.timestamp_ms, 1_560_161_086_000);
    assert_eq!(record.longitude_e7, 252_618_832);
    assert_eq!(record.latitude_e7, 546_990_336);
    assert_eq!(record.altitude_m, 148);
    assert_eq!(record.angle_deg, 90);
    assert_eq!(record.satellites, 18);
    assert_eq!(record.speed_kmh, 50);
    assert_eq!((record.event_io_id, record.io_total), (0, 0));
    assert_eq!(record.generation_type, None);
    assert_eq!(record.raw, plain_record(1));
}

#[test]
fn west_south_and_below_sea_level_are_negative() {
    let mut data = plain_data(&[0]);
    data[11..15].copy_from_slice(&(-771_234_567i32).to_be_bytes());
    data[15..19].copy_from_slice(&(-120_464_000i32).to_be_bytes());
    data[19..21].copy_from_slice(&(-430i16).to_be_bytes());
    let record = AvlData::parse(&data).unwrap().records().next().unwrap();
    assert_eq!(
        (record.longitude_e7, record.latitude_e7, record.altitude_m),
        (-771_234_567, -120_464_000, -430)
    );
}

#[test]
fn every_generation_type_is_kept() {
    for byte in 0..=u8::MAX {
        let mut data = vec![0x10, 1];
        data.extend(&plain_record(0)[..24]);
        data.extend([0x01, 0x02, byte, 0, 0, 0, 0, 0, 1]);
        let avl = AvlData::parse(&data).unwrap();
        let record = avl.records().next().unwrap();
        let kind = record.generation_type.unwrap();
        assert_eq!(kind.as_byte(), byte);
        assert_eq!(matches!(kind, GenerationType::Other(_)), byte > 7);
        assert_eq!(
            (avl.codec(), record.event_io_id),
            (AvlCodec::Codec16, 0x0102)
        );
    }
}

/// Codec 8 data field with one record whose IO part is `io`.
fn with_io(codec: u8, io: &[u8]) -> Vec<u8> {
    let mut data = vec![codec, 1];
    data.extend(&plain_record(0)[..24]);
    data.extend(io);
    data.push(1);
    data
}

#[test]
fn numbers_are_read_with_and_without_sign() {
    let io = [
        0, 4, // event, total
        1, 9, 0xFE, // one byte
        1, 8, 0xFF, 0x38, // two bytes
        1, 7, 0x80, 0, 0, 0, // four bytes
        1, 6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, // eight bytes
    ];
    let data = with_io(0x08, &io);
    let record = AvlData::parse(&data).unwrap().records().next().unwrap();
    let read: Vec<_> = record
        .io()
        .map(|e| (e.id, e.as_u64(), e.as_i64()))
        .collect();
    let expected = [
        (9, Some(0xFE), Some(-2)),
        (8, Some(0xFF38), Some(-200)),
        (7, Some(0x8000_0000), Some(-2_147_483_648)),
        (6, Some(u64::MAX), Some(-1)),
    ];
    assert_eq!(read, expected);
}

#[test]
fn variable_values_keep_their_group_whatever_their_length() {
    let mut io = vec![0x01, 0x81, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    for length in [0u8, 1, 2, 4, 8] {
        io.extend([0x01, 0x4B, 0, length]);
        io.extend(std::iter::repeat_n(0xEE, usize::from(length)));
    }
    let data = with_io(0x8E, &io);
    let record = AvlData::parse(&data).unwrap().records().next().unwrap();
    let read: Vec<_> = record
        .io()
        .map(|e| (e.id, e.width, e.bytes.len(), e.as_u64()))
        .collect();
    let expected = [0, 1, 2, 4, 8].map(|length| (331, IoWidth::Variable, length, None));
    assert_eq!(read, expected);
}

#[test]
fn errors_say_what_and_where() {
    let mut short = plain_data(&[0, 0, 0]);
    short[1] = 4;
    let mut long = plain_data(&[0, 0, 0]);
    long[1] = 2;
    let mut second = plain_data(&[0, 0, 0]);
    *second.last_mut().unwrap() = 7;
    let group = with_io(0x08, &[0, 2, 0, 2, 1, 0, 0]);
    let variable = with_io(
        0x8E,
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 9, 1],
    );
    let cases: [(&[u8], &str); 12] = [
        (&[], "codec id, byte 0: the data ends inside this field"),
        (&[8], "first count, byte 1: the data ends inside this field"),
        (
            &[8, 1],
            "second count, byte 2: the data ends inside this field",
        ),
        (&[7, 1, 1], "codec id, byte 0: codec 0x07 is not read here"),
        (
            &[0x0C, 0, 0],
            "codec id, byte 0: codec 0x0c is not read here",
        ),
        (
            &short,
            "record 3, head, byte 92: the data ends inside this field",
        ),
        (
            &long,
            "second count, byte 62: 30 bytes left over before the second count",
        ),
        (
            &second,
            "second count, byte 92: the second count is 7, the first was 3",
        ),
        (
            &group,
            "record 0, 2-byte IO group, byte 30: the data ends inside this field",
        ),
        (
            &variable,
            "record 0, variable IO group, byte 44: the data ends inside this field",
        ),
        (
            &[8, 0, 9, 0],
            "second count, byte 2: 1 bytes left over before the second count",
        ),
        (
            &[8, 0, 1],
            "second count, byte 2: the second count is 1, the first was 0",
        ),
    ];
    for (data, text) in cases {
        assert_eq!(AvlData::parse(data).unwrap_err().to_string(), text);
    }
}

#[test]
fn counts_that_ask_for_gigabytes_cost_nothing() {
    // 65 535 elements announced in every group of 8 Extended, none there.
    let data = with_io(0x8E, &[0xFF; 6]);
    let error = AvlData::parse(&data).unwrap_err();
    assert_eq!((error.offset, error.reason), (32, BodyReason::Truncated));
    let data = [0x0C, 1, 5, 0xFF, 0xFF, 0xFF, 0xFF, b'x', 1];
    let error = MessageData::parse(&data).unwrap_err();
    assert_eq!((error.offset, error.reason), (7, BodyReason::Truncated));
}

#[test]
fn codec_13_is_read_by_whichever_size_comes_out_even() {
    let time = 1_692_938_881u32.to_be_bytes();
    for (size, stated) in [("documented", 11u8), ("without the time", 7)] {
        let mut data = vec![0x0D, 1, 6, 0, 0, 0, stated];
        data.extend(time);
        data.extend(b"getinfo\x01");
        let read = MessageData::parse(&data).unwrap();
        let message = read.messages().next().unwrap();
        assert_eq!(message.timestamp_s, Some(1_692_938_881), "{size}");
        assert_eq!(message.payload, b"getinfo", "{size}");
        assert_eq!(message.size, u32::from(stated));
    }
    // Neither: the error is that of the documented reading.
    let data = [0x0D, 1, 6, 0, 0, 0, 9, 0, 0, 0, 0, b'x', 1];
    let error = MessageData::parse(&data).unwrap_err();
    assert_eq!((error.offset, error.reason), (11, BodyReason::Truncated));
}

#[test]
fn several_messages_and_odd_second_counts_are_read() {
    let data = [0x0C, 2, 6, 0, 0, 0, 2, b'o', b'k', 5, 0, 0, 0, 0, 9];
    let read = MessageData::parse(&data).unwrap();
    assert_eq!((read.count(), read.second_count()), (2, 9));
    let read: Vec<_> = read.messages().map(|m| (m.kind, m.payload)).collect();
    assert_eq!(read, [(6, &b"ok"[..]), (5, &b""[..])]);
}

#[test]
fn a_message_too_small_for_its_codec_is_an_error_at_its_size() {
    for (codec, size_min) in [(0x0E, 8u8), (0x0F, 12)] {
        for size in 0..size_min {
            let mut data = vec![codec, 1, 6, 0, 0, 0, size];
            data.extend(vec![0; usize::from(size)]);
            data.push(1);
            let error = MessageData::parse(&data).unwrap_err();
            let reason = BodyReason::MessageSize {
                size: u32::from(size),
                size_min: u32::from(size_min),
            };
            assert_eq!((error.offset, error.reason), (3, reason));
        }
    }
}

#[test]
fn an_imei_that_is_not_decimal_is_kept_as_bytes() {
    let data = [0x0E, 1, 6, 0, 0, 0, 8, 0x0A, 2, 3, 4, 5, 6, 7, 8, 1];
    let message = MessageData::parse(&data)
        .unwrap()
        .messages()
        .next()
        .unwrap();
    assert_eq!(message.imei(), None);
    assert_eq!(message.imei_bytes, Some([0x0A, 2, 3, 4, 5, 6, 7, 8]));
}

#[test]
fn every_truncation_and_extension_of_a_datagram_is_refused() {
    for (name, datagram) in datagrams() {
        for have in 0..datagram.len() {
            let error = Datagram::parse(&datagram[..have]).expect_err(&name);
            let cut_in_length = have < 2;
            assert_eq!(error.reason == DatagramReason::Truncated, cut_in_length);
        }
        let mut two = datagram.clone();
        two.extend(&datagram);
        assert!(matches!(
            Datagram::parse(&two).unwrap_err().reason,
            DatagramReason::Length { .. }
        ));
        // With the length put right, the cut shows where it is.
        for have in 2..datagram.len() {
            let mut short = datagram[..have].to_vec();
            short[..2].copy_from_slice(&u16::try_from(have - 2).unwrap().to_be_bytes());
            match Datagram::parse(&short) {
                Ok(datagram) => {
                    assert!(have >= 26, "no room for codec id and counts");
                    assert_eq!(datagram.data(), &short[23..]);
                }
                Err(error) => assert!(error.offset <= have && have < 26),
            }
        }
    }
}

#[test]
fn debug_of_frames_and_messages_keeps_content_to_itself() {
    let (_, bytes) = frames()
        .into_iter()
        .find(|(name, _)| name == "c14-rsp-ack")
        .unwrap();
    let cut = codec::cut(&bytes, codec::Expect::Frame, codec::Limits::default());
    let frame = "Frame(Frame { codec_id: Codec14, first_count: 1, data_bytes: 171 })";
    assert_eq!(format!("{cut:?}"), frame);
    let messages = format!(
        "{:?}",
        MessageData::parse(&bytes[8..bytes.len() - 4]).unwrap()
    );
    let message = "Message { kind: 6, size: 163, timestamp_s: None, \
                   imei: Some(Imei(…2251)), payload_bytes: 155 }";
    assert_eq!(
        messages,
        format!("MessageData {{ codec: Codec14, messages: [{message}] }}")
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(
        codec in prop_oneof![Just(0x08u8), Just(0x8E), Just(0x10), 0x0Cu8..=0x0F, any::<u8>()],
        tail in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..120),
    ) {
        let mut data = vec![codec];
        data.extend(tail);
        if let Err(error) = read(&data) {
            prop_assert!(error.offset <= data.len());
        }
        let _ = Datagram::parse(&data);
    }
}

#[test]
fn every_coordinate_is_kept_to_the_last_bit() {
    let ends = [i32::MIN, -1_800_000_000, -1, 0, 1, 1_800_000_000, i32::MAX];
    let powers = (0..31).flat_map(|bit| [1 << bit, -(1 << bit), (1 << bit) - 1]);
    for value in powers.chain(ends) {
        let mut data = plain_data(&[0]);
        data[11..15].copy_from_slice(&i32::to_be_bytes(value));
        data[15..19].copy_from_slice(&i32::to_be_bytes(!value));
        let record = AvlData::parse(&data).unwrap().records().next().unwrap();
        assert_eq!((record.longitude_e7, record.latitude_e7), (value, !value));
    }
}

#[test]
fn the_total_of_codec_8e_counts_the_variable_group() {
    let groups = [0, 1, 0, 9, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0xAB];
    for (stated, right) in [(1u8, false), (2, true), (3, false)] {
        let mut io = vec![0, 0, 0, stated];
        io.extend(groups);
        let data = with_io(0x8E, &io);
        match AvlData::parse(&data) {
            Ok(avl) => {
                assert!(right);
                assert_eq!(avl.records().next().unwrap().io().count(), 2);
            }
            Err(error) => {
                let stated = u16::from(stated);
                let reason = BodyReason::IoTotal { stated, counted: 2 };
                assert!(!right);
                assert_eq!((error.offset, error.reason), (28, reason));
            }
        }
    }
}

#[test]
fn a_variable_value_of_every_length_is_read() {
    for length in (0..300).chain([1279, 1280, 32_767, 32_768, 65_534, 65_535]) {
        let mut io = vec![1, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        io.extend([1, 1]);
        io.extend(u16::try_from(length).unwrap().to_be_bytes());
        io.extend(std::iter::repeat_n(0xEE, length));
        io.extend([1, 2, 0, 0]);
        let data = with_io(0x8E, &io);
        let record = AvlData::parse(&data).unwrap().records().next().unwrap();
        let read: Vec<_> = record
            .io()
            .map(|e| (e.id, e.width, e.bytes.len()))
            .collect();
        let variable = IoWidth::Variable;
        assert_eq!(read, [(257, variable, length), (258, variable, 0)]);
    }
}
