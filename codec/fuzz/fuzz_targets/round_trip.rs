//! Whatever can be said on the wire is read as it was meant.
#![no_main]

use codec::encode::{self, DatagramSpec, EncodeError, MessageSpec};
use codec::{
    AvlCodec, AvlData, Codec7Data, Cut, Datagram, Expect, Limits, MessageCodec, MessageData,
};
use codec_fuzz::{Codec7, Record, Value};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Said {
    Records {
        codec: Avl,
        records: Vec<Record>,
        packet_id: u16,
        imei: u64,
    },
    Message {
        codec: Message,
        kind: u8,
        timestamp_s: u32,
        imei: u64,
        payload: Vec<u8>,
    },
    Codec7 {
        records: Vec<Codec7>,
    },
    Login {
        identity: Vec<u8>,
    },
}

#[derive(Debug, Arbitrary)]
enum Avl {
    Codec8,
    Codec8E,
    Codec16,
}

#[derive(Debug, Arbitrary)]
enum Message {
    Codec12,
    Codec13,
    Codec14,
    Codec15,
}

fuzz_target!(|said: Said| match said {
    Said::Records {
        codec,
        records,
        packet_id,
        imei,
    } => {
        let codec = match codec {
            Avl::Codec8 => AvlCodec::Codec8,
            Avl::Codec8E => AvlCodec::Codec8E,
            Avl::Codec16 => AvlCodec::Codec16,
        };
        avl(codec, records, packet_id, imei);
    }
    Said::Message {
        codec,
        kind,
        timestamp_s,
        imei,
        payload,
    } => message(codec, kind, timestamp_s, imei, &payload),
    Said::Codec7 { records } => codec7(records),
    Said::Login { identity } => login(&identity),
});

fn avl(codec: AvlCodec, mut records: Vec<Record>, packet_id: u16, imei: u64) {
    // Codec 8 has one-byte ids: most of what the fuzzer makes up would be refused.
    for record in &mut records {
        if codec == AvlCodec::Codec8 {
            record.event_io_id &= 0xFF;
            record.io.iter_mut().for_each(|element| element.id &= 0xFF);
        }
        if codec != AvlCodec::Codec16 {
            record.generation_type = 7;
        }
        record.io.retain(|element| match element.value {
            Value::B16(_) => codec == AvlCodec::Codec8,
            Value::Variable(_) => codec == AvlCodec::Codec8E,
            _ => true,
        });
    }
    let sixteens = records
        .iter()
        .flat_map(|record| &record.io)
        .any(|element| matches!(element.value, Value::B16(_)));
    let data = match codec_fuzz::write(codec, &records) {
        Ok(data) => data,
        Err(EncodeError::TooManyRecords { records: 256.. }) => return,
        Err(EncodeError::TooManyElements {
            elements: 256.., ..
        }) => return,
        Err(error) => panic!("{error}"),
    };
    for record in &mut records {
        record.io.sort_by_key(|element| element.value.group());
    }
    let read = AvlData::parse(&data).expect("our own");
    // Nothing announces the 16-byte group: bytes that read as documented too are read so.
    if read.has_16_byte_group() == sixteens {
        assert_eq!(codec_fuzz::read(read), records);
    } else {
        assert!(sixteens);
    }

    let mut frame = Vec::new();
    encode::frame(&data, &mut frame).expect("memory is the limit");
    let limits = Limits {
        frame_bytes_max: frame.len(),
        ..Limits::default()
    };
    let Cut::Frame(cut) = codec::cut(&frame, Expect::Frame, limits) else {
        panic!("our own frame is refused");
    };
    assert_eq!(cut.data(), data);

    let head = DatagramSpec {
        packet_id,
        packet_type: 1,
        avl_packet_id: packet_id as u8,
        imei: codec_fuzz::imei(imei),
    };
    let mut datagram = Vec::new();
    match encode::datagram(&head, &data, &mut datagram) {
        Ok(()) => {
            let read_back = Datagram::parse(&datagram).expect("our own");
            assert_eq!(read_back.imei(), Ok(head.imei));
            assert_eq!(read_back.packet_id(), packet_id);
            assert_eq!(read_back.data(), data);
        }
        Err(error) => assert!(data.len() > 65_000, "{error}"),
    }
}

fn codec7(mut records: Vec<Codec7>) {
    for record in &mut records {
        record.io.iter_mut().for_each(|element| element.id &= 0xFF);
        record.io.retain(|element| element.value.group() < 3);
    }
    let data = match codec_fuzz::write_codec7(&records) {
        Ok(data) => data,
        Err(EncodeError::TooManyRecords { records: 256.. }) => return,
        Err(EncodeError::TooManyElements {
            elements: 256.., ..
        }) => return,
        Err(error) => panic!("{error}"),
    };
    let read = Codec7Data::parse(&data).expect("our own");
    assert_eq!(codec_fuzz::codec7_again(read), data);
    let elements: usize = read.records().map(|record| record.io().len()).sum();
    let made_up: usize = records.iter().map(|record| record.io.len()).sum();
    assert_eq!(elements, made_up);
}

fn message(codec: Message, kind: u8, timestamp_s: u32, imei: u64, payload: &[u8]) {
    let imei = codec_fuzz::imei(imei);
    let (codec, spec) = match codec {
        Message::Codec12 => (
            MessageCodec::Codec12,
            MessageSpec::Codec12 { kind, payload },
        ),
        Message::Codec13 => (
            MessageCodec::Codec13,
            MessageSpec::Codec13 {
                kind,
                timestamp_s,
                payload,
            },
        ),
        Message::Codec14 => (
            MessageCodec::Codec14,
            MessageSpec::Codec14 {
                kind,
                imei,
                payload,
            },
        ),
        Message::Codec15 => (
            MessageCodec::Codec15,
            MessageSpec::Codec15 {
                kind,
                timestamp_s,
                imei,
                payload,
            },
        ),
    };
    let mut frame = Vec::new();
    encode::message_frame(&spec, &mut frame).expect("memory is the limit");
    let Cut::Frame(cut) = codec::cut(&frame, Expect::Frame, Limits::default()) else {
        panic!("our own frame is refused");
    };
    assert_eq!(cut.ack(), None);
    let read = MessageData::parse(cut.data()).expect("our own");
    assert_eq!((read.codec(), read.count()), (codec, 1));
    let message = read.messages().next().expect("there is one");
    assert_eq!((message.kind, message.payload), (kind, payload));
    let has_time = matches!(codec, MessageCodec::Codec13 | MessageCodec::Codec15);
    assert_eq!(message.timestamp_s, has_time.then_some(timestamp_s));
    let has_imei = matches!(codec, MessageCodec::Codec14 | MessageCodec::Codec15);
    assert_eq!(message.imei(), has_imei.then_some(imei));
}

fn login(identity: &[u8]) {
    let mut login = Vec::new();
    if encode::login_as(identity, &mut login).is_err() {
        return assert!(login.is_empty());
    }
    let limits = Limits {
        login_bytes_max: login.len(),
        ..Limits::default()
    };
    match codec::cut(&login, Expect::Login, limits) {
        Cut::Login(cut) => assert_eq!(cut.raw(), identity),
        // The one length that is a ping's first byte.
        Cut::Ping => assert_eq!(login[0], 0xFF),
        other => panic!("{other:?}"),
    }
}
