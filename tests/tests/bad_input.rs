//! What comes in wrong: refused clearly, logged with peer and reason, and nothing else disturbed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions, program_path};
use tests::tables::{Tables, eventually};
use tokio::process::Command;

const IMEI: u64 = 356_307_042_441_013;
/// Wiki "Codec", Codec 8 example 1.
const FRAME: &str = "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E0000000000000000010000C7CF";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_conversation_ends_and_its_neighbour_notices_nothing() -> Result<()> {
    let options = RoadOptions {
        gateway: vec![
            ("listen.handshake_timeout", Value::from("3s")),
            ("listen.frame_timeout", Value::from("1s")),
            ("listen.idle_timeout", Value::from("6s")),
            ("listen.frame_bytes_max", Value::from(2_000)),
        ],
        ..RoadOptions::default()
    };
    let road = Road::start(options).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let frame = hex::decode(FRAME)?;
    let mut neighbour = Tracker::connect(road.gateway.tcp_addr(), 350_000_000_000_007).await?;
    ensure!(neighbour.login().await?);
    // It says that it lives, as trackers do on an idle link; otherwise it would be too idle itself.
    let (done, mut stop) = tokio::sync::oneshot::channel::<()>();
    let neighbour = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        while stop.try_recv().is_err() {
            pace.tick().await;
            neighbour.send_raw(&[0xFF]).await?;
        }
        anyhow::Ok(neighbour)
    });

    // What is said before a login was accepted; the answer; what the log must name.
    let strangers: [(&[u8], Option<u8>, &str); 6] = [
        (b"\x00\x0e35630704244101", Some(0), "login is not an IMEI"),
        (b"\x00\x0f35630704244101X", Some(0), "login is not an IMEI"),
        (b"GET / HTTP/1.1\r\n\r\n", None, "cannot be followed"),
        (
            b"\x00\x00\x00\x00\x00\x00\x00\x36",
            None,
            "cannot be followed",
        ),
        (b"\x00", None, "no login within 3 s"),
        (b"", None, "no login within 3 s"),
    ];
    for (bytes, answer, reason) in strangers {
        let before = log_bytes(&road)?;
        let mut stranger = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
        stranger.send_raw(bytes).await?;
        if let Some(answer) = answer {
            ensure!(stranger.read_byte().await? == answer, "{bytes:?}");
        }
        ensure!(
            stranger.closed_by_peer().await?,
            "{bytes:?} is not hung up on"
        );
        logged(&road, before, reason)
            .await
            .with_context(|| format!("{bytes:?}"))?;
    }

    // What is said by a tracker that was let in.
    let oversize = [&[0; 4][..], &5_000u32.to_be_bytes()].concat();
    let guests: [(&[u8], &str); 4] = [
        (b"\x01garbage", "cannot be followed"),
        (&oversize, "cannot be followed"),
        (&frame[..30], "not complete within 1 s"),
        (b"", "no byte for 6 s"),
    ];
    for (bytes, reason) in guests {
        let before = log_bytes(&road)?;
        let mut guest = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
        ensure!(guest.login().await?);
        guest.send_raw(bytes).await?;
        ensure!(guest.closed_by_peer().await?, "{bytes:?} is not hung up on");
        logged(&road, before, reason)
            .await
            .with_context(|| format!("{bytes:?}"))?;
    }

    // A drip that never ends is cut off although no byte is late.
    let mut dripping = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(dripping.login().await?);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut dripped = 0;
    for byte in &frame {
        pace.tick().await;
        if dripping.send_raw(&[*byte]).await.is_err() {
            break;
        }
        dripped += 1;
    }
    ensure!(dripped < frame.len(), "the drip got through");

    // A damaged frame is answered 0, and the same connection goes on.
    let mut bent = frame.clone();
    bent[20] ^= 1;
    let mut guest = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(guest.login().await?);
    guest.send_raw(&bent).await?;
    ensure!(guest.read_ack().await? == 0);
    guest.send_raw(&frame).await?;
    ensure!(guest.read_ack().await? == 1);
    let _ = done.send(());
    let mut neighbour = neighbour.await??;
    neighbour.send_raw(&frame).await?;
    ensure!(neighbour.read_ack().await? == 1);
    tables.wait_for("SELECT count(*) FROM positions", 2).await?;
    ensure!(
        !std::fs::read_to_string(road.gateway.log())?.contains("356307042441013"),
        "IMEIs are shortened in the log"
    );
    Ok(())
}

