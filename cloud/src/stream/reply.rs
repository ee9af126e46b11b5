//! What Redis answers to stream commands, in RESP2 and RESP3, as plain values.
//!
//! Why by hand: a pending item that somebody deleted comes back with nil instead of fields, which
//! the client's own types cannot say.

use redis::Value;

use super::loss::Counts;
use crate::batch::StreamId;

/// One item; `None` instead of fields: it was deleted while pending.
pub type Item = (StreamId, Option<Vec<(Vec<u8>, Vec<u8>)>>);

/// How far a consumer group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Items it has not read; `None` when Redis cannot tell (items were deleted in between).
    pub lag: Option<u64>,
    /// Items read and not acknowledged.
    pub pending: u64,
    /// Last item handed out.
    pub last_delivered: StreamId,
    /// Items it has read; `None` when Redis cannot tell.
    pub entries_read: Option<u64>,
}

/// `XREADGROUP` on one stream. An empty answer (nil after a block) is no items.
#[must_use]
pub fn read_group(answer: &Value) -> Vec<Item> {
    match answer {
        // RESP3: {stream: [item…]}
        Value::Map(streams) => streams.iter().flat_map(|(_, list)| items(list)).collect(),
        // RESP2: [[stream, [item…]]]
        Value::Array(streams) => streams
            .iter()
            .filter_map(|stream| array(stream)?.get(1))
            .flat_map(items)
            .collect(),
        _ => Vec::new(),
    }
}

/// Long form of `XPENDING`: the ids.
#[must_use]
pub fn pending(answer: &Value) -> Vec<StreamId> {
    let lines = array(answer).unwrap_or_default();
    let id = |line: &Value| text(array(line)?.first()?)?.parse().ok();
    lines.iter().filter_map(id).collect()
}

/// `XINFO GROUPS`.
#[must_use]
pub fn groups(answer: &Value) -> Vec<GroupState> {
    let groups = array(answer).unwrap_or_default();
    groups.iter().filter_map(group).collect()
}

/// `XINFO STREAM`: items ever added, items there, and the oldest of them.
#[must_use]
pub fn stream(answer: &Value) -> Option<(u64, u64, Option<StreamId>)> {
    let first = field(answer, "first-entry").and_then(item);
    Some((
        number(field(answer, "entries-added")?)?,
        number(field(answer, "length")?)?,
        first.map(|item| item.0),
    ))
}

/// `XINFO STREAM` and `XINFO GROUPS` together, for one group; `None` without stream or group.
#[must_use]
pub fn counts(of_stream: &Value, of_groups: &Value, group: &str) -> Option<(Counts, GroupState)> {
    let (added, length, first) = stream(of_stream)?;
    let ours = groups(of_groups)
        .into_iter()
        .find(|state| state.name == group)?;
    let counts = Counts {
        added,
        length,
        first,
        read: ours.entries_read,
        last_delivered: ours.last_delivered,
    };
    Some((counts, ours))
}

/// A field of `XINFO STREAM` that is an id.
#[must_use]
pub fn id(answer: &Value, name: &str) -> Option<StreamId> {
    text(field(answer, name)?)?.parse().ok()
}

/// `XINFO STREAM`: a field of the newest item.
#[must_use]
pub fn newest_field(answer: &Value, name: &str) -> Option<String> {
    let newest = field(answer, "last-entry").and_then(item)?;
    let fields = newest.1?;
    let found = fields
        .into_iter()
        .find(|(found, _)| found == name.as_bytes());
    String::from_utf8(found?.1).ok()
}

/// `XINFO CONSUMERS`: name, items pending, and milliseconds since it last asked.
#[must_use]
pub fn consumers(answer: &Value) -> Vec<(String, u64, u64)> {
    let one = |consumer: &Value| {
        Some((
            text(field(consumer, "name")?)?.to_owned(),
            number(field(consumer, "pending")?)?,
            number(field(consumer, "idle")?)?,
        ))
    };
    let all = array(answer).unwrap_or_default();
    all.iter().filter_map(one).collect()
}

/// A field of an answer that is a map in RESP3 and a flat list in RESP2.
fn field<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    match answer {
        Value::Map(fields) => fields
            .iter()
            .find(|(key, _)| text(key) == Some(name))
            .map(|(_, value)| value),
        Value::Array(flat) => flat
            .chunks_exact(2)
            .find(|pair| text(&pair[0]) == Some(name))
            .map(|pair| &pair[1]),
        _ => None,
    }
}

fn group(answer: &Value) -> Option<GroupState> {
    let field = |name: &str| field(answer, name);
    Some(GroupState {
        name: text(field("name")?)?.to_owned(),
        lag: field("lag").and_then(number),
        pending: number(field("pending")?)?,
        last_delivered: text(field("last-delivered-id")?)?.parse().ok()?,
        entries_read: field("entries-read").and_then(number),
    })
}

