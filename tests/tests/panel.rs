//! What an operator sees of a running gateway: the page, the figures behind it, the tap, the log
//! and what the service manager hears.
//!
//! The binary runs as an operator runs it; trackers are sockets that speak the protocol. Most of it
//! needs no Redis: a gateway without one is a gateway offline.
#![allow(clippy::unwrap_used)]

#[path = "panel/bundle.rs"]
mod bundle;
#[path = "panel/changes.rs"]
mod changes;
#[path = "panel/flashed.rs"]
mod flashed;
#[path = "panel/gateway_box.rs"]
mod gateway_box;
#[path = "panel/json.rs"]
mod json;
#[path = "panel/page.rs"]
mod page;
#[path = "panel/support.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tests::fleet::Tracker;
use tests::processes::{Gateway, get};
use tests::servers::{GATEWAY, Redis, RedisOptions};
use tests::tables::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use gateway_box::GatewayBox;

/// The manufacturer's documentation uses it.
const IMEI: u64 = 356_307_042_441_013;
const SHORT: &str = "35630…013";

/// "FM64/FMB64 Protocols" V.05, section 1.6: one record with a fix near Vilnius in July 2013.
const VECTOR: &str = "000000000000008C08010000013FEB55FF74000F0EA850209A690000940000120000001E09010002000300040016014703F0001504C8000C0900730A00460B00501300464306D7440000B5000BB60007422E9F180000CD0386CE000107C700000000F10000601A46000001344800000BB84900000BB84A00000BB84C00000000024E0000000000000000CF00000000000000000100003FCA";

fn vector() -> Vec<u8> {
    hex::decode(VECTOR).unwrap()
}

async fn tracker(gateway: &GatewayBox) -> Result<Tracker> {
    let mut tracker = Tracker::connect(gateway.tcp(), IMEI).await?;
    ensure!(tracker.login().await?, "refused");
    Ok(tracker)
}

/// A tracker of which the gateway has a frame; then the learn window is closed and somebody sent away.
async fn one_known_one_refused(gateway: &GatewayBox) -> Result<Tracker> {
    let mut known = tracker(gateway).await?;
    known.send_raw(&vector()).await?;
    ensure!(known.read_ack().await? == 1);
    gateway.call(&["device", "learn", "--for", "0s"]).await?;
    let mut stranger = Tracker::connect(gateway.tcp(), 356_307_042_441_021).await?;
    ensure!(!stranger.login().await?, "not sent away");
    Ok(known)
}

