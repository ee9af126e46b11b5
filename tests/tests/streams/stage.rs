//! Entries put into streams by hand, and what Redis says of those who read them.

use anyhow::{Context as _, Result};
use codec::AvlCodec;
use codec::encode::{self, RecordSpec};
use contract::{
    Coding, Device, Entry, Envelope, Kind, Lane, Payload, SpoolId, SpoolSeq, Transport, keys,
};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamPendingCountReply, StreamPendingReply};
use redis::{AsyncCommands as _, Value};
use tests::processes::Road;
use tests::servers::ADMIN;

/// Of the tracker whose records [`entry`] holds.
pub(crate) const IMEI: u64 = 356_307_042_441_013;

pub(crate) async fn admin(road: &Road) -> Result<MultiplexedConnection> {
    let client = road.redis_access().client(ADMIN)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// The data field of a frame with one record.
pub(crate) fn frame(timestamp_ms: u64) -> Result<Vec<u8>> {
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
pub(crate) fn entry(spool: u64, seq: u64) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let seq = SpoolSeq::new(seq)?;
    let bytes = frame(1_700_000_000_000 + spool * 1_000 + seq.get())?;
    let envelope = Envelope {
        seq,
        received_at_ms: 1_700_000_100_000,
        device: Device::Imei(IMEI.to_string().parse()?),
        transport: Transport::Tcp,
        lane: Lane::Normal,
        record_count: 1,
        bytes: &bytes,
    };
    let entry = Entry {
        kind: Kind::Teltonika,
        gateway: "by-hand".parse()?,
        spool: SpoolId::from_u64(spool)?,
        first: seq,
        last: seq,
        exact: None,
        low: SpoolSeq::FIRST,
        gaps: Vec::new(),
        records: 1,
        coding: Coding::MsgPack,
        data: Payload::pack(&[envelope], &Coding::MsgPack)?,
    };
    Ok(entry.to_fields())
}

pub(crate) async fn add(
    redis: &mut MultiplexedConnection,
    stream: &str,
    id: &str,
    fields: &[(&str, Vec<u8>)],
) -> Result<String> {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg(id);
    for (name, value) in fields {
        add.arg(*name).arg(value);
    }
    Ok(add.query_async(redis).await?)
}

/// Items that the group was handed and has not acknowledged.
pub(crate) async fn pending(redis: &mut MultiplexedConnection, stream: &str) -> Result<u64> {
    let reply: StreamPendingReply = redis.xpending(stream, keys::GROUP_PROCESSOR).await?;
    Ok(reply.count() as u64)
}

/// Each of them: id, who holds it, for how long nobody touched it (ms), how often it was delivered.
pub(crate) async fn held(
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
pub(crate) fn fields(item: &redis::streams::StreamId) -> Result<Vec<(&str, Vec<u8>)>> {
    let each = item.map.iter().map(|(name, value)| match value {
        Value::BulkString(bytes) => Some((name.as_str(), bytes.clone())),
        _ => None,
    });
    each.collect::<Option<_>>().context("fields are strings")
}
