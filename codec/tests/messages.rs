//! Codecs 12 to 15 and what travels in them: several messages in a frame, both sizes and
//! both times of Codec 13, refusals, raw bytes, camera blocks; and the UDP answers.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::encode::{self, EncodeError, MessageSpec};
use codec::message::{CAMERA, COMMAND, NOT_EXECUTED, RESPONSE};
use codec::{
    CameraBlock, CodecId, Cut, Datagram, Expect, Imei, Limits, Message, MessageData, Stage,
};
use proptest::prelude::*;
use wire::{crc16_slowly, datagrams, framed, frames};

/// A message as its parts, to be written by hand.
#[derive(Debug, Clone)]
struct Parts {
    kind: u8,
    time: u32,
    imei: u64,
    payload: Vec<u8>,
}

/// Sixteen decimal digits as sixteen nibbles.
fn nibbles(imei: u64) -> Vec<u8> {
    hex::decode(format!("{imei:016}")).unwrap()
}

fn written(codec: u8, messages: &[Parts], time_in_size: bool) -> Vec<u8> {
    let count = u8::try_from(messages.len()).unwrap();
    let mut data = vec![codec, count];
    for message in messages {
        let mut body = Vec::new();
        if matches!(codec, 0x0D | 0x0F) {
            body.extend(message.time.to_be_bytes());
        }
        if matches!(codec, 0x0E | 0x0F) {
            body.extend(nibbles(message.imei));
        }
        body.extend(&message.payload);
        let size = body.len() - if time_in_size { 0 } else { 4 };
        data.push(message.kind);
        data.extend(u32::try_from(size).unwrap().to_be_bytes());
        data.extend(body);
    }
    data.push(count);
    data
}

fn only<'a>(data: &'a [u8]) -> Message<'a> {
    let mut messages = MessageData::parse(data).unwrap().messages();
    assert_eq!(messages.len(), 1);
    messages.next().unwrap()
}

fn parts() -> impl Strategy<Value = Parts> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    (any::<u8>(), any::<u32>(), 0..10u64.pow(15), payload).prop_map(
        |(kind, time, imei, payload)| Parts {
            kind,
            time,
            imei,
            payload,
        },
    )
}

fn spec(codec: u8, parts: &Parts) -> MessageSpec<'_> {
    let (kind, timestamp_s, payload) = (parts.kind, parts.time, parts.payload.as_slice());
    let imei = Imei::from_u64(parts.imei).unwrap();
    match codec {
        0x0C => MessageSpec::Codec12 { kind, payload },
        0x0D => MessageSpec::Codec13 {
            kind,
            timestamp_s,
            payload,
        },
        0x0E => MessageSpec::Codec14 {
            kind,
            imei,
            payload,
        },
        _ => MessageSpec::Codec15 {
            kind,
            timestamp_s,
            imei,
            payload,
        },
    }
}

proptest! {
    #[test]
    fn hand_written_messages_come_out_as_they_went_in(
        codec in 0x0Cu8..=0x0F,
        messages in proptest::collection::vec(parts(), 0..6),
    ) {
        let data = written(codec, &messages, true);
        let read = MessageData::parse(&data).unwrap();
        prop_assert!(read.time_in_size());
        prop_assert_eq!(usize::from(read.count()), messages.len());
        for (message, parts) in read.messages().zip(&messages) {
            let (timed, named) = (matches!(codec, 0x0D | 0x0F), matches!(codec, 0x0E | 0x0F));
            prop_assert_eq!(message.kind, parts.kind);
            prop_assert_eq!(message.timestamp_s, timed.then_some(parts.time));
            prop_assert_eq!(message.imei().map(Imei::as_u64), named.then_some(parts.imei));
            prop_assert_eq!(message.payload, &parts.payload[..]);
        }
        // And the encoder writes the same.
        let specs: Vec<_> = messages.iter().map(|parts| spec(codec, parts)).collect();
        let mut frame = Vec::new();
        match encode::messages_frame(&specs, &mut frame) {
            Ok(()) => prop_assert_eq!(frame, framed(&data)),
            Err(error) => {
                prop_assert_eq!(error, EncodeError::NoMessages);
                prop_assert!(specs.is_empty() && frame.is_empty());
            }
        }
    }

    #[test]
    fn sizes_without_the_time_are_found_out_in_every_message(
        messages in proptest::collection::vec(parts(), 1..5),
    ) {
        let data = written(0x0D, &messages, false);
        let read = MessageData::parse(&data).unwrap();
        prop_assert!(!read.time_in_size());
        for (message, parts) in read.messages().zip(&messages) {
            prop_assert_eq!(message.timestamp_s, Some(parts.time));
            prop_assert_eq!(message.payload, &parts.payload[..]);
        }
    }
}

