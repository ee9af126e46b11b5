//! From the configuration to connections: to one server, or to the right node of a cluster.
//!
//! Why not the client's connection manager: it does not reconnect after timeouts, so a connection
//! that went silent stays silent. Here a connection that failed once is thrown away.
//!
//! Invariants: what is known of a cluster is a guess that its nodes correct; after anything that
//! looks like a wrong guess a node is asked anew; each time another one first, so that one that is
//! cut off from the rest cannot keep us.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisError, TlsCertificates, Value, cmd,
};
use tracing::{debug, warn};

use super::cluster::{Address, Slots, Step};
use super::failure::RedisFailure;
use crate::config::{ClusterMode, RedisConfig};

/// Longest wait for a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer to a command that does not block.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose data nobody acknowledges for this long is dead: a mast or a firewall forgot
/// it without telling us.
const UNANSWERED_MAX: Duration = Duration::from_secs(20);

/// Where a command goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// The address of `redis.url` with this number, from 0.
    Configured(usize),
    /// A node that another one named.
    Named(Address),
}

/// What Redis is made of, as far as we know.
#[derive(Clone, Debug)]
enum Layout {
    /// Nobody was asked yet.
    Unknown,
    /// One server.
    Server,
    /// A cluster; `None`: a node has to be asked before the next command.
    Cluster(Option<Arc<Slots>>),
}

/// How to get a connection.
pub struct Redis {
    /// The addresses of `redis.url` with user, certificates and settings; never none.
    configured: Vec<ConnectionInfo>,
    url: String,
    mode: ClusterMode,
    layout: Mutex<Layout>,
    /// The masters of the last answer: the configured nodes may all be gone one day.
    peers: Mutex<BTreeSet<Address>>,
    /// Held while a node is asked, so that many who need the answer ask once.
    asking: tokio::sync::Mutex<()>,
    /// Who is asked first.
    turn: AtomicUsize,
}

/// Without the connection settings, which hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("url", &self.url).finish()
    }
}

