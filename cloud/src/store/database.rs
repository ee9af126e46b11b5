//! Reaching the database, and what kind of database it is.
//!
//! Why every connection error passes through here: the pool hides a refused connection behind a
//! timeout, and an operator needs to know which address was refused, without the password.
//!
//! Invariant: a connection over which nothing can be written is not used a second time: behind the
//! same address there may be another server by now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres};
use thiserror::Error;
use tokio::time::timeout;

use super::errors::{ACQUIRE_TIMEOUT, StoreError};
use crate::config;

/// Longest wait for one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long "are you there" may take: nobody waits longer to be told that it is not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Raw frames of a few kilobytes are compressed on their way in; lz4 is the quicker of the two ways a
/// server may know, and not its default. Asked for where it was built with it.
const QUICK_COMPRESSION: &str = "SELECT set_config(name, 'lz4', false) FROM pg_settings \
     WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)";

/// The database is not to be had.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// Correct `database.url`.
    #[error("database.url is not a PostgreSQL URL: {url}")]
    Url {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Nobody answers, or it turned us away: try again.
    #[error("cannot reach the database {url}")]
    Unreachable {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It did not answer in time: try again.
    #[error("the database {url} did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent {
        /// Without its password.
        url: String,
    },
    /// Migrations could not be read or applied.
    #[error("migration of the database {url} failed")]
    Migrate {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// It answers and does not do what it was asked.
    #[error("the database {url} refused while {doing}")]
    Refused {
        /// Without its password.
        url: String,
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// `database.timescale = "require"` and there is none.
    #[error(
        "database.timescale is \"require\" and the extension timescaledb is not in {url}; let an administrator run CREATE EXTENSION timescaledb, or set \"auto\""
    )]
    NoTimescale {
        /// Without its password.
        url: String,
    },
    /// `database.timescale = "require"` and the tables are ordinary ones.
    #[error(
        "database.timescale is \"require\", but the tables in {url} were made before the extension was there (or with \"off\") and are ordinary ones; migrate into a database that has it, or set \"auto\""
    )]
    OrdinaryTables {
        /// Without its password.
        url: String,
    },
}

impl DatabaseError {
    /// 1 failed, 2 configuration, 3 cannot reach.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Url { .. } => 2,
            Self::Unreachable { .. } | Self::Silent { .. } => 3,
            Self::Migrate { .. }
            | Self::Refused { .. }
            | Self::NoTimescale { .. }
            | Self::OrdinaryTables { .. } => 1,
        }
    }
}

/// What the server offers for large tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timescale {
    /// The extension is in this database.
    Yes {
        /// Of the extension.
        version: String,
        /// `timescale` or `apache`.
        license: String,
    },
    /// Plain PostgreSQL.
    No,
}

/// For the connection that was just made. Without it every batch takes longer, and nothing fails.
#[cfg(target_os = "linux")]
fn send_at_once() {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if let Err(error) = super::no_delay::everywhere() {
        TOLD.call_once(|| {
            tracing::info!(
                %error,
                "cannot set TCP_NODELAY on connections to the database: batches may take up to 40 ms longer each. In a container, allow pidfd_getfd; or connect through a Unix socket"
            );
        });
    }
}

/// A pool, and the address as people may see it.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    url: String,
    timescale: config::Timescale,
    /// Connections the pool has made so far.
    connections: Arc<AtomicU64>,
}

