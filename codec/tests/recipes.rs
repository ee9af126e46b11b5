//! Messages put together by hand from recipes: what the decoder finds is the recipe.
#![allow(clippy::unwrap_used)]

mod wire;

use codec::{
    AvlData, Codec7Data, Cut, Datagram, Expect, GenerationType, Limits, MessageData, OwnedAvlData,
    RecordBuf,
};
use proptest::prelude::*;
use wire::recipe::{self, Element};

fn elements(record: &codec::AvlRecord<'_>) -> Vec<Element> {
    record
        .io()
        .map(|element| (element.id, element.width.bytes(), element.bytes.to_vec()))
        .collect()
}

proptest! {
    #[test]
    fn records_of_codec_8_8e_and_16_are_found_as_written(recipe in recipe::avl()) {
        let data = recipe.data();
        let avl = AvlData::parse(&data).unwrap();
        prop_assert_eq!(avl.codec().as_byte(), recipe.codec);
        prop_assert_eq!(usize::from(avl.count()), recipe.records.len());
        prop_assert_eq!(avl.records().count(), recipe.records.len());
        for (record, written) in avl.records().zip(&recipe.records) {
            let h = written.head;
            prop_assert_eq!(record.raw, &written.bytes(recipe.codec, false)[..]);
            prop_assert_eq!(&record.timestamp_ms.to_be_bytes()[..], &h[..8]);
            prop_assert_eq!(record.priority.as_byte(), h[8]);
            prop_assert_eq!(&record.longitude_e7.to_be_bytes()[..], &h[9..13]);
            prop_assert_eq!(&record.latitude_e7.to_be_bytes()[..], &h[13..17]);
            prop_assert_eq!(&record.altitude_m.to_be_bytes()[..], &h[17..19]);
            prop_assert_eq!(&record.angle_deg.to_be_bytes()[..], &h[19..21]);
            prop_assert_eq!(record.satellites, h[21]);
            prop_assert_eq!(&record.speed_kmh.to_be_bytes()[..], &h[22..24]);
            let narrow = recipe.codec == 0x08;
            let event = if narrow { written.event & 0xFF } else { written.event };
            prop_assert_eq!(record.event_io_id, event);
            let generation = record.generation_type.map(GenerationType::as_byte);
            prop_assert_eq!(generation, (recipe.codec == 0x10).then_some(written.generation));
            prop_assert_eq!(elements(&record), written.elements(recipe.codec, false));
        }
    }

    #[test]
    fn a_group_of_16_byte_values_is_found_out(recipe in recipe::wide_avl()) {
        let data = recipe.data();
        let avl = AvlData::parse(&data).unwrap();
        prop_assert!(avl.has_16_byte_group());
        prop_assert_eq!(avl.records().count(), recipe.records.len());
        for (record, written) in avl.records().zip(&recipe.records) {
            prop_assert_eq!(record.raw, &written.bytes(0x08, true)[..]);
            let elements_written = written.elements(0x08, true);
            prop_assert_eq!(usize::from(record.io_total), elements_written.len());
            prop_assert_eq!(elements(&record), elements_written);
        }
    }

    #[test]
    fn codec_7_records_are_found_as_written(recipe in recipe::codec7()) {
        let data = recipe.data();
        let read = Codec7Data::parse(&data).unwrap();
        prop_assert_eq!(usize::from(read.count()), recipe.records.len());
        prop_assert_eq!(read.records().count(), recipe.records.len());
        for (record, written) in read.records().zip(&recipe.records) {
            prop_assert_eq!(record.raw, &written.bytes()[..]);
            prop_assert_eq!(record.priority.as_byte(), written.priority);
            let since_1970 = 1_167_609_600 + u64::from(written.seconds);
            prop_assert_eq!(record.timestamp_ms, since_1970 * 1000);
            prop_assert_eq!(record.global_mask, written.global_mask());
            prop_assert_eq!(record.gps.is_some(), written.gps.is_some());
            if let (Some(gps), Some(written)) = (record.gps, &written.gps) {
                prop_assert_eq!(gps.mask, written.mask());
                let position = gps.position;
                let position = position.map(|p| (p.latitude_deg.to_bits(), p.longitude_deg.to_bits()));
                prop_assert_eq!(position, written.position);
                prop_assert_eq!(gps.altitude_m.map(|m| m as u16), written.altitude);
                prop_assert_eq!(gps.angle_raw256, written.angle);
                prop_assert_eq!(gps.speed_kmh, written.speed);
                prop_assert_eq!(gps.satellites, written.satellites);
                prop_assert_eq!(gps.cell.map(|cell| (cell.lac, cell.cell_id)), written.cell);
                prop_assert_eq!(gps.signal, written.signal);
                prop_assert_eq!(gps.operator, written.operator);
            }
            let mut io = Vec::new();
            for (group, width) in written.groups.iter().zip([1, 2, 4]) {
                for (id, value) in group.iter().flatten() {
                    let value = value.to_be_bytes()[4 - width..].to_vec();
                    io.push((u16::from(*id), Some(width), value));
                }
            }
            let found = record.io();
            let found: Vec<Element> = found.map(|e| (e.id, e.width.bytes(), e.bytes.to_vec())).collect();
            prop_assert_eq!(found, io);
        }
    }

    #[test]
    fn messages_of_codec_12_to_15_are_found_as_written(recipe in recipe::messages()) {
        let data = recipe.data();
        let read = MessageData::parse(&data).unwrap();
        prop_assert_eq!(usize::from(read.count()), recipe.list.len());
        prop_assert_eq!(read.second_count(), recipe.second_count);
        prop_assert_eq!(read.messages().count(), recipe.list.len());
        for (message, written) in read.messages().zip(&recipe.list) {
            prop_assert_eq!(message.kind, written.kind);
            let has_time = matches!(recipe.codec, 0x0D | 0x0F);
            prop_assert_eq!(message.timestamp_s, has_time.then_some(written.time));
            let has_imei = matches!(recipe.codec, 0x0E | 0x0F);
            prop_assert_eq!(message.imei_bytes, has_imei.then_some(written.imei));
            prop_assert_eq!(message.payload, &written.payload[..]);
        }
    }

    #[test]
    fn datagrams_are_found_as_written(
        recipe in recipe::avl(),
        packet_id in any::<u16>(),
        avl_packet_id in any::<u8>(),
        identity in prop_oneof![Just(b"356307042441013".to_vec()), proptest::collection::vec(any::<u8>(), 0..20)],
    ) {
        let data = recipe.data();
        let bytes = recipe::datagram(packet_id, avl_packet_id, &identity, &data);
        let datagram = Datagram::parse(&bytes).unwrap();
        prop_assert_eq!(datagram.packet_id(), packet_id);
        prop_assert_eq!(datagram.avl_packet_id(), avl_packet_id);
        prop_assert_eq!(datagram.raw_identity(), &identity[..]);
        prop_assert_eq!(datagram.data(), &data[..]);
        let [high, low] = packet_id.to_be_bytes();
        let answer = [0, 5, high, low, 1, avl_packet_id, recipe.records.len() as u8];
        prop_assert_eq!(datagram.answer(datagram.first_count()), answer);
    }

    #[test]
    fn frames_are_cut_whole_and_answered_with_their_count(recipe in recipe::avl()) {
        let frame = recipe.frame();
        let Cut::Frame(cut) = codec::cut(&frame, Expect::Frame, Limits::default()) else {
            panic!("a good frame is refused");
        };
        prop_assert_eq!(cut.data(), &recipe.data()[..]);
        prop_assert_eq!(cut.ack(), Some([0, 0, 0, recipe.records.len() as u8]));
    }

    #[test]
    fn owned_values_say_what_the_bytes_said_when_those_are_gone(
        recipe in prop_oneof![recipe::avl(), recipe::wide_avl()],
    ) {
        let mut data = recipe.data();
        let before: Vec<_> = AvlData::parse(&data)
            .unwrap()
            .records()
            .map(|record| (record.head(), elements(&record)))
            .collect();
        let owned = AvlData::parse(&data).unwrap().into_owned();
        data.fill(0xAA);
        prop_assert_eq!(owned.codec().as_byte(), recipe.codec);
        prop_assert_eq!(owned.has_16_byte_group(), recipe.wide);
        prop_assert_eq!(owned.count(), before.len());
        prop_assert_eq!(owned.records().len(), before.len());
        for (index, (record, (head, io))) in owned.records().zip(before).enumerate() {
            prop_assert_eq!(*record, head);
            let found = record.io();
            let found: Vec<Element> = found.map(|e| (e.id, e.width.bytes(), e.bytes.to_vec())).collect();
            prop_assert_eq!(found, io);
            prop_assert_eq!(owned.record(index), Some(record));
        }
        prop_assert_eq!(owned.record(owned.count()), None);
    }

    #[test]
    fn a_record_in_a_bounded_buffer_reads_the_same(
        recipe in prop_oneof![recipe::avl(), recipe::wide_avl()],
    ) {
        let data = recipe.data();
        for record in AvlData::parse(&data).unwrap().records() {
            match RecordBuf::<200>::copy_of(&record) {
                Ok(copy) => {
                    prop_assert!(record.raw.len() <= 200);
                    prop_assert_eq!(copy.record().head(), record.head());
                    prop_assert_eq!(elements(&copy.record()), elements(&record));
                }
                Err(error) => {
                    prop_assert!(record.raw.len() > 200);
                    prop_assert_eq!((error.bytes, error.bytes_max), (record.raw.len(), 200));
                }
            }
        }
    }

    #[test]
    fn what_serde_writes_of_a_view_reads_back_as_an_owned_value(
        recipe in prop_oneof![recipe::avl(), recipe::wide_avl()],
    ) {
        let data = recipe.data();
        let view = AvlData::parse(&data).unwrap();
        let text = serde_json::to_string(&view).unwrap();
        let read: OwnedAvlData = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &view.into_owned());
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
