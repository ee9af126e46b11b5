//! The door between Redis and the processors: which items are inside right now.
//!
//! Why: own pending items are read again after every reconnect and claimed again when the database
//! is slow. What is already being worked on must not come in twice. Why one door for all streams and
//! all processors: who gathers takes from all of them in the order of arrival, and whoever has
//! waited longest gathers next.
//!
//! Invariants: an item is inside from its delivery until it was acknowledged; one that is left for a
//! newer reader stays inside where it may come again under its id, so this process does not touch it
//! again; one that was set aside may come in a second time and is known by that.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::batch::EntryId;

/// Items read ahead of the processors: enough to hide a commit, little enough to bound memory
/// (an item is 64 KiB in the ordinary case).
const READ_AHEAD: usize = 64;

/// One stream item.
#[derive(Debug)]
pub struct Delivery {
    /// Its stream and id.
    pub entry: EntryId,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The near side of the door.
#[derive(Clone, Debug)]
pub struct Intake {
    sender: mpsc::Sender<Delivery>,
    inside: Arc<Mutex<HashSet<EntryId>>>,
    again: Arc<Mutex<HashSet<EntryId>>>,
}

/// The far side, shared by all processors.
#[derive(Clone, Debug)]
pub struct Deliveries(Arc<tokio::sync::Mutex<mpsc::Receiver<Delivery>>>);

impl Deliveries {
    /// The right to take items, for one processor at a time, in the order of asking. Kept for a
    /// whole batch: two that take turns item by item would make two half batches.
    pub async fn turn(&self) -> OwnedMutexGuard<mpsc::Receiver<Delivery>> {
        self.0.clone().lock_owned().await
    }
}

impl Intake {
    /// A door and its far side.
    #[must_use]
    pub fn new() -> (Self, Deliveries) {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let (inside, again) = (Arc::default(), Arc::default());
        let deliveries = Deliveries(Arc::new(tokio::sync::Mutex::new(receiver)));
        let intake = Self {
            sender,
            inside,
            again,
        };
        (intake, deliveries)
    }

    /// Brings an item in unless it is inside. `false`: the processors are gone.
    pub async fn bring(&self, delivery: Delivery) -> bool {
        // A reader that is stopped while it waits here must not leave the id behind.
        let Ok(place) = self.sender.reserve().await else {
            return false;
        };
        let entry = delivery.entry.clone();
        if with(&self.inside, |inside| inside.insert(entry)) {
            place.send(delivery);
        }
        true
    }

    /// Brings in once more what was set aside, and is inside. `false`: the processors are gone.
    pub async fn bring_again(&self, delivery: Delivery) -> bool {
        let entry = delivery.entry.clone();
        with(&self.again, |again| again.insert(entry));
        self.sender.send(delivery).await.is_ok()
    }

    /// Is this the second time that it comes in?
    #[must_use]
    pub fn comes_again(&self, entry: &EntryId) -> bool {
        with(&self.again, |again| again.contains(entry))
    }

    /// Keeps an item out for good, without bringing it in. `false`: it was inside already.
    pub fn leave(&self, entry: EntryId) -> bool {
        with(&self.inside, |inside| inside.insert(entry))
    }

    /// Is it being worked on here, or left for a newer reader?
    #[must_use]
    pub fn is_inside(&self, entry: &EntryId) -> bool {
        with(&self.inside, |inside| inside.contains(entry))
    }

    /// How many are inside, those left for a newer reader among them.
    #[must_use]
    pub fn inside(&self) -> usize {
        with(&self.inside, |inside| inside.len())
    }

    /// Is something inside with an id before this one, other than what `but` names? For entries whose
    /// ids were all given by one clock.
    #[must_use]
    pub fn is_any_before(&self, entry: &EntryId, but: impl Fn(&EntryId) -> bool) -> bool {
        with(&self.inside, |inside| {
            inside
                .iter()
                .any(|other| other.id < entry.id && !but(other))
        })
    }

    /// How many were brought in and not yet taken up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// These were acknowledged.
    pub fn let_out<'a>(&self, entries: impl IntoIterator<Item = &'a EntryId>) {
        with(&self.inside, |inside| {
            with(&self.again, |again| {
                for entry in entries {
                    inside.remove(entry);
                    again.remove(entry);
                }
            });
        });
    }
}

fn with<T>(set: &Mutex<HashSet<EntryId>>, change: impl FnOnce(&mut HashSet<EntryId>) -> T) -> T {
    // A set of ids is whole after any panic.
    change(&mut set.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn delivery(stream: &str, id: &str) -> Delivery {
        Delivery {
            entry: EntryId {
                stream: stream.into(),
                id: id.parse().unwrap(),
            },
            fields: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_id_in_two_streams_is_two_items() {
        let (intake, deliveries) = Intake::new();
        for (stream, id) in [("a", "5-1"), ("b", "5-1"), ("a", "5-1")] {
            assert!(intake.bring(delivery(stream, id)).await);
        }
        let mut receiver = deliveries.turn().await;
        let mut streams = Vec::new();
        while let Ok(delivery) = receiver.try_recv() {
            streams.push(delivery.entry.stream.to_string());
        }
        assert_eq!(streams, ["a", "b"]);
        intake.let_out([&delivery("a", "5-1").entry]);
        assert!(!intake.is_inside(&delivery("a", "5-1").entry));
        assert!(intake.is_inside(&delivery("b", "5-1").entry));
    }

    #[tokio::test]
    async fn what_was_set_aside_comes_in_again_and_is_known_by_it() {
        let (intake, deliveries) = Intake::new();
        let entry = delivery("a", "5-1").entry;
        assert!(intake.bring(delivery("a", "5-1")).await);
        assert!(!intake.comes_again(&entry));
        assert!(intake.bring_again(delivery("a", "5-1")).await);
        assert!(intake.comes_again(&entry));
        let mut receiver = deliveries.turn().await;
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok());
        intake.let_out([&entry]);
        assert!(!intake.comes_again(&entry) && !intake.is_inside(&entry));
    }

    #[tokio::test]
    async fn who_is_stopped_at_a_full_door_leaves_nothing_behind() {
        let (intake, _deliveries) = Intake::new();
        for number in 0..READ_AHEAD {
            assert!(intake.bring(delivery("a", &format!("1-{number}"))).await);
        }
        let late = delivery("a", "2-0");
        let entry = late.entry.clone();
        let mut waiting = Box::pin(intake.bring(late));
        assert!(futures_pending(&mut waiting));
        drop(waiting);
        assert!(!intake.is_inside(&entry));
    }

    fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context).is_pending()
    }
}
