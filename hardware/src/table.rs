//! Pure: no I/O, no clock.
//!
//! From the text of a TOML file to the fields of a profile, one by one and by hand.
//!
//! Why not derived: the code that serde makes for these few structs is larger than everything else
//! in this crate, and a box's binary has a limit. `settings` reads its file the same way.
//!
//! Invariant: a key that nobody asked for is an error, at every level.

use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What in a file is not as it should be. Correct that line.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// In words.
    pub what: String,
}

/// One table, and which of its keys were asked for.
pub(crate) struct Fields<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    /// Where it begins.
    at: usize,
    asked: Vec<&'static str>,
}

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// Reads a whole file.
pub(crate) fn parse<T>(
    text: &str,
    read: impl FnOnce(&mut Fields<'_>) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(text, at, error.message().trim().replace('\n', ", "))
    })?;
    within(text, root.get_ref(), 0, read)
}

fn within<'a, T>(
    text: &'a str,
    table: &'a DeTable<'a>,
    at: usize,
    read: impl FnOnce(&mut Fields<'a>) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    let mut fields = Fields {
        text,
        table,
        at,
        asked: Vec::new(),
    };
    let read = read(&mut fields)?;
    for key in table.keys() {
        if !fields.asked.iter().any(|asked| key.get_ref() == asked) {
            let what = format!(
                "unknown key `{}`, expected {}",
                key.get_ref(),
                fields.asked.join(", ")
            );
            return Err(wrong(text, key.span().start, what));
        }
    }
    Ok(read)
}

fn wrong(text: &str, at: usize, what: String) -> Wrong {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    Wrong { line, what }
}

/// `11`, `-0.25`. By hand as well: the tables for every number there is are as large as this crate.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |digits: &str| {
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=15).contains(&digits.len()) && are_digits;
        let number: Option<u64> = fits.then(|| digits.parse().ok()).flatten();
        // 15 digits are exact.
        number.map(|number| number as f64)
    };
    let mut below = plain(fraction)?;
    for _ in 0..fraction.len() {
        below /= 10.0;
    }
    Some(sign * (plain(whole)? + below))
}

impl<'a> Fields<'a> {
    fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let mut fields = self.table.iter();
        let found = fields.find(|(known, _)| known.get_ref() == key);
        found.map(|(_, value)| value)
    }

    fn expected(&self, key: &str, value: Value<'_>, expected: &str) -> Wrong {
        let what = format!("`{key}` is {expected}");
        wrong(self.text, value.span().start, what)
    }

    /// One of several keys is missing.
    pub(crate) fn missing(&self, key: &str) -> Wrong {
        wrong(self.text, self.at, format!("`{key}` is missing"))
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>, Wrong> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.get_ref() {
                DeValue::String(text) => Ok(Some(text.to_string())),
                _ => Err(self.expected(key, value, "a text")),
            },
        }
    }

    /// A text that must be there.
    pub(crate) fn needs_text(&mut self, key: &'static str) -> Result<String, Wrong> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Wrong> {
        let Some(value) = self.value(key) else {
            return Err(self.missing(key));
        };
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.expected(key, value, "a list of texts"));
        };
        let texts = array.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.expected(key, item, "a list of texts")),
        });
        texts.collect()
    }

    pub(crate) fn integer(&mut self, key: &'static str) -> Result<Option<u64>, Wrong> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.expected(key, value, "a whole number from 0")),
        }
    }

    pub(crate) fn number(&mut self, key: &'static str) -> Result<Option<f64>, Wrong> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            DeValue::Integer(number) => decimal(number.as_str()),
            DeValue::Float(number) => decimal(number.as_str()),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.expected(key, value, "a plain number such as 11 or 0.5")),
        }
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool, Wrong> {
        match self.value(key) {
            None => Ok(false),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Ok(*flag),
                _ => Err(self.expected(key, value, "true or false")),
            },
        }
    }

    /// A table of its own.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Table(table) => within(self.text, table, value.span().start, read).map(Some),
            _ => Err(self.expected(key, value, "a table")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_read_and_nothing_else() {
        for (text, number) in [
            ("11", Some(11.0)),
            ("-48250", Some(-48_250.0)),
            ("0.5", Some(0.5)),
            ("-0.25", Some(-0.25)),
            ("11.0", Some(11.0)),
        ] {
            assert_eq!(decimal(text), number, "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "nan",
            "inf",
            "+1",
            "1 ",
            "--1",
            "1.-2",
            "1234567890123456",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
