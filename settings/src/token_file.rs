//! A file of tokens: what reading it gave becomes a [`TokenBook`], and a new token becomes a line of it.
//!
//! Whoever opens the file hands in its text and its mode.
//!
//! Invariants:
//! - A token is returned once and kept nowhere; the file gets its hash.
//! - A file that a stranger may read holds no token as it is.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::tokens::{HASHED, Hasher, Holder, TokenBook, TokenHash, TokenLineError, is_token_name};

/// Why a file of tokens cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// Correct the path or its permissions.
    #[error("{setting} {} cannot be read", path.display())]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Correct the line.
    #[error("{setting} {}", path.display())]
    Line {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Which line.
        #[source]
        source: TokenLineError,
    },
    /// Take the right to read from everybody, or write hashes into it.
    #[error("{setting} {} has mode {mode:04o} and a token as it is: chmod 0640", path.display())]
    Mode {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Why there is no new token.
#[derive(Debug, Error)]
pub enum NewTokenError {
    /// Correct the file.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// Take another name.
    #[error("a name has 1 to 64 letters, digits, '.', '_' or '-'")]
    Name,
    /// Take another name, or take the old line out.
    #[error("{} has such a line already", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: TokenLineError,
    },
    /// Let this user write the file.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No random bits.
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
}

/// A token that nobody had before.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// For whoever is to come in: 64 hexadecimal digits.
    pub token: String,
    /// Its line in the file, without the end of the line.
    pub line: String,
    /// What has to be written behind the file.
    pub appended: String,
}

/// What reading the file gave: its text, and the twelve bits of its mode.
pub type TokenText = io::Result<(String, u32)>;

/// A file of tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenFile<'a> {
    /// The setting that names it, for errors.
    pub setting: &'static str,
    /// Where it is.
    pub path: &'a Path,
    /// The SHA-256 that this program links.
    pub hash: Hasher,
}

impl TokenFile<'_> {
    /// Judges what reading it gave.
    /// # Errors
    /// [`TokenFileError`].
    pub fn book<H: Holder>(&self, read: TokenText) -> Result<TokenBook<H>, TokenFileError> {
        self.text_and_book(read).map(|(_, book)| book)
    }

    fn text_and_book<H: Holder>(
        &self,
        read: TokenText,
    ) -> Result<(String, TokenBook<H>), TokenFileError> {
        let setting = self.setting;
        let path = || self.path.to_owned();
        let (text, mode) = read.map_err(|source| TokenFileError::Read {
            setting,
            path: path(),
            source,
        })?;
        let book = TokenBook::parse(&text, self.hash).map_err(|source| TokenFileError::Line {
            setting,
            path: path(),
            source,
        })?;
        if book.has_plain() && mode & 0o007 != 0 {
            return Err(TokenFileError::Mode {
                setting,
                path: path(),
                mode,
            });
        }
        Ok((text, book))
    }

    /// Makes a token for `name` of 32 random bytes, with `words` (`role=read`) behind it in the file.
    /// `before`: what reading the file gave, where there is one.
    /// # Errors
    /// [`NewTokenError::File`], [`NewTokenError::Name`], [`NewTokenError::Twice`].
    pub fn add<H: Holder>(
        &self,
        before: Option<TokenText>,
        name: &str,
        words: &[&str],
        random: TokenHash,
    ) -> Result<NewToken, NewTokenError> {
        if !is_token_name(name) {
            return Err(NewTokenError::Name);
        }
        let before = match before {
            Some(read) => self.text_and_book::<H>(read)?.0,
            None => String::new(),
        };
        let token = hexadecimal(&random);
        let mut line = format!("{name} {HASHED}{}", hexadecimal(&(self.hash)(&token)));
        for word in words {
            line = line + " " + word;
        }
        let gap = match before.is_empty() || before.ends_with('\n') {
            true => "",
            false => "\n",
        };
        let appended = format!("{gap}{line}\n");
        let after = before + &appended;
        TokenBook::<H>::parse(&after, self.hash).map_err(|source| NewTokenError::Twice {
            path: self.path.to_owned(),
            source,
        })?;
        Ok(NewToken {
            token,
            line,
            appended,
        })
    }

    /// The error of somebody who could not write it.
    #[must_use]
    pub fn not_written(&self, source: io::Error) -> NewTokenError {
        NewTokenError::Write {
            path: self.path.to_owned(),
            source,
        }
    }
}

fn hexadecimal(bytes: &TokenHash) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::LineFault;

    #[derive(Debug)]
    struct Guest;

    impl Holder for Guest {
        const WORDS: &'static str = "the word is dance=yes";

        fn named(_: &str) -> Self {
            Self
        }

        fn take(&mut self, key: &str, value: &str) -> Option<()> {
            ((key, value) == ("dance", "yes")).then_some(())
        }
    }

    /// Different for different tokens, which is all that counts here.
    fn last_bytes(token: &str) -> TokenHash {
        let mut hash = TokenHash::default();
        for (to, from) in hash.iter_mut().zip(token.bytes().rev()) {
            *to = from;
        }
        hash
    }

    fn file() -> TokenFile<'static> {
        TokenFile {
            setting: "door.tokens",
            path: Path::new("/etc/door"),
            hash: last_bytes,
        }
    }

    #[test]
    fn a_token_that_was_added_opens_and_stands_nowhere() {
        let ann = file().add::<Guest>(None, "ann", &[], [1; 32]).unwrap();
        assert_eq!(ann.appended, format!("{}\n", ann.line));
        // The last line of a file that somebody wrote by hand may have no end.
        let before = Some(Ok((ann.line.clone(), 0o644)));
        let bob = file().add::<Guest>(before, "bob", &["dance=yes"], [2; 32]);
        let bob = bob.unwrap();
        let text = format!("{}{}", ann.line, bob.appended);
        assert_eq!(text, format!("{}\n{}\n", ann.line, bob.line));
        assert!(bob.line.ends_with(" dance=yes") && bob.token == "02".repeat(32));
        let book = file().book::<Guest>(Ok((text.clone(), 0o644))).unwrap();
        for new in [ann, bob] {
            assert!(book.find(&last_bytes(&new.token)).is_some() && !text.contains(&new.token));
        }
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        let text = "ann plain:0123456789abcdef\n";
        let add = |name, mode, text: &str| {
            let before = Some(Ok((text.to_owned(), mode)));
            file().add::<Guest>(before, name, &[], [1; 32]).err()
        };
        assert!(matches!(add("a b", 0o640, text), Some(NewTokenError::Name)));
        let Some(NewTokenError::Twice { source, .. }) = add("ann", 0o640, text) else {
            panic!("ann is there");
        };
        assert_eq!((source.line, &source.what), (2, &LineFault::Twice(1)));
        let open = add("bob", 0o644, text).unwrap().to_string();
        assert!(
            open.contains("door.tokens /etc/door has mode 0644"),
            "{open}"
        );
        let line = add("bob", 0o640, "ann\n");
        let is_line = matches!(line, Some(NewTokenError::File(TokenFileError::Line { .. })));
        assert!(is_line);
        let gone = file().book::<Guest>(Err(io::ErrorKind::NotFound.into()));
        assert!(matches!(gone, Err(TokenFileError::Read { .. })));
    }
}
