//! An entry that cannot be opened settles its own positions and nobody else's.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use contract::{Entry, Payload, keys, version};
use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use tests::fleet::Tracker;
use tests::processes::{Road, RoadOptions};
use tests::tables::{Tables, eventually};

use super::stage::{add, admin, fields, frame};

const SHARDS: u32 = 3;
const DEVICES: u64 = 12;
const ROUNDS: u64 = 10;
const FROM_MS: u64 = 1_700_000_000_000;

/// What was taken out of Redis and put back spoilt.
struct Spoilt {
    records: i64,
    /// Device times of the records inside.
    times_ms: BTreeSet<u64>,
    runs: usize,
}

/// Spoils the payload of one entry with holes, wherever it is.
async fn spoil(road: &Road) -> Result<Spoilt> {
    let mut redis = admin(road).await?;
    for shard in 0..SHARDS {
        let stream = keys::shard_stream(keys::STREAM_TELTONIKA, shard, SHARDS);
        let items: StreamRangeReply = redis.xrange_all(&stream).await?;
        for item in items.ids {
            let mut named = fields(&item)?;
            let entry = Entry::from_fields(named.iter().map(|(n, v)| (*n, v.as_slice())))?;
            if entry.exact.is_none() {
                continue;
            }
            let payload = Payload::open(&entry.coding, &entry.data)?;
            let mut times_ms = BTreeSet::new();
            for envelope in payload.envelopes()? {
                // Codec id and count, then the time of the only record.
                let time = envelope.bytes[2..].first_chunk().context("a time")?;
                times_ms.insert(u64::from_be_bytes(*time));
            }
            for (name, value) in &mut named {
                if *name == "d" {
                    value.iter_mut().for_each(|byte| *byte ^= 0x55);
                }
            }
            add(&mut redis, &stream, "*", &named).await?;
            let _: u64 = redis.xdel(&stream, &[&item.id]).await?;
            return Ok(Spoilt {
                records: i64::try_from(entry.records)?,
                times_ms,
                runs: entry.positions().as_slice().len(),
            });
        }
    }
    anyhow::bail!("no entry has holes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_payload_costs_exactly_its_own_positions() -> Result<()> {
    let settings = |pairs: &[(&'static str, Value)]| pairs.to_vec();
    let mut road = Road::start(RoadOptions {
        gateway: settings(&[
            ("uplink.shards", SHARDS.into()),
            ("uplink.flush", "500ms".into()),
            ("uplink.resend_after", "2s".into()),
            ("uplink.retry_max", "1s".into()),
        ]),
        cloud: settings(&[("stream.look_every", "1s".into())]),
        ..RoadOptions::default()
    })
    .await?;
    let tables = Tables::connect(road.database_url()).await?;
    let mut redis = admin(&road).await?;
    eventually("the cloud says what it reads", async || {
        Ok(redis.hexists(keys::CONTRACT, version::FIELD_READS).await?)
    })
    .await?;
    // It asks when it connects.
    road.gateway.restart().await?;
    let mut trackers = Vec::new();
    for device in 0..DEVICES {
        let imei = 350_000_000_000_000 + device;
        let mut tracker = Tracker::connect(road.gateway.tcp_addr(), imei).await?;
        ensure!(tracker.login().await?);
        trackers.push(tracker);
    }
    // The spool becomes known as this gateway's.
    ensure!(trackers[0].send_frame(&frame(FROM_MS)?).await? == 1);
    tables.wait_for("SELECT count(*) FROM positions", 1).await?;
    road.cloud.kill9()?;
    let mut sent = BTreeSet::from([FROM_MS]);
    for round in 0..ROUNDS {
        for (device, tracker) in (0..).zip(&mut trackers) {
            let time_ms = FROM_MS + 1 + round * DEVICES + device;
            ensure!(tracker.send_frame(&frame(time_ms)?).await? == 1);
            sent.insert(time_ms);
        }
    }
    eventually("all of it is in Redis", async || {
        let status = road.gateway.status().await?;
        Ok(status["uplink"]["records_sent"] == status["records_acked"])
    })
    .await?;
    let spoilt = spoil(&road).await?;
    ensure!(spoilt.runs > 1 && spoilt.times_ms.len() as i64 == spoilt.records);
    road.cloud.restart().await?;
    eventually("the floor reaches the end", async || {
        Ok(road.gateway.status().await?["spool"]["backlog"] == 0)
    })
    .await?;
    let stored: Vec<(i64,)> = tables
        .all("SELECT (extract(epoch FROM fix_time) * 1000)::bigint FROM positions")
        .await?;
    let rows = stored.len();
    let stored: BTreeSet<u64> = stored.into_iter().map(|(ms,)| ms as u64).collect();
    assert_eq!(rows, stored.len(), "no row is there twice");
    assert_eq!(
        stored,
        &sent - &spoilt.times_ms,
        "everything else is stored, and nothing more is missing"
    );
    let letters: Vec<(String, i64)> = tables
        .all("SELECT error_class, records FROM dead_letters")
        .await?;
    assert_eq!(letters, [("payload".to_owned(), spoilt.records)]);
    let all = sent.len() as i64;
    let ledger: (i64, i64, i64) = tables
        .one("SELECT sum(received)::bigint, sum(stored)::bigint, sum(dead)::bigint FROM ledger")
        .await?;
    assert_eq!(ledger, (all, all - spoilt.records, spoilt.records));
    Ok(())
}
