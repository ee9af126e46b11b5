//! A stream into a file, and out of Redis.
//!
//! Why in two passes over Redis: what is told before the question must be what goes after the answer,
//! and a stream may be larger than our memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use contract::entry::field;
use redis::{Value, cmd};
use serde_json::json;

use super::file::{self, Item};
use super::{added, held};
use crate::batch::StreamId;
use crate::operator::VerbError;
use crate::operator::progress::Progress;
use crate::stream::{Link, RedisFailure, lag, reply};

/// Items of one read: up to a quarter of a megabyte each.
const READ_COUNT: usize = 50;

/// Pending ids of one question.
const PENDING_COUNT: usize = 1_000;

/// How sure the operator is, and where the items go.
pub(super) struct Sure<'a> {
    pub(super) yes: bool,
    pub(super) dry_run: bool,
    pub(super) export: Option<&'a Path>,
}

/// What was found of one gateway.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    entries: u64,
    records: u64,
    /// Not acknowledged by our group: not known to be in the database.
    open_entries: u64,
    open_records: u64,
}

#[derive(Debug, Default)]
struct Count {
    entries: u64,
    first: Option<StreamId>,
    last: Option<StreamId>,
    by_gateway: BTreeMap<String, Share>,
}

/// What our group has not acknowledged: what it holds, and everything behind what it was handed.
struct Open {
    pending: std::collections::HashSet<StreamId>,
    delivered: Option<StreamId>,
}

impl Open {
    fn is_open(&self, id: StreamId) -> bool {
        self.delivered.is_none_or(|delivered| id > delivered) || self.pending.contains(&id)
    }
}

impl Count {
    fn add(&mut self, item: &reply::Item, open: &Open) {
        let text = |name: &str| {
            let fields = item.1.as_deref().unwrap_or_default();
            let found = fields.iter().find(|(found, _)| found == name.as_bytes());
            found.and_then(|(_, value)| std::str::from_utf8(value).ok())
        };
        self.entries += 1;
        self.first = self.first.or(Some(item.0));
        self.last = Some(item.0);
        let gateway = text(field::GATEWAY).unwrap_or("-").to_owned();
        let share = self.by_gateway.entry(gateway).or_default();
        let records = lag::records(item);
        share.entries += 1;
        share.records = share.records.saturating_add(records);
        if open.is_open(item.0) {
            share.open_entries += 1;
            share.open_records = share.open_records.saturating_add(records);
        }
    }
}

pub(super) async fn run(
    link: &Link,
    group: &str,
    stream: &str,
    sure: Sure<'_>,
    json: bool,
) -> Result<u8, VerbError> {
    let Some(standing) = held(link, stream).await? else {
        return Err(VerbError::NoStream {
            stream: stream.to_owned(),
            url: link.url().to_owned(),
        });
    };
    let what = || format!("stream {stream} with {} items", standing.length);
    let export = match (sure.dry_run, sure.yes, sure.export) {
        (true, ..) => None,
        (false, false, _) => return Err(VerbError::NotSure { what: what() }),
        (false, true, None) => return Err(VerbError::NoExport { what: what() }),
        (false, true, Some(path)) => Some(path),
    };
    let ours = standing.groups.iter().find(|state| state.name == group);
    let open = Open {
        pending: pending(link, stream, group, ours.map_or(0, |state| state.pending)).await?,
        delivered: ours.map(|state| state.last_delivered),
    };
    let count = copy(link, stream, standing.length, export, &open).await?;
    let mut removed = 0;
    if let (Some(_), Some(last)) = (export, count.last) {
        removed = trim(link, stream, last).await?;
        for state in &standing.groups {
            forget(link, stream, &state.name, last).await?;
        }
    }
    told(stream, &count, removed, &sure, json)
}

/// Reads all of it; into the file, if there is one, which is on the disk afterwards.
async fn copy(
    link: &Link,
    stream: &str,
    length: u64,
    export: Option<&Path>,
    open: &Open,
) -> Result<Count, VerbError> {
    let refused = |source| VerbError::Export {
        path: export.map(Path::to_owned).unwrap_or_default(),
        source,
    };
    let mut out = match export {
        Some(path) => Some(BufWriter::new(File::create_new(path).map_err(refused)?)),
        None => None,
    };
    let mut progress = Progress::new("items");
    let mut count = Count::default();
    loop {
        let from = count
            .last
            .map_or_else(|| "-".to_owned(), |last| format!("({last}"));
        let mut range = cmd("XRANGE");
        range
            .arg(stream)
            .arg(from)
            .arg("+")
            .arg("COUNT")
            .arg(READ_COUNT);
        let items = reply::items(&link.ask::<Value>("XRANGE", &range).await?);
        if items.is_empty() {
            break;
        }
        for item in items {
            count.add(&item, open);
            if let Some(out) = &mut out {
                let line = file::write(&Item {
                    stream: stream.to_owned(),
                    id: item.0,
                    fields: item.1.unwrap_or_default(),
                });
                writeln!(out, "{line}").map_err(refused)?;
            }
        }
        progress.tell(
            count.entries,
            (count.entries * 1_000).checked_div(length),
            "",
        );
        // Of what is added all the time there is no end.
        if count.entries >= length {
            break;
        }
    }
    if let Some(mut out) = out {
        let kept = out.flush().and_then(|()| out.get_ref().sync_all());
        kept.map_err(refused)?;
    }
    Ok(count)
}

