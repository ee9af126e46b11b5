//! Every server there is, with both protocols.

use anyhow::{Context as _, Result, ensure};
use contract::{Coding, keys};
use redis::AsyncCommands as _;
use tests::processes::{Cloud, get};
use tests::servers::{ADMIN, PROCESSOR, Postgres, Redis, RedisOptions, redis_servers};
use tests::tables::{Tables, eventually};

use super::stage::{add, entry, rows};

/// Reads what is new, what was left behind and what was spoilt; tells how far behind it is;
/// publishes floor and contract; acknowledges everything.
#[tokio::test(flavor = "multi_thread")]
async fn every_server_is_read_in_both_protocols() -> Result<()> {
    let postgres = Postgres::start().await?;
    let servers = redis_servers()?;
    for server in servers {
        let redis = Redis::start_as(server.clone(), RedisOptions::default()).await?;
        for protocol in ["resp2", "resp3"] {
            let url = postgres.create_database().await?;
            read(&redis, &url, protocol)
                .await
                .with_context(|| format!("{} in {protocol}", server.path.display()))?;
            redis.flushall().await?;
        }
    }
    Ok(())
}

async fn read(redis: &Redis, database_url: &str, protocol: &str) -> Result<()> {
    let stream = keys::STREAM_TELTONIKA;
    let group = keys::GROUP_PROCESSOR;
    let client = redis.client(ADMIN)?;
    let mut admin = client.get_multiplexed_async_connection().await?;
    let () = admin.xgroup_create_mkstream(stream, group, "0").await?;
    for seq in 1..=10 {
        let fields = entry(1, &seq.to_string(), &Coding::MsgPackZstd)?;
        add(&mut admin, stream, &fields).await?;
    }
    let mut left = redis::cmd("XREADGROUP");
    left.arg("GROUP")
        .arg(group)
        .arg("dead-0")
        .arg("COUNT")
        .arg(4);
    let _: redis::Value = left
        .arg("STREAMS")
        .arg(stream)
        .arg(">")
        .query_async(&mut admin)
        .await?;
    // One of those that were left is deleted by somebody.
    let first: redis::streams::StreamRangeReply = admin.xrange_count(stream, "-", "+", 1).await?;
    let first = &first.ids.first().context("ten were added")?.id;
    let _: u64 = admin.xdel(stream, &[first]).await?;
    add(&mut admin, stream, &[("v", b"1".to_vec())]).await?;

    let dir = tempfile::tempdir()?;
    let settings = [
        (
            "redis.url",
            format!("{}?protocol={protocol}", redis.url(PROCESSOR)).into(),
        ),
        ("stream.claim_after", "1s".into()),
        ("stream.dead_letter", "dead-letter:telemetry".into()),
    ];
    let cloud = Cloud::start(dir.path(), Some(dir.path()), redis, database_url, &settings);
    let mut cloud = cloud.await?;
    let tables = Tables::connect(database_url).await?;
    eventually("everything readable is stored", async || {
        Ok(rows(&tables).await? == 9)
    })
    .await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    eventually("everything is acknowledged", async || {
        let pending: redis::streams::StreamPendingReply =
            admin.clone().xpending(stream, group).await?;
        Ok(pending.count() == 0)
    })
    .await?;
    let clients: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut admin)
        .await?;
    let resp = format!("resp={}", &protocol[4..]);
    let ours: Vec<&str> = clients
        .lines()
        .filter(|line| line.contains("user=processor"))
        .collect();
    ensure!(!ours.is_empty(), "{clients}");
    // Redis 7.0 tells the protocol; who does not tell is believed.
    let tells = |line: &&str| line.contains(" resp=");
    ensure!(
        ours.iter()
            .filter(|line| tells(line))
            .all(|line| line.contains(&resp)),
        "{clients}"
    );

    let status = cloud.status().await?;
    ensure!(
        status["deleted_unread"] == 1 && status["claimed"] == 3,
        "{status}"
    );
    ensure!(status["dead_letters"] == 1, "{status}");
    ensure!(status["streams"][0]["lag_entries"] == 0, "{status}");
    ensure!(status["streams"][0]["pending_entries"] == 0, "{status}");
    eventually(
        "the copy, the contract and the floor are there",
        async || {
            let mut admin = admin.clone();
            let copies: u64 = admin.xlen("dead-letter:telemetry").await?;
            let reads: Option<String> = admin.hget(keys::CONTRACT, "reads").await?;
            let floors: std::collections::HashMap<String, String> =
                admin.hgetall(keys::floor(&"by-hand".parse()?)).await?;
            let floor = floors.into_values().next();
            Ok((copies, reads.as_deref(), floor.as_deref()) == (1, Some("1-2"), Some("2-10")))
        },
    )
    .await?;
    let lag = cloud.call(&["lag", "--json"]).await?;
    ensure!(lag.contains("\"pending_entries\":0"), "{lag}");
    let (_, page) = get(cloud.http_addr(), "/metrics").await?;
    ensure!(page.contains("milepost_cloud_redis_connected 1"), "{page}");
    // A wake-up that comes late: the reader waits in a blocking read now.
    add(&mut admin, stream, &entry(2, "1", &Coding::MsgPack)?).await?;
    eventually("what comes later is stored", async || {
        Ok(rows(&tables).await? == 10)
    })
    .await?;
    let stopped = cloud.terminate().await?.context("it ran")?;
    ensure!(stopped.success(), "{stopped}");
    Ok(())
}
