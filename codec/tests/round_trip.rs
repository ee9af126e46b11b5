//! What the encoder writes is what devices write: the public examples, taken apart and
//! written again, come out byte for byte.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::encode::{
    self, Codec7Gps, Codec7Spec, DatagramSpec, EncodeError, IoSpec, IoValue, MessageSpec,
    RecordSpec,
};
use codec::{
    AvlCodec, AvlData, CodecId, Cut, Datagram, Expect, Full, GenerationType, Imei, IoElement,
    Limits, MessageCodec, MessageData, Priority, SliceSink,
};
use proptest::prelude::*;
use wire::{framed, logins, public_datagrams, public_frames};

fn io_spec<'a>(element: IoElement<'a>) -> IoSpec<'a> {
    let number = element.as_u64().unwrap_or_default();
    let value = match element.width.bytes() {
        Some(1) => IoValue::U8(number.try_into().unwrap()),
        Some(2) => IoValue::U16(number.try_into().unwrap()),
        Some(4) => IoValue::U32(number.try_into().unwrap()),
        Some(8) => IoValue::U64(number),
        Some(_) => IoValue::B16(element.bytes.try_into().unwrap()),
        None => IoValue::Bytes(element.bytes),
    };
    IoSpec {
        id: element.id,
        value,
    }
}

fn avl_again(data: &[u8]) -> Vec<u8> {
    let avl = AvlData::parse(data).unwrap();
    let io: Vec<Vec<IoSpec<'_>>> = avl
        .records()
        .map(|record| record.io().map(io_spec).collect())
        .collect();
    let specs: Vec<RecordSpec<'_>> = avl
        .records()
        .zip(&io)
        .map(|(r, io)| RecordSpec {
            timestamp_ms: r.timestamp_ms,
            priority: r.priority,
            longitude_e7: r.longitude_e7,
            latitude_e7: r.latitude_e7,
            altitude_m: r.altitude_m,
            angle_deg: r.angle_deg,
            satellites: r.satellites,
            speed_kmh: r.speed_kmh,
            event_io_id: r.event_io_id,
            generation_type: r.generation_type.unwrap_or(GenerationType::Reserved),
            io,
        })
        .collect();
    let (mut alone, mut frame) = (Vec::new(), Vec::new());
    encode::avl_data(avl.codec(), &specs, &mut alone).unwrap();
    assert_eq!(alone, data);
    encode::avl_frame(avl.codec(), &specs, &mut frame).unwrap();
    frame
}

fn message_again(data: &[u8]) -> Vec<u8> {
    let read = MessageData::parse(data).unwrap();
    let m = read.messages().next().unwrap();
    let (kind, payload) = (m.kind, m.payload);
    let time = || m.timestamp_s.unwrap();
    let imei = || m.imei().unwrap();
    let spec = match read.codec() {
        MessageCodec::Codec12 => MessageSpec::Codec12 { kind, payload },
        MessageCodec::Codec13 => MessageSpec::Codec13 {
            kind,
            timestamp_s: time(),
            payload,
        },
        MessageCodec::Codec14 => MessageSpec::Codec14 {
            kind,
            imei: imei(),
            payload,
        },
        MessageCodec::Codec15 => MessageSpec::Codec15 {
            kind,
            timestamp_s: time(),
            imei: imei(),
            payload,
        },
    };
    let mut frame = Vec::new();
    encode::message_frame(&spec, &mut frame).unwrap();
    frame
}

#[test]
fn every_public_frame_is_written_again_byte_for_byte() {
    let mut written = 0;
    for (name, bytes) in public_frames() {
        let Cut::Frame(frame) = codec::cut(&bytes, Expect::Frame, Limits::default()) else {
            panic!("{name}");
        };
        let mut plain = Vec::new();
        encode::frame(frame.data(), &mut plain).unwrap();
        assert_eq!(plain, bytes, "{name}");
        let again = match frame.codec_id() {
            CodecId::Other(_) => continue,
            id if id.is_message() => message_again(frame.data()),
            id if id.as_byte() == 0x07 => continue,
            _ => avl_again(frame.data()),
        };
        assert_eq!(again, bytes, "{name}");
        written += 1;
    }
    assert!(written >= 15, "only {written}");
}

