//! `cloud replay`: raw frames of the table decoded again, their rows put back or corrected.
//!
//! Why: the bytes are kept so that a better decoder improves history, and so that rows that somebody
//! lost are not lost.
//!
//! Invariants: doing it twice changes nothing, so an end in the middle is no damage; what lies in the
//! dead letters is left to `cloud dlq`; memory does not grow with the span.

mod window;

use std::io::Write as _;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use self::window::Windows;
use crate::batch::Unit;
use crate::config::Config;
use crate::decode;
use crate::metrics::now_ms;
use crate::operator::progress::Progress;
use crate::operator::writing::{self, Manner};
use crate::operator::{VerbError, moment, tracker};
use crate::store::again::Again;
use crate::store::frames::{self, Span, Stored};
use crate::store::{Database, StoreError};

/// Frames named one by one when they cannot be read or written.
const NAMED_MAX: u64 = 10;

/// Which frames.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Received from this moment on (gateway clock): 2026-11-22T08:00:00Z, 2026-11-22, or an age: 24h.
    #[arg(long, value_name = "T")]
    from: String,
    /// Received before this moment; 0s is now.
    #[arg(long, value_name = "T", default_value = "0s")]
    to: String,
    /// Only of this tracker.
    #[arg(long)]
    imei: Option<String>,
    /// Count what would change, and take it back.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default)]
struct Report {
    frames: u64,
    again: Again,
    dead: u64,
    unreadable: u64,
    refused: u64,
}

/// Does it. Returns the exit code: 1 when frames could not be read or written, or it was stopped.
/// # Errors
/// [`VerbError`].
pub async fn run(
    config: &Config,
    args: &ReplayArgs,
    json: bool,
    stop: &CancellationToken,
) -> Result<u8, VerbError> {
    let now = moment::at_ms(now_ms());
    let read = |option, given: &String| {
        moment::read(given, now).ok_or_else(|| VerbError::Option {
            option,
            given: given.clone(),
            expected: moment::EXPECTED.to_owned(),
        })
    };
    let (from, to) = (read("--from", &args.from)?, read("--to", &args.to)?);
    if from >= to {
        return Err(VerbError::Option {
            option: "--from",
            given: args.from.clone(),
            expected: format!("before --to, which is {}", moment::text(to)),
        });
    }
    let database = Database::new(&config.database)?;
    let mut on = database.connect().await?;
    let device = match &args.imei {
        Some(imei) => Some(tracker::find(&mut on, imei).await?),
        None => None,
    };
    let Some(oldest) = frames::oldest(&mut on).await? else {
        let what = "there is nothing to replay";
        return Err(VerbError::NoFrames { what });
    };
    if oldest > from {
        // To stderr: it is no result, but whoever asked must know.
        let (oldest, from) = (moment::text(oldest), moment::text(from));
        let _ = writeln!(
            std::io::stderr().lock(),
            "note: the oldest frame kept was received at {oldest}; nothing from {from} to there can be replayed (frames.keep, frames.retention)"
        );
    }
    let mut work = Work {
        span: Span { from, to, device },
        manner: Manner {
            keep_frames: false,
            dry_run: args.dry_run,
        },
        report: Report::default(),
        progress: Progress::new("frames"),
        reached: from.max(oldest),
    };
    let worked = work.windows(&mut on, stop).await;
    work.progress.clear();
    let go_on = || {
        let imei = args.imei.as_ref();
        let imei = imei.map_or_else(String::new, |imei| format!(" --imei {imei}"));
        let (reached, to) = (moment::text(work.reached), moment::text(to));
        format!("go on with `cloud replay --from {reached} --to {to}{imei}`")
    };
    if let Err(error) = worked {
        return Err(VerbError::Halfway {
            done: format!("{} frames are replayed", work.report.frames),
            advice: go_on(),
            source: Box::new(error.into()),
        });
    }
    let stopped = work.reached < to && stop.is_cancelled();
    if stopped {
        let _ = writeln!(std::io::stderr().lock(), "stopped; {}", go_on());
    }
    told(&work, oldest, json)?;
    let _ = on.close().await;
    let bad = work.report.unreadable + work.report.refused > 0;
    Ok(u8::from(bad || stopped))
}

struct Work {
    span: Span,
    manner: Manner,
    report: Report,
    progress: Progress,
    /// Everything received before is done.
    reached: DateTime<Utc>,
}

