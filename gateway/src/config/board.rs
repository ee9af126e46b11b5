//! The settings of the board.

use hardware::BoardProfile;
use settings::{Key, Settings};

use super::ConfigError;
use crate::board::BoardConfig;

pub(super) const PROFILE: Key = Key::new(
    "board.profile",
    "The board this runs on, for its light, watchdog and sensors; generic fits every machine and drives nothing, and a name that is none lists them all.",
)
.default("generic");

pub(super) const FILE: Key = Key::new(
    "board.file",
    "A profile of your own, TOML, in place of board.profile.",
);

pub(super) const ROOT: Key = Key::new(
    "board.root",
    "Where the files of the board are; another directory than / is for trials.",
)
.default("/");

/// Which board; reads `board.file`.
/// # Errors
/// [`ConfigError::Board`].
pub fn read(settings: &Settings) -> Result<BoardConfig, ConfigError> {
    let profile = match settings.optional_path("board.file")? {
        Some(file) => BoardProfile::read(&file),
        None => BoardProfile::built_in(settings.text("board.profile")?),
    };
    Ok(BoardConfig {
        profile: profile.map_err(ConfigError::Board)?,
        root: settings.path("board.root")?,
    })
}

/// Can the values be used, whatever is in the file?
/// # Errors
/// As [`read`].
pub(super) fn check_values(settings: &Settings) -> Result<(), ConfigError> {
    settings.path("board.root")?;
    match settings.optional_path("board.file")? {
        Some(_) => Ok(()),
        None => read(settings).map(drop),
    }
}
