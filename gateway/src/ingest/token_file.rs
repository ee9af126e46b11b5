//! A new token, and its line in the file.
//!
//! Invariant: a token is printed once and kept nowhere; the file gets its hash.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use settings::{HASHED, TokenLineError, is_token_name};
use thiserror::Error;

use super::sources::{self, TokensError};
use super::tokens::{hash, parse};

/// Random bytes of a token: nobody guesses them.
const RANDOM_BYTES: usize = 32;

/// Why there is no new token.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// Take another name.
    #[error("a name has 1 to 64 letters, digits, '.', '_' or '-'")]
    Name,
    /// Correct the file.
    #[error(transparent)]
    File(#[from] TokensError),
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

/// Makes a token for `name` and puts its hash behind the lines of the file, which is made with mode
/// 0640 when it is missing. With `dry_run` the file stays as it is. Returns the token and the line.
/// # Errors
/// [`TokenFileError`]; the file is as it was.
pub fn new_token(
    name: &str,
    path: &Path,
    dry_run: bool,
) -> Result<(String, String), TokenFileError> {
    if !is_token_name(name) {
        return Err(TokenFileError::Name);
    }
    let before = match std::fs::exists(path) {
        Ok(false) => String::new(),
        _ => {
            sources::read(path)?;
            std::fs::read_to_string(path).map_err(|source| written(path, source))?
        }
    };
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(TokenFileError::Random)?;
    let token = hex(&random);
    let line = format!("{name} {HASHED}{}", hex(&hash(&token)));
    let gap = match before.is_empty() || before.ends_with('\n') {
        true => "",
        false => "\n",
    };
    parse(&format!("{before}{gap}{line}\n")).map_err(|source| TokenFileError::Twice {
        path: path.to_owned(),
        source,
    })?;
    if !dry_run {
        let append = || {
            let mut options = File::options();
            let file = options.append(true).create(true).mode(0o640).open(path);
            let mut file = file?;
            file.write_all(format!("{gap}{line}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(|source| written(path, source))?;
    }
    Ok((token, line))
}

fn written(path: &Path, source: std::io::Error) -> TokenFileError {
    TokenFileError::Write {
        path: path.to_owned(),
        source,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
