//! Pure: no I/O, no clock.
//!
//! What the key of a stream says about the sensor, and which keys are none of ours.
//!
//! Why a key that matches may still be left alone: the founding pattern `mqtt_stream:*` also matches
//! the founding dead-letter stream `mqtt_stream:failed`, and whoever reads that puts aside what was
//! put aside, for ever.
//!
//! Invariant: a key is read by one reader at most, telemetry before sensors where it is named.

use contract::keys;
use thiserror::Error;

use crate::config::SensorConfig;
use crate::stream::pattern;

/// Letters of a device or a sensor type at most: the width of its column.
const LETTERS_MAX: usize = 100;

/// Whose readings a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Between the prefix and the last colon; 1 to 100 letters. Colons may be in it, as in a MAC address.
    pub device_id: String,
    /// Behind the last colon; 1 to 100 letters.
    pub sensor_type: String,
}

/// Why a key is not read, although it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotOurs {
    /// Read by stream.names and stream.pattern.
    #[error("it holds telemetry")]
    Telemetry,
    /// Copies of dead letters.
    #[error("it holds dead letters")]
    DeadLetters,
    /// Orders and answers.
    #[error("it holds commands")]
    Commands,
    /// Rename it.
    #[error(
        "its name is not <prefix>:<device>:<sensor type>, each of 1 to 100 letters without control characters"
    )]
    Form,
}

/// Reads the key of a stream.
/// # Errors
/// [`NotOurs`].
pub fn sensor(key: &str, config: &SensorConfig) -> Result<Sensor, NotOurs> {
    let is_telemetry = |name: &String| name == key || keys::is_shard_of(key, name);
    if config.dead_letter.as_deref() == Some(key) || key.starts_with(&keys::dead_letter_stream(""))
    {
        return Err(NotOurs::DeadLetters);
    }
    if key.starts_with(&keys::stream("")) || config.telemetry.iter().any(is_telemetry) {
        return Err(NotOurs::Telemetry);
    }
    if !keys::may_carry_telemetry(key) {
        return Err(NotOurs::Commands);
    }
    let rest = behind_prefix(key, &config.pattern).ok_or(NotOurs::Form)?;
    let (device, kind) = rest.rsplit_once(':').ok_or(NotOurs::Form)?;
    let fits = |name: &str| {
        let letters = name.chars().count();
        (1..=LETTERS_MAX).contains(&letters) && !name.chars().any(char::is_control)
    };
    match fits(device) && fits(kind) {
        true => Ok(Sensor {
            device_id: device.to_owned(),
            sensor_type: kind.to_owned(),
        }),
        false => Err(NotOurs::Form),
    }
}

/// The prefix is what every match has up to a colon; where that is nothing, the first part.
fn behind_prefix<'a>(key: &'a str, pattern: &str) -> Option<&'a str> {
    let plain = pattern::beginning(pattern);
    match plain.rsplit_once(':') {
        Some((prefix, _)) => key.strip_prefix(prefix)?.strip_prefix(':'),
        None => key.split_once(':').map(|(_, rest)| rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn config(pattern: &str) -> SensorConfig {
        SensorConfig {
            pattern: pattern.to_owned(),
            telemetry: vec!["fleet".to_owned()],
            dead_letter: Some("mqtt_stream:put:aside".to_owned()),
            look_every: Duration::from_secs(30),
            keep: None,
        }
    }

    #[test]
    fn a_key_says_which_device_and_which_sensor() {
        for (pattern, key, device, kind) in [
            (
                "mqtt_stream:*",
                "mqtt_stream:d1:temperature",
                "d1",
                "temperature",
            ),
            (
                "mqtt_stream:*",
                "mqtt_stream:aa:bb:cc:rssi",
                "aa:bb:cc",
                "rssi",
            ),
            ("mqtt_stream:dev*", "mqtt_stream:dev7:t", "dev7", "t"),
            ("site:4:*:t", "site:4:d:t", "d", "t"),
            ("*", "mqtt_stream:d1:t", "d1", "t"),
            ("mqtt_*", "mqtt_stream:d1:t", "d1", "t"),
        ] {
            let found = sensor(key, &config(pattern)).unwrap();
            let found = (found.device_id.as_str(), found.sensor_type.as_str());
            assert_eq!(found, (device, kind), "{key} by {pattern}");
        }
    }

    #[test]
    fn what_has_another_purpose_or_no_name_is_left_alone() {
        let long = format!("mqtt_stream:{}:t", "d".repeat(101));
        for (key, why) in [
            ("mqtt_stream:failed", NotOurs::Form),
            ("mqtt_stream::t", NotOurs::Form),
            ("mqtt_stream:d:", NotOurs::Form),
            ("mqtt_stream:d\0:t", NotOurs::Form),
            ("mqtt_stream", NotOurs::Form),
            (&long, NotOurs::Form),
            ("mqtt_stream:put:aside", NotOurs::DeadLetters),
            ("dead-letter:telemetry:x", NotOurs::DeadLetters),
            ("telemetry:teltonika:3", NotOurs::Telemetry),
            ("fleet:3", NotOurs::Telemetry),
            ("commands:outbound:depot-1", NotOurs::Commands),
        ] {
            assert_eq!(
                sensor(key, &config("*")).and(Ok(())),
                match why {
                    // Without a prefix in the pattern, the first part is one.
                    NotOurs::Form if key == "mqtt_stream:failed" => Err(NotOurs::Form),
                    why => Err(why),
                },
                "{key}"
            );
            if key.starts_with("mqtt") {
                assert_eq!(sensor(key, &config("mqtt_stream:*")), Err(why), "{key}");
            }
        }
    }
}
