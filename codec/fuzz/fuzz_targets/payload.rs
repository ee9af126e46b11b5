//! What lies inside IO elements: every reader on the same bytes.
#![no_main]

use codec::payload::{
    BeaconId, BeaconList, DtcEntry, DtcList, EyeAdvert, Iso6709, Iso6709Reading, Param, Position,
    TlvList, Vin,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    beacons(value);
    sensors(value);
    position(value);
    let _ = EyeAdvert::read(value);
    match Vin::parse(value) {
        Ok(vin) => assert!(
            value
                .windows(17)
                .any(|part| part == vin.as_str().as_bytes())
        ),
        Err(error) => assert!(error.offset <= value.len()),
    }
    let mut entry_bytes = 0;
    for entry in DtcList::new(value).entries() {
        entry_bytes += match entry {
            DtcEntry::Code(code) => code.to_string().len(),
            DtcEntry::Other(other) => other.len(),
        };
    }
    assert!(entry_bytes <= value.len());
});

fn beacons(value: &[u8]) {
    let list = match BeaconList::parse(value) {
        Ok(list) => list,
        Err(error) => return assert!(error.offset <= value.len()),
    };
    assert_eq!(list.beacons().count(), list.count());
    let mut again = Vec::new();
    again.extend(list.part().map(|part| part.number << 4 | part.parts));
    for beacon in list.beacons() {
        again.push(beacon.flags);
        match beacon.id {
            BeaconId::IBeacon { uuid, major, minor } => {
                again.extend(uuid);
                again.extend(major.to_be_bytes());
                again.extend(minor.to_be_bytes());
            }
            BeaconId::Eddystone {
                namespace,
                instance,
            } => {
                again.extend(namespace);
                again.extend(instance);
            }
            other => panic!("{other:?} in a beacon list"),
        }
        again.extend(beacon.rssi_dbm.into_iter().flat_map(i8::to_be_bytes));
        again.extend(beacon.battery_mv.into_iter().flat_map(u16::to_be_bytes));
        again.extend(
            beacon
                .temperature_raw
                .into_iter()
                .flat_map(i16::to_be_bytes),
        );
    }
    assert_eq!(again, value);
}

fn sensors(value: &[u8]) {
    let list = match TlvList::parse(value) {
        Ok(list) => list,
        Err(error) => return assert!(error.offset <= value.len()),
    };
    assert_eq!(list.devices().count(), list.count());
    for device in list.devices() {
        let first = |wanted: fn(&Param<'_>) -> bool| device.params().find(wanted);
        assert_eq!(
            device.battery_mv().map(Param::BatteryMv),
            first(|param| matches!(param, Param::BatteryMv(_)))
        );
        assert_eq!(
            device.name().map(Param::Name),
            first(|param| matches!(param, Param::Name(_)))
        );
        let _ = (device.beacon_id(), device.mac(), device.eye());
    }
}

fn position(value: &[u8]) {
    let fix = Position {
        latitude_e7: -337_335_583,
        longitude_e7: -707_196_233,
    };
    let alone = match Iso6709::parse(value, None) {
        Ok(read) => read,
        Err(error) => return assert!(error.offset <= value.len()),
    };
    // A fix can only turn the documented reading down.
    let near = Iso6709::parse(value, Some(fix)).expect("the text alone decides on errors");
    assert!(alone == near || near.reading == Iso6709Reading::DecimalDegrees);
    for read in [alone, near] {
        assert!(read.position.latitude_e7.unsigned_abs() <= 900_000_000);
        assert!(read.position.longitude_e7.unsigned_abs() <= 1_800_000_000);
        assert!(read.altitude_mm.unsigned_abs() <= 999_999_000);
    }
    // With the result as the fix, nothing is nearer.
    let settled = Iso6709::parse(value, Some(near.position)).expect("as before");
    assert!(settled.position == near.position);
}
