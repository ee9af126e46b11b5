//! The gateway binary on a board made of files: what its light says, whom its watchdog trusts, what
//! a supply that goes does to acknowledgements, and what `gateway check` finds.
//!
//! The files are real ones below a directory of the test's own, which is what `board.root` is for;
//! Redis, trackers and the process are real as ever.
#![allow(clippy::unwrap_used)]

#[path = "board/frozen.rs"]
mod frozen;
#[path = "board/serial.rs"]
mod serial;
#[path = "board/tree.rs"]
mod tree;
#[path = "board/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hardware::LedState;
use serde_json::Value;
use tests::edge::{EDGE, entries_of};
use tests::fleet::Tracker;
use tests::processes::{Gateway, Ran, Setting, get, program_path};
use tests::servers::{Redis, skipped};
use tests::tables::eventually;

use tree::{ONLINE, Tree, WATCHDOG};

/// The manufacturer's documentation uses it.
const IMEI: u64 = 356_307_042_441_013;

/// Longer than two meals of a watchdog of [`tree::TIMEOUT_S`].
const HUNGRY: Duration = Duration::from_secs(3);

async fn start(tree: &Tree, redis: &Redis, more: &[Setting]) -> Result<Gateway> {
    let mut settings = vec![
        ("board.file", tree.profile()?.into()),
        ("board.root", tree.root().into()),
        ("uplink.retry_max", "500ms".into()),
        ("uplink.flush", "20ms".into()),
    ];
    settings.extend_from_slice(more);
    Gateway::start(tree.dir(), None, EDGE, redis, &settings).await
}

async fn tracker(gateway: &Gateway, imei: u64) -> Result<Tracker> {
    let mut tracker = Tracker::connect(gateway.tcp_addr(), imei).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}

/// A data field that no record can be read from; kept all the same, and known by `number`.
fn data(number: u64) -> Vec<u8> {
    let mut data = vec![0; 40];
    data[..2].copy_from_slice(&[8, 1]);
    data[2..10].copy_from_slice(&number.to_be_bytes());
    data[39] = 1;
    data
}

fn frame(number: u64) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    codec::encode::frame(&data(number), &mut frame)?;
    Ok(frame)
}

/// The numbers of all frames in Redis.
async fn arrived(redis: &Redis) -> Result<BTreeSet<u64>> {
    let mut admin = tests::edge::admin(redis).await?;
    let mut numbers = BTreeSet::new();
    for entry in entries_of(&mut admin, tests::edge::STREAM).await? {
        let payload = contract::Payload::open(&entry.coding, &entry.data)?;
        for envelope in payload.envelopes()? {
            numbers.insert(u64::from_be_bytes(envelope.bytes[2..10].try_into()?));
        }
    }
    Ok(numbers)
}

async fn until_light(tree: &Tree, state: LedState) -> Result<()> {
    eventually(&format!("the light says {}", state.as_str()), async || {
        Ok(tree.light().await? == Some(state))
    })
    .await
}

