//! The lists inside IO elements: every public value, every truncation of it, and recipes that write
//! the bytes by hand.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use codec::payload::{
    BeaconId, BeaconList, EyeAdvert, EyeAngle, EyeMovement, Param, PayloadError, PayloadReason,
    TlvDevice, TlvList,
};
use codec::{AvlData, Cut, Expect, Limits};
use proptest::prelude::*;
use serde_json::{Value, json};

fn vector(name: &str) -> (Vec<u8>, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{name}.json"));
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    (bytes(file["hex"].as_str().unwrap()), file)
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

fn truncated(offset: usize) -> PayloadError {
    let reason = PayloadReason::Truncated;
    PayloadError { offset, reason }
}

// --- beacon lists -----------------------------------------------------------------------

fn beacons_385() -> (Vec<u8>, Value) {
    let (frame, file) = vector("c8e-tcp-beacon385");
    let Cut::Frame(frame) = codec::cut(&frame, Expect::Frame, Limits::default()) else {
        panic!("a public frame");
    };
    let avl = AvlData::parse(frame.data()).unwrap();
    let record = avl.records().next().unwrap();
    let element = record.io().find(|element| element.id == 385).unwrap();
    (element.bytes.to_vec(), file["expected_beacons_385"].clone())
}

fn describe_beacons(list: BeaconList<'_>) -> Value {
    let beacons: Vec<Value> = list
        .beacons()
        .map(|beacon| {
            let mut shown = match beacon.id {
                BeaconId::IBeacon { uuid, major, minor } => {
                    json!({ "uuid": hex::encode(uuid), "major": major, "minor": minor })
                }
                BeaconId::Eddystone {
                    namespace,
                    instance,
                } => {
                    json!({ "namespace": hex::encode(namespace), "instance": hex::encode(instance) })
                }
                other => panic!("{other:?} in a beacon list"),
            };
            shown["flags"] = beacon.flags.into();
            if let Some(rssi_dbm) = beacon.rssi_dbm {
                shown["rssi"] = rssi_dbm.into();
            }
            if let Some(battery_mv) = beacon.battery_mv {
                shown["battery_raw"] = battery_mv.into();
            }
            if let Some(temperature_raw) = beacon.temperature_raw {
                shown["temperature_raw"] = temperature_raw.into();
            }
            shown
        })
        .collect();
    let part = list.part().unwrap();
    json!({ "part": part.number, "parts": part.parts, "beacons": beacons })
}

#[test]
fn the_public_beacon_list_has_its_eight_beacons() {
    let (value, expected) = beacons_385();
    assert_eq!(value.len(), 169);
    let list = BeaconList::parse(&value).unwrap();
    assert_eq!((list.count(), list.beacons().len()), (8, 8));
    assert_eq!(describe_beacons(list), expected);
}

#[test]
fn every_truncation_of_the_beacon_list_names_the_field_that_is_cut() {
    let (value, _) = beacons_385();
    // Flags, identity, RSSI, battery, temperature, by hand from the documented flags.
    let (mut fields, mut ends) = (Vec::new(), vec![0, 1]);
    let mut at = 1;
    while at < value.len() {
        let flags = value[at];
        let widths = [
            1,
            if flags & 0x20 == 0 { 16 } else { 20 },
            usize::from(flags & 1),
            usize::from(flags & 2),
            usize::from(flags & 4) / 2,
        ];
        for width in widths {
            fields.push(at..at + width);
            at += width;
        }
        ends.push(at);
    }
    assert_eq!(at, value.len());
    for cut in 0..=value.len() {
        let read = BeaconList::parse(&value[..cut]);
        if let Some(whole) = ends.iter().position(|&end| end == cut) {
            assert_eq!(read.unwrap().beacons().count(), whole.saturating_sub(1));
        } else {
            let field = fields.iter().find(|field| field.contains(&cut)).unwrap();
            assert_eq!(read.unwrap_err(), truncated(field.start), "cut at {cut}");
        }
    }
}

#[test]
fn nothing_in_range_is_no_error() {
    let none = BeaconList::parse(&[]).unwrap();
    assert_eq!((none.part(), none.beacons().count()), (None, 0));
    let none = BeaconList::parse(&[0x23]).unwrap();
    let part = none.part().unwrap();
    assert_eq!((part.number, part.parts, none.count()), (2, 3, 0));
    assert_eq!(TlvList::parse(&[]).unwrap().count(), 0);
    assert_eq!(TlvList::parse(&[0x01]).unwrap().devices().count(), 0);
    // A device may be there and say nothing.
    assert_eq!(TlvList::parse(&[0x01, 0, 0]).unwrap().count(), 2);
}

#[test]
fn every_flag_byte_is_kept_and_its_known_bits_decide_the_length() {
    for flags in 0..=u8::MAX {
        let known = 16
            + usize::from(flags & 0x20) / 8
            + usize::from(flags & 1)
            + usize::from(flags & 2)
            + usize::from(flags & 4) / 2;
        let mut value = vec![0x11, flags];
        value.extend((0..known).map(|byte| byte as u8));
        let beacon = BeaconList::parse(&value).unwrap().beacons().next().unwrap();
        assert_eq!(beacon.flags, flags);
        assert_eq!(
            matches!(beacon.id, BeaconId::IBeacon { .. }),
            flags & 0x20 != 0
        );
        value.pop();
        assert!(BeaconList::parse(&value).is_err());
    }
}

// --- sensor lists -----------------------------------------------------------------------

// The other way round than the reader: what each typed parameter is on the wire.
fn id_and_value(param: Param<'_>) -> (u8, Vec<u8>) {
    match param {
        Param::RssiDbm(v) => (0, v.to_be_bytes().to_vec()),
        Param::BeaconId(BeaconId::IBeacon { uuid, major, minor }) => {
            let mut value = uuid.to_vec();
            value.extend(major.to_be_bytes());
            value.extend(minor.to_be_bytes());
            (1, value)
        }
        Param::BeaconId(BeaconId::Eddystone {
            namespace,
            instance,
        }) => (1, [&namespace[..], instance].concat()),
        Param::BeaconId(BeaconId::Six(id)) => (1, id.to_vec()),
        Param::BeaconId(BeaconId::Other(id)) => (1, id.to_vec()),
        Param::AdditionalData(v) => (2, v.to_vec()),
        Param::Name(v) => (5, v.to_vec()),
        Param::TemperatureCE2(v) => (6, v.to_be_bytes().to_vec()),
        Param::HumidityPercent(v) => (7, vec![v]),
        Param::Magnet(v) => (8, vec![v.into()]),
        Param::Movement(v) => (9, vec![v.into()]),
        Param::MovementCount(v) => (10, v.to_be_bytes().to_vec()),
        Param::PitchDeg(v) => (11, v.to_be_bytes().to_vec()),
        Param::RollDeg(v) => (12, v.to_be_bytes().to_vec()),
        Param::LowBattery(v) => (13, vec![v.into()]),
        Param::BatteryMv(v) => (14, v.to_be_bytes().to_vec()),
        Param::Mac(v) => (15, v.to_vec()),
        Param::MagnetCount(v) => (16, v.to_be_bytes().to_vec()),
        Param::Raw { id, value } => (id, value.to_vec()),
        other => panic!("{other:?} is new: say how it is written"),
    }
}

fn only_device(value: &[u8]) -> TlvDevice<'_> {
    let list = TlvList::parse(value).unwrap();
    assert_eq!(list.count(), 1);
    list.devices().next().unwrap()
}

