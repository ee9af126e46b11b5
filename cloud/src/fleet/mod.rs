//! `cloud device`: which trackers there are, and by which family their values are read.
//!
//! Invariant: only a person sets a family, and what a person set wins over every guess.

mod table;

use std::io::Write as _;

use clap::{Subcommand, ValueEnum};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::config::Config;
use crate::normalise::dictionary::FAMILIES;
use crate::operator::{VerbError, tracker};
use crate::store::Database;
use crate::store::roster::{self, Tracker};

/// What leaves a family to the guess.
const AUTO: &str = "auto";

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum DeviceVerb {
    /// Every tracker: family, who said so, when it was last heard.
    #[command(visible_alias = "list", after_help = "Example:\n  cloud device ls")]
    Ls,
    /// One tracker in full.
    #[command(after_help = "Example:\n  cloud device show 350000000000017")]
    Show {
        /// Its 15 digits.
        imei: String,
    },
    /// Say of which family a tracker is; its values are read by it, for all history.
    #[command(
        after_help = "Families: fmb, fmx150, fmx6, ft, tat, tst, tft, gh, fm63, fm36; `auto` leaves it to the guess.\n\nExamples:\n  cloud device set-model 350000000000017 fmx6\n  cloud device set-model 350000000000017 fmx6 --model FMC650 --name \"van 7\"\n  cloud device set-model 350000000000017 auto"
    )]
    SetModel {
        /// Its 15 digits.
        imei: String,
        /// The family, or `auto`.
        family: String,
        /// Also write down the model, as it is printed on it.
        #[arg(long)]
        model: Option<String>,
        /// Also write down what people call it.
        #[arg(long)]
        name: Option<String>,
    },
    /// All of them for another program.
    #[command(after_help = "Example:\n  cloud device export --format csv > devices.csv")]
    Export {
        /// One JSON object per line, or comma-separated values with a header.
        #[arg(long, value_enum, default_value_t = Format::Ndjson)]
        format: Format,
    },
}

/// Form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// Does what was asked for. Returns the exit code.
/// # Errors
/// [`VerbError`].
pub async fn run(config: &Config, verb: &DeviceVerb, json: bool) -> Result<u8, VerbError> {
    let database = Database::new(&config.database)?;
    let mut on = database.connect().await?;
    match verb {
        DeviceVerb::Ls if json => all(&mut on, None, |t| table::json(t).to_string()).await?,
        DeviceVerb::Ls => all(&mut on, Some(table::line_header()), table::line).await?,
        DeviceVerb::Export { format } => match format {
            Format::Csv => all(&mut on, Some(table::csv_header()), table::csv).await?,
            Format::Ndjson => all(&mut on, None, |t| table::json(t).to_string()).await?,
        },
        DeviceVerb::Show { imei } => {
            let id = tracker::find(&mut on, imei).await?;
            told(&mut on, id, imei, json).await?;
        }
        DeviceVerb::SetModel {
            imei,
            family,
            model,
            name,
        } => {
            let family = known(family)?;
            let id = tracker::find(&mut on, imei).await?;
            roster::set_family(&mut on, id, family, model.as_deref(), name.as_deref()).await?;
            told(&mut on, id, imei, json).await?;
        }
    }
    // Politeness: the server would log a lost connection otherwise.
    let _ = on.close().await;
    Ok(0)
}

/// The family, in lower case; `None` for `auto`.
fn known(given: &str) -> Result<Option<&'static str>, VerbError> {
    let typed = given.trim().to_lowercase();
    if typed == AUTO {
        return Ok(None);
    }
    let found = FAMILIES.into_iter().find(|family| *family == typed);
    found.map(Some).ok_or_else(|| VerbError::Option {
        option: "FAMILY",
        given: given.to_owned(),
        expected: format!("one of {}, or {AUTO}", FAMILIES.join(", ")),
    })
}

async fn told(on: &mut PgConnection, id: i32, imei: &str, json: bool) -> Result<(), VerbError> {
    let tracker = roster::one(on, id)
        .await?
        .ok_or_else(|| VerbError::NoDevice {
            imei: imei.to_owned(),
            nearest: None,
        })?;
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", table::json(&tracker))?,
        false => write!(out, "{}", table::text(&tracker))?,
    }
    Ok(())
}

async fn all(
    on: &mut PgConnection,
    header: Option<String>,
    form: impl Fn(&Tracker) -> String,
) -> Result<(), VerbError> {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if let Some(header) = header {
        writeln!(out, "{header}")?;
    }
    let mut after = 0;
    loop {
        let page = roster::page(on, after).await?;
        let Some(last) = page.last() else {
            out.flush()?;
            return Ok(());
        };
        after = last.id;
        for tracker in &page {
            writeln!(out, "{}", form(tracker))?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn families_are_known_by_their_names_alone() {
        assert_eq!(known(" FMX6 ").unwrap(), Some("fmx6"));
        assert_eq!(known("auto").unwrap(), None);
        let refused = known("FMC650").unwrap_err();
        assert!(refused.to_string().contains("fmx150"), "{refused}");
        assert_eq!(refused.exit_code(), 2);
    }
}
