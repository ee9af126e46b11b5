//! A body comes in: within its time, its size, and the memory that all requests share.
//!
//! Invariant: a byte is held only while it is counted, and what is counted is given back with the
//! [`Held`] it belongs to.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use crate::metrics::Metrics;

/// Memory for requests; clones share it.
#[derive(Clone)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// What one request holds of it.
pub(super) struct Held {
    memory: Memory,
    permit: Option<OwnedSemaphorePermit>,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        let free = Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS));
        let free = Arc::new(free);
        Self { free, metrics }
    }

    pub(super) fn nothing(&self) -> Held {
        Held {
            memory: self.clone(),
            permit: None,
        }
    }
}

impl Held {
    /// Holds so many bytes more; `false`: there are not so many.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let Ok(permits) = u32::try_from(bytes) else {
            return false;
        };
        match Arc::clone(&self.memory.free).try_acquire_many_owned(permits) {
            Ok(more) => {
                self.memory.metrics.ingest.holds(bytes);
                match &mut self.permit {
                    Some(permit) => permit.merge(more),
                    none => *none = Some(more),
                }
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = self.permit.as_ref().map_or(0, |held| held.num_permits());
        self.memory.metrics.ingest.gives_back(held);
    }
}

/// Reads all of it.
/// # Errors
/// [`Problem::Slow`], [`Problem::TooLarge`], [`Problem::Busy`], [`Problem::Malformed`].
pub(super) async fn receive(
    mut body: Incoming,
    bytes_max: usize,
    within: Duration,
    held: &mut Held,
) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::TooLarge(format!(
            "the body has more than {bytes_max} bytes: send it in parts"
        ))
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let until = Instant::now() + within;
    let mut bytes = Vec::new();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = timeout_at(until, frame).await.map_err(|_| Problem::Slow)?;
        let Some(frame) = frame else {
            return Ok(bytes);
        };
        let frame = frame.map_err(|error| Problem::Malformed(format!("the body: {error}")))?;
        // Trailers say nothing to us.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        // Grown by us: `extend` would make room for twice of what there is, whatever is still to come.
        let room = bytes.capacity() - bytes.len();
        if room < data.len() {
            let left = body.size_hint().upper();
            let left = left.and_then(|left| usize::try_from(left).ok());
            let more = match left {
                Some(left) => bytes.len().clamp(data.len(), data.len() + left),
                None => data.len().max(bytes.len() / 4),
            };
            let more = more - room;
            if !held.grow(more) {
                return Err(Problem::Busy);
            }
            bytes.reserve_exact(room + more);
        }
        bytes.extend_from_slice(&data);
    }
}
