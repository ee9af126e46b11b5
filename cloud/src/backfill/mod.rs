//! `cloud backfill hexlog`: frames that somebody wrote down become rows.
//!
//! Invariants: running it again changes nothing; a bad line costs itself alone; memory does not grow
//! with the file. Nothing is settled: no gateway ever said it had these, so the ledger has no place
//! for them.

pub mod line;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::batch::Unit;
use crate::config::Config;
use crate::metrics::now_ms;
use crate::operator::VerbError;
use crate::operator::progress::Progress;
use crate::operator::writing::{self, Manner};
use crate::store::Database;
use crate::store::again::Again;

/// Longest line, in bytes: far above the largest frame.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Lines and bytes of frames written in one transaction.
const LINES_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

/// What can be filled in.
#[derive(Debug, Subcommand)]
pub enum BackfillVerb {
    /// Frames in hexadecimal, one a line: `[moment] IMEI hex`.
    #[command(
        after_help = "A line:\n  2026-11-22T08:00:00Z 350000000000017 00000000000000360801...0000C7CF\n\n  moment  when it was received, RFC 3339; without one it is the time of its newest record\n  IMEI    15 digits\n  hex     a whole TCP frame (its checksum is checked) or its data field alone; blanks are fine\n  # begins a comment; empty lines are skipped\n\nA bad line is told with file and line and skipped; exit code 1 then. Running it again changes nothing.\n\nExamples:\n  cloud backfill hexlog capture.hex --dry-run\n  cloud backfill hexlog january.hex february.hex"
    )]
    Hexlog {
        /// What to read.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Count what would be stored, and take it back.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Default)]
struct Report {
    lines: u64,
    frames: u64,
    bad: u64,
    again: Again,
}

/// Does it. Returns the exit code: 1 when lines were bad, or it was stopped.
/// # Errors
/// [`VerbError`].
pub async fn run(
    config: &Config,
    verb: &BackfillVerb,
    json: bool,
    stop: &CancellationToken,
) -> Result<u8, VerbError> {
    let BackfillVerb::Hexlog { files, dry_run } = verb;
    // Before anything is written: the third file may be the one with the typing error.
    for path in files {
        drop(open(path)?);
    }
    let database = Database::new(&config.database)?;
    let mut on = database.connect().await?;
    let mut work = Work {
        manner: Manner {
            keep_frames: config.store.keep_frames,
            dry_run: *dry_run,
        },
        now_ms: now_ms(),
        json,
        report: Report::default(),
        progress: Progress::new("lines"),
        waiting: Vec::new(),
        from: Vec::new(),
        bytes: 0,
    };
    for path in files {
        if stop.is_cancelled() {
            break;
        }
        work.file(&mut on, path, stop).await?;
    }
    work.progress.clear();
    if stop.is_cancelled() {
        let _ = writeln!(
            std::io::stderr().lock(),
            "stopped; run the same again to go on, what is stored stays as it is"
        );
    }
    work.told()?;
    let _ = on.close().await;
    Ok(u8::from(work.report.bad > 0 || stop.is_cancelled()))
}

fn open(path: &Path) -> Result<(File, u64), VerbError> {
    let refused = |source| VerbError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    if about.is_dir() {
        return Err(refused(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, about.len()))
}

struct Work {
    manner: Manner,
    now_ms: u64,
    json: bool,
    report: Report,
    progress: Progress,
    waiting: Vec<Unit>,
    /// The line of each.
    from: Vec<u64>,
    bytes: usize,
}

impl Work {
    async fn file(
        &mut self,
        on: &mut PgConnection,
        path: &Path,
        stop: &CancellationToken,
    ) -> Result<(), VerbError> {
        let (file, whole) = open(path)?;
        let mut reader = BufReader::new(file);
        let (mut number, mut read) = (0, 0_u64);
        let mut raw = Vec::new();
        let refused = |source| VerbError::Read {
            path: path.to_owned(),
            source,
        };
        while !stop.is_cancelled() {
            raw.clear();
            let mut some = (&mut reader).take(LINE_BYTES_MAX);
            let bytes = some.read_until(b'\n', &mut raw).map_err(refused)?;
            if bytes == 0 {
                break;
            }
            number += 1;
            read += bytes as u64;
            let cut_off = bytes as u64 == LINE_BYTES_MAX && !raw.ends_with(b"\n");
            if cut_off {
                read += reader.skip_until(b'\n').map_err(refused)? as u64;
                self.bad(path, number, "the line is longer than 1 MiB")?;
            } else {
                self.line(path, number, &raw)?;
            }
            if self.waiting.len() >= LINES_AT_ONCE || self.bytes >= BYTES_AT_ONCE {
                self.flush(on, path).await?;
            }
            let share = (read * 1_000).checked_div(whole);
            let at = format!("{}:{number}", path.display());
            self.progress.tell(self.report.lines, share, &at);
        }
        self.flush(on, path).await
    }

    fn line(&mut self, path: &Path, number: u64, raw: &[u8]) -> Result<(), VerbError> {
        self.report.lines += 1;
        let read = match std::str::from_utf8(raw) {
            Ok(text) => line::read(text),
            Err(_) => Err("the line is not text".to_owned()),
        };
        let unit = match read {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => line::unit(line, self.now_ms),
            Err(reason) => Err(reason),
        };
        match unit {
            Ok(unit) => {
                self.bytes += unit.frame.as_ref().map_or(0, |frame| frame.data.len());
                self.waiting.push(unit);
                self.from.push(number);
                Ok(())
            }
            Err(reason) => self.bad(path, number, &reason),
        }
    }

    fn bad(&mut self, path: &Path, number: u64, reason: &str) -> Result<(), VerbError> {
        self.report.bad += 1;
        self.progress.clear();
        let path = path.display();
        if self.json {
            let line = json!({"file": path.to_string(), "line": number, "error": reason});
            writeln!(std::io::stdout().lock(), "{line}")?;
        } else {
            writeln!(std::io::stderr().lock(), "{path}:{number}: {reason}")?;
        }
        Ok(())
    }

    async fn flush(&mut self, on: &mut PgConnection, path: &Path) -> Result<(), VerbError> {
        let (units, from) = (
            std::mem::take(&mut self.waiting),
            std::mem::take(&mut self.from),
        );
        self.bytes = 0;
        let written = writing::write(on, &units, self.manner).await;
        let (again, refused) = written.map_err(|source| VerbError::Halfway {
            done: format!("{} frames are stored", self.report.frames),
            advice: "run the same again; what is stored stays as it is".to_owned(),
            source: Box::new(source.into()),
        })?;
        self.report.frames += (units.len() - refused.len()) as u64;
        self.report.again += again;
        for (index, reason) in refused {
            self.bad(path, from[index], &reason)?;
        }
        Ok(())
    }

    fn told(&self) -> Result<(), VerbError> {
        let (report, again) = (&self.report, &self.report.again);
        let mut out = std::io::stdout().lock();
        if self.json {
            let line = json!({
                "lines": report.lines, "frames": report.frames, "bad_lines": report.bad,
                "records": again.records, "stored": again.stored, "quarantined": again.quarantined,
                "corrected": again.corrected, "known": again.known, "messages": again.messages,
                "dry_run": self.manner.dry_run,
            });
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let would = if self.manner.dry_run { "would be " } else { "" };
        writeln!(
            out,
            "{} frames with {} records: {} {would}stored, {} {would}put into quarantine, {} known before; {} messages; {} bad lines",
            report.frames,
            again.records,
            again.stored,
            again.quarantined,
            again.known + again.corrected,
            again.messages,
            report.bad,
        )?;
        Ok(())
    }
}
