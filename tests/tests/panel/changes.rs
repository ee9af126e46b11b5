//! What an operator changes at a running gateway, and who may not.

use std::collections::{BTreeSet, HashMap};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use contract::{CommandResponse, CommandStatus, GatewayId, Order, keys};
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::fleet::Tracker;
use tests::processes::{Gateway, get};
use tests::servers::{ADMIN, GATEWAY, Redis, RedisOptions};
use tests::tables::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::gateway_box::{GatewayBox, Killed, Ran, program};
use super::{IMEI, tracker, vector};

const STRANGER: u64 = 356_307_042_441_021;

/// The code of the answer to a request with these header lines.
async fn asked(gateway: &GatewayBox, request: &str, headers: &[&str]) -> Result<u16> {
    let mut socket = TcpStream::connect(gateway.http()).await?;
    let text = format!("{request} HTTP/1.0\r\n{}\r\n\r\n", headers.join("\r\n"));
    socket.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(
        !answer.to_ascii_lowercase().contains("access-control"),
        "{answer}"
    );
    let code = answer.split(' ').nth(1).context("no code")?;
    Ok(code.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_can_change_nothing() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let window = async || {
        Ok::<_, anyhow::Error>(gateway.json("/status").await?["access"]["window_left_s"].clone())
    };
    let close = "POST /access/learn?for_s=0";
    let own = format!("Host: {}", gateway.http());
    for headers in [
        &[&*own][..],
        &["X-Milepost: 1"],
        &["Host: evil.example", "X-Milepost: 1"],
        &[&own, "X-Milepost: 1", "Origin: http://evil.example"],
        &[&own, "Content-Type: text/plain"],
    ] {
        assert_eq!(asked(&gateway, close, headers).await?, 403, "{headers:?}");
        let cancel = asked(&gateway, "POST /commands/cancel", headers).await?;
        assert_eq!(cancel, 403, "{headers:?}");
    }
    // What a browser asks before it sends a header of a page: nobody says yes.
    let preflight = [
        &*own,
        "Origin: http://evil.example",
        "Access-Control-Request-Headers: x-milepost",
    ];
    assert_eq!(
        asked(&gateway, "OPTIONS /access/learn", &preflight).await?,
        403
    );
    let mine = [&*own, "X-Milepost: 1"];
    assert_eq!(
        asked(&gateway, "GET /access/learn?for_s=0", &mine).await?,
        405
    );
    assert!(window().await?.as_u64().is_some_and(|left| left > 3000));
    assert_eq!(asked(&gateway, close, &mine).await?, 200);
    assert_eq!(window().await?, 0);
    assert_eq!(
        asked(&gateway, "POST /access/learn?for_s=x", &mine).await?,
        400
    );
    Ok(())
}

async fn logs_in(gateway: &GatewayBox, imei: u64) -> Result<bool> {
    Tracker::connect(gateway.tcp(), imei).await?.login().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_learn_window_is_the_default_and_opens_again_only_when_told() -> Result<()> {
    let mut gateway = GatewayBox::start("", &[]).await?;
    let said = gateway.log()?;
    assert!(
        said.contains("\"accept\":\"every IMEI for ")
            && said.contains(" of running time more (until "),
        "{said}"
    );
    assert!(logs_in(&gateway, IMEI).await?);
    let closed = gateway.call(&["device", "learn", "--for", "0s"]).await?;
    assert_eq!((closed.code, &*closed.err), (0, ""));
    assert_eq!(
        closed.out,
        "lets in 1 known IMEIs; the learn window is closed\n"
    );
    assert!(!logs_in(&gateway, STRANGER).await?);
    // Neither a restart nor a crash opens it.
    gateway.restart().await?;
    assert!(logs_in(&gateway, IMEI).await?, "what was learned is known");
    assert!(!logs_in(&gateway, STRANGER).await?);
    let listed = gateway.call(&["device", "ls"]).await?;
    assert!(
        listed.out.contains("35630…021  REFUSED: "),
        "{}",
        listed.out
    );

    let opened = gateway
        .call(&["device", "learn", "--for", "30m", "--json"])
        .await?;
    assert_eq!(opened.json()?[0]["window_left_s"], 1800, "{}", opened.err);
    assert!(logs_in(&gateway, STRANGER).await?);
    assert_eq!(gateway.codes().await?[0], "tracker-accepted");
    assert_eq!(gateway.codes().await?[1], "learn-window");
    gateway.restart().await?;
    let left = gateway.json("/status").await?["access"]["window_left_s"].as_u64();
    assert!(
        left.is_some_and(|left| (1700..=1800).contains(&left)),
        "{left:?}"
    );

    // One tracker is let in while it is closed, by its number, in the file of those learned.
    gateway.call(&["device", "learn", "--for", "0s"]).await?;
    let third = 356_307_042_441_039_u64;
    assert!(!logs_in(&gateway, third).await?);
    let allowed = gateway
        .call(&["device", "allow", &third.to_string()])
        .await?;
    assert!(
        allowed.out.ends_with("learned.txt\n"),
        "{}{}",
        allowed.out,
        allowed.err
    );
    eventually("the running gateway lets it in", async || {
        logs_in(&gateway, third).await
    })
    .await?;
    gateway
        .call(&["device", "deny", &third.to_string()])
        .await?;
    eventually("and out again", async || {
        Ok(!logs_in(&gateway, third).await?)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_none_is_not_opened() -> Result<()> {
    let gateway = GatewayBox::start("[access]\nmode = \"open\"", &[]).await?;
    let refused = gateway.call(&["device", "learn"]).await?;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("E-STA-009") && refused.err.contains("open"),
        "{}",
        refused.err
    );
    let gateway = GatewayBox::start("", &[]).await?;
    // Its file cannot be written any more: a directory stands where it is made.
    std::fs::create_dir(gateway.dir().join("learned.window.new"))?;
    let refused = gateway.call(&["device", "learn", "--for", "30m"]).await?;
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.err.contains("E-STA-010"), "{}", refused.err);
    let left = gateway.json("/status").await?["access"]["window_left_s"].as_u64();
    assert!(left.is_some_and(|left| left > 1800), "as it was: {left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_taken_over_loopback_alone() -> Result<()> {
    // Another address of this machine, if it has one: asking for a way out sends nothing.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr());
    let host = own.map_or("127.0.0.1".to_owned(), |own| own.ip().to_string());
    let gateway = GatewayBox::start_on("0.0.0.0", "", &[]).await?;
    let at = format!("{host}:{}", gateway.http().port());
    let mut command = program()?;
    command
        .args(["device", "learn", "--for", "0s"])
        .env("GATEWAY__HTTP__LISTEN", &at);
    let ran = Ran::of(command.output()?)?;
    if host == "127.0.0.1" {
        assert_eq!(ran.code, 0, "{}", ran.err);
    } else {
        assert_eq!(ran.code, 3, "{}", ran.err);
        assert!(
            ran.err.contains("E-STA-006") && ran.err.contains("this machine alone"),
            "{}",
            ran.err
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_over_udp_is_told_of_like_one_over_tcp() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(gateway.udp()).await?;
    let data = &vector()[8..vector().len() - 4];
    let imei = IMEI.to_string();
    for packet in 1..=2_u8 {
        let mut datagram = vec![0, 0, 0xca, 0xfe, 1, packet, 0, 15];
        datagram.extend_from_slice(imei.as_bytes());
        datagram.extend_from_slice(data);
        let length = u16::try_from(datagram.len() - 2)?;
        datagram[..2].copy_from_slice(&length.to_be_bytes());
        socket.send(&datagram).await?;
        let mut answer = [0; 16];
        let heard =
            tokio::time::timeout(std::time::Duration::from_secs(20), socket.recv(&mut answer));
        assert_eq!(heard.await??, 7);
    }
    let events = gateway.json("/events").await?;
    let accepted: Vec<&Value> = events["events"]
        .as_array()
        .context("a list")?
        .iter()
        .filter(|event| event["code"] == "tracker-accepted")
        .collect();
    assert_eq!(accepted.len(), 1, "{events}");
    assert_eq!(
        (&accepted[0]["imei"], &accepted[0]["times"]),
        (&super::SHORT.into(), &1.into()),
        "the second datagram is no login"
    );
    let shown = gateway.call(&["events"]).await?;
    assert!(
        shown
            .out
            .lines()
            .last()
            .is_some_and(|line| line.contains("tracker-accepted") && line.ends_with(super::SHORT)),
        "{}",
        shown.out
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_watch_shows_what_changes_until_interrupted() -> Result<()> {
    let gateway = GatewayBox::start("", &[]).await?;
    let mut watch = Killed(
        gateway
            .command(&["status", "--watch", "--json"])?
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut shown = watch.lines()?;
    let mut until = async |connections: u64| {
        let mut last = Value::Null;
        eventually(&format!("{connections} trackers are shown"), async || {
            while let Ok(line) = shown.try_recv() {
                last = serde_json::from_str(&line)?;
            }
            Ok(last["connections"] == connections)
        })
        .await
    };
    until(0).await?;
    let tracker = tracker(&gateway).await?;
    until(1).await?;
    drop(tracker);
    until(0).await?;
    let pid = Pid::from_raw(i32::try_from(watch.0.id())?).context("a pid")?;
    kill_process(pid, Signal::INT)?;
    let mut ended = None;
    eventually("it ends", async || {
        ended = watch.0.try_wait()?;
        Ok(ended.is_some())
    })
    .await?;
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    Ok(())
}

/// What was reported about an order, in order.
async fn reported(redis: &Redis, cid: &str) -> Result<Vec<CommandResponse>> {
    let mut cloud = redis
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    let all: StreamRangeReply = cloud.xrange_all(keys::COMMAND_RESPONSES).await?;
    let mut of_this = Vec::new();
    for entry in all.ids {
        let fields = entry.map.into_iter();
        let fields = fields.map(|(name, value)| Ok((name, redis::from_redis_value(value)?)));
        let fields: Result<HashMap<String, String>> = fields.collect();
        let response = CommandResponse::from_fields(&fields?)?;
        if response.cid == cid {
            of_this.push(response);
        }
    }
    Ok(of_this)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waits_is_taken_back_and_one_that_was_sent_is_not() -> Result<()> {
    let redis = Redis::start(RedisOptions {
        gateways: vec![GATEWAY.to_owned()],
        ..RedisOptions::default()
    })
    .await?;
    let dir = tempfile::tempdir()?;
    let gateway = Gateway::start(dir.path(), None, GATEWAY, &redis, &[]).await?;
    let status = async || Ok::<_, anyhow::Error>(gateway.status().await?["downlink"].clone());
    eventually("it takes orders", async || {
        Ok(status().await?["connected"] == true)
    })
    .await?;
    let mut tracker = Tracker::connect(gateway.tcp_addr(), IMEI).await?;
    ensure!(tracker.login().await?);
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now_ms = u64::try_from(now_ms.as_millis())?;
    let mut cloud = redis
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    for (cid, payload) in [
        ("c-1", "getver"),
        ("c-2", "setparam 2003:secret"),
        ("c-3", "getinfo"),
    ] {
        let order = Order {
            cid: cid.to_owned(),
            imei: tracker.imei(),
            codec: 12,
            payload: payload.to_owned(),
            created_ms: now_ms,
            expires_ms: now_ms + 600_000,
            attempt: 1,
            idempotent: false,
        };
        let mut add = redis::cmd("XADD");
        add.arg(keys::commands_outbound(&GatewayId::new(GATEWAY)?))
            .arg("NOMKSTREAM")
            .arg("*");
        for (name, value) in order.to_fields() {
            add.arg(name).arg(value);
        }
        let id: Option<String> = add.query_async(&mut cloud).await?;
        ensure!(id.is_some(), "the gateway has no stream");
    }
    // It has the first and does not answer, so the other two wait.
    ensure!(tracker.read_command().await?.is_some());
    eventually("one is sent, two wait", async || {
        let now = status().await?;
        Ok(now["waiting"] == 2 && now["commands"][0]["state"] == "sent")
    })
    .await?;

    let call = async |words: &[&str]| {
        let mut command = program()?;
        command
            .args(words)
            .env("GATEWAY__HTTP__LISTEN", gateway.http_addr().to_string());
        Ran::of(tokio::task::spawn_blocking(move || command.output()).await??)
    };
    let shy = call(&["cmd", "cancel", "c-2"]).await?;
    assert_eq!(shy.code, 2);
    assert!(shy.err.contains("--yes"), "{}", shy.err);
    let dry = call(&["cmd", "cancel", "--dry-run", "c-2"]).await?;
    assert_eq!(
        (dry.code, &*dry.out),
        (0, "c-2 waits, and would be taken back\n")
    );
    assert_eq!(status().await?["waiting"], 2, "neither did anything");

    let done = call(&["cmd", "cancel", "--yes", "c-2"]).await?;
    assert_eq!((done.code, &*done.err), (0, ""));
    assert_eq!(
        done.out,
        "c-2 is taken back; the cloud hears nack, cancelled\n"
    );
    eventually("the cloud hears of it", async || {
        let said = reported(&redis, "c-2").await?;
        Ok(said
            .iter()
            .map(|r| (r.status, &*r.reason))
            .eq([(CommandStatus::Nack, "cancelled")]))
    })
    .await?;
    for (cid, state) in [("c-1", "sent"), ("c-2", "nack (cancelled)")] {
        for words in [
            &["cmd", "cancel", "--yes", cid][..],
            &["cmd", "cancel", "--dry-run", cid],
        ] {
            let late = call(words).await?;
            assert_eq!((late.code, &*late.out), (1, ""), "{words:?}");
            assert!(late.err.contains("E-STA-007"), "{}", late.err);
        }
        let late = call(&["cmd", "cancel", "--yes", cid]).await?;
        assert!(late.err.contains(state), "{}", late.err);
    }
    for words in [
        &["cmd", "cancel", "--yes", "no such"][..],
        &["cmd", "cancel", "--dry-run", "no such"],
    ] {
        let unknown = call(words).await?;
        assert_eq!(unknown.code, 1);
        assert!(unknown.err.contains("E-STA-008"), "{}", unknown.err);
    }
    assert_eq!(
        reported(&redis, "c-1").await?.len(),
        1,
        "sent, and nothing else"
    );

    let listed = call(&["cmd", "ls"]).await?.out;
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(
        listed[0].contains("c-1  sent  getver  written 1 times"),
        "{listed:?}"
    );
    assert!(listed[1].contains("c-3  waiting  getinfo"), "{listed:?}");
    assert!(
        listed[2].ends_with("c-2  ended: nack (cancelled)"),
        "{listed:?}"
    );
    // What the docs promise of their JSON.
    let promised = super::json::promised()?;
    for (command, words) in [
        ("cmd ls", &["cmd", "ls", "--json"][..]),
        ("cmd cancel", &["cmd", "cancel", "--yes", "--json", "c-3"]),
    ] {
        let objects = call(words).await?.json()?;
        let names = objects
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|object| object.keys().cloned());
        assert_eq!(
            names.collect::<BTreeSet<_>>(),
            promised[command],
            "{command}"
        );
    }
    let (_, all) = get(gateway.http_addr(), "/commands").await?;
    assert!(!all.contains("secret"), "{all}");
    let (_, events) = get(gateway.http_addr(), "/events").await?;
    assert!(
        events.contains("order c-2 taken back by an operator"),
        "{events}"
    );
    Ok(())
}
