//! A line that repeats is left out until the minute is over.
//!
//! Why: ten thousand trackers that lose their link say ten thousand times the same, and a log that
//! fills an SD card is worse than none. Errors are never left out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// Over which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines of one place in the code within the window.
const WARNINGS_MAX: u32 = 20;
const INFOS_MAX: u32 = 200;

/// Target of lines that whoever writes them counts by kind; one place in the code may say several
/// kinds, so they are not counted here again.
pub(crate) const COUNTED: &str = "gateway::counted";

/// Lines left out since the start of the process.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many lines were left out so far.
#[must_use]
pub fn left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// A line of [`COUNTED`] was left out.
pub(crate) fn leave_out() {
    LEFT_OUT.fetch_add(1, Relaxed);
}

/// Pure: counts within windows.
#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: 0,
        }
    }

    /// May one more pass?
    fn passes(&mut self, lines_max: u32, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= lines_max
    }
}

#[derive(Default)]
pub(super) struct Limit(Mutex<HashMap<Identifier, Window>>);

fn lines_max(level: &Level) -> Option<u32> {
    match *level {
        Level::WARN => Some(WARNINGS_MAX),
        Level::INFO => Some(INFOS_MAX),
        // Whoever asks for debug lines wants all of them.
        _ => None,
    }
}

impl<S: Subscriber> Filter<S> for Limit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let Some(lines_max) = lines_max(event.metadata().level()) else {
            return true;
        };
        if event.metadata().target() == COUNTED {
            return true;
        }
        let now = Instant::now();
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows
            .entry(event.metadata().callsite())
            .or_insert_with(|| Window::new(now));
        let passes = window.passes(lines_max, now);
        LEFT_OUT.fetch_add(u64::from(!passes), Relaxed);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_minute_and_again_in_the_next() {
        let start = Instant::now();
        let mut window = Window::new(start);
        for _ in 0..3 {
            assert!(window.passes(3, start));
        }
        assert!(!window.passes(3, start));
        assert!(!window.passes(3, start + WINDOW - Duration::from_millis(1)));
        assert!(window.passes(3, start + WINDOW));
    }

    #[test]
    fn errors_and_what_was_asked_for_always_pass() {
        for level in [Level::ERROR, Level::DEBUG, Level::TRACE] {
            assert_eq!(lines_max(&level), None);
        }
        assert_eq!(lines_max(&Level::WARN), Some(WARNINGS_MAX));
    }
}