const LOST: &str = "01 1C 0001A4 0110EB47706AA38255AA96F21A154E2D0055 0D0100 0E020BD6";
const SENSORS: &str =
    "01 24 050F4E65766572615F3300000000000000 0F067CD9F4110C40 06020C8F 070134 0E020C1C";
const ADVANCED: &str = "01 0F 0001C6 0106BABBF3630055 0202806D";

#[test]
fn the_near_beacon_example_has_its_parameters() {
    let (value, file) = vector("ble-10828-near-eye");
    let tags: Vec<Vec<(u8, String)>> = TlvList::parse(&value)
        .unwrap()
        .devices()
        .map(|device| {
            let params = device.params().map(id_and_value);
            params.map(|(id, value)| (id, hex::encode(value))).collect()
        })
        .collect();
    assert_eq!(json!({ "header": 1, "tags": tags }), file["expected"]);
    let device = only_device(&value);
    assert_eq!(device.rssi_dbm(), Some(-27));
    assert_eq!(device.mac().unwrap()[..], bytes("7CD9F401EF77"));
    assert_eq!(device.low_battery(), Some(false));
    assert_eq!(device.battery_mv(), Some(3070));
}

#[test]
fn the_lost_beacon_has_an_eddystone_identity() {
    let value = bytes(LOST);
    let device = only_device(&value);
    assert_eq!(device.rssi_dbm(), Some(-92));
    let Some(BeaconId::Eddystone {
        namespace,
        instance,
    }) = device.beacon_id()
    else {
        panic!("{device:?}");
    };
    assert_eq!(namespace[..], bytes("EB47706AA38255AA96F2"));
    assert_eq!(instance[..], bytes("1A154E2D0055"));
    assert_eq!(device.battery_mv(), Some(3030));
    assert_eq!(device.low_battery(), Some(false));
}

