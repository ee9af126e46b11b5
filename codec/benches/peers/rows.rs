//! What is measured: the same piece of work done by us and by the peer, on one frame.
//!
//! The numbers they return are compared before anything is measured, so that neither side
//! can leave work out.

use std::cell::RefCell;
use std::hint::black_box;

use codec::io::IoElements;
use codec::{AvlData, Cut, Expect, Frame, IoElement, IoWidth, Limits, MessageData};
use nom_teltonika::decoder::take_frame;
use nom_teltonika::protocol::{FrameView, IoValueView};

pub(crate) type Work = fn(&[u8]) -> u64;

fn ours(frame: &[u8]) -> Frame<'_> {
    match codec::cut(frame, Expect::Frame, Limits::default()) {
        Cut::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

fn theirs(mut frame: &[u8]) -> FrameView<'_> {
    take_frame(&mut frame).expect("frames that the peer accepts")
}

fn data(frame: &[u8]) -> &[u8] {
    &frame[8..frame.len() - 4]
}

pub(crate) fn memcpy(frame: &[u8]) -> u64 {
    thread_local!(static COPY: RefCell<[u8; 2048]> = const { RefCell::new([0; 2048]) });
    COPY.with_borrow_mut(|copy| {
        copy[..frame.len()].copy_from_slice(frame);
        u64::from(black_box(copy)[0])
    })
}

pub(crate) fn crc_ours(frame: &[u8]) -> u64 {
    codec::crc::crc16(data(frame)).into()
}

pub(crate) fn crc_table(frame: &[u8]) -> u64 {
    codec::crc::update(0, data(frame)).into()
}

pub(crate) fn crc_theirs(frame: &[u8]) -> u64 {
    nom_teltonika::crc16(data(frame)).into()
}

pub(crate) fn validate_ours(frame: &[u8]) -> u64 {
    let frame = ours(frame);
    if frame.codec_id().is_message() {
        let messages = MessageData::parse(frame.data()).expect("a good frame");
        return black_box(messages).count().into();
    }
    let records = AvlData::parse(frame.data()).expect("a good frame");
    black_box(records).count().into()
}

pub(crate) fn validate_theirs(frame: &[u8]) -> u64 {
    match black_box(theirs(frame)) {
        FrameView::Avl(packet) => packet.records().len() as u64,
        FrameView::Gprs(packet) => packet.messages().len() as u64,
        _ => 0,
    }
}

/// With `for_each` for the elements, the quickest way to all of them.
pub(crate) fn read_ours(frame: &[u8]) -> u64 {
    read_with(frame, |elements| {
        let mut sum = Sum(0);
        elements.for_each(|element| sum.add_element(element));
        sum.0
    })
}

/// With a `for` loop, as in the peer's row.
pub(crate) fn read_ours_in_loops(frame: &[u8]) -> u64 {
    read_with(frame, |elements| {
        let mut sum = Sum(0);
        for element in elements {
            sum.add_element(element);
        }
        sum.0
    })
}

#[inline(always)]
fn read_with(frame: &[u8], read_elements: impl Fn(IoElements<'_>) -> u64) -> u64 {
    let frame = ours(frame);
    let mut sum = Sum(0);
    if frame.codec_id().is_message() {
        let messages = MessageData::parse(frame.data()).expect("a good frame");
        for message in messages.messages() {
            sum.add(message.payload.len() as u64);
        }
        return sum.0;
    }
    let records = AvlData::parse(frame.data()).expect("a good frame");
    for record in records.records() {
        sum.add(record.timestamp_ms);
        sum.add(record.priority.as_byte().into());
        sum.add(record.longitude_e7 as u32 as u64);
        sum.add(record.latitude_e7 as u32 as u64);
        sum.add(record.altitude_m as u16 as u64);
        sum.add(record.angle_deg.into());
        sum.add(record.satellites.into());
        sum.add(record.speed_kmh.into());
        sum.add(record.event_io_id.into());
        sum.add(
            record
                .generation_type
                .map_or(0, |kind| kind.as_byte())
                .into(),
        );
        sum.add(read_elements(record.io()));
    }
    sum.0
}

pub(crate) fn read_theirs(frame: &[u8]) -> u64 {
    let mut sum = Sum(0);
    match theirs(frame) {
        FrameView::Gprs(packet) => {
            for message in packet.messages() {
                sum.add(message.payload().len() as u64);
            }
        }
        FrameView::Avl(packet) => {
            for record in packet.records() {
                sum.add(record.timestamp().into());
                sum.add(u8::from(record.priority()).into());
                let gps = record.gps();
                sum.add(gps.longitude_raw as u32 as u64);
                sum.add(gps.latitude_raw as u32 as u64);
                sum.add(gps.altitude_meters.into());
                sum.add(gps.angle_degrees.into());
                sum.add(gps.satellites.into());
                sum.add(gps.speed_kph.into());
                sum.add(record.event_io_id().map_or(0, u16::from).into());
                sum.add(record.generation_type().map_or(0, u8::from).into());
                let mut io = Sum(0);
                for element in record.io_elements() {
                    io.add(u16::from(element.id()).into());
                    io.add(match element.value() {
                        IoValueView::U8(value) => value.into(),
                        IoValueView::U16(value) => value.into(),
                        IoValueView::U32(value) => value.into(),
                        IoValueView::U64(value) => value,
                        IoValueView::Bytes(value) => bytes(value),
                    });
                }
                sum.add(io.0);
            }
        }
        _ => {}
    }
    sum.0
}

/// Messages have no owned value of ours: their payload is copied.
pub(crate) fn owned_ours(frame: &[u8]) -> u64 {
    let frame = ours(frame);
    if frame.codec_id().is_message() {
        let messages = MessageData::parse(frame.data()).expect("a good frame");
        let payloads: Vec<Vec<u8>> = messages.messages().map(|m| m.payload.to_vec()).collect();
        return black_box(payloads).len() as u64;
    }
    let records = AvlData::parse(frame.data()).expect("a good frame");
    black_box(records.into_owned()).count() as u64
}

pub(crate) fn owned_theirs(frame: &[u8]) -> u64 {
    use nom_teltonika::protocol::Frame;
    match &black_box(theirs(frame).evaluate()) {
        Frame::Avl(packet) => packet.records().len() as u64,
        Frame::Gprs(packet) => packet.messages().len() as u64,
        _ => 0,
    }
}

struct Sum(u64);

impl Sum {
    #[inline(always)]
    fn add(&mut self, value: u64) {
        self.0 = self.0.wrapping_add(value);
    }

    #[inline(always)]
    fn add_element(&mut self, element: IoElement<'_>) {
        self.add(element.id.into());
        self.add(match element.width {
            IoWidth::Variable => bytes(element.bytes),
            _ => element.as_u64().unwrap_or_default(),
        });
    }
}

fn bytes(value: &[u8]) -> u64 {
    value.len() as u64 + value.first().copied().map_or(0, u64::from)
}
