//! Without Redis: entries straight from gateways on this machine, or from a spool that was left.
//!
//! Why: the smallest installation is a gateway, this program and PostgreSQL on one box, and a box whose
//! Redis is gone still has its records. What comes behind the entries (decode, batch, writer, floor) is
//! the very same: there is one way into the tables.
//!
//! Invariants: only a COMMIT settles, and what is settled is told from the tables; nothing that was
//! taken here is promised to anybody before it is committed, so a death costs sending again.

pub mod door;
pub mod drain;
pub mod held;
pub mod read;
pub mod resp;
pub mod salvage;
pub mod shelf;
pub mod talk;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::PayloadError;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::Admin;
use crate::app::{self, Between, PagesDoor, Parts, RunError, SettledTables};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::Database;
use crate::stream::floor::{self, Board};
use crate::stream::setback::Setback;
use crate::stream::{Intake, Streams};
use door::{Desk, Door, DoorError};
use drain::{Drain, Drained};
use salvage::{Salvage, SalvageError};
use shelf::Shelf;

/// Why entries cannot be had without Redis.
#[derive(Debug, Error)]
pub enum DirectError {
    /// As it says.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// As it says.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// A disk that fails; what is committed by now is settled at the next call.
    #[error("the spool cannot be read or its cursor not written")]
    Spool(#[from] spool::SpoolError),
    /// Our own bug: report it.
    #[error("an envelope of the spool does not fit into an entry")]
    Payload(#[from] PayloadError),
    /// Nothing can be done here.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

impl DirectError {
    /// 2: name something else; 3: it cannot be had now; 4: data may be lost.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Door(DoorError::InUse { .. }) | Self::Salvage(SalvageError::InUse { .. }) => 3,
            Self::Door(_) => 2,
            Self::Salvage(SalvageError::NoSpool { .. } | SalvageError::Directory { .. }) => 2,
            Self::Spool(_) | Self::Salvage(SalvageError::Spool { .. }) => 4,
            Self::Payload(_) | Self::Random(_) | Self::Salvage(SalvageError::Random(_)) => 1,
        }
    }
}

/// What both ways have in common.
pub(crate) struct Direct {
    /// Name under which entries from a directory are known in dead letters.
    stream: Arc<str>,
    intake: Intake,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
}

/// Serves the socket at `path` until `stop`.
/// # Errors
/// [`RunError`]: only what trying again cannot cure.
pub async fn serve(
    config: Config,
    path: &Path,
    auto_migrate: bool,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let database = Database::new(&config.database)?;
    let pages = app::pages(&config).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %path.display(),
        database = database.url(),
        http = pages
            .as_ref()
            .and_then(|door| door.listener.local_addr().ok())
            .map_or_else(|| "off".to_owned(), |a| a.to_string()),
        "cloud starts without Redis; commands wait in their table, for a cloud with one"
    );
    let holder = getrandom::u64().map_err(DirectError::Random)?;
    let prepared = app::prepared(&database, &config.policies, auto_migrate, &stop).await?;
    let Some(timescale) = prepared else {
        return Ok(());
    };
    // Not before: a gateway that finds nobody tries again, one that gets no answer waits.
    let door = Door::open(path).map_err(DirectError::from)?;
    let parts = Parts::new(database, stop);
    let direct = Direct::start(&config, &parts, pages, Some(app::engine(&timescale)));
    let (shelf, waiting) = Shelf::new(direct.intake.clone(), parts.metrics.clone());
    parts.spawn(
        "shelf",
        shelf::carry(shelf.clone(), waiting, parts.stop.clone()),
    );
    let desk = Desk {
        shelf,
        board: direct.board,
        holder: format!("{holder:016x}").into(),
    };
    parts.spawn("door", door.serve(desk, parts.stop.clone()));
    parts.finish().await
}

/// Empties the spool in `dir` into the database.
/// # Errors
/// [`RunError`]: only what trying again cannot cure.
pub async fn drain(
    config: Config,
    dir: &Path,
    auto_migrate: bool,
    stop: CancellationToken,
) -> Result<Drained, RunError> {
    let database = Database::new(&config.database)?;
    let opened = {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || Salvage::open(&dir)).await
    };
    let opened = opened.expect("opening a spool does not panic");
    let Salvage {
        gateway,
        writer,
        found,
    } = opened.map_err(DirectError::from)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        spool = %dir.display(),
        %gateway,
        frames = found.backlog,
        database = database.url(),
        "cloud reads a spool that no gateway uses"
    );
    // It ends with the drain and not before: the one may stop the other.
    let parts = Parts::new(database, stop.child_token());
    let prepared =
        app::prepared(&parts.database, &config.policies, auto_migrate, &parts.stop).await?;
    if prepared.is_some() {
        parts.metrics.database(true);
    }
    let direct = Direct::start(&config, &parts, None, None);
    let drain = Drain::new(&direct, writer.reader(), gateway);
    let drained = drain.run(dir, parts.stop.clone()).await;
    parts.stop.cancel();
    parts.finish().await?;
    drop(writer);
    Ok(drained?)
}

impl Direct {
    /// Starts everything behind the entries.
    fn start(
        config: &Config,
        parts: &Parts,
        pages: Option<PagesDoor>,
        engine: Option<String>,
    ) -> Self {
        let (intake, deliveries) = Intake::new();
        let board = Arc::new(Board::default());
        let (gaps, coming) = mpsc::unbounded_channel();
        let (metrics, stop) = (&parts.metrics, &parts.stop);
        // What watches this number must not take it for a Redis that is down.
        metrics.redis_connected.store(true, Ordering::Relaxed);
        let between = Between {
            deliveries,
            intake: intake.clone(),
            gaps,
            link: None,
            mirror: None,
            board: board.clone(),
        };
        let writers = parts.start_processors(config, &between);
        let held = held::run(intake.clone(), coming, metrics.clone(), stop.clone());
        parts.spawn("gaps", held);
        let streams = Streams::default();
        let group = config.stream.group.clone();
        let setback = Setback::new(None, streams.clone(), group, metrics.clone());
        let floor = floor::run(
            None,
            board.clone(),
            SettledTables(parts.database.clone()),
            setback,
            metrics.clone(),
            Arc::new(Notify::new()),
            stop.clone(),
        );
        parts.spawn("floor", floor);
        parts.start_upkeep(config);
        if let (Some(pages), Some(engine)) = (pages, engine) {
            let admin = Admin {
                metrics: metrics.clone(),
                link: None,
                intake: intake.clone(),
                streams,
                sensors: None,
                stream: config.stream.clone(),
                writers,
                engine: engine.into(),
            };
            parts.start_pages(config, pages, admin);
        }
        Self {
            stream: config
                .stream
                .names
                .first()
                .map_or("spool", String::as_str)
                .into(),
            intake,
            board,
            metrics: metrics.clone(),
        }
    }
}
