//! The cloud never loses and never doubles: killed at every place of a list, with a database and a
//! Redis that fail in every way we know, and with the past in any order.
//!
//! Servers and binaries are the real ones; a fleet drives wherever that tells more than entries put
//! in by hand. `docs/operations.md` names the test behind each of its rows.
#![allow(clippy::unwrap_used)]

#[path = "faults/extremes.rs"]
mod extremes;
#[path = "faults/gaps.rs"]
mod gaps;
#[path = "faults/in_database.rs"]
mod in_database;
#[path = "faults/in_redis.rs"]
mod in_redis;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/list.rs"]
mod list;
#[path = "faults/migrations.rs"]
mod migrations;
#[path = "faults/order.rs"]
mod order;
#[path = "faults/setback.rs"]
mod setback;
#[path = "faults/small_disk.rs"]
mod small_disk;

use anyhow::{Context as _, Result};
use contract::keys::STREAM_TELTONIKA;
use redis::aio::MultiplexedConnection;
use tests::drive::Drive;
use tests::items::{self, pending};
use tests::processes::{Cloud, get};
use tests::tables::eventually;

/// One number of `/metrics`.
async fn metric(cloud: &Cloud, name: &str) -> Result<u64> {
    let (_, page) = get(cloud.http_addr(), "/metrics").await?;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("{name} in {page}"))?;
    Ok(value.trim().parse()?)
}

/// Waits until the cloud's log has these words behind its first `before` bytes.
async fn logged(cloud: &Cloud, before: usize, words: &str) -> Result<()> {
    eventually(words, async || {
        let log = std::fs::read_to_string(cloud.log())?;
        Ok(log[before..].contains(words))
    })
    .await
}

fn log_bytes(cloud: &Cloud) -> Result<usize> {
    Ok(std::fs::metadata(cloud.log())?.len().try_into()?)
}

/// Everything ACKed is a row, nothing is pending, and the ledger has counted each row once.
async fn ends_well(drive: &Drive) -> Result<()> {
    let ledger = drive.judge().await?;
    let redis = items::admin(&drive.road).await?;
    until_acknowledged(&redis).await?;
    let sums: (i64, i64) = drive
        .tables
        .one("SELECT coalesce(sum(stored), 0)::bigint, coalesce(sum(dropped), 0)::bigint FROM ledger")
        .await?;
    assert_eq!(sums, (i64::try_from(ledger.stored)?, 0), "{ledger}");
    Ok(())
}

async fn until_acknowledged(redis: &MultiplexedConnection) -> Result<()> {
    eventually("nothing is pending", async || {
        Ok(pending(&mut redis.clone(), STREAM_TELTONIKA).await? == 0)
    })
    .await
}
