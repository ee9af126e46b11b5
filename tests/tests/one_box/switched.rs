//! From Redis to the socket and back, in the middle of everything.

use anyhow::{Context as _, Result, ensure};
use tests::drive::{Drive, options};
use tests::processes::{Road, through_redis, through_socket};

use super::ends_well;

/// Whom the gateway sends to from the next start on.
fn aim(road: &mut Road, direct: bool) -> Result<()> {
    let socket = road.socket();
    let uplink = match direct {
        true => through_socket(&socket),
        false => through_redis(road.redis_access(), tests::servers::GATEWAY)?,
    };
    uplink
        .into_iter()
        .for_each(|setting| road.gateway.set(setting));
    let socket = match direct {
        true => socket.to_str().context("UTF-8")?.to_owned(),
        false => String::new(),
    };
    road.cloud.set(("spool.socket", socket.into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_politely_and_by_killing_loses_and_doubles_nothing() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    for (turn, direct) in [true, false, true, false].into_iter().enumerate() {
        drive.stored(200).await?;
        aim(&mut drive.road, direct)?;
        if turn % 2 == 0 {
            // Half of what was sent is still with the one that is left behind.
            drive.road.gateway.kill9()?;
            drive.road.cloud.kill9()?;
        } else {
            drive.road.stop().await?;
        }
        drive.road.cloud.restart().await?;
        drive.road.gateway.restart().await?;
    }
    drive.stored(200).await?;
    // Redis again: what still lay in it from before is read last of all, and changes nothing.
    ends_well(&drive).await?;
    Ok(())
}

/// What Redis held when it was left is sent over the socket as well, and read from Redis later.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_unread_in_redis_is_stored_once() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.road.cloud.pause()?;
    drive.acked(400).await?;
    drive.road.cloud.resume()?;
    drive.road.cloud.kill9()?;
    drive.acked(400).await?;
    drive.road.gateway.terminate().await?;
    aim(&mut drive.road, true)?;
    drive.road.cloud.restart().await?;
    drive.road.gateway.restart().await?;
    drive.caught_up().await?;
    drive.road.gateway.terminate().await?;
    aim(&mut drive.road, false)?;
    drive.road.cloud.restart().await?;
    drive.road.gateway.restart().await?;
    drive.stored(200).await?;
    ends_well(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_the_socket_carries_everything() -> Result<()> {
    let mut drive = Drive::start(options()).await?;
    drive.redis()?.stop().await?;
    drive.acked(300).await?;
    // Without: it waits in the spool.
    ensure!(
        drive.road.gateway.status().await?["spool"]["backlog"].as_u64() > Some(0),
        "the spool holds them"
    );
    // With: rows grow while Redis is still away.
    aim(&mut drive.road, true)?;
    drive.road.cloud.terminate().await?;
    drive.road.cloud.restart().await?;
    drive.road.gateway.terminate().await?;
    drive.road.gateway.restart().await?;
    drive.stored(800).await?;
    drive.redis()?.restart().await?;
    aim(&mut drive.road, false)?;
    drive.road.stop().await?;
    drive.road.cloud.restart().await?;
    drive.road.gateway.restart().await?;
    drive.stored(300).await?;
    ends_well(&drive).await?;
    Ok(())
}
