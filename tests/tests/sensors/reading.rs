//! Readings that become rows.

use anyhow::{Result, ensure};
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tests::processes::Cloud;
use tests::servers::Timescale;
use tests::tables::eventually;

use super::site::{LETTERS, ROOM, ROWS, Site, metric, reading};

async fn the_founding_message_is_a_row(site: &mut Site) -> Result<()> {
    let fields = vec![
        ("value", b"23.5".to_vec()),
        ("timestamp", b"2026-01-15T10:30:00Z".to_vec()),
        (
            "metadata",
            br#"{"unit": "celsius", "location": "room-1"}"#.to_vec(),
        ),
    ];
    let id = site.sends(ROOM, &fields).await?;
    site.tables.wait_for(ROWS, 1).await?;
    let (row,): (Value,) = site
        .tables
        .one("SELECT to_jsonb(r) - 'created_at' - 'id' - 'timestamp' || jsonb_build_object('us', (extract(epoch FROM \"timestamp\") * 1000000)::bigint) FROM sensor_readings r")
        .await?;
    let wanted = json!({
        "us": 1_768_473_000_000_000_i64,
        "device_id": "room-1",
        "sensor_type": "temperature",
        "value": 23.5,
        "metadata": {"unit": "celsius", "location": "room-1"},
        "entry_id": format!("{ROOM} {id}"),
    });
    assert_eq!(row, wanted);
    site.until_acknowledged(ROOM).await?;
    // It is not ours to remove.
    let length: u64 = site.admin.xlen(ROOM).await?;
    assert_eq!(length, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_founding_message_is_a_row_and_is_told_under_the_founding_names() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    the_founding_message_is_a_row(&mut site).await?;
    let health = site.page("/health").await?;
    for stats in [&health["stats"], &health["sensors"]["stats"]] {
        for (name, count) in [
            ("messages_read", 1),
            ("messages_written", 1),
            ("messages_failed", 0),
            ("batches_processed", 1),
            ("errors", 0),
        ] {
            assert_eq!(stats[name], count, "{name} in {health}");
        }
    }
    let queue = site.page("/queue/status").await?;
    assert_eq!(queue["queues"][ROOM]["pending"], 0, "{queue}");
    assert_eq!(queue["sensors"]["streams"], 1, "{queue}");
    assert_eq!(queue["total_pending"], 0, "{queue}");
    for (name, value) in [
        ("milepost_cloud_sensor_messages_read_total", 1),
        ("milepost_cloud_sensor_messages_written_total", 1),
        ("milepost_cloud_sensor_readings_stored_total", 1),
        ("milepost_cloud_sensor_streams", 1),
    ] {
        eventually(name, async || Ok(metric(&site.cloud, name).await? == value)).await?;
    }
    let lag = site.cloud.call(&["lag", "--json"]).await?;
    let lag: Vec<Value> = lag
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let ours = lag.iter().find(|line| line["stream"] == ROOM);
    let ours = ours.unwrap_or_else(|| panic!("{lag:?}"));
    assert_eq!(
        (&ours["lag_entries"], &ours["pending_entries"]),
        (&json!(0), &json!(0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_writes_into_a_hypertable() -> Result<()> {
    let Some(timescale) = Timescale::start().await? else {
        return Ok(()); // said aloud by the server's room
    };
    let settings = [
        ("database.pool", Value::from(1)),
        ("database.timescale", Value::from("require")),
        ("sensors.retention", Value::from("400d")),
    ];
    let mut site = Site::with(None, timescale.url(), &settings).await?;
    the_founding_message_is_a_row(&mut site).await?;
    let chunks: (i64, bool) = site
        .tables
        .one("SELECT num_chunks::bigint, compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_name = 'sensor_readings'")
        .await?;
    assert_eq!(chunks, (1, true));
    let jobs: Vec<(String, String)> = site
        .tables
        .all("SELECT proc_name::text, coalesce(config ->> 'compress_after', config ->> 'drop_after')::interval::text \
              FROM timescaledb_information.jobs WHERE hypertable_name = 'sensor_readings' ORDER BY 1")
        .await?;
    let wanted = [
        ("policy_compression", "168:00:00"),
        ("policy_retention", "9600:00:00"),
    ];
    assert_eq!(
        jobs,
        wanted.map(|(job, age)| (job.to_owned(), age.to_owned()))
    );
    // Into the columnstore, and what is there is known there.
    site.tables
        .run("SELECT compress_chunk(c) FROM show_chunks('sensor_readings') AS c")
        .await?;
    let again = format!("XGROUP SETID {ROOM} processor 0");
    site.redis.admin_does(&[&again]).await?;
    eventually("it was delivered twice", async || {
        Ok(metric(
            &site.cloud,
            "milepost_cloud_sensor_readings_duplicate_total",
        )
        .await?
            == 1)
    })
    .await?;
    site.tables.wait_for(ROWS, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_appears_is_found_and_the_copies_are_never_read() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    site.says(ROOM, "1").await?;
    site.tables.wait_for(ROWS, 1).await?;
    // What would be a reading, if it were not the stream of copies; and names of no sensor.
    for stream in [
        super::site::COPIES,
        "mqtt_stream:nameless",
        "dead-letter:room:temperature",
    ] {
        site.says(stream, "666").await?;
    }
    // Whatever else the pattern matches.
    let _: () = site.admin.set("mqtt_stream:room-9:text", "x").await?;
    for number in 0..20 {
        let stream = format!("mqtt_stream:aa:bb:{number}:humidity");
        site.says(&stream, &number.to_string()).await?;
    }
    site.tables.wait_for(ROWS, 21).await?;
    let devices: (i64, i64) = site
        .tables
        .one("SELECT count(DISTINCT device_id), count(*) FILTER (WHERE value = 666) FROM sensor_readings")
        .await?;
    assert_eq!(devices, (21, 0));
    // Nobody has joined them, and all is still there.
    for stream in [super::site::COPIES, "mqtt_stream:nameless"] {
        let groups: Value = groups(&mut site, stream).await?;
        assert_eq!(groups, json!([]), "{stream}");
        let length: u64 = site.admin.xlen(stream).await?;
        assert_eq!(length, 1, "{stream}");
    }
    site.tables.wait_for(LETTERS, 0).await
}

async fn groups(site: &mut Site, stream: &str) -> Result<Value> {
    let groups: redis::streams::StreamInfoGroupsReply = site.admin.xinfo_groups(stream).await?;
    Ok(groups.groups.iter().map(|it| it.name.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_by_pattern_leaves_sensors_to_their_reader() -> Result<()> {
    let settings = [("stream.pattern", Value::from("*"))];
    let mut site = Site::start(&settings).await?;
    for _ in 0..50 {
        site.says(ROOM, "1").await?;
    }
    site.tables.wait_for(ROWS, 50).await?;
    site.until_acknowledged(ROOM).await?;
    site.tables.wait_for(LETTERS, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_twice_is_one_row() -> Result<()> {
    let mut site = Site::start(&[]).await?;
    for number in 0..200 {
        site.says(ROOM, &number.to_string()).await?;
    }
    site.tables.wait_for(ROWS, 200).await?;
    site.until_acknowledged(ROOM).await?;
    let again = format!("XGROUP SETID {ROOM} processor 0");
    site.redis.admin_does(&[&again]).await?;
    // Known and new ones in one batch.
    for number in 0..10 {
        site.says(ROOM, &number.to_string()).await?;
    }
    site.tables.wait_for(ROWS, 210).await?;
    eventually("all came twice", async || {
        Ok(metric(
            &site.cloud,
            "milepost_cloud_sensor_readings_duplicate_total",
        )
        .await?
            == 200)
    })
    .await?;
    site.until_acknowledged(ROOM).await?;
    site.tables.wait_for(LETTERS, 0).await
}

async fn read_by(cloud: &Cloud) -> Result<u64> {
    metric(cloud, "milepost_cloud_sensor_messages_read_total").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_group_and_one_takes_over_from_the_other() -> Result<()> {
    let settings = [("stream.claim_after", Value::from("2s"))];
    let mut site = Site::start(&settings).await?;
    let second = site.another("second", &settings).await?;
    let mut sent = 0;
    eventually("both have read", async || {
        for number in 0..10 {
            let stream = format!("mqtt_stream:d{number}:t");
            site.says(&stream, "1").await?;
            sent += 1;
        }
        Ok(read_by(&site.cloud).await? > 0 && read_by(&second).await? > 0)
    })
    .await?;
    site.tables.wait_for(ROWS, sent).await?;
    // Somebody was handed some and died.
    site.cloud.kill9()?;
    for _ in 0..5 {
        site.sends("mqtt_stream:left:behind", &reading("7", None))
            .await?;
    }
    let left = "SELECT count(*) FROM sensor_readings WHERE device_id = 'left'";
    site.tables.wait_for(left, 5).await?;
    site.until_acknowledged("mqtt_stream:left:behind").await?;
    drop(second);
    for _ in 0..5 {
        site.sends("mqtt_stream:left:behind", &reading("8", None))
            .await?;
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg(&[
        "GROUP",
        "processor",
        "dead",
        "STREAMS",
        "mqtt_stream:left:behind",
        ">",
    ]);
    let handed: redis::Value = read.query_async(&mut site.admin).await?;
    ensure!(handed != redis::Value::Nil, "somebody else has read them");
    site.cloud.restart().await?;
    site.tables.wait_for(left, 10).await?;
    site.until_acknowledged("mqtt_stream:left:behind").await
}
