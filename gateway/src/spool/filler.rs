//! Makes the next segments ready on a thread of its own.
//!
//! Why beside the commits: a file is filled for as long as several commits take, and a gateway that
//! is offline or flooded needs a new one every few megabytes. Trackers would wait for each.
//!
//! Why in pieces: a commit that meets the filling at the disk waits three times as long. After a
//! commit the disk is idle until the next has arrived, so that is when a piece is written.
//!
//! Invariants: one file at a time, and what became of it is taken in before the next is begun; when
//! this is gone so is its thread, which would hold the directory otherwise.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use spool::fs::RealFs;
use spool::{Filled, Filling, SpoolWriter};

use crate::chain::chain;

/// Zeros written after a commit, at least.
const PIECE_BYTES: u64 = 64 * 1024;

/// Zeros written for each byte that was committed, at least: the next file has to be there before
/// this one is full.
const ZEROS_PER_BYTE: u64 = 2;

/// Without a commit for so long the disk is idle anyway.
const TURN_MAX: Duration = Duration::from_millis(10);

pub(super) struct Filler {
    /// `None` only while this is dropped.
    orders: Option<Orders>,
    filled: Receiver<Filled>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told. Without it, it ends what it has begun at once.
struct Orders {
    to_fill: Sender<Filling<RealFs>>,
    /// Zeros that may be written, bytes.
    allowed: Sender<u64>,
}

impl Filler {
    /// Starts its thread, which ends with this value.
    /// # Errors
    /// As the system says.
    pub(super) fn start() -> std::io::Result<Self> {
        let (to_fill, waiting) = channel::<Filling<RealFs>>();
        let (allowed, commits) = channel();
        let (done, filled) = channel();
        let thread = thread::Builder::new()
            .name("spool-fill".to_owned())
            .spawn(move || {
                for filling in waiting {
                    // What was committed before is no reason to write now.
                    while commits.try_recv().is_ok() {}
                    let mut allowance = Allowance::default();
                    let turn = || allowance.take(|| commits.recv_timeout(TURN_MAX).ok());
                    if done.send(filling.fill(turn)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            orders: Some(Orders { to_fill, allowed }),
            filled,
            is_busy: false,
            thread: Some(thread),
        })
    }

    /// Takes in what is ready and begins the next, if one is wanted. Never waits for the disk longer
    /// than a name takes to be durable. `committed_bytes`: since the last time.
    pub(super) fn turn(&mut self, writer: &mut SpoolWriter<RealFs>, committed_bytes: u64) {
        let Some(orders) = &self.orders else {
            return;
        };
        if self.is_busy && committed_bytes > 0 {
            // Without the thread there is nothing to allow.
            let _ = orders.allowed.send(committed_bytes);
        }
        match self.filled.try_recv() {
            Ok(filled) => {
                self.is_busy = false;
                if let Err(error) = writer.adopt(filled) {
                    let error = chain(&error);
                    tracing::warn!(error, "no segment could be made ahead; tried again later");
                }
            }
            Err(TryRecvError::Empty) if self.is_busy => return,
            Err(TryRecvError::Empty) => {}
            // Without the thread the writer makes its segments itself.
            Err(TryRecvError::Disconnected) => return,
        }
        if let Some(filling) = writer.begin_filling() {
            self.is_busy = orders.to_fill.send(filling).is_ok();
        }
    }
}

/// Zeros that may be written before the next commit, bytes.
#[derive(Default)]
struct Allowance(u64);

impl Allowance {
    /// Comes back when something may be written, and says how much: whole pieces. `next_commit` waits
    /// for one and says how many bytes it had; `None`: there is none just now.
    fn take(&mut self, mut next_commit: impl FnMut() -> Option<u64>) -> u64 {
        while self.0 < PIECE_BYTES {
            let zeros = next_commit().unwrap_or(0).saturating_mul(ZEROS_PER_BYTE);
            self.0 = self.0.saturating_add(zeros.max(PIECE_BYTES));
        }
        let left = self.0 % PIECE_BYTES;
        std::mem::replace(&mut self.0, left) - left
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was said there.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces written after each of these commits.
    fn pieces(commits: &[Option<u64>]) -> Vec<u64> {
        let mut allowance = Allowance::default();
        let taken = commits.iter().map(|commit| allowance.take(|| *commit));
        taken.map(|bytes| bytes / PIECE_BYTES).collect()
    }

    #[test]
    fn a_small_commit_allows_one_piece_and_a_large_one_twice_its_bytes() {
        assert_eq!(pieces(&[Some(1), Some(1_200), Some(9)]), [1, 1, 1]);
        assert_eq!(pieces(&[Some(4 * PIECE_BYTES), Some(1)]), [8, 1]);
        // What is left over counts.
        let most_of_one = PIECE_BYTES * 3 / 4;
        assert_eq!(pieces(&[Some(most_of_one), Some(most_of_one)]), [1, 2]);
        // Larger than any disk.
        assert_eq!(pieces(&[Some(u64::MAX)]), [u64::MAX / PIECE_BYTES]);
    }

    #[test]
    fn while_nobody_commits_it_goes_on_piece_by_piece() {
        assert_eq!(pieces(&[None, Some(1), None]), [1, 1, 1]);
    }

    #[test]
    fn a_segment_is_ready_before_the_one_before_it_is_full() {
        let geometry = spool::Geometry::for_spool(u64::MAX);
        for commit_bytes in [4_096, 47_000, 200_000, geometry.group_bytes_max as u64] {
            let commits = usize::try_from(geometry.segment_bytes / commit_bytes).unwrap_or(0);
            let filled: u64 = pieces(&vec![Some(commit_bytes); commits]).iter().sum();
            assert!(
                filled * PIECE_BYTES >= geometry.segment_bytes,
                "{filled} pieces beside {commits} commits of {commit_bytes} bytes"
            );
        }
    }
}
