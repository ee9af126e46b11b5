//! A private Redis Cluster: three masters, and replicas where a test asks for them, on 127.0.0.1; on
//! plain ports, or with TLS, client certificates and users as the single server has them.
//!
//! Invariants: as for the other servers; every slot has a master once `start` returns.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::time::Instant;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisResult, Value};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::redis_access::{ACL_FILE, ADMIN, PROCESSOR, RedisAccess};
use super::{Binary, LOOK_AGAIN, PORT_TRIES_MAX, Pki, Port, READY_TIMEOUT, STOP_TIMEOUT};
use super::{Identity, find};
use crate::child::{Child, Launch};

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;

/// Three masters that share the slots. Dropping it kills them.
#[derive(Debug)]
pub struct RedisCluster {
    // Fields drop in this order: first the processes, then what they stand on.
    masters: Vec<Node>,
    /// Numbered on from the masters.
    replicas: Vec<Node>,
    secure: Option<Secure>,
}

/// What the masters of a cluster with TLS share.
#[derive(Debug)]
struct Secure {
    /// Its port is that of the first master.
    access: RedisAccess,
    node: Identity,
    /// A node calls the others with a client's certificate.
    caller: Identity,
    acl: String,
    _dir: TempDir,
}

/// One server.
#[derive(Debug)]
struct Node {
    // Fields drop in this order: first the process, then what it stands on.
    process: Child,
    id: String,
    port: Port,
    bus: Port,
    binary: Binary,
    dir: TempDir,
    /// The way in, when it is not a plain port.
    access: Option<RedisAccess>,
}

impl Secure {
    fn new(gateways: &[String]) -> Result<Self> {
        super::install_tls_provider();
        let dir = tempfile::Builder::new()
            .prefix("milepost-cluster-")
            .tempdir()?;
        let pki = Pki::new(dir.path())?;
        let access = RedisAccess::new(&pki, gateways)?;
        let mut acl = String::new();
        for line in access.acl().lines() {
            acl.push_str(line);
            // What the pages ask for beside the rights on one server.
            let mut users = gateways.iter().map(String::as_str).chain([PROCESSOR]);
            if users.any(|id| line.starts_with(&format!("user {id} "))) {
                acl.push_str(" +cluster|slots +asking");
            }
            acl.push('\n');
        }
        Ok(Self {
            node: pki.server("node")?,
            caller: pki.client("caller")?,
            access,
            acl,
            _dir: dir,
        })
    }

    fn config(&self, port: u16) -> String {
        let (ca, node, caller) = (self.access.ca(), &self.node, &self.caller);
        format!(
            "port 0\ntls-port {port}\ntls-cluster yes\ntls-auth-clients yes\n\
             tls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\n\
             tls-client-cert-file {}\ntls-client-key-file {}\naclfile {ACL_FILE}\n\
             tls-replication yes\nmasteruser {ADMIN}\nmasterauth {}\n",
            ca.display(),
            node.cert.display(),
            node.key.display(),
            caller.cert.display(),
            caller.key.display(),
            self.access.password(ADMIN),
        )
    }
}

impl RedisCluster {
    /// Starts the servers, makes them known to each other, deals out the slots and waits until all
    /// of them agree.
    ///
    /// # Errors
    /// When no server binary is found, one does not come up, or they do not agree.
    pub async fn start() -> Result<Self> {
        Self::start_as(None).await
    }

    /// The same behind TLS with client certificates, where `gateways` are users with no more rights
    /// than they need.
    ///
    /// # Errors
    /// As [`Self::start`]; the server must have been built with TLS.
    pub async fn start_secure(gateways: &[String]) -> Result<Self> {
        Self::start_as(Some(Secure::new(gateways)?)).await
    }

