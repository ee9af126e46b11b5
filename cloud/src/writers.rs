//! Writers that are free: whoever has gathered a batch takes one, and gives it back.
//!
//! Why apart from the processors: there is one processor more than writers, so that the next batch is
//! gathered and decoded while all writers are at work.
//!
//! Invariant: as many writers are at work at once as there are, each with one batch.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::store::Writer;

/// A writer and its number, from 0.
#[derive(Debug)]
pub struct Numbered {
    /// As logs and metrics call it.
    pub number: usize,
    /// What writes.
    pub writer: Writer,
}

/// All writers of this process; clones share them.
#[derive(Clone, Debug)]
pub struct Writers {
    free: Arc<Mutex<mpsc::UnboundedReceiver<Numbered>>>,
    back: mpsc::UnboundedSender<Numbered>,
}

impl Writers {
    /// All of them free.
    #[must_use]
    pub fn new(writers: impl IntoIterator<Item = Writer>) -> Self {
        let (back, free) = mpsc::unbounded_channel();
        let free = Arc::new(Mutex::new(free));
        let all = Self { free, back };
        for (number, writer) in writers.into_iter().enumerate() {
            all.give_back(Numbered { number, writer });
        }
        all
    }

    /// The one that has been free for longest, in the order of asking. Whoever stops waiting takes
    /// none with him.
    pub async fn take(&self) -> Option<Numbered> {
        self.free.lock().await.recv().await
    }

    /// Free for the next batch.
    pub fn give_back(&self, writer: Numbered) {
        // The far side is ours, so it is there.
        let _ = self.back.send(writer);
    }
}
