//! A decoded record as plain JSON: what products send that decode at the edge.

use codec::AvlRecord;
use serde_json::{Map, Value, json};

/// Short field names, no spaces, numbers as numbers; values without a number in hexadecimal.
#[must_use]
pub fn of_record(device: &str, record: &AvlRecord<'_>) -> String {
    let io = record.io().map(|element| {
        let value = element.as_u64().map_or_else(
            || {
                let digits = element.bytes.iter().map(|byte| format!("{byte:02x}"));
                Value::from(digits.collect::<String>())
            },
            Value::from,
        );
        (element.id.to_string(), value)
    });
    let io: Map<String, Value> = io.collect();
    json!({
        "imei": device,
        "timestamp": record.timestamp_ms,
        "priority": record.priority.as_byte(),
        "lat": f64::from(record.latitude_e7) / 1e7,
        "lng": f64::from(record.longitude_e7) / 1e7,
        "altitude": record.altitude_m,
        "angle": record.angle_deg,
        "satellites": record.satellites,
        "speed": record.speed_kmh,
        "event": record.event_io_id,
        "io": io,
    })
    .to_string()
}
