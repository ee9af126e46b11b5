//! Redis, PostgreSQL and a cloud; frames put into its stream by hand; and its other verbs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use codec::encode::{IoSpec, IoValue};
use contract::keys::STREAM_TELTONIKA;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::batches::{Sent, SpoolOf};
use tests::processes::{Cloud, program_path};
use tests::servers::{ADMIN, Postgres, Redis, RedisOptions};
use tests::tables::{DEADLINE, Tables};
use tokio::process::Command;

pub(crate) const IMEI: u64 = 350_000_000_000_017;
pub(crate) const OTHER: u64 = 350_000_000_000_025;

/// 2026-09-21, noon.
pub(crate) const NOON_MS: u64 = 1_790_000_000_000;

/// Wiki "Codec", Codec 12: a response to `getinfo`.
pub(crate) const RESPONSE: &str = "0C010600000088494E493A323031392F372F323220373A3232205254433A323031392F372F323220373A3533205253543A32204552523A312053523A302042523A302043463A302046473A3020464C3A302054553A302F302055543A3020534D533A30204E4F4750533A303A3330204750533A31205341543A302052533A332052463A36352053463A31204D443A3001";

pub(crate) struct Stage {
    pub(crate) cloud: Cloud,
    pub(crate) tables: Tables,
    pub(crate) redis: Redis,
    pub(crate) admin: MultiplexedConnection,
    pub(crate) postgres: Postgres,
    dir: tempfile::TempDir,
}

/// What a verb said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn ended(self, code: i32) -> Result<Said> {
        ensure!(self.code == Some(code), "{code} expected: {self:#?}");
        Ok(self)
    }

    pub(crate) fn has(self, words: &[&str]) -> Result<Said> {
        for word in words {
            let there = self.out.contains(word) || self.err.contains(word);
            ensure!(there, "no {word:?} in {self:#?}");
        }
        Ok(self)
    }

    /// The last line of its output.
    pub(crate) fn json(&self) -> Result<Value> {
        let line = self.out.lines().last().context("nothing said")?;
        serde_json::from_str(line).with_context(|| self.out.clone())
    }
}

impl Stage {
    pub(crate) async fn new() -> Result<Stage> {
        let redis = Redis::start(RedisOptions::default()).await?;
        let postgres = Postgres::start().await?;
        let url = postgres.create_database().await?;
        let dir = tempfile::tempdir()?;
        let cloud = Cloud::start(dir.path(), Some(dir.path()), &redis, &url, &[]).await?;
        // The client's own second is not much on a loaded machine.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let client = redis.client(ADMIN)?;
        let admin = client.get_multiplexed_async_connection_with_config(&patient);
        let admin = admin.await?;
        Ok(Stage {
            cloud,
            tables: Tables::connect(&url).await?,
            redis,
            admin,
            postgres,
            dir,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with the settings of the one that runs.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program_path("cloud")?);
        command.env_clear().current_dir(self.dir.path()).args(words);
        command.arg("--config").arg(self.path("cloud.toml"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    pub(crate) async fn ask(&self, words: &[&str]) -> Result<Said> {
        let output = self.command(words)?.output().await?;
        Ok(Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    pub(crate) async fn xadd(&mut self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String> {
        xadd(&mut self.admin, STREAM_TELTONIKA, fields).await
    }

    /// Sends frames as one entry.
    pub(crate) async fn send(&mut self, spool: &mut SpoolOf, frames: &[Sent]) -> Result<()> {
        let entry = spool.entry(frames)?;
        self.xadd(&entry).await?;
        Ok(())
    }

    /// One number.
    pub(crate) async fn count(&self, sql: &'static str) -> Result<i64> {
        let (count,): (i64,) = self.tables.one(sql).await?;
        Ok(count)
    }
}

pub(crate) async fn xadd(
    admin: &mut MultiplexedConnection,
    stream: &str,
    fields: &[(Vec<u8>, Vec<u8>)],
) -> Result<String> {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg("*");
    for (name, value) in fields {
        add.arg(name.as_slice()).arg(value.as_slice());
    }
    Ok(add.query_async(admin).await?)
}

/// A frame of one record, `n` seconds after noon.
pub(crate) fn record(imei: u64, n: u64) -> Result<Sent> {
    let io = [
        IoSpec {
            id: 239,
            value: IoValue::U8(1),
        },
        IoSpec {
            id: 66,
            value: IoValue::U16(12_000 + u16::try_from(n % 1_000)?),
        },
    ];
    let at = NOON_MS + n * 1_000;
    Sent::record(imei, at, at + 500, &io)
}

/// Bytes as a frame of that tracker.
pub(crate) fn raw(imei: u64, n: u64, data: Vec<u8>) -> Sent {
    Sent {
        imei,
        received_at_ms: NOON_MS + n * 1_000 + 500,
        data,
    }
}

pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}
