//! The smallest installation: a gateway, the cloud and PostgreSQL, without Redis. Whatever fails in
//! mid-stream, and however often one changes between Redis and the socket, nothing that was ACKed is
//! lost and nothing is stored twice.
//!
//! The binaries and servers are the real ones; the oracle compares every record sent, ACKed and
//! stored.
#![allow(clippy::unwrap_used)]

#[path = "one_box/killed.rs"]
mod killed;
#[path = "one_box/left.rs"]
mod left;
#[path = "one_box/strangers.rs"]
mod strangers;
#[path = "one_box/switched.rs"]
mod switched;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::drive::{Drive, options};
use tests::ledger::Ledger;
use tests::processes::{Ran, Road, RoadOptions, get, program_path};
use tests::tables::eventually;

/// Gateway and cloud with a socket between them, and early questions about what is not stored.
fn direct() -> RoadOptions {
    RoadOptions {
        direct: true,
        ..options()
    }
}

/// `cloud` with the settings of this road, to its end.
async fn cloud(road: &Road, words: &[&str]) -> Result<Ran> {
    let output = tokio::process::Command::new(program_path("cloud")?)
        .args(words)
        .arg("--config")
        .arg(road.dir().join("cloud.toml"))
        .env_clear()
        .output();
    Ran::of(output.await?)
}

/// `gateway` in the same way.
async fn gateway(road: &Road, words: &[&str]) -> Result<Ran> {
    let output = tokio::process::Command::new(program_path("gateway")?)
        .args(words)
        .arg("--config")
        .arg(road.dir().join("gateway.toml"))
        .env_clear()
        .output();
    Ran::of(output.await?)
}

async fn uplink(road: &Road, name: &str) -> Result<Value> {
    Ok(road.gateway.status().await?["uplink"][name].clone())
}

/// The receipt travelled back: nothing waits at the edge.
async fn until_forgotten(road: &Road) -> Result<()> {
    eventually("the gateway may forget everything", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await
}

/// Everything ACKed is a row, each was counted once, and the gateway knows.
async fn ends_well(drive: &Drive) -> Result<Ledger> {
    let ledger = drive.judge().await?;
    until_forgotten(&drive.road).await?;
    let sums: (i64, i64) = drive
        .tables
        .one("SELECT coalesce(sum(stored), 0)::bigint, coalesce(sum(dropped), 0)::bigint FROM ledger")
        .await?;
    assert_eq!(sums, (i64::try_from(ledger.stored)?, 0), "{ledger}");
    Ok(ledger)
}

/// Lines of the gateway's log of these levels.
fn complaints(road: &Road) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(road.gateway.log())?;
    let is_bad = |line: &&str| ["\"WARN\"", "\"ERROR\""].iter().any(|it| line.contains(it));
    Ok(log.lines().filter(is_bad).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_become_rows_without_redis_and_nobody_misses_it() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    drive.stored(500).await?;
    let status = drive.road.gateway.status().await?;
    let socket = format!("unix:{}", drive.road.socket().display());
    assert_eq!(status["uplink"]["forward_to"], socket.as_str());
    assert_eq!(status["uplink"]["connected"], true);
    assert_eq!(status["downlink"]["enabled"], false);
    let told = gateway(&drive.road, &["status"]).await?.ok()?;
    ensure!(
        told.out.contains("connected to the cloud on this machine"),
        "{told:?}"
    );
    let checked = gateway(&drive.road, &["check", "--json"]).await?;
    let found = checked.json()?;
    let is_said = |words: &str| {
        found
            .iter()
            .any(|it| it["what"].as_str().unwrap_or_default().contains(words))
    };
    for words in [
        "a cloud takes entries at unix:",
        "the cloud reads 1-2",
        "commands are not carried without Redis",
    ] {
        ensure!(is_said(words), "{words}: {found:#?}");
    }
    ensure!(checked.code == 0, "{found:#?}");
    let health = drive.road.cloud.status().await?;
    assert_eq!(
        (&health["redis"], &health["trouble"]),
        (&"unused".into(), &Value::Null)
    );
    ends_well(&drive).await?;
    assert_eq!(
        complaints(&drive.road)?,
        [""; 0],
        "what needs Redis is quiet"
    );
    // A polite end of both leaves no socket behind.
    drive.road.stop().await?;
    ensure!(!drive.road.socket().exists(), "the socket is gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_s_numbers_need_no_redis() -> Result<()> {
    let road = Road::start(direct()).await?;
    ensure!(!road.has_redis() && road.redis.is_none());
    let (code, body) = get(road.cloud.http_addr(), "/queue/status").await?;
    ensure!(code == 200, "{code} {body}: {}", road.cloud.last_words());
    let queue: Value = serde_json::from_str(&body).context(body)?;
    assert_eq!(queue["total_pending"], 0);
    Ok(())
}
