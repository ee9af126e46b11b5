//! Trackers on a wire: from a pseudo-terminal to rows, with plugs that are pulled, noise and halves.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hardware::SerialPort;
use serde_json::{Value, json};
use tests::drive::PATIENCE;
use tests::edge::EDGE;
use tests::fleet::{Fleet, FleetConfig, Tracker};
use tests::processes::{Gateway, Ran, Road, RoadOptions, get, program_path};
use tests::servers::{Redis, skipped};
use tests::tables::eventually;

use super::tree::{ONLINE, Tree};
use super::wire::Wire;
use super::{IMEI, arrived, data, frame, until_power};

/// Longer than the silence that tears a message (`gateway::session::wire::SILENCE`).
const SILENCE: Duration = Duration::from_millis(1_500);

async fn start(tree: &Tree, redis: &Redis, wire: &Wire) -> Result<Gateway> {
    super::start(tree, redis, &[("listen.serial", json!([wire.device()]))]).await
}

/// The line as `/status` shows it.
async fn line(gateway: &Gateway) -> Result<Value> {
    Ok(gateway.status().await?["doors"]["serial"][0].take())
}

async fn until_open(gateway: &Gateway, open: bool) -> Result<()> {
    eventually(&format!("the line is open: {open}"), async || {
        Ok(line(gateway).await?["open"] == open)
    })
    .await
}

/// Somebody at the other end of the wire, logged in.
async fn tracker(wire: &Wire) -> Result<Tracker> {
    let mut tracker = Tracker::connect(wire.addr(), IMEI).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}