#[test]
fn every_type_byte_is_kept_in_every_codec() {
    for codec in 0x0C..=0x0F {
        for kind in 0..=u8::MAX {
            let parts = Parts {
                kind,
                time: 1_692_938_881,
                imei: 352_093_081_452_251,
                payload: vec![0xFF, 0, 0x80],
            };
            let data = written(codec, &[parts], true);
            let message = only(&data);
            assert_eq!(
                (message.kind, message.payload),
                (kind, &[0xFF, 0, 0x80][..])
            );
        }
    }
}

#[test]
fn two_hundred_and_fifty_five_messages_fit_a_frame() {
    let one = MessageSpec::response(b"ok");
    let mut frame = Vec::new();
    encode::messages_frame(&[one; 255], &mut frame).unwrap();
    let read = MessageData::parse(&frame[8..frame.len() - 4]).unwrap();
    assert_eq!(read.messages().filter(|m| m.payload == b"ok").count(), 255);
    let mut written = Vec::new();
    let refused = encode::messages_frame(&[one; 256], &mut written);
    assert_eq!(refused, Err(EncodeError::TooManyMessages { messages: 256 }));
    let imei = Imei::from_u64(352_093_081_452_251).unwrap();
    let mixed = [one, one, MessageSpec::not_executed(imei)];
    let refused = encode::messages_frame(&mixed, &mut written);
    assert_eq!(refused, Err(EncodeError::MixedCodecs { message: 2 }));
    assert_eq!(written, b"");
}

#[test]
fn codec_14_answers_are_the_printed_ones() {
    let imei: Imei = "352093081452251".parse().unwrap();
    let vectors = frames();
    let printed = |name: &str| {
        let (_, bytes) = vectors.iter().find(|(found, _)| found == name).unwrap();
        bytes.clone()
    };
    let data = |frame: &[u8]| frame[8..frame.len() - 4].to_vec();

    let command = printed("c14-cmd-getver");
    let mut again = Vec::new();
    encode::message_frame(&MessageSpec::command_for(imei, b"getver"), &mut again).unwrap();
    assert_eq!(again, command);
    assert_eq!(only(&data(&command)).kind, COMMAND);

    let ack = printed("c14-rsp-ack");
    let body = data(&ack);
    let message = only(&body);
    assert_eq!((message.kind, message.imei()), (RESPONSE, Some(imei)));
    let mut again = Vec::new();
    encode::message_frame(&MessageSpec::executed(imei, message.payload), &mut again).unwrap();
    assert_eq!(again, ack);

    // The refusal is an IMEI and nothing else.
    let nack = printed("c14-rsp-nack-repaired");
    let body = data(&nack);
    let message = only(&body);
    assert_eq!((message.kind, message.size), (NOT_EXECUTED, 8));
    let other: Imei = "352093081452468".parse().unwrap();
    assert_eq!(message.imei(), Some(other));
    assert_eq!(message.payload, b"");
    let mut again = Vec::new();
    encode::message_frame(&MessageSpec::not_executed(other), &mut again).unwrap();
    assert_eq!(again, nack);
}

/// Codec 13 data field whose body is `body`.
fn codec_13(body: &[u8]) -> Vec<u8> {
    let mut data = vec![0x0D, 1, 6];
    data.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    data.extend(body);
    data.push(1);
    data
}

#[test]
fn eight_bytes_of_time_are_offered_and_not_imposed() {
    let data = codec_13(b"\x00\x00\x01\x6C\x0A\x81\xC3\x20getinfo");
    let message = only(&data);
    assert_eq!(message.timestamp_s, Some(364));
    assert_eq!(message.payload, b"\x0A\x81\xC3\x20getinfo");
    let wide = message.wide_time().unwrap();
    assert_eq!(
        (wide.timestamp_ms, wide.payload),
        (0x16C_0A81_C320, &b"getinfo"[..])
    );
    assert_eq!(
        format!("{wide:?}"),
        "WideTime { timestamp_ms: 1563544372000, payload_bytes: 7 }"
    );
}

