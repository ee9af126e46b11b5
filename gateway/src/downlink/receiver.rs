//! Reads orders from the gateway's own stream.
//!
//! Why a connection of its own with a patient timeout: a blocking read that the client gives up
//! goes on in Redis, and what it returns is pending unseen (measured).
//!
//! Invariants: on every connection, what is pending is read before what is new; an entry is
//! acknowledged by the writer, never here.

use std::collections::HashMap;

use codec::Imei;
use contract::{Order, keys};
use redis::{RedisError, Value};

use super::DownlinkConfig;
use super::dispatch::Downlink;
use super::link::{self, ANSWER_MAX, Link, Pace, Trouble};
use crate::uplink::RedisConfig;

/// Orders in one read.
const COUNT: usize = 64;

/// One entry; no fields: it was deleted while pending.
type Item = (String, Option<HashMap<String, String>>);

/// Receives orders. Never returns.
pub(super) async fn receive(downlink: &Downlink, config: &DownlinkConfig) {
    let mut pace = Pace::new(config.retry_max);
    loop {
        pace.attempt();
        if let Err(trouble) = talk(downlink, config).await {
            downlink.shared.metrics.downlink.connected(false);
            let what = "no orders can be received";
            pace.wait(what, &config.redis, &trouble).await;
        }
    }
}

