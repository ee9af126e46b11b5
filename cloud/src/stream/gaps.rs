//! Holds back what gateways give up until everything that was sent before it is stored.
//!
//! Why: positions that a gateway lost on its disk, or dropped because it was full, may have been sent
//! before and still lie in Redis: with another writer, unread, or pending with a process that died.
//! Settled as dropped, they would be thrown away when they come.
//!
//! Invariants: an item with a gap goes to the processors when the group has read and acknowledged
//! everything added before it, in every stream there is, except items that are held here as well;
//! until then it stays pending, so a death costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::consumer::chained;
use super::finder::{self, Stream, Streams};
use super::intake::{Delivery, Intake};
use super::link::{Link, RedisFailure};
use super::{reply, trimmer};
use crate::batch::{EntryId, StreamId};
use crate::config::StreamConfig;
use crate::metrics::Metrics;

/// Between two looks while something is held.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pending items per question.
const PENDING_COUNT: usize = 100;

/// What is held, by stream and id.
type Held = BTreeMap<EntryId, Delivery>;

/// Where each stream has its first item that is neither acknowledged nor held.
type Unfinished = BTreeMap<Arc<str>, StreamId>;

/// What holding back needs.
#[derive(Debug)]
pub struct Gaps {
    /// How to ask.
    pub link: Link,
    /// Every stream that is read.
    pub streams: Streams,
    /// Whose reading counts, and where there may be more streams.
    pub config: StreamConfig,
    /// Where items go when their time has come.
    pub intake: Intake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Gaps {
    /// Holds back what comes, until `stop`.
    pub async fn run(self, mut coming: UnboundedReceiver<Delivery>, stop: CancellationToken) {
        let mut held = Held::new();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(delivery) = coming.recv() => {
                    held.insert(delivery.entry.clone(), delivery);
                }
                _ = look.tick(), if !held.is_empty() => {
                    let letting_go = self.let_go(&mut held);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = letting_go => {}
                    }
                }
            }
            self.metrics.gaps_held.set(held.len() as u64);
        }
    }

    async fn let_go(&self, held: &mut Held) {
        let due = match self.due(held).await {
            Ok(due) => due,
            Err(failure) => {
                self.metrics.error();
                debug!(
                    error = chained(&failure),
                    "cannot see what comes before a gap"
                );
                return;
            }
        };
        for entry in due {
            if let Some(delivery) = held.remove(&entry) {
                info!(%entry, "everything sent before a gap is stored; what is in it counts as given up");
                self.intake.bring_again(delivery).await;
            }
        }
    }

    /// Items whose time has come.
    async fn due(&self, held: &Held) -> Result<Vec<EntryId>, RedisFailure> {
        let unfinished = self.unfinished(&self.streams.all(), held).await?;
        let mut due: Vec<EntryId> = held.keys().cloned().collect();
        due.retain(|entry| is_due(entry, &unfinished));
        if !due.is_empty() {
            // A shard that nobody has looked for yet may hold what was sent before.
            let others = finder::find(&self.link, &self.config).await?;
            let unfinished = self.unfinished(&others, held).await?;
            due.retain(|entry| is_due(entry, &unfinished));
        }
        Ok(due)
    }

    async fn unfinished(
        &self,
        streams: &[Stream],
        held: &Held,
    ) -> Result<Unfinished, RedisFailure> {
        let mut unfinished = Unfinished::new();
        for stream in streams {
            if let Some(first) = self.first_unfinished(stream, held).await? {
                unfinished.insert(stream.name.clone(), first);
            }
        }
        Ok(unfinished)
    }

    /// What is unread is asked first: what is read between the questions is pending then.
    async fn first_unfinished(
        &self,
        stream: &Stream,
        held: &Held,
    ) -> Result<Option<StreamId>, RedisFailure> {
        let groups = trimmer::groups(&self.link, &stream.name).await?;
        let group = &self.config.group;
        let ours = groups.into_iter().find(|state| state.name == *group);
        let mut range = cmd("XRANGE");
        // Without its group nothing of a stream was read.
        let after = ours
            .as_ref()
            .map(|ours| format!("({}", ours.last_delivered));
        range
            .arg(&*stream.name)
            .arg(after.as_deref().unwrap_or("-"));
        range.arg("+").arg("COUNT").arg(1);
        let unread = reply::items(&self.link.ask::<Value>("XRANGE", &range).await?);
        if ours.is_none() {
            return Ok(unread.first().map(|item| item.0));
        }
        let mut from = "-".to_owned();
        loop {
            let mut pending = cmd("XPENDING");
            pending.arg(&*stream.name).arg(group);
            pending.arg(&from).arg("+").arg(PENDING_COUNT);
            let ids = reply::pending(&self.link.ask("XPENDING", &pending).await?);
            let other = ids
                .iter()
                .find(|id| !held.contains_key(&stream.entry(**id)));
            if let Some(first) = other {
                return Ok(Some(*first));
            }
            let Some(last) = ids.last() else {
                return Ok(unread.first().map(|item| item.0));
            };
            from = format!("({last}");
        }
    }
}

/// Has everything before this item been stored? Ids of one stream are compared whole, those of
/// different streams by the clock of Redis: two that are held and each before the other would wait
/// for ever.
fn is_due(entry: &EntryId, unfinished: &Unfinished) -> bool {
    unfinished.iter().all(|(stream, first)| {
        if *stream == entry.stream {
            *first > entry.id
        } else {
            first.ms() >= entry.id.ms()
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gap_waits_for_everything_before_it_in_every_stream() {
        let gap = EntryId {
            stream: "a".into(),
            id: "50-1".parse().unwrap(),
        };
        let cases: [(&[(&str, &str)], bool); 7] = [
            (&[], true),
            (&[("a", "50-2")], true),
            (&[("a", "50-0")], false),
            (&[("a", "51-0"), ("b", "49-9")], false),
            (&[("b", "50-0")], true),
            (&[("b", "90-0")], true),
            (&[("a", "9-0"), ("b", "90-0")], false),
        ];
        for (unfinished, wanted) in cases {
            let unfinished = unfinished
                .iter()
                .map(|(stream, id)| ((*stream).into(), id.parse().unwrap()));
            let unfinished: Unfinished = unfinished.collect();
            assert_eq!(is_due(&gap, &unfinished), wanted, "{unfinished:?}");
        }
    }
}
