//! What was said and what was answered: the side of the story no database can invent.
//!
//! Invariants: a record is noted as sent before its first byte goes out, and as ACKed before
//! the device does anything that follows from the ACK, so that a truth file cut off at any
//! point never claims less than the server promised. Sixteen bytes per record, so that a
//! fleet may talk for a day.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use codec::Imei;
use serde::Deserialize;

use super::frame::RecordKey;

/// The records of many devices. Shared by everyone who notes and everyone who asks.
#[derive(Debug, Default)]
pub struct Truth {
    devices: Mutex<BTreeMap<u64, Vec<Record>>>,
    file: Option<Mutex<File>>,
}

/// One record and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its identity within its device.
    pub key: RecordKey,
    /// The server said OK.
    pub acked: bool,
}

impl Truth {
    /// Kept in memory alone.
    #[must_use]
    pub fn new() -> Truth {
        Truth::default()
    }

    /// Also appended to a file, one JSON object per line:
    /// `{"imei":N,"sent":[[time_ms,hash],…]}` and the same with `acked`.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn with_file(path: &Path) -> Result<Truth> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("truth file {}", path.display()))?;
        Ok(Truth {
            devices: Mutex::default(),
            file: Some(Mutex::new(file)),
        })
    }

    /// Reads what [`Truth::with_file`] wrote. A last line that was cut off is left out.
    ///
    /// # Errors
    /// When the file cannot be read or a line other than the last is no truth.
    pub fn read(path: &Path) -> Result<Truth> {
        let name = || format!("truth file {}", path.display());
        let truth = Truth::new();
        let mut lines = BufReader::new(File::open(path).with_context(name)?)
            .lines()
            .peekable();
        let mut acked: BTreeMap<u64, BTreeSet<RecordKey>> = BTreeMap::new();
        while let Some(line) = lines.next() {
            let read: Line = match serde_json::from_str(&line.with_context(name)?) {
                Ok(read) => read,
                Err(_) if lines.peek().is_none() => break,
                Err(error) => return Err(error).with_context(name),
            };
            truth
                .locked()
                .entry(read.imei)
                .or_default()
                .extend(records(&read.sent));
            acked
                .entry(read.imei)
                .or_default()
                .extend(keys(&read.acked));
        }
        for (imei, records) in truth.locked().iter_mut() {
            for record in records {
                record.acked = acked
                    .get(imei)
                    .is_some_and(|acked| acked.contains(&record.key));
            }
        }
        Ok(truth)
    }

    /// Notes records that are about to be sent for the first time. `Err` when the truth file
    /// cannot be written: then they must not be sent.
    ///
    /// # Errors
    /// When the truth file cannot be written.
    pub fn sent(&self, imei: Imei, keys: &[RecordKey]) -> Result<()> {
        self.write(imei, "sent", keys)?;
        let records = keys.iter().map(|key| Record {
            key: *key,
            acked: false,
        });
        self.locked()
            .entry(imei.as_u64())
            .or_default()
            .extend(records);
        Ok(())
    }

    /// Notes that the server said OK to records noted as sent before.
    ///
    /// # Errors
    /// When the truth file cannot be written.
    pub fn acked(&self, imei: Imei, keys: &[RecordKey]) -> Result<()> {
        self.write(imei, "acked", keys)?;
        let mut devices = self.locked();
        let records = devices.entry(imei.as_u64()).or_default();
        for key in keys {
            // What was sent last is acknowledged first, so this looks at a handful.
            if let Some(record) = records.iter_mut().rev().find(|record| record.key == *key) {
                record.acked = true;
            }
        }
        Ok(())
    }

    /// Every device with its records, each key once (a file may hold a record twice; it is
    /// ACKed if any of its copies was), sorted.
    #[must_use]
    pub fn devices(&self) -> Vec<u64> {
        self.locked().keys().copied().collect()
    }

    /// The records of one device, each key once, ACKed if any of its copies was; sorted.
    #[must_use]
    pub fn records(&self, imei: u64) -> Vec<Record> {
        let mut records = self.locked().get(&imei).cloned().unwrap_or_default();
        // ACKed copies first, so that they are the ones that stay.
        records.sort_unstable_by_key(|record| (record.key, !record.acked));
        records.dedup_by_key(|record| record.key);
        records
    }

    /// How many records were sent, and how many of them ACKed; copies counted once.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let mut totals = (0, 0);
        for imei in self.devices() {
            for record in self.records(imei) {
                totals.0 += 1;
                totals.1 += u64::from(record.acked);
            }
        }
        totals
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Record>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // One write call per line: the line is with the kernel when it returns, and appending
    // keeps lines of different devices apart.
    fn write(&self, imei: Imei, what: &str, keys: &[RecordKey]) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut line = format!("{{\"imei\":{},\"{what}\":[", imei.as_u64());
        for (index, key) in keys.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(line, "{comma}[{},{}]", key.fix_time_ms, key.record_hash)?;
        }
        line.push_str("]}\n");
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
            .context("write the truth file")
    }
}

#[derive(Deserialize)]
struct Line {
    imei: u64,
    #[serde(default)]
    sent: Vec<(u64, i32)>,
    #[serde(default)]
    acked: Vec<(u64, i32)>,
}

fn keys(pairs: &[(u64, i32)]) -> impl Iterator<Item = RecordKey> {
    pairs.iter().map(|&(fix_time_ms, record_hash)| RecordKey {
        fix_time_ms,
        record_hash,
    })
}

fn records(pairs: &[(u64, i32)]) -> impl Iterator<Item = Record> {
    keys(pairs).map(|key| Record { key, acked: false })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(fix_time_ms: u64) -> RecordKey {
        RecordKey {
            fix_time_ms,
            record_hash: -7,
        }
    }

    fn imei(last: u64) -> Imei {
        Imei::from_u64(350_000_000_000_000 + last).unwrap()
    }

    #[test]
    fn a_file_cut_anywhere_reads_back_as_what_was_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let truth = Truth::with_file(&path).unwrap();
        truth.sent(imei(1), &[key(1), key(2)]).unwrap();
        truth.sent(imei(2), &[key(1)]).unwrap();
        truth.acked(imei(1), &[key(1), key(2)]).unwrap();
        truth.sent(imei(1), &[key(3)]).unwrap();
        assert_eq!(truth.totals(), (4, 2));

        let whole = std::fs::read(&path).unwrap();
        let mut seen = BTreeSet::new();
        for end in 0..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            seen.insert(Truth::read(&path).unwrap().totals());
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            [(0, 0), (2, 0), (3, 0), (3, 2), (4, 2)]
        );
        let read = Truth::read(&path).unwrap();
        for imei in truth.devices() {
            assert_eq!(read.records(imei), truth.records(imei));
        }
        std::fs::write(&path, b"nonsense\n{\"imei\":1}\n").unwrap();
        assert!(Truth::read(&path).is_err());
    }

    #[test]
    fn copies_of_a_record_count_once_and_any_ack_counts() {
        let truth = Truth::new();
        truth.sent(imei(1), &[key(1)]).unwrap();
        truth.acked(imei(1), &[key(1)]).unwrap();
        truth.sent(imei(1), &[key(1)]).unwrap();
        assert_eq!(truth.totals(), (1, 1));
    }
}