#[test]
fn logins_and_commands_are_the_printed_ones() {
    for (_, login) in logins() {
        let mut written = Vec::new();
        encode::login(Imei::parse(&login[2..]).unwrap(), &mut written).unwrap();
        assert_eq!(written, login);
    }
    let mut getio = Vec::new();
    encode::command(b"getio", &mut getio).unwrap();
    assert_eq!(
        hex::encode_upper(getio),
        "000000000000000D0C010500000005676574696F01000000CB"
    );
}

#[test]
fn what_the_wire_cannot_say_is_found_before_the_first_byte() {
    let refused = |codec, records: &[RecordSpec<'_>]| {
        let mut written = Vec::new();
        let error = encode::avl_frame(codec, records, &mut written).unwrap_err();
        assert_eq!(written, b"");
        error
    };
    let plain = RecordSpec::default();
    let many = vec![plain; 256];
    assert_eq!(
        refused(AvlCodec::Codec8, &many),
        EncodeError::TooManyRecords { records: 256 }
    );
    let wide = [IoSpec {
        id: 256,
        value: IoValue::U8(1),
    }];
    let wide = RecordSpec { io: &wide, ..plain };
    assert_eq!(
        refused(AvlCodec::Codec8, &[plain, wide]),
        EncodeError::IdTooWide { record: 1, id: 256 }
    );
    let event = RecordSpec {
        event_io_id: 385,
        ..plain
    };
    assert_eq!(
        refused(AvlCodec::Codec8, &[event]),
        EncodeError::IdTooWide { record: 0, id: 385 }
    );
    let variable = [IoSpec {
        id: 1,
        value: IoValue::Bytes(b"x"),
    }];
    let variable = RecordSpec {
        io: &variable,
        ..plain
    };
    for codec in [AvlCodec::Codec8, AvlCodec::Codec16] {
        assert_eq!(
            refused(codec, &[variable]),
            EncodeError::VariableValue { record: 0, id: 1 }
        );
    }
    let long = vec![0; 65_536];
    let long = [IoSpec {
        id: 1,
        value: IoValue::Bytes(&long),
    }];
    let long = RecordSpec { io: &long, ..plain };
    assert_eq!(
        refused(AvlCodec::Codec8E, &[long]),
        EncodeError::TooLong { bytes: 65_536 }
    );
    let crowd = vec![
        IoSpec {
            id: 1,
            value: IoValue::U8(0)
        };
        256
    ];
    let crowd = RecordSpec {
        io: &crowd,
        ..plain
    };
    for codec in [AvlCodec::Codec8, AvlCodec::Codec16] {
        let error = EncodeError::TooManyElements {
            record: 0,
            elements: 256,
            elements_max: 255,
        };
        assert_eq!(refused(codec, &[crowd]), error);
    }
    encode::avl_frame(AvlCodec::Codec8E, &[crowd], &mut Vec::new()).unwrap();
}

#[test]
fn the_largest_counts_are_written_and_read() {
    let records = vec![
        RecordSpec {
            priority: Priority::High,
            ..RecordSpec::default()
        };
        255
    ];
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &records, &mut data).unwrap();
    assert_eq!(data.len(), 3 + 255 * 30);
    assert_eq!(AvlData::parse(&data).unwrap().records().count(), 255);
    let value = [0xA5; 65_535];
    let io = [IoSpec {
        id: 257,
        value: IoValue::Bytes(&value),
    }];
    let mut data = Vec::new();
    let record = RecordSpec {
        io: &io,
        ..RecordSpec::default()
    };
    encode::avl_data(AvlCodec::Codec8E, &[record], &mut data).unwrap();
    let avl = AvlData::parse(&data).unwrap();
    assert_eq!(
        avl.records().next().unwrap().io().next().unwrap().bytes,
        value
    );
}

