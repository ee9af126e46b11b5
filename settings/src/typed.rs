//! What a value means: the typed readers, each of which refuses with key, origin and remedy.
//!
//! Invariant: an empty text is "not set" for every reader but [`Settings::list`] and
//! [`Settings::socket_list`], for which it is the empty list.

use core::net::SocketAddr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Invalid, Origin, SettingsError};
use crate::file::Raw;
use crate::key::Key;
use crate::layers::{Settings, shown};
use crate::{nearest, units};

/// All readers: `Missing` when unset without default, `Invalid` when the value does not fit,
/// `SecretUnread` when it waits in a file. All panic on a name that is not in the table of keys.
impl Settings {
    /// The value as text, never empty.
    ///
    /// # Errors
    /// See above; `Invalid` for a list.
    pub fn text(&self, name: &str) -> Result<&str, SettingsError> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    /// The value as text; `None` when unset or empty.
    ///
    /// # Errors
    /// See above; `Invalid` for a list.
    pub fn optional_text(&self, name: &str) -> Result<Option<&str>, SettingsError> {
        match self.raw(name)? {
            None => Ok(None),
            Some(Raw::Text(text)) if text.is_empty() => Ok(None),
            Some(Raw::Text(text)) => Ok(Some(text)),
            Some(Raw::List(_)) => Err(self.invalid(name, "one value, not a list", None)),
        }
    }

