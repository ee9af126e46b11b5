//! What can be wrong with settings, said so that the reader knows where to type what.
//!
//! Invariant: no variant ever holds the value of a secret key.

use std::fmt;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it and there is no default.
    Unset,
    /// Built into the binary.
    Default,
    /// The settings file.
    File {
        /// The file as it was named to us.
        name: String,
        /// Line of the key, counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Env(String),
    /// The file whose path an environment variable ending in `_FILE` gives.
    SecretFile {
        /// The variable, with its `_FILE`.
        variable: String,
        /// What the variable says.
        path: String,
    },
}

impl Origin {
    /// The same in a sentence: `line 14 of gateway.toml`.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Unset => "nowhere".to_owned(),
            Self::Default => "the built-in default".to_owned(),
            Self::File { name, line } => format!("line {line} of {name}"),
            Self::Env(variable) => format!("environment variable {variable}"),
            Self::SecretFile { variable, path } => format!("file {path}, named by {variable}"),
        }
    }
}

/// The column of `config show --origin`: `file /etc/milepost/gateway.toml:14`.
impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => out.write_str("not set"),
            Self::Default => out.write_str("default"),
            Self::File { name, line } => write!(out, "file {name}:{line}"),
            Self::Env(variable) => write!(out, "env {variable}"),
            Self::SecretFile { variable, path } => write!(out, "env {variable}={path}"),
        }
    }
}

/// One thing in the file or the environment that fits no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value under a name no key has.
    #[error("`{name}` ({}): no such key; {}", .origin.place(), hint(.nearest.as_deref(), .list_with))]
    UnknownKey {
        /// Dotted name as found.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// The key probably meant.
        nearest: Option<String>,
        /// The command that lists the keys.
        list_with: String,
    },
    /// A table no key lives in.
    #[error("`[{name}]` ({}): no such table; {}", .origin.place(), hint(.nearest.as_deref(), .list_with))]
    UnknownTable {
        /// Dotted name as found.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// The table probably meant, in brackets.
        nearest: Option<String>,
        /// The command that lists the keys.
        list_with: String,
    },
    /// A variable that starts like ours and is not.
    #[error("environment variable {variable}: no such key; {}", hint(.nearest.as_deref(), .list_with))]
    UnknownVariable {
        /// The variable as found.
        variable: String,
        /// The variable probably meant.
        nearest: Option<String>,
        /// The command that lists the keys.
        list_with: String,
    },
    /// A table, or a list of lists or tables, stands where a key wants one value.
    #[error("`{name}` ({}): found {found}; write one value: `{name} = …`", .origin.place())]
    WantsValue {
        /// The key.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// What stands there.
        found: &'static str,
    },
    /// A value stands where a table of keys belongs.
    #[error("`{name}` ({}): found {found}; this is a table, write `[{name}]` and its keys below", .origin.place())]
    WantsTable {
        /// The table.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// What stands there.
        found: &'static str,
    },
    /// A secret is given both directly and through a file.
    #[error("{variable} and {variable}_FILE are both set: they name one secret; unset one of them")]
    SetTwice {
        /// The variable without `_FILE`.
        variable: String,
    },
}

fn hint(nearest: Option<&str>, list_with: &str) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("`{list_with}` lists the ones there are"),
    }
}

/// A value that is there but cannot be what its key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The key.
    pub key: &'static str,
    /// Its variable, for the remedy.
    pub variable: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What the key takes.
    pub expected: String,
    /// The value, in quotes; a secret is masked.
    pub found: String,
    /// The choice probably meant.
    pub nearest: Option<&'static str>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "`{}` cannot be {}", self.key, self.found)?;
        writeln!(out, "  where  {}", self.origin.place())?;
        writeln!(out, "  wants  {}", self.expected)?;
        match (self.nearest, &self.origin) {
            (Some(nearest), _) => write!(out, "  do     write \"{nearest}\"?"),
            (None, Origin::Default) => write!(out, "  do     set {}", self.variable),
            (None, _) => write!(out, "  do     correct it there, or set {}", self.variable),
        }
    }
}

/// Why settings could not be read. The caller prints it and exits with 2: nothing was started yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file is not TOML. Correct the file.
    #[error(
        "{file} is not valid TOML\n  where  line {line}, column {column}\n  why    {what}\n  do     correct that line"
    )]
    Syntax {
        /// The file as it was named to us.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What the parser expected.
        what: String,
    },
    /// The file or the environment says things no key understands: all of them, in order of place.
    #[error("{}", lines(.problems))]
    Refused {
        /// Never empty.
        problems: Vec<Problem>,
    },
    /// A key without default that nobody set. Set it.
    #[error("`{key}` is not set\n  what   {help}\n  do     set it in {}, or as {variable}", .file.as_deref().unwrap_or("the settings file"))]
    Missing {
        /// The key.
        key: &'static str,
        /// Its variable.
        variable: String,
        /// The file that was read, if one was.
        file: Option<String>,
        /// What the key is for.
        help: &'static str,
    },
    /// A value that does not fit its key. Correct it where it stands.
    #[error("{0}")]
    Invalid(Box<Invalid>),
    /// A secret that waits in a file: the caller reads it and calls `Settings::resolve_secret`.
    #[error(
        "`{key}` waits in a file that was not read\n  where  {path}, named by {variable}\n  do     make the file readable for this user"
    )]
    SecretUnread {
        /// The key.
        key: &'static str,
        /// The variable that names the file.
        variable: String,
        /// The file.
        path: String,
    },
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
