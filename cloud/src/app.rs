//! `cloud run`: waits for its two servers, starts the parts, and stops them in the order of the data.
//!
//! Invariant: nothing is read from the stream before the tables are known to be ours.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use settings::TokenFileError;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::admin::{self, Admin, ListenError};
use crate::backoff::Backoff;
use crate::commands::Commands;
use crate::config::{Config, PolicyConfig, StreamConfig};
use crate::direct::DirectError;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::policies;
use crate::processor::Processor;
use crate::sensors::{self, Sensors};
use crate::store::edges::{self, Settled};
use crate::store::{self, Database, DatabaseError, Timescale, Writer, migrate};
use crate::stream::claimer::{self, Claimer};
use crate::stream::consumer::{Consumer, chained};
use crate::stream::floor::{self, Board, Tables};
use crate::stream::gaps::Gaps;
use crate::stream::setback::Setback;
use crate::stream::{
    Acks, Deliveries, Delivery, Intake, Link, Mirror, Redis, RedisFailure, Stream, Streams, finder,
    trimmer,
};
use crate::web::Web;
use crate::web::tokens::Gate;
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
    /// Correct the file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// As it says.
    #[error(transparent)]
    Direct(#[from] DirectError),
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
    let door = pages(&config).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        redis = redis.url(),
        streams = config.stream.names.join(", "),
        sensors = config.sensors.as_ref().map_or("none", |it| &it.pattern),
        group = config.stream.group,
        consumer = config.stream.consumer,
        database = database.url(),
        http = door
            .as_ref()
            .and_then(|door| door.listener.local_addr().ok())
            .map_or_else(|| "off".to_owned(), |a| a.to_string()),
        "cloud starts"
    );
    let Some(timescale) = prepared(&database, &config.policies, auto_migrate, &stop).await? else {
        return Ok(());
    };
    let parts = Parts::new(database, stop);
    parts.start(&config, redis, door, engine(&timescale));
    parts.finish().await
}

/// Where pages will be served, and to whom.
pub(crate) struct PagesDoor {
    pub(crate) listener: TcpListener,
    gate: Gate,
}

/// Opens the door for pages, if there is to be one.
pub(crate) async fn pages(config: &Config) -> Result<Option<PagesDoor>, RunError> {
    let Some(address) = config.http else {
        return Ok(None);
    };
    Ok(Some(PagesDoor {
        gate: Gate::open(&config.web)?,
        listener: admin::listen(address).await?,
    }))
}

pub(crate) fn engine(timescale: &Timescale) -> String {
    match timescale {
        Timescale::Yes { version, .. } => format!("timescaledb {version}"),
        Timescale::No => "postgresql".to_owned(),
    }
}

/// Waits for the database and its tables. `None`: stopped meanwhile.
pub(crate) async fn prepared(
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

/// What runs, and what it stands on.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    /// The first part that ended although nobody told it to.
    ended: Arc<OnceLock<&'static str>>,
}

/// What lies between whoever brings entries and the processors.
pub(crate) struct Between {
    pub(crate) deliveries: Deliveries,
    pub(crate) intake: Intake,
    pub(crate) gaps: UnboundedSender<Delivery>,
    pub(crate) link: Option<Link>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) board: Arc<Board>,
}

impl Parts {
    /// Nothing runs yet; the database was just there.
    pub(crate) fn new(database: Database, stop: CancellationToken) -> Self {
        let metrics = Arc::new(Metrics::default());
        metrics.database(true);
        Self {
            database,
            metrics,
            stop,
            tasks: TaskTracker::new(),
            ended: Arc::new(OnceLock::new()),
        }
    }

    /// Waits for the stop and for everything that runs.
    pub(crate) async fn finish(&self) -> Result<(), RunError> {
        self.tasks.close();
        self.stop.cancelled().await;
        info!("stopping: no more reading, the batch in hand is finished");
        self.tasks.wait().await;
        info!("stopped");
        match self.ended.get() {
            Some(part) => Err(RunError::Part { part }),
            None => Ok(()),
        }
    }

