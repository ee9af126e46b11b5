//! Which streams there are to read: those that were named, those of other vendors, their shards, and
//! what a pattern finds. For telemetry and for sensors alike: what belongs to whom is for a [`Quarry`]
//! to say.
//!
//! Why it looks again and again: the number of shards is the gateways' setting, and a new vendor's
//! stream appears with its first entry. Nobody has to tell us.
//!
//! Invariants: a named stream is read from the beginning whether it exists or not; nothing but a
//! stream is ever taken in, and none that has another purpose; a telemetry stream that was taken in
//! once is not let go, because a deleted one comes back when its gateways send again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::keys;
use redis::cmd;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::consumer::chained;
use super::link::{Link, Node, RedisFailure};
use super::pattern::matches;
use crate::backoff::Backoff;
use crate::batch::{EntryId, StreamId};
use crate::config::StreamConfig;
use crate::metrics::Metrics;

/// Between two questions for the streams of vendors that nobody has heard yet.
const VENDORS_LOOK_INTERVAL: Duration = Duration::from_secs(2);

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

    /// Lets a stream go that nobody reads any more; it is taken in again when it is found again.
    pub(crate) fn let_go(&self, name: &str) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|known| &*known.name != name);
    }
}

/// What to look for.
pub trait Quarry {
    /// Streams that are read whether they exist or not.
    fn named(&self) -> Vec<Stream>;
    /// Patterns of keys, as `SCAN … MATCH` reads them.
    fn patterns(&self) -> Vec<String>;
    /// Is this stream, which this pattern found, to be read?
    fn takes(&self, key: &str, pattern: &str) -> bool;
    /// How often to look.
    fn look_every(&self) -> Duration;
    /// Streams that nobody makes here and that are looked for more often, until they are there.
    fn awaited(&self) -> &[String] {
        &[]
    }
}

impl Quarry for StreamConfig {
    fn named(&self) -> Vec<Stream> {
        named(self)
    }

    fn patterns(&self) -> Vec<String> {
        let names = self.names.iter().map(|name| escaped(name));
        let shards = names.map(|name| format!("{name}:*"));
        // Made by their gateways, so found with their shards and never made here.
        let vendors = self.vendors.iter().map(|name| escaped(name));
        let vendors = vendors.map(|name| format!("{name}*"));
        let all = shards.chain(vendors).chain(self.pattern.clone());
        all.collect()
    }

    fn takes(&self, key: &str, pattern: &str) -> bool {
        let by_pattern = self.pattern.as_deref() == Some(pattern);
        let is_copy = self.dead_letter.as_deref() == Some(key);
        // The reader of sensors leaves the same keys alone, whatever its pattern.
        let is_ours = key.starts_with(&keys::stream("")) || is_ours(key, self);
        let sensors = self.not_pattern.as_deref();
        let is_sensor = !is_ours && sensors.is_some_and(|sensors| matches(sensors, key));
        !is_copy && !is_sensor && belongs(key, self, by_pattern)
    }

    fn look_every(&self) -> Duration {
        self.look_every
    }

    fn awaited(&self) -> &[String] {
        &self.vendors
    }
}

/// Hands each stream once to `open`, those that were named first, until `stop`.
pub async fn run(
    link: Link,
    quarry: impl Quarry,
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
    quarry.named().into_iter().for_each(take_in);
    let mut backoff = Backoff::default();
    let mut appeared = BTreeSet::new();
    loop {
        let mut found = BTreeSet::new();
        let looking = look(&link, &quarry, &mut found);
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = looking => looked,
        };
        found.into_iter().for_each(take_in);
        let pause = match looked {
            Ok(()) => {
                backoff.reset();
                quarry.look_every()
            }
            Err(failure) => {
                metrics.error();
                debug!(error = chained(&failure), "cannot look for streams");
                backoff.pause().min(quarry.look_every())
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = appearance(&link, quarry.awaited(), &streams, &mut appeared) => {}
        }
    }
}