/// Every ACK is a row, once, although the plug is pulled five times in mid-stream and noise comes in
/// between; other doors are not needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_pulled_out_again_and_again_brings_every_record() -> Result<()> {
    let wire = Wire::new().await?;
    let mut options = tests::drive::options();
    options
        .gateway
        .push(("listen.serial", json!([format!("{}@9600", wire.device())])));
    let road = Road::start(RoadOptions { ..options }).await?;
    until_open(&road.gateway, false).await?;
    wire.plug()?;
    until_open(&road.gateway, true).await?;
    let fleet = Fleet::start(FleetConfig {
        to: wire.addr().to_string(),
        devices: 1,
        rate: "100".parse()?,
        records_per_frame: 3,
        ack_timeout: Duration::from_secs(2),
        backoff: (Duration::from_millis(50), Duration::from_millis(500)),
        ..road.fleet_config()
    })
    .await?;
    for round in 0..5 {
        let wanted = fleet.stats().acked + 40;
        eventually("records are acknowledged", async || {
            Ok(fleet.stats().acked >= wanted)
        })
        .await?;
        wire.noise(b"\x00\x00\x00\x00\x00\x00\x01noise").await?;
        if round % 2 == 0 {
            wire.unplug()?;
            until_open(&road.gateway, false).await?;
            wire.plug()?;
            until_open(&road.gateway, true).await?;
        }
    }
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "{:?}", fleet.stats());
    let ledger = road.clean_ledger(&fleet.truth(), PATIENCE).await?;
    ensure!(
        ledger.sent == ledger.acked && ledger.acked > 200,
        "{ledger}"
    );
    let line = line(&road.gateway).await?;
    ensure!(
        line["opens"] == 4 && line["noise_bytes"].as_u64() > Some(0),
        "{line}"
    );
    let (_, metrics) = get(road.gateway.http_addr(), "/metrics").await?;
    for row in [
        "serial_open",
        "serial_opens_total",
        "serial_noise_bytes_total",
    ] {
        let row = format!("milepost_gateway_{row}{{line=\"{}\"}} ", wire.device());
        ensure!(metrics.contains(&row), "{row} in {metrics}");
    }
    let (_, events) = get(road.gateway.http_addr(), "/events?limit=200").await?;
    let events: Value = serde_json::from_str(&events)?;
    let of = |code: &str| {
        let all = events["events"].as_array().into_iter().flatten();
        all.filter(|event| event["code"] == code)
            .map(|event| event["times"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    ensure!((of("serial-lost"), of("serial-back")) == (4, 4), "{events}");
    let (_, devices) = get(road.gateway.http_addr(), "/devices").await?;
    ensure!(devices.contains("\"transport\":\"serial\""), "{devices}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_halves_and_new_logins_cost_no_conversation() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    wire.plug()?;
    let gateway = start(&tree, &redis, &wire).await?;
    until_open(&gateway, true).await?;
    // Half a login, zeros, and the head of a frame that never comes.
    wire.noise(b"\xFE\x00\x0F3563\x00\x00\x00\x00\x00\x00\x0F\xA0\x08noise")
        .await?;
    let mut one = tracker(&wire).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1);
    // It restarts in the middle of a frame.
    one.send_raw(&frame(2)?[..30]).await?;
    ensure!(one.stays_silent(SILENCE).await?);
    let mut one = tracker(&wire).await?;
    assert_eq!(one.send_frame(&data(2)).await?, 1);
    // Bytes get lost, nobody restarts, and it sends again.
    one.send_raw(&frame(3)?[7..]).await?;
    ensure!(one.stays_silent(SILENCE).await?);
    assert_eq!(one.send_frame(&data(3)).await?, 1);
    let mut bent = frame(4)?;
    bent[20] ^= 1;
    one.send_raw(&bent).await?;
    assert_eq!(one.read_ack().await?, 0, "damaged");
    assert_eq!(one.send_frame(&data(4)).await?, 1);
    // Another tracker on the same wire, without a word of farewell.
    let mut two = Tracker::connect(wire.addr(), IMEI + 8).await?;
    ensure!(two.login().await?);
    assert_eq!(two.send_frame(&data(5)).await?, 1);
    eventually("all of it is in Redis", async || {
        Ok(arrived(&redis).await? == (1..=5).collect())
    })
    .await?;
    let line = line(&gateway).await?;
    ensure!(line["noise_bytes"].as_u64() > Some(60), "{line}");
    let output = Command::new(program_path("gateway")?)
        .args(["status", "--config"])
        .arg(tree.dir().join("gateway.toml"))
        .env_clear()
        .output()?;
    let said = Ran::of(output)?.ok()?.out;
    let shown = format!(
        "serial    {}, {} bytes of noise\n",
        wire.device(),
        line["noise_bytes"]
    );
    ensure!(said.contains(&shown), "{shown} in {said}");
    Ok(())
}

/// A tracker that waited too long has begun anew when its frame is safe at last. It would take a late
/// ACK for the answer to what it said since.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_receipt_is_not_said_to_a_tracker_that_began_anew() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    wire.plug()?;
    let gateway = start(&tree, &redis, &wire).await?;
    until_open(&gateway, true).await?;
    let mut one = tracker(&wire).await?;
    tree.write(ONLINE, "0\n")?;
    until_power(&gateway, "failing").await?;
    one.send_raw(&frame(1)?).await?;
    ensure!(one.stays_silent(Duration::from_secs(1)).await?);
    let mut login = Vec::new();
    codec::encode::login(one.imei(), &mut login)?;
    one.send_raw(&[codec::frame::PING]).await?;
    one.send_raw(&login).await?;
    ensure!(one.stays_silent(Duration::from_millis(300)).await?);
    tree.write(ONLINE, "1\n")?;
    assert_eq!(one.read_byte().await?, codec::login::ACCEPT);
    assert_eq!(one.send_frame(&data(2)).await?, 1);
    // Without a new beginning the receipt is worth waiting for.
    tree.write(ONLINE, "0\n")?;
    until_power(&gateway, "failing").await?;
    one.send_raw(&frame(3)?).await?;
    one.send_raw(&[codec::frame::PING]).await?;
    ensure!(one.stays_silent(Duration::from_millis(300)).await?);
    tree.write(ONLINE, "1\n")?;
    assert_eq!(one.read_ack().await?, 1);
    eventually("all of it is in Redis", async || {
        Ok(arrived(&redis).await? == (1..=3).collect())
    })
    .await
}

/// The gateway starts again, which the tracker does not notice: frames without a login are not
/// answered, and its next login is.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_again_finds_its_tracker() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    wire.plug()?;
    let mut gateway = start(&tree, &redis, &wire).await?;
    until_open(&gateway, true).await?;
    let mut one = tracker(&wire).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1);
    let status = gateway.terminate().await?.context("it ran")?;
    ensure!(status.success(), "{status}");
    gateway.restart().await?;
    until_open(&gateway, true).await?;
    one.send_raw(&frame(2)?).await?;
    ensure!(one.stays_silent(SILENCE).await?, "nobody has logged in");
    ensure!(one.login().await?);
    assert_eq!(one.send_frame(&data(2)).await?, 1);
    eventually("both are in Redis", async || {
        Ok(arrived(&redis).await? == [1, 2].into())
    })
    .await
}

