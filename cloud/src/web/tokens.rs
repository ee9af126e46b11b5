//! Who may come in, by the file of tokens, which is read again when it changes.
//!
//! Invariant: a file that cannot be used changes nothing, the last good one stays in force.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use settings::{
    Holder, NewToken, NewTokenError, TokenBook, TokenFile, TokenFileError, TokenHash, TokenText,
};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use crate::config::{Open, WebConfig};
use crate::stream::consumer::chained;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Look.
    Read,
    /// Look, give commands and redrive dead letters.
    Operator,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operator => "operator",
        }
    }
}

/// Somebody who came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// As the file calls it; stands in commands.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl Holder for Visitor {
    const WORDS: &'static str = "words are role=read or role=operator";

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Read,
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        self.role = match (key, value) {
            ("role", "read") => Role::Read,
            ("role", "operator") => Role::Operator,
            _ => return None,
        };
        Some(())
    }
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

type Visitors = TokenBook<Visitor>;

/// When, how long and which a file is; `None` while it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

fn token_file(path: &Path) -> TokenFile<'_> {
    TokenFile {
        setting: "web.tokens",
        path,
        hash,
    }
}

/// Reads a file of tokens: how many there are.
/// # Errors
/// [`TokenFileError`].
pub fn read(path: &Path) -> Result<usize, TokenFileError> {
    book(path).map(|book| book.count())
}

fn book(path: &Path) -> Result<Visitors, TokenFileError> {
    token_file(path).book(text_of(path))
}

/// Makes a token for `name` and puts its hash into the file, which is made with mode 0640 when it is
/// missing; with `dry_run` nothing is written.
/// # Errors
/// [`NewTokenError`]; the file is as it was.
pub fn new_token(
    name: &str,
    role: Role,
    path: &Path,
    dry_run: bool,
) -> Result<NewToken, NewTokenError> {
    let word = format!("role={}", role.as_str());
    let file = token_file(path);
    let before = match std::fs::exists(path) {
        Ok(false) => None,
        _ => Some(text_of(path)),
    };
    let mut random = TokenHash::default();
    getrandom::fill(&mut random).map_err(|error| NewTokenError::Random(error.into()))?;
    let new = file.add::<Visitor>(before, name, &[&word], random)?;
    if !dry_run {
        append(path, &new.appended).map_err(|source| file.not_written(source))?;
    }
    Ok(new)
}

fn text_of(path: &Path) -> TokenText {
    let text = std::fs::read_to_string(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    Ok((text, mode & 0o7777))
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    let mut file = options.append(true).create(true).mode(0o640).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Everybody who may come in.
#[derive(Debug)]
pub struct Gate {
    file: Option<PathBuf>,
    open: Open,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: Visitors,
    stamp: Stamp,
    looked: Instant,
}

impl Gate {
    /// Reads the file, where there is one.
    /// # Errors
    /// [`TokenFileError`].
    pub fn open(config: &WebConfig) -> Result<Self, TokenFileError> {
        let file = config.tokens.clone();
        let stamp = file.as_deref().and_then(stamp);
        let state = State {
            book: file.as_deref().map(book).transpose()?.unwrap_or_default(),
            stamp,
            looked: Instant::now(),
        };
        Ok(Self {
            file,
            open: config.open,
            state: Mutex::new(state),
        })
    }

    /// Is a token asked for? Where none is, pages from elsewhere have to be kept out otherwise.
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        self.file.is_some()
    }

    /// Who is it?
    /// # Errors
    /// [`Problem::Token`], [`Problem::Closed`].
    pub fn who(&self, token: Option<&str>) -> Result<Arc<Visitor>, Problem> {
        let Some(path) = &self.file else {
            let role = match self.open {
                Open::No => return Err(Problem::Closed),
                Open::Read => Role::Read,
                Open::Operator => Role::Operator,
            };
            let name = "local".to_owned();
            return Ok(Arc::new(Visitor { name, role }));
        };
        let hash = hash(token.ok_or(Problem::Token)?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            state.look_again(path);
        }
        state.book.find(&hash).ok_or(Problem::Token)
    }
}

impl State {
    fn look_again(&mut self, path: &Path) {
        let stamp = stamp(path);
        if self.stamp == stamp {
            return;
        }
        self.stamp = stamp;
        match book(path) {
            Ok(book) => {
                tracing::info!(tokens = book.count(), "web.tokens read again");
                self.book = book;
            }
            Err(error) => tracing::error!(
                error = chained(&error),
                "new web.tokens not taken; those before stay in force"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_without_a_role_may_only_look() {
        let text = "ann plain:0123456789abcdef\nbob plain:0123456789abcdeX role=operator\n";
        let book = Visitors::parse(text, hash).unwrap();
        let role = |token| book.find(&hash(token)).map(|found| found.role);
        assert_eq!(role("0123456789abcdef"), Some(Role::Read));
        assert_eq!(role("0123456789abcdeX"), Some(Role::Operator));
        assert_eq!(role("0123456789abcdeY"), None);
        let bad = Visitors::parse("a plain:0123456789abcdef role=root", hash);
        assert!(bad.unwrap_err().to_string().contains("role=operator"));
    }
}
