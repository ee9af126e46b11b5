//! A cluster behind TLS with the whole road on it, and entries put there by hand.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use contract::keys::{self, STREAM_TELTONIKA};
use contract::{
    Coding, Device, Entry, Envelope, Kind, Lane, Payload, SettledRanges, SpoolId, SpoolSeq,
    Transport,
};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig};
use tests::processes::{Road, RoadOptions, Setting};
use tests::servers::{GATEWAY, RedisCluster};
use tests::tables::{Tables, eventually};

/// More shards than masters, so that every master has some.
pub(crate) const SHARDS: u32 = 6;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Of the tracker whose records [`entry`] holds.
pub(crate) const IMEI: u64 = 356_307_042_441_013;

pub(crate) fn shard(number: u32) -> String {
    keys::shard_stream(STREAM_TELTONIKA, number, SHARDS)
}

/// A road through `cluster`, which knows the gateway.
pub(crate) async fn road(cluster: &RedisCluster, cloud: &[Setting]) -> Result<Road> {
    let mut settings: Vec<Setting> = vec![("stream.look_every", "1s".into())];
    settings.extend_from_slice(cloud);
    Road::start(RoadOptions {
        redis: Some(cluster.access().clone()),
        gateway: vec![
            ("uplink.cluster", true.into()),
            ("uplink.shards", SHARDS.into()),
            ("uplink.response_timeout", "2s".into()),
            ("uplink.retry_max", "1s".into()),
            ("uplink.resend_after", "2s".into()),
        ],
        cloud: settings,
        ..RoadOptions::default()
    })
    .await
}

pub(crate) async fn cluster() -> Result<RedisCluster> {
    RedisCluster::start_secure(&[GATEWAY.to_owned()]).await
}

/// A connection to whoever has `key` now.
pub(crate) async fn at(cluster: &RedisCluster, key: &str) -> Result<MultiplexedConnection> {
    let owner = cluster.owner(cluster.slot(key).await?).await?;
    Ok(cluster.connection(owner).await?)
}

pub(crate) async fn drive(road: &Road) -> Result<Fleet> {
    Fleet::start(FleetConfig {
        devices: 24,
        rate: "5".parse()?,
        ..road.fleet_config()
    })
    .await
}

pub(crate) async fn rows(tables: &Tables) -> Result<i64> {
    let (rows,) = tables
        .one::<(i64,)>("SELECT count(*) FROM positions")
        .await?;
    Ok(rows)
}

/// Waits until so many rows more are there than now.
pub(crate) async fn until_more(tables: &Tables, more: i64) -> Result<()> {
    let before = rows(tables).await?;
    eventually("more rows come", async || {
        Ok(rows(tables).await? >= before + more)
    })
    .await
}

/// Ends the fleet and compares what it was promised with what is there: nothing lost, nothing twice,
/// and of other trackers no more than was put there by hand.
pub(crate) async fn settled(road: &mut Road, fleet: &Fleet, by_hand: usize) -> Result<()> {
    fleet.stop_producing();
    ensure!(fleet.drain(PATIENCE).await, "trackers wait for ACKs");
    let ledger = road
        .settled_ledger(&fleet.truth(), PATIENCE, |_| {})
        .await?;
    let lost = (ledger.lost_count, ledger.acked_dead);
    let too_many = (ledger.duplicates, ledger.phantoms);
    ensure!(
        lost == (0, 0) && too_many == (0, by_hand as u64) && ledger.stored == ledger.acked,
        "{ledger}\n{}",
        road.cloud.last_words()
    );
    ensure!(ledger.acked > 500, "too little to prove anything: {ledger}");
    Ok(())
}

/// The shards that have something: the fleet's trackers are not many, and not in all of them.
pub(crate) async fn used(cluster: &RedisCluster) -> Result<Vec<String>> {
    let mut used = Vec::new();
    for number in 0..SHARDS {
        let stream = shard(number);
        let mut connection = at(cluster, &stream).await?;
        let mut length = redis::cmd("XLEN");
        let length: u64 = length.arg(&stream).query_async(&mut connection).await?;
        if length > 0 {
            used.push(stream);
        }
    }
    Ok(used)
}

