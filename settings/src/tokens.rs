//! A file of tokens: who may come in, and what each of them may do.
//!
//! Why hashes: whoever reads a copy of the file, in a backup or a support file, can do nothing with it.
//! A token has to be random, then its SHA-256 tells nothing about it, and comparing hashes takes as
//! long for a near miss as for any other. Each program brings the SHA-256 that it links anyway.
//!
//! Invariant: a file with one bad line is refused as a whole, so that nobody is let in or kept out by
//! half of it.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// Computes the SHA-256 of a token.
pub type Hasher = fn(&str) -> TokenHash;

/// Shortest token that is taken as it is, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Before the hash of a token.
pub const HASHED: &str = "sha256:";

/// Before a token that stands in the file as it is.
pub const PLAIN: &str = "plain:";

/// Longest name of a holder, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Somebody with a token, and what the words behind it say.
pub trait Holder: Sized {
    /// What a refused word is told to be instead.
    const WORDS: &'static str;

    /// Without further words.
    fn named(name: &str) -> Self;

    /// Takes the word `key=value`. `None`: there is no such word, or no such value.
    fn take(&mut self, key: &str, value: &str) -> Option<()>;
}

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct TokenLineError {
    /// From 1.
    pub line: usize,
    /// What, without the token.
    pub what: LineFault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LineFault {
    /// Add what is missing.
    #[error("a line is NAME TOKEN [WORD=VALUE …]")]
    Parts,
    /// Take another name.
    #[error("a name has 1 to 64 letters, digits, '.', '_' or '-'")]
    Name,
    /// Make a new token.
    #[error(
        "a token is sha256: and 64 hexadecimal digits, or plain: and at least {TOKEN_BYTES_MIN} bytes"
    )]
    Token,
    /// Correct the word.
    #[error("{word}: {expected}")]
    Word {
        /// As it stands there.
        word: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// Leave one of them out.
    #[error("the name or the token of line {0} again")]
    Twice(usize),
}

/// Everybody with a token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBook<H> {
    holders: HashMap<TokenHash, Arc<H>>,
    has_plain: bool,
}

impl<H> Default for TokenBook<H> {
    fn default() -> Self {
        Self {
            holders: HashMap::new(),
            has_plain: false,
        }
    }
}

impl<H: Holder> TokenBook<H> {
    /// Reads the file: a holder on each line, notes behind `#` at the beginning or behind a space.
    /// # Errors
    /// [`TokenLineError`]: the first line that cannot be used.
    pub fn parse(text: &str, hash: Hasher) -> Result<Self, TokenLineError> {
        let mut book = Self::default();
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut lines: HashMap<TokenHash, usize> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            let words = without_note(line);
            if words.trim().is_empty() {
                continue;
            }
            let wrong = |what| TokenLineError { line: number, what };
            let (name, hash, is_plain, holder) = of_line(words, hash).map_err(wrong)?;
            let first = names.insert(name, number);
            if let Some(first) = first.or(lines.insert(hash, number)) {
                return Err(wrong(LineFault::Twice(first)));
            }
            book.has_plain |= is_plain;
            book.holders.insert(hash, Arc::new(holder));
        }
        Ok(book)
    }

    /// Whose token has this hash?
    #[must_use]
    pub fn find(&self, hash: &TokenHash) -> Option<Arc<H>> {
        self.holders.get(hash).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.holders.len()
    }

    /// Does a token stand in it as it is, so that the file is a secret?
    #[must_use]
    pub fn has_plain(&self) -> bool {
        self.has_plain
    }
}

/// Is it a name of a holder?
#[must_use]
pub fn is_token_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain)
}

/// A plain token may have a `#` inside.
fn without_note(line: &str) -> &str {
    let begins = |at: &usize| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(char::is_whitespace)
    };
    let mut marks = line.match_indices('#').map(|(at, _)| at);
    marks.find(begins).map_or(line, |at| &line[..at])
}

