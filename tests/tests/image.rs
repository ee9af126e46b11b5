//! A flashed box, from its boot loader on: what `./dev image qemu-virt` makes runs in QEMU, trackers here
//! send to it, and it sends to a Redis here over TLS.
//!
//! Needs an image, which takes minutes to make: `./dev image qemu-virt --test` makes it and names it in
//! the environment. Without it these tests say that they are skipped.
//!
//! A killed QEMU is a pulled plug for everything in the machine. What its disk had taken, this machine's
//! memory still has: sectors that a power cut tears are not shown here, but in the spool's own tests.

#[path = "image/flashed.rs"]
mod flashed;
#[allow(dead_code, reason = "half of what other tests ask of it")]
#[path = "site/program.rs"]
mod program;

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fleet::Tracker;

use flashed::{Flashed, parts};

const IMEI: u64 = 356_307_042_441_013;

/// More than the trial in an image for tests, which is 45 s.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_is_there_after_five_power_cuts() -> Result<()> {
    let Some(mut flashed) = Flashed::start("aarch64").await? else {
        return Ok(());
    };
    flashed.machine.started("a", 1).await?;
    ensure!(flashed.machine.said().contains("provisioned from"));
    for cut in 1..=5 {
        flashed.acked(150).await?;
        flashed.machine.cut()?;
        flashed.machine.start()?;
        flashed.machine.started("a", 1 + cut).await?;
    }
    flashed.acked(150).await?;
    let imports = flashed.machine.said().matches("provisioned from").count();
    assert_eq!(imports, 1, "once, not at every start");
    let ledger = flashed.judge(PATIENCE).await?;
    eprintln!("after five power cuts: {ledger}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_gateway_has_the_watchdog_reset_the_box() -> Result<()> {
    let Some(mut flashed) = Flashed::start("aarch64").await? else {
        return Ok(());
    };
    flashed.machine.started("a", 1).await?;
    flashed.acked(50).await?;
    // A gateway that ends is started again by init, without the watchdog.
    let kill = "p=$(cat /run/gateway.pid); kill -9 $p; \
                until [ $p != $(cat /run/gateway.pid) ]; do sleep 1; done";
    flashed.machine.run(kill).await?.with(0, "")?;
    flashed.acked(50).await?;
    // One that has not answered yet is given minutes for its start.
    let seen = "until cmp -s /run/watched /run/gateway.pid; do sleep 1; done";
    flashed.machine.run(seen).await?.with(0, "")?;
    let freeze = "kill -STOP $(cat /run/gateway.pid)";
    flashed.machine.run(freeze).await?.with(0, "")?;
    flashed.machine.started("a", 2).await?;
    ensure!(
        flashed
            .machine
            .said()
            .contains("the watchdog resets the box")
    );
    flashed.acked(50).await?;
    flashed.judge(PATIENCE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_refused_kept_and_rolled_back() -> Result<()> {
    let Some(mut flashed) = Flashed::start("aarch64").await? else {
        return Ok(());
    };
    flashed.machine.started("a", 1).await?;
    flashed.acked(50).await?;
    let stick = "mount -t vfat -o ro /dev/vdb /mnt";
    flashed.machine.run(stick).await?.with(0, "")?;

    // Refused in words, and nothing has changed.
    let untouched = flashed.update("status --json").await?.with(0, "")?;
    for (file, code) in [
        ("damaged", "E-UPD-005"),
        ("unsigned", "E-UPD-003"),
        ("other-key", "E-UPD-003"),
    ] {
        let apply = format!("apply /mnt/{file}.update");
        flashed.update(&apply).await?.with(2, code)?;
        let status = flashed.update("status --json").await?;
        assert_eq!(status.out, untouched.out, "after {file}");
    }

    // Kept: what Redis has not got yet is on the data partition, whichever system reads it.
    flashed.redis()?.pause()?;
    flashed.acked(50).await?;
    let good = flashed.update("apply /mnt/good.update").await?;
    good.with(0, "version next is in slot b")?;
    flashed.reboot().await?;
    flashed.machine.started("b", 2).await?;
    flashed.update("status").await?.with(0, "on trial")?;
    // Not before Redis was reached.
    let answers = "until gateway status >/dev/null 2>&1; do sleep 1; done";
    flashed.machine.run(answers).await?.with(0, "")?;
    flashed.update("confirm").await?.with(1, "E-UPD-009")?;
    flashed.redis()?.resume()?;
    flashed.machine.says("milepost: kept", 1).await?;
    let status = flashed.update("status").await?;
    status.with(0, "version next was confirmed")?;
    flashed.acked(50).await?;

    // Rolled back: it starts and keeps what trackers say, and Redis is never reached.
    flashed.machine.run(stick).await?.with(0, "")?;
    flashed
        .update("apply /mnt/sick.update")
        .await?
        .with(0, "slot a")?;
    flashed.reboot().await?;
    flashed.machine.started("a", 3).await?;
    flashed.acked(50).await?;
    flashed.machine.started("b", 4).await?;
    ensure!(
        flashed
            .machine
            .said()
            .contains("not kept, the box goes back")
    );
    let status = flashed.update("status").await?;
    status.with(0, "version sick was rolled back")?;
    flashed.judge(PATIENCE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_with_32_bits_starts_and_answers() -> Result<()> {
    let Some(mut flashed) = Flashed::start("armv7").await? else {
        return Ok(());
    };
    flashed.machine.started("a", 1).await?;
    flashed.machine.run("uname -m").await?.with(0, "armv7l")?;
    // The fleet calls until somebody answers; then the door is open for one that calls once.
    flashed.acked(50).await?;
    let mut tracker = Tracker::connect(flashed.machine.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?, "0x01 to a login");
    flashed.judge(PATIENCE).await?;
    Ok(())
}

/// What these tests would do nothing without is named correctly in the environment, if at all.
#[test]
fn what_is_named_is_there() -> Result<()> {
    for machine in ["aarch64", "armv7"] {
        parts(machine)?;
    }
    Ok(())
}
