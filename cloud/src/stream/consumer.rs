//! Reads one stream as one consumer of the group, for ever.
//!
//! Why own pending items first: whatever broke, the items we were handed and did not acknowledge
//! are ours to finish; a reply may have been lost on its way to us.
//!
//! Invariants: the group begins at `0`, never `$`; only a stream that was named is made where there
//! is none; after every error the pending items are read again before new ones; stopping waits for
//! the running read, so nothing is handed to nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::finder::Stream;
use super::intake::{Delivery, Intake};
use super::link::{Reader, Redis, RedisFailure};
use super::loss::{Counts, Trims};
use super::reply;
use crate::backoff::Backoff;
use crate::batch::{EntryId, StreamId};
use crate::config::StreamConfig;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;

/// How long one read waits for something new; also how long stopping may take.
const BLOCK: Duration = Duration::from_millis(1_000);

/// How often to look whether somebody trimmed what was not read.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Items per read. Measured: more than 100 gains nothing.
const READ_COUNT: usize = 100;

/// What the reader needs.
#[derive(Debug)]
pub struct Consumer {
    /// How to connect.
    pub redis: Arc<Redis>,
    /// What to read.
    pub stream: Stream,
    /// As whom.
    pub config: StreamConfig,
    /// Where items go.
    pub intake: Intake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rung when Redis lost data: floor and contract must be published again.
    pub lost: Arc<Notify>,
}

/// Why one round of reading ended.
enum Ended {
    Stopped,
    Failed(RedisFailure),
    /// There is no such stream, and it is not for us to make it.
    Gone,
}

/// What one round tells the next.
#[derive(Default)]
struct State {
    /// The group existed once in this process: if it does not now, Redis lost it.
    group_was_there: bool,
    /// Something was read since the group was missed.
    has_read: bool,
    /// The loss was told, and nothing has come since.
    loss_told: bool,
    /// What was trimmed so far.
    trims: Trims,
}

impl Consumer {
    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut state = State::default();
        loop {
            let failure = match self.round(&stop, &mut backoff, &mut state).await {
                Ended::Stopped => return,
                Ended::Failed(failure) => failure,
                Ended::Gone => {
                    if state.group_was_there {
                        self.tell_loss(&mut state, "deleted");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(backoff.pause()) => continue,
                    }
                }
            };
            self.metrics.error();
            // A read that was waiting is told UNBLOCKED, one that comes later NOGROUP. The next
            // round creates the group again; when that did not help, take a pause.
            let lost = matches!(failure.code(), Some("NOGROUP" | "UNBLOCKED"));
            if lost && std::mem::take(&mut state.has_read) {
                continue;
            }
            let answers = matches!(failure, RedisFailure::Refused { .. });
            self.metrics.redis(&self.stream.name, answers);
            let pause = backoff.pause();
            warn!(
                stream = %self.stream.name,
                error = chained(&failure),
                retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "cannot read the stream"
            );
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(
        &self,
        stop: &CancellationToken,
        backoff: &mut Backoff,
        state: &mut State,
    ) -> Ended {
        let opening = Reader::open(self.redis.clone(), &self.stream.name, BLOCK);
        let reader = tokio::select! {
            () = stop.cancelled() => return Ended::Stopped,
            reader = opening => reader,
        };
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(failure) => return Ended::Failed(failure),
        };
        match self.create_group(&mut reader).await {
            Ok(true) if state.group_was_there => {
                self.tell_loss(state, "lost or emptied");
            }
            Ok(true) => info!(
                stream = %self.stream.name,
                group = self.config.group,
                "created the consumer group"
            ),
            Ok(false) => {}
            Err(failure) if failure.is_no_such_stream() => return Ended::Gone,
            // A full Redis refuses this even when the group is there: try to read all the same.
            Err(failure) => {
                warn!(
                    stream = %self.stream.name,
                    error = chained(&failure),
                    "cannot create the consumer group"
                );
            }
        }
        let mut after = Some("0".to_owned());
        let mut look_at = Instant::now();
        while !stop.is_cancelled() {
            // First before anything is read: a loss ahead of us is behind us a moment later.
            if Instant::now() >= look_at {
                self.look_for_trims(&mut reader, state).await;
                look_at = Instant::now() + LOOK_INTERVAL;
            }
            let command = self.read_command(after.as_deref());
            let answer: Value = match reader.ask("XREADGROUP", &command).await {
                Ok(answer) => answer,
                Err(failure) => return Ended::Failed(failure),
            };
            backoff.reset();
            state.has_read = true;
            state.group_was_there = true;
            state.loss_told = false;
            self.metrics.redis(&self.stream.name, true);
            let items = reply::read_group(&answer);
            self.metrics.entries_delivered.add(items.len() as u64);
            if let Some(place) = &mut after {
                match items.last() {
                    Some((id, _)) => *place = id.to_string(),
                    None => after = None,
                }
            }
            for (id, fields) in items {
                fail_point!("read");
                let Some(fields) = fields else {
                    if let Err(failure) = self.drop_deleted(id, &mut reader).await {
                        return Ended::Failed(failure);
                    }
                    continue;
                };
                let entry = self.stream.entry(id);
                let bringing = self.intake.bring(Delivery { entry, fields });
                let taken = tokio::select! {
                    () = stop.cancelled() => return Ended::Stopped,
                    taken = bringing => taken,
                };
                if !taken {
                    return Ended::Stopped;
                }
            }
        }
        Ended::Stopped
    }

