//! `export`: kept frames as lines.
//!
//! Invariant: of a spool that is being written, what is compacted or recycled while it is read is
//! looked for again, so that what was unsettled at the end is there.

use std::io::Write as _;
use std::path::Path;

use ::spool::inspect::Range;
use contract::{Device, Kind, Lane};
use serde_json::json;

use super::{SpoolCliError, lines, look};

/// Looks at what is missing after the first.
const LOOKS_AGAIN: u32 = 3;

/// What to print.
pub(super) struct Export {
    pub(super) all: bool,
    pub(super) lane: Option<Lane>,
    pub(super) notes: bool,
    /// One object for each line instead of the line.
    pub(super) as_json: bool,
}

/// What was left out.
#[derive(Default)]
struct Lines {
    device: Option<Device>,
    left_out: u64,
}

impl Export {
    pub(super) fn print(&self, dir: &Path) -> Result<(), SpoolCliError> {
        let lanes = self.lane.map_or(Lane::ALL.to_vec(), |lane| vec![lane]);
        let (mut failed, mut missing_frames) = (None, 0);
        let mut lines = Lines::default();
        for lane in lanes {
            match self.print_lane(dir, lane, &mut lines) {
                Ok(missing) => missing_frames += missing,
                // What can be read of the other lanes is printed all the same.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if lines.left_out > 0 {
            eprintln!(
                "gateway: {} frames of devices without an IMEI, or not of Teltonika, are left out: --notes prints them too",
                lines.left_out
            );
        }
        match failed {
            Some(error) => Err(error),
            None if missing_frames > 0 => Err(SpoolCliError::Incomplete {
                frames: missing_frames,
            }),
            None => Ok(()),
        }
    }

    /// Answers the frames that should be there and are not.
    fn print_lane(&self, dir: &Path, lane: Lane, lines: &mut Lines) -> Result<u64, SpoolCliError> {
        let mut missing: Option<Vec<Range>> = None;
        for _ in 0..=LOOKS_AGAIN {
            let is_wanted = |spool, seq| {
                missing.as_ref().is_none_or(|missing: &Vec<Range>| {
                    let mut ranges = missing.iter();
                    ranges.any(|&(of, first, last)| of == spool && first <= seq && seq <= last)
                })
            };
            let view = look(dir)?;
            let mut out = std::io::stdout().lock();
            let not_there = view.export(lane, self.all && missing.is_none(), &mut |stored| {
                if !is_wanted(stored.spool, stored.seq) {
                    return true;
                }
                let mut text = String::new();
                let is_plain =
                    matches!(stored.device, Device::Imei(_)) && stored.kind == Kind::Teltonika;
                if !self.notes && !is_plain {
                    lines.left_out += 1;
                    return true;
                }
                match &stored.device {
                    Device::Imei(imei) if lines.device.as_ref() != Some(&stored.device) => {
                        lines::write_login(*imei, &mut text);
                        lines.device = Some(stored.device.clone());
                    }
                    Device::Text(_) | Device::Imei(_) => {}
                }
                if self.notes {
                    lines::write_note(&stored, &mut text);
                }
                lines::write_frame(&stored.bytes, &mut text);
                if self.as_json {
                    let objects = text
                        .lines()
                        .map(|line| format!("{}\n", json!({ "line": line })));
                    text = objects.collect();
                }
                // A closed pipe is the reader's wish, not an error.
                out.write_all(text.as_bytes()).is_ok()
            })?;
            let not_there = match &missing {
                // What came meanwhile is not asked for.
                Some(before) => both(before, &not_there),
                None => not_there,
            };
            if not_there.is_empty() {
                return Ok(0);
            }
            missing = Some(not_there);
        }
        let missing = missing.unwrap_or_default();
        let frames = missing
            .iter()
            .map(|(_, first, last)| last.get() - first.get() + 1);
        Ok(frames.sum())
    }
}

/// What is in both.
fn both(left: &[Range], right: &[Range]) -> Vec<Range> {
    let pairs = left.iter().flat_map(|l| right.iter().map(move |r| (l, r)));
    let same = pairs.filter(|(l, r)| l.0 == r.0);
    let common = same.map(|(l, r)| (l.0, l.1.max(r.1), l.2.min(r.2)));
    common.filter(|(_, first, last)| first <= last).collect()
}
