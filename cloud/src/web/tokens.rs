//! Who may come in, by the file of tokens, which is read again when it changes.
//!
//! Invariant: a file that cannot be used changes nothing, the last good one stays in force.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use settings::{HASHED, Holder, TokenBook, TokenHash, TokenLineError, is_token_name};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::problem::Problem;
use crate::config::{Open, WebConfig};
use crate::stream::consumer::chained;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Random bytes of a token: nobody guesses them.
const RANDOM_BYTES: usize = 32;

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

/// Why a file of tokens cannot be used, or not be written.
#[derive(Debug, Error)]
pub enum TokensError {
    /// Correct the path or its permissions.
    #[error("web.tokens {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Correct the line.
    #[error("web.tokens {}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line.
        #[source]
        source: TokenLineError,
    },
    /// Take the right to read from everybody, or write hashes into it.
    #[error("web.tokens {} has mode {mode:04o} and a token as it is: chmod 0640", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
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

/// Reads a file of tokens.
/// # Errors
/// [`TokensError`].
pub fn read(path: &Path) -> Result<usize, TokensError> {
    book(path).map(|book| book.count())
}

fn book(path: &Path) -> Result<Visitors, TokensError> {
    let unreadable = |source| TokensError::Read {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let book = Visitors::parse(&text, hash).map_err(|source| TokensError::Line {
        path: path.to_owned(),
        source,
    })?;
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if book.has_plain() && mode & 0o007 != 0 {
        return Err(TokensError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(book)
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
    /// [`TokensError`].
    pub fn open(config: &WebConfig) -> Result<Self, TokensError> {
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

/// Makes a token for `name` and puts its hash behind the lines of the file, which is made with mode
/// 0640 when it is missing. With `dry_run` the file stays as it is. Returns the token and the line.
/// # Errors
/// [`TokensError`]; the file is as it was.
pub fn new_token(
    name: &str,
    role: Role,
    path: &Path,
    dry_run: bool,
) -> Result<(String, String), TokensError> {
    if !is_token_name(name) {
        return Err(TokensError::Name);
    }
    let written = |source| TokensError::Write {
        path: path.to_owned(),
        source,
    };
    let before = match std::fs::exists(path) {
        Ok(false) => String::new(),
        _ => {
            read(path)?;
            std::fs::read_to_string(path).map_err(written)?
        }
    };
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(TokensError::Random)?;
    let token = hex::encode(random);
    let line = format!(
        "{name} {HASHED}{} role={}",
        hex::encode(hash(&token)),
        role.as_str()
    );
    let gap = match before.is_empty() || before.ends_with('\n') {
        true => "",
        false => "\n",
    };
    let after = format!("{before}{gap}{line}\n");
    Visitors::parse(&after, hash).map_err(|source| TokensError::Twice {
        path: path.to_owned(),
        source,
    })?;
    if !dry_run {
        let append = || {
            let mut options = std::fs::File::options();
            let file = options.append(true).create(true).mode(0o640).open(path);
            let mut file = file?;
            file.write_all(format!("{gap}{line}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(written)?;
    }
    Ok((token, line))
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
