//! The uplink's shell: reads the spool, writes entries, asks for the floor.
//!
//! Invariants:
//! - A pipeline whose outcome is unknown is sent again; of one that was refused in part, only
//!   the refused part.
//! - The position in the spool only moves over what is in a batch, in flight or settled.
//! - Nothing here can make an acknowledgement.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::version::{self, VersionsRead};
use contract::{Coding, Entry};
use contract::{Gap, GatewayId, SettledRanges, SpoolId, keys};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamInfoGroupsReply;
use redis::{AsyncCommands as _, RedisError, RedisResult, SetExpiry, SetOptions};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Batcher};
use super::connect::{ConnectError, RedisConfig, remedy};
use super::entry;
use super::flight::{Flight, Sent};
use crate::chain::chain;
use crate::clock;
use crate::metrics::Metrics;
use crate::spool::{Position, Spool, SpoolError, Stored};

/// Entries in one pipeline; more gains nothing (measured).
const PIPELINE_DEPTH: usize = 32;

/// Bytes read from the spool at a time.
const READ_BYTES: usize = 512 * 1024;

/// How often the floor is asked for while something is in flight.
const FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// How often otherwise: a settled range of an earlier opening may still arrive.
const FLOOR_INTERVAL_IDLE: Duration = Duration::from_secs(keys::REPUBLISH_INTERVAL_S);

/// First pause after a failure; doubles up to `retry_max`.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// How to send.
#[derive(Clone)]
pub struct UplinkConfig {
    /// Who we are.
    pub gateway: GatewayId,
    /// Where to.
    pub redis: RedisConfig,
    /// Stream of the entries.
    pub stream: String,
    /// Longest wait of an envelope for company.
    pub flush: Duration,
    /// `mp+zstd` instead of `mp`.
    pub compress: bool,
    /// Sent and unsettled bytes at most.
    pub in_flight_bytes_max: usize,
    /// Unsettled for so long is overdue.
    pub resend_after: Duration,
    /// Longest pause between two attempts.
    pub retry_max: Duration,
    /// How long a stopping gateway tries to hand over what waits.
    pub drain: Duration,
}

/// Why a connection was given up.
enum Trouble {
    Connect(ConnectError),
    Redis(RedisError),
    Spool(SpoolError),
    /// The cloud does not read what we write.
    Contract(VersionsRead),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// The task that sends.
pub struct Uplink {
    config: UplinkConfig,
    spool: Spool,
    metrics: Arc<Metrics>,
    batcher: Batcher,
    flight: Flight,
    /// Taken from the batcher, not yet accepted by Redis.
    unsent: VecDeque<Batch>,
    next: Position,
    /// Entries in the next pipeline.
    depth: usize,
    /// What was last seen on the floor, per spool.
    floors: HashMap<SpoolId, SettledRanges>,
    gaps: Vec<(SpoolId, Gap)>,
    contract_missing_said: bool,
}

impl Uplink {
    /// An uplink that starts with the oldest unsettled envelope; `gaps` are told to the cloud.
    #[must_use]
    pub fn new(
        config: UplinkConfig,
        spool: Spool,
        gaps: Vec<(SpoolId, Gap)>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            batcher: Batcher::new(config.flush),
            flight: Flight::new(config.resend_after),
            config,
            spool,
            metrics,
            unsent: VecDeque::new(),
            next: Position::default(),
            depth: PIPELINE_DEPTH,
            floors: HashMap::new(),
            gaps,
            contract_missing_said: false,
        }
    }

    /// Runs until `stop`, then hands over what waits for at most the drain time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = RETRY_MIN;
        while !stop.is_cancelled() {
            let started = Instant::now();
            match self.talk(&stop).await {
                Ok(()) => break,
                Err(trouble) => self.report(&trouble, pause),
            }
            self.metrics.uplink_connected(false);
            if started.elapsed() > self.config.retry_max {
                pause = RETRY_MIN; // it had worked for a while
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(self.config.retry_max);
        }
        self.sync_settled().await;
    }

