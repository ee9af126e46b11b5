//! `cloud queue`: what lies in Redis, emptied in an emergency without losing it, and put back.
//!
//! Why: FLUSHDB clears a queue and everything else with it, for good. Here what goes stands in a file
//! first, and only that goes.
//!
//! Invariants: nothing is removed before the file that holds it is on the disk, and nothing that
//! came meanwhile; orders to trackers are never put back, since they could be said twice.

mod file;
mod purge;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use redis::{Value, cmd};
use serde_json::json;

use crate::batch::StreamId;
use crate::config::Config;
use crate::operator::progress::Progress;
use crate::operator::{VerbError, moment};
use crate::stream::{GroupState, Link, Redis, RedisFailure, finder, reply, trimmer};

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum QueueVerb {
    /// Every stream: items, the age of the oldest, and how far each group is.
    #[command(
        after_help = "Telemetry streams with their shards, commands and dead letters. `cloud lag` counts records.\n\nExample:\n  cloud queue ls"
    )]
    Ls,
    /// Write a stream to a file, then remove from Redis what stands in the file.
    #[command(
        after_help = "What is not in the database stays with its gateways, and they send it again: a purge makes room in\nRedis, it does not make them forget. The processor will report the loss of unread items; that is\nright. Put the file back with `cloud queue import`.\n\nExamples:\n  cloud queue purge telemetry:teltonika --dry-run\n  cloud queue purge telemetry:teltonika --yes --export purged.ndjson"
    )]
    Purge {
        /// Its key.
        stream: String,
        /// Yes, remove them.
        #[arg(long)]
        yes: bool,
        /// Say what would go, and keep it.
        #[arg(long)]
        dry_run: bool,
        /// Where to write them first, one JSON object per item; the file must not be there yet.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Put back what `purge` wrote: the same fields, byte by byte, as new items of the same stream.
    #[command(
        after_help = "All lines are checked before the first is put back. Doing it twice stores nothing twice: records\nthat are in the database are recognised.\n\nExamples:\n  cloud queue import purged.ndjson --dry-run\n  cloud queue import purged.ndjson"
    )]
    Import {
        /// What to read.
        file: PathBuf,
        /// Check the file, and put nothing back.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does what was asked for. Returns the exit code.
/// # Errors
/// [`VerbError`].
pub async fn run(config: &Config, verb: &QueueVerb, json: bool) -> Result<u8, VerbError> {
    let link = Link::new(Arc::new(Redis::new(&config.redis)?));
    match verb {
        QueueVerb::Ls => list(&link, config, json).await,
        QueueVerb::Purge {
            stream,
            yes,
            dry_run,
            export,
        } => {
            may_be_moved(stream)?;
            let sure = purge::Sure {
                yes: *yes,
                dry_run: *dry_run,
                export: export.as_deref(),
            };
            purge::run(&link, &config.stream.group, stream, sure, json).await
        }
        QueueVerb::Import { file, dry_run } => import(&link, file, *dry_run, json).await,
    }
}

/// Orders and their outcomes are no data that could come again.
fn may_be_moved(stream: &str) -> Result<(), VerbError> {
    if stream.starts_with("commands:") {
        return Err(VerbError::Stream {
            stream: stream.to_owned(),
            why: "it holds orders to trackers or their outcomes; one that is put back could be said twice",
            advice: "take orders back with `cloud cmd cancel`",
        });
    }
    Ok(())
}

/// How one stream stands.
struct Held {
    stream: String,
    length: u64,
    oldest: Option<StreamId>,
    groups: Vec<GroupState>,
}

/// `None`: there is no such stream.
async fn held(link: &Link, stream: &str) -> Result<Option<Held>, RedisFailure> {
    let mut info = cmd("XINFO");
    info.arg("STREAM").arg(stream);
    let answer = match link.ask::<Value>("XINFO STREAM", &info).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_no_such_stream() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let (_, length, oldest) = reply::stream(&answer).unwrap_or_default();
    Ok(Some(Held {
        stream: stream.to_owned(),
        length,
        oldest,
        groups: trimmer::groups(link, stream).await?,
    }))
}

async fn list(link: &Link, config: &Config, json: bool) -> Result<u8, VerbError> {
    let mut names: Vec<String> = finder::named(&config.stream)
        .into_iter()
        .chain(finder::find(link, &config.stream).await?)
        .map(|stream| stream.name.to_string())
        .collect();
    if let Some(sensors) = &config.sensors {
        let found = finder::find(link, sensors).await?.into_iter();
        names.extend(found.map(|stream| stream.name.to_string()));
    }
    names.extend(finder::scan(link, "commands:*").await?);
    names.extend(config.stream.dead_letter.clone());
    names.dedup();
    let mut out = std::io::stdout().lock();
    if !json {
        writeln!(
            out,
            "{:32}  {:>10}  {:>9}  {:16}  {:>10}  {:>10}",
            "stream", "items", "oldest s", "group", "unread", "pending"
        )?;
    }
    for name in names {
        let Some(held) = held(link, &name).await? else {
            if !json {
                writeln!(out, "{name:32}  {:>10}", "none")?;
            }
            continue;
        };
        let now_ms = trimmer::now_ms(link, &name).await?;
        let age_s = held.oldest.map(|id| now_ms.saturating_sub(id.ms()) / 1_000);
        if json {
            let groups: Vec<_> = held
                .groups
                .iter()
                .map(|g| json!({"group": g.name, "unread_entries": g.lag, "pending_entries": g.pending}))
                .collect();
            let line = json!({"stream": held.stream, "entries": held.length, "oldest_seconds": age_s, "groups": groups});
            writeln!(out, "{line}")?;
            continue;
        }
        let age = age_s.map_or_else(|| "-".to_owned(), |age| age.to_string());
        let head = format!("{:32}  {:>10}  {age:>9}", held.stream, held.length);
        if held.groups.is_empty() {
            writeln!(out, "{head}  -")?;
        }
        for (number, group) in held.groups.iter().enumerate() {
            let head = if number == 0 { head.as_str() } else { "" };
            let unread = group
                .lag
                .map_or_else(|| "?".to_owned(), |lag| lag.to_string());
            writeln!(
                out,
                "{head:55}  {:16}  {unread:>10}  {:>10}",
                group.name, group.pending
            )?;
        }
    }
    Ok(0)
}

/// Reads every line and hands it on with its number.
async fn lines(
    path: &Path,
    mut each: impl AsyncFnMut(usize, file::Item) -> Result<(), VerbError>,
) -> Result<(), VerbError> {
    let refused = |source| VerbError::Read {
        path: path.to_owned(),
        source,
    };
    let opened = std::fs::File::open(path).map_err(refused)?;
    for (index, text) in BufReader::new(opened).lines().enumerate() {
        let text = text.map_err(refused)?;
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let item = file::read(&text).map_err(|reason| VerbError::Line {
            path: path.to_owned(),
            line,
            reason,
        })?;
        each(line, item).await?;
    }
    Ok(())
}

async fn import(link: &Link, path: &Path, dry_run: bool, json: bool) -> Result<u8, VerbError> {
    let mut streams: BTreeMap<String, u64> = BTreeMap::new();
    lines(path, async |_, item| {
        may_be_moved(&item.stream)?;
        *streams.entry(item.stream).or_default() += 1;
        Ok(())
    })
    .await?;
    let all: u64 = streams.values().sum();
    let mut done = 0_u64;
    if !dry_run {
        let mut progress = Progress::new("items");
        lines(path, async |_, item| {
            let mut add = cmd("XADD");
            add.arg(&item.stream).arg("*");
            for (name, value) in &item.fields {
                add.arg(name.as_slice()).arg(value.as_slice());
            }
            let added = link.ask::<String>("XADD", &add).await;
            added.map_err(|failure| VerbError::Halfway {
                done: format!("{done} of {all} items are put back"),
                advice: "run the same again; what is in the database is recognised".to_owned(),
                source: Box::new(failure.into()),
            })?;
            done += 1;
            progress.tell(done, Some(done * 1_000 / all.max(1)), "");
            Ok(())
        })
        .await?;
    }
    let mut out = std::io::stdout().lock();
    for (stream, entries) in &streams {
        if json {
            let line = json!({"stream": stream, "entries": entries, "put_back": !dry_run});
            writeln!(out, "{line}")?;
        } else {
            let word = if dry_run {
                "would be put back into"
            } else {
                "put back into"
            };
            writeln!(out, "{entries} items {word} {stream}")?;
        }
    }
    if streams.is_empty() && !json {
        writeln!(out, "there is no item in {}", path.display())?;
    }
    Ok(0)
}

/// When an item was added.
fn added(id: StreamId) -> String {
    moment::text(moment::at_ms(id.ms()))
}

#[cfg(test)]
mod tests {
    use contract::keys;

    use super::*;

    #[test]
    fn orders_to_trackers_stay_where_they_are() {
        for stream in [keys::COMMAND_RESPONSES, "commands:outbound:depot-1"] {
            assert!(may_be_moved(stream).is_err(), "{stream}");
        }
        for stream in [keys::STREAM_TELTONIKA, "dead-letter:telemetry"] {
            assert!(may_be_moved(stream).is_ok(), "{stream}");
        }
    }
}
