//! `stat`: what waits, how long the space lasts, what was written today.

use std::path::Path;

use ::spool::fs::RealFs;
use ::spool::inspect::{Stat, View};
use contract::Lane;
use serde_json::{Value, json};

use crate::clock;
use crate::spool::written::{Day, Written, date};

const MIB: f64 = 1024.0 * 1024.0;

/// Less than this that waits says little about the space a byte takes: segments come whole.
const MEASURED_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Everything that `stat` prints.
pub(super) struct Report {
    stat: Stat,
    bytes_max: Option<u64>,
    today: Option<Day>,
    bytes_per_second: Option<f64>,
    days_left: Option<f64>,
    now_ms: u64,
}

impl Report {
    pub(super) fn new(dir: &Path, view: &View<RealFs>, bytes_max: Option<u64>) -> Self {
        let (stat, written, now_ms) = (view.stat(), Written::read(dir), clock::now_ms());
        let waits: u64 = stat.lanes.iter().map(|lane| lane.bytes).sum();
        let measured = (waits >= MEASURED_BYTES_MIN).then(|| stat.used_bytes as f64 / waits as f64);
        let free = bytes_max.map(|bytes_max| bytes_max.saturating_sub(stat.used_bytes));
        Self {
            bytes_max,
            today: written.day(now_ms),
            bytes_per_second: written.payload_bytes_per_second(),
            days_left: free.and_then(|free| written.days_left(free, measured)),
            stat,
            now_ms,
        }
    }

    pub(super) fn text(&self) -> String {
        let stat = &self.stat;
        let owner = stat
            .owner
            .as_ref()
            .map_or("nobody yet", |owner| owner.as_str());
        let mut text = format!("owner      {owner}\n");
        for (lane, waits) in Lane::ALL.into_iter().zip(stat.lanes) {
            text.push_str(&format!("{:<10} ", lane.as_str()));
            match waits.oldest_received_at_ms {
                None => text.push_str("nothing waits\n"),
                Some(oldest) => text.push_str(&format!(
                    "{} records in {} frames, {}; the oldest came {} UTC, {} ago\n",
                    waits.records,
                    waits.envelopes,
                    size(waits.bytes),
                    moment(oldest),
                    span(self.now_ms.saturating_sub(oldest)),
                )),
            }
        }
        let [used, settled, free] = stat.segments;
        text.push_str(&format!(
            "segments   {used} with records that wait ({}), {settled} settled, {free} free, {} compacted; {} on disk\n",
            size(stat.used_bytes), stat.compacted, size(stat.file_bytes),
        ));
        if let Some(bytes_max) = self.bytes_max {
            let left = match (self.days_left, self.bytes_per_second) {
                (Some(days), Some(rate)) => format!(
                    "{days:.1} without a link, at {:.2} MiB of frames a day",
                    rate * 86_400.0 / MIB
                ),
                _ => "not known: the gateway notes its rate every five minutes and at its stop"
                    .to_owned(),
            };
            text.push_str(&format!(
                "room       {} of {} used\ndays left  {left}\n",
                size(stat.used_bytes),
                size(bytes_max)
            ));
        }
        if let Some(day) = self.today {
            let times = day.amplification();
            let times = times.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}"));
            text.push_str(&format!(
                "today      {} of frames, {} written for commits, {} for upkeep: {times} bytes a byte\n",
                size(day.payload_bytes), size(day.written_bytes), size(day.upkeep_bytes),
            ));
        }
        text.push_str(&format!(
            "cursor     generation {}\n",
            stat.cursor_generation
        ));
        for spool in &stat.spools {
            text.push_str(&format!("spool      {spool}\n"));
        }
        for (spool, gap) in &stat.gaps {
            text.push_str(&format!("gap        {spool} {gap}\n"));
        }
        for file in &stat.quarantine {
            text.push_str(&format!("quarantine {file}\n"));
        }
        for file in &stat.strangers {
            text.push_str(&format!("stranger   {file}\n"));
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let stat = &self.stat;
        let lanes = Lane::ALL.into_iter().zip(stat.lanes).map(|(lane, waits)| {
            json!({
                "lane": lane.as_str(),
                "records": waits.records,
                "frames": waits.envelopes,
                "bytes": waits.bytes,
                "oldest_received_at_ms": waits.oldest_received_at_ms,
            })
        });
        let gaps = stat.gaps.iter();
        let gaps =
            gaps.map(|(spool, gap)| json!({ "spool": spool.to_string(), "gap": gap.to_string() }));
        let today = self.today.map(|day| {
            json!({
                "date": date(self.now_ms),
                "seconds": day.seconds,
                "payload_bytes": day.payload_bytes,
                "written_bytes": day.written_bytes,
                "upkeep_bytes": day.upkeep_bytes,
                "write_amplification": day.amplification(),
            })
        });
        let value: Value = json!({
            "owner": stat.owner.as_ref().map(contract::GatewayId::as_str),
            "lanes": lanes.collect::<Vec<_>>(),
            "file_bytes": stat.file_bytes,
            "used_bytes": stat.used_bytes,
            "bytes_max": self.bytes_max,
            "segments": { "unsettled": stat.segments[0], "settled": stat.segments[1], "free": stat.segments[2], "compacted": stat.compacted },
            "days_left": self.days_left,
            "payload_bytes_per_second": self.bytes_per_second,
            "today": today,
            "spools": stat.spools.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "gaps": gaps.collect::<Vec<_>>(),
            "quarantine": stat.quarantine,
            "strangers": stat.strangers,
            "cursor_generation": stat.cursor_generation,
        });
        format!("{value}\n")
    }
}

fn size(bytes: u64) -> String {
    let mib = bytes as f64 / MIB;
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{mib:.1} MiB"),
        _ => format!("{:.2} GiB", mib / 1024.0),
    }
}

fn moment(ms: u64) -> String {
    let seconds = ms / 1000 % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{} {hour:02}:{minute:02}:{second:02}", date(ms))
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
