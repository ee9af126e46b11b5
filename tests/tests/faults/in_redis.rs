//! A Redis that loses data, or refuses to take any.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use contract::keys::{self, GROUP_PROCESSOR, STREAM_TELTONIKA};
use contract::version;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tests::drive::{Drive, PATIENCE, options};
use tests::items::{add, admin, entry};
use tests::processes::{RoadOptions, get};
use tests::servers::{ADMIN, GATEWAY, Redis, RedisOptions};
use tests::tables::eventually;

use super::{ends_well, log_bytes, logged, metric, until_acknowledged};

async fn order(redis: &mut MultiplexedConnection, words: &[&str]) -> Result<()> {
    let mut order = redis::cmd(words[0]);
    Ok(order.arg(&words[1..]).query_async(redis).await?)
}

/// Sends while the cloud stands still, so that Redis holds what is not stored.
async fn with_the_cloud_paused(drive: &mut Drive) -> Result<()> {
    drive.road.cloud.pause()?;
    drive.acked(300).await?;
    eventually("some of it is in Redis", async || {
        let status = drive.road.gateway.status().await?;
        Ok(status["uplink"]["in_flight_bytes"].as_u64() > Some(5_000))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_a_stream_or_everything_deleted_heals_and_loses_nothing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    let mut redis = admin(&drive.road).await?;
    let deletions: [&[&str]; 3] = [
        &["XGROUP", "DESTROY", STREAM_TELTONIKA, GROUP_PROCESSOR],
        &["DEL", STREAM_TELTONIKA],
        &["FLUSHALL"],
    ];
    for (times, deletion) in (1..).zip(deletions) {
        with_the_cloud_paused(&mut drive).await?;
        let before = log_bytes(&drive.road.cloud)?;
        order(&mut redis, deletion).await?;
        drive.road.cloud.resume()?;
        logged(
            &drive.road.cloud,
            before,
            "the stream or its consumer group is gone",
        )
        .await
        .with_context(|| deletion.join(" "))?;
        drive
            .caught_up()
            .await
            .with_context(|| deletion.join(" "))?;
        let lost = metric(&drive.road.cloud, "milepost_cloud_group_lost_total ").await?;
        ensure!(lost >= times, "{lost} after {deletion:?}");
    }
    eventually("gateways hear again what is read", async || {
        Ok(redis.hexists(keys::CONTRACT, version::FIELD_READS).await?)
    })
    .await?;
    ends_well(&drive).await
}

/// `OOM` refuses floors and copies, and no acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_takes_no_floor_and_no_copy_and_costs_no_record() -> Result<()> {
    const COPIES: &str = "dead-letter:telemetry:teltonika";
    let mut drive = Drive::start(RoadOptions {
        cloud: vec![("stream.dead_letter", COPIES.into())],
        ..options()
    })
    .await?;
    let mut redis = admin(&drive.road).await?;
    with_the_cloud_paused(&mut drive).await?;
    let mut spoilt = entry(7, 1)?;
    for (name, value) in &mut spoilt {
        if *name == "d" {
            *value = b"spoilt".to_vec();
        }
    }
    add(&mut redis, STREAM_TELTONIKA, "*", &spoilt).await?;
    let before = log_bytes(&drive.road.cloud)?;
    order(&mut redis, &["CONFIG", "SET", "maxmemory", "1"]).await?;
    drive.road.cloud.resume()?;
    let cloud = &drive.road.cloud;
    for words in [
        "cannot publish the floor",
        "its memory is full; raise maxmemory",
        "cannot copy a dead letter; the table has it",
    ] {
        logged(cloud, before, words).await?;
    }
    until_acknowledged(&redis).await?;
    drive.acked(200).await?;
    let backlog = drive.road.gateway.status().await?["spool"]["backlog"].as_u64();
    ensure!(backlog > Some(0), "the gateway keeps what no floor covers");
    order(&mut redis, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    drive.stored(300).await?;
    drive.fleet.stop_producing();
    ensure!(drive.fleet.drain(PATIENCE).await, "trackers are done");
    drive
        .road
        .clean_ledger(&drive.fleet.truth(), PATIENCE)
        .await?;
    let missed = metric(cloud, "milepost_cloud_dead_letter_copies_missed_total ").await?;
    let copies: u64 = redis.xlen(COPIES).await?;
    assert_eq!((missed, copies), (1, 0), "it is in the table alone");
    drive
        .tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    eventually("the gateway may forget", async || {
        Ok(drive.road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await
}

/// `MISCONF`: Redis cannot save and refuses every write, reading as a group included.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_save_is_named_and_sat_out() -> Result<()> {
    let drive = Drive::start(options()).await?;
    let mut redis = admin(&drive.road).await?;
    let own = drive.road.redis.as_ref().context("our own")?;
    let in_the_way = own.dir().join("dump.rdb");
    let before = log_bytes(&drive.road.cloud)?;
    std::fs::create_dir_all(in_the_way.join("full"))?;
    order(&mut redis, &["CONFIG", "SET", "save", "900 1"]).await?;
    order(&mut redis, &["BGSAVE"]).await?;
    logged(&drive.road.cloud, before, "it cannot save to disk").await?;
    drive.acked(300).await?;
    eventually("it says so", async || {
        let (_, page) = get(drive.road.gateway.http_addr(), "/status").await?;
        Ok(page.contains("MISCONF") || page.contains("save"))
    })
    .await?;
    std::fs::remove_dir_all(in_the_way)?;
    eventually("it saves again", async || {
        order(&mut redis, &["BGSAVE"]).await?;
        let info: String = redis::cmd("INFO")
            .arg("persistence")
            .query_async(&mut redis)
            .await?;
        Ok(info.contains("rdb_last_bgsave_status:ok"))
    })
    .await?;
    drive.stored(300).await?;
    ends_well(&drive).await
}

/// A second server that follows the first one, over TLS, as a replica does.
async fn replica_of(primary: &Redis) -> Result<Redis> {
    let identity = primary.identity(ADMIN);
    let url = primary.url(ADMIN);
    let password = url
        .rsplit_once('@')
        .and_then(|(before, _)| before.rsplit(':').next());
    let config = [
        "tls-replication yes".to_owned(),
        "tls-auth-clients no".to_owned(),
        format!("tls-ca-cert-file {}", primary.ca().display()),
        format!("tls-client-cert-file {}", identity.cert.display()),
        format!("tls-client-key-file {}", identity.key.display()),
        format!("masteruser {ADMIN}"),
        format!("masterauth {}", password.context("a password")?),
        format!("replicaof 127.0.0.1 {}", primary.port()),
    ];
    Redis::start(RedisOptions {
        gateways: vec![GATEWAY.to_owned()],
        config: config.to_vec(),
        ..RedisOptions::default()
    })
    .await
}

/// What the replica has becomes what the primary's address leads to.
fn take_over(from: &Path, to: &Path) -> Result<()> {
    let files = "appendonlydir";
    std::fs::remove_dir_all(to.join(files))?;
    let copied = Command::new("cp")
        .arg("-a")
        .args([from.join(files), to.join(files)])
        .status();
    ensure!(copied?.success(), "the replica's data is copied");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lagged_and_took_over_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    let primary = drive.road.redis.as_ref().context("our own")?;
    let mut replica = replica_of(primary).await?;
    let mut follows = replica
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    eventually("the replica follows", async || {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut follows)
            .await?;
        Ok(info.contains("master_link_status:up"))
    })
    .await?;
    drive.stored(100).await?;
    // From here on it hears nothing more: floors, ids and what is pending stay as they are.
    order(&mut follows, &["REPLICAOF", "NO", "ONE"]).await?;
    let gateway = GATEWAY.parse()?;
    let floor = keys::floor(&gateway);
    let then: std::collections::BTreeMap<String, String> = follows.hgetall(&floor).await?;
    drive.stored(600).await?;
    // And what nobody has read goes down with the primary.
    with_the_cloud_paused(&mut drive).await?;
    drive.redis()?.kill9()?;
    replica.stop().await?;
    let to = drive.road.redis.as_ref().context("our own")?;
    take_over(replica.dir(), to.dir())?;
    drive.redis()?.restart().await?;
    let mut redis = admin(&drive.road).await?;
    let now: std::collections::BTreeMap<String, String> = redis.hgetall(&floor).await?;
    assert_eq!(now, then, "the floor went back as well");
    drive.road.cloud.resume()?;
    drive.stored(600).await?;
    eventually("the floor is what the database holds", async || {
        let now: std::collections::BTreeMap<String, String> = redis.hgetall(&floor).await?;
        Ok(now != then)
    })
    .await?;
    let setbacks = metric(&drive.road.cloud, "milepost_cloud_database_setbacks_total ").await?;
    assert_eq!(setbacks, 0, "it was not the database that went back");
    ends_well(&drive).await?;
    let resent = drive.road.gateway.status().await?["uplink"]["envelopes_resent"].as_u64();
    ensure!(resent > Some(0), "what only the primary had was sent again");
    Ok(())
}
