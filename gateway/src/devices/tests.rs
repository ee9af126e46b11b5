#![allow(clippy::unwrap_used)]
use super::*;
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};

const NOW_MS: u64 = 1_795_000_000_000;

fn imei(number: u64) -> Imei {
    Imei::from_u64(350_000_000_000_000 + number).unwrap()
}

fn at(timestamp_ms: u64, latitude_e7: i32, satellites: u8) -> RecordSpec<'static> {
    RecordSpec {
        timestamp_ms,
        latitude_e7,
        longitude_e7: 252_500_000,
        satellites,
        speed_kmh: 50,
        ..RecordSpec::default()
    }
}

fn frame(records: &[RecordSpec<'_>]) -> Vec<u8> {
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, records, &mut data).unwrap();
    data
}

fn heard(records: &[RecordSpec<'_>]) -> Device {
    let devices = Devices::default();
    devices.heard(imei(1), &frame(records), NOW_MS, Transport::Tcp);
    devices.get(imei(1)).unwrap()
}

#[test]
fn the_newest_record_speaks_wherever_it_stands_in_the_frame() {
    let records = [
        at(NOW_MS - 9_000, 1, 5),
        at(NOW_MS - 2_000, 3, 7),
        at(NOW_MS - 5_000, 2, 6),
    ];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let device = heard(&order.map(|index: usize| records[index]));
        assert_eq!(device.device_time_ms, NOW_MS - 2_000);
        assert_eq!(device.delay_ms(), Some(2_000));
        assert_eq!((device.latitude_e7, device.satellites), (3, 7));
        assert_eq!((device.frames, device.records), (1, 3));
    }
}

#[test]
fn without_satellites_the_last_fix_stays() {
    let device = heard(&[at(NOW_MS - 9_000, 7, 4), at(NOW_MS - 1_000, 99, 0)]);
    assert_eq!(device.latitude_e7, 7);
    assert_eq!(device.fix_time_ms, NOW_MS - 9_000);
    assert_eq!(device.device_time_ms, NOW_MS - 1_000);
    assert_eq!(heard(&[at(NOW_MS, 99, 0)]).fix_time_ms, 0);
}

#[test]
fn old_places_do_not_replace_new_ones_unless_the_clock_had_run_ahead() {
    let devices = Devices::default();
    let say = |time_ms, latitude_e7| {
        let data = frame(&[at(time_ms, latitude_e7, 5)]);
        devices.heard(imei(1), &data, NOW_MS, Transport::Udp);
        devices.get(imei(1)).unwrap().latitude_e7
    };
    assert_eq!(say(NOW_MS - 1_000, 10), 10);
    assert_eq!(say(NOW_MS - 60_000, 20), 10);
    assert_eq!(say(NOW_MS + AHEAD_MS_MAX + 1, 30), 30);
    assert_eq!(say(NOW_MS - 500, 40), 40);
}

#[test]
fn clocks_are_judged_at_their_borders() {
    for (time_ms, clock) in [
        (NOW_MS, Clock::Good),
        (NOW_MS + AHEAD_MS_MAX, Clock::Good),
        (NOW_MS + AHEAD_MS_MAX + 1, Clock::Ahead(AHEAD_MS_MAX + 1)),
        (EARLIEST_MS, Clock::Good),
        (EARLIEST_MS - 1, Clock::Reset),
        (0, Clock::Reset),
        (u64::MAX, Clock::Ahead(u64::MAX - NOW_MS)),
    ] {
        let device = heard(&[at(time_ms, 1, 5)]);
        assert_eq!(device.clock(), clock, "{time_ms}");
        assert_eq!(device.delay_ms().is_some(), clock == Clock::Good);
    }
    let devices = Devices::default();
    devices.heard(
        imei(1),
        &frame(&[at(NOW_MS, 1, 5)]),
        86_400_000,
        Transport::Tcp,
    );
    assert_eq!(
        devices.get(imei(1)).unwrap().clock(),
        Clock::Unknown,
        "our clock is not set"
    );
    devices.heard(
        imei(2),
        &[0x0C, 1, 5, 0, 0, 0, 0, 1],
        NOW_MS,
        Transport::Tcp,
    );
    let message = devices.get(imei(2)).unwrap();
    assert_eq!(
        (message.clock(), message.frames, message.records),
        (Clock::Unknown, 1, 0)
    );
}