#[test]
fn a_buffer_that_is_one_byte_short_says_so() {
    let (_, login) = &logins()[0];
    let imei = Imei::parse(&login[2..]).unwrap();
    let mut room = [0; 17];
    let mut sink = SliceSink::new(&mut room);
    encode::login(imei, &mut sink).unwrap();
    assert_eq!(sink.written(), login);
    let full = encode::login(imei, &mut SliceSink::new(&mut room[..16]));
    assert_eq!(full, Err(EncodeError::Full(Full { bytes: 15 })));
    let mut bounded = heapless::Vec::<u8, 24>::new();
    let full = encode::command(b"getio", &mut bounded);
    assert_eq!(full, Err(EncodeError::Full(Full { bytes: 4 })));
}

#[test]
fn every_public_datagram_is_written_again_byte_for_byte() {
    for (name, bytes) in public_datagrams() {
        let read = Datagram::parse(&bytes).unwrap();
        let head = DatagramSpec {
            packet_id: read.packet_id(),
            packet_type: read.packet_type(),
            avl_packet_id: read.avl_packet_id(),
            imei: read.imei().unwrap(),
        };
        let mut again = Vec::new();
        encode::datagram(&head, read.data(), &mut again).unwrap();
        assert_eq!(again, bytes, "{name}");

        let mut answer = Vec::new();
        let (packet_id, avl_packet_id) = (read.packet_id(), read.avl_packet_id());
        encode::datagram_answer(packet_id, avl_packet_id, 1, &mut answer).unwrap();
        assert_eq!(answer, read.answer(1));
    }
}

#[test]
fn datagrams_of_records_are_those_of_their_data_field() {
    let head = DatagramSpec {
        packet_id: 0xCAFE,
        packet_type: 0,
        avl_packet_id: 0xDD,
        imei: "352093081452251".parse().unwrap(),
    };
    let records = [RecordSpec::default(); 3];
    let (mut data, mut around, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    encode::avl_data(AvlCodec::Codec8E, &records, &mut data).unwrap();
    encode::datagram(&head, &data, &mut around).unwrap();
    encode::avl_datagram(&head, AvlCodec::Codec8E, &records, &mut direct).unwrap();
    assert_eq!(direct, around);
    // 21 bytes of head, 3 of codec id and counts, 3 records of 24 + 2 + 2 + 5 × 2.
    assert_eq!(
        direct[..23],
        *b"\x00\x8A\xCA\xFE\x00\xDD\x00\x0F352093081452251"
    );
    assert_eq!(Datagram::parse(&direct).unwrap().data(), data);

    // The length has 16 bits and counts 21 bytes of head.
    let most = vec![8; 0xFFFF - 21];
    let mut written = Vec::new();
    encode::datagram(&head, &most, &mut written).unwrap();
    assert_eq!(Datagram::parse(&written).unwrap().data(), most);
    let (more, mut written) = (vec![8; 0xFFFF - 20], Vec::new());
    let refused = encode::datagram(&head, &more, &mut written);
    assert_eq!(refused, Err(EncodeError::TooLong { bytes: 65_536 }));
    assert_eq!(written, b"");
}

#[test]
fn what_a_server_says_is_what_devices_are_documented_to_hear() {
    let mut said = Vec::new();
    encode::login_answer(true, &mut said).unwrap();
    encode::login_answer(false, &mut said).unwrap();
    encode::ack(2, &mut said).unwrap();
    encode::channel_ack(0xCAFE, &mut said).unwrap();
    encode::ping(&mut said).unwrap();
    assert_eq!(hex::encode(said), "0100000000020003cafe02ff");
}

#[test]
fn any_identity_can_log_in_unless_its_length_means_something_else() {
    let write = |identity: &[u8]| {
        let mut login = Vec::new();
        encode::login_as(identity, &mut login).map(|()| login)
    };
    assert_eq!(write(b"bench").unwrap(), b"\x00\x05bench");
    assert_eq!(write(b""), Err(EncodeError::NoIdentity));
    let long = vec![b'7'; 0x1_0000];
    for bytes in [0xFEFF, 0xFF00, 0xFFFF, 0x1_0000] {
        match write(&long[..bytes]) {
            Ok(login) => assert_eq!((bytes, &login[..2]), (0xFEFF, &[0xFE, 0xFF][..])),
            Err(error) => {
                assert_eq!(error, EncodeError::TooLong { bytes });
                assert!(bytes > 0xFEFF);
            }
        }
    }
}

#[test]
fn the_group_of_sixteen_bytes_goes_to_every_record_of_the_frame() {
    let io = [
        IoSpec {
            id: 9,
            value: IoValue::B16([0xAA; 16]),
        },
        IoSpec {
            id: 1,
            value: IoValue::U8(1),
        },
    ];
    let plain = RecordSpec::default();
    let records = [plain, RecordSpec { io: &io, ..plain }];
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &records, &mut data).unwrap();
    // Per record 24 bytes of time and position, then event, total and five groups.
    let mut expected = vec![0x08, 2];
    expected.extend([0; 24]);
    expected.extend([0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0; 24]);
    expected.extend([0, 2, 1, 1, 1, 0, 0, 0, 1, 9]);
    expected.extend([0xAA; 16]);
    expected.push(2);
    assert_eq!(data, expected);
    for codec in [AvlCodec::Codec8E, AvlCodec::Codec16] {
        let mut written = Vec::new();
        let refused = encode::avl_frame(codec, &records, &mut written);
        let error = EncodeError::SixteenByteValue { record: 1, id: 9 };
        assert_eq!((refused, written), (Err(error), Vec::new()));
    }
}

