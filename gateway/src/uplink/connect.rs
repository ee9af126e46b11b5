//! From an address and certificate files to a connection.
//!
//! Why no connection manager: it hides timeouts, its queue waits behind a dead link, and a black
//! hole makes it fail for ever without a new connection (measured). We open, use and drop.
//!
//! Invariant: no text made here holds a password.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::direct;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo,
    TlsCertificates,
};
use thiserror::Error;

use super::cause::Cause;
use super::certificate::{Fingerprint, Validity};
use super::link::Link;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pipeline of full batches on a slow link takes its time; the client's own 500 ms would call
/// it failed while Redis still applies it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Silence after which the system asks whether the other side is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);

/// Then it asks this often; the user timeout says for how long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How often a cluster connection follows a slot that has moved before it tells us. Each time it
/// may apply part of a pipeline once more, so few.
const CLUSTER_RETRIES: u32 = 3;

/// Where Redis is and who we are to it.
#[derive(Clone)]
pub struct RedisConfig {
    /// `rediss://user:password@host:port/`; several nodes of a cluster with commas between them; or
    /// `unix:/path` of a cloud on this machine that takes entries itself.
    pub url: String,
    /// It is a Redis Cluster. Several nodes in `url` say the same.
    pub cluster: bool,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Who may have signed the server's certificate, PEM; the system's store when absent.
    pub ca: Option<PathBuf>,
    /// Longest wait for one answer; a connection that takes longer is given up.
    pub response_timeout: Duration,
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

impl ConnectError {
    /// What it comes from.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::File { .. } | Self::HalfIdentity | Self::NotTls { .. } | Self::Unusable(_) => {
                Cause::Files
            }
            Self::Unreachable(error) => Cause::of(error),
        }
    }
}

