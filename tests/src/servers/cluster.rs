//! A private Redis Cluster: three masters, no replicas, on plain ports of 127.0.0.1.
//!
//! Why plain: what is tested here is where keys live and move to; TLS and users are the business of
//! the single server. Invariants: as for the other servers; every slot has a master once `start`
//! returns.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::time::Instant;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, RedisResult, Value};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Binary, LOOK_AGAIN, PORT_TRIES_MAX, Port, READY_TIMEOUT, STOP_TIMEOUT, find};
use crate::child::{Child, Launch};

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;

/// Three masters that share the slots. Dropping it kills them.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Master>,
}

/// One of them.
#[derive(Debug)]
struct Master {
    // Fields drop in this order: first the process, then what it stands on.
    process: Child,
    id: String,
    port: Port,
    bus: Port,
    binary: Binary,
    dir: TempDir,
}

impl RedisCluster {
    /// Starts the servers, makes them known to each other, deals out the slots and waits until all
    /// of them agree.
    ///
    /// # Errors
    /// When no server binary is found, one does not come up, or they do not agree.
    pub async fn start() -> Result<Self> {
        let mut masters = Vec::new();
        for _ in 0..MASTERS {
            masters.push(Master::start().await?);
        }
        let cluster = Self { masters };
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

    /// Waits until every server says that every slot is served.
    ///
    /// # Errors
    /// When they do not agree in time.
    pub async fn agreed(&self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for master in &self.masters {
            loop {
                let info: RedisResult<String> = match master.connection().await {
                    Ok(mut connection) => {
                        let mut info = ::redis::cmd("CLUSTER");
                        info.arg("INFO").query_async(&mut connection).await
                    }
                    Err(error) => Err(error),
                };
                let all = format!("cluster_slots_ok:{SLOTS}");
                let known = format!("cluster_known_nodes:{MASTERS}");
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
        self.masters[master].connection().await
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

    /// Which master has the slot.
    ///
    /// # Errors
    /// When none says that it has.
    pub async fn owner(&self, slot: u16) -> Result<usize> {
        for (at, master) in self.masters.iter().enumerate() {
            let mut connection = master.connection().await?;
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
        let from = self.owner(slot).await?;
        ensure!(from != to, "slot {slot} is there already");
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let slot = slot.to_string();
        let set = |state: &'static str, node: &str| {
            ["CLUSTER", "SETSLOT", &slot, state, node].map(str::to_owned)
        };
        target.order(&set("IMPORTING", &source.id)).await?;
        source.order(&set("MIGRATING", &target.id)).await?;
        let mut connection = source.connection().await?;
        loop {
            let mut command = ::redis::cmd("CLUSTER");
            let command = command.arg("GETKEYSINSLOT").arg(&slot).arg(10);
            let keys: Vec<String> = command.query_async(&mut connection).await?;
            if keys.is_empty() {
                break;
            }
            let port = target.port.number().to_string();
            let mut words: Vec<String> = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"]
                .map(str::to_owned)
                .to_vec();
            words.extend(keys);
            source.order(&words).await?;
        }
        target.order(&set("NODE", &target.id)).await?;
        source.order(&set("NODE", &target.id)).await?;
        for other in &self.masters {
            other.order(&set("NODE", &target.id)).await?;
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

impl Master {
    async fn start() -> Result<Self> {
        let binary = find::redis_server()?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-cluster-")
            .tempdir()?;
        for attempt in 1.. {
            let (port, bus) = (Port::free()?, Port::free()?);
            let config = format!(
                "bind 127.0.0.1\nport {}\ncluster-port {}\ncluster-enabled yes\n\
                 cluster-node-timeout 1000\nappendonly yes\nappendfsync everysec\nsave \"\"\n",
                port.number(),
                bus.number()
            );
            std::fs::write(dir.path().join("redis.conf"), config)?;
            let mut process = spawn(&binary, &dir)?;
            match Self::ready(&mut process, &port).await {
                Ok(id) => {
                    return Ok(Self {
                        process,
                        id,
                        port,
                        bus,
                        binary,
                        dir,
                    });
                }
                Err(_) if attempt < PORT_TRIES_MAX && process.ended()?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop above has no end but its returns")
    }

    /// Its node id, once it answers.
    async fn ready(process: &mut Child, port: &Port) -> Result<String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let id: RedisResult<String> = match connect(port).await {
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
        connect(&self.port).await
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

async fn connect(port: &Port) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(format!(
        "redis://{}:{}/",
        Ipv4Addr::LOCALHOST,
        port.number()
    ))?;
    client.get_multiplexed_async_connection().await
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