/// One connection, until it fails.
async fn talk(downlink: &Downlink, config: &DownlinkConfig) -> Result<(), Trouble> {
    let mut redis = link::open(&patient(config)).await?;
    let stream = keys::commands_outbound(&config.gateway);
    let is_new = create_group(&mut redis, &stream).await?;
    tracing::info!(stream, is_new, "ready for orders");
    downlink.shared.metrics.downlink.connected(true);
    downlink.shared.nudge.notify_one();
    read_pending(downlink, config, &mut redis, &stream).await?;
    loop {
        downlink.shared.outbox.has_room().await;
        match read(&mut redis, config, &stream, ">").await {
            Ok(items) => take(downlink, items),
            Err(Trouble::Redis(error)) if is_group_gone(&error) => {
                create_group(&mut redis, &stream).await?;
                downlink.shared.nudge.notify_one();
                tracing::error!(
                    stream,
                    "Redis lost the command stream; made it again. Orders that were in it are gone from Redis, the cloud has to send them again"
                );
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// The client itself must not give up a blocking read that Redis goes on with, however short the
/// uplink's patience with an answer is.
fn patient(config: &DownlinkConfig) -> RedisConfig {
    let read_max = config.order_wait + ANSWER_MAX;
    RedisConfig {
        response_timeout: config.redis.response_timeout.max(read_max),
        ..config.redis.clone()
    }
}

/// Orders that were delivered before and never released.
async fn read_pending(
    downlink: &Downlink,
    config: &DownlinkConfig,
    redis: &mut Link,
    stream: &str,
) -> Result<(), Trouble> {
    let mut after = "0".to_owned();
    loop {
        let items = read(redis, config, stream, &after).await?;
        let Some((last, _)) = items.last() else {
            break;
        };
        after.clone_from(last);
        take(downlink, items);
    }
    downlink.pending_read();
    Ok(())
}

async fn read(
    redis: &mut Link,
    config: &DownlinkConfig,
    stream: &str,
    after: &str,
) -> Result<Vec<Item>, Trouble> {
    let mut command = redis::cmd("XREADGROUP");
    command
        .arg("GROUP")
        .arg(keys::GROUP_GATEWAY)
        .arg(config.gateway.as_str())
        .arg("COUNT")
        .arg(COUNT);
    if after == ">" {
        command
            .arg("BLOCK")
            .arg(config.order_wait.as_millis() as u64);
    }
    command.arg("STREAMS").arg(stream).arg(after);
    // Redis may be slow on top of that.
    let answer = link::within(config.order_wait + ANSWER_MAX, command.query_async(redis)).await?;
    Ok(items_of(&answer))
}

/// `true` if the group was not there.
async fn create_group(redis: &mut Link, stream: &str) -> Result<bool, Trouble> {
    let mut command = redis::cmd("XGROUP");
    command.arg("CREATE").arg(stream).arg(keys::GROUP_GATEWAY);
    command.arg("0").arg("MKSTREAM");
    match link::within(ANSWER_MAX, command.query_async::<()>(redis)).await {
        Ok(()) => Ok(true),
        Err(Trouble::Redis(error)) if error.code() == Some("BUSYGROUP") => Ok(false),
        Err(error) => Err(error),
    }
}

/// A group that vanishes under a blocked read answers with another word.
fn is_group_gone(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}

fn take(downlink: &Downlink, items: Vec<Item>) {
    for (entry, fields) in items {
        downlink.shared.metrics.downlink.received();
        let Some(fields) = fields else {
            tracing::warn!(
                entry,
                "an order was deleted from the stream before it was sent"
            );
            downlink.unreadable(entry, None);
            continue;
        };
        match Order::from_fields(&fields) {
            Ok(order) => downlink.order(order, entry),
            Err(error) => {
                downlink.shared.metrics.downlink.unreadable();
                let known = known(&fields);
                let cid = fields.get("cid");
                tracing::warn!(
                    entry, cid, %error, answered = known.is_some(),
                    "an order cannot be read; correct whatever wrote it"
                );
                downlink.unreadable(entry, known);
            }
        }
    }
}

/// Enough of an order to refuse it.
fn known(fields: &HashMap<String, String>) -> Option<(String, Imei, u32)> {
    let cid = fields.get("cid").filter(|cid| !cid.is_empty())?;
    let imei = fields.get("imei")?.parse().ok()?;
    let attempt = fields.get("attempt").and_then(|text| text.parse().ok());
    Some((cid.clone(), imei, attempt.unwrap_or(0)))
}

/// `XREADGROUP` on one stream, in RESP2 and RESP3. Nil after a block is no items.
fn items_of(answer: &Value) -> Vec<Item> {
    let list = match answer {
        Value::Map(streams) => streams.first().map(|(_, list)| list),
        Value::Array(streams) => match streams.first() {
            Some(Value::Array(stream)) => stream.get(1),
            _ => None,
        },
        _ => None,
    };
    let Some(Value::Array(items)) = list else {
        return Vec::new();
    };
    items.iter().filter_map(item).collect()
}

fn item(answer: &Value) -> Option<Item> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [id, fields] = parts.as_slice() else {
        return None;
    };
    let fields = match fields {
        Value::Array(flat) => {
            let pairs = flat.chunks_exact(2);
            let pairs = pairs.filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)));
            Some(pairs.collect())
        }
        _ => None,
    };
    Some((text(id)?, fields))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn both_protocols_say_the_same_and_a_deleted_entry_has_no_fields() {
        let fields = Value::Array(vec![bulk("cid"), bulk("c")]);
        let whole = Value::Array(vec![bulk("1-0"), fields]);
        let deleted = Value::Array(vec![bulk("2-0"), Value::Nil]);
        let list = Value::Array(vec![whole, deleted]);
        let resp2 = Value::Array(vec![Value::Array(vec![bulk("stream"), list.clone()])]);
        let resp3 = Value::Map(vec![(bulk("stream"), list)]);
        let cid = HashMap::from([("cid".to_owned(), "c".to_owned())]);
        let expected = [("1-0".to_owned(), Some(cid)), ("2-0".to_owned(), None)];
        assert_eq!(items_of(&resp2), expected);
        assert_eq!(items_of(&resp3), expected);
        assert_eq!(items_of(&Value::Nil), []);
    }

    #[test]
    fn an_order_is_refused_when_it_says_whose_it_is() {
        let mut fields = HashMap::from([
            ("cid".to_owned(), "c".to_owned()),
            ("imei".to_owned(), "356307042441013".to_owned()),
        ]);
        let imei = "356307042441013".parse().unwrap();
        assert_eq!(known(&fields), Some(("c".to_owned(), imei, 0)));
        fields.insert("attempt".to_owned(), "3".to_owned());
        assert_eq!(known(&fields), Some(("c".to_owned(), imei, 3)));
        fields.insert("imei".to_owned(), "no".to_owned());
        assert_eq!(known(&fields), None);
    }
}
