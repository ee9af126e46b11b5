//! Redis, PostgreSQL, clouds, gateways and trackers, and what the table says about a command.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use codec::encode::MessageSpec;
use contract::keys;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tests::fleet::Tracker;
use tests::processes::{Cloud, Gateway, Setting};
use tests::servers::{ADMIN, Postgres, Redis, RedisOptions};
use tests::tables::{DEADLINE, eventually};
use tokio::task::JoinHandle;

pub(crate) const IMEI: u64 = 350_000_000_000_017;

/// A row, as far as tests look.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) reply: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) resends: i16,
    pub(crate) entry_id: Option<String>,
}

pub(crate) struct Yard {
    pub(crate) cloud: Cloud,
    pub(crate) redis: Redis,
    pub(crate) admin: MultiplexedConnection,
    pub(crate) postgres: Postgres,
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    dirs: Vec<tempfile::TempDir>,
}

impl Yard {
    pub(crate) async fn new(settings: &[Setting]) -> Result<Self> {
        let redis = Redis::start(RedisOptions {
            gateways: vec!["gw-a".to_owned(), "gw-b".to_owned()],
            ..RedisOptions::default()
        })
        .await?;
        let postgres = Postgres::start().await?;
        let url = postgres.create_database().await?;
        let dir = tempfile::tempdir()?;
        let cloud = Cloud::start(dir.path(), Some(dir.path()), &redis, &url, settings).await?;
        let admin = redis.client(ADMIN)?;
        // The client's own half a second is not much on a loaded machine.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
        Ok(Self {
            cloud,
            admin: admin
                .get_multiplexed_async_connection_with_config(&patient)
                .await?,
            pool: PgPoolOptions::new()
                .max_connections(2)
                .connect(&url)
                .await?,
            redis,
            postgres,
            url,
            dirs: vec![dir],
        })
    }

    pub(crate) async fn gateway(&mut self, id: &str, settings: &[Setting]) -> Result<Gateway> {
        let dir = tempfile::tempdir()?;
        let gateway = Gateway::start(dir.path(), Some(dir.path()), id, &self.redis, settings);
        let gateway = gateway.await?;
        self.dirs.push(dir);
        ready(&gateway).await?;
        Ok(gateway)
    }

    /// Another cloud beside the first.
    pub(crate) async fn another_cloud(&mut self) -> Result<Cloud> {
        let dir = tempfile::tempdir()?;
        let settings = [("stream.consumer", "other-0".into())];
        let cloud = Cloud::start(
            dir.path(),
            Some(dir.path()),
            &self.redis,
            &self.url,
            &settings,
        );
        let cloud = cloud.await?;
        self.dirs.push(dir);
        Ok(cloud)
    }

    /// A tracker that is connected and registered.
    pub(crate) async fn tracker(
        &mut self,
        gateway: &Gateway,
        id: &str,
        imei: u64,
    ) -> Result<Tracker> {
        let mut tracker = Tracker::connect(gateway.tcp_addr(), imei).await?;
        ensure!(tracker.login().await?, "refused");
        eventually("the tracker is registered", async || {
            let at: Option<String> = self.admin.hget(keys::CONNECTIONS, imei.to_string()).await?;
            Ok(at.as_deref() == Some(id))
        })
        .await?;
        Ok(tracker)
    }

    /// As anybody does it who knows SQL and no more.
    pub(crate) async fn insert(&self, imei: u64, payload: &str) -> Result<String> {
        let row = sqlx::query_scalar(
            "INSERT INTO commands (imei, payload) VALUES ($1, $2) RETURNING id::text",
        );
        let imei = i64::try_from(imei)?;
        Ok(row.bind(imei).bind(payload).fetch_one(&self.pool).await?)
    }

    pub(crate) async fn insert_harmless(&self, imei: u64, payload: &str) -> Result<String> {
        let row = sqlx::query_scalar(
            "INSERT INTO commands (imei, payload, idempotent) VALUES ($1, $2, true) RETURNING id::text",
        );
        let imei = i64::try_from(imei)?;
        Ok(row.bind(imei).bind(payload).fetch_one(&self.pool).await?)
    }

    pub(crate) async fn row(&self, cid: &str) -> Result<Row> {
        let row = sqlx::query_as(
            "SELECT status, reason, reply, gateway, attempt, resends, entry_id FROM commands \
             WHERE id = $1::uuid",
        );
        Ok(row.bind(cid).fetch_one(&self.pool).await?)
    }

    /// Waits until a command is so.
    pub(crate) async fn until(&self, cid: &str, status: &str) -> Result<Row> {
        let mut found = None;
        let what = format!("{cid} is {status}");
        let waited = eventually(&what, async || {
            let row = self.row(cid).await?;
            let is_so = row.status == status;
            found = Some(row);
            Ok(is_so)
        });
        waited
            .await
            .with_context(|| format!("{found:?}\n{}", self.cloud.last_words()))?;
        found.context("just seen")
    }

    /// Every status a command had, in order; what did not count in brackets.
    pub(crate) async fn history(&self, cid: &str) -> Result<Vec<String>> {
        let events = sqlx::query_scalar(
            "SELECT CASE WHEN applied THEN status ELSE '[' || status || ']' END \
             FROM command_events WHERE command_id = $1::uuid ORDER BY id",
        );
        Ok(events.bind(cid).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn count(&self, sql: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// Redis forgets everything.
    pub(crate) async fn empty_redis(&mut self) -> Result<()> {
        let () = redis::cmd("FLUSHALL").query_async(&mut self.admin).await?;
        Ok(())
    }

    /// A gateway's sign of life expires, as it does 90 s after its death.
    pub(crate) async fn expire_heartbeat(&mut self, id: &str) -> Result<()> {
        let () = self.admin.del(keys::heartbeat(&id.parse()?)).await?;
        Ok(())
    }
}

/// Waits until a gateway takes orders.
pub(crate) async fn ready(gateway: &Gateway) -> Result<()> {
    eventually("the gateway takes orders", async || {
        Ok(gateway.status().await?["downlink"]["connected"] == true)
    })
    .await
}

pub(crate) async fn reply(tracker: &mut Tracker, text: &str) -> Result<()> {
    let message = MessageSpec::response(text.as_bytes());
    tracker.send_message(&message).await
}

/// A tracker that answers every command, and remembers what it was told.
pub(crate) struct Obedient {
    told: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Obedient {
    pub(crate) fn new(mut tracker: Tracker) -> Self {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&told);
        let task = tokio::spawn(async move {
            loop {
                // Silence is no error: there may be nothing more to say.
                let Ok((_, text)) = tracker.read_order().await else {
                    continue;
                };
                heard.lock().unwrap().push(text.clone());
                if reply(&mut tracker, &format!("did {text}")).await.is_err() {
                    return;
                }
            }
        });
        Self { told, task }
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        self.task.abort();
    }
}
