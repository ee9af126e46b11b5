//! `cloud web`: who may come into the web app.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use cloud::config::Config;
use cloud::web::tokens::{Role, new_token};
use serde_json::json;
use settings::{NewToken, NewTokenError};
use thiserror::Error;

#[derive(Subcommand)]
pub(crate) enum WebVerb {
    /// The tokens of those who may come in.
    #[command(subcommand)]
    Token(TokenVerb),
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token, print it once, and put its SHA-256 into the file of tokens.
    ///
    /// A running cloud reads the file again within seconds. Take a line out, and its token opens
    /// nothing any more.
    #[command(after_help = "\
Examples:
  cloud web token new ann --role read
  cloud web token new bob --role operator --file tokens.txt
  cloud web token new bob --role operator --file tokens.txt --dry-run

Exit codes: 0 done, 2 a name that cannot be used or is there, or a file that cannot.")]
    New(New),
}

#[derive(Args)]
pub(crate) struct New {
    /// Who will have it; stands in the commands they give.
    name: String,
    /// read: look. operator: also give commands and redrive dead letters.
    #[arg(long, value_enum)]
    role: Role,
    /// The file; web.tokens if left out.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write nothing. The token that is printed then is no one's.
    #[arg(long)]
    dry_run: bool,
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum WebFailure {
    #[error("web.tokens is not set\n  do  say --file FILE, and name the file in web.tokens")]
    NoFile,
    #[error(transparent)]
    Tokens(#[from] NewTokenError),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

/// Does what was asked for. Returns the exit code.
pub(crate) fn act(config: &Config, verb: &WebVerb, json: bool) -> Result<u8, WebFailure> {
    let WebVerb::Token(TokenVerb::New(new)) = verb;
    let path = new.file.as_ref().or(config.web.tokens.as_ref());
    let path = path.ok_or(WebFailure::NoFile)?;
    let NewToken { token, line, .. } = new_token(&new.name, new.role, path, new.dry_run)?;
    let file = path.display();
    let mut out = std::io::stdout().lock();
    if json {
        let told = json!({
            "name": new.name, "role": new.role.as_str(), "token": token,
            "file": file.to_string(), "line": line, "dry_run": new.dry_run,
        });
        writeln!(out, "{told}")?;
        return Ok(0);
    }
    writeln!(out, "{token}")?;
    let mut notes = std::io::stderr().lock();
    let verb = if new.dry_run { "would get" } else { "has" };
    writeln!(notes, "{file} {verb} the line: {line}")?;
    writeln!(
        notes,
        "the token is on standard output, once: it cannot be shown again"
    )?;
    Ok(0)
}
