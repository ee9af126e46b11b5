//! `cloud run`: waits for its two servers, starts the parts, and stops them in the order of the data.
//!
//! Invariant: nothing is read from the stream before the tables are known to be ours.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::admin::{self, Admin, ListenError};
use crate::backoff::Backoff;
use crate::commands::Commands;
use crate::config::{Config, PolicyConfig, StreamConfig};
use crate::metrics::Metrics;
use crate::policies;
use crate::processor::Processor;
use crate::store::edges::{self, Settled};
use crate::store::{self, Database, DatabaseError, Timescale, Writer, migrate};
use crate::stream::claimer::Claimer;
use crate::stream::consumer::{Consumer, chained};
use crate::stream::floor::{self, Board, Tables};
use crate::stream::gaps::Gaps;
use crate::stream::setback::Setback;
use crate::stream::{Intake, Link, Mirror, Redis, RedisFailure, Stream, Streams, finder, trimmer};
use crate::writers::Writers;

/// How often to ask the database whether it is there, when there is nothing to write.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Why `run` ended, or never began.
#[derive(Debug, Error)]
pub enum RunError {
    /// Correct the configuration.
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    /// Correct the configuration or the database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Run `cloud migrate up`.
    #[error(
        "the database {url} misses migrations: {missing}; run `cloud migrate up`, or start with --auto-migrate"
    )]
    Migrations {
        /// Without its password.
        url: String,
        /// Numbers and names.
        missing: String,
    },
    /// Our own bug; start again. Nothing is lost: what was not committed is still pending.
    #[error("the {part} ended by itself; start again, and report what the log says about it")]
    Part {
        /// Its name.
        part: &'static str,
    },
    /// Correct `http.listen`.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Runs until `stop`.
/// # Errors
/// [`RunError`]: only what trying again cannot cure.
pub async fn run(
    config: Config,
    auto_migrate: bool,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let redis = Arc::new(Redis::new(&config.redis)?);
    let database = Database::new(&config.database)?;
    let listener = match config.http {
        Some(address) => Some(admin::listen(address).await?),
        None => None,
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        redis = redis.url(),
        streams = config.stream.names.join(", "),
        group = config.stream.group,
        consumer = config.stream.consumer,
        database = database.url(),
        http = listener
            .as_ref()
            .and_then(|l| l.local_addr().ok())
            .map_or_else(|| "off".to_owned(), |a| a.to_string()),
        "cloud starts"
    );
    let Some(timescale) = prepared(&database, &config.policies, auto_migrate, &stop).await? else {
        return Ok(());
    };
    let metrics = Arc::new(Metrics::default());
    metrics.database(true);
    let parts = Parts {
        redis,
        database,
        metrics,
        stop,
        tasks: TaskTracker::new(),
        ended: Arc::new(OnceLock::new()),
    };
    parts.start(&config, listener, engine(&timescale));
    parts.tasks.close();
    parts.stop.cancelled().await;
    info!("stopping: no more reading, the batch in hand is finished");
    parts.tasks.wait().await;
    info!("stopped");
    match parts.ended.get() {
        Some(part) => Err(RunError::Part { part }),
        None => Ok(()),
    }
}

fn engine(timescale: &Timescale) -> String {
    match timescale {
        Timescale::Yes { version, .. } => format!("timescaledb {version}"),
        Timescale::No => "postgresql".to_owned(),
    }
}

