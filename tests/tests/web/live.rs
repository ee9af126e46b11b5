//! The live stream: a picture, then what changes, whoever writes it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::tables::{DEADLINE, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stage::{API, IMEI, Stage, fix, request};

const BEARER: (&str, &str) = ("Authorization", "Bearer made-up-token-to-look");

/// One event.
#[derive(Debug)]
struct Event {
    id: Option<String>,
    name: String,
    data: Vec<Value>,
}

/// A listener, as a browser is one.
struct Listener {
    stream: TcpStream,
    heard: Vec<u8>,
    text: String,
    head: String,
}

impl Listener {
    async fn open(stage: &Stage, last: Option<&str>) -> Result<Listener> {
        let mut headers = vec![BEARER];
        headers.extend(last.map(|last| ("Last-Event-ID", last)));
        let mut stream = TcpStream::connect(stage.addr()).await?;
        let path = format!("{API}/live");
        let asked = request(stage.addr(), "GET", &path, &headers, b"");
        stream.write_all(&asked).await?;
        let mut listener = Listener {
            stream,
            heard: Vec::new(),
            text: String::new(),
            head: String::new(),
        };
        let end = loop {
            if let Some(end) = listener.heard.windows(4).position(|it| it == b"\r\n\r\n") {
                break end;
            }
            listener.hear().await?;
        };
        let rest = listener.heard.split_off(end + 4);
        listener.head = String::from_utf8(std::mem::replace(&mut listener.heard, rest))?;
        ensure!(
            listener.head.starts_with("HTTP/1.1 200"),
            "{}",
            listener.head
        );
        Ok(listener)
    }

