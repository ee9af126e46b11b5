//! Who is connected now, one seat for each IMEI.
//!
//! Why: a tracker that lost its network dials again long before its old connection times out, and
//! whoever wants to reach it must meet the living one.
//!
//! Invariants:
//! - The newest connection of an IMEI has its seat; the one before is told once and for all.
//! - Epochs grow within a process and are never used twice in it, so a late farewell of an old
//!   connection cannot remove a newer one.
//! - Changes are announced in the order in which they happened.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codec::Imei;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Changes that a slow reader may be behind before it has to look at [`Roster::connected`] again.
const CHANGES_MAX: usize = 1024;

/// Somebody came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A connection took the seat, from nobody or from an older one of the same IMEI.
    Entered {
        /// Who.
        imei: Imei,
        /// Which connection.
        epoch: u64,
    },
    /// The connection that had the seat is gone, and no newer one has come.
    Left {
        /// Who.
        imei: Imei,
        /// Which connection.
        epoch: u64,
    },
}

/// The list of who is connected; clones share it.
#[derive(Clone, Debug)]
pub struct Roster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    seats: Mutex<Seats>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug)]
struct Seats {
    epoch_next: u64,
    taken: HashMap<Imei, Taken>,
}

/// What the roster keeps of a seat. What others want to hand to a connection goes beside
/// `displaced`, and its other end into [`Seat`].
#[derive(Debug)]
struct Taken {
    epoch: u64,
    displaced: CancellationToken,
}

/// A connection's place; dropping it leaves the roster.
pub struct Seat {
    imei: Imei,
    epoch: u64,
    displaced: CancellationToken,
    roster: Roster,
}

impl Roster {
    /// An empty roster. `epoch_first` should be random, below 2^53 so that every reader of Redis
    /// can hold it: epochs of two lives of a gateway must not meet.
    #[must_use]
    pub fn new(epoch_first: u64) -> Self {
        let seats = Seats {
            epoch_next: epoch_first,
            taken: HashMap::new(),
        };
        let shared = Shared {
            seats: Mutex::new(seats),
            changes: broadcast::Sender::new(CHANGES_MAX),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes the seat of `imei`; whoever had it hears of it through [`Seat::displaced`].
    #[must_use]
    pub fn enter(&self, imei: Imei) -> Seat {
        let displaced = CancellationToken::new();
        let mut seats = self.seats();
        let epoch = seats.epoch_next;
        seats.epoch_next += 1;
        let taken = Taken {
            epoch,
            displaced: displaced.clone(),
        };
        let before = seats.taken.insert(imei, taken);
        self.announce(Change::Entered { imei, epoch });
        drop(seats);
        if let Some(before) = before {
            before.displaced.cancel();
        }
        Seat {
            imei,
            epoch,
            displaced,
            roster: self.clone(),
        }
    }

    /// What happens from now on. A reader that falls more than a thousand changes behind is told
    /// so (`Lagged`) and looks at [`Roster::connected`].
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Everybody who is connected, with the epoch of the connection; in no order.
    #[must_use]
    pub fn connected(&self) -> Vec<(Imei, u64)> {
        let seats = self.seats();
        let all = seats.taken.iter().map(|(imei, taken)| (*imei, taken.epoch));
        all.collect()
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats().taken.len()
    }

    /// Is nobody connected?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn leave(&self, imei: Imei, epoch: u64) {
        let mut seats = self.seats();
        let Entry::Occupied(taken) = seats.taken.entry(imei) else {
            return;
        };
        if taken.get().epoch == epoch {
            taken.remove();
            self.announce(Change::Left { imei, epoch });
        }
    }

    /// Called with the seats locked, which is what keeps changes in order.
    fn announce(&self, change: Change) {
        // Nobody listening is no fault.
        let _ = self.shared.changes.send(change);
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        let seats = self.shared.seats.lock();
        seats.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whose it is.
    #[must_use]
    pub fn imei(&self) -> Imei {
        self.imei
    }

    /// Which connection of that IMEI: grows with every login at this gateway.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns when a newer connection of the same IMEI has the seat.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Has a newer connection the seat?
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_cancelled()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.leave(self.imei, self.epoch);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("imei", &self.imei)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn imei(number: u64) -> Imei {
        Imei::from_u64(350_000_000_000_000 + number).unwrap()
    }

    fn heard(changes: &mut broadcast::Receiver<Change>) -> Vec<Change> {
        std::iter::from_fn(|| changes.try_recv().ok()).collect()
    }

    #[test]
    fn the_newest_has_the_seat_and_the_older_one_cannot_take_it_away() {
        let roster = Roster::new(7);
        let mut changes = roster.changes();
        let old = roster.enter(imei(1));
        let other = roster.enter(imei(2));
        assert_eq!((old.epoch(), other.epoch()), (7, 8));
        let new = roster.enter(imei(1));
        assert_eq!(new.epoch(), 9);
        assert!(old.is_displaced() && !new.is_displaced() && !other.is_displaced());
        drop(old);
        let mut connected = roster.connected();
        connected.sort_unstable();
        assert_eq!(connected, [(imei(1), 9), (imei(2), 8)]);
        drop(new);
        assert_eq!(roster.connected(), [(imei(2), 8)]);
        drop(other);
        assert!(roster.is_empty());
        let entered = |number, epoch| Change::Entered {
            imei: imei(number),
            epoch,
        };
        let left = |number, epoch| Change::Left {
            imei: imei(number),
            epoch,
        };
        assert_eq!(
            heard(&mut changes),
            [
                entered(1, 7),
                entered(2, 8),
                entered(1, 9),
                left(1, 9),
                left(2, 8)
            ]
        );
    }

    /// Every order in which three connections of one tracker can end.
    #[test]
    fn whatever_the_order_of_farewells_only_the_newest_one_counts() {
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for order in orders {
            let roster = Roster::new(0);
            let mut seats: Vec<_> = (0..3).map(|_| Some(roster.enter(imei(1)))).collect();
            for which in order {
                assert_eq!(roster.is_empty(), seats[2].is_none(), "{order:?}");
                seats[which] = None;
            }
            assert!(roster.is_empty(), "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_displaced_seat_hears_of_it() {
        let roster = Roster::new(0);
        let old = roster.enter(imei(1));
        let new = roster.enter(imei(1));
        old.displaced().await;
        assert!(!new.is_displaced());
    }
}