/// Waits for the database and its tables. `None`: stopped meanwhile.
async fn prepared(
    database: &Database,
    policies: &PolicyConfig,
    auto_migrate: bool,
    stop: &CancellationToken,
) -> Result<Option<Timescale>, RunError> {
    let mut backoff = Backoff::default();
    loop {
        let preparing = prepare(database, policies, auto_migrate);
        let failure = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            prepared = preparing => match prepared {
                Ok(timescale) => return Ok(Some(timescale)),
                Err(RunError::Database(failure @ (DatabaseError::Unreachable { .. } | DatabaseError::Silent { .. }))) => failure,
                Err(error) => return Err(error),
            },
        };
        let pause = backoff.pause();
        warn!(
            error = chained(&failure),
            retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "waiting for the database"
        );
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn prepare(
    database: &Database,
    policies: &PolicyConfig,
    auto_migrate: bool,
) -> Result<Timescale, RunError> {
    let mut connection = database.connect().await?;
    let timescale = database.timescale(&mut connection).await?;
    let version = database.server_version(&mut connection).await?;
    let mut steps = migrate::status(database, &mut connection).await?;
    if auto_migrate && !migrate::missing(&steps).is_empty() {
        migrate::up(database, &mut connection).await?;
        info!(applied = migrate::missing(&steps).len(), "migrated");
        steps = migrate::status(database, &mut connection).await?;
    }
    let missing = migrate::missing(&steps);
    if !missing.is_empty() {
        let missing: Vec<String> = missing
            .iter()
            .map(|step| format!("{} ({})", step.version, step.description))
            .collect();
        return Err(RunError::Migrations {
            url: database.url().to_owned(),
            missing: missing.join(", "),
        });
    }
    let timescale = in_use(database, &mut connection, timescale, &version).await?;
    match store::policies::apply(database, &mut connection, policies).await {
        Ok(changed) if changed.is_empty() => {}
        Ok(changed) => info!(changed = changed.join(", "), "policies set"),
        // A writer that may only write: `cloud migrate up` sets them for whoever owns the tables.
        Err(error @ DatabaseError::Refused { .. }) => warn!(
            error = chained(&error),
            "policies stay as they are; set them with `cloud migrate up` as the owner of the tables"
        ),
        Err(error) => return Err(error.into()),
    }
    for step in steps
        .iter()
        .filter(|step| step.standing != migrate::Standing::Applied)
    {
        warn!(
            migration = step.version,
            standing = step.standing.as_str(),
            "the database was migrated by another version of this program"
        );
    }
    // Politeness: the server would log a lost connection otherwise.
    let _ = connection.close().await;
    Ok(timescale)
}

/// Says where the rows go, as the tables are and not as the server could have them.
async fn in_use(
    database: &Database,
    connection: &mut PgConnection,
    timescale: Timescale,
    postgresql: &str,
) -> Result<Timescale, DatabaseError> {
    match &timescale {
        Timescale::Yes { version, license } if database.has_hypertables(connection).await? => {
            info!(
                postgresql,
                timescaledb = version,
                license,
                "writing to TimescaleDB hypertables"
            );
        }
        Timescale::Yes { version, .. } => {
            warn!(
                postgresql,
                timescaledb = version,
                "TimescaleDB is there, but the tables were made without it: writing to ordinary tables"
            );
            return Ok(Timescale::No);
        }
        Timescale::No => info!(
            postgresql,
            "writing to plain PostgreSQL (no TimescaleDB in this database)"
        ),
    }
    Ok(timescale)
}

#[derive(Clone)]
struct Parts {
    redis: Arc<Redis>,
    database: Database,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The first part that ended although nobody told it to.
    ended: Arc<OnceLock<&'static str>>,
}

impl Parts {
    fn start(&self, config: &Config, listener: Option<tokio::net::TcpListener>, engine: String) {
        let link = Link::new(self.redis.clone());
        let (intake, deliveries) = Intake::new();
        let board = Arc::new(Board::default());
        let lost = Arc::new(Notify::new());
        let lost_data = lost.clone();
        let mirror = config.stream.dead_letter.as_deref().map(|stream| Mirror {
            link: link.clone(),
            stream: stream.into(),
            keep: config.stream.dead_letter_keep,
            consumer: config.stream.consumer.as_str().into(),
            metrics: self.metrics.clone(),
        });
        let writers = writers(config);
        let streams = Streams::default();
        let (gaps, coming) = mpsc::unbounded_channel();
        let writer = || Writer::new(self.database.clone(), config.store.keep_frames);
        let all = Writers::new(std::iter::repeat_with(writer).take(writers));
        // One more than can write: it gathers and decodes meanwhile.
        for _ in 0..=writers {
            let processor = Processor {
                deliveries: deliveries.clone(),
                intake: intake.clone(),
                gaps: gaps.clone(),
                writers: all.clone(),
                database: self.database.clone(),
                link: link.clone(),
                stream: config.stream.clone(),
                config: config.store,
                mirror: mirror.clone(),
                board: board.clone(),
                metrics: self.metrics.clone(),
            };
            self.spawn("processor", processor.run(self.stop.clone()));
        }
        let (metrics, stop) = (&self.metrics, &self.stop);
        let stream = || config.stream.clone();
        let held = Gaps {
            link: link.clone(),
            streams: streams.clone(),
            config: stream(),
            intake: intake.clone(),
            metrics: metrics.clone(),
        };
        self.spawn("gaps", held.run(coming, stop.clone()));
        let reading = Reading {
            parts: self.clone(),
            config: stream(),
            link: link.clone(),
            intake: intake.clone(),
            lost: lost.clone(),
        };
        let finder = finder::run(
            link.clone(),
            stream(),
            streams.clone(),
            metrics.clone(),
            move |stream| reading.open(stream),
            stop.clone(),
        );
        self.spawn("finder", finder);
        let tables = SettledTables(self.database.clone());
        let setback = Setback::new(
            link.clone(),
            streams.clone(),
            config.stream.group.clone(),
            metrics.clone(),
        );
        let floor = floor::run(
            link.clone(),
            board,
            tables,
            setback,
            metrics.clone(),
            lost,
            stop.clone(),
        );
        self.spawn("floor", floor);
        if let Some(commands) = config.commands {
            let commands = Commands {
                redis: self.redis.clone(),
                link: link.clone(),
                database: self.database.clone(),
                stream: stream(),
                streams: streams.clone(),
                config: commands,
                metrics: metrics.clone(),
                lost: lost_data,
            };
            for (name, part) in commands.parts(stop) {
                self.spawn(name, part);
            }
        }
        let housekeeping = policies::run(
            self.database.clone(),
            config.policies,
            metrics.clone(),
            stop.clone(),
        );
        self.spawn("housekeeping", housekeeping);
        let probe = probe(self.database.clone(), metrics.clone(), stop.clone());
        self.spawn("probe", probe);
        if let Some(listener) = listener {
            let admin = Admin {
                metrics: metrics.clone(),
                link,
                intake,
                streams,
                stream: stream(),
                writers,
                engine: engine.into(),
            };
            self.spawn("admin", admin::serve(listener, admin, stop.clone()));
        }
    }

    /// Runs a part; if it ends before the stop, all others stop too: a processor that looks well
    /// and does nothing is worse than one that is gone and started again.
    fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        part: impl Future<Output = T> + Send + 'static,
    ) {
        let (stop, ended) = (self.stop.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            let done = tokio::spawn(part).await;
            if done.is_err() || !stop.is_cancelled() {
                error!(
                    part = name,
                    panicked = done.is_err(),
                    "a part ended by itself"
                );
                let _ = ended.set(name);
                stop.cancel();
            }
        });
    }
}

