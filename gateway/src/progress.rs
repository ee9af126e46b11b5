//! Does every stage still move? What the watchdog is told depends on it.
//!
//! Why turns and not a timer of its own: a timer goes on while the stage beside it hangs. Each stage
//! counts the turns of its own loop, and whoever looks notices a count that stands still.
//!
//! Pure but for the shared counters; the time is an argument. Invariants: a stage that ended
//! without [`Stage::finish`] counts as stuck; one that has not begun is allowed its silence first.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The count of a stage that ended as it should.
const FINISHED: u64 = u64::MAX;

/// Held by the loop that is to move.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<AtomicU64>);

impl Stage {
    /// The loop took a turn. Cheap: one addition.
    pub fn turn(&self) {
        // Once finished it stays so: a late turn of a clone changes nothing.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |turns| {
            (turns != FINISHED).then(|| turns + 1)
        });
    }

    /// The loop ended because it was told to.
    pub fn finish(&self) {
        self.0.store(FINISHED, Relaxed);
    }
}

#[derive(Debug)]
struct Watched {
    name: String,
    silence_max: Duration,
    stage: Stage,
    /// The count when it was last seen to change, and when that was.
    seen: Option<(u64, Instant)>,
}

impl Watched {
    /// How long it has not moved, when that is too long.
    fn stuck_for(&mut self, now: Instant) -> Option<Duration> {
        let turns = self.stage.0.load(Relaxed);
        let since = match self.seen {
            Some((seen, since)) if seen == turns && turns != FINISHED => since,
            _ => {
                self.seen = Some((turns, now));
                now
            }
        };
        let silence = now.duration_since(since);
        (silence > self.silence_max).then_some(silence)
    }
}

/// A stage that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub stage: String,
    /// For how long.
    pub silence: Duration,
}

/// All stages.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Vec<Watched>>);

impl Progress {
    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stage, which takes a turn at least every `silence_max`.
    #[must_use]
    pub fn stage(&self, name: impl Into<String>, silence_max: Duration) -> Stage {
        let stage = Stage::default();
        self.watch(name, silence_max, stage.clone());
        stage
    }

    /// Watches a stage that was made elsewhere.
    pub fn watch(&self, name: impl Into<String>, silence_max: Duration, stage: Stage) {
        self.watched().push(Watched {
            name: name.into(),
            silence_max,
            stage,
            seen: None,
        });
    }

    /// Looks at all of them; the one that has been still for longest, if any is stuck. Call it more
    /// often than the shortest silence.
    #[must_use]
    pub fn look(&self, now: Instant) -> Option<Stuck> {
        let mut watched = self.watched();
        let stuck = watched.iter_mut().filter_map(|watched| {
            let silence = watched.stuck_for(now)?;
            let stage = watched.name.clone();
            Some(Stuck { stage, silence })
        });
        stuck.max_by_key(|stuck| stuck.silence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stage_that_stands_still_too_long_is_named() {
        let progress = Progress::default();
        let start = Instant::now();
        let door = progress.stage("door", 5 * SECOND);
        let spool = progress.stage("spool", 60 * SECOND);
        assert_eq!(progress.look(start), None);
        for second in 1..=30 {
            door.turn();
            assert_eq!(progress.look(start + second * SECOND), None);
        }
        assert_eq!(progress.look(start + 35 * SECOND), None);
        let stuck = progress.look(start + 36 * SECOND).unwrap();
        assert_eq!((stuck.stage.as_str(), stuck.silence), ("door", 6 * SECOND));
        // The spool never took a turn at all.
        assert_eq!(progress.look(start + 61 * SECOND).unwrap().stage, "spool");
        door.turn();
        spool.turn();
        assert_eq!(progress.look(start + 62 * SECOND), None, "it moves again");
    }

    #[test]
    fn a_stage_that_was_told_to_end_is_not_stuck_and_one_that_died_is() {
        let progress = Progress::default();
        let start = Instant::now();
        let told = progress.stage("told", SECOND);
        let died = progress.stage("died", SECOND);
        died.turn();
        assert_eq!(progress.look(start), None);
        told.finish();
        told.clone().turn();
        drop((told, died));
        assert_eq!(progress.look(start + 9 * SECOND).unwrap().stage, "died");
        let lonely = Progress::default();
        lonely.stage("told", SECOND).finish();
        assert_eq!(lonely.look(start), None);
        assert_eq!(lonely.look(start + 9 * SECOND), None);
    }
}
