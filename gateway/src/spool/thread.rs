//! The one thread that writes: gathers what waits, commits it, hands out the receipts.
//!
//! Invariants: a receipt leaves only after the commit that holds its frame returned it; upkeep only
//! runs while no frame waits, and so does compaction unless frames wait for seconds on end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spool::fs::RealFs;
use spool::{Append, CompactPolicy, SpoolWriter};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::filler::Filler;
use super::written::Tally;
use super::{Receipt, Tail, Waiting};
use crate::board::Supply;
use crate::chain::chain;
use crate::progress::Stage;

/// Frames that one commit takes at most.
const GROUP_FRAMES_MAX: usize = 4096;

/// A commit takes no more frames from here on: with the largest frame they still fit one group of
/// the spool. Of several groups the first would wait for its receipts until the last is on disk.
const GROUP_BYTES: usize = 192 * 1024;

/// How often the spool looks for something to compact or make ahead when there was nothing.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// The same after a segment was compacted: a busy box offline fills them faster than
/// [`IDLE_INTERVAL`], and a tracker that waits meanwhile waits for one segment alone.
const COMPACT_INTERVAL: Duration = Duration::from_millis(500);

/// Lateness after which a segment is compacted although frames wait.
const COMPACT_LATE_MAX: Duration = Duration::from_secs(5);

/// Who waits, and for how many of the receipts.
enum Reply {
    One(oneshot::Sender<Receipt>),
    All(usize, oneshot::Sender<Vec<Receipt>>),
}

/// What the next commit takes.
#[derive(Default)]
struct Group {
    appends: Vec<Append>,
    replies: Vec<Reply>,
    bytes: usize,
}

impl Group {
    /// `true`: it is urgent.
    fn put(&mut self, waiting: Waiting) -> bool {
        match waiting {
            Waiting::One(append, reply) => {
                let panic = append.panic;
                self.bytes += append.bytes.len();
                self.appends.push(append);
                self.replies.push(Reply::One(reply));
                panic
            }
            Waiting::All(appends, reply) => {
                self.bytes += appends
                    .iter()
                    .map(|append| append.bytes.len())
                    .sum::<usize>();
                self.replies.push(Reply::All(appends.len(), reply));
                let panic = appends.iter().any(|append| append.panic);
                self.appends.extend(appends);
                panic
            }
        }
    }

    fn has_room(&self) -> bool {
        self.appends.len() < GROUP_FRAMES_MAX && self.bytes < GROUP_BYTES
    }
}

pub(super) struct Thread {
    pub(super) writer: SpoolWriter<RealFs>,
    pub(super) interval_min: Duration,
    pub(super) tail: watch::Sender<Tail>,
    pub(super) failed: Arc<AtomicBool>,
    pub(super) tally: Tally,
    pub(super) filler: Filler,
    pub(super) stage: Stage,
    pub(super) supply: Supply,
}

impl Thread {
    /// Runs until every handle is gone and the queue is empty.
    pub(super) async fn run(mut self, queue: mpsc::Receiver<Waiting>) {
        self.keep_all(queue).await;
        self.tally.note(&self.writer.reader().usage());
        self.stage.finish();
    }

    async fn keep_all(&mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut group = Group::default();
        let mut not_before = Instant::now();
        let mut committed_bytes = 0;
        let mut compact_at = not_before + IDLE_INTERVAL;
        loop {
            self.stage.turn();
            let late_by = Instant::now().checked_duration_since(compact_at);
            let is_due = late_by.is_some_and(|late| queue.is_empty() || late >= COMPACT_LATE_MAX);
            // Whoever stops does not wait for the whole backlog.
            if is_due && !queue.is_closed() {
                let interval = if self.compact() {
                    COMPACT_INTERVAL
                } else {
                    IDLE_INTERVAL
                };
                compact_at = Instant::now() + interval;
            }
            self.filler
                .turn(&mut self.writer, std::mem::take(&mut committed_bytes));
            if self.tally.is_due() {
                self.tally.note(&self.writer.reader().usage());
            }
            let first = match queue.try_recv() {
                Ok(first) => first,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    if self.make_ahead() {
                        continue;
                    }
                    match timeout_at(compact_at, queue.recv()).await {
                        Ok(Some(first)) => first,
                        Ok(None) => return,
                        Err(_) => continue,
                    }
                }
            };
            let mut urgent = group.put(first);
            // A panic record that arrives during the wait ends it, and so does a supply that goes.
            while !urgent && Instant::now() < not_before && group.has_room() {
                tokio::select! {
                    next = queue.recv() => {
                        let Some(next) = next else { break };
                        urgent = group.put(next);
                    }
                    () = sleep_until(not_before) => {}
                    () = self.supply.fails() => break,
                }
            }
            while group.has_room() {
                let Ok(next) = queue.try_recv() else { break };
                group.put(next);
            }
            not_before = Instant::now() + self.interval_min;
            committed_bytes = group.bytes as u64;
            self.commit(&mut group);
        }
    }

    fn commit(&mut self, group: &mut Group) {
        let results = self.writer.commit(&group.appends);
        let panic = group.appends.iter().any(|append| append.panic);
        group.appends.clear();
        group.bytes = 0;
        let kept = results.iter().any(Result::is_ok);
        if self.writer.has_failed() && !self.failed.swap(true, Ordering::Relaxed) {
            let error = results.iter().find_map(|result| result.as_ref().err());
            tracing::error!(
                error = error.map(|error| chain(error)),
                "spool stopped acknowledging; restart once the disk is well"
            );
        }
        // The uplink may look before the trackers hear: what it finds is durable.
        if kept {
            self.tail.send_modify(|tail| {
                tail.commits += 1;
                tail.panics += u64::from(panic);
            });
        }
        let mut results = results.into_iter();
        for reply in group.replies.drain(..) {
            // A connection that is gone does not need its receipt; the record is kept anyway.
            match reply {
                Reply::One(reply) => {
                    let _ = results.next().map(|result| reply.send(result));
                }
                Reply::All(count, reply) => {
                    let _ = reply.send(results.by_ref().take(count).collect());
                }
            }
        }
    }

    /// Prepares the next segment while nobody waits for it; `true` when there may be more to do.
    fn make_ahead(&mut self) -> bool {
        match self.writer.upkeep() {
            Ok(did) => did,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "spool upkeep failed; tried again later"
                );
                false
            }
        }
    }

    /// Compacts one segment of what waits for a link; `true` when there may be more.
    fn compact(&mut self) -> bool {
        match self.writer.compact(CompactPolicy::default()) {
            Ok(Some(compacted)) => {
                tracing::debug!(?compacted, "backlog compacted");
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "backlog not compacted; it stays as it is"
                );
                false
            }
        }
    }
}
