//! Pure: no I/O, no clock.
//!
//! Who may post by the file of tokens, how much, into which lanes. How such a file is read stands in
//! [`settings::TokenBook`].

use contract::Lane;
use ring::digest::{SHA256, digest};
use settings::{Holder, TokenHash, TokenLineError};

/// Everybody who may post.
pub type TokenBook = settings::TokenBook<Source>;

/// Somebody who may post.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// As the file calls it; stands in the log.
    pub name: String,
    /// Requests a second in the long run.
    pub requests_per_s: Option<f64>,
    /// Positions a second in the long run.
    pub positions_per_s: Option<f64>,
    /// Largest body; at most `ingest.body_bytes_max` counts.
    pub body_bytes_max: Option<usize>,
    /// High, normal, bulk: where it may post.
    pub lanes: [bool; 3],
}

impl Source {
    /// Without limits, for a door without tokens.
    #[must_use]
    pub fn anybody() -> Self {
        Self {
            name: "anybody".to_owned(),
            requests_per_s: None,
            positions_per_s: None,
            body_bytes_max: None,
            lanes: [true; 3],
        }
    }

    /// May it post there?
    #[must_use]
    pub fn may(&self, lane: Lane) -> bool {
        self.lanes[usize::from(lane.as_u8()) - 1]
    }
}

impl Holder for Source {
    const WORDS: &'static str = "limits are requests_per_s=, positions_per_s= (above 0), body_bytes_max= (a size), lanes= (high,normal,bulk)";

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::anybody()
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        let rate = || {
            let rate = value.parse::<f64>().ok()?;
            (rate.is_finite() && rate > 0.0).then_some(Some(rate))
        };
        match key {
            "requests_per_s" => self.requests_per_s = rate()?,
            "positions_per_s" => self.positions_per_s = rate()?,
            "body_bytes_max" => {
                let bytes = settings::bytes(value).and_then(|bytes| usize::try_from(bytes).ok());
                self.body_bytes_max = Some(bytes?);
            }
            "lanes" => {
                self.lanes = [false; 3];
                for word in value.split(',') {
                    let lane = Lane::ALL
                        .into_iter()
                        .position(|lane| lane.as_str() == word)?;
                    self.lanes[lane] = true;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Reads the file: a source on each line.
/// # Errors
/// [`TokenLineError`]: the first line that cannot be used.
pub fn parse(text: &str) -> Result<TokenBook, TokenLineError> {
    TokenBook::parse(text, hash)
}

/// SHA-256 of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use settings::LineFault;

    /// SHA-256 of `abc`: FIPS 180-4, example 1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_of_sources() {
        let text = format!(
            "# who may post\n\nphones plain:0123456789#abcdef  # the app\n\
             api sha256:{ABC} requests_per_s=10 positions_per_s=0.5 body_bytes_max=64KiB lanes=normal,bulk\n"
        );
        let book = parse(&text).unwrap();
        assert_eq!((book.count(), book.has_plain()), (2, true));
        assert_eq!(
            book.find(&hash("0123456789#abcdef")).unwrap().name,
            "phones"
        );
        assert!(book.find(&hash("0123456789#abcdeF")).is_none());
        let api = book.find(&hash("abc")).unwrap();
        assert_eq!(api.body_bytes_max, Some(65_536));
        assert_eq!(
            (api.requests_per_s, api.positions_per_s),
            (Some(10.0), Some(0.5))
        );
        assert_eq!(Lane::ALL.map(|lane| api.may(lane)), [false, true, true]);
        assert_eq!(Lane::ALL.map(|lane| Source::anybody().may(lane)), [true; 3]);
    }

    #[test]
    fn one_bad_line_is_named_and_says_no_token() {
        let good = "phones plain:0123456789abcdef";
        let limit = |word: &str| LineFault::Word {
            word: word.to_owned(),
            expected: Source::WORDS,
        };
        for (line, what) in [
            ("phones", LineFault::Parts),
            ("a/b plain:0123456789abcdef", LineFault::Name),
            ("a 0123456789abcdef", LineFault::Token),
            ("a plain:short", LineFault::Token),
            ("a sha256:0123", LineFault::Token),
            ("a plain:0123456789abcdeX rate=1", limit("rate=1")),
            (
                "a plain:0123456789abcdeX requests_per_s=0",
                limit("requests_per_s=0"),
            ),
            ("a plain:0123456789abcdeX lanes=", limit("lanes=")),
            ("phones plain:0123456789abcdeX", LineFault::Twice(1)),
            ("again plain:0123456789abcdef", LineFault::Twice(1)),
        ] {
            let error = parse(&format!("{good}\n{line}\n")).unwrap_err();
            assert_eq!(error, TokenLineError { line: 2, what }, "{line}");
            assert!(!error.to_string().contains("0123456789"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[ -~\\n\u{e9}]{0,200}") {
            let _ = parse(&text);
        }
    }
}
