//! How long the gateway may still learn new trackers.
//!
//! Why running time and not the calendar: a box without a battery clock starts in 1970 and jumps
//! to the present, which would close the window before the first tracker calls.
//!
//! Invariants: time is written down before it is used, so a restart, however abrupt, never gives
//! any back; a window file that cannot be understood means closed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::list_file;

/// So much is written down at once: what an abrupt end costs the operator at most.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// First word of the file.
const USED: &str = "used_s";

#[derive(Debug)]
pub(super) struct Window {
    path: PathBuf,
    learn_for: Duration,
    used_before: Duration,
    opened_at: Instant,
    /// Written down; never less than what was used.
    leased: Duration,
}

impl Window {
    /// Opens what is left of it. The file is made with the first [`Window::lease`].
    pub(super) fn open(path: &Path, learn_for: Duration, now: Instant) -> io::Result<Self> {
        let used = match std::fs::read_to_string(path) {
            Ok(text) => parse(&text).unwrap_or_else(|| {
                tracing::warn!(file = %path.display(), "not a learn window: taken as closed; remove the file to open it again");
                Duration::MAX
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Duration::ZERO,
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            learn_for,
            used_before: used,
            opened_at: now,
            leased: used,
        })
    }

    pub(super) fn left(&self, now: Instant) -> Duration {
        self.learn_for.saturating_sub(self.used(now))
    }

    fn used(&self, now: Instant) -> Duration {
        let running = now.saturating_duration_since(self.opened_at);
        self.used_before.saturating_add(running)
    }

    /// Writes down the next stretch when the last one is nearly used; `now` as in `left`.
    pub(super) fn lease(&mut self, now: Instant) -> io::Result<()> {
        let used = self.used(now);
        if self.leased >= self.learn_for || used + LEASE / 2 < self.leased {
            return Ok(());
        }
        let leased = (used + LEASE).min(self.learn_for);
        list_file::replace(
            &self.path,
            &format!("{USED} {}\n", leased.as_secs_f64().ceil()),
        )?;
        self.leased = leased;
        Ok(())
    }
}

fn parse(text: &str) -> Option<Duration> {
    let seconds = text.strip_prefix(USED)?.trim();
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_restart_at_any_second_gives_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        let mut now = Instant::now();
        let mut used = Duration::ZERO;
        for life in 0..200u32 {
            let mut window = Window::open(&path, MINUTE * 10, now).unwrap();
            assert!(window.left(now) <= (MINUTE * 10).saturating_sub(used));
            for _ in 0..life % 23 {
                window.lease(now).unwrap();
                now += Duration::from_secs(1);
                if !window.left(now).is_zero() {
                    used += Duration::from_secs(1);
                }
                assert!(window.left(now) <= (MINUTE * 10).saturating_sub(used));
            }
            now += MINUTE; // switched off
        }
        let window = Window::open(&path, MINUTE * 10, now).unwrap();
        assert!(window.left(now).is_zero(), "{window:?}");
        let longer = Window::open(&path, MINUTE * 20, now).unwrap();
        assert_eq!(longer.left(now), MINUTE * 10, "the operator gives more");
    }

    #[test]
    fn one_long_life_uses_the_window_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        let start = Instant::now();
        let mut window = Window::open(&path, MINUTE, start).unwrap();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(window.left(now), MINUTE - Duration::from_secs(second));
            window.lease(now).unwrap();
        }
        assert!(window.left(start + MINUTE).is_zero());
        let again = Window::open(&path, MINUTE, start).unwrap();
        assert!(again.left(start).is_zero());
    }

    #[test]
    fn what_cannot_be_understood_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        for text in ["", "used_s", "used_s -1", "used_s x\n", "5"] {
            std::fs::write(&path, text).unwrap();
            let now = Instant::now();
            let window = Window::open(&path, MINUTE, now).unwrap();
            assert!(window.left(now).is_zero(), "{text:?}");
        }
    }
}
