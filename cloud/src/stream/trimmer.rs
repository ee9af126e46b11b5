//! Removes from the stream what every group has finished with.
//!
//! Why by id and behind all groups: a blind limit on length removes what nobody has read
//! (reproduced). Why last-delivered is read before pending: between the two calls items may be
//! delivered; read the other way round, they would look finished.
//!
//! Invariant: the cut lies at or below everything that any group has not acknowledged.

use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::consumer::chained;
use super::finder::Stream;
use super::link::{Link, RedisFailure};
use super::reply::{self, GroupState};
use crate::batch::StreamId;
use crate::fail_point::fail_point;
use crate::metrics::{self, Metrics};

/// How often to cut, when something was committed since.
const INTERVAL: Duration = Duration::from_secs(5);

/// Cuts until `stop`.
pub async fn run(
    link: Link,
    stream: Stream,
    keep: Duration,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let trimming = trim(&link, &stream.name, keep);
        let trimmed = tokio::select! {
            () = stop.cancelled() => return,
            trimmed = trimming => trimmed,
        };
        match trimmed {
            Ok(count) => metrics.trimmed.add(count),
            Err(failure) => {
                metrics.error();
                warn!(stream = %stream.name, error = chained(&failure), "cannot trim the stream");
            }
        }
    }
}

/// Every group of the stream; none when the stream is gone.
/// # Errors
/// [`RedisFailure`].
pub async fn groups(link: &Link, stream: &str) -> Result<Vec<GroupState>, RedisFailure> {
    let mut info = cmd("XINFO");
    info.arg("GROUPS").arg(stream);
    match link.ask::<Value>("XINFO GROUPS", &info).await {
        Ok(answer) => Ok(reply::groups(&answer)),
        Err(failure) if failure.is_no_such_stream() => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// The clock of the node that has the stream, which its ids are made of: milliseconds since 1970
/// UTC. Ours where this user may not ask: only what is acknowledged is trimmed, so a clock that is
/// off costs nothing but time to read again.
pub(crate) async fn now_ms(link: &Link, stream: &str) -> Result<u64, RedisFailure> {
    let key = Some(stream.as_bytes());
    match link
        .ask_beside::<(u64, u64)>(key, "TIME", &cmd("TIME"))
        .await
    {
        Ok((seconds, micros)) => Ok(seconds * 1_000 + micros / 1_000),
        Err(failure) if failure.code() == Some("NOPERM") => Ok(metrics::now_ms()),
        Err(failure) => Err(failure),
    }
}

/// Cuts once. Returns how many items went.
/// # Errors
/// [`RedisFailure`].
pub(crate) async fn trim(link: &Link, stream: &str, keep: Duration) -> Result<u64, RedisFailure> {
    let groups = groups(link, stream).await?;
    let mut standing = Vec::with_capacity(groups.len());
    for group in groups {
        let mut pending = cmd("XPENDING");
        pending.arg(stream).arg(&group.name);
        let answer: Value = link.ask("XPENDING", &pending).await?;
        standing.push((group.last_delivered, reply::oldest_pending(&answer)));
    }
    let now_ms = now_ms(link, stream).await?;
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let Some(cut) = cut(&standing, now_ms.saturating_sub(keep_ms)) else {
        return Ok(0);
    };
    let mut trim = cmd("XTRIM");
    trim.arg(stream).arg("MINID").arg("~").arg(cut.to_string());
    fail_point!("before-trim");
    let trimmed = link.ask("XTRIM", &trim).await;
    fail_point!("after-trim");
    trimmed
}

/// The first id to keep. `standing`: for each group last delivered and oldest pending.
fn cut(standing: &[(StreamId, Option<StreamId>)], keep_from_ms: u64) -> Option<StreamId> {
    let finished = standing
        .iter()
        .map(|(delivered, pending)| pending.map_or(*delivered, |pending| pending.min(*delivered)))
        .min()?;
    Some(finished.min(StreamId::at_ms(keep_from_ms)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn cuts_at_the_slowest_of_all_groups() {
        let fast = (id("90-0"), None);
        let holding = (id("90-0"), Some(id("40-2")));
        let behind = (id("30-0"), None);
        assert_eq!(cut(&[fast], 1_000), Some(id("90-0")));
        assert_eq!(cut(&[fast, holding], 1_000), Some(id("40-2")));
        assert_eq!(cut(&[fast, holding, behind], 1_000), Some(id("30-0")));
        assert_eq!(cut(&[fast], 20), Some(id("20-0")));
        // No group: nobody has finished with anything.
        assert_eq!(cut(&[], 1_000), None);
        // Delivered between the two questions: pending is above what we call delivered.
        assert_eq!(
            cut(&[(id("10-0"), Some(id("11-0")))], 1_000),
            Some(id("10-0"))
        );
    }
}
