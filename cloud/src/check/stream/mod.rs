//! The streams: what is in them, who reads them, and whether anything arrives at all.

mod judge;

use std::time::Duration;

use contract::{entry, keys, version};
use redis::{Value, cmd};

use super::Look;
use super::scan::scan;
use crate::batch::StreamId;
use crate::config::StreamConfig;
use crate::explain::redis as redis_pages;
use crate::metrics;
use crate::stream::consumer::chained;
use crate::stream::{Link, RedisFailure, Stream, finder, reply, trimmer};
use judge::{Consumer, Facts, Kind, Other, StreamFacts};

/// Streams and heartbeats beyond these are not looked at.
const MAX: usize = 1_000;

/// Between two looks at the oldest entry: a writer with MAXLEN trims with every entry.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1_500);

/// The findings.
pub(super) async fn look(link: &Link, config: &StreamConfig) -> Look {
    let mut look = Look::new("stream");
    match facts(link, config).await {
        Ok(facts) => judge::judge(&facts, config, &mut look),
        // Told among the rights of the user, with the rule that is missing.
        Err(failure) if failure.code() == Some("NOPERM") => {
            look.skipped(format!("not looked at: {}", chained(&failure)));
        }
        Err(failure) => look.bad(
            &redis_pages::UNUSABLE,
            chained(&failure),
            "look up the answer; its log may say more",
        ),
    }
    look
}

async fn facts(link: &Link, config: &StreamConfig) -> Result<Facts, RedisFailure> {
    let mut contract = cmd("HMGET");
    contract
        .arg(keys::CONTRACT)
        .arg(version::FIELD_READS)
        .arg(version::FIELD_WRITES);
    let contract = match link
        .ask::<(Option<String>, Option<String>)>("HMGET contract", &contract)
        .await
    {
        Ok((reads, _)) => reads,
        Err(failure) if failure.code() == Some("WRONGTYPE") => Some("no hash".to_owned()),
        Err(failure) => return Err(failure),
    };
    let now_ms = match link.ask::<(u64, u64)>("TIME", &cmd("TIME")).await {
        Ok((seconds, micros)) => seconds * 1_000 + micros / 1_000,
        Err(_) => metrics::now_ms(),
    };
    let found = finder::find(link, config).await?;
    let mut streams = Vec::new();
    for stream in finder::named(config).into_iter().chain(found) {
        streams.push(of_stream(link, &stream, config).await?);
    }
    let keep_ms = u64::try_from(config.keep.as_millis()).unwrap_or(u64::MAX);
    // Only where the processor itself would trim nothing is a second look worth the wait.
    let suspects = |facts: &StreamFacts| facts.is_trimmed_young(now_ms.saturating_sub(keep_ms));
    if streams.iter().any(suspects) {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        for facts in streams.iter_mut().filter(|facts| suspects(facts)) {
            let (_, info) = info(link, &facts.name).await?;
            facts.first_later = info.and_then(|info| info.2);
        }
    }
    let telemetry = scan(link, "telemetry:*", Some("stream"), MAX).await?;
    let mut others = Vec::new();
    for name in telemetry.keys {
        if streams.iter().any(|stream| stream.name == name) {
            continue;
        }
        let groups = trimmer::groups(link, &name).await?;
        let (newest, info) = info(link, &name).await?;
        let Some((_, length, _)) = info.filter(|info| info.1 > 0) else {
            continue;
        };
        if groups.iter().all(|group| group.name != config.group) {
            let newest_ms = newest.map_or(0, StreamId::ms);
            others.push(Other {
                name,
                length,
                newest_ms,
            });
        }
    }
    let beginning = "instance:heartbeat:";
    let heartbeats = scan(link, &format!("{beginning}*"), None, MAX).await?;
    let gateways = heartbeats
        .keys
        .iter()
        .filter_map(|key| key.strip_prefix(beginning));
    Ok(Facts {
        contract,
        now_ms,
        streams,
        others,
        gateways: gateways.map(str::to_owned).collect(),
    })
}

type Info = (Option<StreamId>, Option<(u64, u64, Option<StreamId>)>);

/// `XINFO STREAM`: the newest id ever, and added, length and oldest. Nothing of a stream that is not.
async fn info(link: &Link, name: &str) -> Result<Info, RedisFailure> {
    let mut info = cmd("XINFO");
    info.arg("STREAM").arg(name);
    let answer: Value = match link.ask("XINFO STREAM", &info).await {
        Err(failure) if failure.is_no_such_stream() => return Ok((None, None)),
        answer => answer?,
    };
    let newest = reply::id(&answer, "last-generated-id");
    Ok((newest, reply::stream(&answer)))
}

async fn of_stream(
    link: &Link,
    stream: &Stream,
    config: &StreamConfig,
) -> Result<StreamFacts, RedisFailure> {
    let mut facts = StreamFacts {
        name: stream.name.to_string(),
        ..StreamFacts::default()
    };
    // Before the oldest entry: what is acknowledged and trimmed in between must not look pending.
    let mut pending = cmd("XPENDING");
    pending.arg(&facts.name).arg(&config.group);
    let pending = match link.ask::<Value>("XPENDING", &pending).await {
        Ok(answer) => reply::oldest_pending(&answer),
        Err(failure) if failure.code() == Some("WRONGTYPE") => {
            facts.kind = Kind::Foreign;
            return Ok(facts);
        }
        Err(failure) if failure.code() == Some("NOGROUP") => None,
        Err(failure) => return Err(failure),
    };
    let mut ask = cmd("XINFO");
    ask.arg("STREAM").arg(&facts.name);
    let answer: Value = match link.ask("XINFO STREAM", &ask).await {
        Err(failure) if failure.is_no_such_stream() => {
            facts.kind = Kind::Missing;
            return Ok(facts);
        }
        answer => answer?,
    };
    facts.newest = reply::id(&answer, "last-generated-id");
    facts.deleted = reply::id(&answer, "max-deleted-entry-id");
    facts.newest_version = reply::newest_field(&answer, entry::field::VERSION);
    if let Some((added, length, first)) = reply::stream(&answer) {
        (facts.added, facts.length, facts.first) = (added, length, first);
    }
    facts.oldest_pending = pending;
    let groups = trimmer::groups(link, &facts.name).await?;
    facts.group = groups.into_iter().find(|group| group.name == config.group);
    if facts.group.is_some() {
        let mut ask = cmd("XINFO");
        ask.arg("CONSUMERS").arg(&facts.name).arg(&config.group);
        facts.consumers = match link.ask::<Value>("XINFO CONSUMERS", &ask).await {
            Ok(answer) => consumers(&answer),
            Err(failure @ RedisFailure::Unreachable { .. }) => return Err(failure),
            Err(_) => Vec::new(),
        };
    }
    Ok(facts)
}

fn consumers(answer: &Value) -> Vec<Consumer> {
    let all = reply::consumers(answer);
    all.into_iter()
        .map(|(name, pending, idle_ms)| Consumer {
            name,
            pending,
            idle_ms,
        })
        .collect()
}
