//! Reading lists and certificates anew without dropping a tracker.
//!
//! Why one bell for all: whoever holds something that comes from a file knows best how to read it
//! again and what to do when that fails. It waits for the bell; the signal only rings.

use tokio::sync::watch;

/// Rings. Clones are one bell.
#[derive(Clone, Debug)]
pub struct Reload(watch::Sender<u64>);

impl Default for Reload {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Reload {
    /// Await `changed()` on it, then read anew. The value counts the rings.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Everybody who subscribed is to read anew; how many they are.
    pub fn ring(&self) -> usize {
        self.0.send_modify(|rings| *rings += 1);
        self.0.receiver_count()
    }
}