#[test]
fn the_sensor_list_has_names_and_measurements() {
    let value = bytes(SENSORS);
    let device = only_device(&value);
    assert_eq!(device.name(), Some(&b"Nevera_3"[..]));
    assert_eq!(device.mac().unwrap()[..], bytes("7CD9F4110C40"));
    assert_eq!(device.temperature_c_e2(), Some(3215));
    assert_eq!(device.humidity_percent(), Some(52));
    assert_eq!(device.battery_mv(), Some(3100));
    assert_eq!((device.rssi_dbm(), device.beacon_id()), (None, None));
}

#[test]
fn the_advanced_mode_carries_a_slice_of_the_advert() {
    let value = bytes(ADVANCED);
    let device = only_device(&value);
    assert_eq!(device.rssi_dbm(), Some(-58));
    assert_eq!(
        device.beacon_id(),
        Some(BeaconId::Six(&[0xBA, 0xBB, 0xF3, 0x63, 0x00, 0x55]))
    );
    assert_eq!(device.additional_data(), Some(&[0x80, 0x6D][..]));
    let eye = device.eye().unwrap();
    assert_eq!((eye.flags, eye.battery_mv), (0x80, Some(3090)));
    assert_eq!((eye.low_battery, eye.magnet), (false, None));
    // And a list may hold a block without parameter 2.
    let two = [&value[..], &[0x03, 0x00, 0x01, 0xC0]].concat();
    let second = TlvList::parse(&two).unwrap().devices().nth(1).unwrap();
    assert_eq!((second.rssi_dbm(), second.eye()), (Some(-64), None));
}

#[test]
fn every_truncation_of_a_sensor_list_names_the_length_that_lies() {
    let near = vector("ble-10828-near-eye").0;
    let all = [near, bytes(LOST), bytes(SENSORS), bytes(ADVANCED)];
    // One list of all their blocks too.
    let long = all.iter().flat_map(|value| value[1..].to_vec());
    let long: Vec<u8> = [0x01].into_iter().chain(long).collect();
    for value in all.iter().chain([&long]) {
        let mut ends = vec![0, 1];
        while let Some(&length) = value.get(*ends.last().unwrap()) {
            ends.push(ends.last().unwrap() + 1 + usize::from(length));
        }
        for cut in 0..=value.len() {
            let read = TlvList::parse(&value[..cut]);
            match ends.iter().position(|&end| end >= cut) {
                Some(whole) if ends[whole] == cut => {
                    assert_eq!(read.unwrap().count(), whole.saturating_sub(1));
                }
                // The block's length byte is what does not fit.
                Some(begun) => assert_eq!(read.unwrap_err(), truncated(ends[begun - 1])),
                None => panic!("the vector has more than its blocks"),
            }
        }
    }
}

