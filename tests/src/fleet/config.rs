//! What a fleet is told to do, and how the words on the command line are read.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Which tracker is played: codec and IO elements differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// FMB920: Codec 8, a dozen fixed-width elements.
    Fmb920,
    /// FMC130: Codec 8 Extended, with a VIN and Bluetooth beacon lists of variable length.
    Fmc130,
}

impl FromStr for Profile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Profile> {
        match text {
            "fmb920" => Ok(Profile::Fmb920),
            "fmc130" => Ok(Profile::Fmc130),
            _ => anyhow::bail!("profile `{text}`: use fmb920, fmc130 or both with a comma"),
        }
    }
}

/// Records per device and time: `1`, `0.5`, `10` (per second), `1/10s`, `6/1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval_ms: u64,
}

impl Rate {
    /// One record every `interval_ms` of a device's time, 1 ms to 24 h: two records of one
    /// device never share a timestamp.
    ///
    /// # Errors
    /// Outside that range.
    pub fn every_ms(interval_ms: u64) -> Result<Rate> {
        ensure!(
            (1..=86_400_000).contains(&interval_ms),
            "one record every {interval_ms} ms: choose between 1000 per second and one a day"
        );
        Ok(Rate { interval_ms })
    }

    /// Device time between two records, in milliseconds.
    #[must_use]
    pub fn interval_ms(self) -> u64 {
        self.interval_ms
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Rate> {
        let (records, period) = text.split_once('/').unwrap_or((text, "1s"));
        let records: f64 = number(records, text)?;
        ensure!(!period.is_empty(), "rate `{text}`: records per what?");
        let digits = period.trim_end_matches(char::is_alphabetic);
        let unit_ms = match &period[digits.len()..] {
            "ms" => 1.0,
            "s" | "" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            unit => anyhow::bail!("rate `{text}`: unit `{unit}` is none of ms, s, m, h"),
        };
        let periods: f64 = if digits.is_empty() {
            1.0
        } else {
            number(digits, text)?
        };
        let interval_ms = periods * unit_ms / records;
        // Rounding must not make 1000 per second out of a rate that is out of range. One
        // sentence, not a chain: the command line shows the first link alone.
        let rate = Rate::every_ms(if interval_ms < 1.0 {
            0
        } else {
            interval_ms.round() as u64
        });
        rate.map_err(|_| anyhow::anyhow!("choose between 1000 a second and one a day"))
    }
}

fn number(digits: &str, text: &str) -> Result<f64> {
    let value: f64 = digits
        .parse()
        .with_context(|| format!("rate `{text}`: write 2, 0.5 or 1/10s"))?;
    ensure!(value > 0.0, "rate `{text}`: must be above zero");
    Ok(value)
}

/// Frames from a file instead of simulated driving.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// One item per line in hexadecimal; see [`super::replay`].
    pub file: PathBuf,
    /// How much faster than the records' own timestamps; 0 waits for nothing but ACKs.
    pub speed: f64,
}

/// Everything a fleet needs to know. [`FleetConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// `host:port` of the gateway.
    pub to: String,
    /// How many trackers; with a replay, the file decides.
    pub devices: usize,
    /// Per device.
    pub rate: Rate,
    /// Same seed, same bytes (given the same `start_ms`).
    pub seed: u64,
    /// Dealt to the devices in turn; never empty.
    pub profiles: Vec<Profile>,
    /// A frame is sent when it holds this many records (1 to 255), when it is about to get
    /// too long for the devices' 1280 bytes, or at once when a record is urgent.
    pub records_per_frame: u8,
    /// Unix time in milliseconds at which the fleet's clock starts.
    pub start_ms: u64,
    /// How long a device waits for an answer before it hangs up and sends again.
    pub ack_timeout: Duration,
    /// Idle time after which a device sends a ping now and then.
    pub ping_after: Duration,
    /// First and longest pause before a new connection.
    pub backoff: (Duration, Duration),
    /// Instead of driving.
    pub replay: Option<ReplayConfig>,
    /// Appended to: one JSON object per line for everything sent and everything ACKed.
    pub truth_file: Option<PathBuf>,
}

impl FleetConfig {
    /// Ten FMB920 and FMC130 at one record per second, one record per frame, starting now.
    #[must_use]
    pub fn new(to: impl Into<String>) -> FleetConfig {
        FleetConfig {
            to: to.into(),
            devices: 10,
            rate: Rate { interval_ms: 1_000 },
            seed: 1,
            profiles: vec![Profile::Fmb920, Profile::Fmc130],
            records_per_frame: 1,
            start_ms: chrono::Utc::now().timestamp_millis().unsigned_abs(),
            ack_timeout: Duration::from_secs(15),
            ping_after: Duration::from_secs(20),
            backoff: (Duration::from_millis(250), Duration::from_secs(10)),
            replay: None,
            truth_file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rates() {
        for (text, interval_ms) in [
            ("1", 1_000),
            ("0.5", 2_000),
            ("10", 100),
            ("1000", 1),
            ("1/10s", 10_000),
            ("6/1m", 10_000),
            ("6/m", 10_000),
            ("2/500ms", 250),
        ] {
            assert_eq!(
                text.parse::<Rate>().unwrap().interval_ms(),
                interval_ms,
                "{text}"
            );
        }
        for text in [
            "", "0", "-1", "x", "1/0s", "1/10y", "1/", "2000", "nan", "1/s/s",
        ] {
            let read = text.parse::<Rate>();
            assert!(read.is_err(), "{text}: {read:?}");
        }
    }
}
