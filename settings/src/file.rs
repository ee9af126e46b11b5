//! From the text of a TOML file to plain values with line numbers, and what in it fits no key.
//!
//! Invariant: every leaf of the file becomes either a value or a problem; none is skipped.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Origin, Problem, SettingsError};
use crate::key::{Key, is_table};
use crate::nearest;

/// What was written, before anyone asks what it means.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    /// One value; numbers and booleans as their text.
    Text(String),
    /// A TOML array of plain values.
    List(Vec<String>),
}

/// Values by index into the table of keys, and the problems in order of line.
pub(crate) struct FileValues {
    pub(crate) values: Vec<(usize, Raw, Origin)>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads `contents` against `keys`.
///
/// # Errors
/// `SettingsError::Syntax` when it is not TOML. Everything else wrong is a problem in the result.
pub(crate) fn read(
    keys: &'static [Key],
    list_with: &str,
    name: &str,
    contents: &str,
) -> Result<FileValues, SettingsError> {
    let root = DeTable::parse(contents).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = line_and_column(contents, at);
        SettingsError::Syntax {
            file: name.to_owned(),
            line,
            column,
            what: error.message().trim().replace('\n', ", "),
        }
    })?;
    let mut walk = Walk {
        keys,
        list_with,
        name,
        contents,
        values: Vec::new(),
        problems: Vec::new(),
    };
    walk.table("", root.get_ref());
    // The parser hands tables out by name; people read files by line.
    walk.problems.sort_by_key(|(line, _)| *line);
    Ok(FileValues {
        values: walk.values,
        problems: walk.problems.into_iter().map(|(_, p)| p).collect(),
    })
}

struct Walk<'a> {
    keys: &'static [Key],
    list_with: &'a str,
    name: &'a str,
    contents: &'a str,
    values: Vec<(usize, Raw, Origin)>,
    problems: Vec<(usize, Problem)>,
}

impl Walk<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let line = line_and_column(self.contents, key.span().start).0;
            let level = key.get_ref().as_ref();
            // A quoted "a.b" is one level to TOML; joined plainly it would pass for two.
            let level = if level.contains('.') {
                format!("\"{level}\"")
            } else {
                level.to_owned()
            };
            let name = match path {
                "" => level,
                _ => format!("{path}.{level}"),
            };
            self.entry(name, line, value);
        }
    }

    fn entry(&mut self, name: String, line: usize, value: &Spanned<DeValue<'_>>) {
        let origin = Origin::File {
            name: self.name.to_owned(),
            line,
        };
        let value = value.get_ref();
        let problem = match (self.keys.iter().position(|key| key.name == name), value) {
            (Some(index), value) => match raw(value) {
                Ok(raw) => {
                    self.values.push((index, raw, origin));
                    return;
                }
                Err(found) => Problem::WantsValue {
                    name,
                    origin,
                    found,
                },
            },
            (None, DeValue::Table(table)) if is_table(self.keys, &name) => {
                self.table(&name, table);
                return;
            }
            (None, DeValue::Table(_)) => Problem::UnknownTable {
                nearest: nearest::table(&name, self.keys).map(|table| format!("[{table}]")),
                name,
                origin,
                list_with: self.list_with.to_owned(),
            },
            (None, value) if is_table(self.keys, &name) => Problem::WantsTable {
                name,
                origin,
                found: kind(value),
            },
            (None, _) => Problem::UnknownKey {
                nearest: nearest::key(&name.replace('"', ""), self.keys).map(str::to_owned),
                name,
                origin,
                list_with: self.list_with.to_owned(),
            },
        };
        self.problems.push((line, problem));
    }
}

fn raw(value: &DeValue<'_>) -> Result<Raw, &'static str> {
    match value {
        DeValue::Array(items) => items
            .iter()
            .map(|item| plain(item.get_ref()).ok_or("a list of lists or tables"))
            .collect::<Result<_, _>>()
            .map(Raw::List),
        value => plain(value).map(Raw::Text).ok_or("a table"),
    }
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // 0x10 and 1_000 are TOML's ways to write a number; a reader wants the number. What does not
        // fit 128 bits stays as written, for its typed reader to refuse.
        DeValue::Integer(number) => Some(
            i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        _ => "a single value",
    }
}

/// Both from 1; the column in characters. `at` may lie behind the end.
fn line_and_column(contents: &str, at: usize) -> (usize, usize) {
    let before = &contents.as_bytes()[..at.min(contents.len())];
    let line_start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1);
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = 1 + String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count();
    (line, column)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let text = "a\nüb\n\nc";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 1), (1, 2));
        assert_eq!(line_and_column(text, 2), (2, 1));
        assert_eq!(line_and_column(text, 4), (2, 2));
        assert_eq!(line_and_column(text, 6), (3, 1));
        assert_eq!(line_and_column(text, 7), (4, 1));
        assert_eq!(line_and_column(text, 99), (4, 2));
        assert_eq!(line_and_column("", 0), (1, 1));
    }
}