#[test]
fn a_parameter_that_leaves_its_block_is_found_in_there() {
    // The second parameter says 3 bytes, its block has 2 and the list goes on behind it.
    let value = [0x01, 7, 0, 1, 0xC0, 14, 3, 0x0B, 0xFE, 3, 0, 1, 0xC1];
    assert_eq!(TlvList::parse(&value).unwrap_err(), truncated(6));
    // An id at the end of its block, without a length.
    let value = [0x01, 4, 0, 1, 0xC0, 14, 3, 0, 1, 0xC1];
    assert_eq!(TlvList::parse(&value).unwrap_err(), truncated(6));
}

#[test]
fn a_list_begins_with_one() {
    for found in (0..=u8::MAX).filter(|&byte| byte != 1) {
        let reason = PayloadReason::Header { found };
        let error = TlvList::parse(&[found, 0]).unwrap_err();
        assert_eq!(error, PayloadError { offset: 0, reason });
    }
}

#[test]
fn every_parameter_of_every_length_up_to_forty_is_kept() {
    let value: Vec<u8> = (1..=40).collect();
    for id in 0..=u8::MAX {
        for length in 0..=value.len() {
            let value = &value[..length];
            let read = Param::read(id, value);
            assert_eq!(id_and_value(read), (id, value.to_vec()));
            let documented = match id {
                1 | 2 | 5 => true,
                0 | 7 | 8 | 9 | 11 | 13 => length == 1,
                6 | 10 | 12 | 14 | 16 => length == 2,
                15 => length == 6,
                _ => false,
            };
            assert_eq!(!matches!(read, Param::Raw { .. }), documented, "{read:?}");
        }
    }
    // Yes and no have two bytes, the others are kept as they are.
    assert_eq!(Param::read(8, &[2]), Param::Raw { id: 8, value: &[2] });
}

#[test]
fn the_first_parameter_of_its_kind_that_reads_is_taken() {
    let value = bytes("01 0B 0E0100 0E020BFE 0E020001");
    assert_eq!(only_device(&value).battery_mv(), Some(3070));
    assert_eq!(only_device(&value).params().count(), 3);
}

// --- EYE adverts ------------------------------------------------------------------------

#[test]
fn the_recorded_adverts_read_as_eye_sensors() {
    let eye = EyeAdvert {
        flags: 0xB7,
        temperature_c_e2: Some(2703),
        humidity_percent: Some(38),
        magnet: Some(false),
        movement: Some(EyeMovement {
            moving: false,
            count: 19_552,
        }),
        angle: Some(EyeAngle {
            pitch_deg: 0,
            roll_deg: -1,
        }),
        low_battery: false,
        battery_mv: Some(3070),
    };
    let slice = bytes("B7 0A8F 26 4C60 00 FFFF 6B");
    assert_eq!(EyeAdvert::read(&slice), Some(eye));
    let second = EyeAdvert {
        temperature_c_e2: Some(2235),
        movement: Some(EyeMovement {
            moving: false,
            count: 174,
        }),
        angle: Some(EyeAngle {
            pitch_deg: 5,
            roll_deg: 9,
        }),
        battery_mv: Some(3080),
        ..eye
    };
    let slice = bytes("B7 08BB 26 00AE 05 0009 6C");
    assert_eq!(EyeAdvert::read(&slice), Some(second));
    for cut in 0..slice.len() {
        assert_eq!(EyeAdvert::read(&slice[..cut]), None);
    }
    assert_eq!(EyeAdvert::read(&[&slice[..], &[0; 21]].concat()), None);
}

