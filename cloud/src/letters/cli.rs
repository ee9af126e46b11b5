//! `cloud dlq`: list, show, redrive and drop dead letters.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::drop::{self, Export};
use super::redrive::{self, How, Outcome};
use super::show::{self, Versions};
use crate::config::{Config, SensorConfig};
use crate::metrics::now_ms;
use crate::operator::progress::Progress;
use crate::operator::{VerbError, moment};
use crate::store::again::Again;
use crate::store::letters::{self, COMMAND_RESPONSE, Letter, Wanted};
use crate::store::{Database, dictionary};

/// Letters of one transaction when they are dropped.
const DROP_AT_ONCE: usize = 100;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum DlqVerb {
    /// The newest first: number, when, class, tracker, reason.
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  cloud dlq ls --count 10\n  cloud dlq ls --since 24h --class codec\n  cloud --json dlq ls | jq .error\n\nClasses: codec, kind (for a later version), frame (a decoder could not read it), payload, entry (not even its envelopes),\nforeign_spool, database (refused as data), command-response, sensor."
    )]
    Ls {
        /// At most so many.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        count: i64,
        /// Which ones.
        #[command(flatten)]
        which: Which,
    },
    /// Why it failed, its bytes with a mark where reading stopped, and whether it would be read today.
    #[command(
        after_help = "Nothing is written: the bytes are decoded in memory.\n\nExample:\n  cloud dlq show 7"
    )]
    Show {
        /// Its number.
        id: i64,
        /// All bytes, however many.
        #[arg(long)]
        whole: bool,
    },
    /// Decode again with today's decoder; what is read becomes rows, and the letter goes.
    #[command(
        after_help = "Rows and the removal are one transaction, letter by letter; doing it twice changes nothing.\nThe class command-response is passed by: those are no frames. Exit code 1 when letters stay.\n\nExamples:\n  cloud dlq redrive 7 8\n  cloud dlq redrive --all --class codec --dry-run"
    )]
    Redrive {
        /// Which ones.
        #[command(flatten)]
        chosen: Chosen,
        /// Ask decoder and database, and take everything back.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give them up: into a file first, then out of the table. The ledger calls their records dropped.
    #[command(
        after_help = "Examples:\n  cloud dlq drop 7 --dry-run\n  cloud dlq drop 7 --yes --export letter-7.ndjson\n  cloud dlq drop --all --class codec --yes --export letters.ndjson\n\nThe file must not be there yet. Each line has everything, with the bytes in hexadecimal (bytes_hex)."
    )]
    Drop {
        /// Which ones.
        #[command(flatten)]
        chosen: Chosen,
        /// Yes, remove them.
        #[arg(long)]
        yes: bool,
        /// Say what would go, and keep it.
        #[arg(long)]
        dry_run: bool,
        /// Where to write them first, one JSON object per line.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
}

/// Dead letters to do something to: nobody chooses all of them by leaving something out.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Their numbers.
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Every one that matches.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Only this class.
    #[arg(long, requires = "all")]
    class: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Which {
    /// Only of this stream, where it was written down (classes entry, command-response and sensor).
    #[arg(long)]
    stream: Option<String>,
    /// Only what failed in the last so long: 90s, 24h, 7d.
    #[arg(long, value_name = "AGE")]
    since: Option<String>,
    /// Only this class.
    #[arg(long)]
    class: Option<String>,
}

impl Which {
    fn wanted(&self) -> Result<Wanted, VerbError> {
        let since_ms = match &self.since {
            None => None,
            Some(given) => Some(age_ms(given)?),
        };
        Ok(Wanted {
            stream: self.stream.clone(),
            class: self.class.clone(),
            since_ms,
        })
    }
}

