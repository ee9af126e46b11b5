//! A gateway with an HTTP door, and what to post at it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::poster::{Answer, Poster};
use tests::processes::{Gateway, Setting, get};
use tests::servers::{GATEWAY, Port, Redis, RedisOptions};

/// Of the source `api`, without limits.
pub(super) const TOKEN: &str = "made-up-token-of-the-api";

pub(super) const BEARER: (&str, &str) = ("Authorization", "Bearer made-up-token-of-the-api");

pub(super) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// 2026-11-22T08:00:00Z.
pub(super) const START_MS: i64 = 1_795_334_400_000;

/// A gateway, its Redis, and nobody who reads from there: what is kept stays in the spool.
pub(super) struct Door {
    pub(super) gateway: Gateway,
    pub(super) addr: SocketAddr,
    pub(super) tokens: PathBuf,
    pub(super) dir: tempfile::TempDir,
    pub(super) redis: Redis,
    _port: Port,
}

/// Settings of an HTTP door with the source `api`, and where it will be.
pub(super) fn settings(dir: &std::path::Path) -> Result<(Vec<Setting>, Port, PathBuf)> {
    let port = Port::free()?;
    let tokens = dir.join("tokens.txt");
    std::fs::write(&tokens, format!("api plain:{TOKEN}\n"))?;
    std::fs::set_permissions(&tokens, PermissionsExt::from_mode(0o600))?;
    let settings = vec![
        (
            "listen.http",
            json!([format!("127.0.0.1:{}", port.number())]),
        ),
        ("ingest.tokens", json!(tokens)),
    ];
    Ok((settings, port, tokens))
}

impl Door {
    pub(super) async fn open(more: &[Setting]) -> Result<Self> {
        let redis = Redis::start(RedisOptions::default()).await?;
        let dir = tempfile::tempdir()?;
        let (mut all, port, tokens) = settings(dir.path())?;
        all.extend_from_slice(more);
        let at = Some(dir.path());
        let gateway = Gateway::start(dir.path(), at, GATEWAY, &redis, &all).await?;
        Ok(Self {
            gateway,
            addr: ([127, 0, 0, 1], port.number()).into(),
            tokens,
            dir,
            redis,
            _port: port,
        })
    }

    /// Asks on a connection of its own.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        Poster::connect(self.addr)
            .await?
            .ask(method, path, headers, body)
            .await
    }

    /// Posts JSON with the token.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let body = body.to_string();
        self.ask("POST", path, &[BEARER, JSON], body.as_bytes())
            .await
    }

    /// Frames of the lane that wait in the spool.
    pub(super) async fn waiting(&self, lane: &str) -> Result<u64> {
        let (_, text) = get(self.gateway.http_addr(), "/metrics").await?;
        let name = format!("milepost_gateway_spool_lane_backlog_envelopes{{lane=\"{lane}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        Ok(line.context("a line for the lane")?.parse()?)
    }
}

/// `count` positions of one device, a second apart, from the one numbered `from` on.
pub(super) fn batch(device: &str, from: i64, count: i64) -> Value {
    let one = |at: i64| {
        json!({
            "device": device,
            "time": START_MS + 1_000 * at,
            "latitude": 52.0 + at as f64 / 1e6,
            "longitude": 13.25,
            "speed_kmh": 50,
            "attributes": { "number": at },
        })
    };
    (from..from + count).map(one).collect()
}