    /// Whether the key has a value other than the empty text.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        match self.entry(name) {
            (_, None, origin) => matches!(origin, Origin::SecretFile { .. }),
            (_, Some(Raw::Text(text)), _) => !text.is_empty(),
            (_, Some(Raw::List(_)), _) => true,
        }
    }

    /// A TOML array, or text separated by commas. Blanks around the items and empty items are dropped.
    ///
    /// # Errors
    /// `Missing` when unset; `SecretUnread`.
    pub fn list(&self, name: &str) -> Result<Vec<String>, SettingsError> {
        let clean = |items: &mut dyn Iterator<Item = &str>| {
            let items = items.map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        match self.raw(name)? {
            None => Err(self.missing(name)),
            Some(Raw::Text(text)) => Ok(clean(&mut text.split(','))),
            Some(Raw::List(items)) => Ok(clean(&mut items.iter().map(String::as_str))),
        }
    }

    /// A whole number within `range`, of any integer type: `integer("http.port", 1..=65_535u16)`.
    ///
    /// # Errors
    /// See above; `Invalid` for anything outside the range.
    pub fn integer<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<T, SettingsError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = self.text(name)?.trim().parse().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                self.invalid(name, format!("a whole number from {low} to {high}"), None)
            })
    }

    /// A size in bytes: `4GiB`, `64KiB`, `4096`. 64 bits on every machine; armv7 holds more on disk
    /// than its `usize` counts.
    ///
    /// # Errors
    /// See above.
    pub fn bytes(&self, name: &str) -> Result<u64, SettingsError> {
        units::bytes(self.text(name)?).ok_or_else(|| {
            self.invalid(
                name,
                "a size such as 4GiB, 64KiB or 4096 (whole numbers)",
                None,
            )
        })
    }

    /// A duration: `250ms`, `60s`, `10m`, `24h`, `7d`. A number without a unit is refused.
    ///
    /// # Errors
    /// See above.
    pub fn duration(&self, name: &str) -> Result<Duration, SettingsError> {
        units::duration(self.text(name)?).ok_or_else(|| {
            self.invalid(name, "a duration such as 250ms, 60s, 10m, 24h or 7d", None)
        })
    }

    /// `true`, `yes`, `1` or `false`, `no`, `0`, letters in any case.
    ///
    /// # Errors
    /// See above.
    pub fn flag(&self, name: &str) -> Result<bool, SettingsError> {
        match self.text(name)?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(true),
            "false" | "no" | "0" => Ok(false),
            _ => Err(self.invalid(name, "true or false (yes, no, 1, 0)", None)),
        }
    }

    /// One of `choices`, written exactly.
    ///
    /// # Errors
    /// See above; `Invalid` names the nearest choice.
    pub fn choice(
        &self,
        name: &str,
        choices: &[&'static str],
    ) -> Result<&'static str, SettingsError> {
        let text = self.text(name)?.trim();
        if let Some(choice) = choices.iter().find(|choice| **choice == text) {
            return Ok(choice);
        }
        let expected = format!("one of {}", choices.join(", "));
        let near = nearest::word(text, choices.iter().copied());
        // `nearest` borrows from `choices`, whose items are static: look the static one up again.
        let near = choices.iter().copied().find(|choice| Some(*choice) == near);
        Err(self.invalid(name, expected, near))
    }

    /// A path, as written; whether it exists is for the part that opens it.
    ///
    /// # Errors
    /// See above.
    pub fn path(&self, name: &str) -> Result<PathBuf, SettingsError> {
        self.text(name).map(PathBuf::from)
    }

    /// A path, or `None` when unset or empty.
    ///
    /// # Errors
    /// See above.
    pub fn optional_path(&self, name: &str) -> Result<Option<PathBuf>, SettingsError> {
        Ok(self.optional_text(name)?.map(PathBuf::from))
    }

    /// One address and port to listen on: `127.0.0.1:8080`, `[::]:5027`.
    ///
    /// # Errors
    /// See above; host names are refused, because listening needs an address.
    pub fn socket(&self, name: &str) -> Result<SocketAddr, SettingsError> {
        let parsed = self.text(name)?.trim().parse().ok();
        parsed.ok_or_else(|| self.invalid(name, SOCKET, None))
    }

    /// Addresses and ports to listen on, possibly none.
    ///
    /// # Errors
    /// See above; `Invalid` shows the item that is no address.
    pub fn socket_list(&self, name: &str) -> Result<Vec<SocketAddr>, SettingsError> {
        let items = self.list(name)?;
        let parsed = items.iter().map(|item| {
            let raw = Raw::Text(item.clone());
            item.parse()
                .map_err(|_| self.invalid_with(name, &raw, SOCKET.to_owned(), None))
        });
        parsed.collect()
    }

    fn raw(&self, name: &str) -> Result<Option<&Raw>, SettingsError> {
        match self.entry(name) {
            (key, None, Origin::SecretFile { variable, path }) => {
                Err(SettingsError::SecretUnread {
                    key: key.name,
                    variable: variable.clone(),
                    path: path.clone(),
                })
            }
            (_, raw, _) => Ok(raw),
        }
    }

    fn missing(&self, name: &str) -> SettingsError {
        let (key, _, _) = self.entry(name);
        SettingsError::Missing {
            key: key.name,
            variable: self.variable(key),
            file: self.file().map(str::to_owned),
            help: key.help,
        }
    }

    /// For a part that knows more about a value than its type: says what the key wants instead.
    #[must_use]
    pub fn invalid(
        &self,
        name: &str,
        expected: impl Into<String>,
        nearest: Option<&'static str>,
    ) -> SettingsError {
        let nothing = Raw::Text(String::new());
        let raw = self.entry(name).1.unwrap_or(&nothing);
        self.invalid_with(name, raw, expected.into(), nearest)
    }

    fn invalid_with(
        &self,
        name: &str,
        raw: &Raw,
        expected: String,
        nearest: Option<&'static str>,
    ) -> SettingsError {
        let (key, _, origin) = self.entry(name);
        SettingsError::Invalid(Box::new(Invalid {
            key: key.name,
            variable: self.variable(key),
            origin: origin.clone(),
            expected,
            found: quoted(key, raw),
            nearest,
        }))
    }
}

const SOCKET: &str = "an IP address and a port such as 0.0.0.0:5027 or [::]:5027";

fn quoted(key: &Key, raw: &Raw) -> String {
    match raw {
        Raw::Text(_) => format!("{:?}", shown(key, raw)),
        Raw::List(_) => format!("[{}]", shown(key, raw)),
    }
}