    async fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 64 * 1024];
        let count = timeout(DEADLINE, self.stream.read(&mut buffer))
            .await
            .context("silence")??;
        ensure!(count > 0, "it hung up after {:?}", self.text);
        self.heard.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Hears the rest, which has to be a whole body.
    async fn end(&mut self) -> Result<()> {
        timeout(DEADLINE, self.stream.read_to_end(&mut self.heard)).await??;
        let is_whole = self.heard.ends_with(b"0\r\n\r\n");
        ensure!(is_whole, "{:?}", String::from_utf8_lossy(&self.heard));
        Ok(())
    }

    /// Takes one chunk of the body out of what was heard.
    fn chunk(&mut self) -> Result<bool> {
        let Some(end) = self.heard.windows(2).position(|it| it == b"\r\n") else {
            return Ok(false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&self.heard[..end])?, 16)?;
        let whole = end + 2 + size + 2;
        if self.heard.len() < whole {
            return Ok(false);
        }
        self.text += std::str::from_utf8(&self.heard[end + 2..end + 2 + size])?;
        self.heard.drain(..whole);
        Ok(true)
    }

    /// The next event; comments and `retry` are passed over, and are no reason to wait on.
    async fn next(&mut self) -> Result<Event> {
        let told = timeout(DEADLINE, self.hear_event()).await;
        told.context("no event in time")?
    }

    async fn hear_event(&mut self) -> Result<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                if let Some(data) = field("data: ") {
                    return Ok(Event {
                        id: field("id: "),
                        name: field("event: ").context("a name")?,
                        data: serde_json::from_str(&data)?,
                    });
                }
            }
            while !self.chunk()? {
                self.hear().await?;
            }
        }
    }

    /// Events until every device of `wanted` was told at this latitude.
    async fn until(&mut self, device: i64, latitude: f64) -> Result<Event> {
        for _ in 0..200 {
            let event = self.next().await?;
            let is_it = |it: &Value| it["device_id"] == device && it["latitude"] == latitude;
            if event.data.iter().any(is_it) {
                return Ok(event);
            }
        }
        bail!("device {device} never came to {latitude}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_comes_first_then_what_changes_and_nothing_twice() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?, fix(IMEI + 8, 1)?]).await?;
    let (car, van) = (stage.device(IMEI).await?, stage.device(IMEI + 8).await?);
    let mut listener = Listener::open(&stage, None).await?;
    let head = listener.head.to_ascii_lowercase();
    ensure!(
        head.contains("content-type: text/event-stream") && head.contains("no-store"),
        "{head}"
    );
    let picture = listener.next().await?;
    ensure!(
        picture.name == "picture" && picture.data.len() == 2,
        "{picture:?}"
    );
    let id = picture.id.context("the last of a picture has an id")?;
    stage.drive(&[fix(IMEI, 2)?]).await?;
    let moved = listener.next().await?;
    ensure!(
        moved.name == "positions" && moved.data.len() == 1,
        "{moved:?}"
    );
    ensure!(moved.data[0]["device_id"] == car && moved.id.is_some_and(|it| it != id));
    // A record from the past is a row, and no newer position.
    stage.drive(&[fix(IMEI + 8, 0)?]).await?;
    stage.drive(&[fix(IMEI + 8, 3)?]).await?;
    let moved = listener.next().await?;
    ensure!(
        moved.data.len() == 1 && moved.data[0]["device_id"] == van,
        "{moved:?}"
    );
    ensure!(moved.data[0]["latitude"] == 52.5166, "{moved:?}");
    // A column that is written by another process, in another order than its clock says.
    stage
        .tables
        .run("UPDATE device_latest SET latitude = 10, record_hash = record_hash + 1, received_at = '2020-01-01'")
        .await?;
    let event = listener.until(car, 10.0).await?;
    ensure!(
        event.data.iter().all(|it| it["latitude"] == 10.0),
        "{event:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_gets_what_was_missed_or_a_new_picture() -> Result<()> {
    let mut stage = Stage::new().await?;
    stage.drive(&[fix(IMEI, 1)?, fix(IMEI + 8, 1)?]).await?;
    let car = stage.device(IMEI).await?;
    let mut first = Listener::open(&stage, None).await?;
    // This one stays, so that somebody listens all the time.
    let mut second = Listener::open(&stage, None).await?;
    let id = first.next().await?.id.context("an id")?;
    second.next().await?;
    drop(first);
    for (n, latitude) in [(2, 52.5165), (3, 52.5166), (4, 52.5167)] {
        stage.drive(&[fix(IMEI, n)?]).await?;
        second.until(car, latitude).await?;
    }
    let mut back = Listener::open(&stage, Some(&id)).await?;
    let mut missed = Vec::new();
    while missed.last() != Some(&Value::from(52.5167)) {
        let event = back.next().await?;
        ensure!(event.name == "positions", "no new picture: {event:?}");
        missed.extend(event.data.iter().map(|it| it["latitude"].clone()));
    }
    ensure!(missed == [52.5165, 52.5166, 52.5167], "{missed:?}");
    for unknown in ["0000000000000000-1", "nonsense", &format!("{id}9999")] {
        let mut back = Listener::open(&stage, Some(unknown)).await?;
        let event = back.next().await?;
        ensure!(
            event.name == "picture" && event.data.len() == 2,
            "{event:?}"
        );
    }
    // Another process has other numbers.
    stage.cloud.restart().await?;
    let mut back = Listener::open(&stage, Some(&id)).await?;
    ensure!(back.next().await?.name == "picture");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_does_not_keep_the_cloud_from_stopping() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut listener = Listener::open(&stage, None).await?;
    let picture = listener.next().await?;
    ensure!(
        picture.name == "picture" && picture.data.is_empty(),
        "{picture:?}"
    );
    let ended = stage.cloud.terminate().await?;
    ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
    // It was told to go, and not cut off.
    listener.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_the_table_while_nobody_listens() -> Result<()> {
    let stage = Stage::new().await?;
    // Nothing is written here, so nobody else scans it.
    let scans = async || -> Result<i64> {
        let sql =
            "SELECT coalesce(seq_scan, 0) FROM pg_stat_user_tables WHERE relname = 'device_latest'";
        Ok(stage.tables.one::<(i64,)>(sql).await?.0)
    };
    // As long as three looks take, and PostgreSQL to count them.
    let is_still = async || -> Result<bool> {
        let before = scans().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(scans().await? == before)
    };
    stage.told("/devices").await?;
    ensure!(is_still().await?, "somebody looks");
    let before = scans().await?;
    let mut listener = Listener::open(&stage, None).await?;
    listener.next().await?;
    eventually("there are looks", async || Ok(scans().await? > before + 2)).await?;
    drop(listener);
    eventually("the last one went", is_still).await?;
    Ok(())
}