fn age_ms(given: &str) -> Result<i64, VerbError> {
    let age = settings::duration(given).ok_or_else(|| VerbError::Option {
        option: "--since",
        given: given.to_owned(),
        expected: "a duration such as 90s, 30m, 24h or 7d".to_owned(),
    })?;
    Ok(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Does what was asked for. Returns the exit code.
/// # Errors
/// [`VerbError`].
pub async fn run(config: &Config, verb: &DlqVerb, json: bool) -> Result<u8, VerbError> {
    let database = Database::new(&config.database)?;
    let mut on = database.connect().await?;
    let code = match verb {
        DlqVerb::Ls { count, which } => list(&mut on, *count, &which.wanted()?, json).await?,
        DlqVerb::Show { id, whole } => {
            let sensors = sensors(config);
            one(&mut on, *id, *whole, sensors, json).await?
        }
        DlqVerb::Redrive { chosen, dry_run } => {
            let ids = numbers(&mut on, "redrive", chosen).await?;
            let how = How {
                keep_frames: config.store.keep_frames,
                dry_run: *dry_run,
                sensors: &sensors(config),
            };
            redrive_all(&mut on, &ids, &how, json).await?
        }
        DlqVerb::Drop {
            chosen,
            yes,
            dry_run,
            export,
        } => {
            let ids = numbers(&mut on, "drop", chosen).await?;
            let sure = Sure {
                yes: *yes,
                dry_run: *dry_run,
            };
            drop_all(&mut on, &ids, sure, export.as_ref(), json).await?
        }
    };
    // Politeness: the server would log a lost connection otherwise.
    let _ = on.close().await;
    Ok(code)
}

async fn list(
    on: &mut PgConnection,
    count: i64,
    wanted: &Wanted,
    json: bool,
) -> Result<u8, VerbError> {
    let found = letters::newest(on, wanted, count).await?;
    let (total, records) = letters::count(on, wanted).await?;
    let mut out = std::io::stdout().lock();
    for letter in &found {
        if json {
            writeln!(out, "{}", drop::to_json(letter, false))?;
            continue;
        }
        let failed = moment::text(letter.last_failed);
        let device = letter
            .device
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let (id, class, records) = (letter.id, &letter.error_class, letter.records);
        writeln!(
            out,
            "{id:>8}  {failed}  {class:16}  {device:15}  {records:>5} records  {}",
            letter.reason
        )?;
    }
    if !json {
        let shown = found.len();
        writeln!(
            out,
            "{shown} of {total} dead letters, {records} records in all of them"
        )?;
    }
    Ok(0)
}

/// What streams of sensors mean, also where none are read any more.
fn sensors(config: &Config) -> SensorConfig {
    let sensors = config.sensors.clone();
    sensors.unwrap_or_else(SensorConfig::of_any)
}

async fn one(
    on: &mut PgConnection,
    id: i64,
    whole: bool,
    sensors: SensorConfig,
    json: bool,
) -> Result<u8, VerbError> {
    let letter = letters::find(on, id, false).await?;
    let letter = letter.ok_or(VerbError::NoLetter { id })?;
    let versions = Versions {
        loaded: dictionary::loaded(on).await?,
        ours: dictionary::content_hash(),
        sensors,
        now_ms: now_ms(),
    };
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", show::json(&letter, &versions))?,
        false => write!(out, "{}", show::text(&letter, &versions, whole))?,
    }
    Ok(0)
}

/// The numbers as typed, or all that match.
async fn numbers(
    on: &mut PgConnection,
    verb: &'static str,
    chosen: &Chosen,
) -> Result<Vec<i64>, VerbError> {
    match (chosen.ids.is_empty(), chosen.all) {
        (false, _) => {
            let mut ids = chosen.ids.clone();
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        }
        (true, true) => Ok(letters::ids(on, chosen.class.as_deref()).await?),
        (true, false) => Err(VerbError::Which { verb }),
    }
}

async fn redrive_all(
    on: &mut PgConnection,
    ids: &[i64],
    how: &How<'_>,
    json: bool,
) -> Result<u8, VerbError> {
    let mut progress = Progress::new("dead letters");
    let mut total = Again::default();
    let (mut done, mut stay, mut skipped, mut gone) = (0_u64, 0_u64, 0_u64, 0_u64);
    let all = ids.len() as u64;
    for (id, number) in ids.iter().zip(0_u64..) {
        progress.tell(number, Some(number * 1_000 / all.max(1)), "");
        let outcome = redrive::one(on, *id, how).await?;
        let (word, why) = match outcome {
            Outcome::Done(again) => {
                done += 1;
                total += again;
                let word = if how.dry_run {
                    "would be redriven"
                } else {
                    "redriven"
                };
                (word, counted(&again))
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                ("passed by", why)
            }
            Outcome::Still(why) => {
                stay += 1;
                ("stays", why)
            }
            Outcome::Gone => {
                gone += 1;
                ("not there", "redriven or dropped before".to_owned())
            }
        };
        progress.clear();
        let mut out = std::io::stdout().lock();
        match json {
            true => writeln!(
                out,
                "{}",
                json!({"id": id, "outcome": word, "because": why})
            )?,
            false => writeln!(out, "{id:>8}  {word}: {why}")?,
        }
    }
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({
            "redriven": done, "stay": stay, "passed_by": skipped, "not_there": gone,
            "records": total.records, "stored": total.stored, "quarantined": total.quarantined,
            "known": total.known + total.corrected, "messages": total.messages, "dry_run": how.dry_run,
        });
        writeln!(out, "{line}")?;
    } else {
        let word = if how.dry_run {
            "would be redriven"
        } else {
            "redriven"
        };
        writeln!(out, "{done} {word} ({}), {stay} stay", counted(&total))?;
        if skipped > 0 {
            writeln!(
                out,
                "{skipped} passed by: class {COMMAND_RESPONSE}, no frames of trackers"
            )?;
        }
    }
    Ok(u8::from(stay > 0))
}