async fn until_power(gateway: &Gateway, power: &str) -> Result<()> {
    eventually(&format!("the supply is {power}"), async || {
        Ok(gateway.status().await?["board"]["power"] == power)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_light_follows_redis_going_away_and_coming_back() -> Result<()> {
    let mut redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    let mut gateway = start(&tree, &redis, &[]).await?;
    assert_eq!(tree.read("/sys/class/leds/green/trigger")?, "none");
    until_light(&tree, LedState::Moving).await?;
    redis.stop().await?;
    let mut one = tracker(&gateway, IMEI).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1, "it is only the link");
    until_light(&tree, LedState::Buffering).await?;
    redis.restart().await?;
    until_light(&tree, LedState::Moving).await?;
    eventually("the record went up", async || {
        Ok(arrived(&redis).await? == [1].into())
    })
    .await?;
    gateway.terminate().await?.context("it ran")?;
    assert_eq!(tree.light().await?, None, "dark and still");
    assert_eq!(tree.lamps()?, Some((false, false)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_closes_the_watchdog_and_a_kill_leaves_it_armed() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    let mut gateway = start(&tree, &redis, &[]).await?;
    tree.until_fed_again().await?;
    let (_, metrics) = get(gateway.http_addr(), "/metrics").await?;
    ensure!(metrics.contains("milepost_gateway_board_watchdog_fed 1\n"));
    let log = std::fs::read_to_string(gateway.log())?;
    // A file takes everything and has no time of its own.
    ensure!(log.contains("W-BRD-102"), "{log}");
    let status = gateway.terminate().await?.context("it ran")?;
    ensure!(status.success(), "{status}");
    let fed = tree.read(WATCHDOG)?;
    ensure!(fed.ends_with(".V"), "closed last: {fed}");

    tree.write(WATCHDOG, "")?;
    gateway.restart().await?;
    tree.until_fed_again().await?;
    gateway.kill9()?;
    let fed = tree.read(WATCHDOG)?;
    ensure!(fed.ends_with('.'), "armed: {fed}");
    Ok(())
}

/// A debugger holds the threads of the runtime, doors and attendant and all.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_stages_stand_still_is_not_fed_any_more() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    let mut gateway = start(&tree, &redis, &[]).await?;
    tree.until_fed_again().await?;
    let pid = gateway.pid().context("it runs")?;
    let Some(frozen) = frozen::freeze(pid, "tokio")? else {
        return skipped("threads that stand still: this user may not hold them");
    };
    // A door may be silent for thirty seconds.
    let deadline = Instant::now() + Duration::from_secs(75);
    while tree.is_fed_within(HUNGRY).await? {
        ensure!(Instant::now() < deadline, "fed for ever");
    }
    assert_eq!(tree.light().await?, Some(LedState::AtRisk), "it knows");
    ensure!(!tree.is_fed_within(HUNGRY).await?, "and stays so");
    ensure!(gateway.ended()?.is_none());
    drop(frozen);
    tree.until_fed_again().await?;
    gateway.terminate().await?.context("it ran")?;
    ensure!(tree.read(WATCHDOG)?.ends_with(".V"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_supply_ends_the_acknowledgements_until_it_is_back() -> Result<()> {
    let mut redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    let mut gateway = start(&tree, &redis, &[]).await?;
    // What is acknowledged from here on is in the spool and nowhere else.
    redis.stop().await?;
    let mut one = tracker(&gateway, IMEI).await?;
    for number in 0..20 {
        assert_eq!(one.send_frame(&data(number)).await?, 1);
    }
    tree.write(ONLINE, "0\n")?;
    until_power(&gateway, "failing").await?;
    one.send_raw(&frame(20)?).await?;
    ensure!(one.stays_silent(Duration::from_millis(1_500)).await?);
    until_light(&tree, LedState::AtRisk).await?;
    let (code, page) = get(gateway.http_addr(), "/ready").await?;
    ensure!(code == 503 && page.contains("supply"), "{code} {page}");
    let (_, metrics) = get(gateway.http_addr(), "/metrics").await?;
    ensure!(metrics.contains("milepost_gateway_board_power_failing 1\n"));
    ensure!(
        tree.is_fed_within(HUNGRY).await?,
        "waiting is no standing still"
    );

    tree.write(ONLINE, "1\n")?;
    assert_eq!(one.read_ack().await?, 1, "the one that waited");
    assert_eq!(one.send_frame(&data(21)).await?, 1);
    until_light(&tree, LedState::Buffering).await?;
    let (_, events) = get(gateway.http_addr(), "/events").await?;
    ensure!(
        events.contains("power-failing") && events.contains("power-back"),
        "{events}"
    );

    // This time it does not come back.
    tree.write(ONLINE, "0\n")?;
    until_power(&gateway, "failing").await?;
    one.send_raw(&frame(22)?).await?;
    ensure!(one.stays_silent(Duration::from_millis(500)).await?);
    gateway.kill9()?;
    tree.write(ONLINE, "1\n")?;
    redis.restart().await?;
    gateway.restart().await?;
    eventually("everything acknowledged is in Redis", async || {
        Ok((0..=21)
            .collect::<BTreeSet<_>>()
            .is_subset(&arrived(&redis).await?))
    })
    .await?;
    let mut again = tracker(&gateway, IMEI).await?;
    assert_eq!(
        again.send_frame(&data(22)).await?,
        1,
        "as the tracker would"
    );
    Ok(())
}

/// Frames that wait for company are written at once, and a stop in the dark acknowledges nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_supply_flushes_the_spool_and_does_not_hold_up_a_stop() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    let slow = [("spool.commit_interval_min", Value::from("5s"))];
    let mut gateway = start(&tree, &redis, &slow).await?;
    let durable = async || {
        let status = gateway.status().await?;
        status["spool"]["records_durable"]
            .as_u64()
            .context("a count")
    };
    let mut one = tracker(&gateway, IMEI).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1);
    let sent_at = Instant::now();
    one.send_raw(&frame(2)?).await?;
    // Its login answered, the frame behind it has been read.
    let mut two = tracker(&gateway, IMEI + 8).await?;
    two.send_raw(&frame(3)?).await?;
    ensure!(two.stays_silent(Duration::from_millis(200)).await?);
    assert_eq!(durable().await?, 1, "they wait for company");
    tree.write(ONLINE, "0\n")?;
    eventually("they are on disk", async || Ok(durable().await? == 3)).await?;
    let took = sent_at.elapsed();
    ensure!(took < Duration::from_secs(4), "{took:?}: nobody hurried");
    ensure!(one.stays_silent(Duration::from_millis(200)).await?);

    let stopping = Instant::now();
    let status = gateway.terminate().await?.context("it ran")?;
    ensure!(status.success() && stopping.elapsed() < Duration::from_secs(8));
    ensure!(one.closed_by_peer().await? && two.closed_by_peer().await?);
    ensure!(tree.read(WATCHDOG)?.ends_with(".V"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_of_memory_is_shown_like_any_other() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let dir = tempfile::tempdir()?;
    let settings = [("board.profile", Value::from("fake"))];
    let gateway = Gateway::start(dir.path(), None, EDGE, &redis, &settings).await?;
    eventually("its watchdog is fed", async || {
        let board = gateway.status().await?["board"].take();
        Ok(board["watchdog"]["pets"].as_u64() >= Some(1) && board["light"] == "moving")
    })
    .await?;
    let output = Command::new(program_path("gateway")?)
        .args(["status", "--config"])
        .arg(dir.path().join("gateway.toml"))
        .env_clear()
        .output()?;
    let said = Ran::of(output)?.ok()?.out;
    let line = "board     fake, light moving, watchdog fed (15 s), supply good\n";
    ensure!(said.contains(line), "{said}");
    Ok(())
}

/// What `gateway check` finds about the board: codes, in their order.
fn check(tree: &Tree, env: &[(&str, &str)]) -> Result<Vec<String>> {
    let output = Command::new(program_path("gateway")?)
        .args(["check", "--json"])
        .env_clear()
        .env("GATEWAY__GATEWAY__ID", EDGE)
        .env("GATEWAY__SPOOL__DIR", tree.dir().join("spool"))
        .env("GATEWAY__UPLINK__URL", "redis://127.0.0.1:1/")
        .env("GATEWAY__BOARD__FILE", tree.profile()?)
        .env("GATEWAY__BOARD__ROOT", tree.root())
        .envs(env.iter().copied())
        .output()?;
    let findings = Ran::of(output)?.json()?;
    let of_board = findings.iter().filter(|finding| {
        let code = finding["code"].as_str().unwrap_or_default();
        ensure_filled(finding);
        code.get(2..5) == Some("BRD")
    });
    Ok(of_board
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect())
}

/// Whatever is not good says where, why and what to do.
fn ensure_filled(finding: &Value) {
    if finding["code"].is_string() {
        for part in ["what", "where", "why", "do"] {
            assert_ne!(finding[part], "", "{finding}");
        }
    }
}

#[test]
fn check_names_what_the_board_does_not_have_and_drives_nothing() -> Result<()> {
    let tree = Tree::new()?;
    let none: [&str; 0] = [];
    assert_eq!(check(&tree, &[])?, none, "a board with nothing wrong");
    assert_eq!(tree.read(WATCHDOG)?, "", "not armed");
    assert_eq!(
        tree.read("/sys/class/leds/green/trigger")?,
        "[none] timer\n"
    );

    let unknown = [
        ("GATEWAY__BOARD__FILE", ""),
        ("GATEWAY__BOARD__PROFILE", "rpi9"),
    ];
    assert_eq!(check(&tree, &unknown)?, ["E-BRD-001"]);
    let broken = tree.write("/broken.toml", "name = 1\n")?;
    assert_eq!(
        check(&tree, &[("GATEWAY__BOARD__FILE", broken.to_str().unwrap())])?,
        ["E-BRD-001"]
    );
    let of = "/sys/class/watchdog/watchdog0";
    tree.write(&format!("{of}/nowayout"), "1\n")?;
    tree.write(&format!("{of}/max_timeout"), "2\n")?;
    tree.write("/sys/class/hwmon/hwmon3/in0_lcrit_alarm", "1\n")?;
    tree.write("/sys/block/mmcblk1/device/life_time", "0x01 0x0b\n")?;
    let warnings = ["W-BRD-102", "W-BRD-105", "W-BRD-103", "W-BRD-104"];
    assert_eq!(check(&tree, &[])?, warnings);
    tree.remove("/sys")?;
    tree.remove("/dev")?;
    assert_eq!(check(&tree, &[])?, ["W-BRD-101", "E-BRD-003", "E-BRD-002"]);
    Ok(())
}

/// A gateway on a board that lacks everything keeps records all the same, and says so with codes.
#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_lacks_everything_costs_no_record() -> Result<()> {
    let redis = tests::edge::redis(&[]).await?;
    let tree = Tree::new()?;
    tree.remove("/sys")?;
    tree.remove("/dev")?;
    let gateway = start(&tree, &redis, &[]).await?;
    let mut one = tracker(&gateway, IMEI).await?;
    assert_eq!(one.send_frame(&data(1)).await?, 1);
    let log = std::fs::read_to_string(gateway.log())?;
    for code in ["W-BRD-101", "E-BRD-002", "E-BRD-003"] {
        ensure!(log.contains(code), "{code}: {log}");
    }
    let board = gateway.status().await?["board"].take();
    assert_eq!(board["watchdog"]["state"], "missing");
    assert_eq!(
        (&board["has_light"], &board["power"]),
        (&false.into(), &Value::Null)
    );
    Ok(())
}