#[test]
fn codec_7_floats_become_degrees_e7() {
    let data = hex::decode(
        "070262A15B400FFF425AC00041CA00000070403209000107D0140000601A01015701430F6E01050001E24022A15B7C0201F00102",
    )
    .unwrap();
    let devices = Devices::default();
    devices.heard(imei(1), &data, NOW_MS, Transport::Tcp);
    let device = devices.get(imei(1)).unwrap();
    assert_eq!(
        (device.latitude_e7, device.longitude_e7),
        (546_875_000, 252_500_000)
    );
    assert_eq!(
        (device.records, codec_word(device.codec)),
        (2, "7".to_owned())
    );
}

#[test]
fn an_answer_to_a_command_leaves_the_codec_of_the_records() {
    let devices = Devices::default();
    let answer = [0x0C, 1, 6, 0, 0, 0, 0, 1];
    let codec = |data: &[u8]| {
        devices.heard(imei(1), data, NOW_MS, Transport::Tcp);
        devices.get(imei(1)).unwrap().codec
    };
    assert_eq!(codec(&answer), 0x0C);
    assert_eq!(codec(&frame(&[at(NOW_MS, 1, 5)])), 0x08);
    assert_eq!(codec(&answer), 0x08);
}

#[test]
fn anything_at_all_counts_as_a_frame() {
    let devices = Devices::default();
    let whole = frame(&[at(NOW_MS, 1, 5), at(NOW_MS, 2, 5)]);
    for cut in 0..whole.len() {
        devices.heard(imei(1), &whole[..cut], NOW_MS, Transport::Tcp);
    }
    for byte in 0..=u8::MAX {
        devices.heard(imei(1), &[byte, 255, 1, 2, 3, 255], NOW_MS, Transport::Tcp);
    }
    let device = devices.get(imei(1)).unwrap();
    assert_eq!(
        (device.frames, device.records),
        (whole.len() as u64 + 256, 0)
    );
}

#[test]
fn the_table_is_bounded_and_forgets_the_longest_silent() {
    let devices = Devices::default();
    let data = frame(&[at(NOW_MS, 1, 5)]);
    for number in 0..2 * DEVICES_MAX as u64 {
        devices.heard(imei(number), &data, NOW_MS + number, Transport::Tcp);
        // One old device that never falls silent.
        devices.heard(imei(0), &data, NOW_MS + number, Transport::Tcp);
        assert!(devices.count() <= DEVICES_MAX);
    }
    assert!(devices.get(imei(0)).is_some());
    assert!(devices.get(imei(1)).is_none());
    assert!(devices.get(imei(2 * DEVICES_MAX as u64 - 1)).is_some());
    let table = devices.table();
    // A hash table has a power of two of places, at most 7/8 of them taken, and a byte for each.
    let places = (table.devices.capacity() * 8 / 7).next_power_of_two();
    let bytes = places * (size_of::<(Imei, Device)>() + 1);
    assert!(bytes <= 128 * DEVICES_MAX, "{bytes}");
}

#[test]
fn refusals_are_bounded_counted_and_shown() {
    let devices = Devices::default();
    for number in 0..2 * REFUSALS_MAX as u64 {
        devices.refused(imei(number), "not listed".to_owned(), NOW_MS + number);
        assert!(devices.table().refused.len() <= REFUSALS_MAX);
    }
    let last = imei(2 * REFUSALS_MAX as u64 - 1);
    devices.refused(last, "learning is over".to_owned(), NOW_MS * 2);
    let page = devices.page(0, 3, ImeiStyle::Full);
    assert_eq!(page["refused"].as_array().unwrap().len(), 3);
    let first = &page["refused"][0];
    assert_eq!(
        (&first["why"], &first["times"]),
        (&"learning is over".into(), &2.into())
    );
    assert_eq!(first["imei"], last.to_string());
}

#[test]
fn pages_follow_one_another_and_show_short_imeis() {
    let devices = Devices::default();
    for number in 0..25 {
        devices.heard(
            imei(number),
            &frame(&[at(NOW_MS, 1, 5)]),
            NOW_MS,
            Transport::Tcp,
        );
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = devices.page(after, 10, ImeiStyle::Short);
        for row in page["devices"].as_array().unwrap() {
            assert_eq!(row["imei"].as_str().unwrap().chars().nth(5), Some('…'));
            seen.push(row["device"].as_u64().unwrap());
        }
        let Some(next) = page["next"].as_u64() else {
            break;
        };
        after = u32::try_from(next).unwrap();
    }
    assert_eq!(seen, (1..=25).collect::<Vec<u64>>());
}
