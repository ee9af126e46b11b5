//! What the spool wrote on each of the last days, so that `gateway spool stat` can say how long the
//! free space lasts and how the flash is worn.
//!
//! Why a file of text beside the segments: the counters of a process begin at zero, and the tools
//! ask from another process. It is not synced: losing it loses statistics only.
//!
//! Invariants: rewritten at most every five minutes and at the stop; whatever stands in it, reading
//! it fails nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spool::Usage;

use crate::clock;

/// The file's name.
const FILE: &str = "written";

const HEAD: &str = "# Written by the gateway, a line for each UTC day: date, seconds it ran, bytes of frames,\n# bytes of commits, bytes of upkeep. Statistics alone: it may be removed.\n";

/// Days that are kept.
const DAYS_MAX: usize = 8;

/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 64 * 1024;

const WRITE_INTERVAL: Duration = Duration::from_secs(300);

/// Below this a rate would be a guess.
const RATE_SECONDS_MIN: u64 = 60;

const DAY_MS: u64 = 86_400_000;

/// One day's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Day {
    /// Time the gateway ran.
    pub(crate) seconds: u64,
    /// Bytes of frames made durable.
    pub(crate) payload_bytes: u64,
    /// Bytes of commits and headers.
    pub(crate) written_bytes: u64,
    /// Bytes of cursors, compaction and zero-filling.
    pub(crate) upkeep_bytes: u64,
}

impl Day {
    fn add(&mut self, more: Day) {
        self.seconds = self.seconds.saturating_add(more.seconds);
        self.payload_bytes = self.payload_bytes.saturating_add(more.payload_bytes);
        self.written_bytes = self.written_bytes.saturating_add(more.written_bytes);
        self.upkeep_bytes = self.upkeep_bytes.saturating_add(more.upkeep_bytes);
    }

    /// Bytes written for each byte of frames.
    pub(crate) fn amplification(&self) -> Option<f64> {
        let bytes = self.written_bytes.saturating_add(self.upkeep_bytes);
        (self.payload_bytes > 0).then(|| bytes as f64 / self.payload_bytes as f64)
    }
}

/// The last days, by date (`2026-11-21`, UTC).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    days: BTreeMap<String, Day>,
}

impl Written {
    /// Reads what is there; what cannot be read is left out.
    pub(crate) fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let is_ours = std::fs::metadata(&path).is_ok_and(|m| m.len() <= FILE_BYTES_MAX);
        let text = is_ours.then(|| std::fs::read_to_string(&path).ok());
        Self::parse(&text.flatten().unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut written = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(date) = words.next().filter(|word| is_date(word)) else {
                continue;
            };
            let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            if let &[seconds, payload_bytes, written_bytes, upkeep_bytes] = &*numbers {
                let day = Day {
                    seconds,
                    payload_bytes,
                    written_bytes,
                    upkeep_bytes,
                };
                written.add(date, day);
            }
        }
        written
    }

    fn text(&self) -> String {
        let lines = self.days.iter().map(|(date, day)| {
            format!(
                "{date} {} {} {} {}\n",
                day.seconds, day.payload_bytes, day.written_bytes, day.upkeep_bytes
            )
        });
        HEAD.to_owned() + &lines.collect::<String>()
    }

    fn add(&mut self, date: &str, more: Day) {
        self.days.entry(date.to_owned()).or_default().add(more);
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
    }

    /// The day of `now_ms`; `None` when nothing was noted yet.
    pub(crate) fn day(&self, now_ms: u64) -> Option<Day> {
        self.days.get(&date(now_ms)).copied()
    }

    /// Bytes of frames a second over the last two days that are noted, while the gateway ran.
    pub(crate) fn payload_bytes_per_second(&self) -> Option<f64> {
        let mut sum = Day::default();
        self.days
            .values()
            .rev()
            .take(2)
            .for_each(|day| sum.add(*day));
        let is_known = sum.seconds >= RATE_SECONDS_MIN && sum.payload_bytes > 0;
        is_known.then(|| sum.payload_bytes as f64 / sum.seconds as f64)
    }

    /// Days that `free_bytes` take what comes in, when a byte of frames takes `space_per_byte` of
    /// the spool: without a measurement one byte, which lies above what compaction leaves.
    pub(crate) fn days_left(&self, free_bytes: u64, space_per_byte: Option<f64>) -> Option<f64> {
        let rate = self.payload_bytes_per_second()? * space_per_byte.unwrap_or(1.0);
        (rate > 0.0).then(|| free_bytes as f64 / rate / 86_400.0)
    }
}