fn of_line<H: Holder>(
    words: &str,
    hasher: Hasher,
) -> Result<(String, TokenHash, bool, H), LineFault> {
    let mut words = words.split_whitespace();
    let (Some(name), Some(token)) = (words.next(), words.next()) else {
        return Err(LineFault::Parts);
    };
    if !is_token_name(name) {
        return Err(LineFault::Name);
    }
    let (hash, is_plain) = of_token(token, hasher).ok_or(LineFault::Token)?;
    let mut holder = H::named(name);
    for word in words {
        let taken = word
            .split_once('=')
            .and_then(|(key, value)| holder.take(key, value));
        taken.ok_or_else(|| LineFault::Word {
            word: word.to_owned(),
            expected: H::WORDS,
        })?;
    }
    Ok((name.to_owned(), hash, is_plain, holder))
}

fn of_token(word: &str, hasher: Hasher) -> Option<(TokenHash, bool)> {
    if let Some(token) = word.strip_prefix(PLAIN) {
        return (token.len() >= TOKEN_BYTES_MIN).then(|| (hasher(token), true));
    }
    let digits = word.strip_prefix(HASHED)?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut found = TokenHash::default();
    for (at, byte) in found.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some((found, false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Guest {
        name: String,
        may_dance: bool,
    }

    impl Holder for Guest {
        const WORDS: &'static str = "words are dance=yes|no";

        fn named(name: &str) -> Self {
            Self {
                name: name.to_owned(),
                may_dance: false,
            }
        }

        fn take(&mut self, key: &str, value: &str) -> Option<()> {
            self.may_dance = match (key, value) {
                ("dance", "yes") => true,
                ("dance", "no") => false,
                _ => return None,
            };
            Some(())
        }
    }

    /// Different for different tokens, which is all that counts here.
    fn first_bytes(token: &str) -> TokenHash {
        let mut hash = TokenHash::default();
        for (to, from) in hash.iter_mut().zip(token.bytes()) {
            *to = from;
        }
        hash
    }

    #[test]
    fn a_file_of_guests() {
        let hexadecimal = "61".repeat(32);
        let text = format!(
            "# who may come\n\nann plain:0123456789abcdef  # a friend\nbob sha256:{hexadecimal} dance=yes\n"
        );
        let book = TokenBook::<Guest>::parse(&text, first_bytes).unwrap();
        assert_eq!((book.count(), book.has_plain()), (2, true));
        let ann = book.find(&first_bytes("0123456789abcdef")).unwrap();
        assert_eq!((ann.name.as_str(), ann.may_dance), ("ann", false));
        assert!(book.find(&[0x61; 32]).unwrap().may_dance);
        assert!(book.find(&[0x62; 32]).is_none());
    }

    #[test]
    fn a_bad_line_is_named_and_its_token_is_not() {
        let word = |word: &str| LineFault::Word {
            word: word.to_owned(),
            expected: Guest::WORDS,
        };
        for (line, what) in [
            ("ann", LineFault::Parts),
            ("a/b plain:0123456789abcdef", LineFault::Name),
            ("a 0123456789abcdef", LineFault::Token),
            ("a plain:short", LineFault::Token),
            ("a sha256:0123", LineFault::Token),
            ("a plain:0123456789abcdeX sing=yes", word("sing=yes")),
            ("a plain:0123456789abcdeX dance", word("dance")),
            ("good plain:0123456789abcdeX", LineFault::Twice(1)),
            ("again plain:0123456789abcdef", LineFault::Twice(1)),
        ] {
            let text = format!("good plain:0123456789abcdef\n{line}\n");
            let error = TokenBook::<Guest>::parse(&text, first_bytes).unwrap_err();
            assert_eq!(error, TokenLineError { line: 2, what }, "{line}");
            assert!(!error.to_string().contains("0123456789"), "{error}");
        }
    }
}
