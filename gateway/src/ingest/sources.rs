//! Who may post, read anew when the file of tokens changes; and what each of them has sent lately.
//!
//! Invariant: a file that cannot be used changes nothing, the last good one stays in force.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use settings::{NewToken, NewTokenError, TokenFile, TokenFileError, TokenHash, TokenText};

use super::rate::Bucket;
use super::tokens::{self, Source, TokenBook};
use crate::chain::chain;
use crate::listen::{Stamp, stamp};

fn token_file(path: &Path) -> TokenFile<'_> {
    TokenFile {
        setting: "ingest.tokens",
        path,
        hash: tokens::hash,
    }
}

/// Reads a file of tokens.
/// # Errors
/// [`TokenFileError`].
pub fn read(path: &Path) -> Result<TokenBook, TokenFileError> {
    token_file(path).book(text_of(path))
}

/// Makes a token for `name` and puts its hash into the file, which is made with mode 0640 when it is
/// missing; with `dry_run` nothing is written.
/// # Errors
/// [`NewTokenError`]; the file is as it was.
pub fn new_token(name: &str, path: &Path, dry_run: bool) -> Result<NewToken, NewTokenError> {
    let file = token_file(path);
    let before = match std::fs::exists(path) {
        Ok(false) => None,
        _ => Some(text_of(path)),
    };
    let mut random = TokenHash::default();
    getrandom::fill(&mut random).map_err(|error| NewTokenError::Random(error.into()))?;
    let new = file.add::<Source>(before, name, &[], random)?;
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

/// Everybody who may post.
#[derive(Debug)]
pub(super) struct Sources {
    /// `None`: everybody.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: TokenBook,
    stamp: Stamp,
    trouble: Option<String>,
    shares: HashMap<String, Shares>,
}

/// What is left of the rates of a source.
#[derive(Debug, Default)]
struct Shares {
    requests: Option<Bucket>,
    positions: Option<Bucket>,
}

/// What is counted against a rate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Share {
    /// A request.
    Request,
    /// So many positions.
    Positions(usize),
}

impl Sources {
    /// Reads the file; without one everybody may post.
    /// # Errors
    /// [`TokenFileError`].
    pub(super) fn open(file: Option<PathBuf>) -> Result<Self, TokenFileError> {
        let stamp = file.as_deref().and_then(stamp);
        let book = match &file {
            Some(path) => read(path)?,
            None => TokenBook::default(),
        };
        let state = State {
            book,
            stamp,
            trouble: None,
            shares: HashMap::new(),
        };
        let state = Mutex::new(state);
        Ok(Self { file, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is it? `None`: nobody we know.
    #[must_use]
    pub(super) fn who(&self, token: Option<&str>) -> Option<Arc<Source>> {
        match (&self.file, token) {
            (None, _) => Some(Arc::new(Source::anybody())),
            (Some(_), token) => self.state().book.find(&tokens::hash(token?)),
        }
    }

    /// Takes from the share of a source.
    /// # Errors
    /// How long to wait.
    pub(super) fn take(&self, source: &Source, share: Share, now: Instant) -> Result<(), Duration> {
        let (per_s, count) = match share {
            Share::Request => (source.requests_per_s, 1),
            Share::Positions(count) => (source.positions_per_s, count),
        };
        let Some(per_s) = per_s else {
            return Ok(());
        };
        let mut state = self.state();
        let shares = state.shares.entry(source.name.clone()).or_default();
        let bucket = match share {
            Share::Request => &mut shares.requests,
            Share::Positions(_) => &mut shares.positions,
        };
        bucket
            .get_or_insert_with(|| Bucket::new(per_s, now))
            .take(count, now)
    }

    /// Reads the file again.
    /// # Errors
    /// [`TokenFileError`]; the last good file stays in force.
    pub(super) fn reload(&self) -> Result<(), TokenFileError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let stamp = stamp(path);
        let read = read(path);
        let mut state = self.state();
        state.stamp = stamp;
        match read {
            Ok(book) => {
                state.trouble = None;
                if state.book != book {
                    tracing::info!(sources = book.count(), "tokens read again");
                    state.book = book;
                    // Rates may be others now.
                    state.shares.clear();
                }
                Ok(())
            }
            Err(error) => {
                state.trouble = Some(chain(&error));
                tracing::error!(
                    error = chain(&error),
                    "new tokens not taken; those before stay in force"
                );
                Err(error)
            }
        }
    }

    /// Reads the file again if it looks different.
    pub(super) fn look(&self) {
        let Some(path) = &self.file else {
            return;
        };
        if self.state().stamp != stamp(path) {
            // The error is logged and kept for the status pages.
            let _ = self.reload();
        }
    }

    /// How many have a token; `None` when nobody needs one.
    #[must_use]
    pub(super) fn count(&self) -> Option<usize> {
        self.file.as_ref().map(|_| self.state().book.count())
    }

    /// Why the newest file is not in force.
    #[must_use]
    pub(super) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }
}
