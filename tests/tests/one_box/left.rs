//! A spool whose gateway is gone is emptied into the database.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::drive::Drive;
use tests::processes::program_path;
use tests::tables::eventually;

use super::{cloud, direct, until_forgotten};

fn spool(drive: &Drive) -> Result<(PathBuf, String)> {
    let dir = drive.road.dir().join("spool");
    let text = dir.to_str().context("UTF-8")?.to_owned();
    Ok((dir, text))
}

/// Trackers were ACKed, then everything but the database is dead.
async fn left_behind() -> Result<Drive> {
    let mut drive = Drive::start(direct()).await?;
    drive.road.cloud.kill9()?;
    drive.acked(1_000).await?;
    drive.road.gateway.kill9()?;
    // Nobody answers them any more: what they still send is not ACKed.
    drive.fleet.stop().await;
    Ok(drive)
}

/// Everything ACKed is a row, once. Some that were kept may never have been ACKed: the gateway died.
async fn all_is_there(drive: &Drive) -> Result<()> {
    let truth = drive.fleet.truth();
    let ledger = drive
        .road
        .settled_ledger(&truth, Duration::ZERO, |_| {})
        .await?;
    ensure!(
        ledger.is_clean() && ledger.stored >= ledger.acked,
        "{ledger}"
    );
    ensure!(ledger.acked > 1_000, "{ledger}");
    drive.road.cloud.call(&["ledger", "--since", "all"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_left_is_stored_once_and_marked_as_stored() -> Result<()> {
    let mut drive = left_behind().await?;
    let (_, dir) = spool(&drive)?;
    let ran = cloud(&drive.road, &["run", "--json", "--from-spool", &dir]).await?;
    let told = ran.ok()?.json()?;
    let told = told.last().context("a summary")?;
    assert_eq!(
        (&told["left"], &told["lost"]),
        (&0.into(), &0.into()),
        "{told}"
    );
    ensure!(told["records_stored"].as_u64() > Some(500), "{told}");
    all_is_there(&drive).await?;
    // Again: there is nothing left to do, and it says so.
    let again = cloud(&drive.road, &["run", "--from-spool", &dir])
        .await?
        .ok()?;
    ensure!(again.out.contains("drained 0 of 0 frames"), "{again:?}");
    // Its gateway takes it up where it was left, and has nothing to send.
    drive.road.cloud.restart().await?;
    drive.road.gateway.restart().await?;
    until_forgotten(&drive.road).await?;
    let sent = drive.road.gateway.status().await?["uplink"]["records_sent"].clone();
    assert_eq!(sent, 0);
    all_is_there(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_may_be_killed_and_called_again() -> Result<()> {
    let drive = left_behind().await?;
    let (_, dir) = spool(&drive)?;
    for place in ["before-begin", "before-commit", "after-commit"] {
        let output = tokio::process::Command::new(program_path("cloud")?)
            .args(["run", "--from-spool", &dir, "--config"])
            .arg(drive.road.dir().join("cloud.toml"))
            .env_clear()
            .env("MILEPOST_FAIL_POINT", place)
            .stdin(Stdio::null())
            .output();
        let output = output.await?;
        ensure!(!output.status.success(), "{place}: {output:?}");
    }
    cloud(&drive.road, &["run", "--from-spool", &dir])
        .await?
        .ok()?;
    all_is_there(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_in_use_is_refused_and_its_gateway_goes_on() -> Result<()> {
    let drive = Drive::start(direct()).await?;
    let (_, dir) = spool(&drive)?;
    let ran = cloud(&drive.road, &["run", "--from-spool", &dir])
        .await?
        .with(3)?;
    let pid = drive.road.gateway.pid().context("it runs")?;
    let holder = format!("is in use by process {pid} (gateway)");
    ensure!(ran.err.contains(&holder), "{holder}: {ran:?}");
    ensure!(ran.err.contains("stop it first"), "{ran:?}");
    drive.stored(200).await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_spool_is_refused_and_not_made_one() -> Result<()> {
    let drive = left_behind().await?;
    let empty = drive.road.dir().join("empty");
    std::fs::create_dir(&empty)?;
    let ran = cloud(
        &drive.road,
        &["run", "--from-spool", empty.to_str().unwrap()],
    )
    .await?;
    ensure!(ran.with(2)?.err.contains("is no spool of a gateway"));
    assert_eq!(
        std::fs::read_dir(&empty)?.count(),
        0,
        "nothing was made in it"
    );
    Ok(())
}

/// A commit of the spool is damaged: what is lost is told to the database, the rest is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_spool_gives_what_it_has_and_says_what_it_lost() -> Result<()> {
    let drive = left_behind().await?;
    let (path, dir) = spool(&drive)?;
    // Whatever a commit holds, its frames name the codec; turn over a byte inside the largest file.
    let damaged = damage(&path)?;
    ensure!(damaged, "a commit was found");
    let ran = cloud(&drive.road, &["run", "--json", "--from-spool", &dir]).await?;
    let told = ran.ok()?.json()?;
    let lost = told.last().context("a summary")?["lost"].as_i64();
    ensure!(lost > Some(0), "{told:?}");
    eventually("the loss is in the ledger", async || {
        let gaps: (i64,) = drive
            .tables
            .one("SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint FROM settled WHERE received = dropped")
            .await?;
        Ok(Some(gaps.0) >= lost)
    })
    .await
}

/// Turns over one byte in the middle of what was written to a segment of the normal lane.
fn damage(dir: &std::path::Path) -> Result<bool> {
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("seg-")) {
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if used > 100_000 {
            bytes[used / 2 / 4096 * 4096 + 60] ^= 0xff;
            std::fs::write(&path, bytes)?;
            return Ok(true);
        }
    }
    Ok(false)
}
