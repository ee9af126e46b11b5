//! The cloud as it is measured: a process, its stream and its database, turn by turn.
//!
//! A turn: the stream is filled while the process is stopped (SIGSTOP), it goes on, and the clock runs
//! from the first commit to the last. The first batch is not in it. The process lives through all
//! turns, as the floor's connection does: a connection that is new has to make the server's memory its
//! own first, page by page, which was a twelfth of what a writer did when every turn had a new one.
//!
//! Invariant: a turn is over when the ledger says that every record of it is settled.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tests::batches::SpoolOf;
use tests::processes::{Cloud, Setting};

use crate::process;
use crate::source::{self, Fields, Source};
use crate::spent;
use crate::stage::Stage;

/// Between two looks at the ledger: rare enough that the server hardly feels them.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The longest that nothing may be committed.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// One process with all it needs.
pub struct Product {
    /// Stopped between turns.
    pub cloud: Cloud,
    /// The same tables, for looking.
    pub tables: PgConnection,
    /// Where its records come from.
    pub source: Source,
    /// Whose they are.
    pub spool: SpoolOf,
    redis: MultiplexedConnection,
    stream: String,
    postmaster: Option<u32>,
    redis_server: u32,
    _dir: TempDir,
}

/// What a turn brought, from the first commit to the last.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Records settled in it.
    pub records: u64,
    /// How long it took.
    pub took: Duration,
    /// Processor time of the cloud.
    pub cloud_cpu: Duration,
    /// Of PostgreSQL with all its processes; of a server of our own only.
    pub postgres_cpu: Option<Duration>,
    /// Of Redis.
    pub redis_cpu: Duration,
    /// The most memory the cloud had resident since its start, bytes.
    pub resident_bytes: u64,
}

impl Turn {
    /// Records in a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }

    /// Microseconds a record.
    pub fn each_us(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.records as f64
    }
}

impl Product {
    /// Makes its tables in an empty database. `name`: its stream, its gateway, and which trackers.
    /// # Errors
    /// When the tables cannot be made.
    pub async fn new(
        stage: &Stage,
        name: &'static str,
        url: &str,
        settings: &[Setting],
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cloud-bench-").tempdir()?;
        let stream = format!("telemetry:bench-{name}");
        let mut all: Vec<Setting> = vec![("stream.name", stream.as_str().into())];
        all.extend_from_slice(settings);
        let started = Cloud::start(dir.path(), Some(dir.path()), &stage.redis, url, &all);
        let mut cloud = started.await?;
        cloud.pause()?;
        Ok(Self {
            cloud,
            tables: PgConnection::connect(url).await?,
            source: Source::new(350_000_000_000_000, 25),
            spool: SpoolOf::new(&format!("bench-{name}"), 1)?,
            redis: stage.admin().await?,
            stream,
            postmaster: url
                .contains(&format!(":{}/", stage.postgres.port()))
                .then(|| stage.postgres.pid()),
            redis_server: stage.redis.pid(),
            _dir: dir,
        })
    }

    /// A new process, with the settings of now.
    /// # Errors
    /// When it does not start.
    pub async fn again(&mut self) -> Result<()> {
        self.cloud.kill9()?;
        self.cloud.restart().await?;
        self.cloud.pause()
    }

    /// Puts at least so many records into its stream; says how many.
    /// # Errors
    /// When Redis does not take them.
    pub async fn fill(&mut self, records: u64) -> Result<u64> {
        let (redis, stream) = (&mut self.redis, &self.stream);
        source::fill(redis, stream, &mut self.source, &mut self.spool, records).await
    }

    /// Puts these into its stream.
    /// # Errors
    /// When Redis does not take them.
    pub async fn add(&mut self, entries: &[Fields]) -> Result<()> {
        source::add(&mut self.redis, &self.stream, entries).await
    }

    /// Works off what is in the stream, `records` to be settled.
    /// # Errors
    /// When they are not.
    pub async fn turn(&mut self, records: u64) -> Result<Turn> {
        let before = self.settled().await?;
        sqlx::query("CHECKPOINT").execute(&mut self.tables).await?;
        self.cloud.resume()?;
        let first = self.wait(before + 1).await?;
        let (began, spent) = (Instant::now(), self.spent()?);
        let last = self.wait(before + records).await?;
        let took = began.elapsed();
        let now = self.spent()?;
        let pid = self.cloud.pid().context("the cloud runs")?;
        let resident_bytes = spent::resident_peak_bytes(pid)?;
        self.cloud.pause()?;
        ensure!(
            last == before + records,
            "{last} settled, {records} expected"
        );
        // What is stored is kept for others to read, and nobody else reads here. One item stays: a
        // stream that is empty knows no lag.
        let mut trim = redis::cmd("XTRIM");
        trim.arg(&self.stream).arg("MAXLEN").arg(1);
        let () = trim.query_async(&mut self.redis).await?;
        Ok(Turn {
            records: last - first,
            took,
            cloud_cpu: now.0.saturating_sub(spent.0),
            postgres_cpu: now
                .1
                .zip(spent.1)
                .map(|(now, then)| now.saturating_sub(then)),
            redis_cpu: now.2.saturating_sub(spent.2),
            resident_bytes,
        })
    }

    fn spent(&self) -> Result<(Duration, Option<Duration>, Duration)> {
        let pid = self.cloud.pid().context("the cloud runs")?;
        let of_postgres = self.postmaster.map(spent::family_cpu_time);
        Ok((
            process::cpu_time(pid)?,
            of_postgres.transpose()?,
            process::cpu_time(self.redis_server)?,
        ))
    }

    /// Records settled so far.
    /// # Errors
    /// When the database does not answer.
    pub async fn settled(&mut self) -> Result<u64> {
        let asked = sqlx::query_scalar("SELECT coalesce(sum(received), 0)::int8 FROM settled");
        let settled: i64 = asked.fetch_one(&mut self.tables).await?;
        Ok(u64::try_from(settled)?)
    }

    /// Waits until so many are settled; says how many are.
    /// # Errors
    /// When nothing is committed for a while.
    pub async fn wait(&mut self, records: u64) -> Result<u64> {
        let (mut before, mut moved_at) = (self.settled().await?, Instant::now());
        loop {
            let settled = self.settled().await?;
            if settled >= records {
                return Ok(settled);
            }
            if settled > before {
                (before, moved_at) = (settled, Instant::now());
            }
            ensure!(
                moved_at.elapsed() < SILENCE_MAX,
                "only {settled} of {records} records are settled, and no more for {} s: {}",
                SILENCE_MAX.as_secs(),
                self.cloud.last_words()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
