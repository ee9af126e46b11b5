//! Whatever fails in mid-stream, nothing that was ACKed is lost and nothing is stored twice.
//!
//! A fleet drives while something is killed, stopped or emptied; the oracle then compares every
//! record sent, ACKed and stored. Each test first waits until data flows, so that the fault really
//! falls into the stream, and asks for data from after the fault as well.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::ledger::Ledger;
use tests::processes::{Cloud, Road, RoadOptions, Setting};
use tests::tables::{Tables, eventually};

/// How long the last rows may take; waiting ends as soon as they are there.
const PATIENCE: Duration = Duration::from_secs(90);

/// When to kill, in records ACKed after the last rows were seen: a kill right behind a COMMIT would
/// always miss what comes before the next one. At 400 records a second this spreads over half a
/// second, more than a batch takes.
const MOMENTS: [u64; 6] = [1, 40, 80, 120, 160, 200];

/// Fast enough that hundreds of records are on their way at any moment.
fn fleet_config(road: &Road) -> Result<FleetConfig> {
    Ok(FleetConfig {
        devices: 20,
        rate: "20".parse()?,
        records_per_frame: 2,
        ack_timeout: Duration::from_secs(5),
        backoff: (Duration::from_millis(50), Duration::from_millis(500)),
        ..road.fleet_config()
    })
}

/// Outages are short here, so the gateway asks early.
fn options() -> RoadOptions {
    let settings: [Setting; 2] = [
        ("uplink.resend_after", Value::from("2s")),
        ("uplink.retry_max", Value::from("1s")),
    ];
    RoadOptions {
        gateway: settings.to_vec(),
        ..RoadOptions::default()
    }
}

async fn acked(fleet: &Fleet, more: u64) -> Result<()> {
    let wanted = fleet.stats().acked + more;
    eventually("trackers are ACKed", async || {
        Ok(fleet.stats().acked >= wanted)
    })
    .await
}

async fn stored(tables: &Tables, more: i64) -> Result<()> {
    let (before,) = tables
        .one::<(i64,)>("SELECT count(*) FROM positions")
        .await?;
    eventually("rows arrive", async || {
        Ok(tables
            .one::<(i64,)>("SELECT count(*) FROM positions")
            .await?
            .0
            >= before + more)
    })
    .await
}

/// Stops the fleet and compares; every ACK must be a row, no row may be there twice.
async fn judge(road: &Road, fleet: &Fleet) -> Result<Ledger> {
    fleet.stop_producing();
    ensure!(
        fleet.drain(PATIENCE).await,
        "trackers still wait for ACKs: {:?}",
        fleet.stats()
    );
    let ledger = road
        .settled_ledger(&fleet.truth(), PATIENCE, |_| {})
        .await?;
    ensure!(
        ledger.is_clean(),
        "{ledger}\ngateway: {}\ncloud: {}",
        road.gateway.last_words(),
        road.cloud.last_words()
    );
    ensure!(
        ledger.acked > 0 && ledger.sent == ledger.acked,
        "everything sent is ACKed in the end: {ledger}"
    );
    ensure!(
        ledger.stored == ledger.acked && ledger.dead == 0,
        "{ledger}"
    );
    Ok(ledger)
}

