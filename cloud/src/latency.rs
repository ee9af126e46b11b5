//! Pure: no I/O, no clock.
//!
//! How long things took: everything since the start for Prometheus, and the last minute for people.
//!
//! Why own buckets: two additions per measurement, a fixed few hundred bytes, no sample kept. Why two
//! generations: a percentile over everything since the start hides what happens now.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Steps within a decade.
const STEPS: [u64; 6] = [10, 15, 20, 30, 50, 70];

/// From 10 µs to 700 s.
const DECADES: usize = 8;

/// The last one takes what is longer.
const BUCKETS: usize = STEPS.len() * DECADES + 1;

/// A generation; a percentile looks over one to two of them.
const GENERATION: Duration = Duration::from_secs(30);

/// Bounds that Prometheus is told, milliseconds.
const TOLD_MS: [u64; 13] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000,
];

/// Upper bound of a bucket, microseconds; `None` for the last.
fn bound_us(bucket: usize) -> Option<u64> {
    let decade = u32::try_from(bucket / STEPS.len()).ok()?;
    (bucket + 1 < BUCKETS).then(|| STEPS[bucket % STEPS.len()] * 10_u64.pow(decade))
}

fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let fits = |bucket: &usize| bound_us(*bucket).is_none_or(|bound| us <= bound);
    (0..BUCKETS).find(fits).unwrap_or(BUCKETS - 1)
}

#[derive(Debug)]
struct State {
    total: [u64; BUCKETS],
    sum: Duration,
    current: [u64; BUCKETS],
    previous: [u64; BUCKETS],
    /// When the current generation began.
    began: Option<Instant>,
}

/// Durations of one kind.
#[derive(Debug)]
pub struct Latency(Mutex<State>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(State {
            total: [0; BUCKETS],
            sum: Duration::ZERO,
            current: [0; BUCKETS],
            previous: [0; BUCKETS],
            began: None,
        }))
    }
}

impl State {
    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age < GENERATION {
            return;
        }
        let current = std::mem::replace(&mut self.current, [0; BUCKETS]);
        self.previous = if age < 2 * GENERATION {
            current
        } else {
            [0; BUCKETS]
        };
        self.began = Some(now);
    }
}

impl Latency {
    /// One more.
    pub fn record(&self, now: Instant, took: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now);
        let bucket = bucket(took);
        state.total[bucket] += 1;
        state.current[bucket] += 1;
        state.sum = state.sum.saturating_add(took);
    }

    /// Ninety-nine of a hundred of the last half to whole minute took no longer, to within half its
    /// size; `None`: there were none.
    pub fn p99(&self, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(now);
        let count = |bucket: usize| state.current[bucket] + state.previous[bucket];
        let all: u64 = (0..BUCKETS).map(count).sum();
        if all == 0 {
            return None;
        }
        let enough = (all * 99).div_ceil(100);
        let mut seen = 0;
        for bucket in 0..BUCKETS {
            seen += count(bucket);
            if seen >= enough {
                let bound = bound_us(bucket).or_else(|| bound_us(BUCKETS - 2));
                return bound.map(Duration::from_micros);
            }
        }
        None
    }

    /// Prometheus text format 0.0.4.
    pub fn to_prometheus(&self, name: &str, help: &str) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let up_to = |us: u64| -> u64 {
            let within = |bucket: &usize| bound_us(*bucket).is_some_and(|bound| bound <= us);
            (0..BUCKETS)
                .filter(within)
                .map(|bucket| state.total[bucket])
                .sum()
        };
        for ms in TOLD_MS {
            let count = up_to(ms * 1_000);
            let le = Duration::from_millis(ms).as_secs_f64();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}_bucket{{le=\"{le}\"}} {count}");
        }
        let all: u64 = state.total.iter().sum();
        let sum = state.sum.as_secs_f64();
        let _ = writeln!(
            text,
            "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {sum}\n{name}_count {all}"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_duration_has_its_bucket() {
        let bounds: Vec<u64> = (0..BUCKETS).filter_map(bound_us).collect();
        assert_eq!(bounds.len(), BUCKETS - 1);
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_micros(10)), 0);
        assert_eq!(bucket(Duration::from_micros(11)), 1);
        assert_eq!(bucket(Duration::from_secs(10_000)), BUCKETS - 1);
        for ms in TOLD_MS {
            assert!(bounds.contains(&(ms * 1_000)), "{ms} ms");
        }
    }

    #[test]
    fn the_slowest_hundredth_is_seen_and_forgotten() {
        let latency = Latency::default();
        let start = Instant::now();
        assert_eq!(latency.p99(start), None);
        for _ in 0..98 {
            latency.record(start, Duration::from_millis(1));
        }
        latency.record(start, Duration::from_secs(2));
        assert_eq!(latency.p99(start), Some(Duration::from_secs(2)));
        latency.record(start, Duration::from_millis(1));
        assert_eq!(latency.p99(start), Some(Duration::from_millis(1)));
        let later = |s| start + Duration::from_secs(s);
        latency.record(later(31), Duration::from_secs(5));
        // Of 101, the hundredth.
        assert_eq!(latency.p99(later(32)), Some(Duration::from_secs(2)));
        // The first hundred are forgotten, then the last one too.
        assert_eq!(latency.p99(later(62)), Some(Duration::from_secs(5)));
        assert_eq!(latency.p99(later(200)), None);
    }

    #[test]
    fn prometheus_hears_cumulative_counts() {
        let latency = Latency::default();
        let now = Instant::now();
        for ms in [1, 4, 700] {
            latency.record(now, Duration::from_millis(ms));
        }
        let text = latency.to_prometheus("x_seconds", "How long.");
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{le=\"0.001\"} 1",
            "x_seconds_bucket{le=\"0.002\"} 1",
            "x_seconds_bucket{le=\"0.005\"} 2",
            "x_seconds_bucket{le=\"0.5\"} 2",
            "x_seconds_bucket{le=\"1\"} 3",
            "x_seconds_bucket{le=\"+Inf\"} 3",
            "x_seconds_sum 0.705",
            "x_seconds_count 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
