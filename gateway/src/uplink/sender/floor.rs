//! What comes back: the floor, and what is told or sent again because of it.
//!
//! Invariant: only the floor settles; that nobody answers settles nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use contract::{Lane, SettledRanges, SpoolId, keys};
use redis::streams::StreamInfoGroupsReply;
use redis::{AsyncCommands as _, RedisResult, cmd};

use super::send::Pipes;
use super::{PIPELINE_DEPTH, Trouble, Uplink};
use crate::spool::Stored;
use crate::uplink::entry;
use crate::uplink::flight::Sent;
use crate::uplink::link::Link;
use crate::uplink::route::Route;
use crate::uplink::sharded::Sharded;

impl Uplink {
    /// Takes in what the database holds, and sends again what it should hold by now.
    pub(super) async fn read_floor(&mut self, redis: &mut Link) -> Result<(), Trouble> {
        let now = Instant::now();
        // Asked before the floor: what the group finished in between then shows on the floor.
        let overdue = self.flight.overdue_routes(now);
        let mut idle = BTreeSet::new();
        for route in &overdue {
            if self.group_is_idle(route, redis).await? {
                idle.insert(route);
            }
        }
        // Only the openings that are here: the hash keeps those of every start there ever was. In
        // one question: on a metered link each costs as much as two records.
        let spools = self.spool.reader().spools();
        let floor = self.ask_floor(&spools, redis).await?;
        for (spool, ranges) in spools.into_iter().zip(floor) {
            let Some(ranges) = ranges else { continue };
            let Ok(ranges) = SettledRanges::parse(&ranges) else {
                tracing::warn!(%spool, %ranges, "unreadable floor ignored");
                continue;
            };
            self.spool.reader().settle(spool, &ranges);
            self.flight.settle(spool, &ranges, now);
            self.floors.insert(spool, ranges);
        }
        self.sync_settled().await;
        if !overdue.is_empty() {
            let floors = &self.floors;
            // Of several streams one may be far ahead of another without anything being lost.
            let alone = self.config.shards == 1 && self.flight.is_of_one_kind();
            let high_edge = |spool| match floors.get(&spool) {
                Some(floor) if alone => floor.high_edge(),
                _ => 0,
            };
            let is_idle = |route: &Route| idle.contains(route);
            let again = self.flight.overdue(now, is_idle, PIPELINE_DEPTH, high_edge);
            self.send_again(&again, redis).await?;
        }
        self.metrics.uplink_in_flight(self.flight.bytes());
        Ok(())
    }

    /// What stands on the floor of each of these.
    async fn ask_floor(
        &self,
        spools: &[SpoolId],
        redis: &mut Link,
    ) -> Result<Vec<Option<String>>, Trouble> {
        // Redis takes no question without fields.
        if spools.is_empty() {
            return Ok(Vec::new());
        }
        let mut question = cmd("HMGET");
        question.arg(keys::floor(&self.config.gateway));
        for spool in spools {
            question.arg(spool.to_string());
        }
        Ok(question.query_async(redis).await?)
    }

    /// Has the processor's group read and acknowledged everything there is?
    async fn group_is_idle(&self, route: &Route, redis: &mut Link) -> Result<bool, Trouble> {
        let stream = self.stream(route);
        let groups: RedisResult<StreamInfoGroupsReply> = redis.xinfo_groups(&stream).await;
        let groups = match groups {
            Ok(groups) => groups.groups,
            // No stream: Redis lost it, so there is nothing left to read.
            Err(error) if error.detail().is_some_and(|d| d.contains("no such key")) => {
                return Ok(true);
            }
            // Not allowed to ask: then only a hole can tell.
            Err(error) if error.code() == Some("NOPERM") => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let group = groups
            .iter()
            .find(|group| group.name == keys::GROUP_PROCESSOR);
        let Some(group) = group else {
            return Ok(true);
        };
        if group.pending > 0 {
            return Ok(false);
        }
        match group.lag {
            Some(lag) => Ok(lag == 0),
            // Unknown after a deletion: compare the ends instead.
            None => {
                let stream: redis::streams::StreamInfoStreamReply =
                    redis.xinfo_stream(&stream).await?;
                Ok(stream.last_generated_id == group.last_delivered_id)
            }
        }
    }

    /// Sends again what `lost` names, in one pass over the spool and one pipeline.
    async fn send_again(&mut self, lost: &[Sent], redis: &Link) -> Result<(), Trouble> {
        if lost.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            batches = lost.len(),
            "sent but not stored in time: sending again"
        );
        let mut pipes = Pipes::default();
        for lane in Lane::ALL {
            let of_lane: Vec<&Sent> = lost.iter().filter(|sent| sent.lane == lane).collect();
            self.add_again(lane, &of_lane, &mut pipes).await?;
        }
        pipes.send(redis).await
    }

    /// Adds what `lost` names of one lane, in one pass over its log.
    async fn add_again(
        &mut self,
        lane: Lane,
        lost: &[&Sent],
        pipes: &mut Pipes,
    ) -> Result<(), Trouble> {
        let Some(from) = lost.iter().map(|sent| sent.at).min() else {
            return Ok(());
        };
        let until = lost.iter().map(|sent| sent.at).max().unwrap_or(from);
        let is_lost = |stored: &Stored| {
            let of = |sent: &&&Sent| sent.spool == stored.spool;
            let mut candidates = lost.iter().filter(of);
            candidates.any(|sent| sent.inside.contains(stored.seq))
        };
        let now = Instant::now();
        let mut batcher = Sharded::new(Duration::ZERO, self.config.shards);
        let mut at = from;
        loop {
            let chunk = self.read(lane, at, None).await?;
            // A batch begins at `until` or before, and is far shorter than a read.
            let past = chunk.stored.last().is_some_and(|s| s.at > until) && at > until;
            chunk
                .stored
                .into_iter()
                .filter(is_lost)
                .for_each(|stored| batcher.push(stored, now));
            if chunk.at_end || past || chunk.next == at {
                break;
            }
            at = chunk.next;
        }
        while let Some(batch) = batcher.take(None) {
            self.metrics.uplink_resent(batch.stored().len());
            for batch in self.readable(batch) {
                self.add_entry(pipes, &batch);
            }
        }
        Ok(())
    }

    /// Tells the cloud which positions are lost, each gap in an entry of its own, until the floor
    /// covers them.
    pub(super) async fn send_gaps(&mut self, redis: &Link) -> Result<(), Trouble> {
        let gaps = self.spool.reader().gaps();
        if gaps.is_empty() {
            return Ok(());
        }
        let mut pipes = Pipes::default();
        for (spool, gap) in &gaps {
            let low = self.spool.reader().low(*spool);
            let entry = entry::of_gap(*spool, gap, &self.config.gateway, low, &self.coding());
            pipes.add(self, &Route::GAPS, &entry);
        }
        pipes.send(redis).await
    }
}