#[test]
fn a_time_that_makes_sense_in_seconds_is_never_read_as_eight_bytes() {
    let wide = |ms: u64| {
        let mut body = ms.to_be_bytes().to_vec();
        body.push(b'x');
        let data = codec_13(&body);
        only(&data).wide_time().map(|wide| wide.timestamp_ms)
    };
    let (first, end) = (1_104_537_600_000, 2_840_140_800_000);
    for ms in [first, first + 1, 1_692_938_881_000, end - 1] {
        assert_eq!(wide(ms), Some(ms));
    }
    // Four bytes of seconds from 1970-01-01 00:12 on are above all of these.
    let seconds = |s: u64| s << 32 | 0x6865_6C6C;
    for ms in [
        0,
        first - 1,
        end,
        seconds(700),
        seconds(1_692_938_881),
        u64::MAX,
    ] {
        assert_eq!(wide(ms), None);
    }
    assert_eq!(only(&codec_13(&[0, 0, 1, 0x6C, 1, 2, 3])).wide_time(), None);
    // Codec 15 has an IMEI behind its time, the others have none.
    let parts = Parts {
        kind: 6,
        time: 364,
        imei: 352_093_081_452_251,
        payload: b"12345678".to_vec(),
    };
    for codec in [0x0C, 0x0E, 0x0F] {
        let data = written(codec, std::slice::from_ref(&parts), true);
        assert_eq!(only(&data).wide_time(), None);
    }
}

#[test]
fn a_server_asks_for_a_stretch_of_a_picture() {
    let request = CameraBlock::Request {
        photo_id: 0x5F00_0001,
        offset: 1024,
        length: 512,
    };
    let data = hex::decode("0c010d0000000b025f00000100000400020001").unwrap();
    let mut frame = Vec::new();
    encode::camera_frame(&request, &mut frame).unwrap();
    assert_eq!(frame, framed(&data));
    let message = only(&data);
    assert_eq!((message.kind, message.size), (CAMERA, 11));
    assert_eq!(CameraBlock::of(&message), Some(request));
}

#[test]
fn a_device_announces_a_picture_and_sends_it() {
    let announce = hex::decode("0c010d00000009015f0000010000123401").unwrap();
    let block = CameraBlock::Announce {
        photo_id: 0x5F00_0001,
        size_bytes: 0x1234,
    };
    assert_eq!(CameraBlock::of(&only(&announce)), Some(block));
    let mut frame = Vec::new();
    encode::camera_frame(&block, &mut frame).unwrap();
    assert_eq!(frame, framed(&announce));

    let mut data = hex::decode("0c010d0000000e025f000001000000000003").unwrap();
    data.extend([0xFF, 0xD8, 0xFF, 1]);
    let block = CameraBlock::Chunk {
        photo_id: 0x5F00_0001,
        offset: 0,
        bytes: &[0xFF, 0xD8, 0xFF],
    };
    assert_eq!(CameraBlock::of(&only(&data)), Some(block));
    assert_eq!(
        format!("{block:?}"),
        "Chunk { photo_id: 1593835521, offset: 0, length: 3 }"
    );
    let mut frame = Vec::new();
    encode::camera_frame(&block, &mut frame).unwrap();
    assert_eq!(frame, framed(&data));
}

#[test]
fn the_idle_frame_of_a_camera_is_a_frame_of_nine_bytes() {
    let data = [0x0C, 1, 0x0D, 0, 0, 0, 1, 0x03, 1];
    let frame = framed(&data);
    let Cut::Frame(cut) = codec::cut(&frame, Expect::Frame, Limits::default()) else {
        panic!("a frame like any other");
    };
    assert_eq!((cut.codec_id(), cut.ack()), (CodecId::Codec12, None));
    assert_eq!(cut.data(), data);
    let block = CameraBlock::of(&only(cut.data())).unwrap();
    assert_eq!(block, CameraBlock::Other(&[3]));
    assert_eq!(format!("{block:?}"), "Other(1 bytes)");
}