/// Waits until nothing of any shard is unread or unacknowledged, wherever it lives now.
pub(crate) async fn until_released(cluster: &RedisCluster) -> Result<()> {
    for stream in used(cluster).await? {
        let what = format!("everything of {stream} is acknowledged where it is now");
        eventually(&what, async || {
            Ok(standing(cluster, &stream).await? == (Some(0), 0))
        })
        .await?;
    }
    Ok(())
}

/// Unread and unacknowledged items of our group.
pub(crate) async fn standing(cluster: &RedisCluster, stream: &str) -> Result<(Option<i64>, i64)> {
    let mut connection = at(cluster, stream).await?;
    let mut info = redis::cmd("XINFO");
    let groups: Vec<std::collections::HashMap<String, redis::Value>> = info
        .arg("GROUPS")
        .arg(stream)
        .query_async(&mut connection)
        .await?;
    let group = groups.first().context("the group is there")?;
    let number = |name: &str| match group.get(name) {
        Some(redis::Value::Int(number)) => Some(*number),
        _ => None,
    };
    Ok((number("lag"), number("pending").context("pending")?))
}

/// No part of the cloud took the move for a loss.
pub(crate) fn no_alarm(status: &Value) -> Result<()> {
    for counter in ["group_lost", "trim_lost", "deleted_unread", "dead_letters"] {
        ensure!(status[counter] == 0, "{counter}: {status}");
    }
    Ok(())
}

/// The data field of a frame with one record.
pub(crate) fn frame(timestamp_ms: u64) -> Result<Vec<u8>> {
    let record = RecordSpec {
        timestamp_ms,
        satellites: 7,
        longitude_e7: 252_797_000,
        latitude_e7: -545_687_000,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &[record], &mut data)?;
    Ok(data)
}

/// An entry with one record at each of `positions`; more than one range makes it version 2.
pub(crate) fn entry(
    spool: u64,
    positions: &str,
    coding: &Coding,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let ranges = match positions.parse::<u64>() {
        Ok(one) => SettledRanges::parse(&format!("{one}-{one}"))?,
        Err(_) => SettledRanges::parse(positions)?,
    };
    let numbers = ranges.as_slice().iter();
    let numbers: Vec<u64> = numbers.flat_map(|(first, last)| *first..=*last).collect();
    let frames: Vec<Vec<u8>> = numbers
        .iter()
        .map(|seq| frame(1_700_000_000_000 + spool * 100_000 + seq))
        .collect::<Result<_>>()?;
    let mut envelopes = Vec::new();
    for (seq, bytes) in numbers.iter().zip(&frames) {
        envelopes.push(Envelope {
            seq: SpoolSeq::new(*seq)?,
            received_at_ms: 1_700_000_100_000,
            device: Device::Imei(IMEI.to_string().parse()?),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: 1,
            bytes,
        });
    }
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    let entry = Entry {
        kind: Kind::Teltonika,
        gateway: "by-hand".parse()?,
        spool: SpoolId::from_u64(spool)?,
        first: SpoolSeq::new(first)?,
        last: SpoolSeq::new(last)?,
        exact: (ranges.as_slice().len() > 1).then_some(ranges),
        low: SpoolSeq::FIRST,
        gaps: Vec::new(),
        records: numbers.len() as u64,
        coding: coding.clone(),
        data: Payload::pack(&envelopes, coding)?,
    };
    Ok(entry.to_fields())
}

/// The same at a master that the stream's slot is on its way to.
pub(crate) async fn add_asking(
    redis: &mut MultiplexedConnection,
    stream: &str,
    fields: &[(&str, Vec<u8>)],
) -> Result<()> {
    let mut both = redis::pipe();
    both.cmd("ASKING").ignore().cmd("XADD").arg(stream).arg("*");
    for (name, value) in fields {
        both.arg(*name).arg(value);
    }
    let (_id,): (String,) = both.query_async(redis).await?;
    Ok(())
}

pub(crate) async fn add(
    redis: &mut MultiplexedConnection,
    stream: &str,
    fields: &[(&str, Vec<u8>)],
) -> Result<String> {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg("*");
    for (name, value) in fields {
        add.arg(*name).arg(value);
    }
    Ok(add.query_async(redis).await?)
}
