//! Entries that gateways handed over, on their way to the processors.
//!
//! Why a shelf: an answer must not wait for the database, or a gateway would take us for dead and send
//! everything again. How much lies here is bounded by what gateways have on their way
//! (`uplink.in_flight_bytes_max`), and by `BYTES_MAX` whatever they do.
//!
//! Invariants: each entry has an id of its own, ascending in the order of the queue; what is refused was not taken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::batch::{EntryId, StreamId};
use crate::metrics::{Metrics, now_ms};
use crate::stream::{Delivery, Intake};

/// Bytes of entries that may wait: as many as one gateway has on its way at most, before zstd.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one entry takes beside its bytes.
const ENTRY_BYTES: usize = 1_024;

/// Names and values of one entry.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// No more fits; the gateway keeps it and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{BYTES_MAX} bytes wait for the database already")]
pub struct Full;

/// What lies there. Clones are the same shelf.
#[derive(Clone, Debug)]
pub struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::UnboundedSender<(Delivery, usize)>,
    intake: Intake,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    /// The last id that was given.
    last: Mutex<StreamId>,
    metrics: Arc<Metrics>,
}

/// Where [`carry`] takes from.
pub type Waiting = mpsc::UnboundedReceiver<(Delivery, usize)>;

impl Shelf {
    /// An empty one, and its far side for [`carry`].
    #[must_use]
    pub fn new(intake: Intake, metrics: Arc<Metrics>) -> (Self, Waiting) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let inner = Inner {
            queue,
            intake,
            bytes: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            last: Mutex::new(StreamId::at_ms(0)),
            metrics,
        };
        (Self(Arc::new(inner)), waiting)
    }

    /// Takes an entry, and gives it its id.
    /// # Errors
    /// [`Full`].
    pub fn put(&self, stream: &str, fields: Fields) -> Result<EntryId, Full> {
        let of_fields: usize = fields.iter().map(|(n, v)| n.len() + v.len()).sum();
        let bytes = of_fields + ENTRY_BYTES;
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > BYTES_MAX {
            self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full);
        }
        // Held until it is in the queue: who comes later stands behind it there, too.
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock, and always more than before.
        *last = StreamId::at_ms(now_ms()).max(last.next());
        let entry = EntryId {
            stream: stream.into(),
            id: *last,
        };
        self.0.metrics.entries_delivered.add(1);
        self.0.entries.fetch_add(1, Ordering::SeqCst);
        let delivery = Delivery {
            entry: entry.clone(),
            fields,
        };
        // The far side goes when the process stops; the gateway keeps everything then.
        let _ = self.0.queue.send((delivery, bytes));
        Ok(entry)
    }

    /// Entries that were taken and are not committed.
    #[must_use]
    pub fn pending(&self) -> usize {
        // In this order: one that goes from here to there in between counts twice, not never.
        let waiting = self.0.entries.load(Ordering::SeqCst);
        waiting + self.0.intake.inside()
    }
}

/// Carries entries from the shelf to the processors until `stop`.
pub async fn carry(shelf: Shelf, mut waiting: Waiting, stop: CancellationToken) {
    loop {
        let (delivery, bytes) = tokio::select! {
            () = stop.cancelled() => return,
            Some(next) = waiting.recv() => next,
            else => return,
        };
        let brought = tokio::select! {
            () = stop.cancelled() => return,
            brought = shelf.0.intake.bring(delivery) => brought,
        };
        shelf.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        shelf.0.entries.fetch_sub(1, Ordering::SeqCst);
        if !brought {
            stop.cancelled().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_was_taken_is_pending_until_it_is_let_out_and_too_much_is_refused() {
        let (intake, deliveries) = Intake::new();
        let (shelf, waiting) = Shelf::new(intake.clone(), Arc::default());
        let entry = |bytes: usize| vec![(b"d".to_vec(), vec![0; bytes])];
        let first = shelf.put("s", entry(10)).unwrap();
        let second = shelf.put("s", entry(10)).unwrap();
        assert!(first.id < second.id, "{first} {second}");
        assert_eq!(shelf.put("s", entry(BYTES_MAX)), Err(Full));
        assert_eq!(shelf.pending(), 2);
        let stop = CancellationToken::new();
        let carrying = tokio::spawn(carry(shelf.clone(), waiting, stop.clone()));
        let mut receiver = deliveries.turn().await;
        assert_eq!(receiver.recv().await.unwrap().entry, first);
        assert_eq!(receiver.recv().await.unwrap().entry, second);
        assert!(shelf.pending() >= 2, "nothing was committed");
        intake.let_out([&first, &second]);
        stop.cancel();
        carrying.await.unwrap();
        assert_eq!(shelf.pending(), 0);
        assert!(shelf.put("s", entry(BYTES_MAX / 2)).is_ok());
        assert_eq!(shelf.put("s", entry(BYTES_MAX / 2)), Err(Full));
    }
}
