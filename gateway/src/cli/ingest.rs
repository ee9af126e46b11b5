//! `gateway ingest`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gateway::ingest::new_token;
use serde_json::json;
use settings::{NewToken, Settings};

use super::{Failure, output};

#[derive(Subcommand)]
pub(super) enum IngestCommand {
    /// The tokens of those who may post positions.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token, print it once, and put its SHA-256 into the file of tokens.
    ///
    /// A running gateway reads the file again within seconds. Limits are written behind the line by
    /// hand: requests_per_s=10 positions_per_s=500 body_bytes_max=1MiB lanes=normal,bulk.
    #[command(after_help = "\
Examples:
  gateway ingest token new api --config gateway.toml
  gateway ingest token new phones --file tokens.txt
  gateway ingest token new phones --file tokens.txt --dry-run

Exit codes: 0 done, 2 a name that cannot be used or is there, or a file that cannot.")]
    New(New),
}

#[derive(Args)]
pub(super) struct New {
    /// Who will have it; stands in the log.
    name: String,
    /// The file; ingest.tokens if left out.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write nothing. The token that is printed then is no one's.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(
    command: &IngestCommand,
    settings: impl FnOnce() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    let IngestCommand::Token {
        command: TokenCommand::New(new),
    } = command;
    let path = match &new.file {
        Some(path) => path.clone(),
        None => {
            let settings = settings()?;
            let path = settings.optional_path("ingest.tokens");
            let path = path.map_err(|error| Failure::new(2, error))?;
            path.ok_or_else(|| Failure::new(2, "ingest.tokens is not set: say --file FILE"))?
        }
    };
    let made = new_token(&new.name, &path, new.dry_run);
    say(new, &path, &made.map_err(|error| Failure::new(2, error))?);
    Ok(())
}

fn say(new: &New, path: &Path, NewToken { token, line, .. }: &NewToken) {
    let file = path.display().to_string();
    if new.json {
        output::line(&json!({
            "name": new.name, "token": token, "file": file, "line": line, "dry_run": new.dry_run,
        }));
        return;
    }
    output::print(&format!("{token}\n"));
    let verb = if new.dry_run { "would get" } else { "has" };
    eprintln!("{file} {verb} the line: {line}");
    eprintln!("the token is on standard output, once: it cannot be shown again");
}
