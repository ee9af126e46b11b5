//! What `commands:responses` and the command stream have yet to be told.
//!
//! Why in memory: what a crash takes from here is reported as `unknown` by the intent log.
//!
//! Invariant: nothing leaves before Redis has it, and the order is kept, so a status never arrives
//! before the one it follows.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::queue::{EntryId, Report};

/// While more than this waits, no order is read: Redis takes no writes.
const READ_BELOW: usize = 1024;

/// More can only wait when trackers reply to orders by the thousand while Redis is away.
const ITEMS_MAX: usize = 16_384;

/// Something Redis is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An outcome, and perhaps an entry to acknowledge.
    Report(Report),
    /// An entry to acknowledge.
    Release(EntryId),
}

impl Item {
    pub(super) fn entry(&self) -> Option<&EntryId> {
        match self {
            Self::Report(report) => report.entry.as_ref(),
            Self::Release(entry) => Some(entry),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: Mutex<VecDeque<Item>>,
    changed: Notify,
}

impl Outbox {
    /// `false`: there is no room, and the item is lost.
    pub(super) fn push(&self, item: Item) -> bool {
        let mut items = self.items();
        let has_room = items.len() < ITEMS_MAX;
        if has_room {
            items.push_back(item);
        }
        drop(items);
        self.changed.notify_waiters();
        has_room
    }

    /// The oldest ones; they stay.
    pub(super) fn front(&self, most: usize) -> Vec<Item> {
        self.items().iter().take(most).cloned().collect()
    }

    /// Redis has the oldest ones.
    pub(super) fn pop(&self, count: usize) {
        self.items().drain(..count);
        self.changed.notify_waiters();
    }

    pub(super) fn len(&self) -> usize {
        self.items().len()
    }

    /// Returns when something waits.
    pub(super) async fn filled(&self) {
        self.until(|waiting| waiting > 0).await;
    }

    /// Returns when nothing waits.
    pub(super) async fn emptied(&self) {
        self.until(|waiting| waiting == 0).await;
    }

    /// Returns when there is room for what new orders will bring.
    pub(super) async fn has_room(&self) {
        self.until(|waiting| waiting < READ_BELOW).await;
    }

    async fn until(&self, enough: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that nothing is missed between the two.
            changed.as_mut().enable();
            if enough(self.len()) {
                return;
            }
            changed.await;
        }
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
