//! What waits, and what somebody took away.

use anyhow::{Context as _, Result, ensure};
use contract::keys::STREAM_TELTONIKA;
use redis::AsyncCommands as _;
use serde_json::Value;
use tests::processes::{Road, RoadOptions, get};
use tests::tables::{Tables, eventually};

use super::stage::{add, admin, entry};

async fn trim_lost(road: &Road) -> Result<u64> {
    let status = road.cloud.status().await?;
    status["trim_lost"].as_u64().context("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_and_what_was_trimmed_unread_is_an_alarm() -> Result<()> {
    let mut road = Road::start(RoadOptions::default()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    add(&mut redis, STREAM_TELTONIKA, "*", &entry(1, 1)?).await?;
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    road.cloud.kill9()?;
    for seq in 2..=11 {
        add(&mut redis, STREAM_TELTONIKA, "*", &entry(1, seq)?).await?;
    }
    let told = road.cloud.call(&["--json", "lag"]).await?;
    let told: Value = serde_json::from_str(told.lines().last().context("a line")?)?;
    ensure!(
        told["stream"] == STREAM_TELTONIKA && told["lag_entries"] == 10,
        "{told}"
    );
    ensure!(
        told["lag_records"] == 10 && told["lag_records_estimated"] == true,
        "{told}"
    );
    ensure!(told["oldest_unacknowledged_seconds"].is_u64(), "{told}");
    let table = road.cloud.call(&["lag"]).await?;
    ensure!(
        table.contains("lag records") && table.contains("~10"),
        "{table}"
    );

    // Somebody cuts off six of ten unread ones.
    let mut trim = redis::cmd("XTRIM");
    trim.arg(STREAM_TELTONIKA).arg("MAXLEN").arg(4);
    let _: u64 = trim.query_async(&mut redis).await?;
    road.cloud.restart().await?;
    tables.wait_for("SELECT count(*) FROM positions", 5).await?;
    eventually("the loss is counted", async || {
        Ok(trim_lost(&road).await? > 0)
    })
    .await?;
    ensure!(trim_lost(&road).await? == 6, "{}", trim_lost(&road).await?);
    let log = std::fs::read_to_string(road.cloud.log())?;
    ensure!(
        log.contains("trimmed items that were not read"),
        "it is said in the log"
    );
    eventually("nothing waits", async || {
        let (_, page) = get(road.cloud.http_addr(), "/queue/status").await?;
        let page: Value = serde_json::from_str(&page)?;
        let stream = &page["streams"][0];
        Ok(page["trim_lost"] == 6
            && stream["lag_records"] == 0
            && stream["pending_entries"] == 0
            && stream["oldest_unacknowledged_seconds"] == 0)
    })
    .await?;

    // Told once: a process that starts behind the loss does not tell it again.
    road.cloud.restart().await?;
    add(&mut redis, STREAM_TELTONIKA, "*", &entry(1, 12)?).await?;
    tables.wait_for("SELECT count(*) FROM positions", 6).await?;
    ensure!(trim_lost(&road).await? == 0, "it was told before");
    Ok(())
}

/// Without it Redis fills up, however well everything else works.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_and_old_enough_leaves_the_stream() -> Result<()> {
    let road = Road::start(RoadOptions {
        cloud: vec![("stream.keep", Value::from("1s"))],
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    for seq in 1..=200 {
        add(&mut redis, STREAM_TELTONIKA, "*", &entry(1, seq)?).await?;
    }
    tables
        .wait_for("SELECT count(*) FROM positions", 200)
        .await?;
    // Whole nodes go; the last one may stay.
    eventually("the stream is trimmed", async || {
        let left: u64 = redis.xlen(STREAM_TELTONIKA).await?;
        Ok(left < 100)
    })
    .await?;
    ensure!(trim_lost(&road).await? == 0, "our own trimming is no loss");
    Ok(())
}
