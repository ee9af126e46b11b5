//! From an address and certificate files to a Redis connection, and from a Redis error to what
//! an operator should read.
//!
//! Why no connection manager: it hides timeouts, its queue waits behind a dead link, and a black
//! hole makes it fail for ever without a new connection (measured). We open, use and drop.
//!
//! Invariant: no text made here holds a password.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use thiserror::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pipeline of full batches on a slow link takes its time; the client's own 500 ms would call
/// it failed while Redis still applies it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where Redis is and who we are to it.
#[derive(Clone)]
pub struct RedisConfig {
    /// `rediss://user:password@host:port/`.
    pub url: String,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Who may have signed the server's certificate, PEM; the system's store when absent.
    pub ca: Option<PathBuf>,
}

/// What keeps us from talking to Redis.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Correct the path or the file's permissions.
    #[error("certificate file {} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `uplink.cert` and `uplink.key` come together.
    #[error("uplink.cert and uplink.key must both be set, or neither")]
    HalfIdentity,
    /// Say `rediss://`, or leave the certificates out.
    #[error("certificates are set, but {url} does not ask for TLS: write rediss://")]
    NotTls {
        /// The address without its password.
        url: String,
    },
    /// The address is no Redis URL, or a certificate is not PEM.
    #[error("address or certificates are unusable")]
    Unusable(#[source] redis::RedisError),
    /// Nobody answers, or not as Redis would.
    #[error("no connection")]
    Unreachable(#[source] redis::RedisError),
}

impl RedisConfig {
    /// Reads the certificate files anew, so that a renewed one is used at the next connection.
    /// # Errors
    /// [`ConnectError::File`], [`ConnectError::HalfIdentity`], [`ConnectError::Unusable`].
    pub fn client(&self) -> Result<Client, ConnectError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| ConnectError::File {
                path: path.clone(),
                source,
            })
        };
        let client_tls = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(cert)?,
                client_key: read(key)?,
            }),
            (None, None) => None,
            _ => return Err(ConnectError::HalfIdentity),
        };
        let info = self.url.as_str().into_connection_info();
        let info = info.map_err(ConnectError::Unusable)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = if self.url.starts_with("rediss://") {
            let root_cert = self.ca.as_ref().map(read).transpose()?;
            let certificates = TlsCertificates {
                client_tls,
                root_cert,
            };
            Client::build_with_tls(info, certificates)
        } else {
            Client::open(info)
        };
        client.map_err(ConnectError::Unusable)
    }

    /// Looks at address and names without reading a file, so that a mistake ends the start and not
    /// every attempt to connect.
    /// # Errors
    /// [`ConnectError::HalfIdentity`], [`ConnectError::NotTls`], [`ConnectError::Unusable`].
    pub fn check(&self) -> Result<(), ConnectError> {
        if self.cert.is_some() != self.key.is_some() {
            return Err(ConnectError::HalfIdentity);
        }
        let any = self.cert.is_some() || self.ca.is_some();
        if any && !self.url.starts_with("rediss://") {
            return Err(ConnectError::NotTls { url: self.shown() });
        }
        let info = self.url.as_str().into_connection_info();
        info.map(drop).map_err(ConnectError::Unusable)
    }

    /// # Errors
    /// [`ConnectError`]: try again later, or correct what it names.
    pub async fn connect(&self) -> Result<MultiplexedConnection, ConnectError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = self.client()?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connection.map_err(ConnectError::Unreachable)
    }

    /// The address without its password.
    #[must_use]
    pub fn shown(&self) -> String {
        settings::without_password(&self.url)
    }
}

/// What a Redis error means for the operator: a short word and what to do.
#[must_use]
pub fn remedy(error: &redis::RedisError) -> &'static str {
    match error.code().unwrap_or_default() {
        "OOM" => "Redis is at maxmemory: is the cloud processor reading? Spooling meanwhile.",
        "MISCONF" => "Redis cannot write to its disk: free space or mend it. Spooling meanwhile.",
        "READONLY" => "this Redis is a replica: point uplink.url at the master.",
        "LOADING" => "Redis is loading its data; trying again.",
        "NOREPLICAS" => "Redis has too few replicas to accept writes; trying again.",
        "NOPERM" => "the Redis user may not do this: see the ACL in the operations page.",
        "WRONGPASS" | "NOAUTH" => "user or password of uplink.url is wrong.",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => "this is a Redis Cluster node.",
        _ if error.is_timeout() => {
            "no answer in time; what was sent may have arrived, sending again is harmless."
        }
        _ => "trying again; trackers are still acknowledged, the spool keeps everything.",
    }
}
