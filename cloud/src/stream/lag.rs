//! How far behind the group is, stream by stream: in items, in records and in time.
//!
//! Why only the first unread items are opened: a backlog of gigabytes must not be read to be
//! measured. Their record counts stand for the rest, and it is said that they do.
//!
//! Invariant: what Redis cannot tell is told as unknown, never as nothing.

use redis::{Value, cmd};
use serde_json::json;
use tokio::task::JoinSet;

use super::finder::Stream;
use super::link::{Link, RedisFailure};
use super::{reply, trimmer};
use crate::batch::StreamId;

/// Unread items that are looked into; they are up to a quarter of a megabyte each.
const LOOKED_INTO: u64 = 4;

/// How one stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which stream.
    pub stream: Stream,
    /// Items the group has not read; `None` when Redis cannot tell, or there is no group.
    pub lag_entries: Option<u64>,
    /// AVL records in them.
    pub lag_records: Option<u64>,
    /// `lag_records` is projected from the first few.
    pub estimated: bool,
    /// Items read and not acknowledged; `None` when there is no group.
    pub pending_entries: Option<u64>,
    /// Age of the oldest item that is not acknowledged, by the clock of Redis; 0 when there is none.
    pub age_s: Option<u64>,
}

impl Standing {
    /// The same for machines.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "stream": &*self.stream.name,
            "lag_entries": self.lag_entries,
            "lag_records": self.lag_records,
            "lag_records_estimated": self.estimated,
            "pending_entries": self.pending_entries,
            "oldest_unacknowledged_seconds": self.age_s,
        })
    }
}

/// Asks about one stream.
/// # Errors
/// [`RedisFailure`].
pub async fn standing(link: &Link, stream: &Stream, group: &str) -> Result<Standing, RedisFailure> {
    let groups = trimmer::groups(link, &stream.name).await?;
    let mut standing = Standing {
        stream: stream.clone(),
        lag_entries: None,
        lag_records: None,
        estimated: false,
        pending_entries: None,
        age_s: None,
    };
    let Some(ours) = groups.into_iter().find(|state| state.name == group) else {
        return Ok(standing);
    };
    standing.lag_entries = ours.lag;
    standing.pending_entries = Some(ours.pending);
    let mut range = cmd("XRANGE");
    range
        .arg(&*stream.name)
        .arg(format!("({}", ours.last_delivered));
    range.arg("+").arg("COUNT").arg(LOOKED_INTO);
    let unread = reply::items(&link.ask::<Value>("XRANGE", &range).await?);
    let counts: Vec<u64> = unread.iter().map(records).collect();
    (standing.lag_records, standing.estimated) = projected(&counts, ours.lag);
    let mut pending = cmd("XPENDING");
    pending.arg(&*stream.name).arg(group);
    let pending = reply::oldest_pending(&link.ask("XPENDING", &pending).await?);
    let unread = unread.first().map(|item| item.0);
    let now_ms = trimmer::now_ms(link, &stream.name).await?;
    standing.age_s = Some(age_s(pending, unread, now_ms));
    Ok(standing)
}

/// Streams asked about at once in [`several`].
const AT_ONCE: usize = 32;

/// Asks about many streams, some at a time, and hands out each answer as it comes.
pub async fn several(
    link: &Link,
    streams: Vec<Stream>,
    group: &str,
    mut answer: impl FnMut(Result<Standing, RedisFailure>),
) {
    let mut streams = streams.into_iter();
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < AT_ONCE
            && let Some(stream) = streams.next()
        {
            let (link, group) = (link.clone(), group.to_owned());
            asking.spawn(async move { standing(&link, &stream, &group).await });
        }
        match asking.join_next().await {
            Some(Ok(told)) => answer(told),
            // Nobody aborts them, and a panic has said so itself.
            Some(Err(_)) => {}
            None => return,
        }
    }
}

/// Field `n`; an item without one is none of ours and holds no records.
pub(crate) fn records(item: &reply::Item) -> u64 {
    let fields = item.1.as_deref().unwrap_or_default();
    let name = contract::entry::field::RECORDS.as_bytes();
    let count = fields.iter().find(|(found, _)| found == name);
    let text = count.and_then(|(_, value)| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Records in `lag` items of which these are the first, and whether that is an estimate.
fn projected(first: &[u64], lag: Option<u64>) -> (Option<u64>, bool) {
    let seen = first.len() as u64;
    let sum = first
        .iter()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    if seen < LOOKED_INTO {
        return (Some(sum), false);
    }
    match lag {
        Some(lag) if lag <= seen => (Some(sum), false),
        Some(lag) => {
            let projected = u128::from(sum) * u128::from(lag) / u128::from(seen);
            (u64::try_from(projected).ok(), true)
        }
        None => (None, false),
    }
}

/// Seconds since the older of the two was added.
fn age_s(pending: Option<StreamId>, unread: Option<StreamId>, now_ms: u64) -> u64 {
    let oldest = pending.into_iter().chain(unread).min();
    oldest.map_or(0, |id| now_ms.saturating_sub(id.ms()) / 1_000)
}

/// A sum that is unknown as soon as one part is.
#[must_use]
pub fn total(standings: &[Standing], of: impl Fn(&Standing) -> Option<u64>) -> Option<u64> {
    standings.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_makes_the_sum_unknown() {
        let standing = |lag_entries| Standing {
            stream: Stream {
                name: "a".into(),
                named: true,
            },
            lag_entries,
            lag_records: None,
            estimated: false,
            pending_entries: Some(2),
            age_s: Some(0),
        };
        let all = [standing(Some(3)), standing(None)];
        assert_eq!(total(&all, |s| s.lag_entries), None);
        assert_eq!(total(&all, |s| s.pending_entries), Some(4));
        assert_eq!(total(&all[..1], |s| s.lag_entries), Some(3));
    }

    #[test]
    fn a_few_are_counted_and_many_are_estimated() {
        assert_eq!(projected(&[], Some(0)), (Some(0), false));
        assert_eq!(projected(&[5, 7], Some(2)), (Some(12), false));
        assert_eq!(projected(&[5, 7], None), (Some(12), false), "all were seen");
        assert_eq!(projected(&[5, 7, 0, 4], Some(4)), (Some(16), false));
        assert_eq!(projected(&[5, 7, 0, 4], Some(400)), (Some(1_600), true));
        assert_eq!(projected(&[5, 7, 0, 4], None), (None, false));
        assert!(projected(&[u64::MAX; 4], Some(u64::MAX)).1);
    }

    #[test]
    fn the_oldest_counts_whether_it_was_read_or_not() {
        let at = |ms| Some(StreamId::at_ms(ms));
        assert_eq!(age_s(None, None, 90_000), 0);
        assert_eq!(age_s(at(10_000), at(50_000), 90_000), 80);
        assert_eq!(age_s(None, at(50_000), 90_000), 40);
        assert_eq!(age_s(at(95_000), None, 90_000), 0);
    }
}
