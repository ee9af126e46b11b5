//! Either side, or the database, dies in mid-stream.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::drive::Drive;
use tests::fail_points::{arm, died};
use tests::tables::eventually;

use super::{direct, ends_well, uplink};

/// When to kill, in records ACKed after the last rows were seen; see `outage.rs`.
const MOMENTS: [u64; 4] = [1, 60, 120, 200];

/// Places at which the cloud may die on the way from an entry to what is told of it.
const PLACES: [&str; 6] = [
    "decoded",
    "before-begin",
    "rows-copied",
    "settled-written",
    "before-commit",
    "after-commit",
];

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_cloud_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    drive.kill_cloud(&MOMENTS).await?;
    ends_well(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloud_may_die_at_any_place_of_writing() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    for (number, name) in (0..).zip(PLACES) {
        let cloud = &mut drive.road.cloud;
        arm(cloud, name, 1 + number % 3).await;
        died(cloud, name).await?;
        cloud.restart().await?;
        drive.caught_up().await.context(name)?;
    }
    ends_well(&drive).await?;
    Ok(())
}

/// What a dead cloud had in memory goes up again at once, long before it would be overdue.
#[tokio::test(flavor = "multi_thread")]
async fn another_cloud_is_given_everything_at_once() -> Result<()> {
    let mut options = direct();
    options.gateway = vec![
        ("uplink.resend_after", "600s".into()),
        ("uplink.retry_max", "1s".into()),
    ];
    let mut drive = Drive::start(options).await?;
    drive.postgres()?.stop().await?;
    eventually("much is on its way", async || {
        Ok(uplink(&drive.road, "in_flight_bytes").await?.as_u64() > Some(30_000))
    })
    .await?;
    drive.road.cloud.kill9()?;
    drive.postgres()?.restart().await?;
    drive.road.cloud.restart().await?;
    drive.caught_up().await?;
    ends_well(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_gateway_loses_nothing_acked() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    drive.kill_gateway(&MOMENTS).await?;
    ends_well(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_killed_database_is_sat_out() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    drive.postgres()?.stop().await?;
    drive.acked(500).await?;
    let is_up = uplink(&drive.road, "connected").await?;
    ensure!(is_up == true, "the socket answers all the while");
    drive.postgres()?.restart().await?;
    drive.stored(500).await?;
    drive.postgres()?.kill9()?;
    drive.acked(200).await?;
    // Both at once: what the cloud had taken is gone with it.
    drive.road.cloud.kill9()?;
    drive.acked(100).await?;
    drive.postgres()?.restart().await?;
    drive.road.cloud.restart().await?;
    drive.stored(300).await?;
    ends_well(&drive).await?;
    Ok(())
}

/// A gateway that cannot reach its cloud says so, and sends when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_cloud_the_spool_keeps_everything_and_the_cause_is_named() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    drive.road.cloud.terminate().await?;
    drive.acked(400).await?;
    eventually("the cause is named", async || {
        Ok(uplink(&drive.road, "cause").await? == "refused")
    })
    .await?;
    ensure!(
        drive.road.gateway.status().await?["spool"]["backlog"].as_u64() > Some(0),
        "the spool holds them"
    );
    tokio::time::timeout(Duration::from_secs(60), drive.road.cloud.restart()).await??;
    drive.stored(400).await?;
    ends_well(&drive).await?;
    Ok(())
}
