//! The uplink's shell: reads the spool, writes entries, asks for the floor.
//!
//! Invariants:
//! - A pipeline whose outcome is unknown is sent again; of one that was refused in part, only
//!   the refused part.
//! - The position in the spool only moves over what is in a batch, in flight or settled.
//! - Nothing here can make an acknowledgement.

mod floor;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::version::{self, VersionsRead};
use contract::{Coding, Entry};
use contract::{GatewayId, Lane, SettledRanges, SpoolId, keys};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, RedisError, RedisResult, SetExpiry, SetOptions};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::connect::{ConnectError, RedisConfig, remedy};
use super::course::{Course, Courses, Part};
use super::entry;
use super::flight::Flight;
use crate::chain::chain;
use crate::clock;
use crate::metrics::Metrics;
use crate::progress::Stage;
use crate::spool::{Chunk, Position, Reading, Spool, SpoolError};

/// Entries in one pipeline; more gains nothing (measured).
const PIPELINE_DEPTH: usize = 32;

/// Bytes read from the spool at a time, and waiting in each course at most.
const READ_BYTES: usize = 256 * 1024;

/// The high lane may have this part of `in_flight_bytes_max` more on its way.
const URGENT_PART: usize = 8;

/// Without a link for so long, the spool may rearrange what waits; afterwards everything that is
/// unsettled is sent from the start.
const LET_GO_AFTER: Duration = Duration::from_secs(60);

/// How often the floor is asked for while something is in flight.
const FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// How often otherwise: a settled range of an earlier opening may still arrive.
const FLOOR_INTERVAL_IDLE: Duration = Duration::from_secs(keys::REPUBLISH_INTERVAL_S);

/// Beside its pauses, one turn may take so long: every question to Redis has its own timeout, and
/// a turn asks a few.
const SILENCE_MAX: Duration = Duration::from_secs(120);

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
    stage: Stage,
    courses: Courses,
    /// Held while places in the spool are held; without it they mean nothing.
    reading: Option<Reading>,
    flight: Flight,
    /// Taken from the courses, not yet accepted by Redis.
    unsent: VecDeque<Batch>,
    /// Entries in the next pipeline.
    depth: usize,
    /// What was last seen on the floor, per spool.
    floors: HashMap<SpoolId, SettledRanges>,
    /// A read found a loss that the cloud has not been told.
    gap_found: bool,
    contract_missing_said: bool,
}

impl Uplink {
    /// An uplink that starts with the oldest unsettled envelopes.
    #[must_use]
    pub fn new(config: UplinkConfig, spool: Spool, metrics: Arc<Metrics>) -> Self {
        let silence_max = config.retry_max + SILENCE_MAX;
        Self {
            stage: metrics.panel.progress.stage("uplink", silence_max),
            courses: Courses::new(config.flush, |_| Position::default()),
            reading: None,
            flight: Flight::new(config.resend_after),
            config,
            spool,
            metrics,
            unsent: VecDeque::new(),
            depth: PIPELINE_DEPTH,
            floors: HashMap::new(),
            gap_found: false,
            contract_missing_said: false,
        }
    }