/// What every stream needs for itself.
struct Reading {
    parts: Parts,
    config: StreamConfig,
    link: Link,
    intake: Intake,
    lost: Arc<Notify>,
}

impl Reading {
    /// A reader with a connection of its own, a claimer and a trimmer.
    fn open(&self, stream: Stream) {
        let (metrics, stop) = (&self.parts.metrics, &self.parts.stop);
        let consumer = Consumer {
            redis: self.parts.redis.clone(),
            stream: stream.clone(),
            config: self.config.clone(),
            intake: self.intake.clone(),
            metrics: metrics.clone(),
            lost: self.lost.clone(),
        };
        self.parts.spawn("consumer", consumer.run(stop.clone()));
        let claimer = Claimer {
            link: self.link.clone(),
            stream: stream.clone(),
            config: self.config.clone(),
            intake: self.intake.clone(),
            metrics: metrics.clone(),
        };
        self.parts.spawn("claimer", claimer.run(stop.clone()));
        let (link, keep) = (self.link.clone(), self.config.keep);
        let trimmer = trimmer::run(link, stream, keep, metrics.clone(), stop.clone());
        self.parts.spawn("trimmer", trimmer);
    }
}

/// As many as there are connections for: one that waits for a connection only holds a batch back.
fn writers(config: &Config) -> usize {
    let pool = usize::try_from(config.database.pool).unwrap_or(usize::MAX);
    let writers = config.store.writers.min(pool);
    if writers < config.store.writers {
        info!(
            writers,
            pool,
            wanted = config.store.writers,
            "fewer writers than store.writers says: database.pool has no more connections"
        );
    }
    writers
}

/// The tables, as the floor wants to see them.
struct SettledTables(Database);

impl Tables for SettledTables {
    async fn settled(&self) -> Option<Settled> {
        match edges::settled(&self.0).await {
            Ok(edges) => Some(edges),
            Err(error) => {
                debug!(error = chained(&error), "cannot read settled ranges");
                None
            }
        }
    }
}

async fn probe(database: Database, metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
        }
        let answers = tokio::select! {
            () = stop.cancelled() => return,
            answers = database.answers() => answers,
        };
        if let Some(connected) = answers {
            metrics.database(connected);
        }
    }
}
