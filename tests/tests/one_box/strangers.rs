//! Who is not what the other side takes it for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use contract::direct;
use contract::keys::STREAM_TELTONIKA;
use redis::aio::MultiplexedConnection;
use tests::drive::Drive;
use tests::items::{add, entry_of, gap};
use tests::processes::{Road, get, through_socket};
use tests::servers::{Redis, RedisOptions};
use tests::tables::{Tables, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{cloud, direct, ends_well, gateway, uplink};

/// In the directory of a Redis.
const SOCKET: &str = "other.sock";

/// As a gateway would connect, with these words as greeting.
async fn greet(socket: &Path, greeting: &str) -> redis::RedisResult<MultiplexedConnection> {
    let url = format!("unix:{}?pass={greeting}", socket.display());
    let client = redis::Client::open(url)?;
    client.get_multiplexed_async_connection().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cloud_at_a_socket_is_refused_and_the_first_goes_on() -> Result<()> {
    let drive = Drive::start(direct()).await?;
    let words = ["run", "--from-spool", drive.road.socket().to_str().unwrap()].map(str::to_owned);
    // Its pages would be in the way first.
    let file = drive.road.dir().join("cloud.toml");
    let text = std::fs::read_to_string(&file)?;
    let ours = drive.road.cloud.http_addr().to_string();
    std::fs::write(&file, text.replace(&ours, ""))?;
    let ran = cloud(&drive.road, &words.each_ref().map(String::as_str)).await?;
    let ran = ran.with(3)?;
    ensure!(
        ran.err.contains("another cloud serves the socket"),
        "{ran:?}"
    );
    drive.stored(200).await?;
    drive.judge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_cloud_for_a_redis_is_told() -> Result<()> {
    let road = Road::start(direct()).await?;
    let wrong = greet(&road.socket(), "secret").await.err();
    let wrong = wrong.context("a wrong greeting is refused")?;
    assert_eq!(
        wrong.kind(),
        redis::ErrorKind::AuthenticationFailed,
        "{wrong}"
    );
    let client = redis::Client::open(format!("unix:{}", road.socket().display()))?;
    let mut silent = client.get_multiplexed_async_connection().await?;
    let added = add(&mut silent, STREAM_TELTONIKA, "*", &entry_of(1, 1..=2)?).await;
    let why = format!(
        "{:#}",
        added.err().context("nothing is taken without a greeting")?
    );
    ensure!(why.contains("no Redis"), "{why}");
    let mut greeted = greet(&road.socket(), direct::GREETING).await?;
    let read: redis::RedisResult<String> =
        redis::cmd("GET").arg("x").query_async(&mut greeted).await;
    let why = read.unwrap_err().to_string();
    ensure!(why.contains("no Redis"), "{why}");
    // Something that is not even that.
    let mut web = UnixStream::connect(road.socket()).await?;
    web.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut said = String::new();
    web.read_to_string(&mut said).await?;
    ensure!(said.starts_with("-ERR"), "{said}");
    let tables = Tables::connect(road.database_url()).await?;
    let rows: (i64,) = tables.one("SELECT count(*) FROM positions").await?;
    assert_eq!(rows, (0,));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_behind_the_socket_is_refused_and_the_check_says_so() -> Result<()> {
    let mut road = Road::start(direct()).await?;
    let redis = Redis::start(RedisOptions {
        config: vec![format!("unixsocket {SOCKET}")],
        ..RedisOptions::default()
    });
    let redis = redis.await?;
    let socket = redis.dir().join(SOCKET);
    through_socket(&socket)
        .into_iter()
        .for_each(|setting| road.gateway.set(setting));
    road.gateway.restart().await?;
    eventually("the cause is named", async || {
        Ok(uplink(&road, "cause").await? == "wrongpass")
    })
    .await?;
    let codes = async |road: &Road| -> Result<Vec<String>> {
        let found = gateway(road, &["check", "--json"]).await?.json()?;
        let code = |it: &serde_json::Value| Some(it["code"].as_str()?.to_owned());
        Ok(found.iter().filter_map(code).collect())
    };
    ensure!(codes(&road).await?.contains(&"E-DIR-003".to_owned()));
    let nowhere = road.dir().join("nowhere.sock");
    through_socket(&nowhere)
        .into_iter()
        .for_each(|setting| road.gateway.set(setting));
    road.gateway.restart().await?;
    ensure!(codes(&road).await?.contains(&"E-DIR-001".to_owned()));
    Ok(())
}

/// Passes everything on, but tells the gateway of another contract.
async fn of_another_version(from: PathBuf, to: PathBuf) -> Result<()> {
    let listener = UnixListener::bind(&from)?;
    loop {
        let (gateway, _) = listener.accept().await?;
        let cloud = UnixStream::connect(&to).await?;
        tokio::spawn(async move {
            let (mut from_gateway, mut to_gateway) = gateway.into_split();
            let (mut from_cloud, mut to_cloud) = cloud.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_gateway, &mut to_cloud).await });
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_cloud.read(&mut bytes).await {
                let said = &mut bytes[..read];
                let ours = b"$3\r\n1-2\r\n";
                if let Some(at) = said.windows(ours.len()).position(|it| it == ours) {
                    said[at..at + ours.len()].copy_from_slice(b"$3\r\n8-9\r\n");
                }
                if to_gateway.write_all(said).await.is_err() {
                    break;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_of_another_contract_gets_nothing_until_it_is_updated() -> Result<()> {
    let mut drive = Drive::start(direct()).await?;
    let (proxy, socket) = (drive.road.dir().join("other.sock"), drive.road.socket());
    let passing = tokio::spawn(of_another_version(proxy.clone(), socket.clone()));
    drive.road.gateway.terminate().await?;
    through_socket(&proxy)
        .into_iter()
        .for_each(|setting| drive.road.gateway.set(setting));
    drive.road.gateway.restart().await?;
    drive.acked(300).await?;
    eventually("the cause is named", async || {
        Ok(uplink(&drive.road, "cause").await? == "contract")
    })
    .await?;
    assert_eq!(uplink(&drive.road, "records_sent").await?, 0);
    passing.abort();
    through_socket(&socket)
        .into_iter()
        .for_each(|setting| drive.road.gateway.set(setting));
    drive.road.gateway.terminate().await?;
    drive.road.gateway.restart().await?;
    drive.stored(300).await?;
    ends_well(&drive).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_waits_for_what_came_before_and_what_is_newer_is_left() -> Result<()> {
    let road = Road::start(direct()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut gateway = greet(&road.socket(), direct::GREETING).await?;
    let asking = gateway.clone();
    let floor = async |spool: u64| -> Result<Option<String>> {
        let spool = contract::SpoolId::from_u64(spool)?.to_string();
        let told: Vec<Option<String>> = redis::cmd("HMGET")
            .arg("floor:by-hand")
            .arg(spool)
            .query_async(&mut asking.clone())
            .await?;
        Ok(told.into_iter().next().flatten())
    };
    // Three of these five are given up in the same breath: they were handed over before.
    add(&mut gateway, STREAM_TELTONIKA, "*", &entry_of(1, 1..=5)?).await?;
    add(&mut gateway, STREAM_TELTONIKA, "*", &gap(1, 3..=6, 4)?).await?;
    eventually("all of it is settled", async || {
        Ok(floor(1).await?.as_deref() == Some("1-6"))
    })
    .await?;
    let settled: (i64, i64) = tables
        .one("SELECT sum(stored)::bigint, sum(dropped)::bigint FROM settled")
        .await?;
    assert_eq!(settled, (5, 1));
    let mut newer = entry_of(2, 1..=2)?;
    let version = newer.iter_mut().find(|(name, _)| *name == "v");
    version.context("it has one")?.1 = b"9".to_vec();
    add(&mut gateway, STREAM_TELTONIKA, "*", &newer).await?;
    add(&mut gateway, STREAM_TELTONIKA, "*", &entry_of(3, 1..=1)?).await?;
    eventually("what came behind it is settled", async || {
        Ok(floor(3).await?.is_some())
    })
    .await?;
    assert_eq!(floor(2).await?, None);
    let (_, page) = get(road.cloud.http_addr(), "/metrics").await?;
    ensure!(
        page.contains("milepost_cloud_left_for_newer_total 1"),
        "{page}"
    );
    Ok(())
}
