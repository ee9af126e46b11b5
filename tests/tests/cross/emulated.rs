//! The static gateway for ARM on the whole road: emulated trackers' frames in, Redis over TLS, rows out.
//!
//! The program is the one boxes get, run by qemu-user; everything else runs on this machine as it is.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests::drive::{self, Drive};
use tests::processes::RoadOptions;

use super::given;

/// Records that are asked for after the gateway was killed.
const MORE: u64 = 200;

/// `$1` runs programs of the other machine, `$2` is ours of it; `$3`, the gateway of this machine, which the
/// road would start, is left out. An emulator may be missing: on that machine itself.
const INSTEAD: &str = r#"IFS= emulator=$1 binary=$2; shift 3; exec $emulator "$binary" "$@""#;

fn instead(machine: &str) -> Option<(PathBuf, Vec<OsString>)> {
    let binary = given(&format!("MILEPOST_CROSS_{machine}"), "./dev cross")?;
    let emulator = std::env::var_os(format!("MILEPOST_EMULATOR_{machine}")).unwrap_or_default();
    let mut words: Vec<OsString> = ["/bin/sh", "-c", INSTEAD, "sh"].map(Into::into).into();
    words.extend([emulator, binary.clone()]);
    Some((binary.into(), words))
}

/// Drives through the gateway for `machine`, kills it on the way, and compares record by record.
async fn nothing_is_lost(machine: &str) -> Result<()> {
    let Some((binary, words)) = instead(machine) else {
        return Ok(());
    };
    let options = RoadOptions {
        gateway_by: words,
        ..drive::options()
    };
    let mut drive = Drive::start(options).await?;
    let pid = drive.road.gateway.pid().context("it runs")?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let line = String::from_utf8_lossy(&line).into_owned();
    ensure!(
        line.contains(binary.to_str().context("a path of UTF-8")?),
        "another program runs: {line}"
    );
    drive.road.gateway.kill9()?;
    drive.road.gateway.restart().await?;
    drive.acked(MORE).await?;
    let ledger = drive.judge().await?;
    eprintln!(
        "{machine}: {} sent, {} ACKed, {} rows",
        ledger.sent, ledger.acked, ledger.stored
    );
    drive.road.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_for_aarch64_loses_nothing() -> Result<()> {
    nothing_is_lost("AARCH64").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_for_armv7_loses_nothing() -> Result<()> {
    nothing_is_lost("ARMV7").await
}