fn is_date(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The UTC date, proleptic Gregorian. Counts in eras of 400 years that begin on 1 March, so that
/// the leap day is the last of its year.
pub(crate) fn date(ms: u64) -> String {
    const ERA_DAYS: u64 = 146_097;
    // 1 March of the year 0 lies so many days before 1970.
    let days = ms / DAY_MS + 719_468;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = (era * 400 + year + carry).min(9999);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// Shared between the thread that counts and whoever asks.
pub(crate) type Shared = Arc<Mutex<Written>>;

pub(crate) fn lock(written: &Shared) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds what the counters gained to the day, now and then.
pub(super) struct Tally {
    dir: PathBuf,
    written: Shared,
    seen: Usage,
    seen_at: Instant,
}

impl Tally {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            written: Arc::new(Mutex::new(Written::read(dir))),
            seen: Usage::default(),
            seen_at: Instant::now(),
        }
    }

    pub(super) fn shared(&self) -> Shared {
        Arc::clone(&self.written)
    }

    pub(super) fn is_due(&self) -> bool {
        self.seen_at.elapsed() >= WRITE_INTERVAL
    }

    pub(super) fn note(&mut self, usage: &Usage) {
        let gained = Day {
            seconds: self.seen_at.elapsed().as_secs(),
            payload_bytes: usage.payload_bytes - self.seen.payload_bytes,
            written_bytes: usage.written_bytes - self.seen.written_bytes,
            upkeep_bytes: usage.upkeep_bytes - self.seen.upkeep_bytes,
        };
        (self.seen, self.seen_at) = (*usage, Instant::now());
        let text = {
            let mut written = lock(&self.written);
            written.add(&date(clock::now_ms()), gained);
            written.text()
        };
        let new = self.dir.join(format!("{FILE}.new"));
        let put =
            std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, self.dir.join(FILE)));
        if let Err(error) = put {
            tracing::debug!(%error, "statistics of the spool could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn day(seconds: u64, payload_bytes: u64) -> Day {
        Day {
            seconds,
            payload_bytes,
            written_bytes: payload_bytes * 2,
            upkeep_bytes: payload_bytes / 2,
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_513, "2026-03-01"),
            (24_855, "2038-01-19"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days * DAY_MS), expected);
            assert_eq!(date(days * DAY_MS + DAY_MS - 1), expected);
        }
        assert!(is_date(&date(u64::MAX)));
    }

    #[test]
    fn text_comes_back_and_garbage_is_left_out() {
        let mut written = Written::default();
        for n in 0..12 {
            written.add(&date(n * DAY_MS), day(n, n * 10));
        }
        assert_eq!(written.days.len(), DAYS_MAX, "the last days are kept");
        assert!(written.day(3 * DAY_MS).is_none() && written.day(4 * DAY_MS).is_some());
        assert_eq!(Written::parse(&written.text()), written);
        let garbage = "2026-11-21 1 2 3\n\0\u{ff}\n2026-11-2x 1 2 3 4\n2026-11-20 1 2 3 4\n2026-11-22 1 2 x 4\n";
        let read = Written::parse(garbage);
        assert_eq!(read.days.keys().collect::<Vec<_>>(), ["2026-11-20"]);
    }

    #[test]
    fn the_rate_is_that_of_the_time_the_gateway_ran() {
        let mut written = Written::default();
        assert_eq!(written.days_left(1000, None), None);
        written.add("2026-11-19", day(86_400, 1));
        written.add("2026-11-20", day(3_000, 500_000));
        written.add("2026-11-21", day(1_000, 300_000));
        assert_eq!(written.payload_bytes_per_second(), Some(200.0));
        assert_eq!(written.days_left(200 * 86_400 * 3, None), Some(3.0));
        assert_eq!(written.days_left(200 * 86_400 * 3, Some(0.5)), Some(6.0));
        let today = written.days["2026-11-21"];
        assert_eq!(today.amplification(), Some(2.5));
    }

    #[test]
    fn what_was_counted_is_there_after_the_stop_and_added_to() {
        let dir = tempfile::tempdir().unwrap();
        for life in 1..=2 {
            let mut tally = Tally::new(dir.path());
            let mut usage = Usage::default();
            for _ in 0..2 {
                usage.payload_bytes += 100;
                usage.written_bytes += 300;
                tally.note(&usage);
            }
            let written = Written::read(dir.path());
            let sum: u64 = written.days.values().map(|day| day.payload_bytes).sum();
            assert_eq!(sum, life * 200);
            assert_eq!(&written, &*lock(&tally.shared()));
        }
    }
}
