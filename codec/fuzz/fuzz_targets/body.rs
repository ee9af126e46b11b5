//! Data fields without a frame around them, so that no checksum keeps the fuzzer out.
#![no_main]

use codec::message::CAMERA;
use codec::{AvlData, CameraBlock, MessageData};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match AvlData::parse(data) {
        Ok(avl) => {
            let records = codec_fuzz::read(avl);
            let again = codec_fuzz::write(avl.codec(), &records).expect("it was on the wire");
            // A group that is there and empty may go.
            if again.len() == data.len() {
                assert_eq!(again, data);
            }
            let reread = AvlData::parse(&again).expect("our own");
            assert_eq!(codec_fuzz::read(reread), records);
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
    match MessageData::parse(data) {
        Ok(messages) => {
            let mut payload_bytes = 0;
            for message in messages.messages() {
                payload_bytes += message.payload.len();
                let _ = (message.imei(), message.wide_time());
                if message.kind == CAMERA {
                    let _ = CameraBlock::read(message.payload);
                }
            }
            assert!(payload_bytes <= data.len());
            assert_eq!(messages.messages().count(), usize::from(messages.count()));
        }
        Err(error) => assert!(error.offset <= data.len()),
    }
});
