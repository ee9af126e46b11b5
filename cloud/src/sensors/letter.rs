//! Pure: no I/O, no clock.
//!
//! Readings that nobody can read or store, as dead letters.
//!
//! Invariant: the bytes are all fields of the item, as [`written_down`], so that a later program can
//! try again.

use contract::Kind;

use super::name;
use super::reading::{self, Item};
use crate::batch::{DeadLetter, EntryId};
use crate::config::SensorConfig;
use crate::decode::{read_back, written_down};
use crate::stream::mirror::SHOWN_BYTES;

/// What stands in `dead_letters.error_class`.
pub const ERROR_CLASS: &str = "sensor";

/// A dead letter of this item. `sqlstate`: when the database refused it.
#[must_use]
pub fn letter(item: &Item, reason: String, sqlstate: Option<String>) -> DeadLetter {
    DeadLetter {
        record_index: None,
        entry: Some(item.entry.clone()),
        kind: Kind::Other(ERROR_CLASS.to_owned()),
        device: None,
        received_at_ms: Some(item.entry.id.ms()),
        error_class: ERROR_CLASS,
        reason,
        offset: None,
        sqlstate,
        records: 0,
        bytes: written_down(&item.fields),
    }
}

/// Reads a dead letter of class [`ERROR_CLASS`] again, as today's program does. `entry_id` and `bytes`
/// are those of the letter; `now_ms` is our clock.
/// # Errors
/// Why not, in a sentence.
pub fn again(
    entry_id: &str,
    bytes: &[u8],
    config: &SensorConfig,
    now_ms: u64,
) -> Result<Item, String> {
    let fields = read_back(bytes).ok_or("its fields are not written down whole")?;
    let (stream, id) = entry_id.rsplit_once(' ').unwrap_or_default();
    let id = id
        .parse()
        .map_err(|_| "its stream id is not written down")?;
    let sensor = name::sensor(stream, config);
    let read = reading::read(sensor, &fields, now_ms);
    if let Err(unread) = &read {
        return Err(unread.to_string());
    }
    let stream = stream.into();
    Ok(Item {
        entry: EntryId { stream, id },
        fields,
        read,
    })
}

/// The founding names first, then ours. What is not known is empty.
#[must_use]
pub fn fields(
    letter: &DeadLetter,
    config: &SensorConfig,
    failed_at_ms: u64,
) -> Vec<(&'static str, String)> {
    let origin = letter.entry.as_ref();
    let text = |value: Option<&dyn ToString>| value.map(ToString::to_string).unwrap_or_default();
    let sensor = origin.and_then(|entry| name::sensor(&entry.stream, config).ok());
    let sent = read_back(&letter.bytes).unwrap_or_default();
    let value = reading::field(&sent, "value").unwrap_or_default();
    let value = String::from_utf8_lossy(&value[..value.len().min(SHOWN_BYTES)]).into_owned();
    vec![
        (
            "original_stream",
            text(origin.map(|it: &EntryId| &it.stream as _)),
        ),
        ("original_id", text(origin.map(|it| &it.id as _))),
        (
            "device_id",
            text(sensor.as_ref().map(|it| &it.device_id as _)),
        ),
        (
            "sensor_type",
            text(sensor.as_ref().map(|it| &it.sensor_type as _)),
        ),
        ("value", value),
        ("error", letter.reason.clone()),
        ("failed_at", (failed_at_ms / 1_000).to_string()),
        ("error_class", letter.error_class.to_owned()),
        ("sqlstate", letter.sqlstate.clone().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_founding_names_say_which_reading_it_was() {
        let config = SensorConfig {
            pattern: "mqtt_stream:*".to_owned(),
            telemetry: Vec::new(),
            dead_letter: None,
            look_every: Duration::from_secs(30),
            keep: None,
        };
        let sent = vec![
            (b"value".to_vec(), b"warm".to_vec()),
            (b"timestamp".to_vec(), b"2026-11-21T08:00:00Z".to_vec()),
        ];
        let entry = EntryId {
            stream: "mqtt_stream:d1:temperature".into(),
            id: "1790000000000-1".parse().unwrap(),
        };
        let sensor = name::sensor(&entry.stream, &config);
        let read = reading::read(sensor, &sent, 1_795_219_200_000);
        let reason = read.as_ref().unwrap_err().to_string();
        let item = Item {
            entry,
            fields: sent.clone(),
            read,
        };
        let letter = letter(&item, reason, None);
        assert_eq!(read_back(&letter.bytes).unwrap(), sent);
        let entry = "mqtt_stream:d1:temperature 1790000000000-1";
        let still = again(entry, &letter.bytes, &config, 1_795_219_200_000).unwrap_err();
        assert_eq!(still, letter.reason);
        // Its clock was ahead when it came, and is not any more.
        let mut ahead = sent.clone();
        ahead[0].1 = b"21.5".to_vec();
        let read = |now_ms| again(entry, &written_down(&ahead), &config, now_ms);
        assert!(
            read(1_600_000_000_000)
                .unwrap_err()
                .contains("cannot be true")
        );
        assert_eq!(read(1_795_219_200_000).unwrap().read.unwrap().value, 21.5);
        let told: HashMap<_, _> = fields(&letter, &config, 1_700_000_123_456)
            .into_iter()
            .collect();
        for (name, value) in [
            ("original_stream", "mqtt_stream:d1:temperature"),
            ("original_id", "1790000000000-1"),
            ("device_id", "d1"),
            ("sensor_type", "temperature"),
            ("value", "warm"),
            ("error", "value \"warm\" is not a finite number"),
            ("failed_at", "1700000123"),
            ("error_class", "sensor"),
        ] {
            assert_eq!(told[name], value, "{name}");
        }
    }
}
