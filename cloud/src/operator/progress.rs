//! Tells on stderr how far a long piece of work is: a bar on a terminal, a line every ten seconds
//! elsewhere.
//!
//! Invariant: stdout is left to the result, and what is done quickly says nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two lines where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Between two bars.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Characters of the bar.
const BAR_CHARS: u64 = 24;

/// Work in hand.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    began: Instant,
    told: Instant,
    is_terminal: bool,
    bar_is_there: bool,
}

impl Progress {
    /// Begins; `what` is a noun, such as `frames`.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let now = Instant::now();
        Self {
            what,
            began: now,
            told: now,
            is_terminal: std::io::stderr().is_terminal(),
            bar_is_there: false,
        }
    }

    /// So much is done, `share` of 1000 of the whole if that is known; `at` says where it is.
    pub fn tell(&mut self, done: u64, share: Option<u64>, at: &str) {
        let every = match self.is_terminal {
            true => BAR_EVERY,
            false => LINE_EVERY,
        };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let line = line(self.what, done, share, at, self.began.elapsed());
        let mut err = std::io::stderr().lock();
        // Nothing can be done about a closed stderr.
        let _ = match self.is_terminal {
            true => write!(err, "\r\x1b[K{line}"),
            false => writeln!(err, "{line}"),
        };
        let _ = err.flush();
        self.bar_is_there = self.is_terminal;
    }

    /// Takes the bar away, so that something else can be said.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.bar_is_there) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(what: &str, done: u64, share: Option<u64>, at: &str, took: Duration) -> String {
    let per_second = u128::from(done) * 1_000 / took.as_millis().max(1);
    let end = format!("{done} {what}  {per_second}/s  {at}");
    let Some(share) = share.map(|share| share.min(1_000)) else {
        return end.trim_end().to_owned();
    };
    let full = BAR_CHARS * share / 1_000;
    let bar: String = (0..BAR_CHARS)
        .map(|n| if n < full { '▇' } else { '·' })
        .collect();
    format!("{bar} {:>3}%  {end}", share / 10)
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_fast_and_where() {
        let told = line(
            "frames",
            500,
            Some(255),
            "2026-11-22",
            Duration::from_secs(2),
        );
        assert_eq!(
            told,
            "▇▇▇▇▇▇··················  25%  500 frames  250/s  2026-11-22"
        );
        let told = line("entries", 7, None, "", Duration::ZERO);
        assert_eq!(told, "7 entries  7000/s");
        assert!(line("x", 1, Some(9_999), "", Duration::ZERO).contains("100%"));
    }
}
