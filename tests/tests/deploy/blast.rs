//! docs/security.md on a stolen box: each row of its table, done with a gateway's user at a real Redis.

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tests::items::{add, admin, entry_of, gap};
use tests::processes::{Road, RoadOptions, get};
use tests::servers::{ADMIN, GATEWAY, PROCESSOR};
use tests::tables::{Tables, eventually};

async fn says(connection: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<Value> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(connection).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stolen_box_can_do_is_what_the_page_says() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let redis = road.redis_access().clone();
    let stream = contract::keys::STREAM_TELTONIKA;
    let connect = async |user: &str| -> Result<MultiplexedConnection> {
        Ok(redis
            .client(user)?
            .get_multiplexed_async_connection()
            .await?)
    };
    let mut thief = connect(GATEWAY).await?;
    let mut cloud = connect(PROCESSOR).await?;
    // The group has read something, as it has everywhere but on the first day.
    says(&mut thief, &["XADD", stream, "*", "no", "record"]).await?;
    eventually("the cloud puts it aside", async || {
        Ok(counted(&road, "milepost_cloud_messages_failed_total").await? == 1)
    })
    .await?;
    road.gateway.terminate().await?;
    road.cloud.terminate().await?;
    let left = length(&mut cloud, stream).await?;

    // Forges, for any stream below telemetry: and in any name.
    for words in [
        vec!["XADD", stream, "*", "secret", "of another gateway"],
        vec!["XADD", "telemetry:made-up", "*", "a", "b"],
        vec!["HSET", "connections:registry", "356307042441013", GATEWAY],
        vec!["EVAL", "return 1", "0"],
    ] {
        let done = says(&mut thief, &words).await;
        done.with_context(|| format!("the page says it can: {words:?}"))?;
    }
    // Empties a stream of what nobody read, which the cloud counts.
    ensure!(length(&mut cloud, stream).await? == left + 1);
    for _ in 0..5 {
        says(&mut thief, &["XADD", stream, "*", "unread", "yes"]).await?;
    }
    says(&mut thief, &["XADD", stream, "MAXLEN", "0", "*", "a", "b"]).await?;
    ensure!(length(&mut cloud, stream).await? == 0);
    road.cloud.restart().await?;
    says(&mut thief, &["XADD", stream, "*", "a", "b"]).await?;
    eventually("the cloud counts what was trimmed", async || {
        Ok(counted(&road, "milepost_cloud_trim_lost_total").await? > 0)
    })
    .await?;

    // What the page says it cannot.
    let mut admin = connect(ADMIN).await?;
    for key in ["floor:other", "contract"] {
        says(&mut admin, &["SET", &format!("{key}:probe"), "1"]).await?;
    }
    for words in [
        vec!["XRANGE", stream, "-", "+"],
        // Shows the first and the last entry.
        vec!["XINFO", "STREAM", stream],
        vec!["XREAD", "COUNT", "1", "STREAMS", stream, "0"],
        vec![
            "XREADGROUP",
            "GROUP",
            "processor",
            "x",
            "STREAMS",
            stream,
            ">",
        ],
        vec![
            "XREADGROUP",
            "GROUP",
            "gateway",
            "x",
            "STREAMS",
            "commands:outbound:other",
            ">",
        ],
        vec!["XADD", "commands:outbound:other", "*", "a", "b"],
        vec!["HGETALL", "floor:other"],
        vec!["GET", "instance:heartbeat:other"],
        vec!["XTRIM", stream, "MAXLEN", "0"],
        vec!["XDEL", stream, "0-1"],
        vec!["DEL", stream],
        vec!["KEYS", "*"],
        vec!["SCAN", "0"],
        vec!["ACL", "LIST"],
        vec!["CONFIG", "GET", "*"],
        vec!["FLUSHALL"],
    ] {
        let error = says(&mut thief, &words).await.err();
        let error = error.with_context(|| format!("the page says it cannot: {words:?}"))?;
        ensure!(error.code() == Some("NOPERM"), "{words:?}: {error}");
    }
    road.stop().await
}

/// The worst of it: what the true gateway sends afterwards is taken for known, and the ledger balances.
#[tokio::test(flavor = "multi_thread")]
async fn positions_given_up_in_anothers_name_are_not_stored_when_they_come() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let redis = road.redis_access().clone();
    let thief = redis.client(GATEWAY)?;
    let mut thief = thief.get_multiplexed_async_connection().await?;
    let tables = Tables::connect(road.database_url()).await?;
    let stream = contract::keys::STREAM_TELTONIKA;
    // Of the gateway `by-hand`, which is not the thief; 0 records, as where damage hides the number.
    add(&mut thief, stream, "*", &gap(7, 1..=3, 0)?).await?;
    let settled = "SELECT coalesce(sum(last_seq - first_seq + 1), 0)::int8 FROM settled";
    tables.wait_for(settled, 3).await?;
    let mut other = admin(&road).await?;
    add(&mut other, stream, "*", &entry_of(7, 1..=5)?).await?;
    tables.wait_for(settled, 5).await?;
    let (stored,): (i64,) = tables.one("SELECT count(*) FROM positions").await?;
    assert_eq!(stored, 2, "the page says that three of five are not stored");
    road.cloud.call(&["ledger", "--since", "all"]).await?;
    road.stop().await
}

async fn counted(road: &Road, name: &str) -> Result<u64> {
    let (_, text) = get(road.cloud.http_addr(), "/metrics").await?;
    let mut rows = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = rows
        .find(|(found, _)| *found == name)
        .context("the metric")?;
    Ok(value.parse()?)
}

async fn length(connection: &mut MultiplexedConnection, stream: &str) -> Result<u64> {
    Ok(redis::cmd("XLEN")
        .arg(stream)
        .query_async(connection)
        .await?)
}
