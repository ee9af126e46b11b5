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

/// First word of its second line, which is there once an operator opened or closed the window: how
/// much running time that makes from the first start on, and what `access.learn_for` was then.
const GRANTED: &str = "granted_ms";

/// Longest that an operator may open it for at once.
pub(super) const REOPEN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug)]
pub(super) struct Window {
    path: PathBuf,
    learn_for: Duration,
    /// What an operator made of it; void once the settings say something else than they did then.
    granted: Option<Duration>,
    used_before: Duration,
    opened_at: Instant,
    /// Written down; never less than what was used.
    leased: Duration,
}

impl Window {
    /// Opens what is left of it. The file is made with the first [`Window::lease`].
    pub(super) fn open(path: &Path, learn_for: Duration, now: Instant) -> io::Result<Self> {
        let (used, granted) = match std::fs::read_to_string(path) {
            Ok(text) => parse(&text, learn_for).unwrap_or_else(|| {
                tracing::warn!(file = %path.display(), "not a learn window: taken as closed; `gateway device learn` opens it again");
                (Duration::MAX, None)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Duration::ZERO, None),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            learn_for,
            granted,
            used_before: used,
            opened_at: now,
            leased: used,
        })
    }

    pub(super) fn left(&self, now: Instant) -> Duration {
        self.total().saturating_sub(self.used(now))
    }

    fn total(&self) -> Duration {
        self.granted.unwrap_or(self.learn_for)
    }

    /// Opens it for `span` from `now` on, whatever was left; zero closes it. Nothing changes unless
    /// it is written down.
    pub(super) fn reopen(&mut self, span: Duration, now: Instant) -> io::Result<()> {
        // A file that could not be understood counts as used up; from here on it can be.
        let used = self.used(now).min(self.total().max(self.learn_for));
        let granted = used + span.min(REOPEN_MAX);
        let next = Self {
            path: self.path.clone(),
            learn_for: self.learn_for,
            granted: Some(granted),
            used_before: used,
            opened_at: now,
            leased: used,
        };
        let leased = (used + LEASE).min(granted);
        next.write(leased)?;
        *self = Self { leased, ..next };
        Ok(())
    }

    fn write(&self, leased: Duration) -> io::Result<()> {
        let mut text = format!("{USED} {}\n", whole_seconds(leased).as_secs());
        if let Some(granted) = self.granted {
            let (granted, of) = (granted.as_millis(), self.learn_for.as_millis());
            text += &format!("{GRANTED} {granted} {of}\n");
        }
        list_file::replace(&self.path, &text)
    }

    fn used(&self, now: Instant) -> Duration {
        let running = now.saturating_duration_since(self.opened_at);
        self.used_before.saturating_add(running)
    }

    /// Writes down the next stretch when the last one is nearly used; `now` as in `left`.
    pub(super) fn lease(&mut self, now: Instant) -> io::Result<()> {
        let used = self.used(now);
        if self.leased >= self.total() || used + LEASE / 2 < self.leased {
            return Ok(());
        }
        let leased = (used + LEASE).min(self.total());
        self.write(leased)?;
        self.leased = leased;
        Ok(())
    }
}

/// Never less than it is.
pub(super) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

/// What was used, and what was granted if that still counts.
fn parse(text: &str, learn_for: Duration) -> Option<(Duration, Option<Duration>)> {
    let (used, granted) = text.split_once('\n').unwrap_or((text, ""));
    let used = used.strip_prefix(USED)?.trim().parse().ok()?;
    let used = Duration::from_secs(used);
    if granted.trim().is_empty() {
        return Some((used, None));
    }
    let (granted, of) = granted.strip_prefix(GRANTED)?.trim().split_once(' ')?;
    let granted = Duration::from_millis(granted.parse().ok()?);
    let is_void = of.parse::<u128>().ok()? != learn_for.as_millis();
    Some((used, (!is_void).then_some(granted)))
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
    fn an_operator_opens_and_closes_it_and_a_restart_does_not_undo_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        let start = Instant::now();
        let open = |learn_for, now| Window::open(&path, learn_for, now).unwrap();
        let mut window = open(MINUTE, start);
        window.lease(start).unwrap();
        let later = start + MINUTE * 5;
        assert!(window.left(later).is_zero());
        window.reopen(MINUTE * 30, later).unwrap();
        assert_eq!(window.left(later), MINUTE * 30);
        window.lease(later).unwrap();
        let left = open(MINUTE, later).left(later);
        assert_eq!(left, MINUTE * 30 - LEASE, "what was written down is used");
        // Used up to its end like any other.
        let mut window = open(MINUTE, later);
        for second in 0..=30 * 60 {
            window.lease(later + Duration::from_secs(second)).unwrap();
        }
        assert!(open(MINUTE, later).left(later).is_zero(), "{window:?}");
        // Closed at once, and closed after a restart, also in the middle of a second.
        window.reopen(MINUTE, later).unwrap();
        let later = later + Duration::from_millis(1_300);
        window.reopen(Duration::ZERO, later).unwrap();
        assert!(window.left(later).is_zero() && open(MINUTE, later).left(later).is_zero());
        // Other settings count again: so much of an hour is left as was not used before.
        let left = open(MINUTE * 60, later).left(later);
        assert!(left > MINUTE * 28 && left < MINUTE * 60, "{left:?}");
        let most = REOPEN_MAX * 3;
        window.reopen(most, later).unwrap();
        assert_eq!(window.left(later), REOPEN_MAX);
    }

    #[test]
    fn a_broken_file_is_opened_again_by_an_operator() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        std::fs::write(&path, "x").unwrap();
        let now = Instant::now();
        let mut window = Window::open(&path, MINUTE, now).unwrap();
        window.reopen(MINUTE * 2, now).unwrap();
        assert_eq!(window.left(now), MINUTE * 2);
        let again = Window::open(&path, MINUTE, now).unwrap();
        assert_eq!(again.left(now), MINUTE * 2 - LEASE);
    }

    #[test]
    fn what_cannot_be_understood_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("learned.window");
        for text in [
            "",
            "used_s",
            "used_s -1",
            "used_s x\n",
            "5",
            "used_s 1\ngranted_ms",
            "used_s 1\ngranted_ms 5",
            "used_s 1\ngranted_ms x 60000",
            "used_s 1\nmore",
        ] {
            std::fs::write(&path, text).unwrap();
            let now = Instant::now();
            let window = Window::open(&path, MINUTE, now).unwrap();
            assert!(window.left(now).is_zero(), "{text:?}");
        }
    }
}