fn counted(again: &Again) -> String {
    let known = again.known + again.corrected;
    let mut parts = vec![format!("{} stored", again.stored)];
    for (count, what) in [
        (again.quarantined, "to quarantine"),
        (known, "known before"),
        (again.messages, "messages"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// How sure the operator is.
#[derive(Clone, Copy)]
struct Sure {
    yes: bool,
    dry_run: bool,
}

async fn drop_all(
    on: &mut PgConnection,
    ids: &[i64],
    sure: Sure,
    export: Option<&PathBuf>,
    json: bool,
) -> Result<u8, VerbError> {
    let what = || format!("{} dead letters", ids.len());
    let mut export = match (sure.dry_run, sure.yes, export) {
        (true, ..) => None,
        (false, false, _) => return Err(VerbError::NotSure { what: what() }),
        (false, true, None) => return Err(VerbError::NoExport { what: what() }),
        (false, true, Some(path)) => Some(Export::create(path)?),
    };
    let mut progress = Progress::new("dead letters");
    let (mut dropped, mut records) = (0_u64, 0_i64);
    let all = ids.len() as u64;
    for some in ids.chunks(DROP_AT_ONCE) {
        progress.tell(dropped, Some(dropped * 1_000 / all.max(1)), "");
        let mut found: Vec<Letter> = Vec::with_capacity(some.len());
        for id in some {
            found.extend(letters::find(on, *id, false).await?);
        }
        if let Some(export) = &mut export {
            for letter in &found {
                export.put(letter)?;
            }
            export.keep()?;
            let there: Vec<i64> = found.iter().map(|letter| letter.id).collect();
            drop::remove(on, &there).await?;
        }
        progress.clear();
        let mut out = std::io::stdout().lock();
        for letter in &found {
            dropped += 1;
            records += letter.records;
            if json {
                let mut line = drop::to_json(letter, false);
                line["dropped"] = (!sure.dry_run).into();
                writeln!(out, "{line}")?;
            } else {
                let word = if sure.dry_run { "would go" } else { "dropped" };
                let (id, class, reason) = (letter.id, &letter.error_class, &letter.reason);
                writeln!(
                    out,
                    "{id:>8}  {word}: {class}, {} records: {reason}",
                    letter.records
                )?;
            }
        }
    }
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({"dropped": dropped, "records": records, "dry_run": sure.dry_run});
        writeln!(out, "{line}")?;
    } else {
        let word = if sure.dry_run { "would go" } else { "dropped" };
        writeln!(
            out,
            "{dropped} {word}, {records} records; {} not there",
            all - dropped
        )?;
    }
    Ok(0)
}
