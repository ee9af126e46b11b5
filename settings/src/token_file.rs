//! A [`TokenBook`] on disk: read whole, and added to.
//!
//! The one part of this crate that opens a file, for both programs let people in by the same one.
//!
//! Invariants:
//! - A token is returned once and kept nowhere; the file gets its hash.
//! - A file that a stranger may read holds no token as it is.
//! - What cannot be added leaves the file as it was.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::tokens::{HASHED, Hasher, Holder, TokenBook, TokenLineError, is_token_name};

/// Random bytes of a token: nobody guesses them.
const RANDOM_BYTES: usize = 32;

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
        source: std::io::Error,
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
        source: std::io::Error,
    },
    /// No random bits.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// A token that nobody had before.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// For whoever is to come in: 64 hexadecimal digits.
    pub token: String,
    /// Its line in the file, without the end of the line.
    pub line: String,
}

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
    /// Reads it.
    /// # Errors
    /// [`TokenFileError`].
    pub fn read<H: Holder>(&self) -> Result<TokenBook<H>, TokenFileError> {
        self.text_and_book().map(|(_, book)| book)
    }

    fn text_and_book<H: Holder>(&self) -> Result<(String, TokenBook<H>), TokenFileError> {
        let Self { setting, path, .. } = *self;
        let unreadable = |source| TokenFileError::Read {
            setting,
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let book = TokenBook::parse(&text, self.hash).map_err(|source| TokenFileError::Line {
            setting,
            path: path.to_owned(),
            source,
        })?;
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        let mode = meta.permissions().mode() & 0o7777;
        if book.has_plain() && mode & 0o007 != 0 {
            return Err(TokenFileError::Mode {
                setting,
                path: path.to_owned(),
                mode,
            });
        }
        Ok((text, book))
    }

    /// Makes a token for `name`, with `words` (`role=read`) behind it, and puts its hash behind the
    /// lines of the file, which is made with mode 0640 when it is missing. With `dry_run` the file
    /// stays as it is.
    /// # Errors
    /// [`NewTokenError`]; the file is as it was.
    pub fn add<H: Holder>(
        &self,
        name: &str,
        words: &[&str],
        dry_run: bool,
    ) -> Result<NewToken, NewTokenError> {
        if !is_token_name(name) {
            return Err(NewTokenError::Name);
        }
        let path = self.path;
        let before = match std::fs::exists(path) {
            Ok(false) => String::new(),
            _ => self.text_and_book::<H>()?.0,
        };
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(NewTokenError::Random)?;
        let token = hexadecimal(&random);
        let mut line = format!("{name} {HASHED}{}", hexadecimal(&(self.hash)(&token)));
        for word in words {
            line = line + " " + word;
        }
        let gap = match before.is_empty() || before.ends_with('\n') {
            true => "",
            false => "\n",
        };
        let after = format!("{before}{gap}{line}\n");
        TokenBook::<H>::parse(&after, self.hash).map_err(|source| NewTokenError::Twice {
            path: path.to_owned(),
            source,
        })?;
        if !dry_run {
            append(path, &after[before.len()..]).map_err(|source| NewTokenError::Write {
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(NewToken { token, line })
    }
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let mut file = options.append(true).create(true).mode(0o640).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::LineFault;
    use std::fs::Permissions;

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
    fn last_bytes(token: &str) -> [u8; 32] {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(token.bytes().rev()) {
            *to = from;
        }
        hash
    }

    fn file(path: &Path) -> TokenFile<'_> {
        TokenFile {
            setting: "door.tokens",
            path,
            hash: last_bytes,
        }
    }

    #[test]
    fn a_token_that_was_added_opens_and_stands_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let tried = file(&path).add::<Guest>("ann", &[], true).unwrap();
        assert!(!path.exists() && tried.line.starts_with("ann sha256:"));
        let ann = file(&path).add::<Guest>("ann", &[], false).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        // The last line of a file that somebody wrote by hand may have no end.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end()).unwrap();
        let bob = file(&path).add::<Guest>("bob", &["dance=yes"], false);
        let bob = bob.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n{}\n", ann.line, bob.line));
        assert!(bob.line.ends_with(" dance=yes") && ann.token != bob.token);
        let book = file(&path).read::<Guest>().unwrap();
        for new in [ann, bob] {
            assert_eq!(new.token.len(), 64);
            assert!(book.find(&last_bytes(&new.token)).is_some() && !text.contains(&new.token));
        }
    }

    #[test]
    fn what_cannot_be_added_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let add =
            |name, words: &[&str]| file(&path).add::<Guest>(name, words, false).err().unwrap();
        assert!(matches!(add("a b", &[]), NewTokenError::Name));
        std::fs::write(&path, "ann plain:0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let again = add("ann", &[]);
        let NewTokenError::Twice { source, .. } = &again else {
            panic!("{again:?}");
        };
        assert_eq!((source.line, &source.what), (2, &LineFault::Twice(1)));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let open = add("bob", &[]).to_string();
        assert!(
            open.contains("door.tokens") && open.contains("0644"),
            "{open}"
        );
        let text = "ann plain:0123456789abcdef\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::write(&path, "ann\n").unwrap();
        let line = add("bob", &[]);
        assert!(matches!(
            line,
            NewTokenError::File(TokenFileError::Line { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ann\n");
    }
}