    async fn start_as(mut secure: Option<Secure>) -> Result<Self> {
        let mut masters = Vec::new();
        for _ in 0..MASTERS {
            masters.push(Node::start(secure.as_ref()).await?);
        }
        if let Some(secure) = &mut secure {
            secure.access.port = masters[0].port.number();
        }
        let replicas = Vec::new();
        let cluster = Self {
            masters,
            replicas,
            secure,
        };
        for (at, master) in cluster.masters.iter().enumerate() {
            let share = |at: usize| (at * usize::from(SLOTS) / cluster.masters.len()).to_string();
            let last = at + 1;
            let end = (last * usize::from(SLOTS) / cluster.masters.len() - 1).to_string();
            master
                .order(&["CLUSTER", "ADDSLOTSRANGE", &share(at), &end])
                .await?;
            for other in &cluster.masters[..at] {
                let (port, bus) = (other.port.number(), other.bus.number());
                let (port, bus) = (port.to_string(), bus.to_string());
                master
                    .order(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                    .await?;
            }
        }
        cluster.agreed().await?;
        Ok(cluster)
    }

    /// Adds a replica of a master and waits until it has the master's data. Returns its number.
    ///
    /// # Errors
    /// When it does not come up or does not follow.
    pub async fn add_replica(&mut self, of: usize) -> Result<usize> {
        let replica = Node::start(self.secure.as_ref()).await?;
        let (port, bus) = (replica.port.number(), replica.bus.number());
        let (port, bus) = (port.to_string(), bus.to_string());
        self.masters[of]
            .order(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
            .await?;
        self.replicas.push(replica);
        self.agreed().await?;
        let number = self.masters.len() + self.replicas.len() - 1;
        let (replica, master) = (self.node(number), &self.masters[of].id);
        replica.order(&["CLUSTER", "REPLICATE", master]).await?;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let mut info = ::redis::cmd("INFO");
            let mut connection = replica.connection().await?;
            let said: String = info.arg("replication").query_async(&mut connection).await?;
            if said.contains("master_link_status:up") {
                return Ok(number);
            }
            ensure!(Instant::now() < deadline, "it does not follow: {said}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn node(&self, number: usize) -> &Node {
        let mut all = self.masters.iter().chain(&self.replicas);
        all.nth(number).expect("a server that was started")
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.masters.iter().chain(&self.replicas).enumerate()
    }

    /// Waits until every server says that every slot is served.
    ///
    /// # Errors
    /// When they do not agree in time.
    pub async fn agreed(&self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for (_, node) in self.nodes() {
            loop {
                let info: RedisResult<String> = match node.connection().await {
                    Ok(mut connection) => {
                        let mut info = ::redis::cmd("CLUSTER");
                        info.arg("INFO").query_async(&mut connection).await
                    }
                    Err(error) => Err(error),
                };
                let all = format!("cluster_slots_ok:{SLOTS}");
                let known = format!("cluster_known_nodes:{}", self.nodes().count());
                match info {
                    Ok(info)
                        if info.contains("cluster_state:ok")
                            && info.contains(&all)
                            && info.contains(&known) =>
                    {
                        break;
                    }
                    other if Instant::now() > deadline => bail!("no agreement: {other:?}"),
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        }
        Ok(())
    }

    /// `redis://127.0.0.1:port/` of one master.
    #[must_use]
    pub fn url(&self, master: usize) -> String {
        format!("redis://127.0.0.1:{}/", self.masters[master].port.number())
    }

    /// How its users get in, by the first master.
    ///
    /// # Panics
    /// When it has no users: a mistake in the test.
    #[must_use]
    pub fn access(&self) -> &RedisAccess {
        let secure = self.secure.as_ref();
        &secure.expect("started with users").access
    }

    /// How many masters there are.
    #[must_use]
    pub fn masters(&self) -> usize {
        self.masters.len()
    }

    /// A connection to one master, which knows nothing of the others.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connection(&self, master: usize) -> RedisResult<MultiplexedConnection> {
        self.node(master).connection().await
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn slot(&self, key: &str) -> Result<u16> {
        let mut connection = self.connection(0).await?;
        let mut command = ::redis::cmd("CLUSTER");
        let slot = command.arg("KEYSLOT").arg(key);
        Ok(slot.query_async(&mut connection).await?)
    }

    /// Which server has the slot, as far as it knows itself. One that is down is not asked.
    ///
    /// # Errors
    /// When none says that it has.
    pub async fn owner(&self, slot: u16) -> Result<usize> {
        for (at, node) in self.nodes() {
            let Ok(mut connection) = node.connection().await else {
                continue;
            };
            let mut command = ::redis::cmd("CLUSTER");
            let nodes: String = command.arg("NODES").query_async(&mut connection).await?;
            let own = nodes.lines().find(|line| line.contains("myself"));
            let words = own.context("a node knows itself")?.split(' ').skip(8);
            let has = |range: &str| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let range = from.parse::<u16>().ok().zip(to.parse::<u16>().ok());
                range.is_some_and(|(from, to)| (from..=to).contains(&slot))
            };
            if words.into_iter().any(has) {
                return Ok(at);
            }
        }
        bail!("nobody has slot {slot}")
    }

    /// Moves a slot with its keys to another master while everybody goes on, the way the cluster's
    /// own tool does.
    ///
    /// # Errors
    /// When a server refuses a step.
    pub async fn move_slot(&self, slot: u16, to: usize) -> Result<()> {
        self.move_keys(slot, to).await?;
        self.settle_slot(slot, to).await
    }

    /// The first half of a move: the keys are on the other master, and nobody was told. Who asks at
    /// the old place is sent on with ASK.
    ///
    /// # Errors
    /// When a server refuses a step.
    pub async fn move_keys(&self, slot: u16, to: usize) -> Result<()> {
        let from = self.owner(slot).await?;
        ensure!(from != to, "slot {slot} is there already");
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let slot = slot.to_string();
        target
            .order(&set_slot(&slot, "IMPORTING", &source.id))
            .await?;
        source
            .order(&set_slot(&slot, "MIGRATING", &target.id))
            .await?;
        let mut connection = source.connection().await?;
        loop {
            let mut command = ::redis::cmd("CLUSTER");
            let command = command.arg("GETKEYSINSLOT").arg(&slot).arg(10);
            let keys: Vec<String> = command.query_async(&mut connection).await?;
            if keys.is_empty() {
                break;
            }
            let port = target.port.number().to_string();
            let mut words: Vec<String> = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000"]
                .map(str::to_owned)
                .to_vec();
            if let Some(access) = &target.access {
                words.extend(["AUTH2", ADMIN, access.password(ADMIN)].map(str::to_owned));
            }
            words.push("KEYS".to_owned());
            words.extend(keys);
            source.order(&words).await?;
        }
        Ok(())
    }

    /// The second half of a move: everybody is told, the new place first.
    ///
    /// # Errors
    /// When a server refuses a step.
    pub async fn settle_slot(&self, slot: u16, to: usize) -> Result<()> {
        let (source, target) = (self.owner(slot).await?, &self.masters[to]);
        let words = set_slot(&slot.to_string(), "NODE", &target.id);
        target.order(&words).await?;
        self.node(source).order(&words).await?;
        for other in &self.masters {
            other.order(&words).await?;
        }
        Ok(())
    }

    /// `SIGKILL` for one master.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill9(&mut self, master: usize) -> Result<()> {
        self.masters[master].process.kill9()?;
        Ok(())
    }

    /// Starts a master again, with its data, and waits until all agree.
    ///
    /// # Errors
    /// When it does not come up or they do not agree.
    pub async fn restart(&mut self, master: usize) -> Result<()> {
        let restarted = &mut self.masters[master];
        restarted.process.stop(Signal::TERM, STOP_TIMEOUT).await?;
        restarted.process = spawn(&restarted.binary, &restarted.dir)?;
        self.agreed().await
    }
}

impl Node {
    async fn start(secure: Option<&Secure>) -> Result<Self> {
        let binary = find::redis_server()?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-cluster-")
            .tempdir()?;
        for attempt in 1.. {
            let (port, bus) = (Port::free()?, Port::free()?);
            let way = match secure {
                None => format!("port {}\n", port.number()),
                Some(secure) => secure.config(port.number()),
            };
            let config = format!(
                "bind 127.0.0.1\n{way}cluster-port {}\ncluster-enabled yes\n\
                 cluster-node-timeout 1000\nappendonly yes\nappendfsync everysec\nsave \"\"\n",
                bus.number()
            );
            std::fs::write(dir.path().join("redis.conf"), config)?;
            let access = secure.map(|secure| {
                let mut access = secure.access.clone();
                access.port = port.number();
                access
            });
            if let Some(secure) = secure {
                // Its directory is private.
                std::fs::write(dir.path().join(ACL_FILE), &secure.acl)?;
            }
            let mut process = spawn(&binary, &dir)?;
            match Self::ready(&mut process, &port, access.as_ref()).await {
                Ok(id) => {
                    return Ok(Self {
                        process,
                        id,
                        port,
                        bus,
                        binary,
                        dir,
                        access,
                    });
                }
                Err(_) if attempt < PORT_TRIES_MAX && process.ended()?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop above has no end but its returns")
    }

    /// Its node id, once it answers.
    async fn ready(
        process: &mut Child,
        port: &Port,
        access: Option<&RedisAccess>,
    ) -> Result<String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let id: RedisResult<String> = match connect(port, access).await {
                Ok(mut connection) => {
                    let mut id = ::redis::cmd("CLUSTER");
                    id.arg("MYID").query_async(&mut connection).await
                }
                Err(error) => Err(error),
            };
            match id {
                Ok(id) => return Ok(id),
                Err(error) if process.ended()?.is_some() || Instant::now() > deadline => {
                    return Err(error).context(process.last_words());
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        connect(&self.port, self.access.as_ref()).await
    }

    async fn order(&self, words: &[impl AsRef<str>]) -> Result<()> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let (name, rest) = words.split_first().context("a command")?;
        let mut command = ::redis::cmd(name);
        let mut connection = self.connection().await?;
        let done: RedisResult<Value> = command.arg(rest).query_async(&mut connection).await;
        done.with_context(|| words.join(" "))?;
        Ok(())
    }
}

fn set_slot(slot: &str, state: &str, node: &str) -> [String; 5] {
    ["CLUSTER", "SETSLOT", slot, state, node].map(str::to_owned)
}

async fn connect(port: &Port, access: Option<&RedisAccess>) -> RedisResult<MultiplexedConnection> {
    let client = match access {
        None => {
            let (host, port) = (Ipv4Addr::LOCALHOST, port.number());
            Client::open(format!("redis://{host}:{port}/"))?
        }
        Some(access) => access.client(ADMIN).map_err(std::io::Error::other)?,
    };
    // The client's own half a second is not much on a loaded machine.
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(STOP_TIMEOUT))
        .set_response_timeout(Some(STOP_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
}

fn spawn(binary: &Binary, dir: &TempDir) -> Result<Child> {
    Child::start(Launch {
        words: vec![binary.path.as_os_str(), OsStr::new("redis.conf")],
        environment: binary.environment(),
        dir: dir.path(),
        doomed: Some(dir.path()),
        log: dir.path().join("redis.log"),
        run_as: None,
    })
}
