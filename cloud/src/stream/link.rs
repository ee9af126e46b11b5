//! Connections to Redis, made the careful way, and errors that say where.
//!
//! Why not the client's connection manager: it does not reconnect after timeouts, so a connection
//! that went silent stays silent. Here a connection that failed once is thrown away.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue,
    IntoConnectionInfo, RedisError, TlsCertificates,
};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::config::RedisConfig;

/// Longest wait for a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer to a command that does not block.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose data nobody acknowledges for this long is dead: a mast or a firewall forgot
/// it without telling us.
const UNANSWERED_MAX: Duration = Duration::from_secs(20);

/// Redis said no, or nothing.
#[derive(Debug, Error)]
pub enum RedisFailure {
    /// Correct `redis.url`.
    #[error("redis.url is not a Redis URL: {url}")]
    Url {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// Correct `redis.cert`, `redis.key` or `redis.ca`.
    #[error("cannot read {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates are not usable.
    #[error("certificates for {url} are not usable")]
    Tls {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// Try again.
    #[error("cannot reach Redis at {url}")]
    Unreachable {
        /// Without its password.
        url: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// It answered with an error.
    #[error("Redis at {url} refused {doing}{}", advice(.source))]
    Refused {
        /// Without its password.
        url: String,
        /// What was tried.
        doing: &'static str,
        /// The answer.
        #[source]
        source: RedisError,
    },
}

impl RedisFailure {
    /// The first word of Redis' answer: `NOGROUP`, `OOM`…
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } | Self::Unreachable { source, .. } => source.code(),
            _ => None,
        }
    }
}

impl RedisFailure {
    /// There is no key of that name.
    #[must_use]
    pub fn is_no_such_stream(&self) -> bool {
        let Self::Refused { source, .. } = self else {
            return false;
        };
        let text = source.to_string();
        text.contains("no such key") || text.contains("requires the key to exist")
    }
}

/// What an operator can do about an answer; measured on Redis 7.0.
fn advice(error: &RedisError) -> &'static str {
    match error.code() {
        Some("OOM") => ": its memory is full; raise maxmemory (policy noeviction)",
        Some("MISCONF") => ": it cannot save to disk; look at its disk, `dir` and log",
        Some("READONLY") => ": it is a replica; point redis.url at the master",
        Some("LOADING") => ": it is still loading its data",
        Some("NOPERM") => ": this user may not; extend its ACL",
        Some("WRONGPASS" | "NOAUTH") => ": wrong or missing password in redis.url",
        Some("MOVED" | "ASK" | "CROSSSLOT") => {
            ": it is a cluster, which this version does not speak"
        }
        Some("NOREPLICAS") => ": it misses replicas (min-replicas-to-write)",
        _ => "",
    }
}

/// How to get a connection.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    url: String,
}

impl Redis {
    /// Opens nothing yet, but reads the certificates.
    /// # Errors
    /// [`RedisFailure::Url`], [`RedisFailure::File`], [`RedisFailure::Tls`].
    pub fn new(config: &RedisConfig) -> Result<Self, RedisFailure> {
        let url = settings::without_password(&config.url);
        let bad_url = |source| RedisFailure::Url {
            url: url.clone(),
            source,
        };
        let info = config
            .url
            .as_str()
            .into_connection_info()
            .map_err(bad_url)?;
        let tcp = redis::io::tcp::TcpSettings::default()
            .set_nodelay(true)
            .set_user_timeout(UNANSWERED_MAX);
        let info = info.set_tcp_settings(tcp);
        let client = if config.url.starts_with("rediss://") {
            let client_tls = match &config.identity {
                Some((cert, key)) => Some(ClientTlsConfig {
                    client_cert: file(cert)?,
                    client_key: file(key)?,
                }),
                None => None,
            };
            let root_cert = config.ca.as_deref().map(file).transpose()?;
            let certificates = TlsCertificates {
                client_tls,
                root_cert,
            };
            Client::build_with_tls(info, certificates).map_err(|source| RedisFailure::Tls {
                url: url.clone(),
                source,
            })?
        } else {
            Client::open(info).map_err(bad_url)?
        };
        Ok(Self { client, url })
    }

    /// The address without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection for one reader that blocks up to `block`.
    /// # Errors
    /// [`RedisFailure::Unreachable`], [`RedisFailure::Refused`].
    pub async fn connect(&self, block: Duration) -> Result<MultiplexedConnection, RedisFailure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(block + ANSWER_TIMEOUT));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|source| self.failure("the connection", source))
    }

    /// Says where an error happened.
    pub fn failure(&self, doing: &'static str, source: RedisError) -> RedisFailure {
        let url = self.url.clone();
        let answered = source.code().is_some() || source.kind() == ErrorKind::AuthenticationFailed;
        if answered {
            RedisFailure::Refused { url, doing, source }
        } else {
            RedisFailure::Unreachable { url, source }
        }
    }
}

fn file(path: &std::path::Path) -> Result<Vec<u8>, RedisFailure> {
    std::fs::read(path).map_err(|source| RedisFailure::File {
        path: path.display().to_string(),
        source,
    })
}

/// The connection everybody but the blocking reader shares.
#[derive(Clone, Debug)]
pub struct Link {
    redis: Arc<Redis>,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Link {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(redis: Arc<Redis>) -> Self {
        Self {
            redis,
            connection: Arc::default(),
        }
    }

    /// The address without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        self.redis.url()
    }

    /// Sends one command and reads its answer, connecting first where needed.
    /// # Errors
    /// [`RedisFailure`]; the next call makes a new connection when this one failed.
    pub async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisFailure> {
        let mut connection = {
            let mut shared = self.connection.lock().await;
            match &*shared {
                Some(connection) => connection.clone(),
                None => {
                    let new = self.redis.connect(Duration::ZERO).await?;
                    shared.insert(new).clone()
                }
            }
        };
        match command.query_async(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(source) => {
                let failure = self.redis.failure(doing, source);
                if matches!(failure, RedisFailure::Unreachable { .. })
                    || failure.code() == Some("READONLY")
                {
                    *self.connection.lock().await = None;
                }
                Err(failure)
            }
        }
    }
}