fn io<'a>(id: u16, value: IoValue<'a>) -> IoSpec<'a> {
    IoSpec { id, value }
}

#[test]
fn codec_7_is_written_mask_by_mask() {
    let everything = Codec7Gps {
        latitude_longitude_deg: Some((54.6875, 25.25)),
        altitude_m: Some(112),
        angle_raw256: Some(64),
        speed_kmh: Some(50),
        satellites: Some(9),
        lac_cell: Some((1, 2000)),
        signal: Some(20),
        operator: Some(24_602),
    };
    let first = Codec7Spec {
        priority: Priority::High,
        timestamp_s: 1_748_609_600,
        gps: Some(everything),
        io: &[
            io(5, IoValue::U32(123_456)),
            io(1, IoValue::U8(87)),
            io(67, IoValue::U16(3950)),
        ],
    };
    let second = Codec7Spec {
        priority: Priority::Low,
        timestamp_s: 1_748_609_660,
        gps: None,
        io: &[io(240, IoValue::U8(1))],
    };
    let mut frame = Vec::new();
    encode::codec7_frame(&[first, second], &mut frame).unwrap();
    let (_, public) = public_frames()
        .into_iter()
        .find(|(name, _)| name == "c7-tcp-synthetic")
        .unwrap();
    assert_eq!(frame, public);

    // Every mask on its own: the mask byte, and the bytes it stands for.
    let none = Codec7Gps::default();
    let masks = [
        (
            everything.latitude_longitude_deg.map(|both| Codec7Gps {
                latitude_longitude_deg: Some(both),
                ..none
            }),
            8,
        ),
        (
            Some(Codec7Gps {
                altitude_m: Some(-3),
                ..none
            }),
            2,
        ),
        (
            Some(Codec7Gps {
                angle_raw256: Some(3),
                ..none
            }),
            1,
        ),
        (
            Some(Codec7Gps {
                speed_kmh: Some(3),
                ..none
            }),
            1,
        ),
        (
            Some(Codec7Gps {
                satellites: Some(3),
                ..none
            }),
            1,
        ),
        (
            Some(Codec7Gps {
                lac_cell: Some((3, 3)),
                ..none
            }),
            4,
        ),
        (
            Some(Codec7Gps {
                signal: Some(3),
                ..none
            }),
            1,
        ),
        (
            Some(Codec7Gps {
                operator: Some(3),
                ..none
            }),
            4,
        ),
    ];
    for (bit, (gps, bytes)) in masks.into_iter().enumerate() {
        let mut data = Vec::new();
        let record = Codec7Spec { gps, ..second };
        encode::codec7_data(&[record], &mut data).unwrap();
        // Codec id, count, time; global mask; its mask; that part; a group of one; count.
        assert_eq!((data[6], data[7]), (0b11, 1 << bit));
        assert_eq!(data.len(), 8 + bytes + 3 + 1);
    }
}

