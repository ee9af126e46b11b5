//! The uplink's shell: reads the spool, writes entries, asks for the floor.
//!
//! Invariants:
//! - What has no answer, or a refusal, is sent again on the next connection.
//! - The position in the spool only moves over what is in a batch, in flight or settled.
//! - Nothing here can make an acknowledgement.

mod fill;
mod floor;
mod hello;
mod renew;
mod send;

pub use renew::Reload;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::version::{self, VersionsRead};
use contract::{GatewayId, Lane, SettledRanges, SpoolId, keys};
use redis::RedisError;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::cause::Cause;
use super::connect::{ConnectError, RedisConfig};
use super::course::Courses;
use super::flight::Flight;
use crate::chain::chain;
use crate::metrics::Metrics;
use crate::progress::Stage;
use crate::spool::{Position, Reading, Spool, SpoolError};
use renew::Renewal;

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

/// Beside its pauses, one turn may take so long …
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// … or so many response timeouts: a turn asks Redis a few times.
const ANSWERS_A_TURN: u32 = 6;

/// First pause after a failure; doubles up to `retry_max`.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// How to send.
#[derive(Clone)]
pub struct UplinkConfig {
    /// Who we are.
    pub gateway: GatewayId,
    /// Where to.
    pub redis: RedisConfig,
    /// Stream of the entries; with several shards the beginning of their names.
    pub stream: String,
    /// Streams that devices are dealt out to; the cloud must read as many.
    pub shards: u32,
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
    /// How often the certificate files are looked at.
    pub look_every: Duration,
    /// How others ask for new certificates to be taken up.
    pub reload: Reload,
}

/// Why a connection was given up.
enum Trouble {
    Connect(ConnectError),
    Redis(RedisError),
    Spool(SpoolError),
    /// The cloud does not read what we write.
    Contract(VersionsRead),
}

impl Trouble {
    fn cause(&self) -> Cause {
        match self {
            Self::Connect(error) => error.cause(),
            Self::Redis(error) => Cause::of(error),
            Self::Spool(_) => Cause::Spool,
            Self::Contract(_) => Cause::Contract,
        }
    }

    /// What was said, in full.
    fn detail(&self) -> String {
        match self {
            Self::Connect(error) => chain(error),
            Self::Redis(error) => chain(error),
            Self::Spool(error) => chain(error),
            Self::Contract(reads) => format!(
                "it reads entry versions {reads}, this gateway writes {}",
                version::ENTRY_VERSION_WRITTEN
            ),
        }
    }
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
    /// The cloud says that it reads entries that name their positions.
    reads_exact: bool,
    /// Which cloud holds what was sent, where there is no Redis to hold it.
    holder: Option<String>,
    renewal: Renewal,
    /// Wakes the loop when a connection with new certificates is there or has failed.
    renewal_done: Arc<Notify>,
}

impl Uplink {
    /// An uplink that starts with the oldest unsettled envelopes.
    #[must_use]
    pub fn new(config: UplinkConfig, spool: Spool, metrics: Arc<Metrics>) -> Self {
        let answers = config.redis.response_timeout * ANSWERS_A_TURN;
        let silence_max = config.retry_max + SILENCE_MAX.max(answers);
        Self {
            stage: metrics.panel.progress.stage("uplink", silence_max),
            courses: Courses::new(config.flush, config.shards, |_| Position::default()),
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
            reads_exact: false,
            holder: None,
            renewal: Renewal::new(),
            renewal_done: Arc::default(),
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
                () = self.config.reload.asked() => {}
            }
            pause = (pause * 2).min(self.config.retry_max);
        }
        self.sync_settled().await;
        self.stage.finish();
    }

    fn report(&self, trouble: &Trouble, pause: Duration) {
        let url = self.config.redis.shown();
        let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let (cause, detail) = (trouble.cause(), trouble.detail());
        let (what, remedy) = (cause.words(), cause.remedy());
        self.metrics
            .uplink_trouble(format!("{what}: {remedy} ({detail})"));
        self.metrics.uplink_link.failed(cause);
        tracing::warn!(
            %url, cause = cause.name(), error = detail, retry_in_ms = again_ms,
            "uplink: {what}: {remedy}. Trackers are still acknowledged, the spool keeps everything."
        );
    }

    /// Places in the spool to go on from: the old ones, or everything from the start.
    fn take_hold(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let reader = self.spool.reader();
        self.reading = Some(reader.begin_reading());
        self.courses = Courses::new(self.config.flush, self.config.shards, |lane| {
            reader.live_from(lane)
        });
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
        let mut redis = self.connect().await.map_err(Trouble::Connect)?;
        self.say_hello(&mut redis).await?;
        self.look_who_holds(&mut redis).await?;
        tracing::info!(url = %self.config.redis.shown(), stream = %self.config.stream, "uplink connected");
        self.metrics.uplink_connected(true);
        self.take_hold();
        self.send_gaps(&redis).await?;
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
            if let Some(renewed) = self.renewed(now).await {
                redis = renewed;
                hello_at = now;
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
                self.send_gaps(&redis).await?;
            }
            let sent = self.send(&redis).await?;
            *down_since = Instant::now();
            self.metrics.uplink_works();
            self.metrics.uplink_behind(!at_end);
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
            let look_at = self.renewal.look_at();
            let wake = [Some(floor_at), Some(look_at), flush_at, give_up_at];
            let wake = wake.into_iter().flatten().min().unwrap_or(floor_at);
            tokio::select! {
                () = sleep_until(wake.into()) => {}
                changed = tail.changed(), if at_end && self.has_room(Lane::High) => {
                    if changed.is_err() { return Ok(()); }
                }
                () = stop.cancelled(), if give_up_at.is_none() => {}
                () = self.config.reload.asked() => {}
                () = self.renewal_done.notified() => {}
            }
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