/// Removes everything up to `last`, and nothing behind it.
async fn trim(link: &Link, stream: &str, last: StreamId) -> Result<u64, RedisFailure> {
    let mut trim = cmd("XTRIM");
    trim.arg(stream).arg("MINID").arg(last.next().to_string());
    link.ask("XTRIM", &trim).await
}

/// Takes the removed items from those who were handed them: there is nothing left to work on.
async fn forget(
    link: &Link,
    stream: &str,
    group: &str,
    last: StreamId,
) -> Result<(), RedisFailure> {
    loop {
        let mut ask = cmd("XPENDING");
        ask.arg(stream)
            .arg(group)
            .arg("-")
            .arg(last.to_string())
            .arg(PENDING_COUNT);
        let ids = reply::pending(&link.ask::<Value>("XPENDING", &ask).await?);
        if ids.is_empty() {
            return Ok(());
        }
        let mut ack = cmd("XACK");
        ack.arg(stream).arg(group);
        for id in &ids {
            ack.arg(id.to_string());
        }
        link.ask::<u64>("XACK", &ack).await?;
    }
}

async fn pending(
    link: &Link,
    stream: &str,
    group: &str,
    count: u64,
) -> Result<std::collections::HashSet<StreamId>, RedisFailure> {
    let mut all = std::collections::HashSet::new();
    if count == 0 {
        return Ok(all);
    }
    let mut from = "-".to_owned();
    loop {
        let mut ask = cmd("XPENDING");
        ask.arg(stream)
            .arg(group)
            .arg(&from)
            .arg("+")
            .arg(PENDING_COUNT);
        let ids = reply::pending(&link.ask::<Value>("XPENDING", &ask).await?);
        let Some(last) = ids.last() else {
            return Ok(all);
        };
        from = format!("({last}");
        all.extend(ids);
    }
}

fn told(
    stream: &str,
    count: &Count,
    removed: u64,
    sure: &Sure<'_>,
    json: bool,
) -> Result<u8, VerbError> {
    let mut out = std::io::stdout().lock();
    if json {
        let gateways: Vec<_> = count
            .by_gateway
            .iter()
            .map(|(gateway, share)| {
                json!({
                    "gateway": gateway, "entries": share.entries, "records": share.records,
                    "unsettled_entries": share.open_entries, "unsettled_records": share.open_records,
                })
            })
            .collect();
        let line = json!({
            "stream": stream, "entries": count.entries, "removed": removed,
            "export": sure.export.filter(|_| !sure.dry_run).map(|path| path.display().to_string()),
            "gateways": gateways, "dry_run": sure.dry_run,
        });
        writeln!(out, "{line}")?;
        return Ok(0);
    }
    let span = match (count.first, count.last) {
        (Some(first), Some(last)) => format!(", added {} to {}", added(first), added(last)),
        _ => String::new(),
    };
    writeln!(out, "{stream}: {} items{span}", count.entries)?;
    for (gateway, share) in &count.by_gateway {
        writeln!(
            out,
            "  {gateway}: {} items with {} records; {} items with {} records are unread or pending",
            share.entries, share.records, share.open_entries, share.open_records
        )?;
    }
    let is_telemetry = contract::keys::may_carry_telemetry(stream);
    let open: u64 = count
        .by_gateway
        .values()
        .map(|share| share.open_records)
        .sum();
    if is_telemetry && open > 0 {
        writeln!(
            out,
            "What is unread or pending is not in the database: its gateways keep it and send it again, {open} records."
        )?;
    } else if !is_telemetry && count.entries > 0 {
        writeln!(
            out,
            "Nobody sends these again; they are copies, or in the file alone."
        )?;
    }
    match (sure.dry_run, sure.export) {
        (true, _) => writeln!(out, "nothing was removed (--dry-run)")?,
        (false, Some(path)) => writeln!(
            out,
            "{removed} items removed; they are in {}, `cloud queue import` puts them back",
            path.display()
        )?,
        (false, None) => {}
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_acknowledged_is_counted_for_its_gateway() {
        let id = |text: &str| text.parse::<StreamId>().unwrap();
        let item = |at: &str, gateway: &str| {
            let fields = vec![
                (b"gw".to_vec(), gateway.as_bytes().to_vec()),
                (b"n".to_vec(), b"5".to_vec()),
            ];
            (id(at), Some(fields))
        };
        let open = Open {
            pending: [id("2-0")].into(),
            delivered: Some(id("3-0")),
        };
        let mut count = Count::default();
        for (at, gateway) in [("1-0", "a"), ("2-0", "a"), ("3-0", "b"), ("4-0", "b")] {
            count.add(&item(at, gateway), &open);
        }
        count.add(&(id("5-0"), None), &open);
        let share = |open| Share {
            entries: 2,
            records: 10,
            open_entries: open,
            open_records: 5 * open,
        };
        assert_eq!(count.by_gateway["a"], share(1));
        assert_eq!(count.by_gateway["b"], share(1));
        assert_eq!(
            (count.by_gateway["-"].entries, count.by_gateway["-"].records),
            (1, 0)
        );
        assert_eq!(
            (count.first, count.last),
            (Some(id("1-0")), Some(id("5-0")))
        );
        // Without a group nobody has acknowledged anything.
        let nobody = Open {
            pending: [].into(),
            delivered: None,
        };
        assert!(nobody.is_open(id("1-0")));
        assert_eq!(id("1-0").next(), id("1-1"));
    }
}
