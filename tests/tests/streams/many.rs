//! Several streams and several writers in one process.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::keys::{self, STREAM_TELTONIKA};
use redis::AsyncCommands as _;
use redis::streams::StreamInfoGroupsReply;
use serde_json::{Value, json};
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions, Setting, get};
use tests::tables::{Tables, eventually};

use super::stage::{add, admin, entry, pending};

const PATIENCE: Duration = Duration::from_secs(90);

const OTHER: &str = "telemetry:other";
const SHARD: &str = "telemetry:teltonika:4";
const FOUND: &str = "telemetry:queclink";

async fn road(cloud: &[Setting]) -> Result<Road> {
    Road::start(RoadOptions {
        cloud: cloud.to_vec(),
        ..RoadOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_is_read_whenever_it_appears_and_no_other_key_is() -> Result<()> {
    let road = road(&[
        ("stream.names", json!([STREAM_TELTONIKA, OTHER])),
        ("stream.pattern", "*".into()),
        ("stream.look_every", "1s".into()),
    ])
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    // Keys that the pattern matches and that are none of its business.
    let put_aside = keys::dead_letter_stream(STREAM_TELTONIKA);
    for stream in [put_aside.as_str(), keys::COMMAND_RESPONSES] {
        add(&mut redis, stream, "*", &entry(9, 1)?).await?;
    }
    let () = redis.set("telemetry:text", "no stream").await?;
    // The same id everywhere: an item is known by its stream and its id together.
    let id = "1700000000000-1";
    for (spool, stream) in (1..).zip([STREAM_TELTONIKA, OTHER, SHARD, FOUND]) {
        add(&mut redis, stream, id, &entry(spool, 1)?).await?;
        let rows = i64::try_from(spool)?;
        tables
            .wait_for("SELECT count(*) FROM positions", rows)
            .await?;
    }
    let unreadable = [("v", b"1".to_vec())];
    for stream in [STREAM_TELTONIKA, FOUND] {
        add(&mut redis, stream, "1700000000000-2", &unreadable).await?;
    }
    tables
        .wait_for(
            "SELECT count(*) FROM dead_letters WHERE error_class = 'entry'",
            2,
        )
        .await?;
    for stream in [STREAM_TELTONIKA, OTHER, SHARD, FOUND] {
        eventually("everything is acknowledged", async || {
            Ok(pending(&mut redis.clone(), stream).await? == 0)
        })
        .await?;
    }
    let groups: StreamInfoGroupsReply = redis.xinfo_groups(&put_aside).await?;
    ensure!(groups.groups.is_empty(), "nobody reads what was put aside");
    let (_, metrics) = get(road.cloud.http_addr(), "/metrics").await?;
    for stream in [STREAM_TELTONIKA, OTHER, SHARD, FOUND] {
        let line = format!("milepost_cloud_stream_pending_entries{{stream=\"{stream}\"}} 0");
        ensure!(metrics.contains(&line), "{line} in {metrics}");
    }

    // Deleted: said, and read on when it is there again.
    let lost = async || {
        let status = road.cloud.status().await?;
        status["group_lost"].as_u64().context("a number")
    };
    let mut rows = 4;
    for (losses, stream) in (1..).zip([FOUND, OTHER]) {
        let () = redis.del(stream).await?;
        eventually("the loss is said", async || Ok(lost().await? == losses)).await?;
        add(&mut redis, stream, "*", &entry(10 + losses, 1)?).await?;
        rows += 1;
        tables
            .wait_for("SELECT count(*) FROM positions", rows)
            .await?;
    }
    ensure!(lost().await? == 2, "each loss is counted once");
    Ok(())
}

/// A fleet drives; then everything is stored, and the cloud stops in time.
async fn driven(road: &mut Road) -> Result<String> {
    let fleet = Fleet::start(FleetConfig {
        devices: 20,
        rate: "40".parse()?,
        records_per_frame: 2,
        ..road.fleet_config()
    })
    .await?;
    eventually("trackers are ACKed", async || {
        Ok(fleet.stats().acked > 2_000)
    })
    .await?;
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers wait for ACKs");
    road.clean_ledger(&fleet.truth(), PATIENCE).await?;
    let status = road.cloud.terminate().await?.context("it ran")?;
    ensure!(status.success(), "cloud ended with {status}");
    Ok(std::fs::read_to_string(road.cloud.log())?)
}

/// The writers that have committed something.
fn writers(log: &str) -> Vec<u64> {
    let mut writers: Vec<u64> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "Processed batch")
        .filter_map(|line| line["writer"].as_u64())
        .collect();
    writers.sort_unstable();
    writers.dedup();
    writers
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_share_the_work() -> Result<()> {
    let mut road = road(&[
        ("store.writers", 3.into()),
        ("store.batch_rows_max", 20.into()),
    ])
    .await?;
    ensure!(road.cloud.status().await?["writers"] == 3);
    let log = driven(&mut road).await?;
    assert_eq!(writers(&log), [0, 1, 2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_to_the_database_is_enough_to_work() -> Result<()> {
    let mut road = road(&[("database.pool", 1.into()), ("store.writers", 4.into())]).await?;
    ensure!(road.cloud.status().await?["writers"] == 1);
    let log = driven(&mut road).await?;
    assert_eq!(writers(&log), [0]);
    ensure!(log.contains("fewer writers"), "it is said in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_copied_to_a_stream_that_nobody_reads() -> Result<()> {
    // The founding documents' trap: a name that the pattern for telemetry matches.
    let copies = "telemetry:failed";
    let road = road(&[
        ("stream.dead_letter", copies.into()),
        ("stream.dead_letter_keep", "1h".into()),
        ("stream.pattern", "telemetry:*".into()),
        ("stream.look_every", "1s".into()),
    ])
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    // A copy of yesterday and a hundred of its kind: old enough to go.
    for number in 0..200 {
        let fields = [("error", vec![b'x'; 100])];
        add(
            &mut redis,
            copies,
            &format!("1600000000000-{number}"),
            &fields,
        )
        .await?;
    }
    add(&mut redis, STREAM_TELTONIKA, "*", &entry(1, 1)?).await?;
    let mut spoilt = entry(1, 2)?;
    for (name, value) in &mut spoilt {
        if *name == "d" {
            *value = b"spoilt".to_vec();
        }
    }
    let id = add(&mut redis, STREAM_TELTONIKA, "*", &spoilt).await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await?;
    let mut copy = None;
    eventually("the copy is there", async || {
        let last: redis::streams::StreamRangeReply =
            redis.xrevrange_count(copies, "+", "-", 1).await?;
        copy = last
            .ids
            .into_iter()
            .next()
            .filter(|copy| copy.map.contains_key("failed_at"));
        Ok(copy.is_some())
    })
    .await?;
    let copy = copy.context("a copy")?;
    let field = |name: &str| copy.get::<String>(name).unwrap_or_default();
    assert_eq!(field("original_stream"), STREAM_TELTONIKA);
    assert_eq!(field("original_id"), id);
    assert_eq!(
        (field("gw"), field("seq")),
        ("by-hand".to_owned(), "2".to_owned())
    );
    assert_eq!(
        (field("error_class"), field("d")),
        ("payload".to_owned(), "spoilt".to_owned())
    );
    assert!(!field("error").is_empty() && !field("consumer").is_empty());
    let left: u64 = redis.xlen(copies).await?;
    assert!(left < 100, "{left} copies are left");
    // Another stream of the pattern appears and is read; this one never is.
    add(&mut redis, OTHER, "*", &entry(2, 1)?).await?;
    tables.wait_for("SELECT count(*) FROM positions", 2).await?;
    let groups: StreamInfoGroupsReply = redis.xinfo_groups(copies).await?;
    assert!(groups.groups.is_empty());
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 1)
        .await
}