#[test]
fn every_eye_flag_byte_has_one_length() {
    for flags in 0..=u8::MAX {
        let bit = |bit: u8| usize::from(flags >> bit & 1);
        let length = 1 + 2 * bit(0) + bit(1) + 2 * bit(4) + 3 * bit(5) + bit(7);
        for tried in 0..40 {
            let mut slice = vec![0xFF; tried];
            if let Some(first) = slice.first_mut() {
                *first = flags;
            }
            let read = EyeAdvert::read(&slice);
            assert_eq!(read.is_some(), tried == length, "{flags:#04x} {tried}");
            let Some(read) = read else { continue };
            assert_eq!(read.flags, flags);
            assert_eq!(read.low_battery, bit(6) == 1);
            assert_eq!(read.magnet, (bit(2) == 1).then_some(bit(3) == 1));
            assert_eq!(read.battery_mv, (bit(7) == 1).then_some(4550));
            let moved = read.movement.map(|m| (m.moving, m.count));
            assert_eq!(moved, (bit(4) == 1).then_some((true, 32_767)));
        }
    }
}

// --- recipes ----------------------------------------------------------------------------

fn measured() -> impl Strategy<Value = (u8, Vec<u8>, i8, u16, i16)> {
    let id = proptest::collection::vec(any::<u8>(), 20);
    (any::<u8>(), id, any::<i8>(), any::<u16>(), any::<i16>())
}

proptest! {
    #[test]
    fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(list) = BeaconList::parse(&value) {
            prop_assert_eq!(list.beacons().count(), list.count());
        }
        if let Ok(list) = TlvList::parse(&value) {
            prop_assert_eq!(list.devices().count(), list.count());
        }
        let _ = EyeAdvert::read(&value);
    }

    #[test]
    fn beacons_written_by_hand_are_read_back(
        part in any::<u8>(),
        beacons in proptest::collection::vec(measured(), 0..30),
    ) {
        let mut value = vec![part];
        for (flags, id, rssi_dbm, battery_mv, temperature) in &beacons {
            value.push(*flags);
            value.extend(&id[..if flags & 0x20 == 0 { 16 } else { 20 }]);
            if flags & 1 != 0 {
                value.extend(rssi_dbm.to_be_bytes());
            }
            if flags & 2 != 0 {
                value.extend(battery_mv.to_be_bytes());
            }
            if flags & 4 != 0 {
                value.extend(temperature.to_be_bytes());
            }
        }
        let list = BeaconList::parse(&value).unwrap();
        prop_assert_eq!(list.part().map(|p| p.number << 4 | p.parts), Some(part));
        prop_assert_eq!(list.count(), beacons.len());
        for (read, (flags, id, rssi_dbm, battery_mv, temperature)) in list.beacons().zip(&beacons) {
            prop_assert_eq!(read.flags, *flags);
            let read_id = match read.id {
                BeaconId::IBeacon { uuid, major, minor } => {
                    [&uuid[..], &major.to_be_bytes(), &minor.to_be_bytes()].concat()
                }
                BeaconId::Eddystone { namespace, instance } => [&namespace[..], instance].concat(),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&read_id[..], &id[..read_id.len()]);
            prop_assert_eq!(read.rssi_dbm, (flags & 1 != 0).then_some(*rssi_dbm));
            prop_assert_eq!(read.battery_mv, (flags & 2 != 0).then_some(*battery_mv));
            prop_assert_eq!(read.temperature_raw, (flags & 4 != 0).then_some(*temperature));
        }
    }

    #[test]
    fn parameters_written_by_hand_are_read_back(
        devices in proptest::collection::vec(
            proptest::collection::vec(
                (0..20u8, proptest::collection::vec(1..=u8::MAX, 0..24)), 0..8),
            0..8),
    ) {
        let mut value = vec![1];
        for params in &devices {
            let mut block = Vec::new();
            for (id, bytes) in params {
                block.extend([*id, bytes.len() as u8]);
                block.extend(bytes);
            }
            value.push(block.len() as u8);
            value.extend(block);
        }
        let read: Vec<Vec<(u8, Vec<u8>)>> = TlvList::parse(&value)
            .unwrap()
            .devices()
            .map(|device| device.params().map(id_and_value).collect())
            .collect();
        prop_assert_eq!(read, devices);
    }
}