fn log_bytes(road: &Road) -> Result<usize> {
    Ok(std::fs::metadata(road.gateway.log())?.len().try_into()?)
}

/// Waits for a line behind the first `before` bytes of the log that gives a peer and this reason.
async fn logged(road: &Road, before: usize, reason: &str) -> Result<()> {
    eventually(reason, async || {
        let log = std::fs::read_to_string(road.gateway.log())?;
        let mut lines = log[before..].lines();
        Ok(lines.any(|line| line.contains(reason) && line.contains("peer\":\"127.0.0.1:")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_gateway_refuses_strangers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let list = dir.path().join("imeis.txt");
    std::fs::write(&list, "350000000000007 # the van\n")?;
    let options = RoadOptions {
        gateway: vec![
            ("access.mode", Value::from("list")),
            ("access.list", Value::from(list.to_str().context("UTF-8")?)),
        ],
        ..RoadOptions::default()
    };
    let road = Road::start(options).await?;
    let mut van = Tracker::connect(road.gateway.tcp_addr(), 350_000_000_000_007).await?;
    ensure!(van.login().await?);
    let mut stranger = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(!stranger.login().await?);
    ensure!(stranger.closed_by_peer().await?);
    ensure!(road.gateway.status().await?["logins_refused"] == 1);
    Ok(())
}

/// Runs one of our programs to its end: exit code and what it said.
async fn run(program: &str, file: &str, words: &[&str]) -> Result<(Option<i32>, String)> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("settings.toml");
    std::fs::write(&config, file)?;
    let mut command = Command::new(program_path(program)?);
    command
        .env_clear()
        .args(words)
        .arg("--config")
        .arg(&config)
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    let output = output.with_context(|| format!("{program} {words:?} does not end"))??;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_refused_with_the_place_and_the_nearest_name() -> Result<()> {
    let cases = [
        (
            "gateway",
            "[uplink]\nulr = \"redis://x/\"\n",
            &["line 2", "`uplink.url`"][..],
        ),
        (
            "gateway",
            "[spool]\nbytes_max = \"lots\"\n",
            &["spool.bytes_max", "line 2"],
        ),
        (
            "gateway",
            "[gateway]\nid = \"a b\"\n",
            &["gateway.id", "a b"],
        ),
        (
            "gateway",
            "[access]\nmode = \"opne\"\n",
            &["access.mode", "open"],
        ),
        ("gateway", "[listen\n", &["line 1"]),
        (
            "cloud",
            "[redis]\nulr = \"redis://x/\"\n",
            &["line 2", "`redis.url`"],
        ),
        (
            "cloud",
            "[store]\nbatch_wait = \"soon\"\n",
            &["store.batch_wait", "line 2"],
        ),
        (
            "cloud",
            "[database]\ntimescale = \"maybe\"\n",
            &["database.timescale", "auto"],
        ),
    ];
    for (program, file, words) in cases {
        let (code, said) = run(program, file, &["run"]).await?;
        ensure!(
            code == Some(2),
            "{program} with {file:?}: exit {code:?}: {said}"
        );
        for word in words {
            ensure!(
                said.contains(word),
                "{program} with {file:?} does not say {word:?}: {said}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_named_without_its_password_and_tried_again() -> Result<()> {
    let options = RoadOptions {
        gateway: vec![
            (
                "uplink.url",
                Value::from("rediss://someone:secret@127.0.0.1:1/"),
            ),
            ("uplink.retry_max", Value::from("300ms")),
        ],
        ..RoadOptions::default()
    };
    let road = Road::start(options).await?;
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    tracker.send_raw(&hex::decode(FRAME)?).await?;
    ensure!(
        tracker.read_ack().await? == 1,
        "the gateway keeps accepting"
    );
    let log = || std::fs::read_to_string(road.gateway.log());
    eventually("three attempts", async || {
        Ok(log()?.matches("rediss://someone:***@127.0.0.1:1/").count() >= 4)
    })
    .await?;
    ensure!(!log()?.contains("secret"), "no password in the log");

    let (code, said) = run(
        "cloud",
        "[database]\nurl = \"postgres://someone:secret@127.0.0.1:1/milepost\"\n",
        &["migrate", "status"],
    )
    .await?;
    ensure!(code == Some(3), "exit {code:?}: {said}");
    ensure!(
        said.contains("127.0.0.1:1") && !said.contains("secret"),
        "{said}"
    );
    Ok(())
}