impl Work {
    async fn windows(
        &mut self,
        on: &mut PgConnection,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut windows = Windows::new(self.reached, self.span.to);
        let began = self.reached;
        while let Some((from, to)) = windows.next() {
            let span = Span {
                from,
                to,
                ..self.span.clone()
            };
            let before = self.report.frames;
            let mut after = None;
            loop {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let page = frames::page(on, &span, after).await?;
                self.report.unreadable += page.strange;
                self.page(on, page.frames).await?;
                let whole = (self.span.to - began).num_milliseconds().max(1);
                let done = (self.reached - began).num_milliseconds();
                let share = u64::try_from(done.saturating_mul(1_000) / whole).ok();
                let at = moment::text(self.reached);
                self.progress.tell(self.report.frames, share, &at);
                after = page.next;
                match after {
                    // Frames of this very moment may still be to come.
                    Some((at, ..)) => self.reached = at,
                    None => break,
                }
            }
            self.reached = to;
            windows.done(to, self.report.frames - before);
        }
        Ok(())
    }

    async fn page(&mut self, on: &mut PgConnection, page: Vec<Stored>) -> Result<(), StoreError> {
        let mut units: Vec<Unit> = Vec::with_capacity(page.len());
        for stored in page {
            self.report.frames += 1;
            let at = stored.at;
            match again(stored) {
                Read::Unit(unit, dead) => {
                    self.report.dead += dead;
                    units.push(*unit);
                }
                Read::Dead => self.report.dead += 1,
                Read::Unreadable(reason) => {
                    self.report.unreadable += 1;
                    self.name(at, &reason);
                }
            }
        }
        let (again, refused) = writing::write(on, &units, self.manner).await?;
        self.report.again += again;
        for (index, reason) in refused {
            self.report.refused += 1;
            if let (Some(place), Some(frame)) = (&units[index].place, &units[index].frame) {
                let spool = i64::try_from(place.spool.as_u64()).unwrap_or(0);
                let seq = i64::try_from(place.first).unwrap_or(0);
                self.name((moment::at_ms(frame.received_at_ms), spool, seq), &reason);
            }
        }
        Ok(())
    }

    /// Says which frame, as long as there are few.
    fn name(&mut self, (at, spool, seq): frames::At, reason: &str) {
        let count = self.report.unreadable + self.report.refused;
        if count > NAMED_MAX {
            return;
        }
        self.progress.clear();
        let at = moment::text(at);
        let _ = writeln!(
            std::io::stderr().lock(),
            "frame of {at}, spool {spool:016x}, position {seq}: {reason}"
        );
    }
}

/// What a stored frame is today.
enum Read {
    /// Rows, and how many of its records lie in the dead letters.
    Unit(Box<Unit>, u64),
    /// The whole of it lies there.
    Dead,
    Unreadable(String),
}

fn again(stored: Stored) -> Read {
    if stored.dead.contains(&-1) {
        return Read::Dead;
    }
    let mut unit = decode::frame(stored.place, stored.frame, stored.seen_ms);
    if let Some(bad) = unit.dead_letters.pop() {
        return Read::Unreadable(bad.reason);
    }
    let all = unit.records.len();
    let is_dead = |index: u32| i32::try_from(index).is_ok_and(|i| stored.dead.contains(&i));
    unit.records.retain(|record| !is_dead(record.index));
    let dead = (all - unit.records.len()) as u64;
    Read::Unit(Box::new(unit), dead)
}

fn told(work: &Work, oldest: DateTime<Utc>, json: bool) -> Result<(), VerbError> {
    let (report, again) = (&work.report, &work.report.again);
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({
            "from": moment::text(work.span.from), "to": moment::text(work.span.to),
            "oldest_kept": moment::text(oldest), "reached": moment::text(work.reached),
            "frames": report.frames, "records": again.records, "stored": again.stored,
            "corrected": again.corrected, "quarantined": again.quarantined, "known": again.known,
            "messages": again.messages, "in_dead_letters": report.dead,
            "unreadable": report.unreadable, "refused": report.refused,
            "dry_run": work.manner.dry_run,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let would = if work.manner.dry_run { "would be " } else { "" };
    writeln!(
        out,
        "{} frames with {} records: {} {would}put back, {} {would}corrected, {} {would}put into quarantine, {} as they were; {} messages {would}put back",
        report.frames,
        again.records,
        again.stored,
        again.corrected,
        again.quarantined,
        again.known,
        again.messages,
    )?;
    if report.dead > 0 {
        writeln!(
            out,
            "{} frames or records lie in the dead letters: cloud dlq redrive --all",
            report.dead
        )?;
    }
    if report.unreadable + report.refused > 0 {
        writeln!(
            out,
            "{} frames cannot be read any more, {} are refused by the database",
            report.unreadable, report.refused
        )?;
    }
    Ok(())
}