/// `gateway check` about one line, as `user`: its codes and words.
fn check(tree: &Tree, line: &str, user: Option<u32>) -> Result<Vec<Value>> {
    let mut command = Command::new(program_path("gateway")?);
    command
        .args(["check", "--json"])
        .env_clear()
        .env("GATEWAY__GATEWAY__ID", EDGE)
        .env("GATEWAY__SPOOL__DIR", tree.dir().join("spool"))
        .env("GATEWAY__UPLINK__URL", "redis://127.0.0.1:1/")
        .env("GATEWAY__LISTEN__TCP", "")
        .env("GATEWAY__LISTEN__SERIAL", line);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let findings = Ran::of(command.output()?)?.json()?;
    let of_lines = findings.into_iter().filter(|finding| {
        super::ensure_filled(finding);
        let code = finding["code"].as_str().unwrap_or_default();
        let said = finding["what"].as_str().unwrap_or_default();
        code.get(2..5) == Some("SER") || said.contains("listen.serial")
    });
    Ok(of_lines.collect())
}

fn codes(findings: &[Value]) -> Vec<&str> {
    let codes = findings.iter().map(|finding| &finding["code"]);
    codes.map(|code| code.as_str().unwrap_or("good")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong_with_a_line() -> Result<()> {
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    let line = wire.device().to_owned();
    assert_eq!(codes(&check(&tree, &line, None)?), ["E-SER-001"]);
    wire.plug()?;
    assert_eq!(codes(&check(&tree, &line, None)?), ["good"]);
    let held = SerialPort::open(&line.parse()?)?;
    assert_eq!(codes(&check(&tree, &line, None)?), ["E-SER-003"]);
    drop(held);
    wire.point_to(&tree.dir().join("profile.toml"))?;
    assert_eq!(codes(&check(&tree, &line, None)?), ["E-SER-004"]);
    for wrong in ["@12", "@9600-7E1", "@"] {
        let said = check(&tree, &format!("{line}{wrong}"), None)?;
        let said = serde_json::to_string(&said)?;
        ensure!(
            said.contains("/dev/ttyS1@9600-8E1") && said.contains("50 to 4000000"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_group_may_use_a_line() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    wire.plug()?;
    let line = wire.behind()?;
    if !rustix::process::geteuid().is_root() {
        return skipped("a user without rights: only root can become one");
    }
    std::fs::set_permissions(&line, std::fs::Permissions::from_mode(0o620))?;
    let said = match check(&tree, line.to_str().context("UTF-8")?, Some(NOBODY)) {
        Ok(said) => said,
        Err(error) => return skipped(&format!("a user without rights: {error:#}")),
    };
    assert_eq!(codes(&said), ["E-SER-002"]);
    let group = group_of(&line)?;
    let remedy = said[0]["do"].as_str().unwrap_or_default();
    ensure!(
        remedy.contains(&format!("usermod -aG {group} milepost")),
        "{said:?}"
    );
    Ok(())
}

/// As `stat` says it.
fn group_of(path: &Path) -> Result<String> {
    let output = Command::new("stat").args(["-c", "%G"]).arg(path).output()?;
    Ok(Ran::of(output)?.ok()?.out.trim().to_owned())
}

/// A gateway with nothing but a wire that is not there runs, says so once, and sees it come.
#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_not_there_is_waited_for() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let (tree, wire) = (Tree::new()?, Wire::new().await?);
    let mut gateway = start(&tree, &redis, &wire).await?;
    eventually("it says what is the matter", async || {
        Ok(line(&gateway).await?["trouble"] == "there is no such device")
    })
    .await?;
    wire.point_to(&tree.dir().join("profile.toml"))?;
    eventually("another thing is the matter", async || {
        Ok(line(&gateway).await?["trouble"] == "it is no serial port")
    })
    .await?;
    std::fs::remove_file(wire.device())?;
    wire.plug()?;
    // Whoever has just plugged it in need not wait.
    gateway.hang_up()?;
    until_open(&gateway, true).await?;
    let mut one = tracker(&wire).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1);
    let log = std::fs::read_to_string(gateway.log())?;
    for code in ["E-SER-001", "E-SER-004"] {
        assert_eq!(log.matches(code).count(), 1, "{code} in {log}");
    }
    Ok(())
}