#[test]
fn what_codec_7_cannot_say_is_found_before_the_first_byte() {
    let refused = |record: Codec7Spec<'_>| {
        let mut written = Vec::new();
        let error = encode::codec7_frame(&[record], &mut written).unwrap_err();
        assert_eq!(written, b"");
        error
    };
    let plain = Codec7Spec {
        priority: Priority::Other(3),
        timestamp_s: 1_167_609_600,
        gps: None,
        io: &[],
    };
    let last_s = 1_167_609_600 + (1 << 30) - 1;
    for timestamp_s in [0, 1_167_609_599, last_s + 1, u32::MAX] {
        let error = EncodeError::TimeOutOfRange {
            record: 0,
            timestamp_s,
        };
        assert_eq!(
            refused(Codec7Spec {
                timestamp_s,
                ..plain
            }),
            error
        );
    }
    for (timestamp_s, word) in [(1_167_609_600, 0xC000_0000u32), (last_s, 0xFFFF_FFFF)] {
        let mut data = Vec::new();
        encode::codec7_data(
            &[Codec7Spec {
                timestamp_s,
                ..plain
            }],
            &mut data,
        )
        .unwrap();
        assert_eq!(data[2..6], word.to_be_bytes());
    }
    let priority = Priority::Other(4);
    let error = EncodeError::PriorityTooWide {
        record: 0,
        priority: 4,
    };
    assert_eq!(refused(Codec7Spec { priority, ..plain }), error);
    for value in [IoValue::U64(1), IoValue::Bytes(b"x"), IoValue::B16([0; 16])] {
        let error = EncodeError::NotInCodec7 { record: 0, id: 7 };
        assert_eq!(
            refused(Codec7Spec {
                io: &[io(7, value)],
                ..plain
            }),
            error
        );
    }
    let wide = [io(256, IoValue::U8(1))];
    let error = EncodeError::IdTooWide { record: 0, id: 256 };
    assert_eq!(refused(Codec7Spec { io: &wide, ..plain }), error);
    let crowd = [io(1, IoValue::U8(1)); 256];
    let error = EncodeError::TooManyElements {
        record: 0,
        elements: 256,
        elements_max: 255,
    };
    assert_eq!(
        refused(Codec7Spec {
            io: &crowd,
            ..plain
        }),
        error
    );
    let many = encode::codec7_data(&[plain; 256], &mut Vec::new());
    assert_eq!(many, Err(EncodeError::TooManyRecords { records: 256 }));
}

fn io_value<'a>() -> impl Strategy<Value = IoValue<'a>> {
    prop_oneof![
        any::<u8>().prop_map(IoValue::U8),
        any::<u16>().prop_map(IoValue::U16),
        any::<u32>().prop_map(IoValue::U32),
        any::<u64>().prop_map(IoValue::U64),
        prop_oneof![Just(&b""[..]), Just(&b"x"[..]), Just(&b"eight by"[..])]
            .prop_map(IoValue::Bytes),
    ]
}

proptest! {
    // Elements may be given in any order; they come back by group, in order within it.
    #[test]
    fn elements_come_back_sorted_by_group_alone(
        values in proptest::collection::vec((any::<u16>(), io_value()), 0..40),
    ) {
        let io: Vec<_> = values.iter().map(|&(id, value)| IoSpec { id, value }).collect();
        let record = RecordSpec { io: &io, ..RecordSpec::default() };
        let mut frame = Vec::new();
        encode::avl_frame(AvlCodec::Codec8E, &[record], &mut frame).unwrap();
        let Cut::Frame(cut) = codec::cut(&frame, Expect::Frame, Limits::default()) else {
            panic!("our own frame is refused");
        };
        let read = AvlData::parse(cut.data()).unwrap().records().next().unwrap();
        let mut expected = io.clone();
        expected.sort_by_key(|element| match element.value {
            IoValue::U8(_) => 1,
            IoValue::U16(_) => 2,
            IoValue::U32(_) => 4,
            IoValue::U64(_) => 8,
            IoValue::B16(_) => 16,
            IoValue::Bytes(_) => 17,
        });
        prop_assert_eq!(read.io().map(io_spec).collect::<Vec<_>>(), expected);
        prop_assert_eq!(&frame, &framed(cut.data()));
    }
}
