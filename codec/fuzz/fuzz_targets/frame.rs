//! Cutting logins and frames: what is told adds up, and a repaired checksum is believed.
#![no_main]

use codec::crc::crc16;
use codec::frame::{HEADER_BYTES, OVERHEAD_BYTES};
use codec::{Cut, Expect, Limits, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for expecting in [Expect::Login, Expect::Frame] {
        for frame_bytes_max in [0, 1280, 65_535, usize::MAX] {
            let limits = Limits {
                frame_bytes_max,
                ..Limits::default()
            };
            judge(input, expecting, limits);
        }
    }
    let damaged = codec::cut(input, Expect::Frame, Limits::default());
    if let Cut::Refuse { consumed, .. } = damaged {
        let mut repaired = input[..consumed].to_vec();
        let data_end = consumed + HEADER_BYTES - OVERHEAD_BYTES;
        let crc = u32::from(crc16(&repaired[HEADER_BYTES..data_end]));
        repaired[data_end..].copy_from_slice(&crc.to_be_bytes());
        let cut = codec::cut(&repaired, Expect::Frame, Limits::default());
        assert!(matches!(cut, Cut::Frame(_)), "{cut:?}");
        judge(&repaired, Expect::Frame, Limits::default());
    }
});

fn judge(input: &[u8], expecting: Expect, limits: Limits) {
    let cut = codec::cut(input, expecting, limits);
    assert!(cut.consumed() <= input.len());
    let (limit, written) = match cut {
        Cut::NeedMore { needed } => {
            assert!(needed > input.len());
            assert!(
                needed
                    <= limits
                        .frame_bytes_max
                        .max(limits.login_bytes_max)
                        .max(HEADER_BYTES)
            );
            return;
        }
        Cut::Close { offset, .. } => {
            assert!(offset < input.len());
            return;
        }
        Cut::Ping => return assert_eq!(input[0], 0xFF),
        Cut::Login(login) => {
            let mut written = Vec::new();
            encode::login_as(login.raw(), &mut written).expect("its length came from the wire");
            (limits.login_bytes_max, written)
        }
        Cut::Frame(frame) => {
            let mut written = Vec::new();
            encode::frame(frame.data(), &mut written).expect("its length came from the wire");
            assert_eq!(frame.ack().is_some(), frame.codec_id().wants_ack());
            (limits.frame_bytes_max, written)
        }
        Cut::Refuse {
            consumed, offset, ..
        } => {
            assert!(offset < consumed && consumed <= limits.frame_bytes_max);
            return;
        }
    };
    assert!(written.len() <= limit);
    assert_eq!(written, input[..cut.consumed()]);
}
