//! Data fields without a frame around them, so that no checksum keeps the fuzzer out.
#![no_main]

use codec::message::CAMERA;
use codec::{AvlData, CameraBlock, Codec7Data, MessageData, Priority};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match AvlData::parse(data) {
        Ok(avl) => {
            let records = codec_fuzz::read(avl);
            let io_total: usize = records.iter().map(|record| record.io.len()).sum();
            assert_eq!(u32::try_from(io_total), Ok(avl.io_total()));
            let priorities = records
                .iter()
                .map(|record| Priority::from_byte(record.priority));
            let most_urgent = priorities.fold(Priority::Low, Priority::more_urgent);
            assert_eq!(avl.most_urgent(), most_urgent);
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
    match Codec7Data::parse(data) {
        Ok(read) => {
            let again = codec_fuzz::codec7_again(read);
            assert!(again.len() <= data.len());
            let reread = Codec7Data::parse(&again).expect("our own");
            assert_eq!(codec_fuzz::codec7_again(reread), again);
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
