//! Which of several layers speaks for each key, and how the answer is shown to people.
//!
//! Invariant: each key has exactly one value and one origin after reading; secrets are shown masked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{Origin, Problem, SettingsError};
use crate::file::{self, Raw};
use crate::key::{Key, check_table, variable};
use crate::mask::{MASK, without_password};
use crate::nearest;

/// Every key of one binary with its value and its origin.
#[derive(Clone)]
pub struct Settings {
    keys: &'static [Key],
    env_prefix: String,
    file: Option<String>,
    values: Vec<Value>,
}

/// `raw` is `None` when the key is unset, and while a secret file has not been read.
#[derive(Clone)]
struct Value {
    raw: Option<Raw>,
    origin: Origin,
}

/// One line of `config show --origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Dotted name.
    pub name: &'static str,
    /// The value as it may be shown: secrets masked, URLs without their password, empty when unset.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
    /// What the key is for.
    pub help: &'static str,
}

impl Settings {
    /// Lays the layers over one another: default < file < founding names < `PREFIX__TABLE__KEY`.
    ///
    /// `file` is the name to show and the contents. An empty founding name counts as unset, because
    /// compose files pass `REDIS_URL=${REDIS_URL:-}`; an empty `PREFIX__…` says "empty". For a secret
    /// key each variable may end in `_FILE` and name a file: see [`Settings::secret_files`].
    ///
    /// # Errors
    /// `Syntax` when the file is not TOML; `Refused` with every key, table and `PREFIX__…` variable
    /// that means nothing here.
    ///
    /// # Panics
    /// When `keys` contradict themselves (two keys in one place, a name that is not lower case).
    pub fn read(
        keys: &'static [Key],
        env_prefix: &str,
        file: Option<(&str, &str)>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        check_table(keys);
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let list_with = format!("{} config show", env_prefix.to_ascii_lowercase());
        let mut problems = Vec::new();
        let mut values: Vec<Value> = keys.iter().map(Value::default_of).collect();

        if let Some((name, contents)) = file {
            let read = file::read(keys, &list_with, name, contents)?;
            for (index, raw, origin) in read.values {
                values[index] = Value {
                    raw: Some(raw),
                    origin,
                };
            }
            problems.extend(read.problems);
        }

        let mut known = BTreeSet::new();
        for (key, value) in keys.iter().zip(&mut values) {
            let own = key.variable(env_prefix);
            let aliases = key.env_aliases.iter().rev().map(|alias| (*alias, false));
            for (name, may_be_empty) in aliases.chain([(own.as_str(), true)]) {
                match Value::from_env(key, name, may_be_empty, &env) {
                    Ok(Some(found)) => *value = found,
                    Ok(None) => {}
                    Err(problem) => problems.push(problem),
                }
                known.insert(name.to_owned());
                if key.secret {
                    known.insert(format!("{name}_FILE"));
                }
            }
        }

        let ours = format!("{env_prefix}__");
        for found in env.keys().filter(|name| name.starts_with(&ours)) {
            if !known.contains(found) {
                let name = found[ours.len()..].replace("__", ".").to_ascii_lowercase();
                problems.push(Problem::UnknownVariable {
                    variable: found.clone(),
                    nearest: nearest::key(&name, keys).map(|name| variable(env_prefix, name)),
                    list_with: list_with.clone(),
                });
            }
        }

        if !problems.is_empty() {
            return Err(SettingsError::Refused { problems });
        }
        Ok(Self {
            keys,
            env_prefix: env_prefix.to_owned(),
            file: file.map(|(name, _)| name.to_owned()),
            values,
        })
    }

