//! A Redis, a database and a cloud that reads sensors; no gateway.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::items::{self, add, pending};
use tests::processes::{Cloud, Setting, get, program_path};
use tests::servers::{Postgres, Redis, RedisOptions};
use tests::tables::{Tables, eventually};

pub(super) const PATTERN: &str = "mqtt_stream:*";
/// The founding name: the pattern matches it.
pub(super) const COPIES: &str = "mqtt_stream:put:aside";
/// As a name that would be a sensor's.
pub(super) const ROOM: &str = "mqtt_stream:room-1:temperature";

pub(super) const ROWS: &str = "SELECT count(*) FROM sensor_readings";
pub(super) const LETTERS: &str = "SELECT count(*) FROM dead_letters";

pub(super) struct Site {
    pub(super) cloud: Cloud,
    pub(super) redis: Redis,
    /// Unless the database is somebody else's.
    pub(super) postgres: Option<Postgres>,
    pub(super) url: String,
    pub(super) tables: Tables,
    pub(super) admin: MultiplexedConnection,
    dir: tempfile::TempDir,
}

impl Site {
    pub(super) async fn start(settings: &[Setting]) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let url = postgres.create_database().await?;
        Self::with(Some(postgres), url, settings).await
    }

    pub(super) async fn with(
        postgres: Option<Postgres>,
        url: String,
        settings: &[Setting],
    ) -> Result<Self> {
        let redis = Redis::start(RedisOptions::default()).await?;
        redis.admin_does(&[&acl()?, "ACL SAVE"]).await?;
        let dir = tempfile::Builder::new()
            .prefix("milepost-sensors-")
            .tempdir()?;
        let path = dir.path();
        let settings = all(settings);
        let cloud = Cloud::start(path, Some(path), &redis, &url, &settings).await?;
        Ok(Self {
            cloud,
            tables: Tables::connect(&url).await?,
            admin: items::admin_of(&redis).await?,
            redis,
            postgres,
            url,
            dir,
        })
    }

    /// One more process of the group.
    pub(super) async fn another(&self, consumer: &str, settings: &[Setting]) -> Result<Cloud> {
        let dir = self.dir.path().join(consumer);
        std::fs::create_dir(&dir)?;
        let mut settings = all(settings);
        settings.push(("stream.consumer", consumer.into()));
        Cloud::start(&dir, None, &self.redis, &self.url, &settings).await
    }

    /// Appends a reading with the time of now.
    pub(super) async fn says(&mut self, stream: &str, value: &str) -> Result<String> {
        self.sends(stream, &reading(value, None)).await
    }

    pub(super) async fn sends(&mut self, stream: &str, fields: &Fields) -> Result<String> {
        add(&mut self.admin, stream, "*", fields).await
    }

    pub(super) async fn until_acknowledged(&self, stream: &str) -> Result<()> {
        eventually("nothing is pending", async || {
            Ok(pending(&mut self.admin.clone(), stream).await? == 0)
        })
        .await
    }

    /// A page of the cloud.
    pub(super) async fn page(&self, path: &str) -> Result<Value> {
        let (status, page) = get(self.cloud.http_addr(), path).await?;
        ensure!(status == 200, "{path}: {status} {page}");
        Ok(serde_json::from_str(&page)?)
    }
}

pub(super) type Fields = Vec<(&'static str, Vec<u8>)>;

/// The founding message.
pub(super) fn reading(value: &str, metadata: Option<&str>) -> Fields {
    let now = chrono::Utc::now()
        .format("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string();
    let mut fields = vec![("value", value.into()), ("timestamp", now.into_bytes())];
    fields.extend(metadata.map(|text| ("metadata", text.into())));
    fields
}

/// One number of `/metrics`.
pub(super) async fn metric(cloud: &Cloud, name: &str) -> Result<u64> {
    let (_, page) = get(cloud.http_addr(), "/metrics").await?;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("{name} in {page}"))?.parse()?)
}

fn all(settings: &[Setting]) -> Vec<Setting> {
    let mut all: Vec<Setting> = vec![
        ("sensors.pattern", PATTERN.into()),
        ("stream.dead_letter", COPIES.into()),
        ("stream.look_every", "1s".into()),
        ("commands.enabled", false.into()),
    ];
    all.extend(settings.iter().cloned());
    all
}

/// What the program itself says that its user needs, with the founding names in its environment.
fn acl() -> Result<String> {
    let output = Command::new(program_path("cloud")?)
        .args(["acl", "print", "--cloud", "--format", "redis-cli"])
        .env_clear()
        .envs([("STREAM_PATTERN", PATTERN), ("DEAD_LETTER_STREAM", COPIES)])
        .output()?;
    let line = String::from_utf8(output.stdout)?.trim().to_owned();
    ensure!(line.contains(" ~mqtt_stream:* "), "{line}");
    Ok(line)
}