/// The first line of a tap while a tracker sends.
async fn tapped_line(tap: &mut gateway_box::Killed, tracker: &mut Tracker) -> Result<String> {
    let mut shown = tap.lines()?;
    // It shows what comes after it began to watch, which nobody tells us.
    let mut line = None;
    eventually("a frame is shown", async || {
        tracker.send_raw(&vector()).await?;
        ensure!(tracker.read_ack().await? == 1);
        line = line.take().or(shown.try_recv().ok());
        Ok(line.is_some())
    })
    .await?;
    line.context("a line")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_one_small_file_that_nobody_caches_and_nobody_may_post_to() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let (code, page) = get(gateway.http(), "/").await?;
    assert_eq!(code, 200);
    assert!(page.len() <= 60 * 1024 && page.trim_end().ends_with("</html>"));
    for outside in ["http:", "https:", "src=", "<link", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for (request, first) in [
        ("GET / HTTP/1.0", "200"),
        ("POST /status HTTP/1.0", "405"),
        ("DELETE /devices HTTP/1.0", "405"),
        ("GET /nowhere HTTP/1.0", "404"),
        ("GET /devices?limit=x HTTP/1.0", "400"),
        ("GET /tap?imei=12 HTTP/1.0", "400"),
    ] {
        let head = head(&gateway, request).await?;
        assert_eq!(head.split(' ').nth(1), Some(first), "{request}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("cache-control: no-store"), "{head}");
        assert!(
            head.contains("content-security-policy: default-src 'none'"),
            "{head}"
        );
        assert!(!head.contains("access-control"), "{head}");
    }
    Ok(())
}

/// The header of the answer.
async fn head(gateway: &GatewayBox, request: &str) -> Result<String> {
    let mut socket = tokio::net::TcpStream::connect(gateway.http()).await?;
    let request = format!("{request}\r\nHost: x\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let (head, _) = answer.split_once("\r\n\r\n").context("no header")?;
    Ok(head.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_shown_where_it_said_it_was_and_its_imei_is_short_everywhere() -> Result<()> {
    let gateway = GatewayBox::start("[log]\nlevel = \"debug\"", &[]).await?;
    let mut tracker = tracker(&gateway).await?;
    tracker.send_raw(&vector()).await?;
    assert_eq!(tracker.read_ack().await?, 1);
    let mut damaged = vector();
    damaged[20] ^= 1;
    tracker.send_raw(&damaged).await?;
    assert_eq!(tracker.read_ack().await?, 0);

    let devices = gateway.json("/devices?limit=10&after=0").await?;
    let device = &devices["devices"][0];
    for (name, expected) in [
        ("imei", Value::from(SHORT)),
        ("latitude_e7", 546_990_336.into()),
        ("longitude_e7", 252_618_832.into()),
        ("satellites", 18.into()),
        ("fix_time_ms", 1_374_042_849_140_u64.into()),
        ("device_time_ms", 1_374_042_849_140_u64.into()),
        ("clock", "ok".into()),
        ("codec", "8".into()),
        ("transport", "tcp".into()),
        ("frames", 1.into()),
        ("records", 1.into()),
    ] {
        assert_eq!(device[name], expected, "{name} of {device}");
    }
    let (seen, delay) = (&device["last_seen_ms"], &device["delay_ms"]);
    let told = seen.as_u64().unwrap() - delay.as_u64().unwrap();
    assert_eq!(told, 1_374_042_849_140);
    assert_eq!(
        gateway.json("/devices?limit=10&after=1").await?["devices"],
        serde_json::json!([])
    );

    let status = gateway.json("/status").await?;
    assert_eq!(
        (&status["records_acked"], &status["devices_known"]),
        (&1.into(), &1.into())
    );
    let oldest = status["spool"]["oldest_waiting_ms"].as_u64();
    assert!(oldest.is_some_and(|ms| ms < 60_000), "{status}");
    let events = gateway.codes().await?;
    assert_eq!(events, ["frame-damaged", "tracker-accepted", "started"]);

    let mut all = gateway.log()?;
    assert!(
        all.contains("frame kept") && all.contains("tracker accepted"),
        "{all}"
    );
    assert!(all.contains(SHORT), "{all}");
    for path in ["/", "/devices", "/events", "/status", "/metrics"] {
        all += &get(gateway.http(), path).await?.1;
    }
    assert!(!all.contains(&IMEI.to_string()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_whole_imeis_gets_them() -> Result<()> {
    let gateway = GatewayBox::start("[log]\nimei = \"full\"", &[]).await?;
    let _tracker = tracker(&gateway).await?;
    eventually("the log and the events name it", async || {
        let event = &gateway.json("/events").await?["events"][0]["imei"];
        Ok(gateway.log()?.contains(&IMEI.to_string()) && event.as_str() == Some(&IMEI.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_tracker_is_told_with_the_reason() -> Result<()> {
    let list = tempfile::NamedTempFile::new()?;
    std::fs::write(list.path(), "123456789012345\n")?;
    let settings = format!(
        "[access]\nmode = \"list\"\nlist = \"{}\"",
        list.path().display()
    );
    let gateway = GatewayBox::start(&settings, &[]).await?;
    for _ in 0..3 {
        let mut tracker = Tracker::connect(gateway.tcp(), IMEI).await?;
        assert!(!tracker.login().await?);
        assert!(tracker.closed_by_peer().await?);
    }
    eventually("the refusals are told", async || {
        let event = &gateway.json("/events").await?["events"][0];
        Ok(event["code"] == "tracker-refused" && event["times"] == 3)
    })
    .await?;
    let event = &gateway.json("/events?limit=1").await?["events"][0];
    assert_eq!(
        (&event["imei"], &event["trouble"]),
        (&SHORT.into(), &true.into())
    );
    assert!(
        event["text"]
            .as_str()
            .unwrap()
            .contains("not among the 1 allowed ones"),
        "{event}"
    );
    let refused = &gateway.json("/devices").await?["refused"][0];
    assert_eq!(
        (&refused["imei"], &refused["times"]),
        (&SHORT.into(), &3.into())
    );
    let access = &gateway.json("/status").await?["access"];
    assert_eq!(access["accepts"], "1 listed IMEIs", "{access}");
    assert_eq!(access["refused"][0]["imei"], SHORT, "{access}");
    assert!(!gateway.log()?.contains(&IMEI.to_string()));

    // A list with a broken line: told to read it, it says so and goes on with the one before.
    std::fs::write(list.path(), "no number\n")?;
    gateway.signal(Signal::HUP)?;
    eventually("what is wrong with the list is told", async || {
        let event = &gateway.json("/events").await?["events"][0];
        let text = event["text"].as_str().unwrap_or_default();
        Ok(event["code"] == "reload-failed" && text.contains("list of IMEIs not read anew"))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_and_its_return_are_told() -> Result<()> {
    let mut redis = Redis::start(RedisOptions {
        gateways: vec![GATEWAY.to_owned()],
        ..RedisOptions::default()
    })
    .await?;
    let dir = tempfile::tempdir()?;
    let settings = [("uplink.retry_max", "100ms".into())];
    let gateway = Gateway::start(dir.path(), None, GATEWAY, &redis, &settings).await?;
    let first = async |code: &str| {
        eventually(code, async || {
            let (_, events) = get(gateway.http_addr(), "/events").await?;
            let events: Value = serde_json::from_str(&events)?;
            Ok(events["events"][0]["code"] == code)
        })
        .await?;
        let (_, events) = get(gateway.http_addr(), "/events").await?;
        let events: Value = serde_json::from_str(&events)?;
        anyhow::Ok(
            events["events"][0]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(first("link-back").await?, "uplink connected");
    redis.kill9()?;
    // A link that is silent is only found out by using it.
    let mut tracker = Tracker::connect(gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    tracker.send_raw(&vector()).await?;
    assert_eq!(tracker.read_ack().await?, 1);
    let lost = first("link-lost").await?;
    assert!(lost.starts_with("uplink lost; "), "{lost}");
    redis.restart().await?;
    let back = first("link-back").await?;
    assert!(
        back.starts_with("uplink back after ") && back.contains("1 frame waits"),
        "{back}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_until_it_stops_and_what_was_begun_is_acknowledged() -> Result<()> {
    let mut gateway = GatewayBox::start("[spool]\ncommit_interval_min = \"4s\"", &[]).await?;
    assert_eq!(get(gateway.http(), "/ready").await?.0, 200);
    let mut tracker = tracker(&gateway).await?;
    tracker.send_raw(&vector()).await?;
    assert_eq!(tracker.read_ack().await?, 1);
    // The next commit waits for seconds, and the stopping gateway for the commit.
    let handed = gateway.json("/status").await?["spool"]["commits"].clone();
    // In one write: whoever has answered the login holds the frame.
    let mut tracker = Tracker::connect(gateway.tcp(), IMEI).await?;
    let login_and_frame = [&[0, 15], IMEI.to_string().as_bytes(), &vector()].concat();
    tracker.send_raw(&login_and_frame).await?;
    assert_eq!(tracker.read_byte().await?, 1);
    assert_eq!(gateway.json("/status").await?["spool"]["commits"], handed);
    gateway.signal(Signal::TERM)?;
    eventually("it says that it is stopping", async || {
        let (code, why) = get(gateway.http(), "/ready").await?;
        Ok(code == 503 && why.contains("stopping"))
    })
    .await?;
    assert_eq!(get(gateway.http(), "/health").await?.0, 200);
    assert_eq!(tracker.read_ack().await?, 1);
    assert!(gateway.wait().await?.success());
    Ok(())
}

/// Microseconds of the clock that the service manager compares with.
fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_everything_in_order() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let hear = || -> Result<String> {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).context("nothing more is said")?;
        Ok(String::from_utf8(bytes[..length].to_vec())?)
    };
    let hear_until = |word: &str| -> Result<Vec<String>> {
        let mut heard = vec![hear()?];
        while heard.last().is_some_and(|last| !last.starts_with(word)) {
            heard.push(hear()?);
        }
        Ok(heard)
    };
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().context("no UTF-8")?),
        ("WATCHDOG_USEC", "400000"),
    ];
    let mut gateway = GatewayBox::spawn("", &environment)?;
    assert_eq!(hear()?, "READY=1", "nothing before");
    // Ready means that trackers are let in.
    drop(tracker(&gateway).await?);
    let status = hear_until("STATUS=")?.pop().context("a status")?;
    assert!(
        status.contains("trackers") && status.contains("OFFLINE"),
        "{status}"
    );
    // Four times in its interval: two in a row never lie further apart than that.
    for _ in 0..10 {
        let before = Instant::now();
        hear_until("WATCHDOG=1")?;
        assert!(before.elapsed() < Duration::from_millis(400));
    }
    let before = monotonic_usec();
    gateway.signal(Signal::HUP)?;
    let reloading = hear_until("RELOADING=1\n")?.pop().context("reloading")?;
    let usec: i64 = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .context("the time of the reload")?
        .parse()?;
    assert!((before..=monotonic_usec()).contains(&usec));
    assert_eq!(hear()?, "READY=1");
    assert_eq!(gateway.codes().await?[0], "reload");
    drop(tracker(&gateway).await?);
    gateway.signal(Signal::TERM)?;
    hear_until("STOPPING=1")?;
    assert!(gateway.wait().await?.success());
    socket.set_nonblocking(true)?;
    while let Ok(word) = hear() {
        assert!(
            word == "WATCHDOG=1" || word.starts_with("STATUS="),
            "{word}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tap_shows_frames_as_they_are_kept() -> Result<()> {
    let mut gateway = GatewayBox::start("", &[]).await?;
    let mut tracker = tracker(&gateway).await?;
    let http = gateway.http().to_string();
    let imei = IMEI.to_string();
    for (words, json) in [
        (vec!["tap", "--http", &http], false),
        (
            vec!["tap", "--http", &http, "--json", "--imei", &imei],
            true,
        ),
    ] {
        let mut tap = gateway_box::Killed(
            gateway_box::program()?
                .args(words)
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let line = tapped_line(&mut tap, &mut tracker).await?;
        if json {
            let frame: Value = serde_json::from_str(&line)?;
            let record = &frame["decoded"]["records"][0];
            assert_eq!(record["latitude_e7"], 546_990_336);
            assert_eq!(
                (&frame["imei"], &frame["bytes"]),
                (&SHORT.into(), &140.into())
            );
        } else {
            for part in [
                SHORT,
                "codec 8",
                "1 record",
                "54.69903,25.26188",
                "140 bytes",
            ] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
    }
    // A watcher does not hold up the stop, and hears of it.
    let mut tap = gateway_box::Killed(
        gateway_box::program()?
            .args(["tap", "--http", &http])
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut lines = BufReader::new(tap.0.stdout.take().context("its output")?).lines();
    let (put, shown) = std::sync::mpsc::channel();
    let reader =
        std::thread::spawn(move || lines.try_for_each(|line| put.send(line).map_err(drop)));
    eventually("a frame is shown", async || {
        tracker.send_raw(&vector()).await?;
        ensure!(tracker.read_ack().await? == 1);
        Ok(shown.try_recv().is_ok())
    })
    .await?;
    let stopped = Instant::now();
    gateway.signal(Signal::TERM)?;
    assert!(gateway.wait().await?.success());
    assert!(stopped.elapsed() < Duration::from_secs(5));
    assert!(tap.0.wait()?.success());
    let _ = reader.join();
    let last = shown.iter().last().context("a last word")??;
    assert_eq!(last, "end: the gateway is stopping");
    let alone = gateway_box::program()?
        .args(["tap", "--http", "127.0.0.1:1"])
        .output()?;
    assert_eq!(alone.status.code(), Some(3));
    assert!(String::from_utf8(alone.stderr)?.contains("is it running"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_that_repeats_is_left_out_and_counted() -> Result<()> {
    let list = tempfile::NamedTempFile::new()?;
    let settings = format!(
        "[access]\nmode = \"list\"\nlist = \"{}\"",
        list.path().display()
    );
    let gateway = GatewayBox::start(&settings, &[]).await?;
    for _ in 0..30 {
        let mut tracker = Tracker::connect(gateway.tcp(), IMEI).await?;
        assert!(!tracker.login().await?);
        assert!(tracker.closed_by_peer().await?);
    }
    eventually("all were counted", async || {
        Ok(gateway.json("/events").await?["events"][0]["times"] == 30)
    })
    .await?;
    assert_eq!(
        gateway.log()?.matches("tracker refused; its data").count(),
        20
    );
    let (_, metrics) = get(gateway.http(), "/metrics").await?;
    assert!(
        metrics.contains("\nmilepost_gateway_log_lines_left_out_total 10\n"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_carry_type_and_help_as_they_are_served() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let (code, text) = get(gateway.http(), "/metrics").await?;
    assert_eq!(code, 200);
    let names = |mark: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        let mut names: Vec<String> = lines
            .map(|line| line.split([' ', '{']).next().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    let (types, helps) = (names("# TYPE "), names("# HELP "));
    assert_eq!(types, helps);
    let mut samples: Vec<String> = names("milepost_")
        .into_iter()
        .map(|name| format!("milepost_{name}"))
        .collect();
    samples.dedup();
    assert_eq!(samples, types);
    assert!(types.contains(&"milepost_gateway_process_memory_bytes".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_others_can_reach_are_warned_of() -> Result<()> {
    let gateway = GatewayBox::start_on("0.0.0.0", "", &[]).await?;
    assert!(gateway.log()?.contains("ask for no password"));
    let gateway = GatewayBox::start("", &[]).await?;
    assert!(!gateway.log()?.contains("ask for no password"));
    Ok(())
}

/// The unit as sections of keys and values, in order.
fn unit() -> Result<Vec<(String, String, String)>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateway.service");
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').context("half a section")?.to_owned();
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line.split_once('=').with_context(|| line.to_owned())?;
            rows.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    Ok(rows)
}

#[test]
fn the_unit_promises_what_the_page_says_and_starts_the_program() -> Result<()> {
    let unit = unit()?;
    let values = |key: &str| -> Vec<&str> {
        let of_key = unit.iter().filter(|(_, name, _)| name == key);
        of_key.map(|(_, _, value)| value.as_str()).collect()
    };
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("Restart", "always"),
        ("WatchdogSec", "60s"),
        ("User", "milepost"),
        ("StateDirectory", "milepost"),
        ("LimitNOFILE", "65536"),
        ("MemoryMax", "256M"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ] {
        assert_eq!(values(key), [value], "{key}");
    }
    // A list may come in parts; any other key twice is a slip.
    for (_, key, _) in unit.iter().filter(|(_, key, _)| key != "SystemCallFilter") {
        assert_eq!(values(key).len(), 1, "{key}");
    }
    let start = values("ExecStart")[0];
    let mut words = start.split_ascii_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/gateway"));
    let words: Vec<&str> = words.collect();
    assert_eq!(words, ["run", "--config", "/etc/milepost/gateway.toml"]);
    // It understands the words and stumbles over the file, which is not there.
    let output = gateway_box::program()?
        .args(
            words
                .iter()
                .map(|word| word.replace("/etc/", "/nonexistent/")),
        )
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("cannot be read") && !said.contains("Usage"),
        "{said}"
    );
    Ok(())
}