    /// The secrets that wait in files, as key and path. Reading files is I/O and so the caller's part:
    /// hand each content back through [`Settings::resolve_secret`] before the first typed reading.
    pub fn secret_files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = self.keys.iter().zip(&self.values);
        pairs.filter_map(|(key, value)| match (&value.raw, &value.origin) {
            (None, Origin::SecretFile { path, .. }) => Some((key.name, path.as_str())),
            _ => None,
        })
    }

    /// Gives a waiting secret the contents of its file, without the line end editors leave there.
    ///
    /// # Panics
    /// When `name` did not come from [`Settings::secret_files`].
    pub fn resolve_secret(&mut self, name: &str, contents: &str) {
        let index = self.index(name);
        let value = &mut self.values[index];
        assert!(
            matches!(value.origin, Origin::SecretFile { .. }),
            "`{name}` does not wait in a file"
        );
        let line = contents.strip_suffix('\n').unwrap_or(contents);
        let line = line.strip_suffix('\r').unwrap_or(line);
        value.raw = Some(Raw::Text(line.to_owned()));
    }

    /// Who set this key.
    ///
    /// # Panics
    /// When `name` is not in the table of keys.
    #[must_use]
    pub fn origin(&self, name: &str) -> &Origin {
        &self.values[self.index(name)].origin
    }

    /// Every key in the order of the table, fit to be shown.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let pairs = self.keys.iter().zip(&self.values);
        pairs
            .map(|(key, value)| Row {
                name: key.name,
                value: value
                    .raw
                    .as_ref()
                    .map_or_else(String::new, |raw| shown(key, raw)),
                origin: value.origin.clone(),
                help: key.help,
            })
            .collect()
    }

    /// Key, raw value and origin, for the typed readers.
    pub(crate) fn entry(&self, name: &str) -> (&'static Key, Option<&Raw>, &Origin) {
        let index = self.index(name);
        let value = &self.values[index];
        (&self.keys[index], value.raw.as_ref(), &value.origin)
    }

    pub(crate) fn variable(&self, key: &Key) -> String {
        key.variable(&self.env_prefix)
    }

    pub(crate) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn index(&self, name: &str) -> usize {
        let Some(index) = self.keys.iter().position(|key| key.name == name) else {
            panic!("the code asks for `{name}`, which is not in its table of keys");
        };
        index
    }
}

/// Masked like [`Settings::rows`]: settings end up in logs.
impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        out.debug_map()
            .entries(rows.iter().map(|row| (row.name, &row.value)))
            .finish()
    }
}

impl Value {
    fn default_of(key: &Key) -> Self {
        match key.default {
            Some(text) => Self {
                raw: Some(Raw::Text(text.to_owned())),
                origin: Origin::Default,
            },
            None => Self {
                raw: None,
                origin: Origin::Unset,
            },
        }
    }

    fn from_env(
        key: &Key,
        name: &str,
        may_be_empty: bool,
        env: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Problem> {
        let set = |name: &str| {
            env.get(name)
                .filter(|text| may_be_empty || !text.is_empty())
        };
        let file_variable = format!("{name}_FILE");
        let in_file = env
            .get(&file_variable)
            .filter(|path| key.secret && !path.is_empty());
        match (set(name), in_file) {
            (Some(_), Some(_)) => Err(Problem::SetTwice {
                variable: name.to_owned(),
            }),
            (Some(text), None) => Ok(Some(Self {
                raw: Some(Raw::Text(text.clone())),
                origin: Origin::Env(name.to_owned()),
            })),
            (None, Some(path)) => Ok(Some(Self {
                raw: None,
                origin: Origin::SecretFile {
                    variable: file_variable,
                    path: path.clone(),
                },
            })),
            (None, None) => Ok(None),
        }
    }
}

/// A secret that is a URL keeps what is not secret: where it points is what people look for.
pub(crate) fn shown(key: &Key, raw: &Raw) -> String {
    let one = |text: &str| match text {
        "" => String::new(),
        url if url.contains("://") => without_password(url),
        _ if key.secret => MASK.to_owned(),
        text => text.to_owned(),
    };
    match raw {
        Raw::Text(text) => one(text),
        Raw::List(items) => {
            let items: Vec<String> = items.iter().map(|item| one(item)).collect();
            items.join(", ")
        }
    }
}
