//! Pure: no I/O, no clock.
//!
//! How much a source may send: a bucket that fills with time.
//!
//! Why it may be overdrawn: a batch counts as a whole, and one that is larger than a second's share
//! would otherwise never fit. Whoever overdraws waits until the bucket is level again.

use std::time::{Duration, Instant};

/// Seconds of its rate that a rested bucket holds.
const BURST_S: f64 = 2.0;

/// What is left of a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_s: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one; `per_s` is above 0.
    #[must_use]
    pub(super) fn new(per_s: f64, now: Instant) -> Self {
        Self {
            per_s,
            level: per_s * BURST_S,
            at: now,
        }
    }

    /// Takes `count` out.
    /// # Errors
    /// How long until something may be taken again; nothing was taken.
    pub(super) fn take(&mut self, count: usize, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.level = (self.level + passed * self.per_s).min(self.per_s * BURST_S);
        // Half of one, so that waiting as long as was said is enough whatever is lost in rounding.
        let least = (self.per_s * BURST_S).min(0.5);
        if self.level < least {
            let missing = (least - self.level) / self.per_s;
            return Err(Duration::from_secs_f64(missing.min(86_400.0)));
        }
        self.level -= count as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_batch_passes_once_and_is_paid_for_by_waiting() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100.0, start);
        assert_eq!(bucket.take(500, start), Ok(()));
        let Err(wait) = bucket.take(1, start) else {
            panic!("overdrawn, and nobody minds");
        };
        assert!((3.0..3.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(bucket.take(1, start + wait / 2).is_err());
        assert_eq!(bucket.take(1, start + wait * 2), Ok(()));
        // A long rest is worth two seconds and no more.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(bucket.take(200, later), Ok(()));
        assert!(bucket.take(1, later).is_err());
    }

    #[test]
    fn a_rate_below_one_a_second_works_too() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0.1, start);
        assert_eq!(bucket.take(1, start), Ok(()));
        let Err(wait) = bucket.take(1, start) else {
            panic!("one in ten seconds, and this is the second");
        };
        assert_eq!(
            bucket.take(1, start + wait + Duration::from_millis(1)),
            Ok(())
        );
    }
}
