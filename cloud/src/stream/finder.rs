//! Which streams there are to read: those that were named, their shards, and what a pattern finds.
//!
//! Why it looks again and again: the number of shards is the gateways' setting, and a new vendor's
//! stream appears with its first entry. Nobody has to tell us.
//!
//! Invariants: a named stream is read from the beginning whether it exists or not; nothing but a
//! stream is ever taken in, and none that has another purpose; what was taken in once is not let go,
//! because a deleted stream comes back when its gateways send again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use contract::keys;
use redis::cmd;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::consumer::chained;
use super::link::{Link, Node, RedisFailure};
use crate::backoff::Backoff;
use crate::batch::{EntryId, StreamId};
use crate::config::StreamConfig;
use crate::metrics::Metrics;

/// Keys looked at per call; the server is not held up longer than that.
const SCAN_COUNT: usize = 1_000;

/// One stream to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// Its key.
    pub name: Arc<str>,
    /// It stands in the configuration, so it may be made where it is missing.
    pub named: bool,
}

impl Stream {
    /// One of its items.
    #[must_use]
    pub fn entry(&self, id: StreamId) -> EntryId {
        EntryId {
            stream: self.name.clone(),
            id,
        }
    }
}

/// Every stream that is being read. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<BTreeSet<Stream>>>);

impl Streams {
    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Stream> {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().cloned().collect()
    }

    /// `false`: it is there already.
    fn add(&self, stream: &Stream) -> bool {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().all(|known| known.name != stream.name) && streams.insert(stream.clone())
    }
}

/// Hands each stream once to `open`, those that were named first, until `stop`.
pub async fn run(
    link: Link,
    config: StreamConfig,
    streams: Streams,
    metrics: Arc<Metrics>,
    open: impl Fn(Stream),
    stop: CancellationToken,
) {
    let take_in = |stream: Stream| {
        if streams.add(&stream) {
            info!(stream = %stream.name, named = stream.named, "reading a stream");
            open(stream);
        }
    };
    named(&config).into_iter().for_each(take_in);
    let mut backoff = Backoff::default();
    loop {
        let mut found = BTreeSet::new();
        let looking = look(&link, &config, &mut found);
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = looking => looked,
        };
        found.into_iter().for_each(take_in);
        let pause = match looked {
            Ok(()) => {
                backoff.reset();
                config.look_every
            }
            Err(failure) => {
                metrics.error();
                debug!(error = chained(&failure), "cannot look for streams");
                backoff.pause().min(config.look_every)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The streams of the configuration.
#[must_use]
pub fn named(config: &StreamConfig) -> Vec<Stream> {
    let stream = |name: &String| Stream {
        name: name.as_str().into(),
        named: true,
    };
    config.names.iter().map(stream).collect()
}

/// What is there now beside the named ones.
/// # Errors
/// [`RedisFailure`].
pub async fn find(link: &Link, config: &StreamConfig) -> Result<Vec<Stream>, RedisFailure> {
    let mut found = BTreeSet::new();
    look(link, config, &mut found).await?;
    Ok(found.into_iter().collect())
}

/// The same, with what was found so far in `found` even when a node of a cluster does not answer:
/// the others are looked at all the same, and the first failure is told at the end.
async fn look(
    link: &Link,
    config: &StreamConfig,
    found: &mut BTreeSet<Stream>,
) -> Result<(), RedisFailure> {
    let mut looked = Ok(());
    for node in link.masters().await? {
        looked = looked.and(look_at(link, &node, config, found).await);
    }
    looked
}

async fn look_at(
    link: &Link,
    node: &Node,
    config: &StreamConfig,
    found: &mut BTreeSet<Stream>,
) -> Result<(), RedisFailure> {
    let shards = config.names.iter().map(|name| {
        let literal = escaped(name);
        format!("{literal}:*")
    });
    for pattern in shards.chain(config.pattern.clone()) {
        let by_pattern = config.pattern.as_deref() == Some(pattern.as_str());
        for key in scan_node(link, node, &pattern).await? {
            let is_ours = config.dead_letter.as_deref() == Some(key.as_str());
            if !is_ours && belongs(&key, &config.names, by_pattern) {
                found.insert(Stream {
                    name: key.into(),
                    named: false,
                });
            }
        }
    }
    Ok(())
}

/// Is this one to be read? `by_pattern`: the configured pattern found it.
fn belongs(key: &str, names: &[String], by_pattern: bool) -> bool {
    let is_named = names.iter().any(|name| name == key);
    let is_shard = names.iter().any(|name| keys::is_shard_of(key, name));
    !is_named && (is_shard || by_pattern) && keys::may_carry_telemetry(key)
}

/// A name as a pattern that matches it alone.
fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// Every stream on any node whose key matches; keys of other types and keys that are no text are
/// left out.
/// # Errors
/// [`RedisFailure`].
pub async fn scan(link: &Link, pattern: &str) -> Result<Vec<String>, RedisFailure> {
    let mut keys = Vec::new();
    for node in link.masters().await? {
        keys.extend(scan_node(link, &node, pattern).await?);
    }
    Ok(keys)
}

async fn scan_node(link: &Link, node: &Node, pattern: &str) -> Result<Vec<String>, RedisFailure> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(pattern);
        scan.arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("stream");
        let (next, some): (String, Vec<Vec<u8>>) = link.ask_node(node, "SCAN", &scan).await?;
        keys.extend(
            some.into_iter()
                .filter_map(|key| String::from_utf8(key).ok()),
        );
        if next == "0" {
            return Ok(keys);
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_named_streams_belong_and_strangers_only_by_pattern() {
        let names = ["telemetry:a".to_owned(), "telemetry:b".to_owned()];
        let cases = [
            ("telemetry:a", false, false),
            ("telemetry:a:0", true, true),
            ("telemetry:b:17", true, true),
            ("telemetry:a:old", false, true),
            ("telemetry:c", false, true),
            ("dead-letter:telemetry:a", false, false),
            ("commands:responses", false, false),
        ];
        for (key, as_shard, by_pattern) in cases {
            assert_eq!(belongs(key, &names, false), as_shard, "{key}");
            assert_eq!(belongs(key, &names, true), by_pattern, "{key}");
        }
        // Even when somebody names one of them and it looks like a shard.
        let names = ["dead-letter:telemetry:a".to_owned()];
        assert!(!belongs("dead-letter:telemetry:a:1", &names, true));
    }

    #[test]
    fn a_name_matches_itself_alone() {
        assert_eq!(escaped("telemetry:t"), "telemetry:t");
        assert_eq!(escaped(r"a*b?[c]\"), r"a\*b\?\[c\]\\");
    }

    #[test]
    fn a_stream_is_taken_in_once() {
        let streams = Streams::default();
        let stream = |named| Stream {
            name: "a".into(),
            named,
        };
        assert!(streams.add(&stream(true)));
        assert!(!streams.add(&stream(false)));
        assert_eq!(streams.all(), [stream(true)]);
    }
}
