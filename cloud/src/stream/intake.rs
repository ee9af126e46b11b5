//! The door between Redis and the processor: which items are inside right now.
//!
//! Why: own pending items are read again after every reconnect and claimed again when the database
//! is slow. What is already being worked on must not come in twice.
//!
//! Invariant: an id is inside from its delivery until it was acknowledged.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::batch::StreamId;

/// Items read ahead of the processor: enough to hide a commit, little enough to bound memory
/// (an item is 64 KiB in the ordinary case).
const READ_AHEAD: usize = 64;

/// One stream item.
#[derive(Debug)]
pub struct Delivery {
    /// Its id.
    pub id: StreamId,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The near side of the door.
#[derive(Clone, Debug)]
pub struct Intake {
    sender: mpsc::Sender<Delivery>,
    inside: Arc<Mutex<HashSet<StreamId>>>,
}

impl Intake {
    /// A door and its far side.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Delivery>) {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let inside = Arc::default();
        (Self { sender, inside }, receiver)
    }

    /// Brings an item in unless it is inside. `false`: the processor is gone.
    pub async fn bring(&self, delivery: Delivery) -> bool {
        let id = delivery.id;
        if !self.with(|inside| inside.insert(id)) {
            return true;
        }
        let taken = self.sender.send(delivery).await.is_ok();
        if !taken {
            self.with(|inside| inside.remove(&id));
        }
        taken
    }

    /// These were acknowledged.
    pub fn let_out(&self, ids: &[StreamId]) {
        self.with(|inside| {
            for id in ids {
                inside.remove(id);
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashSet<StreamId>) -> T) -> T {
        // A set of ids is whole after any panic.
        change(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