    /// `false`: it was there.
    async fn create_group(&self, reader: &mut Reader) -> Result<bool, RedisFailure> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&*self.stream.name);
        create.arg(&self.config.group).arg("0");
        if self.stream.named {
            create.arg("MKSTREAM");
        }
        match reader.ask::<()>("XGROUP CREATE", &create).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.code() == Some("BUSYGROUP") => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// A pending item whose bytes are gone: counted, and pending no longer.
    async fn drop_deleted(&self, id: StreamId, reader: &mut Reader) -> Result<(), RedisFailure> {
        let mut ack = cmd("XACK");
        ack.arg(&*self.stream.name)
            .arg(&self.config.group)
            .arg(id.to_string());
        let dropped: u64 = reader.ask("XACK", &ack).await?;
        let entry: EntryId = self.stream.entry(id);
        self.metrics.deleted_unread.add(dropped);
        warn!(%entry, "a pending item was deleted by somebody before it was stored");
        Ok(())
    }

    /// That it cannot be asked now is no reason not to read.
    async fn look_for_trims(&self, reader: &mut Reader, state: &mut State) {
        let Ok(Some(counts)) = self.counts(reader).await else {
            return;
        };
        let lost = state.trims.look(&counts);
        if lost > 0 {
            self.metrics.trim_lost.add(lost);
            error!(
                stream = %self.stream.name,
                items = lost,
                "somebody trimmed items that were not read; gateways send them again as long as they keep them: use no MAXLEN, and no XTRIM behind what the group has read"
            );
        }
    }

    async fn counts(&self, reader: &mut Reader) -> Result<Option<Counts>, RedisFailure> {
        let mut info = cmd("XINFO");
        info.arg("STREAM").arg(&*self.stream.name);
        let stream: Value = reader.ask("XINFO STREAM", &info).await?;
        let mut info = cmd("XINFO");
        info.arg("GROUPS").arg(&*self.stream.name);
        let groups: Value = reader.ask("XINFO GROUPS", &info).await?;
        let counts = reply::counts(&stream, &groups, &self.config.group);
        Ok(counts.map(|(counts, _)| counts))
    }

    /// Said once for each loss; gateways and other parts are told to make up for it.
    fn tell_loss(&self, state: &mut State, how: &str) {
        if std::mem::replace(&mut state.loss_told, true) {
            return;
        }
        self.metrics.group_lost.add(1);
        self.lost.notify_one();
        warn!(
            stream = %self.stream.name,
            group = self.config.group,
            how,
            "the stream or its consumer group is gone, and data with it; reading goes on from the start of what comes, gateways send again what is not stored"
        );
    }

    /// `after`: own pending items after this one; `None`: new ones.
    fn read_command(&self, after: Option<&str>) -> Cmd {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&self.config.group)
            .arg(&self.config.consumer);
        read.arg("COUNT").arg(READ_COUNT);
        if after.is_none() {
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS")
            .arg(&*self.stream.name)
            .arg(after.unwrap_or(">"));
        read
    }
}

/// An error with everything below it, for a log field.
pub(crate) fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        below = cause.source();
    }
    text
}
