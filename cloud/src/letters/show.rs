//! One dead letter in full.
//!
//! Pure: no I/O, no clock.

use std::fmt::Write as _;

use codec::CodecId;
use serde_json::{Value, json};

use super::today::{self, Still, spool_text};
use super::{drop, hexdump};
use crate::batch::Unit;
use crate::config::SensorConfig;
use crate::operator::moment;
use crate::sensors::letter as sensor;
use crate::store::letters::Letter;

/// Which decoder speaks.
#[derive(Debug)]
pub(crate) struct Versions {
    /// Dictionary in the database; `None`: there is none.
    pub(crate) loaded: Option<String>,
    /// Dictionary that comes with this program.
    pub(crate) ours: String,
    /// What streams of sensors mean.
    pub(crate) sensors: SensorConfig,
    /// Our clock, milliseconds since 1970 UTC.
    pub(crate) now_ms: u64,
}

/// Would a redrive succeed, why, and where it stopped?
pub(crate) fn judged(letter: &Letter, versions: &Versions) -> (bool, String, Option<usize>) {
    if letter.error_class == sensor::ERROR_CLASS {
        let (entry, now_ms) = (&letter.entry_id, versions.now_ms);
        let read = sensor::again(entry, &letter.bytes, &versions.sensors, now_ms);
        let (succeeds, mut because) = match read {
            Ok(_) => (true, "today's program reads it".to_owned()),
            Err(still) => (false, still),
        };
        asks_again(letter, &mut because);
        return (succeeds, because, None);
    }
    let read = today::read(letter);
    let (succeeds, because) = verdict(&read, letter);
    (succeeds, because, read.err().and_then(|still| still.offset))
}

/// What the database said is known to the database alone.
fn asks_again(letter: &Letter, because: &mut String) {
    if let Some(sqlstate) = &letter.sqlstate {
        let _ = write!(
            because,
            "; the database refused it with {sqlstate}, `cloud dlq redrive {} --dry-run` asks it again",
            letter.id
        );
    }
}

/// Would a redrive succeed, and why?
fn verdict(read: &Result<Vec<Unit>, Still>, letter: &Letter) -> (bool, String) {
    match read {
        Ok(units) => {
            let records: usize = units.iter().map(|unit| unit.records.len()).sum();
            let messages: usize = units.iter().map(|unit| unit.messages.len()).sum();
            let mut because =
                format!("today's decoder reads {records} records and {messages} messages in it");
            asks_again(letter, &mut because);
            (true, because)
        }
        Err(still) => (false, still.reason.clone()),
    }
}

pub(super) fn json(letter: &Letter, versions: &Versions) -> Value {
    let (succeeds, because, _) = judged(letter, versions);
    let mut line = drop::to_json(letter, true);
    line["decoder"] = env!("CARGO_PKG_VERSION").into();
    line["dictionary"] = json!({"loaded": versions.loaded, "program": versions.ours});
    line["redrive_would_succeed"] = succeeds.into();
    line["because"] = because.into();
    line
}

pub(super) fn text(letter: &Letter, versions: &Versions, whole: bool) -> String {
    let (succeeds, because, stopped) = judged(letter, versions);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "dead letter {}  {}", letter.id, letter.error_class);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:10} {value}");
        }
    };
    row("reason", letter.reason.clone());
    row("sqlstate", letter.sqlstate.clone().unwrap_or_default());
    row(
        "tracker",
        letter
            .device
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    );
    row("place", place(letter));
    row("entry", letter.entry_id.clone());
    row(
        "received",
        letter.received_at.map(moment::text).unwrap_or_default(),
    );
    let (first, last) = (
        moment::text(letter.first_failed),
        moment::text(letter.last_failed),
    );
    let times = letter.delivery_count;
    row(
        "failed",
        match first == last {
            true => first,
            false => format!("{first}, last {last}, {times} times"),
        },
    );
    row("records", letter.records.to_string());
    row("decoder", format!("cloud {}", env!("CARGO_PKG_VERSION")));
    row(
        "dictionary",
        match &versions.loaded {
            Some(loaded) if *loaded == versions.ours => format!("{loaded}, as this program has it"),
            Some(loaded) => format!(
                "{loaded}; this program has {} (cloud migrate up)",
                versions.ours
            ),
            None => format!(
                "none loaded; this program has {} (cloud migrate up)",
                versions.ours
            ),
        },
    );
    row(
        "bytes",
        format!("{} {}", letter.bytes.len(), begins(letter)),
    );
    let caret = letter.byte_offset.or(stopped);
    let _ = writeln!(out);
    out.push_str(&hexdump::dump(
        &letter.bytes,
        caret,
        "it stopped here",
        whole,
    ));
    let answer = if succeeds { "yes" } else { "no" };
    let _ = writeln!(out, "\nredrive would succeed: {answer}, because {because}");
    out
}

fn place(letter: &Letter) -> String {
    if letter.gateway.is_empty() {
        return String::new();
    }
    let spool = spool_text(letter.spool_id);
    let mut text = format!("gateway {}", letter.gateway);
    if !spool.is_empty() {
        let _ = write!(text, ", spool {spool}, position {}", letter.seq);
    }
    if let Some(index) = letter.record_index {
        let _ = write!(text, ", record {index}");
    }
    text
}

/// Are its bytes a data field of Teltonika, from the codec id on?
pub(crate) fn is_data_field(letter: &Letter) -> bool {
    letter.kind == contract::Kind::Teltonika
        && letter.record_index.is_none()
        && matches!(
            letter.error_class.as_str(),
            "codec" | "frame" | "database" | "foreign_spool"
        )
}

/// What the first bytes are, where they are those of a data field.
fn begins(letter: &Letter) -> String {
    match letter.bytes.as_slice() {
        [codec, count, ..] if is_data_field(letter) => {
            let id = CodecId::from_byte(*codec);
            let what = match (id.is_avl(), id.is_message()) {
                (true, _) => "records",
                (_, true) => "messages",
                _ => "of a codec this program does not know",
            };
            format!("(codec id {codec:#04x}, first count {count}: {what})")
        }
        _ => String::new(),
    }
}