#[test]
fn blocks_are_known_by_type_and_length_together() {
    for kind in 0..=u8::MAX {
        for bytes in 0..40u8 {
            for length in 0..40u8 {
                let mut payload = vec![kind, 0, 0, 0, 1, 0, 0, 0, 2, 0, length];
                payload.resize(usize::from(bytes), 0xEE);
                let known = match (kind, bytes) {
                    (1, 9) => "Announce",
                    (2, 11) => "Request",
                    (2, 12..) if length == bytes - 11 => "Chunk",
                    _ => "Other",
                };
                let block = CameraBlock::read(&payload);
                assert!(format!("{block:?}").starts_with(known), "{payload:?}");
            }
        }
    }
    let message = Message {
        kind: RESPONSE,
        size: 0,
        timestamp_s: None,
        imei_bytes: None,
        payload: &[],
    };
    assert_eq!(CameraBlock::of(&message), None);
}

#[test]
fn chunks_that_the_length_cannot_say_are_not_written() {
    let refused = |bytes: &[u8]| {
        let mut written = Vec::new();
        let chunk = CameraBlock::Chunk {
            photo_id: 1,
            offset: 0,
            bytes,
        };
        let result = encode::camera_frame(&chunk, &mut written);
        assert_eq!(result.is_err(), written.is_empty());
        result
    };
    assert_eq!(refused(&[]), Err(EncodeError::AmbiguousChunk));
    assert_eq!(refused(&[1; 65_535]), Ok(()));
    assert_eq!(
        refused(&[1; 65_536]),
        Err(EncodeError::TooLong { bytes: 65_536 })
    );
}

#[test]
fn both_ids_are_echoed_and_any_part_may_be_accepted() {
    for (name, bytes) in datagrams() {
        let mut bytes = bytes.clone();
        (bytes[2], bytes[3], bytes[5]) = (0x12, 0x34, 0x56);
        let datagram = Datagram::parse(&bytes).unwrap();
        for accepted in 0..=datagram.first_count() {
            let answer = [0, 5, 0x12, 0x34, 1, 0x56, accepted];
            assert_eq!(datagram.answer(accepted), answer, "{name}");
        }
    }
}

#[test]
fn every_packet_type_is_kept_and_type_0_wants_one_answer_more() {
    let (_, mut bytes) = datagrams().remove(0);
    for packet_type in 0..=u8::MAX {
        bytes[4] = packet_type;
        let datagram = Datagram::parse(&bytes).unwrap();
        assert_eq!(datagram.packet_type(), packet_type);
        let wanted = (packet_type == 0).then_some([0, 3, 0xCA, 0xFE, 2]);
        assert_eq!(datagram.channel_ack(), wanted);
    }
}

#[test]
fn datagrams_in_one_buffer_are_refused_by_the_length_field() {
    let all = datagrams();
    for (name, first) in &all {
        for (_, second) in &all {
            let both = [first.as_slice(), second].concat();
            let error = Datagram::parse(&both).unwrap_err();
            assert_eq!((error.stage(), error.offset), (Stage::Length, 0), "{name}");
        }
    }
}

#[test]
fn datagram_errors_name_their_stage() {
    let (_, bytes) = datagrams().remove(0);
    for have in 0..26 {
        let mut short = bytes[..have].to_vec();
        if have >= 2 {
            short[..2].copy_from_slice(&u16::try_from(have - 2).unwrap().to_be_bytes());
        }
        let stage = match have {
            0 | 1 => Stage::Length,
            2..23 => Stage::DatagramHead,
            23 => Stage::CodecId,
            24 => Stage::FirstCount,
            _ => Stage::SecondCount,
        };
        let error = Datagram::parse(&short).unwrap_err();
        assert_eq!(error.stage(), stage, "{have} bytes: {error}");
        assert!(error.offset <= have);
    }
}

#[test]
fn the_checksum_of_our_frames_is_the_slow_one() {
    let mut frame = Vec::new();
    encode::command(b"getparam 2004", &mut frame).unwrap();
    let (data, checksum) = frame[8..].split_at(frame.len() - 12);
    assert_eq!(checksum, u32::from(crc16_slowly(data)).to_be_bytes());
}
