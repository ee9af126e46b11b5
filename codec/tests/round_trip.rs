//! What the encoder writes is what devices write: the public examples, taken apart and
//! written again, come out byte for byte.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::encode::{self, EncodeError, IoSpec, IoValue, MessageSpec, RecordSpec};
use codec::{
    AvlCodec, AvlData, CodecId, Cut, Expect, Full, GenerationType, Imei, IoElement, IoWidth,
    Limits, MessageCodec, MessageData, Priority, SliceSink,
};
use proptest::prelude::*;
use wire::{framed, frames, logins};

fn io_spec<'a>(element: IoElement<'a>) -> IoSpec<'a> {
    let number = element.as_u64().unwrap_or_default();
    let value = match element.width {
        IoWidth::B1 => IoValue::U8(number.try_into().unwrap()),
        IoWidth::B2 => IoValue::U16(number.try_into().unwrap()),
        IoWidth::B4 => IoValue::U32(number.try_into().unwrap()),
        IoWidth::B8 => IoValue::U64(number),
        IoWidth::Variable => IoValue::Bytes(element.bytes),
        IoWidth::B16 => panic!("no frame here has the undocumented group"),
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
    for (name, bytes) in frames() {
        let Cut::Frame(frame) = codec::cut(&bytes, Expect::Frame, Limits::default()) else {
            panic!("{name}");
        };
        let mut plain = Vec::new();
        encode::frame(frame.data(), &mut plain).unwrap();
        assert_eq!(plain, bytes, "{name}");
        let again = match frame.codec_id() {
            CodecId::Codec7 | CodecId::Other(_) => continue,
            id if id.is_message() => message_again(frame.data()),
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
            IoValue::Bytes(_) => 16,
        });
        prop_assert_eq!(read.io().map(io_spec).collect::<Vec<_>>(), expected);
        prop_assert_eq!(&frame, &framed(cut.data()));
    }
}
