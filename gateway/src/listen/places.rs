//! Who may be connected, and who has to go so that others can stay.
//!
//! Why in one place: a flood of strangers and a slow drip of half frames are both answered by
//! giving up whoever has proven least, never by turning away a tracker that behaves.
//!
//! Invariants:
//! - A connection that has logged in is never given up for a newcomer.
//! - Half-received frames together stay within their budget; the oldest goes first, because an
//!   honest frame is complete within seconds.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::metrics::Shed;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceLimits {
    pub(super) connections_max: usize,
    pub(super) per_ip_max: usize,
    /// For all incomplete frames together.
    pub(super) pending_bytes_max: usize,
}

/// All places; one for all doors.
#[derive(Debug)]
pub(crate) struct Places {
    limits: PlaceLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    next: u64,
    per_ip: HashMap<IpAddr, usize>,
    /// Connections without a login, oldest first.
    strangers: BTreeMap<u64, Arc<Fate>>,
    /// Connections with an incomplete frame, oldest frame first.
    pending: BTreeMap<u64, Pending>,
    pending_bytes: usize,
}

#[derive(Debug)]
struct Pending {
    bytes: usize,
    fate: Arc<Fate>,
}

/// How a connection hears that it has to go.
#[derive(Debug, Default)]
struct Fate {
    reason: OnceLock<Shed>,
    told: Notify,
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    fate: Arc<Fate>,
    /// `None` for a wire.
    ip: Option<IpAddr>,
    stranger: Option<u64>,
    pending: Option<u64>,
}

impl Fate {
    fn tell(&self, reason: Shed) {
        if self.reason.set(reason).is_ok() {
            self.told.notify_one();
        }
    }
}

impl Places {
    /// So many connections, wherever they come from; nothing is counted that waits for its rest.
    #[cfg(feature = "ingest")]
    pub(crate) fn of(connections_max: usize) -> Self {
        Self::new(PlaceLimits {
            connections_max,
            per_ip_max: usize::MAX,
            pending_bytes_max: usize::MAX,
        })
    }

    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self {
            limits,
            inner: Mutex::default(),
        }
    }

    /// A place for a newcomer, if need be that of the one who has been here longest without a
    /// login.
    /// # Errors
    /// [`Shed::PerAddress`], [`Shed::NoPlace`].
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Shed> {
        let mut inner = self.inner();
        if inner.per_ip.get(&ip).copied().unwrap_or(0) >= self.limits.per_ip_max {
            return Err(Shed::PerAddress);
        }
        if inner.taken >= self.limits.connections_max {
            // It keeps its place in the count until it has really gone, some moments from now.
            let (_, fate) = inner.strangers.pop_first().ok_or(Shed::NoPlace)?;
            fate.tell(Shed::NoLogin);
        }
        let id = inner.next;
        inner.next += 1;
        inner.taken += 1;
        *inner.per_ip.entry(ip).or_insert(0) += 1;
        let fate = Arc::new(Fate::default());
        inner.strangers.insert(id, Arc::clone(&fate));
        Ok(Place {
            places: Arc::clone(self),
            fate,
            ip: Some(ip),
            stranger: Some(id),
            pending: None,
        })
    }

    /// The place of a wire, which nobody else could have.
    pub(super) fn wired(self: &Arc<Self>) -> Place {
        Place {
            places: Arc::clone(self),
            fate: Arc::default(),
            ip: None,
            stranger: None,
            pending: None,
        }
    }

    /// What half-received frames take up now.
    #[cfg(test)]
    pub(super) fn pending_bytes(&self) -> usize {
        self.inner().pending_bytes
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn release(&mut self, pending: &mut Option<u64>) {
        if let Some(held) = pending.take().and_then(|id| self.pending.remove(&id)) {
            self.pending_bytes -= held.bytes;
        }
    }
}

impl Place {
    /// From now on nobody else can have it.
    pub(crate) fn logged_in(&mut self) {
        if let Some(id) = self.stranger.take() {
            self.places.inner().strangers.remove(&id);
        }
    }

    /// So many bytes wait for the rest of their frame; 0 when none do. `began`: the frame is
    /// another one than the last time.
    pub(super) fn holds(&mut self, bytes: usize, began: bool) {
        if bytes == 0 && self.pending.is_none() {
            return;
        }
        let mut inner = self.places.inner();
        if bytes == 0 || began {
            inner.release(&mut self.pending);
        }
        if bytes == 0 {
            return;
        }
        match self.pending.and_then(|id| inner.pending.get_mut(&id)) {
            Some(held) => {
                let before = std::mem::replace(&mut held.bytes, bytes);
                inner.pending_bytes = inner.pending_bytes - before + bytes;
            }
            // Given up already: it is on its way out.
            None if self.pending.is_some() => return,
            None => {
                let id = inner.next;
                inner.next += 1;
                inner.pending_bytes += bytes;
                let fate = Arc::clone(&self.fate);
                inner.pending.insert(id, Pending { bytes, fate });
                self.pending = Some(id);
            }
        }
        while inner.pending_bytes > self.places.limits.pending_bytes_max {
            let Some((_, oldest)) = inner.pending.pop_first() else {
                break;
            };
            inner.pending_bytes -= oldest.bytes;
            oldest.fate.tell(Shed::Memory);
        }
    }

