//! How far ahead to look in a table that is ordered by time and has no index fit for pages.
//!
//! Why windows: a page is found by sorting what lies in its span, so the span must be short where
//! frames are dense, and long where there are none.
//!
//! Pure: no I/O, no clock.

use chrono::{DateTime, Duration, Utc};

const FIRST: Duration = Duration::minutes(10);
const SHORTEST: Duration = Duration::seconds(1);
const LONGEST: Duration = Duration::days(1);

/// Frames in a window below which the next one is twice as long, above which half as long.
const FEW: u64 = 1_000;
const MANY: u64 = 20_000;

/// Windows one behind the other over a span.
#[derive(Debug)]
pub(super) struct Windows {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    width: Duration,
}

impl Windows {
    pub(super) fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Self {
            from,
            to,
            width: FIRST,
        }
    }

    /// The next one, from its first moment to before its last; `None` at the end.
    pub(super) fn next(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let end = self.from.checked_add_signed(self.width).unwrap_or(self.to);
        (self.from < self.to).then_some((self.from, end.min(self.to)))
    }

    /// It is done and held so many frames.
    pub(super) fn done(&mut self, end: DateTime<Utc>, frames: u64) {
        self.from = end;
        if frames < FEW {
            self.width = (self.width * 2).min(LONGEST);
        } else if frames > MANY {
            self.width = (self.width / 2).max(SHORTEST);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn windows_cover_the_span_without_a_gap_whatever_is_in_them() {
        let from = DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap();
        let to = from + Duration::days(90) + Duration::milliseconds(7);
        for frames in [0, 5_000, 50_000] {
            let mut windows = Windows::new(from, to);
            let (mut at, mut count) = (from, 0);
            while let Some((start, end)) = windows.next() {
                assert!(start == at && start < end && end - start <= LONGEST);
                at = end;
                count += 1;
                // Dense at the beginning only, so that the test ends.
                windows.done(end, if count < 100 { frames } else { 0 });
            }
            assert_eq!(at, to, "{frames}");
            assert!(count < 400, "{frames}: {count} windows");
        }
        assert_eq!(Windows::new(to, from).next(), None);
    }
}
