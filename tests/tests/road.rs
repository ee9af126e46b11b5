//! The whole road, record by record: what a tracker says over TCP stands in the tables, exactly,
//! once, whatever it was.
//!
//! Everything here is real: gateway and cloud are the binaries an operator runs, Redis speaks TLS
//! with client certificates, PostgreSQL syncs.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use codec::encode::{self, IoSpec, IoValue, RecordSpec};
use codec::{AvlCodec, Imei, Priority};
use contract::keys::STREAM_TELTONIKA;

use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde_json::{Value, json};
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions};
use tests::servers::ADMIN;
use tests::tables::{Tables, eventually};

/// From the protocol documents.
const IMEI: u64 = 356_307_042_441_013;

async fn road() -> Result<(Road, Tables)> {
    let road = Road::start(RoadOptions::default()).await?;
    let tables = Tables::connect(road.database_url()).await?;
    Ok((road, tables))
}

async fn tracker(road: &Road, imei: u64) -> Result<Tracker> {
    let mut tracker = Tracker::connect(road.gateway.tcp_addr(), imei).await?;
    ensure!(tracker.login().await?, "the login is accepted");
    Ok(tracker)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_from_socket_to_row_field_by_field() -> Result<()> {
    let (road, tables) = road().await?;
    // West, south, below the sea, every width, a value above 2^53, one of variable length.
    let io = [
        IoSpec {
            id: 239,
            value: IoValue::U8(1),
        },
        IoSpec {
            id: 240,
            value: IoValue::U8(0),
        },
        IoSpec {
            id: 21,
            value: IoValue::U8(4),
        },
        IoSpec {
            id: 66,
            value: IoValue::U16(12_610),
        },
        IoSpec {
            id: 67,
            value: IoValue::U16(4_001),
        },
        IoSpec {
            id: 16,
            value: IoValue::U32(4_000_000_000),
        },
        IoSpec {
            id: 200,
            value: IoValue::U8(255),
        },
        IoSpec {
            id: 11,
            value: IoValue::U64(u64::MAX),
        },
        IoSpec {
            id: 385,
            value: IoValue::Bytes(&[0x11]),
        },
        IoSpec {
            id: 331,
            value: IoValue::Bytes(&[]),
        },
    ];
    let record = RecordSpec {
        timestamp_ms: 1_700_000_000_123,
        priority: Priority::Panic,
        longitude_e7: -584_123_457,
        latitude_e7: -346_012_345,
        altitude_m: -12,
        angle_deg: 359,
        satellites: 11,
        speed_kmh: 87,
        event_io_id: 239,
        io: &io,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8E, &[record], &mut data)?;
    let mut tracker = tracker(&road, IMEI).await?;
    assert_eq!(tracker.send_frame(&data).await?, 1);
    let rows = tables.positions(IMEI, 1).await?;
    let expected = json!({
        "fix_time_ms": 1_700_000_000_123_i64,
        "latitude_e7": -346_012_345,
        "longitude_e7": -584_123_457,
        "altitude_m": -12,
        "heading_deg": 359,
        "speed_kmh": 87,
        "satellites": 11,
        "valid": true,
        "priority": 2,
        "event_io_id": 239,
        "generation_type": null,
        "ignition": true,
        "movement": false,
        "odometer_m": 4_000_000_000_i64,
        "external_voltage_mv": 12_610,
        "battery_voltage_mv": 4_001,
        "gsm_signal": 4,
        "io": { "200": 255, "11": u64::MAX, "385": "11", "331": "" },
    });
    assert_eq!(rows, [expected]);
    // The raw bytes are kept, the device is known, and the ledger balances.
    let frames = tables.frames(IMEI, 1).await?;
    assert_eq!(frames, [data]);
    let latest: (f64,) = tables.one("SELECT latitude FROM device_latest").await?;
    assert!((latest.0 - -34.601_234_5).abs() < 1e-9);
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, count(*) FROM ledger")
        .await?;
    assert_eq!(ledger, (1, 1, 1));
    // The receipt travels back: nothing waits at the edge.
    eventually("the gateway may forget", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await
}

/// A public vector: its data field and what the document says is inside.
struct Vector {
    name: String,
    data: Vec<u8>,
    records: Vec<Value>,
}

/// Every valid public vector of Codec 8, 8E and 16, over TCP or UDP: the data field is the same.
fn avl_vectors() -> Result<Vec<Vector>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../codec/vectors");
    let mut vectors = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let vector: Value = serde_json::from_str(&std::fs::read_to_string(file?.path())?)?;
        let records = vector["expected"]["records"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let codec = vector["codec"].as_str().unwrap_or_default();
        if vector["valid"] != true
            || records.is_empty()
            || !["0x08", "0x8E", "0x10"].contains(&codec)
        {
            continue;
        }
        let name = vector["name"].as_str().context("a name")?.to_owned();
        let bytes = hex::decode(vector["hex"].as_str().context("bytes")?)?;
        let data = match vector["transport"].as_str() {
            Some("tcp") => bytes[8..bytes.len() - 4].to_vec(),
            Some("udp") => codec::Datagram::parse(&bytes)?.data().to_vec(),
            other => anyhow::bail!("{name}: transport {other:?}"),
        };
        vectors.push(Vector {
            name,
            data,
            records,
        });
    }
    ensure!(vectors.len() >= 12, "only {} vectors found", vectors.len());
    Ok(vectors)
}

/// What the row must say, made from the document's fields alone.
fn expected_row(record: &Value) -> Value {
    let mut row = json!({
        "fix_time_ms": record["timestamp_ms"],
        "latitude_e7": record["latitude_raw"],
        "longitude_e7": record["longitude_raw"],
        "altitude_m": record["altitude_m"],
        "heading_deg": record["angle_deg"],
        "speed_kmh": record["speed_kmh"],
        "satellites": record["satellites"],
        "valid": record["satellites"] != 0,
        "priority": record["priority"],
        "event_io_id": record["event_id"],
        "generation_type": record["generation_type"],
        "ignition": null, "movement": null, "odometer_m": null,
        "external_voltage_mv": null, "battery_voltage_mv": null, "gsm_signal": null,
        "io": {},
    });
    for element in record["io"].as_array().into_iter().flatten() {
        let digits = element["hex"].as_str().unwrap_or_default();
        let number = u64::from_str_radix(digits, 16);
        let fixed = element["w"].is_number();
        let column = match element["id"].as_u64() {
            Some(239) => "ignition",
            Some(240) => "movement",
            Some(16) => "odometer_m",
            Some(66) => "external_voltage_mv",
            Some(67) => "battery_voltage_mv",
            Some(21) => "gsm_signal",
            _ => "",
        };
        match (fixed, number, column) {
            (true, Ok(flag), "ignition" | "movement") if flag < 2 => row[column] = json!(flag == 1),
            (
                true,
                Ok(number),
                "odometer_m" | "external_voltage_mv" | "battery_voltage_mv" | "gsm_signal",
            ) => {
                row[column] = json!(number);
            }
            (true, Ok(number), _) => row["io"][element["id"].to_string()] = json!(number),
            _ => row["io"][element["id"].to_string()] = json!(digits),
        }
    }
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_avl_vector_arrives_with_exact_values_once_although_sent_three_times()
-> Result<()> {
    let (road, tables) = road().await?;
    let vectors = avl_vectors()?;
    for round in 0..3 {
        for (index, vector) in vectors.iter().enumerate() {
            let imei = 350_000_000_000_000 + index as u64;
            let mut tracker = tracker(&road, imei).await?;
            let acked = tracker.send_frame(&vector.data).await?;
            assert_eq!(
                acked as usize,
                vector.records.len(),
                "{} round {round}",
                vector.name
            );
        }
        if round == 0 {
            let all = vectors.iter().map(|v| v.records.len() as i64).sum();
            tables
                .wait_for("SELECT count(*) FROM positions", all)
                .await?;
        }
    }
    // The copies have been through when the ledger has counted them.
    let all: i64 = vectors.iter().map(|v| v.records.len() as i64).sum();
    tables
        .wait_for(
            "SELECT coalesce(sum(received), 0)::bigint FROM ledger",
            3 * all,
        )
        .await?;
    for (index, vector) in vectors.iter().enumerate() {
        let imei = 350_000_000_000_000 + index as u64;
        let mut rows = tables.positions(imei, vector.records.len()).await?;
        let mut expected: Vec<Value> = vector.records.iter().map(expected_row).collect();
        let time = |row: &Value| (row["fix_time_ms"].as_i64(), row.to_string());
        rows.sort_by_key(time);
        expected.sort_by_key(time);
        assert_eq!(rows, expected, "{}", vector.name);
    }
    let ledger: (i64, i64) = tables
        .one("SELECT sum(stored)::bigint, sum(duplicate)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (all, 2 * all));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_acknowledged_and_becomes_a_dead_letter_with_its_bytes() -> Result<()>
{
    let (road, tables) = road().await?;
    let mut tracker = tracker(&road, IMEI).await?;
    let unknown = [0x42, 3, 1, 2, 3, 4, 3];
    assert_eq!(
        tracker.send_frame(&unknown).await?,
        3,
        "an unknown codec gets its first count"
    );
    let cut_short = [0x08, 1, 0, 0, 1]; // good checksum, no record inside
    assert_eq!(tracker.send_frame(&cut_short).await?, 1);
    // The connection is none the worse for it.
    let vector = avl_vectors()?
        .into_iter()
        .find(|v| v.name == "c8-tcp-1")
        .context("c8-tcp-1")?;
    assert_eq!(tracker.send_frame(&vector.data).await?, 1);
    tables.positions(IMEI, 1).await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 2)
        .await?;
    let letters: Vec<(Vec<u8>, String, String, i64)> = tables
        .all("SELECT bytes, error_class, reason, records FROM dead_letters ORDER BY seq")
        .await?;
    assert_eq!((letters[0].0.as_slice(), letters[0].3), (&unknown[..], 3));
    assert!(letters[0].2.contains("42"), "{:?}", letters[0]);
    assert_eq!(letters[1].0, cut_short);
    assert!(
        letters[1].2.contains("offset") || letters[1].2.contains("byte"),
        "{:?}",
        letters[1]
    );
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, sum(dead)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (5, 1, 4), "the ledger counts the dead");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_times_are_kept_apart_and_messages_are_kept_too() -> Result<()> {
    let (road, tables) = road().await?;
    let mut tracker = tracker(&road, IMEI).await?;
    for timestamp_ms in [0, 946_684_800_000, 4_102_444_800_000, u64::MAX] {
        let record = RecordSpec {
            timestamp_ms,
            satellites: 9,
            ..RecordSpec::default()
        };
        let mut data = Vec::new();
        encode::avl_data(AvlCodec::Codec8, &[record], &mut data)?;
        // Twice: a resent record lives once in the quarantine as well.
        assert_eq!(tracker.send_frame(&data).await?, 1);
        assert_eq!(tracker.send_frame(&data).await?, 1);
    }
    let mut frame = Vec::new();
    encode::command(b"getver", &mut frame)?;
    tracker.send_raw(&frame).await?; // messages get no answer
    tables.wait_for("SELECT count(*) FROM messages", 1).await?;
    let message: (i16, Option<String>) = tables.one("SELECT codec, text FROM messages").await?;
    assert_eq!(message, (12, Some("getver".to_owned())));
    tables
        .wait_for("SELECT count(*) FROM positions_quarantine", 4)
        .await?;
    tables.wait_for("SELECT count(*) FROM positions", 0).await?;
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(quarantined)::bigint, sum(duplicate)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (8, 4, 4));
    assert!(
        tables
            .all::<(i64,)>("SELECT device_id::bigint FROM device_latest")
            .await?
            .is_empty()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_records_of_one_instant_both_live() -> Result<()> {
    let (road, tables) = road().await?;
    let mut tracker = tracker(&road, IMEI).await?;
    let at = |speed_kmh| RecordSpec {
        timestamp_ms: 1_700_000_000_000,
        satellites: 5,
        speed_kmh,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    // The third is the first again, inside one frame.
    encode::avl_data(AvlCodec::Codec16, &[at(1), at(2), at(1)], &mut data)?;
    assert_eq!(tracker.send_frame(&data).await?, 3);
    let rows = tables.positions(IMEI, 2).await?;
    let speeds: Vec<_> = rows.iter().map(|row| row["speed_kmh"].clone()).collect();
    assert!(
        speeds.contains(&json!(1)) && speeds.contains(&json!(2)),
        "{speeds:?}"
    );
    assert_eq!(Imei::from_u64(IMEI), Some(tracker.imei()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_delivered_again_changes_nothing_and_holds_nothing_up() -> Result<()> {
    let (road, tables) = road().await?;
    let mut tracker = tracker(&road, IMEI).await?;
    let vectors = avl_vectors()?;
    for vector in &vectors {
        tracker.send_frame(&vector.data).await?;
    }
    let all: i64 = vectors.iter().map(|v| v.records.len() as i64).sum();
    tables
        .wait_for("SELECT sum(received)::bigint FROM ledger", all)
        .await?;
    let stored: (i64,) = tables.one("SELECT count(*) FROM positions").await?;
    // What Redis still holds comes once more, as after a crash between COMMIT and XACK.
    let mut redis = road
        .redis_access()
        .client(ADMIN)?
        .get_multiplexed_async_connection()
        .await?;
    let entries: StreamRangeReply = redis.xrange_all(STREAM_TELTONIKA).await?;
    ensure!(!entries.ids.is_empty(), "trimming leaves an hour");
    for entry in entries.ids.iter().chain(&entries.ids) {
        let mut again = redis::cmd("XADD");
        again.arg(STREAM_TELTONIKA).arg("*");
        for (name, value) in &entry.map {
            again
                .arg(name)
                .arg(redis::from_redis_value::<Vec<u8>>(value.clone())?);
        }
        let _: String = again.query_async(&mut redis).await?;
    }
    let mut data = Vec::new();
    let newest = RecordSpec {
        timestamp_ms: 1_700_000_000_000,
        ..RecordSpec::default()
    };
    encode::avl_data(AvlCodec::Codec8, &[newest], &mut data)?;
    tracker.send_frame(&data).await?;
    tables
        .wait_for("SELECT count(*) FROM positions", stored.0 + 1)
        .await?;
    tables
        .wait_for("SELECT sum(received)::bigint FROM ledger", all + 1)
        .await?;
    tables
        .wait_for("SELECT count(*) FROM dead_letters", 0)
        .await?;
    eventually("every copy is acknowledged", async || {
        Ok(road.cloud.status().await?["pending_entries"] == 0)
    })
    .await
}
