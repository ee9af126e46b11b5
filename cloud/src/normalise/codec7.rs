//! Codec 7 records, of the GH3000 family, in the columns of all others.
//!
//! Why apart: position, speed and the rest may each be missing, and the coordinates are floating
//! point numbers. A record without a position is stored as one without a fix at 0/0, which is what
//! other trackers send when they never had one.
//!
//! Pure. Invariant: every value of a record can be recovered from its frame; what has no column
//! stands in the JSON under a name, because the vendor's stand-in ids (200 to 204) mean other
//! things on every other device.

use codec::Codec7Record;
use serde_json::{Map, Value};

use super::{io, quality, record_hash};
use crate::batch::Record;

/// Types one record; arguments as in [`super::record`].
#[must_use]
pub fn record(avl: &Codec7Record<'_>, index: u32, offset: usize, received_at_ms: u64) -> Record {
    let gps = avl.gps;
    let position = gps.and_then(|gps| gps.position);
    let place = position.and_then(|at| Some((at.latitude_e7()?, at.longitude_e7()?)));
    let (latitude_e7, longitude_e7) = place.unwrap_or_default();
    let satellites = gps.and_then(|gps| gps.satellites);
    // The number of satellites is optional: then a position is all there is to go by.
    let valid = match satellites {
        Some(satellites) => quality::is_valid(satellites, latitude_e7, longitude_e7),
        None => place.is_some() && quality::is_valid(1, latitude_e7, longitude_e7),
    };
    let (hot, io) = io::sort(avl.io());
    Record {
        index,
        hash: record_hash(avl.raw),
        device_time_ms: avl.timestamp_ms,
        quarantine: quality::impossible_time(avl.timestamp_ms, received_at_ms),
        valid,
        latitude: f64::from(latitude_e7) / 1e7,
        longitude: f64::from(longitude_e7) / 1e7,
        // What it leaves out has always been 0 in these columns: rows of before would seem corrected.
        altitude_m: Some(gps.and_then(|gps| gps.altitude_m).unwrap_or_default()),
        heading_deg: Some(gps.and_then(|gps| gps.angle_deg()).map_or(0, i32::from)),
        speed_kmh: Some(gps.and_then(|gps| gps.speed_kmh).map_or(0, i32::from)),
        satellites: Some(satellites.unwrap_or_default()),
        priority: Some(avl.priority.as_byte()),
        event_io_id: 0,
        generation_type: None,
        hot,
        io: with_network(&io, avl),
        bytes_at: (offset, avl.raw.len()),
    }
}

/// Adds what the record says about its mobile network.
fn with_network(io: &str, avl: &Codec7Record<'_>) -> String {
    let mut object: Map<String, Value> = serde_json::from_str(io).unwrap_or_default();
    let gps = avl.gps;
    let cell = gps.and_then(|gps| gps.cell);
    let facts = [
        ("cell_lac", cell.map(|cell| u32::from(cell.lac))),
        ("cell_id", cell.map(|cell| u32::from(cell.cell_id))),
        ("signal", gps.and_then(|gps| gps.signal).map(u32::from)),
        ("operator", gps.and_then(|gps| gps.operator)),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            object.insert(name.to_owned(), value.into());
        }
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use codec::Codec7Data;

    /// `codec/vectors/c7-tcp-synthetic.json`: one record with everything, one without a position.
    const DATA: &str = "070262A15B400FFF425AC00041CA00000070403209000107D0140000601A01015701430F6E01050001E24022A15B7C0201F00102";

    #[test]
    fn everything_finds_its_place() {
        let data = hex::decode(DATA).unwrap();
        let data = Codec7Data::parse(&data).unwrap();
        let now_ms = 1_748_609_700_000;
        let records: Vec<Record> = data
            .records()
            .map(|avl| record(&avl, 0, 2, now_ms))
            .collect();
        let first = &records[0];
        assert_eq!((first.latitude, first.longitude), (54.6875, 25.25));
        assert_eq!((first.altitude_m, first.heading_deg), (Some(112), Some(90)));
        assert_eq!((first.speed_kmh, first.satellites), (Some(50), Some(9)));
        assert!(first.valid && first.quarantine.is_none());
        assert_eq!(first.device_time_ms, 1_748_609_600_000);
        let io: Value = serde_json::from_str(&first.io).unwrap();
        assert_eq!(
            io,
            serde_json::json!({
                "1": 0x57, "5": 123_456,
                "cell_lac": 1, "cell_id": 2000, "signal": 20, "operator": 24602,
            })
        );
        assert_eq!(first.hot.battery_voltage_mv, Some(0x0f6e));
        let second = &records[1];
        assert!(!second.valid);
        assert_eq!((second.latitude, second.longitude), (0.0, 0.0));
        assert_eq!(second.hot.movement, Some(true));
    }
}
