//! Redis, PostgreSQL and a cloud with a web door; rows put in by way of the stream; and a visitor.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use codec::AvlCodec;
use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use contract::keys::STREAM_TELTONIKA;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tests::batches::{Sent, SpoolOf};
use tests::items;
use tests::processes::{Cloud, Setting};
use tests::servers::{Postgres, Redis, RedisOptions};
use tests::tables::{Tables, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const IMEI: u64 = 350_000_000_000_017;

/// 2026-09-21T14:13:20Z.
pub(crate) const START_MS: u64 = 1_790_000_000_000;

/// Before every path.
pub(crate) const API: &str = "/api/v1";

const READ_TOKEN: &str = "made-up-token-to-look";
const OPERATOR_TOKEN: &str = "made-up-token-to-act";

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A problem document of this status and code.
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Result<()> {
        let told = self.json();
        let kind = self.header("content-type");
        ensure!(
            self.status == status
                && kind == "application/problem+json"
                && told["code"] == code
                && told["status"] == status
                && told["detail"].as_str().is_some_and(|it| !it.is_empty()),
            "{status} {code} expected: {} {kind} {told}",
            self.status
        );
        Ok(())
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let asking = async {
        let mut socket = TcpStream::connect(to).await?;
        socket
            .write_all(&request(to, method, path, headers, body))
            .await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        parse(&answer)
    };
    let answer = timeout(PATIENCE, asking)
        .await
        .context("no answer in time")?;
    answer.with_context(|| format!("{method} {path}"))
}

/// The bytes of a request; `Host` is the address unless it is given.
pub(crate) fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head += &format!("Host: {to}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    request
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
    let end = end.context("no end of the header")?;
    let head = String::from_utf8(answer[..end].to_vec())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|word| word.parse().ok());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut found = Answer {
        status: status.context("no status")?,
        headers,
        body: answer[end + 4..].to_vec(),
    };
    if found.header("transfer-encoding") == "chunked" {
        found.body = unchunked(&found.body)?;
    }
    Ok(found)
}

/// RFC 9112, 7.1. An end that is missing is an error: the answer was cut off.
fn unchunked(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|it| it == b"\r\n");
        let end = end.context("a chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?.trim(), 16)?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        ensure!(bytes.len() >= size + 2, "a chunk that was cut off");
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}

pub(crate) struct Stage {
    pub(crate) cloud: Cloud,
    pub(crate) tables: Tables,
    pub(crate) tokens: PathBuf,
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    admin: MultiplexedConnection,
    spool: SpoolOf,
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    /// With a file of two tokens.
    pub(crate) async fn new() -> Result<Stage> {
        Self::with(&[]).await
    }

    /// Settings over those.
    pub(crate) async fn with(settings: &[Setting]) -> Result<Stage> {
        let redis = Redis::start(RedisOptions::default()).await?;
        let postgres = Postgres::start().await?;
        let url = postgres.create_database().await?;
        let dir = tempfile::tempdir()?;
        let tokens = dir.path().join("tokens.txt");
        let lines = format!(
            "looker plain:{READ_TOKEN} role=read\nactor plain:{OPERATOR_TOKEN} role=operator\n"
        );
        std::fs::write(&tokens, lines)?;
        std::fs::set_permissions(&tokens, PermissionsExt::from_mode(0o600))?;
        let mut all: Vec<Setting> = vec![("web.tokens", json!(tokens))];
        all.extend_from_slice(settings);
        let at = dir.path();
        let cloud = Cloud::start(at, Some(at), &redis, &url, &all).await?;
        Ok(Stage {
            cloud,
            tables: Tables::connect(&url).await?,
            tokens,
            postgres,
            admin: items::admin_of(&redis).await?,
            redis,
            spool: SpoolOf::new("depot", 1)?,
            dir,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.cloud.http_addr()
    }

    /// Looks, below the API.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.look(path, &[]).await
    }

    pub(crate) async fn look(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let bearer = format!("Bearer {READ_TOKEN}");
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        ask(self.addr(), "GET", &format!("{API}{path}"), &all, b"").await
    }

    /// What is there, or an error with the answer.
    pub(crate) async fn told(&self, path: &str) -> Result<Value> {
        let answer = self.get(path).await?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, answer.text());
        }
        Ok(answer.json())
    }

    /// Acts, below the API.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Result<Answer> {
        let bearer = format!("Bearer {OPERATOR_TOKEN}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        let path = format!("{API}{path}");
        ask(self.addr(), "POST", &path, &headers, body.as_bytes()).await
    }

    /// Frames through the stream, as one entry of the gateway `depot`.
    pub(crate) async fn send(&mut self, frames: &[Sent]) -> Result<()> {
        let mut add = redis::cmd("XADD");
        add.arg(STREAM_TELTONIKA).arg("*");
        for (name, value) in self.spool.entry(frames)? {
            add.arg(name).arg(value);
        }
        let _: String = add.query_async(&mut self.admin).await?;
        Ok(())
    }

    /// The same, and waits for as many positions as there are then.
    pub(crate) async fn drive(&mut self, frames: &[Sent]) -> Result<()> {
        let count = async |tables: &Tables| -> Result<i64> {
            Ok(tables
                .one::<(i64,)>("SELECT count(*) FROM positions")
                .await?
                .0)
        };
        let before = count(&self.tables).await?;
        self.send(frames).await?;
        let wanted = before + i64::try_from(frames.len())?;
        eventually("the frames are rows", async || {
            Ok(count(&self.tables).await? == wanted)
        })
        .await
    }

    /// The id of the device with this IMEI.
    pub(crate) async fn device(&self, imei: u64) -> Result<i64> {
        let told = self.told(&format!("/devices?q={imei:015}")).await?;
        told["items"][0]["id"].as_i64().context("a device")
    }
}

/// A frame of one record with a fix: `n` seconds after the start, `n` steps up the road.
pub(crate) fn fix(imei: u64, n: u64) -> Result<Sent> {
    let at = START_MS + n * 1_000;
    let step = i32::try_from(n)?;
    let io = [
        IoSpec {
            id: 239,
            value: IoValue::U8(1),
        },
        IoSpec {
            id: 66,
            value: IoValue::U16(12_000 + u16::try_from(n % 1_000)?),
        },
    ];
    let record = RecordSpec {
        timestamp_ms: at,
        latitude_e7: 525_163_000 + 1_000 * step,
        longitude_e7: 133_777_000,
        altitude_m: 34,
        satellites: 9,
        speed_kmh: 50,
        io: &io,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8E, &[record], &mut data)?;
    Ok(Sent {
        imei,
        received_at_ms: at + 500,
        data,
    })
}