    /// One more processor than can write: it gathers and decodes meanwhile. Returns how many write.
    pub(crate) fn start_processors(&self, config: &Config, between: &Between) -> usize {
        let writers = writers(config);
        // One for whatever looks now and then, one for every other part that writes.
        let others = 1 + config.sensors.as_ref().map_or(0, |_| sensors::PROCESSORS);
        let has_spare = config.database.pool as usize >= writers + others;
        let writer = || {
            Writer::new(self.database.clone(), config.store.keep_frames)
                .keeping_connection(has_spare)
        };
        let all = Writers::new(std::iter::repeat_with(writer).take(writers));
        for _ in 0..=writers {
            let processor = Processor {
                deliveries: between.deliveries.clone(),
                intake: between.intake.clone(),
                gaps: between.gaps.clone(),
                writers: all.clone(),
                patience: Patience {
                    database: self.database.clone(),
                    metrics: self.metrics.clone(),
                },
                acks: Acks {
                    link: between.link.clone(),
                    group: config.stream.group.as_str().into(),
                    intake: between.intake.clone(),
                    metrics: self.metrics.clone(),
                },
                config: config.store,
                mirror: between.mirror.clone(),
                board: between.board.clone(),
                metrics: self.metrics.clone(),
            };
            self.spawn("processor", processor.run(self.stop.clone()));
        }
        writers
    }

    /// What looks after the tables.
    pub(crate) fn start_upkeep(&self, config: &Config) {
        let (metrics, stop) = (&self.metrics, &self.stop);
        let housekeeping = policies::run(
            self.database.clone(),
            config.policies,
            metrics.clone(),
            stop.clone(),
        );
        self.spawn("housekeeping", housekeeping);
        let probe = probe(self.database.clone(), metrics.clone(), stop.clone());
        self.spawn("probe", probe);
    }

    /// Serves the pages and the web app.
    pub(crate) fn start_pages(&self, config: &Config, door: PagesDoor, admin: Admin) {
        let web = Web::new(door.gate, config, &self.database, &admin, self.stop.clone());
        self.spawn("live", web.watch());
        let serving = admin::serve(door.listener, admin, web, self.stop.clone());
        self.spawn("admin", serving);
    }

    fn start(&self, config: &Config, redis: Arc<Redis>, door: Option<PagesDoor>, engine: String) {
        let link = Link::new(redis.clone());
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
        let streams = Streams::default();
        let (gaps, coming) = mpsc::unbounded_channel();
        let between = Between {
            deliveries,
            intake: intake.clone(),
            gaps,
            link: Some(link.clone()),
            mirror: mirror.clone(),
            board: board.clone(),
        };
        let writers = self.start_processors(config, &between);
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
            redis: redis.clone(),
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
            Some(link.clone()),
            streams.clone(),
            config.stream.group.clone(),
            metrics.clone(),
        );
        let floor = floor::run(
            Some(link.clone()),
            board,
            tables,
            setback,
            metrics.clone(),
            lost,
            stop.clone(),
        );
        self.spawn("floor", floor);
        let sensors = config.sensors.clone().map(|sensors| {
            let streams = Streams::default();
            let sensors = Sensors {
                config: sensors,
                stream: stream(),
                store: config.store,
                link: link.clone(),
                database: self.database.clone(),
                streams: streams.clone(),
                mirror,
                metrics: metrics.clone(),
            };
            for (name, part) in sensors.parts(stop) {
                self.spawn(name, part);
            }
            streams
        });
        if let Some(commands) = config.commands {
            let commands = Commands {
                redis,
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
        self.start_upkeep(config);
        if let Some(door) = door {
            let admin = Admin {
                metrics: metrics.clone(),
                link: Some(link),
                intake,
                streams,
                sensors,
                stream: stream(),
                writers,
                engine: engine.into(),
            };
            self.start_pages(config, door, admin);
        }
    }

    /// Runs a part; if it ends before the stop, all others stop too: a processor that looks well
    /// and does nothing is worse than one that is gone and started again.
    pub(crate) fn spawn<T: Send + 'static>(
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
    redis: Arc<Redis>,
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
            redis: self.redis.clone(),
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
            newer: claimer::newer_envelopes,
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
pub(crate) struct SettledTables(pub(crate) Database);

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
