//! `gateway run`.

use gateway::app::{self, AppError};
use gateway::config::{Config, redis_address};
use gateway::listen::ListenError;
use gateway::logbook;
use gateway::spool::{OpenError, SpoolError};
use settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, runtime};

pub(super) const EXAMPLES: &str = "\
It says on start what it listens on, where it forwards, how long it can be offline and what it will
refuse. SIGTERM ends it in the order of the data; a second SIGTERM does not wait.

Examples:
  gateway run --config /etc/milepost/gateway.toml
  REDIS_URL=redis://127.0.0.1:6379/ gateway run     settings from the environment alone";

pub(super) fn act(config: Config, settings: &Settings) -> Result<(), Failure> {
    logbook::start(&config.log);
    for (name, origin, why) in redis_address::without_effect(settings) {
        let origin = origin.to_string();
        tracing::warn!(
            code = "W-SET-101",
            setting = name,
            origin,
            why,
            "a setting without effect"
        );
    }
    runtime()?.block_on(run(config))
}

/// Every tracker is a file to the system, and the usual limit of 1024 is met long before ours.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

async fn run(config: Config) -> Result<(), Failure> {
    raise_file_limit();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Failure::new(1, e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::new(1, e))?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new frames, what was begun is finished");
        stopping.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told to stop twice: not waiting any longer, the spool keeps what it has");
        std::process::exit(1);
    });
    app::run(config, stop).await.map_err(|error| {
        let exit = match error {
            AppError::Access(_)
            | AppError::Listen(ListenError::Identity(_) | ListenError::NoIdentity)
            | AppError::Spool(
                OpenError::Dir(spool::fs::OpenError::Directory { .. })
                | OpenError::Spool {
                    source: SpoolError::TooSmall { .. } | SpoolError::Owned { .. },
                    ..
                },
            ) => 2,
            #[cfg(feature = "ingest")]
            AppError::Ingest(gateway::ingest::IngestError::Listen(_)) => 3,
            #[cfg(feature = "ingest")]
            AppError::Ingest(_) => 2,
            AppError::Spool(_) => 4,
            AppError::Listen(_) | AppError::Http { .. } => 3,
            AppError::Random(_) => 1,
        };
        Failure::new(exit, error)
    })
}