impl Redis {
    /// Opens nothing yet, but reads the certificates.
    /// # Errors
    /// [`RedisFailure::Url`], [`RedisFailure::File`], [`RedisFailure::Tls`].
    pub fn new(config: &RedisConfig) -> Result<Self, RedisFailure> {
        let certificates = certificates(config)?;
        let mut configured = Vec::new();
        let mut shown = Vec::new();
        // No address at all is refused as one that is none.
        let nothing = config.url.is_empty().then_some("");
        for address in config.urls().chain(nothing) {
            let url = settings::without_password(address);
            configured.push(connection_info(address, &url, certificates.as_ref())?);
            shown.push(url);
        }
        let mode = match config.cluster {
            ClusterMode::Auto if configured.len() > 1 => ClusterMode::Yes,
            mode => mode,
        };
        let layout = match mode {
            ClusterMode::Auto => Layout::Unknown,
            ClusterMode::Yes => Layout::Cluster(None),
            ClusterMode::No => Layout::Server,
        };
        Ok(Self {
            configured,
            url: shown.join(","),
            mode,
            layout: Mutex::new(layout),
            peers: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The address without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Is it a cluster, as far as we know?
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.known(), Layout::Cluster(_))
    }

    /// Who has `key`; without a key, whoever comes first.
    pub(super) async fn node_of(&self, key: Option<&[u8]>) -> Result<Node, RedisFailure> {
        let Some(slots) = self.slots().await? else {
            return Ok(Node::Configured(0));
        };
        let named = match key {
            Some(key) => slots.of_key(key).cloned(),
            None => slots.masters().pop_first(),
        };
        // A slot that nobody has: any node says CLUSTERDOWN, which is what the caller must hear.
        Ok(named.map_or(Node::Configured(0), Node::Named))
    }

    /// Every node that may have keys, as the cluster says it now.
    pub(super) async fn masters(&self) -> Result<Vec<Node>, RedisFailure> {
        self.doubt();
        let Some(slots) = self.slots().await? else {
            return Ok(vec![Node::Configured(0)]);
        };
        Ok(slots.masters().into_iter().map(Node::Named).collect())
    }

    /// A connection whose answers may take up to `block` longer than others.
    /// # Errors
    /// [`RedisFailure::Unreachable`], [`RedisFailure::Refused`].
    pub(super) async fn open(
        &self,
        node: &Node,
        block: Duration,
    ) -> Result<MultiplexedConnection, RedisFailure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(block + ANSWER_TIMEOUT));
        let failed = |source| self.failure(node, "the connection", source);
        let client = Client::open(self.info(node)).map_err(failed)?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(failed)
    }

    /// What can be done at once after this answer of `node`, if anything; what it tells is noted.
    pub(super) fn step(&self, node: &Node, error: &RedisError) -> Option<Step> {
        if matches!(self.mode, ClusterMode::No) {
            return None;
        }
        let step = Step::after(error, &self.address(node)?)?;
        let mut layout = self.locked();
        match (&mut *layout, &step) {
            (Layout::Cluster(Some(slots)), Step::Moved { slot, to }) => {
                Arc::make_mut(slots).correct(*slot, to.clone());
            }
            // It was taken for one server, because this user may not ask what it is.
            (Layout::Server | Layout::Unknown, _) => *layout = Layout::Cluster(None),
            _ => {}
        }
        Some(step)
    }

    /// Something went wrong as it does at a wrong node.
    pub(super) fn doubt(&self) {
        let mut layout = self.locked();
        if let Layout::Cluster(slots) = &mut *layout {
            *slots = None;
        }
    }

    /// Says where an error happened.
    pub(super) fn failure(
        &self,
        node: &Node,
        doing: &'static str,
        source: RedisError,
    ) -> RedisFailure {
        let url = match node {
            Node::Configured(_) => self.url.clone(),
            Node::Named(address) => address.to_string(),
        };
        RedisFailure::new(url, doing, source)
    }

    /// `None`: it is one server.
    async fn slots(&self) -> Result<Option<Arc<Slots>>, RedisFailure> {
        loop {
            match self.known() {
                Layout::Server => return Ok(None),
                Layout::Cluster(Some(slots)) => return Ok(Some(slots)),
                Layout::Unknown | Layout::Cluster(None) => {}
            }
            let _asking = self.asking.lock().await;
            let known = self.known();
            if matches!(known, Layout::Unknown | Layout::Cluster(None)) {
                let found = self.look(matches!(known, Layout::Unknown)).await?;
                *self.locked() = found;
            }
        }
    }

    /// Asks one node after the other until one answers.
    async fn look(&self, is_unknown: bool) -> Result<Layout, RedisFailure> {
        let mut nodes: Vec<Node> = (0..self.configured.len()).map(Node::Configured).collect();
        nodes.extend(self.peers().iter().cloned().map(Node::Named));
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
        nodes.rotate_left(first);
        let mut last = None;
        for node in nodes {
            match self.look_at(&node, is_unknown).await {
                Ok(layout) => return Ok(layout),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.expect("there is an address, or the configuration was refused"))
    }

    async fn look_at(&self, node: &Node, is_unknown: bool) -> Result<Layout, RedisFailure> {
        let mut connection = self.open(node, Duration::ZERO).await?;
        if is_unknown {
            let mut ask = cmd("INFO");
            let said: Result<String, _> = ask.arg("cluster").query_async(&mut connection).await;
            match said.map_err(|source| self.failure(node, "INFO cluster", source)) {
                Ok(said) if said.contains("cluster_enabled:1") => {
                    debug!(redis = self.url, "this Redis is a cluster");
                }
                Ok(_) => return Ok(Layout::Server),
                // It will say MOVED if it is one.
                Err(failure) if failure.code() == Some("NOPERM") => return Ok(Layout::Server),
                Err(failure) => return Err(failure),
            }
        }
        let mut ask = cmd("CLUSTER");
        let said: Result<Value, _> = ask.arg("SLOTS").query_async(&mut connection).await;
        let said = said.map_err(|source| self.failure(node, "CLUSTER SLOTS", source))?;
        let asked = self.address(node);
        let slots = asked.map_or_else(Slots::default, |asked| Slots::read(&said, &asked));
        let masters = slots.masters();
        if masters.is_empty() {
            warn!(redis = self.url, "no node of the cluster has a slot");
        }
        *self.peers() = masters;
        Ok(Layout::Cluster(Some(Arc::new(slots))))
    }

    fn peers(&self) -> MutexGuard<'_, BTreeSet<Address>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Layout {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Layout> {
        // Each change is one assignment: whole after any panic.
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to reach a node: a named one as the first configured one, at its own address.
    fn info(&self, node: &Node) -> ConnectionInfo {
        match node {
            Node::Configured(at) => self.configured[*at].clone(),
            Node::Named(Address { host, port }) => {
                let (host, port) = (host.to_string(), *port);
                let first = self.configured[0].clone();
                let address = match first.addr() {
                    ConnectionAddr::TcpTls {
                        insecure,
                        tls_params,
                        ..
                    } => ConnectionAddr::TcpTls {
                        host,
                        port,
                        insecure: *insecure,
                        tls_params: tls_params.clone(),
                    },
                    _ => ConnectionAddr::Tcp(host, port),
                };
                first.set_addr(address)
            }
        }
    }

    /// `None`: it is a socket in the file system, and so no node of a cluster.
    fn address(&self, node: &Node) -> Option<Address> {
        match node {
            Node::Named(address) => Some(address.clone()),
            Node::Configured(at) => match self.configured[*at].addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    Some(Address {
                        host: host.as_str().into(),
                        port: *port,
                    })
                }
                _ => None,
            },
        }
    }
}

fn connection_info(
    address: &str,
    url: &str,
    certificates: Option<&TlsCertificates>,
) -> Result<ConnectionInfo, RedisFailure> {
    let bad_url = |source| RedisFailure::Url {
        url: url.to_owned(),
        source,
    };
    let tcp = redis::io::tcp::TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(UNANSWERED_MAX);
    let info = address.into_connection_info().map_err(bad_url)?;
    let info = info.set_tcp_settings(tcp);
    let client = match certificates {
        Some(certificates) => {
            Client::build_with_tls(info, certificates.clone()).map_err(|source| {
                RedisFailure::Tls {
                    url: url.to_owned(),
                    source,
                }
            })?
        }
        None => Client::open(info).map_err(bad_url)?,
    };
    Ok(client.get_connection_info().clone())
}

/// `None`: no TLS.
fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, RedisFailure> {
    if !config.url.starts_with("rediss://") {
        return Ok(None);
    }
    let client_tls = match &config.identity {
        Some((cert, key)) => Some(ClientTlsConfig {
            client_cert: file(cert)?,
            client_key: file(key)?,
        }),
        None => None,
    };
    let root_cert = config.ca.as_deref().map(file).transpose()?;
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}

fn file(path: &std::path::Path) -> Result<Vec<u8>, RedisFailure> {
    std::fs::read(path).map_err(|source| RedisFailure::File {
        path: path.display().to_string(),
        source,
    })
}
