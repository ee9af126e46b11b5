//! Every status the door knows, with its problem document.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::poster::{Answer, Poster, head};
use tests::tables::eventually;

use super::door::{BEARER, Door, JSON, TOKEN, batch};

fn expect(what: &str, answer: &Answer, status: u16, kind: &str) -> Result<()> {
    let document = answer.json();
    ensure!(answer.status == status, "{what}: {answer:?}");
    ensure!(
        answer.header("content-type") == Some("application/problem+json"),
        "{what}: {answer:?}"
    );
    ensure!(document["status"] == status, "{what}: {document}");
    ensure!(
        document["type"] == format!("urn:milepost:problem:{kind}"),
        "{what}: {document}"
    );
    for name in ["title", "detail"] {
        ensure!(
            !document[name].as_str().unwrap_or("").is_empty(),
            "{what}: {document}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_a_problem_with_its_status() -> Result<()> {
    let door = Door::open(&[("ingest.body_bytes_max", "64KiB".into())]).await?;
    let limited = "few-requests-made-up";
    let text = format!(
        "api plain:{TOKEN}\nfew plain:{limited} requests_per_s=0.5 lanes=normal\nfewer plain:{limited}-2 positions_per_s=1\n"
    );
    std::fs::write(&door.tokens, text)?;
    eventually("the new tokens are in force", async || {
        Ok(door.gateway.status().await?["ingest"]["sources"] == 3)
    })
    .await?;
    let good = batch("van", 0, 2).to_string();
    let good = good.as_bytes();
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        door.ask(method, path, headers, body).await
    };
    let post =
        async |headers: &[(&str, &str)], body: &[u8]| ask("POST", "/v1/batch", headers, body).await;

    let taken = post(&[BEARER, JSON], good).await?;
    ensure!(taken.status == 202, "{taken:?}");
    ensure!(taken.json()["accepted"] == 2 && taken.json()["rejected"] == json!([]));
    let receipt = taken.json()["receipt"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (spool, range) = receipt.split_once(':').unwrap_or_default();
    ensure!(spool.len() == 16 && range == "1-1", "{receipt}");

    for (what, body) in [
        ("no JSON", &b"nonsense"[..]),
        ("half of it", &good[..good.len() - 1]),
        ("an item that is none", b"[{\"a\": nonsense}]"),
    ] {
        expect(what, &post(&[BEARER, JSON], body).await?, 400, "malformed")?;
    }
    let damaged = post(&[BEARER, JSON, ("Content-Encoding", "gzip")], good).await?;
    expect("no gzip", &damaged, 400, "malformed")?;
    let long = "k".repeat(300);
    let key = post(&[BEARER, JSON, ("Idempotency-Key", &long)], good).await?;
    expect("a long key", &key, 400, "malformed")?;
    let lane = ask("POST", "/v1/batch?lane=x", &[BEARER, JSON], good).await?;
    expect("a lane", &lane, 400, "malformed")?;

    for headers in [
        &[JSON][..],
        &[JSON, ("Authorization", "Bearer made-up-token-of-nobody")],
        &[JSON, ("Authorization", "Digest x")],
        &[JSON, ("Authorization", "Basic %%%")],
    ] {
        let refused = post(headers, good).await?;
        expect("a token", &refused, 401, "token")?;
        ensure!(
            refused
                .header("www-authenticate")
                .unwrap_or("")
                .contains("Bearer")
        );
    }
    let in_query = ask("POST", &format!("/v1/batch?token={TOKEN}"), &[JSON], good).await?;
    expect("a token in the query of a batch", &in_query, 401, "token")?;
    let few = format!("Bearer {limited}");
    let few = ("Authorization", few.as_str());
    let lane = ask("POST", "/tracking/live", &[few, JSON], good).await?;
    expect("a lane of others", &lane, 403, "lane")?;
    expect(
        "a path",
        &ask("POST", "/v1/bach", &[BEARER], b"").await?,
        404,
        "no-path",
    )?;
    let method = ask("GET", "/v1/batch", &[BEARER], b"").await?;
    expect("a method", &method, 405, "method")?;
    ensure!(method.header("allow") == Some("POST"));
    let none = post(&[BEARER, JSON], b"").await?;
    expect("no body at all", &none, 411, "no-length")?;

    let large = vec![b' '; 64 * 1024 + 1];
    expect(
        "too large",
        &post(&[BEARER, JSON], &large).await?,
        413,
        "too-large",
    )?;
    let mut chunked = Poster::connect(door.addr).await?;
    let chunks = [BEARER, JSON, ("Transfer-Encoding", "chunked")];
    chunked
        .say(&head("POST", "/v1/batch", &chunks, None))
        .await?;
    chunked
        .say(format!("{:x}\r\n", large.len()).as_bytes())
        .await?;
    // It may have answered and hung up before all of it was said.
    let _ = chunked.say(&large).await;
    expect(
        "too large in chunks",
        &chunked.answer().await?,
        413,
        "too-large",
    )?;
    let mut packed = gzip(&large)?;
    for packing in ["gzip", "zstd"] {
        if packing == "zstd" {
            packed = zstd::bulk::compress(&large, 3)?;
        }
        let bomb = post(&[BEARER, JSON, ("Content-Encoding", packing)], &packed).await?;
        expect(packing, &bomb, 413, "too-large")?;
    }
    let many = format!("[{}0]", "0,".repeat(5_000));
    expect(
        "too many",
        &post(&[BEARER, JSON], many.as_bytes()).await?,
        413,
        "too-large",
    )?;

    for headers in [
        &[BEARER][..],
        &[BEARER, ("Content-Type", "text/plain")],
        &[BEARER, ("Content-Type", "text/csv")],
        &[BEARER, JSON, ("Content-Encoding", "br")],
        &[BEARER, JSON, ("Content-Encoding", "gzip, gzip")],
    ] {
        expect("a form", &post(headers, good).await?, 415, "media-type")?;
    }
    let bad = post(&[BEARER, JSON], br#"[{"device":"a"},7]"#).await?;
    expect("no good item", &bad, 422, "no-item")?;
    ensure!(bad.json()["rejected"][1]["index"] == 1, "{bad:?}");
    expect(
        "nothing",
        &post(&[BEARER, JSON], b"[]").await?,
        422,
        "no-item",
    )?;

    // One request was spent on the wrong lane, and a bucket holds one.
    let rate = post(&[few, JSON], good).await?;
    expect("requests a second", &rate, 429, "rate")?;
    let wait: u64 = rate.header("retry-after").unwrap_or_default().parse()?;
    ensure!((1..=3).contains(&wait), "{rate:?}");
    let fewer = format!("Bearer {limited}-2");
    let fewer = ("Authorization", fewer.as_str());
    ensure!(
        post(&[fewer, JSON], batch("van", 9, 30).to_string().as_bytes())
            .await?
            .status
            == 202
    );
    let rate = post(&[fewer, JSON], good).await?;
    expect("positions a second", &rate, 429, "rate")?;
    let wait: u64 = rate.header("retry-after").unwrap_or_default().parse()?;
    ensure!((25..=30).contains(&wait), "{rate:?}");

    let status = door.gateway.status().await?;
    ensure!(status["ingest"]["positions_accepted"] == 32, "{status}");
    ensure!(
        status["spool"]["records_durable"] == 32,
        "only what was accepted: {status}"
    );
    ensure!(status["ingest"]["requests"]["413"] == 5, "{status}");
    Ok(())
}

/// gzip by the library that made the format.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = std::process::Command::new("gzip")
        .arg("-9")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output()?;
    writer.join().expect("it does not panic")?;
    ensure!(output.status.success());
    Ok(output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_408_and_a_silent_connection_is_closed() -> Result<()> {
    let door = Door::open(&[
        ("listen.frame_timeout", "1s".into()),
        ("listen.handshake_timeout", "1s".into()),
    ])
    .await?;
    let began = Instant::now();
    let mut slow = Poster::connect(door.addr).await?;
    slow.say(&head("POST", "/v1/batch", &[BEARER, JSON], Some(100)))
        .await?;
    slow.say(b"[").await?;
    expect("half a body", &slow.answer().await?, 408, "slow")?;
    let mut silent = Poster::connect(door.addr).await?;
    silent.say(b"POST /v1/batch HTTP/1.1\r\nX: ").await?;
    ensure!(silent.answer().await.is_err(), "half a head");
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(15), "{took:?}");
    let status = door.gateway.status().await?;
    ensure!(
        status["doors"]["shed"]["handshake_timeout"] == 1,
        "{}",
        status["doors"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_503_and_nothing_is_accepted_silently() -> Result<()> {
    let mut door = Door::open(&[("spool.bytes_max", "8MiB".into())]).await?;
    door.redis.pause()?;
    // What does not compress fills it in seconds.
    let mut dice = 1_u64;
    let mut accepted = 0;
    let full = loop {
        let note = |dice: &mut u64| -> String {
            let mut next = || {
                *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'!' + (*dice >> 33) as u8 % 90)
            };
            (0..3_000).map(|_| next()).collect()
        };
        let mut items = batch("van", accepted, 100);
        for item in items.as_array_mut().unwrap() {
            item["attributes"]["note"] = note(&mut dice).into();
        }
        let answer = door.post("/v1/batch", &items).await?;
        match answer.status {
            202 => accepted += 100,
            _ => break answer,
        }
        ensure!(accepted < 20_000, "8 MiB hold no 60 MB");
    };
    expect("a full spool", &full, 503, "full")?;
    ensure!(full.header("retry-after") == Some("60"), "{full:?}");
    let status = door.gateway.status().await?;
    ensure!(
        accepted > 0 && status["ingest"]["positions_accepted"] == accepted,
        "{status}"
    );
    door.redis.resume()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_finishes_what_was_begun() -> Result<()> {
    let mut door = Door::open(&[]).await?;
    let body = batch("van", 0, 3).to_string();
    let (first, second) = body.as_bytes().split_at(10);
    let mut begun = Poster::connect(door.addr).await?;
    begun
        .say(&head(
            "POST",
            "/v1/batch",
            &[BEARER, JSON],
            Some(body.len()),
        ))
        .await?;
    begun.say(first).await?;
    let mut idle = Poster::connect(door.addr).await?;
    let one = batch("a", 0, 1).to_string();
    let before = idle
        .ask("POST", "/v1/batch", &[BEARER, JSON], one.as_bytes())
        .await?;
    ensure!(before.status == 202, "{before:?}");
    let pid = i32::try_from(door.gateway.pid().unwrap())?;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM)?;
    eventually("the doors close", async || {
        Ok(Poster::connect(door.addr).await.is_err())
    })
    .await?;
    ensure!(idle.answer().await.is_err(), "an idle connection ends");
    begun.say(second).await?;
    let answer = begun.answer().await?;
    ensure!(
        answer.status == 202 && answer.json()["accepted"] == 3,
        "{answer:?}"
    );
    door.gateway.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gets_the_same_answer_and_writes_nothing() -> Result<()> {
    let door = Door::open(&[]).await?;
    let body = json!([batch("van", 0, 1)[0], 7]).to_string();
    let key = ("Idempotency-Key", "5f0c");
    let post = async |headers: &[(&str, &str)], body: &str| {
        door.ask("POST", "/v1/batch", headers, body.as_bytes())
            .await
    };
    let first = post(&[BEARER, JSON, key], &body).await?;
    for _ in 0..3 {
        let again = post(&[BEARER, JSON, key], &body).await?;
        assert_eq!((again.status, &again.body), (202, &first.body));
    }
    let durable = async || -> Result<Value> {
        Ok(door.gateway.status().await?["spool"]["records_durable"].clone())
    };
    ensure!(durable().await? == 1);
    let other = post(&[BEARER, JSON, key], &batch("van", 1, 1).to_string()).await?;
    expect("another body", &other, 422, "key-used")?;
    ensure!(durable().await? == 1);
    let headers = [BEARER, JSON, key];
    let elsewhere = door
        .ask("POST", "/tracking/live", &headers, body.as_bytes())
        .await?;
    expect("another path", &elsewhere, 422, "key-used")?;
    // Without the key it is written, which the tables do not mind.
    ensure!(post(&[BEARER, JSON], &body).await?.json()["receipt"] != first.json()["receipt"]);
    ensure!(durable().await? == 2);
    Ok(())
}
