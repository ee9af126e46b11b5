//! Pure: no I/O, no clock.
//!
//! Requests that come again: the same `Idempotency-Key` and the same body get the same answer, and
//! nothing is written.
//!
//! Why only for some minutes and only in memory: a repeat that is not recognised is written once
//! more, and its rows are the rows that are there. This saves the work, not the truth.
//!
//! Invariants: at most [`KEPT_MAX`] answers of together at most [`KEPT_BYTES_MAX`] bytes, the oldest
//! forgotten first; only an answer for data that is durable is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a repeat is recognised.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(600);

/// Answers remembered …
pub(super) const KEPT_MAX: usize = 4_096;

/// … and their bytes.
pub(super) const KEPT_BYTES_MAX: usize = 2 << 20;

/// What an answer takes beside its bytes.
const ENTRY_BYTES: usize = 256;

/// SHA-256 of whatever tells two requests apart.
pub(super) type Digest = [u8; 32];

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    New,
    /// This request was answered so.
    Same(Arc<str>),
    /// It was used for another request.
    Other,
}

#[derive(Debug)]
struct Kept {
    body: Digest,
    answer: Arc<str>,
    at: Instant,
}

/// The answers of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kept: HashMap<Digest, Kept>,
    /// Keys in the order in which they came.
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Repeats {
    /// What is known of `key`, and was its request this one?
    pub(super) fn look(&mut self, key: &Digest, body: &Digest, now: Instant) -> Seen {
        self.forget(now, 0);
        match self.kept.get(key) {
            None => Seen::New,
            Some(kept) if kept.body == *body => Seen::Same(Arc::clone(&kept.answer)),
            Some(_) => Seen::Other,
        }
    }

    /// Remembers the answer to a request whose data is durable. A key that is known stays as it is.
    pub(super) fn keep(&mut self, key: Digest, body: Digest, answer: Arc<str>, now: Instant) {
        let bytes = answer.len() + ENTRY_BYTES;
        if bytes > KEPT_BYTES_MAX / 8 || self.kept.contains_key(&key) {
            return;
        }
        self.forget(now, bytes);
        self.bytes += bytes;
        self.order.push_back(key);
        let at = now;
        self.kept.insert(key, Kept { body, answer, at });
    }

    /// Makes room for so many bytes more.
    fn forget(&mut self, now: Instant, room: usize) {
        while let Some(oldest) = self.order.front() {
            let is_old = self
                .kept
                .get(oldest)
                .is_none_or(|kept| now.saturating_duration_since(kept.at) >= KEPT_FOR);
            let is_full =
                room > 0 && (self.order.len() >= KEPT_MAX || self.bytes + room > KEPT_BYTES_MAX);
            if !is_old && !is_full {
                return;
            }
            if let Some(kept) = self.kept.remove(oldest) {
                self.bytes -= kept.answer.len() + ENTRY_BYTES;
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn the_same_again_for_some_minutes() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let (key, body) = (digest(1), digest(2));
        assert_eq!(repeats.look(&key, &body, start), Seen::New);
        repeats.keep(key, body, "first".into(), start);
        assert_eq!(repeats.look(&key, &body, start), Seen::Same("first".into()));
        assert_eq!(repeats.look(&key, &digest(3), start), Seen::Other);
        repeats.keep(key, digest(3), "second".into(), start);
        assert_eq!(repeats.look(&key, &body, start), Seen::Same("first".into()));
        assert_eq!(repeats.look(&key, &body, start + KEPT_FOR), Seen::New);
        assert_eq!((repeats.bytes, repeats.order.len()), (0, 0));
    }

    #[test]
    fn neither_their_number_nor_their_bytes_grow_without_end() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..3 * KEPT_MAX {
            repeats.keep(digest(number), digest(0), "{}".into(), start);
        }
        assert_eq!(repeats.kept.len(), KEPT_MAX);
        assert_eq!(repeats.order.len(), KEPT_MAX);
        assert_eq!(repeats.look(&digest(0), &digest(0), start), Seen::New);
        let newest = digest(3 * KEPT_MAX - 1);
        assert_ne!(repeats.look(&newest, &digest(0), start), Seen::New);
        let long: Arc<str> = "x".repeat(KEPT_BYTES_MAX / 8 - ENTRY_BYTES).into();
        for number in 10_000_000..10_000_100 {
            repeats.keep(digest(number), digest(0), Arc::clone(&long), start);
            assert!(repeats.bytes <= KEPT_BYTES_MAX);
        }
        assert_eq!(repeats.kept.len(), 8);
        let too_long: Arc<str> = "x".repeat(KEPT_BYTES_MAX).into();
        repeats.keep(digest(7), digest(0), too_long, start);
        assert_eq!(repeats.look(&digest(7), &digest(0), start), Seen::New);
    }
}
