//! What a payload holds. One line of `TABLE` is all that a kind needs here.
//!
//! Why one table: the number stands on the gateway's disk and in the table `frames`, the word in the
//! stream entry, the vendor in the stream's name and in `devices`. Written down apart they drift.
//!
//! Invariants: number, word and vendor of a released kind never change; every number and every word
//! is a kind, so that what a later version wrote goes on unread instead of being taken for something
//! else.

/// What a payload holds; the decoder is chosen by this and never guessed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Teltonika data fields as received.
    Teltonika,
    /// Positions from an API or a file: see [`crate::position`].
    Position,
    /// Sentences of NMEA 0183 as received, one a line.
    Nmea,
    /// A kind of a later version, by its word.
    Other(String),
}

/// A kind, its number, its word, and the vendor in whose stream it travels.
static TABLE: [(Kind, u8, &str, &str); 3] = [
    (Kind::Teltonika, 0, "teltonika", "teltonika"),
    (Kind::Position, 1, "position", "http"),
    (Kind::Nmea, 2, "nmea", "nmea"),
];

/// How the word of a kind begins of which only the number is known.
const BY_NUMBER: &str = "kind-";

impl Kind {
    /// Every kind this build knows, by number.
    pub fn known() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|line| line.0.clone())
    }

    /// The kind of a vendor's devices; of an unknown vendor its name.
    #[must_use]
    pub fn of_vendor(vendor: &str) -> Self {
        match TABLE.iter().find(|line| line.3 == vendor) {
            Some(line) => line.0.clone(),
            None => Self::Other(vendor.to_owned()),
        }
    }

    fn line(&self) -> Option<&'static (Self, u8, &'static str, &'static str)> {
        TABLE.iter().find(|line| line.0 == *self)
    }

    /// The word on the wire (field `k`).
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => known.line().map_or("", |line| line.2),
        }
    }

    /// Reads the word on the wire. A gateway names a kind that it does not know by its number, as
    /// `kind-7`: whoever knows the number knows the kind.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let by_word = TABLE.iter().find(|line| line.2 == word);
        let by_number = || {
            let number: u8 = word.strip_prefix(BY_NUMBER)?.parse().ok()?;
            TABLE.iter().find(|line| line.1 == number)
        };
        match by_word.or_else(by_number) {
            Some(line) => line.0.clone(),
            None => Self::Other(word.to_owned()),
        }
    }

    /// The number in the spool and in the tables. `None`: only its word is known.
    #[must_use]
    pub fn as_u8(&self) -> Option<u8> {
        match self {
            Self::Other(word) => word.strip_prefix(BY_NUMBER)?.parse().ok(),
            known => known.line().map(|line| line.1),
        }
    }

    /// Reads the number; an unknown one is kept.
    #[must_use]
    pub fn from_u8(number: u8) -> Self {
        match TABLE.iter().find(|line| line.1 == number) {
            Some(line) => line.0.clone(),
            None => Self::Other(format!("{BY_NUMBER}{number}")),
        }
    }

    /// Whose devices speak so: the second word of the stream's name and `devices.vendor`. That of
    /// an unknown kind is its word.
    #[must_use]
    pub fn vendor(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => known.line().map_or("", |line| line.3),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_frozen() {
        let lines: Vec<_> = Kind::known()
            .map(|kind| {
                let (word, vendor) = (kind.as_str().to_owned(), kind.vendor().to_owned());
                (kind.as_u8(), word, vendor)
            })
            .collect();
        let line = |byte, word: &str, vendor: &str| (Some(byte), word.into(), vendor.into());
        assert_eq!(
            lines,
            [
                line(0, "teltonika", "teltonika"),
                line(1, "position", "http"),
                line(2, "nmea", "nmea")
            ]
        );
    }

    #[test]
    fn every_kind_stands_in_the_table_once() {
        let mut seen = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (kind, byte, word, vendor) in &TABLE {
            assert!(seen.0.insert(byte) && seen.1.insert(word) && seen.2.insert(vendor));
            assert!(!matches!(kind, Kind::Other(_)));
            assert_eq!(Kind::of_vendor(vendor), *kind);
            assert!(!word.starts_with(BY_NUMBER), "{word}");
            // A vendor is the second word of a stream's name, and a shard is its third.
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(word.chars().chain(vendor.chars()).all(plain));
        }
    }

    #[test]
    fn every_number_and_every_word_is_a_kind_and_stays_it() {
        for byte in 0..=u8::MAX {
            let kind = Kind::from_u8(byte);
            assert_eq!(kind.as_u8(), Some(byte));
            assert_eq!(Kind::from_word(kind.as_str()), kind);
            assert_eq!(
                Kind::from_word(&format!("kind-{byte}")),
                kind,
                "a newer reader knows it by its number"
            );
        }
        for word in ["", "kind-", "kind-256", "kind-x", "Teltonika", "gtfs"] {
            let kind = Kind::from_word(word);
            assert_eq!((kind.as_str(), kind.as_u8()), (word, None));
            assert_eq!(kind.vendor(), word);
        }
    }
}
