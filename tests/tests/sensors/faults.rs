//! Killed, without a database, without what Redis had: nothing is lost that is not lost with Redis,
//! and nothing is doubled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use tests::fail_points::{Scenario, arm, died, of};
use tests::processes::Setting;
use tests::tables::eventually;

use super::site::{COPIES, LETTERS, ROOM, ROWS, Site, metric, reading};

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_between_reading_and_acknowledging_it_doubles_nothing() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    let (mut rows, mut letters) = (0, 0);
    // Acknowledging and copying letters are the code that telemetry has.
    let shared = ["before-xack", "after-xack", "letter-copied"];
    for name in of(Scenario::Readings)?.into_iter().chain(shared) {
        site.cloud.terminate().await?;
        for number in 0..20 {
            site.says(ROOM, &number.to_string()).await?;
        }
        // Readable, and refused as data.
        site.sends(ROOM, &reading("1", Some(r#"["\u0000"]"#)))
            .await?;
        (rows, letters) = (rows + 20, letters + 1);
        arm(&mut site.cloud, name, 1).await;
        died(&mut site.cloud, name).await?;
        site.cloud.restart().await?;
        site.tables.wait_for(ROWS, rows).await.context(name)?;
        site.tables.wait_for(LETTERS, letters).await.context(name)?;
        site.until_acknowledged(ROOM).await.context(name)?;
    }
    let distinct: (i64,) = site
        .tables
        .one("SELECT count(DISTINCT entry_id) FROM sensor_readings")
        .await?;
    assert_eq!(distinct.0, rows);
    // Each has a copy, some two: killed between the copy and the acknowledgement.
    let copies: StreamRangeReply = site.admin.xrange_all(COPIES).await?;
    let origins: BTreeSet<Vec<u8>> = copies
        .ids
        .iter()
        .filter_map(|copy| copy.get("original_id"))
        .collect();
    assert_eq!(i64::try_from(origins.len())?, letters);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_sat_out() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    site.says(ROOM, "1").await?;
    site.tables.wait_for(ROWS, 1).await?;
    let mut postgres = site.postgres.take().context("a PostgreSQL")?;
    postgres.stop().await?;
    for number in 0..300 {
        let stream = format!("mqtt_stream:d{}:t", number % 30);
        site.says(&stream, "2").await?;
    }
    eventually("it is told", async || {
        let health = site.page("/health").await?;
        Ok(health["database"] == "disconnected")
    })
    .await?;
    postgres.restart().await?;
    site.tables.wait_for(ROWS, 301).await?;
    site.until_acknowledged("mqtt_stream:d7:t").await?;
    site.tables.wait_for(LETTERS, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_emptied_is_read_from_the_beginning_of_what_comes() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    for number in 0..10 {
        site.says(&format!("mqtt_stream:d{number}:t"), "1").await?;
    }
    site.tables.wait_for(ROWS, 10).await?;
    site.redis.admin_does(&["FLUSHALL"]).await?;
    // Before it has looked again: groups are gone, streams are there.
    for number in 0..10 {
        site.says(&format!("mqtt_stream:d{number}:t"), "2").await?;
    }
    site.tables.wait_for(ROWS, 20).await?;
    eventually("the loss is told", async || {
        Ok(metric(&site.cloud, "milepost_cloud_group_lost_total").await? >= 10)
    })
    .await?;
    // A stream that goes is let go, and taken in again.
    site.redis.admin_does(&["DEL mqtt_stream:d3:t"]).await?;
    let streams = "milepost_cloud_sensor_streams";
    eventually("it is let go", async || {
        Ok(metric(&site.cloud, streams).await? == 9)
    })
    .await?;
    site.says("mqtt_stream:d3:t", "3").await?;
    site.tables.wait_for(ROWS, 21).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_waited_for() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    site.says(ROOM, "1").await?;
    site.tables.wait_for(ROWS, 1).await?;
    site.redis.stop().await?;
    eventually("it is told", async || {
        let health = site.page("/health").await?;
        Ok(health["redis"] == "disconnected")
    })
    .await?;
    site.redis.restart().await?;
    site.admin = tests::items::admin_of(&site.redis).await?;
    site.says(ROOM, "2").await?;
    let read = site.tables.wait_for(ROWS, 2).await;
    read.with_context(|| site.cloud.last_words())?;
    eventually("it is told", async || {
        let health = site.page("/health").await?;
        Ok(health["redis"] == "connected")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_may_not_be_read_holds_up_no_other() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    let words = "ACL SETUSER processor resetkeys ~telemetry:* ~floor:* ~contract ~connections:registry ~mqtt_stream:ours:*";
    site.redis.admin_does(&[words]).await?;
    site.says("mqtt_stream:theirs:t", "1").await?;
    let words = "XREADGROUP: this user may not";
    eventually(words, async || {
        let log = std::fs::read_to_string(site.cloud.log())?;
        Ok(log.matches(words).count() >= 4)
    })
    .await?;
    let began = Instant::now();
    for number in 1..=10 {
        site.says("mqtt_stream:ours:t", "1").await?;
        site.tables.wait_for(ROWS, number).await?;
    }
    // A pause of all would be seconds by now, and twice as long each time.
    ensure!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_unread_is_an_alarm() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    for _ in 0..10 {
        site.says(ROOM, "1").await?;
    }
    site.tables.wait_for(ROWS, 10).await?;
    site.cloud.terminate().await?;
    for _ in 0..20 {
        site.says(ROOM, "2").await?;
    }
    site.redis
        .admin_does(&[&format!("XTRIM {ROOM} MAXLEN 5")])
        .await?;
    site.cloud.restart().await?;
    site.tables.wait_for(ROWS, 15).await?;
    eventually("the loss is told", async || {
        Ok(metric(&site.cloud, "milepost_cloud_sensor_trim_lost_total").await? == 15)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_trimmed_only_where_that_was_asked_for() -> Result<()> {
    let settings: [Setting; 1] = [("sensors.keep", Value::from("1s"))];
    let mut site = Site::start(&settings).await?;
    // Whole nodes of a stream go: a hundred entries by default.
    for _ in 0..350 {
        site.says(ROOM, "1").await?;
    }
    site.tables.wait_for(ROWS, 350).await?;
    site.until_acknowledged(ROOM).await?;
    eventually("old ones go", async || {
        let length: u64 = site.admin.clone().xlen(ROOM).await?;
        Ok(length < 350)
    })
    .await?;
    ensure!(
        metric(&site.cloud, "milepost_cloud_trimmed_total").await? >= 100,
        "counted"
    );
    Ok(())
}
