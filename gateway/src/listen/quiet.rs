//! Keeps a flood out of the log: some lines of each kind, then a count.
//!
//! Why beside the limit of the log: that one counts by place in the code, and one place here says
//! many kinds. Lines counted here carry [`logbook::COUNTED`] as target.
//!
//! Invariant: nothing is left out without a number that says how much.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::logbook;

/// Lines of one kind …
const LINES_MAX: u32 = 20;

/// … within so long.
const STRETCH: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Quiet {
    /// May this line be written? Then how many like it were left out since the last one.
    pub(super) fn line(&self, now: Instant) -> Option<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = inner.began.is_none_or(|began| now >= began + STRETCH);
        if is_over {
            inner.began = Some(now);
            inner.lines = 0;
        }
        if inner.lines >= LINES_MAX {
            inner.left_out += 1;
            logbook::leave_out();
            return None;
        }
        inner.lines += 1;
        Some(std::mem::take(&mut inner.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let quiet = Quiet::default();
        let start = Instant::now();
        let lines = (0..1000).filter(|_| quiet.line(start).is_some()).count();
        assert_eq!(lines, LINES_MAX as usize);
        assert_eq!(quiet.line(start + STRETCH), Some(980));
        assert_eq!(quiet.line(start + STRETCH), Some(0));
    }
}