    /// Returns when this connection has to go, with the reason.
    pub(crate) async fn given_up(&self) -> Shed {
        loop {
            if let Some(reason) = self.fate.reason.get() {
                return *reason;
            }
            self.fate.told.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.places.inner();
        inner.release(&mut self.pending);
        let Some(ip) = self.ip else {
            return;
        };
        inner.taken -= 1;
        if let Some(id) = self.stranger {
            inner.strangers.remove(&id);
        }
        if let Some(count) = inner.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                inner.per_ip.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn places(connections_max: usize, per_ip_max: usize, bytes_max: usize) -> Arc<Places> {
        Arc::new(Places::new(PlaceLimits {
            connections_max,
            per_ip_max,
            pending_bytes_max: bytes_max,
        }))
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn fate(place: &Place) -> Option<Shed> {
        place.fate.reason.get().copied()
    }

    fn is_empty(places: &Places) -> bool {
        let inner = places.inner();
        inner.taken == 0
            && inner.per_ip.is_empty()
            && inner.strangers.is_empty()
            && inner.pending.is_empty()
            && inner.pending_bytes == 0
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_oldest_stranger_and_never_of_a_tracker() {
        let places = places(3, 10, 100);
        let mut tracker = places.take(ip(1)).unwrap();
        tracker.logged_in();
        let (older, newer) = (places.take(ip(2)).unwrap(), places.take(ip(2)).unwrap());
        let mut third = places.take(ip(3)).unwrap();
        assert_eq!(fate(&older), Some(Shed::NoLogin));
        drop(older);
        third.logged_in();
        let mut fourth = places.take(ip(4)).unwrap();
        assert_eq!(fate(&newer), Some(Shed::NoLogin));
        drop(newer);
        fourth.logged_in();
        assert_eq!(places.take(ip(5)).err(), Some(Shed::NoPlace));
        assert!([&tracker, &third, &fourth].map(fate) == [None; 3]);
        drop((tracker, third));
        assert!(places.take(ip(5)).is_ok());
        drop(fourth);
        assert!(is_empty(&places));
    }

    #[test]
    fn a_wire_takes_no_place_and_pays_for_its_half_frame_like_everybody() {
        let places = places(1, 1, 100);
        let mut wire = places.wired();
        let mut tracker = places.take(ip(1)).unwrap();
        tracker.logged_in();
        assert_eq!(places.take(ip(2)).err(), Some(Shed::NoPlace));
        let _another = places.wired();
        wire.holds(60, true);
        tracker.holds(60, true);
        assert_eq!((fate(&wire), fate(&tracker)), (Some(Shed::Memory), None));
        drop((wire, tracker));
        assert!(is_empty(&places));
    }

    #[test]
    fn one_address_has_its_share_and_others_are_not_touched() {
        let places = places(10, 2, 100);
        let first = places.take(ip(1)).unwrap();
        let _second = places.take(ip(1)).unwrap();
        assert_eq!(places.take(ip(1)).err(), Some(Shed::PerAddress));
        let _other = places.take(ip(2)).unwrap();
        drop(first);
        let _again = places.take(ip(1)).unwrap();
    }

    #[test]
    fn the_oldest_half_frame_pays_for_the_memory() {
        let places = places(10, 10, 100);
        let mut all: Vec<_> = (0..4).map(|_| places.take(ip(1)).unwrap()).collect();
        all[0].holds(40, true);
        all[1].holds(40, true);
        all[1].holds(0, false); // complete
        all[2].holds(30, true);
        all[2].holds(60, false); // more of the same
        assert!(all.iter().all(|place| fate(place).is_none()));
        all[3].holds(1, true);
        assert_eq!(fate(&all[0]), Some(Shed::Memory));
        assert!(all[1..].iter().all(|place| fate(place).is_none()));
        all[0].holds(99, false); // it has not heard yet
        assert!(all[1..].iter().all(|place| fate(place).is_none()));
        // A new frame is younger than everybody else's, whatever its connection held before.
        all[2].holds(60, true);
        all[1].holds(40, true);
        assert_eq!(fate(&all[3]), Some(Shed::Memory));
        assert_eq!(fate(&all[2]), None);
        assert_eq!(places.inner().pending_bytes, 100);
        drop(all);
        assert!(is_empty(&places));
    }

    #[test]
    fn who_is_larger_than_everything_goes_itself() {
        let places = places(10, 10, 100);
        let mut one = places.take(ip(1)).unwrap();
        one.holds(101, true);
        assert_eq!(fate(&one), Some(Shed::Memory));
        drop(one);
        assert!(is_empty(&places));
    }
}