impl Database {
    /// Opens nothing yet.
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn new(config: &config::DatabaseConfig) -> Result<Self, DatabaseError> {
        let url = settings::without_password(&config.url);
        let options: PgConnectOptions =
            config.url.parse().map_err(|source| DatabaseError::Url {
                url: url.clone(),
                source,
            })?;
        let options = options
            .application_name("milepost-cloud")
            .disable_statement_logging();
        let connections = Arc::new(AtomicU64::new(0));
        let made = connections.clone();
        let pool = PgPoolOptions::new()
            .max_connections(config.pool)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // One question for two: does it answer, and is it still the one that takes writes?
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    let writable = "SELECT current_setting('transaction_read_only') = 'off'";
                    // What does not answer is closed as well, and the next one is asked.
                    let answer = sqlx::query_scalar(writable).fetch_one(connection).await;
                    Ok(answer.unwrap_or(false))
                })
            })
            .after_connect(move |connection, _| {
                made.fetch_add(1, Ordering::Relaxed);
                #[cfg(target_os = "linux")]
                send_at_once();
                Box::pin(async move {
                    sqlx::query(QUICK_COMPRESSION).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self {
            pool,
            options,
            url,
            timescale: config.timescale,
            connections,
        })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// One of the pool's connections, to write with.
    /// # Errors
    /// [`StoreError`], which names the cause.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let doing = "opening a transaction";
        match self.pool.acquire().await {
            Ok(connection) => Ok(connection),
            // The pool hides why: ask once beside it, so that the log names the cause.
            Err(sqlx::Error::PoolTimedOut) => {
                let why = match self.connect().await {
                    Err(DatabaseError::Unreachable { source, .. }) => source,
                    _ => sqlx::Error::PoolTimedOut,
                };
                Err(StoreError::new(doing, why))
            }
            Err(source) => Err(StoreError::new(doing, source)),
        }
    }

    /// Changes whenever the pool makes a connection. The server behind it may be another one, or
    /// this one with less in it, and the pool replaces a lost connection without a word.
    pub(super) fn era(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// A pool of its own for whoever answers people: at most `most` connections, each of which gives up
    /// a statement after `longest`, and none of which writers have to wait for. Opens nothing yet.
    #[must_use]
    pub fn beside(&self, most: u32, longest: Duration, may_write: bool) -> PgPool {
        let longest = longest.as_millis().to_string();
        let read_only = if may_write { "off" } else { "on" };
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(60))
            .after_connect(move |connection, _| {
                let longest = longest.clone();
                Box::pin(async move {
                    // Set here and not at the start: a pooler in between may not take options.
                    sqlx::query(
                        "SELECT set_config('statement_timeout', $1, false), \
                             set_config('lock_timeout', $1, false), \
                             set_config('default_transaction_read_only', $2, false), \
                             set_config('application_name', 'milepost-cloud-web', false)",
                    )
                    .bind(&longest)
                    .bind(read_only)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// The address without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One connection beside the pool, so that a refusal is told as such.
    /// # Errors
    /// [`DatabaseError::Unreachable`], [`DatabaseError::Silent`].
    pub async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        let attempt = PgConnection::connect_with(&self.options);
        match timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(self.unreachable(source)),
            Err(_) => Err(DatabaseError::Silent {
                url: self.url.clone(),
            }),
        }
    }

    /// A connection of its own that hears what is notified on `channel`.
    /// # Errors
    /// [`DatabaseError::Unreachable`].
    pub async fn listen(&self, channel: &str) -> Result<PgListener, DatabaseError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(self.options.clone())
            .await
            .map_err(|source| self.unreachable(source))?;
        let listener = PgListener::connect_with(&pool).await;
        let mut listener = listener.map_err(|source| self.unreachable(source))?;
        let listening = listener.listen(channel).await;
        listening.map_err(|source| self.unreachable(source))?;
        Ok(listener)
    }

    /// Asks what kind of database this is.
    /// # Errors
    /// [`DatabaseError::Unreachable`]; [`DatabaseError::NoTimescale`] when it is required.
    pub async fn timescale(&self, on: &mut PgConnection) -> Result<Timescale, DatabaseError> {
        let found: Option<(String, Option<String>)> = sqlx::query_as(
            "SELECT extversion, current_setting('timescaledb.license', true) \
             FROM pg_extension WHERE extname = 'timescaledb'",
        )
        .fetch_optional(on)
        .await
        .map_err(|source| self.unreachable(source))?;
        match found {
            Some((version, license)) => Ok(Timescale::Yes {
                version,
                license: license.unwrap_or_else(|| "unknown".to_owned()),
            }),
            None if self.timescale == config::Timescale::Require => {
                Err(DatabaseError::NoTimescale {
                    url: self.url.clone(),
                })
            }
            None => Ok(Timescale::No),
        }
    }

    /// Is `positions` a hypertable? It is not where the extension came after the tables.
    /// # Errors
    /// [`DatabaseError::Unreachable`]; [`DatabaseError::OrdinaryTables`] when TimescaleDB is
    /// required.
    pub async fn has_hypertables(&self, on: &mut PgConnection) -> Result<bool, DatabaseError> {
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM timescaledb_information.hypertables \
             WHERE hypertable_name = 'positions' AND hypertable_schema = current_schema()",
        )
        .fetch_one(on)
        .await
        .map_err(|source| self.unreachable(source))?;
        if found == 0 && self.timescale == config::Timescale::Require {
            return Err(DatabaseError::OrdinaryTables {
                url: self.url.clone(),
            });
        }
        Ok(found > 0)
    }

    /// Version of the server, as it names itself.
    /// # Errors
    /// [`DatabaseError::Unreachable`].
    pub async fn server_version(&self, on: &mut PgConnection) -> Result<String, DatabaseError> {
        sqlx::query_scalar("SELECT current_setting('server_version')")
            .fetch_one(on)
            .await
            .map_err(|source| self.unreachable(source))
    }

    /// Does it answer? `None` when every connection was busy, which says nothing against it.
    pub async fn answers(&self) -> Option<bool> {
        let connections_max = self.pool.options().get_max_connections();
        let was_busy = self.pool.num_idle() == 0 && self.pool.size() >= connections_max;
        let asking = async {
            let mut connection = self.pool.acquire().await?;
            sqlx::query("SELECT 1").execute(&mut *connection).await
        };
        match timeout(ANSWER_TIMEOUT, asking).await {
            Ok(answer) => Some(answer.is_ok()),
            // For a server that is gone, or hangs, the pool waits as for one that is busy.
            Err(_) => (!was_busy).then_some(false),
        }
    }

    /// Were ordinary tables asked for although the extension may be there?
    pub(crate) fn timescale_off(&self) -> bool {
        self.timescale == config::Timescale::Off
    }

    pub(crate) fn unreachable(&self, source: sqlx::Error) -> DatabaseError {
        DatabaseError::Unreachable {
            url: self.url.clone(),
            source,
        }
    }

    /// A refusal when PostgreSQL gave a reason, a lost connection otherwise.
    pub(crate) fn refused(&self, doing: &'static str, source: sqlx::Error) -> DatabaseError {
        if source.as_database_error().is_none() {
            return self.unreachable(source);
        }
        DatabaseError::Refused {
            url: self.url.clone(),
            doing,
            source,
        }
    }

    pub(crate) fn migrate(&self, source: sqlx::migrate::MigrateError) -> DatabaseError {
        DatabaseError::Migrate {
            url: self.url.clone(),
            source,
        }
    }
}
