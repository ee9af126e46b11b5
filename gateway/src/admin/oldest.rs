//! How long the oldest frame has waited in the spool.
//!
//! Why remembered: finding it reads the disk, and a page asks every few seconds.

use std::time::{Duration, Instant};

use contract::Lane;
use tokio::sync::Mutex;

use crate::spool::{Position, Reader, Spool, Usage};

/// An answer is good for so long.
const FRESH: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Oldest(Mutex<Option<(Instant, Option<u64>)>>);

impl Oldest {
    /// When the oldest frame that is not stored yet was received, milliseconds since 1970; `None`
    /// when none waits or it cannot be read. Whoever asks meanwhile waits for the same answer.
    pub(super) async fn received_at_ms(&self, spool: &Spool, usage: &Usage) -> Option<u64> {
        let mut known = self.0.lock().await;
        if let Some((at, oldest_ms)) = *known
            && at.elapsed() < FRESH
        {
            return oldest_ms.filter(|_| usage.backlog() > 0);
        }
        let oldest_ms = if usage.backlog() > 0 {
            let reader = spool.reader().clone();
            tokio::task::spawn_blocking(move || find(&reader))
                .await
                .ok()
                .flatten()
        } else {
            None
        };
        *known = Some((Instant::now(), oldest_ms));
        oldest_ms
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