async fn start() -> Result<(Road, Fleet, Tables)> {
    let road = Road::start(options()).await?;
    let fleet = Fleet::start(fleet_config(&road)?).await?;
    let tables = Tables::connect(road.database_url()).await?;
    stored(&tables, 200).await?;
    Ok((road, fleet, tables))
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_gateway_loses_nothing_acked() -> Result<()> {
    let (mut road, fleet, _) = start().await?;
    for later in MOMENTS {
        acked(&fleet, later).await?;
        road.gateway.kill9()?;
        road.gateway.restart().await?;
        acked(&fleet, 50).await?;
    }
    judge(&road, &fleet).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_cloud_loses_nothing_and_doubles_nothing() -> Result<()> {
    let (mut road, fleet, tables) = start().await?;
    for later in MOMENTS {
        stored(&tables, 1).await?;
        acked(&fleet, later).await?;
        road.cloud.kill9()?;
        acked(&fleet, 50).await?; // trackers do not notice
        road.cloud.restart().await?;
    }
    stored(&tables, 150).await?;
    judge(&road, &fleet).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_is_sat_out_and_trackers_are_still_acked() -> Result<()> {
    let (mut road, fleet, tables) = start().await?;
    road.redis.as_mut().context("our own")?.stop().await?;
    acked(&fleet, 500).await?;
    ensure!(
        road.gateway.status().await?["spool"]["backlog"].as_u64() > Some(0),
        "the spool holds them"
    );
    road.redis.as_mut().context("our own")?.restart().await?;
    stored(&tables, 500).await?;
    judge(&road, &fleet).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_loses_nothing() -> Result<()> {
    let (road, fleet, tables) = start().await?;
    // Unread and unacknowledged entries go down with it: the cloud stands still.
    let mut road = road;
    road.cloud.pause()?;
    acked(&fleet, 300).await?;
    eventually("they are in Redis", async || {
        Ok(road.gateway.status().await?["uplink"]["in_flight_bytes"].as_u64() > Some(10_000))
    })
    .await?;
    road.redis_access().flushall().await?;
    road.cloud.resume()?;
    stored(&tables, 300).await?;
    road.redis_access().flushall().await?;
    acked(&fleet, 300).await?;
    judge(&road, &fleet).await?;
    let resent = road.gateway.status().await?["uplink"]["envelopes_resent"].as_u64();
    ensure!(resent > Some(0), "what Redis had lost was sent again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_database_is_sat_out_and_trackers_are_still_acked() -> Result<()> {
    let (mut road, fleet, _) = start().await?;
    let postgres = road.postgres.as_mut().context("our own")?;
    postgres.stop().await?;
    acked(&fleet, 500).await?;
    let errors =
        async |cloud: &Cloud| anyhow::Ok(cloud.status().await?["stats"]["errors"].as_u64());
    let before = errors(&road.cloud).await?;
    eventually("the cloud has tried and failed", async || {
        Ok(errors(&road.cloud).await? > before)
    })
    .await?;
    postgres.restart().await?;
    let tables = Tables::connect(road.database_url()).await?;
    stored(&tables, 500).await?;
    let postgres = road.postgres.as_mut().context("our own")?;
    postgres.kill9()?;
    acked(&fleet, 200).await?;
    postgres.restart().await?;
    judge(&road, &fleet).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_leaves_nothing_behind_and_the_ledger_balances() -> Result<()> {
    let (mut road, fleet, tables) = start().await?;
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers are done");
    road.gateway.terminate().await?.context("it ran")?;
    let ledger = road
        .settled_ledger(&fleet.truth(), PATIENCE, |_| {})
        .await?;
    ensure!(
        ledger.is_clean() && ledger.stored == ledger.acked,
        "{ledger}"
    );
    let status = road.cloud.terminate().await?.context("it ran")?;
    ensure!(status.success(), "cloud ended with {status}");
    let sums: (i64, i64, i64) = tables
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
    let (mut road, fleet, tables) = start().await?;
    road.redis.as_mut().context("our own")?.stop().await?;
    acked(&fleet, 300).await?;
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers are done");
    road.gateway.kill9()?;
    // The longest log ends with what Redis never saw; a byte near its end goes bad.
    let spool = road.dir().join("spool");
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
    road.redis.as_mut().context("our own")?.restart().await?;
    road.gateway.restart().await?;
    eventually("nothing is held up", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await?;
    ensure!(
        std::fs::read_to_string(road.gateway.log())?.contains("damaged place"),
        "the gateway says so"
    );
    let ledger = road
        .settled_ledger(&fleet.truth(), Duration::ZERO, |_| {})
        .await?;
    ensure!(
        (1..=40).contains(&ledger.lost_count),
        "one commit is lost: {ledger}"
    );
    ensure!(ledger.duplicates == 0 && ledger.phantoms == 0, "{ledger}");
    // The lost positions are settled, as dropped: no number of records survived the damage.
    let holes: (i64,) = tables
        .one("SELECT max(holes) FROM (SELECT max(last_seq) - sum(last_seq - first_seq + 1)::bigint AS holes FROM settled GROUP BY spool_id) AS spools")
        .await?;
    ensure!(holes.0 == 0, "{} positions are not settled", holes.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processors_share_the_stream_and_one_may_die_for_good() -> Result<()> {
    let (mut road, fleet, tables) = start().await?;
    let dir = tempfile::tempdir()?;
    let settings = [("stream.consumer", Value::from("second"))];
    let second = Cloud::start(
        dir.path(),
        Some(dir.path()),
        road.redis_access(),
        road.database_url(),
        &settings,
    );
    let second = second.await?;
    eventually("both have work", async || {
        let written = |status: Value| status["stats"]["messages_written"].as_u64();
        let (first, second) = (road.cloud.status().await?, second.status().await?);
        Ok(written(first) > Some(5) && written(second) > Some(5))
    })
    .await?;
    road.cloud.kill9()?;
    stored(&tables, 300).await?;
    judge(&road, &fleet).await?;
    let sums: (i64, i64, i64) = tables
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