/// Summary form of `XPENDING`: the smallest pending id, if anything is pending.
#[must_use]
pub fn oldest_pending(answer: &Value) -> Option<StreamId> {
    text(array(answer)?.get(1)?)?.parse().ok()
}

/// A list of items, as `XRANGE` and `XCLAIM` answer it.
#[must_use]
pub fn items(list: &Value) -> Vec<Item> {
    let list = array(list).unwrap_or_default();
    list.iter().filter_map(item).collect()
}

fn item(answer: &Value) -> Option<Item> {
    let [id, fields] = array(answer)? else {
        return None;
    };
    let id = text(id)?.parse().ok()?;
    let fields = match fields {
        Value::Array(flat) => Some(
            flat.chunks_exact(2)
                .filter_map(|pair| Some((bytes(&pair[0])?.to_vec(), bytes(&pair[1])?.to_vec())))
                .collect(),
        ),
        _ => None,
    };
    Some((id, fields))
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        value => text(value)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn list() -> Value {
        let full = Value::Array(vec![bulk("5-1"), Value::Array(vec![bulk("v"), bulk("1")])]);
        let deleted = Value::Array(vec![bulk("5-2"), Value::Nil]);
        Value::Array(vec![full, deleted])
    }

    #[test]
    fn both_protocols_give_the_same_items() {
        let resp2 = Value::Array(vec![Value::Array(vec![bulk("s"), list()])]);
        let resp3 = Value::Map(vec![(bulk("s"), list())]);
        let items = read_group(&resp2);
        assert_eq!(items, read_group(&resp3));
        assert_eq!(items[0].0.to_string(), "5-1");
        assert_eq!(
            items[0].1.as_ref().unwrap()[0],
            (b"v".to_vec(), b"1".to_vec())
        );
        assert_eq!(items[1], ("5-2".parse().unwrap(), None));
        assert!(read_group(&Value::Nil).is_empty());
    }

    #[test]
    fn pending_items_are_known_by_their_ids() {
        let line = |id: &str| {
            Value::Array(vec![
                bulk(id),
                bulk("box-0"),
                Value::Int(70_000),
                Value::Int(2),
            ])
        };
        let answer = Value::Array(vec![line("4-1"), line("4-2")]);
        let ids: Vec<String> = pending(&answer).iter().map(StreamId::to_string).collect();
        assert_eq!(ids, ["4-1", "4-2"]);
        assert!(pending(&Value::Array(vec![])).is_empty());
    }

    #[test]
    fn an_unknown_lag_is_not_zero() {
        let fields = |lag| {
            vec![
                (bulk("name"), bulk("processor")),
                (bulk("pending"), Value::Int(3)),
                (bulk("last-delivered-id"), bulk("7-0")),
                (bulk("lag"), lag),
            ]
        };
        let resp3 = Value::Array(vec![Value::Map(fields(Value::Nil))]);
        let flat = fields(Value::Int(9))
            .into_iter()
            .flat_map(|(k, v)| [k, v])
            .collect();
        let resp2 = Value::Array(vec![Value::Array(flat)]);
        assert_eq!(groups(&resp3)[0].lag, None);
        assert_eq!(
            (groups(&resp2)[0].lag, groups(&resp2)[0].pending),
            (Some(9), 3)
        );
    }

    #[test]
    fn a_stream_tells_what_was_added_and_what_is_left() {
        let first = Value::Array(vec![bulk("5-1"), Value::Array(vec![bulk("v"), bulk("1")])]);
        let fields = |first| {
            vec![
                (bulk("length"), Value::Int(2)),
                (bulk("entries-added"), Value::Int(9)),
                (bulk("first-entry"), first),
            ]
        };
        let flat = fields(first.clone())
            .into_iter()
            .flat_map(|(k, v)| [k, v])
            .collect();
        let oldest = "5-1".parse().ok();
        assert_eq!(stream(&Value::Map(fields(first))), Some((9, 2, oldest)));
        assert_eq!(stream(&Value::Array(flat)), Some((9, 2, oldest)));
        assert_eq!(stream(&Value::Map(fields(Value::Nil))), Some((9, 2, None)));
    }

    #[test]
    fn nothing_pending_has_no_oldest() {
        let none = Value::Array(vec![Value::Int(0), Value::Nil, Value::Nil, Value::Nil]);
        assert_eq!(oldest_pending(&none), None);
        let some = Value::Array(vec![
            Value::Int(1),
            bulk("3-1"),
            bulk("3-1"),
            Value::Array(vec![]),
        ]);
        assert_eq!(oldest_pending(&some).unwrap().to_string(), "3-1");
    }
}
