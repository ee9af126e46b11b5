//! Values of IO elements: beacon lists and sensor lists.

use codec::payload::{Beacon, BeaconId, BeaconList, Param, PayloadError, TlvList};
use serde_json::{Value, json};

use super::{Object, Problem};

/// Describes the value of element 385 or 10500.
pub(crate) fn beacons(value: &[u8]) -> Result<Value, Problem> {
    let list = BeaconList::parse(value).map_err(problem)?;
    let part = list.part();
    Ok(json!({
        "kind": "beacons",
        "part": part.map(|part| part.number),
        "parts": part.map(|part| part.parts),
        "beacons": list.beacons().map(beacon).collect::<Vec<_>>(),
        "issues": [],
    }))
}

fn beacon(beacon: Beacon<'_>) -> Value {
    let mut object = Object::new();
    object.insert("flags".into(), beacon.flags.into());
    match beacon.id {
        BeaconId::IBeacon { uuid, major, minor } => {
            object.insert("uuid".into(), hex::encode(uuid).into());
            object.insert("major".into(), major.into());
            object.insert("minor".into(), minor.into());
        }
        BeaconId::Eddystone {
            namespace,
            instance,
        } => {
            object.insert("namespace".into(), hex::encode(namespace).into());
            object.insert("instance".into(), hex::encode(instance).into());
        }
        BeaconId::Six(id) => {
            object.insert("id".into(), hex::encode(id).into());
        }
        BeaconId::Other(id) => {
            object.insert("id".into(), hex::encode(id).into());
        }
    }
    if let Some(rssi) = beacon.rssi_dbm {
        object.insert("rssi".into(), rssi.into());
    }
    if let Some(battery) = beacon.battery_mv {
        object.insert("battery_raw".into(), battery.into());
    }
    if let Some(temperature) = beacon.temperature_raw {
        object.insert("temperature_raw".into(), temperature.into());
    }
    object.into()
}

/// Describes the value of element 548, 10828, 10829, 10831 or 11317: per sensor its
/// parameters as id and bytes.
pub(crate) fn tags(value: &[u8]) -> Result<Value, Problem> {
    let list = TlvList::parse(value).map_err(problem)?;
    let sensors = list.devices().map(|device| {
        let parameters = device.params().map(parameter);
        Value::Array(parameters.collect())
    });
    Ok(json!({
        "kind": "tags",
        "header": value.first(),
        "tags": sensors.collect::<Vec<_>>(),
        "issues": [],
    }))
}

/// The bytes are put together again from what was read, so that a wrong reading shows.
fn parameter(param: Param<'_>) -> Value {
    let (id, bytes) = match param {
        Param::RssiDbm(n) => (0, n.to_be_bytes().to_vec()),
        Param::BeaconId(BeaconId::IBeacon { uuid, major, minor }) => {
            let numbers = [major.to_be_bytes(), minor.to_be_bytes()].concat();
            (1, [&uuid[..], &numbers].concat())
        }
        Param::BeaconId(BeaconId::Eddystone {
            namespace,
            instance,
        }) => (1, [&namespace[..], &instance[..]].concat()),
        Param::BeaconId(BeaconId::Six(id)) => (1, id.to_vec()),
        Param::BeaconId(BeaconId::Other(id)) => (1, id.to_vec()),
        Param::AdditionalData(bytes) => (2, bytes.to_vec()),
        Param::Name(name) => (5, name.to_vec()),
        Param::TemperatureCE2(n) => (6, n.to_be_bytes().to_vec()),
        Param::HumidityPercent(n) => (7, vec![n]),
        Param::Magnet(near) => (8, vec![near.into()]),
        Param::Movement(moves) => (9, vec![moves.into()]),
        Param::MovementCount(n) => (10, n.to_be_bytes().to_vec()),
        Param::PitchDeg(n) => (11, n.to_be_bytes().to_vec()),
        Param::RollDeg(n) => (12, n.to_be_bytes().to_vec()),
        Param::LowBattery(low) => (13, vec![low.into()]),
        Param::BatteryMv(n) => (14, n.to_be_bytes().to_vec()),
        Param::Mac(mac) => (15, mac.to_vec()),
        Param::MagnetCount(n) => (16, n.to_be_bytes().to_vec()),
        Param::Raw { id, value } => (id, value.to_vec()),
        // The enum may grow; a kind that is not written here shows as itself.
        other => return json!(format!("{other:?}")),
    };
    json!([id, hex::encode(bytes)])
}

fn problem(error: PayloadError) -> Problem {
    Problem::new("value", error.offset, error.reason.to_string())
}
