//! Batches into streams.
//!
//! Invariants:
//! - One pipeline for each stream, because a pipeline must not span two slots of a cluster.
//! - A cloud that is not known to read exact positions gets no batch with holes: it would take the
//!   positions between for settled when it cannot open the payload.
//! - A pipeline whose outcome is unknown is sent again; of one that was refused in part, only the
//!   refused part; the order within a stream stays.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use contract::{Coding, Effort, Entry};
use redis::{Pipeline, RedisResult};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinSet, block_in_place};

use super::{PIPELINE_DEPTH, Trouble, Uplink};
use crate::uplink::batch::Batch;
use crate::uplink::entry;
use crate::uplink::link::Link;
use crate::uplink::route::Route;

/// What became of one stream's pipeline.
type Answers = RedisResult<Vec<RedisResult<String>>>;

/// A pipeline for each stream that something is for.
#[derive(Default)]
pub(super) struct Pipes(BTreeMap<Route, Pipeline>);

impl Pipes {
    /// Appends one entry.
    pub(super) fn add(&mut self, uplink: &Uplink, route: &Route, entry: &Entry) {
        let pipe = self.0.entry(route.clone()).or_default();
        let command = pipe.cmd("XADD").arg(uplink.stream(route)).arg("*");
        for (name, value) in entry.to_fields() {
            command.arg(name).arg(value);
        }
    }

    /// Sends all at the same time; the answers of each stream in its order.
    async fn answers(self, redis: &Link) -> BTreeMap<Route, Answers> {
        let mut waiting = JoinSet::new();
        for (route, mut pipe) in self.0 {
            let mut redis = redis.clone();
            waiting.spawn(async move {
                pipe.ignore_errors();
                (route, pipe.query_async(&mut redis).await)
            });
        }
        waiting.join_all().await.into_iter().collect()
    }

    /// Sends all; an error when anything was refused.
    pub(super) async fn send(self, redis: &Link) -> Result<(), Trouble> {
        for answers in self.answers(redis).await.into_values() {
            for answer in answers? {
                answer?;
            }
        }
        Ok(())
    }
}

/// Can this thread's tasks move to another one?
fn has_other_threads() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

impl Uplink {
    /// The stream of one route.
    pub(super) fn stream(&self, route: &Route) -> String {
        route.stream(&self.config.stream, self.config.shards)
    }

    pub(super) fn add_entry(&self, pipes: &mut Pipes, batch: &Batch) {
        let low = self.spool.reader().low(batch.spool());
        let pack = || entry::of_batch(batch, &self.config.gateway, low, &self.coding());
        let entry = match batch.effort() {
            // Trackers must not wait for it where one thread serves them all.
            Effort::Thorough if has_other_threads() => block_in_place(pack),
            _ => pack(),
        };
        pipes.add(self, batch.route(), &entry);
    }

    pub(super) fn coding(&self) -> Coding {
        if self.config.compress {
            Coding::MsgPackZstd
        } else {
            Coding::MsgPack
        }
    }

    /// The batches as the cloud can read them: with holes, or cut at each of them.
    pub(super) fn readable(&self, batch: Batch) -> Vec<Batch> {
        if self.reads_exact || !batch.has_holes() {
            vec![batch]
        } else {
            batch.into_runs()
        }
    }

    /// Sends what is next; `false` when there was nothing to send.
    pub(super) async fn send(&mut self, redis: &Link) -> Result<bool, Trouble> {
        if self.unsent.is_empty() {
            return Ok(false);
        }
        // Here and not where they are taken: another cloud may read since.
        let unsent = std::mem::take(&mut self.unsent);
        self.unsent = unsent
            .into_iter()
            .flat_map(|batch| self.readable(batch))
            .collect();
        let asked = self.depth.min(self.unsent.len());
        let mut pipes = Pipes::default();
        for batch in self.unsent.iter().take(asked) {
            self.add_entry(&mut pipes, batch);
        }
        let answers = pipes.answers(redis).await;
        // A link too slow for a whole pipeline would send the same one for ever.
        self.depth = if answers.values().all(Result::is_ok) {
            (self.depth + 1).min(PIPELINE_DEPTH)
        } else {
            (self.depth / 2).max(1)
        };
        self.take_in(asked, answers)
    }

    fn take_in(
        &mut self,
        asked: usize,
        answers: BTreeMap<Route, Answers>,
    ) -> Result<bool, Trouble> {
        let now = Instant::now();
        let mut first_error = None;
        let mut by_route = BTreeMap::new();
        for (route, answers) in answers {
            match answers {
                Ok(answers) => {
                    by_route.insert(route, VecDeque::from(answers));
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        let mut again = VecDeque::new();
        for batch in self.unsent.drain(..asked) {
            let answer = by_route
                .get_mut(batch.route())
                .and_then(VecDeque::pop_front);
            match answer {
                Some(Ok(_)) => {
                    let accepted = batch.inside().ranges();
                    self.spool.reader().accepted(batch.spool(), &accepted);
                    self.flight.sent(&batch, now);
                    self.metrics.uplink_sent(1, batch.records());
                }
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                    again.push_back(batch);
                }
                None => again.push_back(batch),
            }
        }
        again.append(&mut self.unsent);
        self.unsent = again;
        self.metrics.uplink_in_flight(self.flight.bytes());
        match first_error {
            Some(error) => Err(error.into()),
            None => Ok(true),
        }
    }
}
