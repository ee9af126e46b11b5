//! Takes over what a dead consumer left behind.
//!
//! Why it asks and looks before it claims: XAUTOCLAIM takes everything that is idle, again and again,
//! and each time sets its idle time to nothing and counts a delivery. What lies there for a newer
//! reader would never look abandoned to that one, and its numbers would say nothing.
//!
//! Invariants: only items that were idle for longer than a batch takes are claimed, and the claim
//! itself asks for it, so of two that race one gets it; an item that is inside our own processors or
//! meant for a newer reader is not touched; one that somebody deleted is counted once.

use std::sync::Arc;

use redis::{Value, cmd};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::consumer::chained;
use super::finder::Stream;
use super::intake::{Delivery, Intake};
use super::link::{Link, RedisFailure};
use super::reply::{self, Item};
use crate::batch::{EntryId, StreamId};
use crate::config::StreamConfig;
use crate::decode;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;

/// Looks in the time after which an item is abandoned.
pub(crate) const LOOKS: u32 = 4;

/// Pending items per question.
const PENDING_COUNT: usize = 100;

/// What the claimer of one stream needs.
#[derive(Debug)]
pub struct Claimer {
    /// How to ask.
    pub link: Link,
    /// Whose items.
    pub stream: Stream,
    /// As whom, and from when on.
    pub config: StreamConfig,
    /// Where items go.
    pub intake: Intake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which items are for a newer reader.
    pub newer: Newer,
}

/// Is an item with these fields for a newer reader, and why?
pub type Newer = fn(&[(Vec<u8>, Vec<u8>)]) -> Option<String>;

/// For items with envelopes.
#[must_use]
pub fn newer_envelopes(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<String> {
    decode::newer(fields).map(|newer| newer.to_string())
}

impl Claimer {
    /// Looks for abandoned items until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.claim_after / LOOKS) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.once() => {}
            }
        }
    }

    /// Looks once.
    pub(crate) async fn once(&self) {
        match self.claim_all().await {
            Ok(0) => {}
            Ok(claimed) => {
                info!(stream = %self.stream.name, claimed, "took over abandoned items");
            }
            // The reader says it and creates the group.
            Err(failure) if failure.code() == Some("NOGROUP") => {}
            Err(failure) => {
                self.metrics.error();
                let error = chained(&failure);
                debug!(stream = %self.stream.name, error, "cannot look for abandoned items");
            }
        }
    }

    /// How many were brought in.
    async fn claim_all(&self) -> Result<u64, RedisFailure> {
        let mut claimed = 0;
        let mut from = "-".to_owned();
        loop {
            let idle = self.idle(&from).await?;
            let Some(last) = idle.last() else {
                return Ok(claimed);
            };
            from = format!("({last}");
            for id in idle {
                let entry = self.stream.entry(id);
                if !self.intake.is_inside(&entry) {
                    claimed += u64::from(self.claim(entry).await?);
                }
            }
        }
    }

    /// The next items that nobody touched for long, from `from` on.
    async fn idle(&self, from: &str) -> Result<Vec<StreamId>, RedisFailure> {
        let mut pending = cmd("XPENDING");
        pending.arg(&*self.stream.name).arg(&self.config.group);
        pending.arg("IDLE").arg(self.idle_ms()).arg(from).arg("+");
        pending.arg(PENDING_COUNT);
        let answer: Value = self.link.ask("XPENDING", &pending).await?;
        Ok(reply::pending(&answer))
    }

    fn idle_ms(&self) -> u64 {
        u64::try_from(self.config.claim_after.as_millis()).unwrap_or(u64::MAX)
    }

    /// Was this one brought in?
    async fn claim(&self, entry: EntryId) -> Result<bool, RedisFailure> {
        let mut look = cmd("XRANGE");
        let id = entry.id.to_string();
        look.arg(&*self.stream.name).arg(&id).arg(&id);
        let Some(fields) = single(self.link.ask("XRANGE", &look).await?) else {
            self.drop_deleted(&entry).await?;
            return Ok(false);
        };
        if let Some(reason) = (self.newer)(&fields) {
            if self.intake.leave(entry.clone()) {
                self.metrics.left_for_newer.add(1);
                error!(%entry, reason, "left a stream item pending");
            }
            return Ok(false);
        }
        let mut claim = cmd("XCLAIM");
        claim.arg(&*self.stream.name).arg(&self.config.group);
        claim
            .arg(&self.config.consumer)
            .arg(self.idle_ms())
            .arg(&id);
        fail_point!("before-claim");
        // Nothing when another processor was faster.
        let Some(fields) = single(self.link.ask("XCLAIM", &claim).await?) else {
            return Ok(false);
        };
        fail_point!("after-claim");
        self.metrics.claimed.add(1);
        Ok(self.intake.bring(Delivery { entry, fields }).await)
    }

    /// Only the one of several processors whose acknowledgement counts, counts it.
    pub(crate) async fn drop_deleted(&self, entry: &EntryId) -> Result<(), RedisFailure> {
        let mut ack = cmd("XACK");
        ack.arg(&*self.stream.name)
            .arg(&self.config.group)
            .arg(entry.id.to_string());
        let dropped: u64 = self.link.ask("XACK", &ack).await?;
        if dropped > 0 {
            self.metrics.deleted_unread.add(dropped);
            warn!(%entry, "a pending item was deleted by somebody before it was stored");
        }
        Ok(())
    }
}

/// The fields of the one item of an answer.
fn single(answer: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let items: Vec<Item> = reply::items(&answer);
    items.into_iter().next()?.1
}
