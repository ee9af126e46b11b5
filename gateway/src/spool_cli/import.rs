//! `import`: lines of kept frames into the spool of a stopped gateway.
//!
//! Invariants: a frame counts as imported after its receipt; a bad line costs itself alone; a
//! directory that is no spool yet is not made one, because nobody would know its owner.

use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use ::spool::fs::{OpenError, RealFs};
use ::spool::{FullPolicy, Geometry, Options, SpoolWriter};
use serde_json::json;

use super::{SpoolCliError, lines::Lines, look, print};
use crate::chain::chain;
use crate::clock;
use crate::spool::{Append, SpoolError};

/// A longer line is somebody's wrong file: the largest frame takes 131,070 digits.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Frames to one commit, and bytes after which it is closed.
const GROUP_FRAMES_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 128 * 1024;

/// What to read, and whether to write.
pub(super) struct Import {
    /// `-` is standard input.
    pub(super) file: PathBuf,
    pub(super) dry_run: bool,
    pub(super) bytes_max: Option<u64>,
}

/// What happened so far.
struct Count {
    as_json: bool,
    frames: u64,
    records: u64,
    refused: u64,
}

impl Count {
    fn refuse(&mut self, line: u64, why: &str) {
        self.refused += 1;
        if self.as_json {
            print(&format!("{}\n", json!({ "line": line, "refused": why })));
        } else {
            eprintln!("line {line}: {why}");
        }
    }
}

impl Import {
    pub(super) fn run(&self, dir: &Path, as_json: bool) -> Result<(), SpoolCliError> {
        let mut input = self.input()?;
        let mut writer = self.open(dir)?;
        let mut count = Count {
            as_json,
            frames: 0,
            records: 0,
            refused: 0,
        };
        let done = self.read_all(&mut *input, writer.as_mut(), &mut count);
        let Count {
            frames, records, ..
        } = count;
        if as_json {
            let value = json!({
                "frames": frames,
                "records": records,
                "refused": count.refused,
                "dry_run": self.dry_run,
            });
            print(&format!("{value}\n"));
        } else {
            let verb = if self.dry_run {
                "would import"
            } else {
                "imported"
            };
            print(&format!("{verb} {frames} frames with {records} records\n"));
        }
        done?;
        if count.refused > 0 {
            return Err(SpoolCliError::Refused {
                lines: count.refused,
            });
        }
        Ok(())
    }

    fn input(&self) -> Result<Box<dyn BufRead>, SpoolCliError> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(std::io::stdin().lock()));
        }
        let file = std::fs::File::open(&self.file);
        let file = file.map_err(|source| self.unreadable(source))?;
        Ok(Box::new(std::io::BufReader::new(file)))
    }

    fn unreadable(&self, source: std::io::Error) -> SpoolCliError {
        SpoolCliError::Input {
            file: self.file.clone(),
            source,
        }
    }

    /// `None` for a dry run.
    fn open(&self, dir: &Path) -> Result<Option<SpoolWriter<RealFs>>, SpoolCliError> {
        let view = look(dir)?;
        let no_owner = || SpoolCliError::NoOwner {
            dir: dir.to_owned(),
        };
        let gateway = view.owner().ok_or_else(no_owner)?.clone();
        let bytes_max = self.bytes_max.unwrap_or(0).max(view.file_bytes());
        let usual = Geometry::for_spool(bytes_max);
        // The sizes its files were made with, whatever the settings here say.
        let geometry = view.geometry().unwrap_or(usual);
        let options = Options {
            gateway,
            bytes_max: bytes_max.max(geometry.spool_bytes_min()),
            // What lies in it was acknowledged; what is imported has a copy: the file.
            full: FullPolicy::Refuse,
            geometry,
        };
        drop(view);
        if self.dry_run {
            return Ok(None);
        }
        let fs = RealFs::locked(dir).map_err(|error| match error {
            OpenError::InUse { dir } => SpoolCliError::Running { dir },
            other => SpoolCliError::Directory(other),
        })?;
        let mut random = [0; 3];
        for bits in &mut random {
            *bits = getrandom::u64().map_err(SpoolCliError::Random)?;
        }
        let (writer, _) = SpoolWriter::open(fs, options, random)?;
        Ok(Some(writer))
    }

    fn read_all(
        &self,
        input: &mut dyn BufRead,
        mut writer: Option<&mut SpoolWriter<RealFs>>,
        count: &mut Count,
    ) -> Result<(), SpoolCliError> {
        let (mut lines, mut number) = (Lines::default(), 0);
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut line = Vec::new();
        loop {
            let is_whole = next_line(input, &mut line).map_err(|e| self.unreadable(e))?;
            let Some(is_whole) = is_whole else { break };
            number += 1;
            let text = str::from_utf8(&line).unwrap_or("\u{fffd}");
            let text = if is_whole { text } else { "\u{fffd}" };
            match lines.read(text, clock::now_ms()) {
                Ok(None) => {}
                Ok(Some(append)) => {
                    bytes += append.bytes.len();
                    group.push((number, append));
                }
                Err(error) => count.refuse(number, &chain(&error)),
            }
            if group.len() >= GROUP_FRAMES_MAX || bytes >= GROUP_BYTES_MAX {
                keep(writer.as_deref_mut(), &mut group, count)?;
                bytes = 0;
            }
        }
        keep(writer, &mut group, count)
    }
}

/// Commits a group and counts its receipts. Stops the import when the spool takes nothing more.
fn keep(
    writer: Option<&mut SpoolWriter<RealFs>>,
    group: &mut Vec<(u64, Append)>,
    count: &mut Count,
) -> Result<(), SpoolCliError> {
    let (numbers, appends): (Vec<u64>, Vec<Append>) = group.drain(..).unzip();
    let Some(writer) = writer else {
        count.frames += appends.len() as u64;
        let records = appends.iter().map(|append| u64::from(append.record_count));
        count.records += records.sum::<u64>();
        return Ok(());
    };
    let mut stopped = None;
    for (number, receipt) in numbers.into_iter().zip(writer.commit(&appends)) {
        match receipt {
            Ok(durable) => {
                count.frames += 1;
                count.records += u64::from(durable.record_count());
            }
            Err(error @ SpoolError::TooLarge { .. }) => count.refuse(number, &chain(&error)),
            Err(error) => {
                count.refuse(number, &chain(&error));
                stopped.get_or_insert((number, error));
            }
        }
    }
    match stopped {
        None => Ok(()),
        Some((line, source)) => Err(SpoolCliError::Stopped { line, source }),
    }
}

/// Reads up to a line end; `None` at the end of input, else whether the line fits.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    line.clear();
    if (&mut *input).take(LINE_BYTES_MAX).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") || (line.len() as u64) < LINE_BYTES_MAX {
        return Ok(Some(true));
    }
    input.skip_until(b'\n')?;
    Ok(Some(false))
}
