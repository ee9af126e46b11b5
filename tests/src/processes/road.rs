//! The whole road, from a listening port to tables: Redis (or none), PostgreSQL, gateway and cloud.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::program::{Cloud, Gateway, program_path, through_redis, through_socket};
use super::service::Setting;
use crate::fleet::{FleetConfig, Truth};
use crate::ledger::{self, Ledger};
use crate::servers::{GATEWAY, Postgres, Redis, RedisAccess, RedisOptions};

/// In the run directory; where a cloud without Redis takes entries.
const SOCKET: &str = "uplink.sock";

/// Between two looks at the tables while waiting for the last rows.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What may be different from one road to the next.
#[derive(Debug, Clone)]
pub struct RoadOptions {
    /// The gateway's id, also its user in Redis.
    pub gateway_id: String,
    /// For `gateway.toml`, over what the road itself sets.
    pub gateway: Vec<Setting>,
    /// Words that start the gateway and hand over to it, such as `env` with variables.
    pub gateway_by: Vec<OsString>,
    /// For `cloud.toml`, over what the road itself sets.
    pub cloud: Vec<Setting>,
    /// Write to this database instead of starting a PostgreSQL.
    pub database_url: Option<String>,
    /// Send through this Redis instead of starting one. It must know [`Self::gateway_id`].
    pub redis: Option<RedisAccess>,
    /// No Redis at all: the gateway delivers at a socket of the cloud.
    pub direct: bool,
    /// `maxmemory` of a Redis of our own; 0 for no limit.
    pub redis_memory_bytes_max: u64,
    /// Leave the run directory (settings, logs, spool) behind.
    pub keep: bool,
}

impl Default for RoadOptions {
    fn default() -> RoadOptions {
        RoadOptions {
            gateway_id: GATEWAY.to_owned(),
            gateway: Vec::new(),
            gateway_by: Vec::new(),
            cloud: Vec::new(),
            database_url: None,
            redis: None,
            direct: false,
            redis_memory_bytes_max: 0,
            keep: false,
        }
    }
}

/// What of a road starts, in the order in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// With its certificates and users.
    Redis,
    /// With a database of its own.
    Postgres,
    /// With its tables.
    Cloud,
    /// With its spool.
    Gateway,
}

impl std::fmt::Display for Part {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Part::Redis => "Redis, behind TLS",
            Part::Postgres => "PostgreSQL",
            Part::Cloud => "cloud, and its tables",
            Part::Gateway => "gateway, and its spool",
        })
    }
}