    /// Runs until `stop`, then hands over what waits for at most the drain time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = RETRY_MIN;
        let mut down_since = Instant::now();
        while !stop.is_cancelled() {
            self.stage.turn();
            let started = Instant::now();
            match self.talk(&stop, &mut down_since).await {
                Ok(()) => break,
                Err(trouble) => self.report(&trouble, pause),
            }
            self.metrics.uplink_connected(false);
            if down_since.elapsed() > LET_GO_AFTER {
                self.reading = None;
            }
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
        self.stage.finish();
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

    /// Places in the spool to go on from: the old ones, or everything from the start.
    fn take_hold(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let reader = self.spool.reader();
        self.reading = Some(reader.begin_reading());
        self.courses = Courses::new(self.config.flush, |lane| reader.live_from(lane));
        self.flight = Flight::new(self.config.resend_after);
        self.unsent.clear();
    }

    /// One connection, until it fails or `stop` and everything handed over. `down_since` becomes
    /// the last moment at which it worked.
    async fn talk(
        &mut self,
        stop: &CancellationToken,
        down_since: &mut Instant,
    ) -> Result<(), Trouble> {
        let mut redis = self
            .config
            .redis
            .connect()
            .await
            .map_err(Trouble::Connect)?;
        self.say_hello(&mut redis).await?;
        tracing::info!(url = %self.config.redis.shown(), stream = %self.config.stream, "uplink connected");
        self.metrics.uplink_connected(true);
        self.take_hold();
        self.send_gaps(&mut redis).await?;
        let mut tail = self.spool.tail();
        let mut floor_at = Instant::now();
        let mut hello_at = Instant::now() + Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
        let mut give_up_at: Option<Instant> = None;
        loop {
            self.stage.turn();
            let now = Instant::now();
            if stop.is_cancelled() && give_up_at.is_none() {
                give_up_at = Some(now + self.config.drain);
            }
            if now >= hello_at {
                self.say_hello(&mut redis).await?;
                self.gap_found = true;
                hello_at = now + Duration::from_secs(keys::REPUBLISH_INTERVAL_S);
            }
            if now >= floor_at {
                self.read_floor(&mut redis).await?;
                floor_at = now + FLOOR_INTERVAL_IDLE;
            }
            let at_end = self.fill(now, give_up_at.is_some()).await?;
            if std::mem::take(&mut self.gap_found) {
                self.send_gaps(&mut redis).await?;
            }
            let sent = self.send(&mut redis).await?;
            *down_since = Instant::now();
            if self.flight.batches() > 0 {
                floor_at = floor_at.min(now + FLOOR_INTERVAL);
            }
            let handed_over = at_end && self.courses.are_done();
            if give_up_at.is_some_and(|at| handed_over || now >= at) {
                return Ok(());
            }
            if sent {
                continue;
            }
            // A full flight waits for the floor alone; otherwise new data or the flush interval.
            let flush_at = self
                .courses
                .deadline()
                .filter(|_| self.has_room(Lane::Normal));
            let wake = [Some(floor_at), flush_at, give_up_at];
            let wake = wake.into_iter().flatten().min().unwrap_or(floor_at);
            tokio::select! {
                () = sleep_until(wake.into()) => {}
                changed = tail.changed(), if at_end && self.has_room(Lane::High) => {
                    if changed.is_err() { return Ok(()); }
                }
                () = stop.cancelled(), if give_up_at.is_none() => {}
            }
        }
    }

    /// May more be on its way? An alarm may, when a little more of it is urgent.
    fn has_room(&self, lane: Lane) -> bool {
        let bytes_max = self.config.in_flight_bytes_max;
        let urgent = match lane {
            Lane::High => bytes_max / URGENT_PART,
            Lane::Normal | Lane::Bulk => 0,
        };
        self.flight.bytes() < bytes_max + urgent
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

    async fn read(
        &self,
        lane: Lane,
        at: Position,
        until: Option<Position>,
    ) -> Result<Chunk, Trouble> {
        let reader = self.spool.reader().clone();
        tokio::task::spawn_blocking(move || reader.read(lane, at, until, READ_BYTES))
            .await
            .expect("reading the spool does not panic")
            .map_err(Trouble::Spool)
    }

    /// Reads on and closes batches; says whether the end of the spool was reached.
    async fn fill(&mut self, now: Instant, everything: bool) -> Result<bool, Trouble> {
        // Taken out for the time of reading, which needs `self` as well.
        let mut courses = std::mem::take(&mut self.courses);
        let filled = self.read_courses(&mut courses, now).await;
        self.courses = courses;
        filled?;
        let at = (!everything).then_some(now);
        let bytes_max = self.config.in_flight_bytes_max;
        let mut on_the_way: usize = self.flight.bytes();
        on_the_way += self.unsent.iter().map(Batch::bytes).sum::<usize>();
        while self.unsent.len() < self.depth && on_the_way < bytes_max + bytes_max / URGENT_PART {
            let high_only = on_the_way >= bytes_max;
            let Some(batch) = self.courses.take(at, high_only) else {
                break;
            };
            on_the_way += batch.bytes();
            let is_high = |batch: &Batch| batch.lane() == Lane::High;
            let before = if is_high(&batch) {
                self.unsent.iter().take_while(|b| is_high(b)).count()
            } else {
                self.unsent.len()
            };
            self.unsent.insert(before, batch);
        }
        Ok(self.courses.are_read())
    }

    async fn read_courses(&mut self, courses: &mut Courses, now: Instant) -> Result<(), Trouble> {
        for course in courses.iter_mut() {
            while self.wants(course) {
                let chunk = self.read(course.lane, course.next, course.until).await?;
                self.gap_found |= !chunk.gaps.is_empty();
                course.push(chunk, now);
                if course.at_end {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Is it worth reading on?
    fn wants(&self, course: &mut Course) -> bool {
        let is_over = match course.part {
            Part::Live => course.next == self.spool.reader().live_from(course.lane),
            Part::Backlog => course.at_end,
        };
        course.at_end |= is_over;
        !is_over && course.batcher.waiting_bytes() < READ_BYTES && self.has_room(course.lane)
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
                    let mut ranges = SettledRanges::new();
                    ranges.insert(batch.first().get(), batch.last().get());
                    self.spool.reader().accepted(batch.spool(), &ranges);
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
        let low = self.spool.reader().low(batch.spool());
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
        let reader = self.spool.reader().clone();
        let synced = tokio::task::spawn_blocking(move || reader.write_cursor()).await;
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
