//! Datagrams: what is read is what was there, and written again it is the same.
#![no_main]

use codec::encode::{self, DatagramSpec};
use codec::{AvlData, Datagram, MessageData};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let datagram = match Datagram::parse(input) {
        Ok(datagram) => datagram,
        Err(error) => return assert!(error.offset <= input.len()),
    };
    assert!(input.ends_with(datagram.data()) && datagram.data().len() >= 3);
    assert_eq!(datagram.answer(7)[5..], [datagram.avl_packet_id(), 7]);
    if let Ok(imei) = datagram.imei() {
        let head = DatagramSpec {
            packet_id: datagram.packet_id(),
            packet_type: datagram.packet_type(),
            avl_packet_id: datagram.avl_packet_id(),
            imei,
        };
        let mut written = Vec::new();
        encode::datagram(&head, datagram.data(), &mut written).expect("its length fitted");
        assert_eq!(written, input);
    }
    if let Ok(avl) = AvlData::parse(datagram.data()) {
        let _ = codec_fuzz::read(avl);
    }
    if let Ok(messages) = MessageData::parse(datagram.data()) {
        assert_eq!(messages.messages().count(), usize::from(messages.count()));
    }
});
