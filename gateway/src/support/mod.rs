//! What somebody far away needs to help: facts, and nothing that must not travel.
//!
//! Invariants: settings are masked by the crate that reads them and variables named without their
//! values; an IMEI is shortened in every text unless it was asked for whole; no frame, no key, no
//! list of IMEIs.

pub mod machine;

use serde_json::{Value, json};
use settings::{Row, Settings};

/// Every setting as it may be shown, with its origin.
#[must_use]
pub fn settings(rows: &[Row]) -> Value {
    let shown = rows.iter().map(|row| {
        let origin = row.origin.to_string();
        json!({ "key": row.name, "value": row.value, "origin": origin })
    });
    Value::Array(shown.collect())
}

/// As [`settings()`], of settings just read.
#[must_use]
pub fn of_settings(read: &Settings) -> Value {
    settings(&read.rows())
}

/// The text with every IMEI in it shortened: fifteen digits between signs that make no number or
/// word of them.
#[must_use]
pub fn shortened(text: &str) -> String {
    const DIGITS: usize = 15;
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    // What stands before `rest`; a fraction is no IMEI, nor is the middle of a word.
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let is_joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '.');
        let after = rest[length..].chars().next();
        let ends = !after.is_some_and(char::is_alphanumeric);
        if length == DIGITS && !is_joined(before) && ends {
            short.push_str(&rest[..5]);
            short.push('…');
            short.push_str(&rest[12..DIGITS]);
        } else if length > 0 {
            short.push_str(&rest[..length]);
        } else {
            short.push(first);
        }
        let step = length.max(if length > 0 { 0 } else { first.len_utf8() });
        before = rest[..step].chars().next_back();
        rest = &rest[step..];
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imeis_are_shortened_and_nothing_else() {
        for (text, short) in [
            ("356307042441013", "35630…013"),
            ("\"356307042441013\",", "\"35630…013\","),
            (
                "imei=356307042441013 356307042441021!",
                "imei=35630…013 35630…021!",
            ),
            ("!356307042441013\n356307042441021", "!35630…013\n35630…021"),
            ("registry/356307042441013.", "registry/35630…013."),
            ("3563070424410133", "3563070424410133"),
            ("35630704244101", "35630704244101"),
            ("0.356307042441013", "0.356307042441013"),
            ("a356307042441013", "a356307042441013"),
            ("356307042441013f", "356307042441013f"),
            ("€ 12 … 356307042441013 €", "€ 12 … 35630…013 €"),
            ("", ""),
        ] {
            assert_eq!(shortened(text), short);
        }
    }
}
