//! Reading lists and certificates anew without dropping a tracker.
//!
//! Why hooks and a bell: whoever holds something that comes from a file knows best how to read it
//! again and what to keep when that fails. Who can do so at once gives a hook; a task that is in the
//! middle of something waits for the bell.
//!
//! Invariant: one part that fails keeps no other from being read.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Why a part goes on with what it had.
pub type HookError = Box<dyn Error + Send + Sync>;

type Hook = Arc<dyn Fn() -> Result<(), HookError> + Send + Sync>;

/// What one part said.
pub type Outcome = (&'static str, Result<(), HookError>);

/// Everybody who can read something anew.
pub struct Reload {
    bell: watch::Sender<u64>,
    hooks: Mutex<Vec<(&'static str, Hook)>>,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            bell: watch::Sender::new(0),
            hooks: Mutex::default(),
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.hooks().iter().map(|(name, _)| *name).collect();
        f.debug_struct("Reload").field("hooks", &names).finish()
    }
}

impl Reload {
    fn hooks(&self) -> MutexGuard<'_, Vec<(&'static str, Hook)>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `hook` reads `what` anew; it may block on the disk, and says why it goes on with
    /// what it had.
    pub fn hook(
        &self,
        what: &'static str,
        hook: impl Fn() -> Result<(), HookError> + Send + Sync + 'static,
    ) {
        self.hooks().push((what, Arc::new(hook)));
    }

    /// Await `changed()` on it, then read anew. The value counts the rings.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Rings the bell and runs every hook, one after the other; each outcome in their order.
    pub async fn all(&self) -> Vec<Outcome> {
        self.bell.send_modify(|rings| *rings += 1);
        let hooks = self.hooks().clone();
        let run = move || hooks.iter().map(|(what, hook)| (*what, hook())).collect();
        let outcomes = tokio::task::spawn_blocking(run).await;
        outcomes.unwrap_or_else(|error| vec![("a part", Err(error.into()))])
    }
}