/// Ends when a vendor's stream is there that was not: whoever opens a new door wants to see what comes
/// through it, and one question a vendor costs nothing. `appeared`: each ends it once, since a key that
/// is there and no stream would have every key looked at again and again.
async fn appearance(
    link: &Link,
    awaited: &[String],
    streams: &Streams,
    appeared: &mut BTreeSet<String>,
) {
    loop {
        tokio::time::sleep(VENDORS_LOOK_INTERVAL).await;
        let known = streams.all();
        let missing = |name: &&String| known.iter().all(|stream| *stream.name != ***name);
        for name in awaited.iter().filter(missing) {
            let mut exists = cmd("EXISTS");
            exists.arg(name);
            // Without an answer the next look tells.
            let answer = link.ask::<u64>("EXISTS", &exists).await;
            if answer.is_ok_and(|count| count > 0) && appeared.insert(name.clone()) {
                return;
            }
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
pub async fn find(link: &Link, quarry: &impl Quarry) -> Result<Vec<Stream>, RedisFailure> {
    let mut found = BTreeSet::new();
    look(link, quarry, &mut found).await?;
    Ok(found.into_iter().collect())
}

/// The same, with what was found so far in `found` even when a node of a cluster does not answer:
/// the others are looked at all the same, and the first failure is told at the end.
async fn look(
    link: &Link,
    quarry: &impl Quarry,
    found: &mut BTreeSet<Stream>,
) -> Result<(), RedisFailure> {
    let mut looked = Ok(());
    for node in link.masters().await? {
        looked = looked.and(look_at(link, &node, quarry, found).await);
    }
    looked
}

async fn look_at(
    link: &Link,
    node: &Node,
    quarry: &impl Quarry,
    found: &mut BTreeSet<Stream>,
) -> Result<(), RedisFailure> {
    for pattern in quarry.patterns() {
        for key in scan_node(link, node, &pattern).await? {
            if quarry.takes(&key, &pattern) {
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
fn belongs(key: &str, config: &StreamConfig, by_pattern: bool) -> bool {
    let is_named = config.names.iter().any(|name| name == key);
    !is_named && (is_ours(key, config) || by_pattern) && keys::may_carry_telemetry(key)
}

/// A vendor's stream, or a shard of one that was named or of a vendor's?
fn is_ours(key: &str, config: &StreamConfig) -> bool {
    let mut bases = config.names.iter().chain(&config.vendors);
    config.vendors.iter().any(|name| name == key) || bases.any(|name| keys::is_shard_of(key, name))
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
        let config = |names: &[&str], vendors: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            StreamConfig {
                names: list(names),
                vendors: list(vendors),
                pattern: None,
                look_every: Duration::ZERO,
                dead_letter: None,
                dead_letter_keep: Duration::ZERO,
                not_pattern: None,
                group: String::new(),
                consumer: String::new(),
                claim_after: Duration::ZERO,
                keep: Duration::ZERO,
            }
        };
        let names = config(&["telemetry:a", "telemetry:b"], &["telemetry:v"]);
        let cases = [
            ("telemetry:v", true, true),
            ("telemetry:v:3", true, true),
            ("telemetry:vv", false, true),
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
        // Whoever reads sensors leaves telemetry alone, so a pattern of theirs takes none of it away.
        let everything = StreamConfig {
            pattern: Some("*".to_owned()),
            not_pattern: Some("*".to_owned()),
            ..config(&["fleet"], &["telemetry:v"])
        };
        for (key, pattern, ours) in [
            ("telemetry:v", "telemetry:v*", true),
            ("telemetry:v:3", "telemetry:v*", true),
            ("telemetry:later", "*", true),
            ("fleet:1", "fleet:*", true),
            ("mqtt_stream:d1:temperature", "*", false),
        ] {
            assert_eq!(everything.takes(key, pattern), ours, "{key}");
        }
        // Even when somebody names one of them and it looks like a shard.
        let names = config(&["dead-letter:telemetry:a"], &[]);
        assert!(!belongs("dead-letter:telemetry:a:1", &names, true));
    }

    #[test]
    fn a_name_matches_itself_alone() {
        assert!(matches(&escaped(r"a*b?[c]\"), r"a*b?[c]\"));
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
