//! Stream items put in by hand, and what Redis says of those who read them.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use contract::{
    Coding, Device, Entry, Envelope, Gap, GapReason, Kind, Lane, Payload, SpoolId, SpoolSeq,
    Transport, keys,
};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamPendingCountReply, StreamPendingReply};
use redis::{AsyncCommands as _, AsyncConnectionConfig, ToRedisArgs, Value};

use crate::processes::Road;
use crate::servers::{ADMIN, RedisAccess};
use crate::tables::DEADLINE;

/// Of the tracker whose records [`entry`] holds.
pub const IMEI: u64 = 356_307_042_441_013;

/// Names and values of an item.
pub type Fields = Vec<(&'static str, Vec<u8>)>;

/// A connection that may do everything.
///
/// # Errors
/// When Redis does not answer.
pub async fn admin(road: &Road) -> Result<MultiplexedConnection> {
    admin_of(road.redis_access()).await
}

/// The same at a Redis without a road.
///
/// # Errors
/// When Redis does not answer.
pub async fn admin_of(redis: &RedisAccess) -> Result<MultiplexedConnection> {
    let client = redis.client(ADMIN)?;
    // The client's own half a second is not much on a loaded machine, nor its second to connect.
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(DEADLINE))
        .set_response_timeout(Some(DEADLINE));
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    Ok(connection.await?)
}

/// The data field of a frame with one record.
///
/// # Errors
/// Never: it fits.
pub fn frame(timestamp_ms: u64) -> Result<Vec<u8>> {
    let record = RecordSpec {
        timestamp_ms,
        satellites: 7,
        ..RecordSpec::default()
    };
    let mut data = Vec::new();
    encode::avl_data(AvlCodec::Codec8, &[record], &mut data)?;
    Ok(data)
}

/// An entry with one record at one position of a spool.
///
/// # Errors
/// When position or spool is 0.
pub fn entry(spool: u64, seq: u64) -> Result<Fields> {
    entry_of(spool, seq..=seq)
}

/// An entry with one record at each of these positions of a spool.
///
/// # Errors
/// When there are none, or position or spool is 0.
pub fn entry_of(spool: u64, positions: RangeInclusive<u64>) -> Result<Fields> {
    let mut frames = Vec::new();
    for seq in positions.clone() {
        let at_ms = 1_700_000_000_000 + spool * 1_000 + seq;
        frames.push((SpoolSeq::new(seq)?, frame(at_ms)?));
    }
    let device = Device::Imei(IMEI.to_string().parse()?);
    let envelopes: Vec<Envelope<'_>> = frames
        .iter()
        .map(|(seq, bytes)| Envelope {
            seq: *seq,
            received_at_ms: 1_700_000_100_000,
            device: device.clone(),
            transport: Transport::Tcp,
            lane: Lane::Normal,
            record_count: 1,
            bytes,
        })
        .collect();
    packed(spool, positions, &envelopes, Vec::new())
}

/// An entry in which the gateway gives up these positions, with so many records.
///
/// # Errors
/// When position or spool is 0.
pub fn gap(spool: u64, positions: RangeInclusive<u64>, records: u64) -> Result<Fields> {
    let gap = Gap {
        first: SpoolSeq::new(*positions.start())?,
        last: SpoolSeq::new(*positions.end())?,
        records,
        reason: GapReason::Dropped,
    };
    packed(spool, positions, &[], vec![gap])
}

fn packed(
    spool: u64,
    positions: RangeInclusive<u64>,
    envelopes: &[Envelope<'_>],
    gaps: Vec<Gap>,
) -> Result<Fields> {
    let entry = Entry {
        kind: Kind::Teltonika,
        gateway: "by-hand".parse()?,
        spool: SpoolId::from_u64(spool)?,
        first: SpoolSeq::new(*positions.start())?,
        last: SpoolSeq::new(*positions.end())?,
        exact: None,
        low: SpoolSeq::FIRST,
        gaps,
        records: envelopes.len() as u64,
        coding: Coding::MsgPack,
        data: Payload::pack(envelopes, &Coding::MsgPack)?,
    };
    Ok(entry.to_fields())
}

/// Appends an item; `*` for an id of Redis' own. Returns its id.
///
/// # Errors
/// When Redis refuses.
pub async fn add<N: ToRedisArgs>(
    redis: &mut MultiplexedConnection,
    stream: &str,
    id: &str,
    fields: &[(N, Vec<u8>)],
) -> Result<String> {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg(id);
    for (name, value) in fields {
        add.arg(name).arg(value);
    }
    Ok(add.query_async(redis).await?)
}

/// Items that the group was handed and has not acknowledged.
///
/// # Errors
/// When Redis refuses.
pub async fn pending(redis: &mut MultiplexedConnection, stream: &str) -> Result<u64> {
    let reply: StreamPendingReply = redis.xpending(stream, keys::GROUP_PROCESSOR).await?;
    Ok(reply.count() as u64)
}

/// Each of them: id, who holds it, for how long nobody touched it (ms), how often it was delivered.
///
/// # Errors
/// When Redis refuses.
pub async fn held(
    redis: &mut MultiplexedConnection,
    stream: &str,
) -> Result<Vec<(String, String, usize, usize)>> {
    let reply: StreamPendingCountReply = redis
        .xpending_count(stream, keys::GROUP_PROCESSOR, "-", "+", 10_000)
        .await?;
    let each = reply.ids.into_iter();
    Ok(each
        .map(|held| {
            (
                held.id,
                held.consumer,
                held.last_delivered_ms,
                held.times_delivered,
            )
        })
        .collect())
}

/// Names and values of one stream item.
///
/// # Errors
/// When a value is no string.
pub fn fields(item: &redis::streams::StreamId) -> Result<Vec<(&str, Vec<u8>)>> {
    let each = item.map.iter().map(|(name, value)| match value {
        Value::BulkString(bytes) => Some((name.as_str(), bytes.clone())),
        _ => None,
    });
    each.collect::<Option<_>>().context("fields are strings")
}
