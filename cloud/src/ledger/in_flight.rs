//! Records in the streams that are not settled yet.
//!
//! Why an estimate is enough: entries say how many records they hold, but a backlog of gigabytes
//! must not be read to be counted. It is said when it is one.

use std::sync::Arc;

use redis::{Value, cmd};

use super::judge::InFlight;
use crate::config::{Config, StreamConfig};
use crate::stream::{Link, Redis, RedisFailure, finder, lag, reply};

/// Pending entries that are looked into.
const LOOKED_INTO: u64 = 4;

/// Wherever entries come from. Without Redis nothing lies between the spools, which have what is not
/// settled, and the tables. The inner error: Redis cannot be asked now.
/// # Errors
/// [`RedisFailure`]: the configuration is wrong.
pub(super) async fn of(config: &Config) -> Result<Result<InFlight, RedisFailure>, RedisFailure> {
    if config.socket.is_some() {
        return Ok(Ok(InFlight {
            records: Some(0),
            estimated: false,
        }));
    }
    let link = Link::new(Arc::new(Redis::new(&config.redis)?));
    Ok(in_flight(&link, &config.stream).await)
}

/// Of every stream that is read. An entry that is stored and not yet acknowledged counts too.
/// # Errors
/// [`RedisFailure`].
pub(crate) async fn in_flight(
    link: &Link,
    config: &StreamConfig,
) -> Result<InFlight, RedisFailure> {
    let mut total = InFlight {
        records: Some(0),
        estimated: false,
    };
    let mut streams = finder::named(config);
    streams.extend(finder::find(link, config).await?);
    for stream in streams {
        let standing = lag::standing(link, &stream, &config.group).await?;
        let Some(pending) = standing.pending_entries else {
            continue; // No group: nobody ever read there, or there is no stream.
        };
        let (records, estimated) = pending_records(link, &stream.name, config, pending).await?;
        total.estimated |= standing.estimated || estimated;
        total.records = match (total.records, standing.lag_records) {
            (Some(sum), Some(lag)) => Some(sum.saturating_add(lag).saturating_add(records)),
            _ => None,
        };
    }
    Ok(total)
}

async fn pending_records(
    link: &Link,
    stream: &str,
    config: &StreamConfig,
    pending: u64,
) -> Result<(u64, bool), RedisFailure> {
    if pending == 0 {
        return Ok((0, false));
    }
    let mut ask = cmd("XPENDING");
    ask.arg(stream)
        .arg(&config.group)
        .arg("-")
        .arg("+")
        .arg(LOOKED_INTO);
    let ids = reply::pending(&link.ask::<Value>("XPENDING", &ask).await?);
    let mut counts = Vec::new();
    for id in ids {
        let id = id.to_string();
        let mut range = cmd("XRANGE");
        range.arg(stream).arg(&id).arg(&id);
        let items = reply::items(&link.ask::<Value>("XRANGE", &range).await?);
        counts.push(items.first().map_or(0, lag::records));
    }
    let seen = counts.len() as u64;
    let sum: u64 = counts.iter().fold(0, |sum, n| sum.saturating_add(*n));
    if seen == 0 || pending <= seen {
        return Ok((sum, false));
    }
    let projected = u128::from(sum) * u128::from(pending) / u128::from(seen);
    Ok((u64::try_from(projected).unwrap_or(u64::MAX), true))
}
