//! Where the parts of a flashed box are: what its start wrote down.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::manifest::{KeyError, PublicKey};
use super::slots::{Slot, is_version};

/// Written by the start of the box: `running a`, `slot_a /dev/…`, `slot_b /dev/…`, `record /dev/…`.
const SLOTS: &str = "run/milepost/slots";

/// Part of each system: `board …`, `version …`, `trial_seconds …`.
const IMAGE: &str = "usr/share/milepost/image";

/// Part of each system: whose updates it takes.
const KEY: &str = "usr/share/milepost/update.pub";

/// What runs, and where what can be written is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name of the image.
    pub board: String,
    /// Of the running system.
    pub version: String,
    /// How long a trial may take until the system is healthy.
    pub trial: Duration,
    /// What runs.
    pub running: Slot,
    /// Where the record of the slots is.
    pub record: PathBuf,
    /// Whose updates it takes.
    pub key: PublicKey,
    slots: [PathBuf; 2],
}

/// Why nothing is known about the box.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// It was not started from an image.
    #[error("this machine was not started from a Milepost image: there is no {}", .0.display())]
    NoImage(PathBuf),
    /// A file of the image cannot be used.
    #[error("{} cannot be used{}", .path.display(), .line.map(|line| format!(": no line `{line}`")).unwrap_or_default())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The line that is missing or wrong.
        line: Option<&'static str>,
        /// What the system says.
        #[source]
        source: Option<io::Error>,
    },
    /// The key of the image cannot be used.
    #[error("{}", .path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
}

impl Place {
    /// Reads what the start wrote down below `root`, `/` on a box.
    /// # Errors
    /// It is no box of ours, or a file is damaged.
    pub fn read(root: &Path) -> Result<Self, PlaceError> {
        let slots = Lines::read(root.join(SLOTS))?;
        let image = Lines::read(root.join(IMAGE))?;
        let path = root.join(KEY);
        let pem = fs::read(&path).map_err(|source| damaged(&path, None, Some(source)))?;
        let key = PublicKey::of_pem(&pem).map_err(|source| PlaceError::Key { path, source })?;
        let name = |value: &str| is_version(value).then(|| value.to_owned());
        let device = |value: &str| Some(PathBuf::from(value));
        Ok(Self {
            board: image.value("board", name)?,
            version: image.value("version", name)?,
            trial: image.value("trial_seconds", |value| {
                Some(Duration::from_secs(value.parse().ok()?))
            })?,
            running: slots.value("running", Slot::named)?,
            record: slots.value("record", device)?,
            key,
            slots: [
                slots.value("slot_a", device)?,
                slots.value("slot_b", device)?,
            ],
        })
    }

    /// The device of a slot.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> &Path {
        &self.slots[usize::from(slot == Slot::B)]
    }
}

fn damaged(path: &Path, line: Option<&'static str>, source: Option<io::Error>) -> PlaceError {
    PlaceError::Damaged {
        path: path.to_owned(),
        line,
        source,
    }
}

struct Lines {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl Lines {
    fn read(path: PathBuf) -> Result<Self, PlaceError> {
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PlaceError::NoImage(path.clone()),
            _ => damaged(&path, None, Some(error)),
        })?;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let values = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let values = values.collect();
        Ok(Self { path, values })
    }

    fn value<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PlaceError> {
        let value = self.values.get(name);
        let value = value.and_then(|value| parse(value));
        value.ok_or_else(|| damaged(&self.path, Some(name), None))
    }
}
