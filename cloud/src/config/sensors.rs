//! The sensor streams: what is read as such, and what never is.

use std::time::Duration;

use contract::keys;
use settings::{Settings, SettingsError};

use super::StreamConfig;

/// Beginning of the name of every telemetry stream.
const TELEMETRY: &str = "telemetry:";

/// Which streams hold readings of sensors, `<prefix>:<device>:<sensor type>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorConfig {
    /// Streams whose key matches; never the ones below.
    pub pattern: String,
    /// Streams that hold telemetry.
    pub telemetry: Vec<String>,
    /// The stream with copies of dead letters.
    pub dead_letter: Option<String>,
    /// How often to look for more.
    pub look_every: Duration,
    /// Acknowledged items stay this long; `None`: whoever writes them removes them.
    pub keep: Option<Duration>,
}

impl SensorConfig {
    /// For keys that were taken in by whatever pattern there was: the prefix is their first part.
    #[must_use]
    pub fn of_any() -> Self {
        Self {
            pattern: "*".to_owned(),
            telemetry: Vec::new(),
            dead_letter: None,
            look_every: Duration::from_secs(30),
            keep: None,
        }
    }
}

/// `None`: there are none.
pub(super) fn sensors(
    settings: &Settings,
    stream: &StreamConfig,
) -> Result<Option<SensorConfig>, SettingsError> {
    let Some(pattern) = settings.optional_text("sensors.pattern")? else {
        return Ok(None);
    };
    let is_taken = pattern.starts_with(TELEMETRY) || stream.names.iter().any(|it| it == pattern);
    if is_taken || !keys::may_carry_telemetry(pattern) {
        let expected = "a pattern for sensor streams such as mqtt_stream:*; telemetry is found by stream.names and stream.pattern";
        return Err(settings.invalid("sensors.pattern", expected, None));
    }
    let keep = match settings.text("sensors.keep")?.trim() {
        "off" => None,
        _ => Some(settings.duration("sensors.keep")?),
    };
    Ok(Some(SensorConfig {
        pattern: pattern.to_owned(),
        telemetry: stream.names.clone(),
        dead_letter: stream.dead_letter.clone(),
        look_every: stream.look_every,
        keep,
    }))
}
