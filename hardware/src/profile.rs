//! What a board has, read from the TOML files in `boards/`.
//!
//! Invariant: an unknown key is refused, so a misspelt `watchdgo` cannot quietly leave a board
//! without one.

use serde::Deserialize;

/// Compiled in: a gateway must know its board before it can trust a disk.
const BOARDS: &[(&str, &str)] = &[
    ("generic", include_str!("../boards/generic.toml")),
    ("fake", include_str!("../boards/fake.toml")),
];

/// What one kind of board has. What is `None` is not there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// The name used in settings.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// The light.
    pub status_led: Option<LedPaths>,
    /// The hardware watchdog.
    pub watchdog: Option<WatchdogDevice>,
    /// The input that tells of falling supply voltage, early enough for one more fsync.
    pub power_fail_input: Option<GpioInput>,
}

/// A two-colour light, as directories below `/sys/class/leds`. Amber is both at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedPaths {
    /// The green half.
    pub green: String,
    /// The red half.
    pub red: String,
}

/// A watchdog device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogDevice {
    /// Such as `/dev/watchdog0`.
    pub device: String,
    /// What the gateway asks for, in seconds.
    pub timeout_s: u16,
}

/// One line of a GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioInput {
    /// Such as `/dev/gpiochip0`.
    pub chip: String,
    /// The line's offset on that chip, from 0.
    pub line: u32,
    /// Whether low voltage means "yes".
    #[serde(default)]
    pub active_low: bool,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No board of this name is built in. Choose one of those listed.
    #[error("no board is called `{name}`; this gateway knows {}", BoardProfile::names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A profile that does not say what a profile says. Correct the file.
    #[error("board profile `{name}` cannot be read")]
    Malformed {
        /// Which profile.
        name: String,
        /// Line, column and what was expected there.
        #[source]
        source: toml::de::Error,
    },
}

impl BoardProfile {
    /// The names of the built-in boards.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BOARDS.iter().map(|(name, _)| *name)
    }

    /// The built-in board of this name.
    ///
    /// # Errors
    /// `Unknown` for any other name. Built-in profiles are well formed; a test reads them all.
    pub fn built_in(name: &str) -> Result<Self, BoardError> {
        let board = BOARDS.iter().find(|(known, _)| *known == name);
        let (name, text) = board.ok_or_else(|| BoardError::Unknown {
            name: name.to_owned(),
        })?;
        Self::parse(name, text)
    }

    /// Reads a profile. `name` is for the error only.
    ///
    /// # Errors
    /// `Malformed` for anything but a complete profile without unknown keys.
    pub fn parse(name: &str, text: &str) -> Result<Self, BoardError> {
        toml::from_str(text).map_err(|source| BoardError::Malformed {
            name: name.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::error::Error;

    #[test]
    fn every_built_in_board_reads_and_has_its_own_name() {
        for name in BoardProfile::names() {
            assert_eq!(BoardProfile::built_in(name).unwrap().name, name);
        }
    }

    #[test]
    fn every_file_in_boards_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/boards");
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut known: Vec<String> = BoardProfile::names().map(|n| format!("{n}.toml")).collect();
        known.sort();
        assert_eq!(files, known);
    }

    #[test]
    fn generic_has_nothing_and_fake_has_everything() {
        let generic = BoardProfile::built_in("generic").unwrap();
        assert!(generic.status_led.is_none() && generic.watchdog.is_none());
        assert!(generic.power_fail_input.is_none());
        let fake = BoardProfile::built_in("fake").unwrap();
        assert!(fake.status_led.is_some());
        assert_eq!(fake.watchdog.unwrap().timeout_s, 15);
        assert!(fake.power_fail_input.unwrap().active_low);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = BoardProfile::built_in("rpi9").unwrap_err().to_string();
        assert_eq!(
            error,
            "no board is called `rpi9`; this gateway knows generic, fake"
        );
    }

    #[test]
    fn unknown_and_missing_keys_are_refused_at_every_level() {
        let good = include_str!("../boards/fake.toml");
        for (line, bad) in [
            ("name = \"fake\"", ""),
            ("name = \"fake\"", "name = \"fake\"\nwatchdgo = 1"),
            ("red = \"fake/red\"", ""),
            ("red = \"fake/red\"", "red = \"fake/red\"\nblue = \"x\""),
            ("timeout_s = 15", "timeout_s = 70000"),
            ("timeout_s = 15", "timeout_s = 15\ntimeout_ms = 1"),
            ("line = 0", "line = -1"),
            ("active_low = true", "active_high = true"),
        ] {
            assert!(good.contains(line), "{line}");
            let error = BoardProfile::parse("x", &good.replace(line, bad)).unwrap_err();
            assert_eq!(error.to_string(), "board profile `x` cannot be read");
            assert!(error.source().is_some());
        }
    }
}