impl RedisConfig {
    /// One server without certificates of our own, and the usual patience.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: false,
            cert: None,
            key: None,
            ca: None,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }

    /// Each address in `url`.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        settings::redis_urls(&self.url)
    }

    /// Is it a cloud on this machine instead of a Redis?
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.url.starts_with(direct::SCHEME)
    }

    fn is_tls(&self) -> bool {
        self.url.starts_with("rediss://")
    }

    /// Is it a cluster?
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.cluster || self.urls().count() > 1
    }

    /// The certificate files that are named.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.cert, &self.key, &self.ca];
        files.into_iter().flatten().map(PathBuf::as_path)
    }

    /// What stands in the certificate files now; `None` when one cannot be read.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::of(self.files())
    }

    /// From when until when our certificate is valid; `None` without one.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        Validity::of_pem(&std::fs::read(self.cert.as_ref()?).ok()?)
    }

    fn certificates(&self) -> Result<TlsCertificates, ConnectError> {
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
        let root_cert = self.ca.as_ref().map(read).transpose()?;
        Ok(TlsCertificates {
            client_tls,
            root_cert,
        })
    }

    /// A link whose other end is gone without a word is given up by the system as well, so that
    /// nothing waits on it that no response timeout covers.
    fn tcp_settings(&self) -> TcpSettings {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL);
        TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(self.response_timeout)
    }

    /// Reads the certificate files anew, so that a renewed one is used at the next connection.
    /// Of a cluster, only its first node.
    /// # Errors
    /// [`ConnectError::File`], [`ConnectError::HalfIdentity`], [`ConnectError::Unusable`].
    pub fn client(&self) -> Result<Client, ConnectError> {
        let url = self.urls().next().unwrap_or_default();
        let info = url.into_connection_info();
        let mut info = info.map_err(ConnectError::Unusable)?;
        if self.is_direct() {
            let greeting = info.redis_settings().clone().set_password(direct::GREETING);
            info = info.set_redis_settings(greeting);
        }
        let info = info.set_tcp_settings(self.tcp_settings());
        let client = if self.is_tls() {
            Client::build_with_tls(info, self.certificates()?)
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
        if self.files().next().is_some() && !self.is_tls() {
            return Err(ConnectError::NotTls { url: self.shown() });
        }
        let infos: Result<Vec<ConnectionInfo>, _> = self
            .urls()
            .map(IntoConnectionInfo::into_connection_info)
            .collect();
        match infos {
            Ok(infos) if infos.is_empty() => {
                let empty = "".into_connection_info();
                empty.map(drop).map_err(ConnectError::Unusable)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(ConnectError::Unusable(error)),
        }
    }

    /// A connection to one server; of a cluster, to its first node.
    /// # Errors
    /// [`ConnectError`]: try again later, or correct what it names.
    pub async fn connect(&self) -> Result<MultiplexedConnection, ConnectError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.response_timeout));
        let client = self.client()?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connection.map_err(ConnectError::Unreachable)
    }

    /// The way to wherever keys live: one server or a whole cluster.
    /// # Errors
    /// As [`RedisConfig::connect`].
    pub async fn link(&self) -> Result<Link, ConnectError> {
        if !self.is_cluster() {
            return Ok(Link::Server(self.connect().await?));
        }
        let mut builder = ClusterClientBuilder::new(self.urls())
            .tcp_settings(self.tcp_settings())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(self.response_timeout)
            .overall_response_timeout(Some(self.response_timeout * 2))
            .retries(CLUSTER_RETRIES);
        if self.is_tls() {
            builder = builder.certs(self.certificates()?);
        }
        let client = builder.build().map_err(ConnectError::Unusable)?;
        let connection = client.get_async_connection().await;
        match connection {
            Ok(cluster) => Ok(Link::Cluster(cluster)),
            // The cluster client only says that no node would have it; one of them knows why.
            Err(error) => {
                self.connect().await?;
                Err(ConnectError::Unreachable(error))
            }
        }
    }

    /// The address without its password.
    #[must_use]
    pub fn shown(&self) -> String {
        let shown: Vec<String> = self.urls().map(settings::without_password).collect();
        shown.join(",")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn several_nodes_are_a_cluster_and_a_comma_in_a_password_is_none() {
        let of = |url: &str| {
            let config = RedisConfig::at(url);
            let urls: Vec<String> = config.urls().map(str::to_owned).collect();
            (urls, config.is_cluster())
        };
        assert_eq!(of("redis://a:1/"), (vec!["redis://a:1/".to_owned()], false));
        assert_eq!(of("redis://u:p,q@a:1/").0.len(), 1);
        let (urls, cluster) = of("rediss://u:p,q@a:1/,rediss://u:p@b:2/,redis://c/");
        assert_eq!(
            (urls[0].as_str(), urls[1].as_str(), urls[2].as_str()),
            ("rediss://u:p,q@a:1/", "rediss://u:p@b:2/", "redis://c/")
        );
        assert!(cluster);
    }

    #[test]
    fn a_socket_is_a_cloud_and_greeted_as_one() {
        let config = RedisConfig::at("unix:/run/milepost-cloud/uplink.sock");
        assert!(config.check().is_ok() && config.is_direct() && !config.is_cluster());
        assert_eq!(config.shown(), "unix:/run/milepost-cloud/uplink.sock");
        let client = config.client().unwrap();
        let info = client.get_connection_info();
        let path = redis::ConnectionAddr::Unix("/run/milepost-cloud/uplink.sock".into());
        assert_eq!(info.addr(), &path);
        assert_eq!(info.redis_settings().password(), Some(direct::GREETING));
        let redis = RedisConfig::at("redis+unix:///run/redis.sock");
        assert!(
            !redis.is_direct(),
            "a Redis at a socket is one all the same"
        );
        let client = redis.client().unwrap();
        assert_eq!(
            client.get_connection_info().redis_settings().password(),
            None
        );
    }

    #[test]
    fn no_password_is_shown_and_every_address_is_checked() {
        let config = RedisConfig::at("rediss://u:secret@a:1/,rediss://u:secret@b:2/");
        assert!(!config.shown().contains("secret"), "{}", config.shown());
        assert!(config.shown().contains("b:2"), "{}", config.shown());
        assert!(config.check().is_ok());
        for bad in ["", "http://a/", "redis://a:1/,redis://:::/"] {
            assert!(RedisConfig::at(bad).check().is_err(), "{bad}");
        }
    }
}