    fn report(&self, trouble: &Trouble, pause: Duration) {
        let url = self.config.redis.shown();
        let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let (what, error): (_, Option<&(dyn std::error::Error + 'static)>) = match trouble {
            Trouble::Connect(error) => (
                "trackers are still acknowledged, the spool keeps everything".to_owned(),
                Some(error),
            ),
            Trouble::Redis(error) => (remedy(error).to_owned(), Some(error)),
            Trouble::Spool(error) => ("the spool cannot be read".to_owned(), Some(error)),
            Trouble::Contract(reads) => (
                format!(
                    "the cloud reads entry versions {reads}, this gateway writes {}: update the cloud first. Spooling meanwhile.",
                    version::ENTRY_VERSION_WRITTEN
                ),
                None,
            ),
        };
        let error = error.map(chain);
        self.metrics
            .uplink_trouble(error.clone().unwrap_or_else(|| what.clone()));
        tracing::warn!(%url, error, retry_in_ms = again_ms, "uplink: {what}");
    }

    /// One connection, until it fails or `stop` and everything handed over.
    async fn talk(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let mut redis = self
            .config
            .redis
            .connect()
            .await
            .map_err(Trouble::Connect)?;
        self.say_hello(&mut redis).await?;
        tracing::info!(url = %self.config.redis.shown(), stream = %self.config.stream, "uplink connected");
        self.metrics.uplink_connected(true);
        self.send_gaps(&mut redis).await?;
        let mut tail = self.spool.tail();
        let mut floor_at = Instant::now();
        let mut hello_at = Instant::now() + Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
        let mut give_up_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if stop.is_cancelled() && give_up_at.is_none() {
                give_up_at = Some(now + self.config.drain);
            }
            if now >= hello_at {
                self.say_hello(&mut redis).await?;
                self.send_gaps(&mut redis).await?;
                hello_at = now + Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
            }
            if now >= floor_at {
                self.read_floor(&mut redis).await?;
                floor_at = now + FLOOR_INTERVAL_IDLE;
            }
            let at_end = self.fill(now, give_up_at.is_some()).await?;
            let sent = self.send(&mut redis).await?;
            if self.flight.batches() > 0 {
                floor_at = floor_at.min(now + FLOOR_INTERVAL);
            }
            let handed_over = at_end && self.batcher.waiting_bytes() == 0;
            if give_up_at.is_some_and(|at| handed_over || now >= at) {
                return Ok(());
            }
            if sent {
                continue;
            }
            // A full flight waits for the floor alone; otherwise new data or the flush interval.
            let flush_at = self.batcher.deadline().filter(|_| self.has_room());
            let wake = [Some(floor_at), flush_at, give_up_at];
            let wake = wake.into_iter().flatten().min().unwrap_or(floor_at);
            tokio::select! {
                () = sleep_until(wake.into()) => {}
                changed = tail.changed(), if at_end && self.has_room() => {
                    if changed.is_err() { return Ok(()); }
                }
                () = stop.cancelled(), if give_up_at.is_none() => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        self.flight.bytes() < self.config.in_flight_bytes_max
    }

    /// Heartbeat, and whether the cloud reads what we write.
    async fn say_hello(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let heartbeat = keys::heartbeat(&self.config.gateway);
        let expiry = SetExpiry::EX(keys::HEARTBEAT_EXPIRY_S);
        let options = SetOptions::default().with_expiration(expiry);
        let () = redis
            .set_options(heartbeat, clock::now_ms(), options)
            .await?;
        let reads: Option<String> = redis.hget(keys::CONTRACT, version::FIELD_READS).await?;
        match reads.as_deref().map(VersionsRead::parse) {
            Some(Some(reads)) if !reads.contains(version::ENTRY_VERSION_WRITTEN) => {
                return Err(Trouble::Contract(reads));
            }
            Some(Some(_)) => self.contract_missing_said = false,
            Some(None) | None if !self.contract_missing_said => {
                self.contract_missing_said = true;
                tracing::warn!("no cloud processor has published the contract yet; going on");
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in what the database holds, and sends again what it should hold by now.
    async fn read_floor(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let now = Instant::now();
        // Asked before the floor: what the group finished in between then shows on the floor.
        let overdue = self.flight.has_overdue(now);
        let idle = overdue && self.group_is_idle(redis).await?;
        // Only the openings that are here: the hash keeps those of every start there ever was.
        for spool in self.spool.spools() {
            let field = spool.to_string();
            let ranges: Option<String> = redis
                .hget(keys::floor(&self.config.gateway), &field)
                .await?;
            let Some(ranges) = ranges else { continue };
            let Ok(ranges) = SettledRanges::parse(&ranges) else {
                tracing::warn!(%spool, %ranges, "unreadable floor ignored");
                continue;
            };
            self.spool.settle(spool, &ranges);
            self.flight.settle(spool, &ranges, now);
            self.gaps.retain(|(of, gap)| {
                *of != spool || !ranges.contains_all(gap.first.get(), gap.last.get())
            });
            self.floors.insert(spool, ranges);
        }
        self.sync_settled().await;
        if overdue {
            let floors = &self.floors;
            let high_edge = |spool| floors.get(&spool).map_or(0, SettledRanges::high_edge);
            let again = self.flight.overdue(now, idle, PIPELINE_DEPTH, high_edge);
            self.send_again(&again, redis).await?;
        }
        self.metrics.uplink_in_flight(self.flight.bytes());
        Ok(())
    }

    /// Has the processor's group read and acknowledged everything there is?
    async fn group_is_idle(&self, redis: &mut MultiplexedConnection) -> Result<bool, Trouble> {
        let groups: RedisResult<StreamInfoGroupsReply> =
            redis.xinfo_groups(&self.config.stream).await;
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
                    redis.xinfo_stream(&self.config.stream).await?;
                Ok(stream.last_generated_id == group.last_delivered_id)
            }
        }
    }

    /// Sends again what `lost` names, in one pass over the spool and one pipeline.
    async fn send_again(
        &mut self,
        lost: &[Sent],
        redis: &mut MultiplexedConnection,
    ) -> Result<(), Trouble> {
        let Some(from) = lost.iter().map(|sent| sent.at).min() else {
            return Ok(());
        };
        tracing::warn!(
            batches = lost.len(),
            "sent but not stored in time: sending again"
        );
        let until = lost.iter().map(|sent| sent.at).max().unwrap_or(from);
        let is_lost = |stored: &Stored| {
            let of = |sent: &&Sent| sent.spool == stored.spool;
            let mut candidates = lost.iter().filter(of);
            candidates.any(|sent| (sent.first..=sent.last).contains(&stored.seq))
        };
        let now = Instant::now();
        let mut batcher = Batcher::new(Duration::ZERO);
        let mut at = from;
        loop {
            let chunk = self.read(at).await?;
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
        let mut pipe = redis::pipe();
        while let Some(batch) = batcher.take(None) {
            self.metrics.uplink_resent(batch.stored().len());
            self.add_entry(&mut pipe, &batch);
        }
        let () = pipe.query_async(redis).await?;
        Ok(())
    }

    /// Tells the cloud which positions are lost, each gap in an entry of its own, until the floor
    /// covers them.
    async fn send_gaps(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let mut pipe = redis::pipe();
        for (spool, gap) in &self.gaps {
            let low = self.spool.low(*spool);
            let entry = entry::of_gap(*spool, gap, &self.config.gateway, low, &self.coding());
            xadd(&mut pipe, &self.config.stream, &entry);
        }
        if !self.gaps.is_empty() {
            let () = pipe.query_async(redis).await?;
        }
        Ok(())
    }

    async fn read(&self, at: Position) -> Result<crate::spool::Chunk, Trouble> {
        let spool = self.spool.clone();
        tokio::task::spawn_blocking(move || spool.read(at, READ_BYTES))
            .await
            .expect("reading the spool does not panic")
            .map_err(Trouble::Spool)
    }

    /// Reads on and closes batches; says whether the end of the spool was reached.
    async fn fill(&mut self, now: Instant, everything: bool) -> Result<bool, Trouble> {
        let mut at_end = false;
        while self.batcher.waiting_bytes() < READ_BYTES && self.has_room() {
            let chunk = self.read(self.next).await?;
            self.next = chunk.next;
            for stored in chunk.stored {
                self.batcher.push(stored, now);
            }
            if chunk.at_end {
                at_end = true;
                break;
            }
        }
        let at = (!everything).then_some(now);
        let mut on_the_way: usize = self.flight.bytes();
        on_the_way += self.unsent.iter().map(Batch::bytes).sum::<usize>();
        while self.unsent.len() < self.depth && on_the_way < self.config.in_flight_bytes_max {
            let Some(batch) = self.batcher.take(at) else {
                break;
            };
            on_the_way += batch.bytes();
            self.unsent.push_back(batch);
        }
        Ok(at_end)
    }

    /// Sends one pipeline; `false` when there was nothing to send.
    async fn send(&mut self, redis: &mut MultiplexedConnection) -> Result<bool, Trouble> {
        if self.unsent.is_empty() {
            return Ok(false);
        }
        let mut pipe = redis::pipe();
        for batch in self.unsent.iter().take(self.depth) {
            self.add_entry(&mut pipe, batch);
        }
        pipe.ignore_errors();
        let answers: RedisResult<Vec<RedisResult<String>>> = pipe.query_async(redis).await;
        // A link too slow for a whole pipeline would send the same one for ever.
        self.depth = match &answers {
            Ok(_) => (self.depth + 1).min(PIPELINE_DEPTH),
            Err(_) => (self.depth / 2).max(1),
        };
        let answers = answers?;
        let now = Instant::now();
        let mut refused = VecDeque::new();
        let mut first_error = None;
        let asked = answers.len().min(self.unsent.len());
        for (batch, answer) in self.unsent.drain(..asked).zip(answers) {
            match answer {
                Ok(_) => {
                    self.flight.sent(&batch, now);
                    self.metrics.uplink_sent(1, batch.records());
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                    refused.push_back(batch);
                }
            }
        }
        refused.append(&mut self.unsent);
        self.unsent = refused;
        self.metrics.uplink_in_flight(self.flight.bytes());
        match first_error {
            Some(error) => Err(error.into()),
            None => Ok(true),
        }
    }

    fn add_entry(&self, pipe: &mut redis::Pipeline, batch: &Batch) {
        let low = self.spool.low(batch.spool());
        let entry = entry::of_batch(batch, &self.config.gateway, low, &self.coding());
        xadd(pipe, &self.config.stream, &entry);
    }

    fn coding(&self) -> Coding {
        if self.config.compress {
            Coding::MsgPackZstd
        } else {
            Coding::MsgPack
        }
    }

    async fn sync_settled(&self) {
        let spool = self.spool.clone();
        let synced = tokio::task::spawn_blocking(move || spool.sync_settled()).await;
        if let Ok(Err(error)) = synced {
            // Only costs sending again after a restart.
            tracing::warn!(error = chain(&error), "settled positions not written");
        }
    }
}

fn xadd(pipe: &mut redis::Pipeline, stream: &str, entry: &Entry) {
    let command = pipe.cmd("XADD").arg(stream).arg("*");
    for (name, value) in entry.to_fields() {
        command.arg(name).arg(value);
    }
}