impl RoadOptions {
    /// What has to be started for it.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let own_redis = !self.direct && self.redis.is_none();
        let own_postgres = self.database_url.is_none();
        let parts = [
            own_redis.then_some(Part::Redis),
            own_postgres.then_some(Part::Postgres),
            Some(Part::Cloud),
            Some(Part::Gateway),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// Everything running. Dropping it ends everything and removes every directory.
#[derive(Debug)]
pub struct Road {
    // In the order in which they go.
    /// Listening for trackers.
    pub gateway: Gateway,
    /// Writing rows.
    pub cloud: Cloud,
    /// TLS with client certificates. Unless the options named one.
    pub redis: Option<Redis>,
    /// Unless the options named a database.
    pub postgres: Option<Postgres>,
    access: Option<RedisAccess>,
    database_url: String,
    dir: RunDir,
}

#[derive(Debug)]
enum RunDir {
    Passing(TempDir),
    Kept(PathBuf),
}

impl RunDir {
    fn new(keep: bool) -> Result<RunDir> {
        let dir = tempfile::Builder::new().prefix("milepost-run-").tempdir()?;
        Ok(if keep {
            RunDir::Kept(dir.keep())
        } else {
            RunDir::Passing(dir)
        })
    }

    fn path(&self) -> &Path {
        match self {
            RunDir::Passing(dir) => dir.path(),
            RunDir::Kept(path) => path,
        }
    }

    fn doomed(&self) -> Option<&Path> {
        match self {
            RunDir::Passing(dir) => Some(dir.path()),
            RunDir::Kept(_) => None,
        }
    }
}

impl Road {
    /// Starts the servers, creates the tables, starts cloud and gateway; returns when all of
    /// them answer.
    ///
    /// # Errors
    /// When a server or a binary is missing (the message says what to do) or does not come up
    /// (the message has the end of its log).
    pub async fn start(options: RoadOptions) -> Result<Road> {
        Road::start_telling(options, |_| {}).await
    }

    /// As [`Road::start`]; `starts` hears of each part before it is started.
    ///
    /// # Errors
    /// As [`Road::start`].
    pub async fn start_telling(options: RoadOptions, mut starts: impl FnMut(Part)) -> Result<Road> {
        // Before anything slow: the commonest mistake is a binary that was not built.
        program_path("gateway")?;
        program_path("cloud")?;
        let (redis, access) = match &options.redis {
            _ if options.direct => (None, None),
            Some(access) => (None, Some(access.clone())),
            None => {
                starts(Part::Redis);
                let redis = Redis::start(RedisOptions {
                    gateways: vec![options.gateway_id.clone()],
                    memory_bytes_max: options.redis_memory_bytes_max,
                    ..RedisOptions::default()
                });
                let redis = redis.await?;
                let access = RedisAccess::clone(&redis);
                (Some(redis), Some(access))
            }
        };
        let is_known = |access: &RedisAccess| access.knows(&options.gateway_id);
        ensure!(
            access.as_ref().is_none_or(is_known),
            "the Redis to use knows no gateway {}",
            options.gateway_id
        );
        let (postgres, database_url) = match &options.database_url {
            Some(url) => (None, url.clone()),
            None => {
                starts(Part::Postgres);
                let postgres = Postgres::start().await?;
                let url = postgres.create_database().await?;
                (Some(postgres), url)
            }
        };
        let dir = RunDir::new(options.keep)?;
        let (path, doomed) = (dir.path(), dir.doomed());
        let socket = path.join(SOCKET);
        starts(Part::Cloud);
        let cloud = match &access {
            Some(access) => Cloud::start(path, doomed, access, &database_url, &options.cloud).await,
            None => Cloud::start_direct(path, doomed, &socket, &database_url, &options.cloud).await,
        };
        let cloud = cloud.context("start cloud")?;
        let (id, by) = (&options.gateway_id, options.gateway_by);
        let uplink = match &access {
            Some(access) => through_redis(access, id)?,
            None => through_socket(&socket),
        };
        starts(Part::Gateway);
        let gateway = Gateway::start_with(by, path, doomed, id, uplink, &options.gateway);
        let gateway = gateway.await.context("start gateway")?;
        Ok(Road {
            gateway,
            cloud,
            redis,
            postgres,
            access,
            database_url,
            dir,
        })
    }

    /// The Redis in between, whoever started it.
    ///
    /// # Panics
    /// On a road that was started without one.
    #[must_use]
    pub fn redis_access(&self) -> &RedisAccess {
        self.access
            .as_ref()
            .expect("only a road that asked for none has no Redis")
    }

    /// Is there a Redis in between?
    #[must_use]
    pub fn has_redis(&self) -> bool {
        self.access.is_some()
    }

    /// Where a cloud without Redis takes entries.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir().join(SOCKET)
    }

    /// The database the rows are in.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Settings, logs and the spool.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A fleet that drives to this gateway, otherwise as [`FleetConfig::new`].
    #[must_use]
    pub fn fleet_config(&self) -> FleetConfig {
        FleetConfig::new(self.gateway.tcp_addr().to_string())
    }

    /// The ledger as soon as nothing ACKed is missing, or as it stands after `patience`.
    /// `progress` hears how many records are still missing.
    ///
    /// # Errors
    /// When the last look at the tables failed.
    pub async fn settled_ledger(
        &self,
        truth: &Truth,
        patience: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<Ledger> {
        let deadline = Instant::now() + patience;
        loop {
            let looked = ledger::compare(truth, &self.database_url).await;
            let over = Instant::now() > deadline;
            match looked {
                Ok(ledger) if ledger.lost_count == 0 || over => return Ok(ledger),
                Ok(ledger) => progress(ledger.lost_count),
                Err(error) if over => return Err(error),
                // The database may be the one that is just coming back.
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The ledger as soon as everything ACKed is a row, once, and nothing else is. What
    /// `cloud ledger` says about it must balance, too.
    ///
    /// # Errors
    /// When it is not so after `patience`: the message has the ledger and both logs' ends.
    pub async fn clean_ledger(&self, truth: &Truth, patience: Duration) -> Result<Ledger> {
        let ledger = self.settled_ledger(truth, patience, |_| {}).await?;
        ensure!(
            ledger.is_clean() && ledger.stored == ledger.acked,
            "{ledger}\ngateway: {}\ncloud: {}",
            self.gateway.last_words(),
            self.cloud.last_words()
        );
        self.cloud.call(&["ledger", "--since", "all"]).await?;
        Ok(ledger)
    }

    /// Stops the gateway, then the cloud, politely. The servers go when the road is dropped.
    ///
    /// # Errors
    /// When one of them cannot be signalled.
    pub async fn stop(&mut self) -> Result<()> {
        self.gateway.terminate().await?;
        self.cloud.terminate().await?;
        Ok(())
    }
}
