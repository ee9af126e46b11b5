//! Whatever fails in mid-stream, nothing that was ACKed is lost and nothing is stored twice.
//!
//! A fleet drives while something is killed, stopped or emptied; the oracle then compares every
//! record sent, ACKed and stored. Each test first waits until data flows, so that the fault really
//! falls into the stream, and asks for data from after the fault as well.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::drive::{Drive, PATIENCE, options};
use tests::processes::Cloud;
use tests::tables::eventually;

/// When to kill, in records ACKed after the last rows were seen: a kill right behind a COMMIT would
/// always miss what comes before the next one. At 400 records a second this spreads over half a
/// second, more than a batch takes.
const MOMENTS: [u64; 6] = [1, 40, 80, 120, 160, 200];

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_gateway_loses_nothing_acked() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.kill_gateway(&MOMENTS).await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_cloud_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.kill_cloud(&MOMENTS).await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_is_sat_out_and_trackers_are_still_acked() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.redis()?.stop().await?;
    drive.acked(500).await?;
    ensure!(
        drive.road.gateway.status().await?["spool"]["backlog"].as_u64() > Some(0),
        "the spool holds them"
    );
    drive.redis()?.restart().await?;
    drive.stored(500).await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_loses_nothing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    // Unread and unacknowledged entries go down with it: the cloud stands still.
    drive.road.cloud.pause()?;
    drive.acked(300).await?;
    eventually("they are in Redis", async || {
        Ok(drive.road.gateway.status().await?["uplink"]["in_flight_bytes"].as_u64() > Some(10_000))
    })
    .await?;
    drive.road.redis_access().flushall().await?;
    drive.road.cloud.resume()?;
    drive.stored(300).await?;
    drive.road.redis_access().flushall().await?;
    drive.acked(300).await?;
    drive.judge().await?;
    let resent = drive.road.gateway.status().await?["uplink"]["envelopes_resent"].as_u64();
    ensure!(resent > Some(0), "what Redis had lost was sent again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_database_is_sat_out_and_trackers_are_still_acked() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.postgres()?.stop().await?;
    drive.acked(500).await?;
    let errors =
        async |cloud: &Cloud| anyhow::Ok(cloud.status().await?["stats"]["errors"].as_u64());
    let before = errors(&drive.road.cloud).await?;
    eventually("the cloud has tried and failed", async || {
        Ok(errors(&drive.road.cloud).await? > before)
    })
    .await?;
    drive.postgres()?.restart().await?;
    drive.stored(500).await?;
    drive.postgres()?.kill9()?;
    drive.acked(200).await?;
    drive.postgres()?.restart().await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_leaves_nothing_behind_and_the_ledger_balances() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.fleet.stop_producing();
    ensure!(drive.fleet.drain(PATIENCE).await, "trackers are done");
    drive.road.gateway.terminate().await?.context("it ran")?;
    let ledger = drive
        .road
        .clean_ledger(&drive.fleet.truth(), PATIENCE)
        .await?;
    let status = drive.road.cloud.terminate().await?.context("it ran")?;
    ensure!(status.success(), "cloud ended with {status}");
    let sums: (i64, i64, i64) = drive
        .tables
        .one(
            "SELECT sum(received)::bigint, sum(stored)::bigint, sum(duplicate)::bigint FROM ledger",
        )
        .await?;
    ensure!(
        sums.0 == sums.1 + sums.2,
        "received = stored + duplicate: {sums:?}"
    );
    ensure!(
        sums.1 == i64::try_from(ledger.stored)?,
        "{sums:?} against {ledger}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_disk_costs_one_commit_is_told_and_holds_nothing_up() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.redis()?.stop().await?;
    drive.acked(300).await?;
    drive.fleet.stop_producing();
    ensure!(drive.fleet.drain(PATIENCE).await, "trackers are done");
    drive.road.gateway.kill9()?;
    // The longest log ends with what Redis never saw; a byte near its end goes bad.
    let spool = drive.road.dir().join("spool");
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(&spool)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("seg-"))
        {
            let bytes = std::fs::read(&path)?;
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            logs.push((end, path, bytes));
        }
    }
    let (end, segment, mut bytes) = logs.into_iter().max().context("a segment")?;
    // Commits begin on blocks; behind a commit's header its first frame is hit.
    bytes[(end / 4096 - 2) * 4096 + 60] ^= 0x40;
    std::fs::write(segment, bytes)?;
    drive.redis()?.restart().await?;
    drive.road.gateway.restart().await?;
    eventually("nothing is held up", async || {
        Ok(drive.road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await?;
    ensure!(
        std::fs::read_to_string(drive.road.gateway.log())?.contains("damaged place"),
        "the gateway says so"
    );
    let ledger = drive
        .road
        .settled_ledger(&drive.fleet.truth(), Duration::ZERO, |_| {})
        .await?;
    ensure!(
        (1..=40).contains(&ledger.lost_count),
        "one commit is lost: {ledger}"
    );
    ensure!(ledger.duplicates == 0 && ledger.phantoms == 0, "{ledger}");
    // The lost positions are settled, as dropped: no number of records survived the damage.
    let holes: (i64,) = drive
        .tables
        .one("SELECT max(holes) FROM (SELECT max(last_seq) - sum(last_seq - first_seq + 1)::bigint AS holes FROM settled GROUP BY spool_id) AS spools")
        .await?;
    ensure!(holes.0 == 0, "{} positions are not settled", holes.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processors_share_the_stream_and_one_may_die_for_good() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    let dir = tempfile::tempdir()?;
    let settings = [("stream.consumer", Value::from("second"))];
    let second = Cloud::start(
        dir.path(),
        Some(dir.path()),
        drive.road.redis_access(),
        drive.road.database_url(),
        &settings,
    );
    let second = second.await?;
    eventually("both have work", async || {
        let written = |status: Value| status["stats"]["messages_written"].as_u64();
        let (first, second) = (drive.road.cloud.status().await?, second.status().await?);
        Ok(written(first) > Some(5) && written(second) > Some(5))
    })
    .await?;
    drive.road.cloud.kill9()?;
    drive.stored(300).await?;
    drive.judge().await?;
    let sums: (i64, i64, i64) = drive
        .tables
        .one(
            "SELECT sum(received)::bigint, sum(stored)::bigint, sum(duplicate)::bigint FROM ledger",
        )
        .await?;
    ensure!(
        sums.0 == sums.1 + sums.2,
        "received = stored + duplicate: {sums:?}"
    );
    Ok(())
}
