//! What a binary declares about each setting, so that reading, help and suggestions share one table.
//!
//! Invariant: a table that passed [`check_table`] has unique names, and no name is both a value and
//! a table of values.

/// One setting a binary understands. Binaries hold them in a `static` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Dotted lower-case name as in the file, at least one level: `uplink.url`.
    pub name: &'static str,
    /// Environment names from the founding documents, first one set wins: `REDIS_URL`.
    pub env_aliases: &'static [&'static str],
    /// What holds when nobody says anything, written as an operator would write it.
    pub default: Option<&'static str>,
    /// Never shown; may also come from a file named by `…_FILE`.
    pub secret: bool,
    /// One sentence for the operator.
    pub help: &'static str,
}

impl Key {
    /// A key without default, founding names or secrecy.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            env_aliases: &[],
            default: None,
            secret: false,
            help,
        }
    }

    /// Adds the founding documents' environment names.
    #[must_use]
    pub const fn aliases(mut self, env_aliases: &'static [&'static str]) -> Self {
        self.env_aliases = env_aliases;
        self
    }

    /// Adds the built-in value.
    #[must_use]
    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Marks the value as one that is never shown.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The environment variable of this key: `GATEWAY__UPLINK__URL` for `uplink.url`.
    #[must_use]
    pub fn variable(&self, env_prefix: &str) -> String {
        variable(env_prefix, self.name)
    }
}

/// Two underscores stand between levels, so that one inside a level can stay.
pub(crate) fn variable(env_prefix: &str, name: &str) -> String {
    format!(
        "{env_prefix}__{}",
        name.replace('.', "__").to_ascii_uppercase()
    )
}

/// Whether `path` is a table that holds keys.
pub(crate) fn is_table(keys: &[Key], path: &str) -> bool {
    keys.iter()
        .any(|key| is_inside(key.name, path) && key.name != path)
}

fn is_inside(name: &str, table: &str) -> bool {
    name.strip_prefix(table)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses a table of keys that could not be read unambiguously: that is our bug, not the operator's.
pub(crate) fn check_table(keys: &[Key]) {
    for (index, key) in keys.iter().enumerate() {
        let well_formed = key.name.split('.').all(|level| {
            !level.is_empty()
                && !level.starts_with('_')
                && !level.ends_with('_')
                && !level.contains("__")
                && level
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
        assert!(
            well_formed,
            "key `{}` is not a dotted lower-case name",
            key.name
        );
        for other in &keys[..index] {
            assert!(
                !is_inside(key.name, other.name) && !is_inside(other.name, key.name),
                "keys `{}` and `{}` claim the same place",
                other.name,
                key.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_keep_single_underscores_inside_a_level() {
        assert_eq!(
            Key::new("spool.bytes_max", "").variable("GATEWAY"),
            "GATEWAY__SPOOL__BYTES_MAX"
        );
    }

    #[test]
    fn a_name_is_inside_its_tables_only() {
        let keys = [Key::new("a.b.c", ""), Key::new("ab.c", "")];
        for table in ["a", "a.b", "ab"] {
            assert!(is_table(&keys, table), "{table}");
        }
        for not in ["a.b.c", "b", "a.", "", "abc"] {
            assert!(!is_table(&keys, not), "{not}");
        }
    }

    #[test]
    fn tables_that_contradict_themselves_are_bugs() {
        let bad: [&[&str]; 8] = [
            &["a.b", "a.b"],
            &["a", "a.b"],
            &["a.b.c", "a.b"],
            &[""],
            &["a..b"],
            &["a.B"],
            &["a__b"],
            &["a_.b"],
        ];
        for names in bad {
            let keys: Vec<Key> = names.iter().map(|name| Key::new(name, "")).collect();
            assert!(
                std::panic::catch_unwind(|| check_table(&keys)).is_err(),
                "{names:?}"
            );
        }
        check_table(&[
            Key::new("a.b", ""),
            Key::new("a.bc", ""),
            Key::new("ab.x_1", ""),
        ]);
    }
}
