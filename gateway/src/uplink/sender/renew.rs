//! New certificates without a break.
//!
//! Invariants: the old connection is used until a new one with the new certificates works; files
//! that do not work are tried again and change nothing; no tracker notices any of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::Uplink;
use crate::chain::chain;
use crate::events::Kind;
use crate::uplink::certificate::{Fingerprint, Validity};
use crate::uplink::connect::{ConnectError, RedisConfig};
use crate::uplink::link::Link;

/// Tells the uplink to look at its certificate files now, and to connect at once if it waits to
/// try again. Clones reach the same uplink.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    wake: Notify,
    /// Counted as well: an uplink that has much to send does not wait for anything.
    times: AtomicU64,
}

impl Reload {
    /// Look now; from a signal handler's task, for example.
    pub fn now(&self) {
        self.0.times.fetch_add(1, SeqCst);
        self.0.wake.notify_one();
    }

    /// Somebody asked.
    pub(super) async fn asked(&self) {
        self.0.wake.notified().await;
    }

    fn times(&self) -> u64 {
        self.0.times.load(SeqCst)
    }
}

/// What was read from the files.
struct Look {
    fingerprint: Option<Fingerprint>,
    validity: Option<Validity>,
}

impl Look {
    async fn at(redis: &RedisConfig) -> Self {
        let redis = redis.clone();
        let look = tokio::task::spawn_blocking(move || Self {
            fingerprint: redis.fingerprint(),
            validity: redis.validity(),
        });
        look.await.expect("reading files does not panic")
    }
}

/// Where a renewal stands.
pub(super) struct Renewal {
    /// What stood in the files when the connection in use was made.
    used: Option<Fingerprint>,
    /// What the connection being made was made with.
    tried: Option<Fingerprint>,
    next: Option<oneshot::Receiver<Result<Link, ConnectError>>>,
    look_at: Instant,
    /// How often somebody had asked when the files were last looked at.
    asked: u64,
}

impl Renewal {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            used: None,
            tried: None,
            next: None,
            look_at: now,
            asked: 0,
        }
    }

    /// When to look again.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }
}

impl Uplink {
    /// A connection made with what stands in the files now.
    pub(super) async fn connect(&mut self) -> Result<Link, ConnectError> {
        self.renewal.asked = self.config.reload.times();
        let look = Look::at(&self.config.redis).await;
        self.note_validity(look.validity);
        self.renewal.used = look.fingerprint;
        self.renewal.next = None;
        self.renewal.look_at = Instant::now() + self.config.look_every;
        self.config.redis.link().await
    }

    /// Looks at the files when it is time; a new connection once there is one.
    pub(super) async fn renewed(&mut self, now: Instant) -> Option<Link> {
        if let Some(next) = &mut self.renewal.next {
            match next.try_recv() {
                Ok(Ok(link)) => {
                    self.renewal.next = None;
                    self.renewal.used = self.renewal.tried;
                    self.metrics.uplink_link.renewed();
                    tracing::info!("uplink goes on with the new certificates");
                    return Some(link);
                }
                Ok(Err(error)) => {
                    self.renewal.next = None;
                    let (what, remedy) = (error.cause().words(), error.cause().remedy());
                    let error = chain(&error);
                    tracing::warn!(
                        error,
                        "uplink: the changed certificate files do not work: {what}: {remedy}. The old connection is used on."
                    );
                    let trouble = format!("{what}: {remedy} ({error})");
                    let text = format!("the changed certificate for Redis is not used: {trouble}");
                    let events = &self.metrics.panel.events;
                    events.note(Kind::Certificate, None, text);
                    self.metrics.uplink_link.not_renewed(trouble);
                }
                Err(oneshot::error::TryRecvError::Empty) => return None,
                Err(oneshot::error::TryRecvError::Closed) => self.renewal.next = None,
            }
        }
        let asked = self.config.reload.times();
        if now < self.renewal.look_at && asked == self.renewal.asked {
            return None;
        }
        self.renewal.asked = asked;
        self.renewal.look_at = now + self.config.look_every;
        let look = Look::at(&self.config.redis).await;
        if look.fingerprint.is_some() && look.fingerprint != self.renewal.used {
            self.note_validity(look.validity);
            self.renewal.tried = look.fingerprint;
            self.begin_renewal();
        }
        None
    }

    /// Connects beside the connection in use, and wakes the uplink when that is done.
    fn begin_renewal(&mut self) {
        let (done, next) = oneshot::channel();
        let (redis, wake) = (self.config.redis.clone(), self.renewal_done.clone());
        tokio::spawn(async move {
            // Nobody waits any more when the old connection broke meanwhile.
            let _ = done.send(redis.link().await);
            wake.notify_one();
        });
        self.renewal.next = Some(next);
    }

    fn note_validity(&mut self, validity: Option<Validity>) {
        self.metrics.uplink_link.certificate(validity);
    }
}
