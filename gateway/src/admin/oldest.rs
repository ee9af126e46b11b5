//! How long the oldest frame has waited in the spool.
//!
//! Why remembered: finding it reads the disk, and a page asks every few seconds.
//!
//! Invariant: a disk that hangs keeps one thread and no page; the answer grows old meanwhile.

use std::time::{Duration, Instant};

use contract::Lane;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::spool::{Position, Reader, Spool, Usage};

/// An answer is good for so long.
const FRESH: Duration = Duration::from_secs(3);

/// A page waits so long for a better one.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Known {
    at: Option<Instant>,
    oldest_ms: Option<u64>,
    /// The look that is under way.
    look: Option<JoinHandle<Option<u64>>>,
}

#[derive(Debug, Default)]
pub(super) struct Oldest(Mutex<Known>);

impl Oldest {
    /// When the oldest frame that is not stored yet was received, milliseconds since 1970; `None`
    /// when none waits or it cannot be read. Whoever asks meanwhile waits for the same answer.
    pub(super) async fn received_at_ms(&self, spool: &Spool, usage: &Usage) -> Option<u64> {
        if usage.backlog() == 0 {
            return None;
        }
        let mut known = self.0.lock().await;
        if known.at.is_some_and(|at| at.elapsed() < FRESH) {
            return known.oldest_ms;
        }
        let look = known.look.get_or_insert_with(|| {
            let reader = spool.reader().clone();
            tokio::task::spawn_blocking(move || find(&reader))
        });
        if let Ok(found) = timeout(PATIENCE, look).await {
            *known = Known {
                at: Some(Instant::now()),
                oldest_ms: found.ok().flatten(),
                look: None,
            };
        }
        known.oldest_ms
    }
}

fn find(reader: &Reader) -> Option<u64> {
    let _reading = reader.begin_reading();
    let first = |lane| {
        let mut at = Position::default();
        loop {
            let chunk = reader.read(lane, at, None, 1).ok()?;
            let oldest = chunk.stored.iter().map(|stored| stored.received_at_ms);
            if let Some(oldest) = oldest.min() {
                return Some(oldest);
            }
            if chunk.at_end || chunk.next == at {
                return None;
            }
            at = chunk.next;
        }
    };
    Lane::ALL.into_iter().filter_map(first).min()
}
