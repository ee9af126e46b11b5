//! Reads every sensor stream as one consumer of the group, over the shared connection.
//!
//! Why not a connection for each stream, as telemetry has: a site has a few telemetry streams and a
//! thousand sensors. Why not one blocking read of all: one stream without a group fails it for all, and
//! a cluster has streams on many nodes. So each is asked without blocking, many at a time, at once
//! again while there is more, and seldom while there is nothing: see `pause`.
//!
//! Invariants: the group begins at `0`, never `$`; no stream is made, only its group; after every
//! error own pending items are read again before new ones; losses are looked for before anything is
//! read; what Redis handed out is brought in or stays pending.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::backoff::Backoff;
use crate::config::StreamConfig;
use crate::metrics::Metrics;
use crate::stream::claimer::Claimer;
use crate::stream::consumer::chained;
use crate::stream::loss::Trims;
use crate::stream::{Delivery, Intake, Link, RedisFailure, Stream, Streams, reply};

/// Streams asked at a time: bounds what is in hand.
const AT_ONCE: usize = 64;

/// Items per stream and question at most.
const READ_COUNT_MAX: usize = 100;

/// Items in the first answer, whose size nobody knows.
const READ_COUNT_FIRST: usize = 10;

/// Bytes that an answer about one stream should not have more of.
const ANSWER_BYTES: usize = 128 * 1024;

/// How often to look whether somebody trimmed what was not read, and how far behind we are.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest pause while little comes.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest, but for very many streams.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Share of a pause for each stream: 2 000 questions a second at most while little comes.
const PAUSE_PER_STREAM: Duration = Duration::from_micros(500);

/// What the reader needs.
#[derive(Debug)]
pub struct Sweep {
    /// How to ask.
    pub link: Link,
    /// What to read; grows while it runs.
    pub streams: Streams,
    /// As whom.
    pub config: StreamConfig,
    /// Where items go.
    pub intake: Intake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How one stream stands with us.
#[derive(Debug)]
struct Place {
    has_group: bool,
    /// Items to ask for.
    count: usize,
    /// It was there once in this process: if it is not now, Redis lost it.
    had_group: bool,
    /// Own pending items are read up to here.
    own: Own,
    /// Before the first look nothing is read: a loss ahead of us is behind us a moment later.
    was_looked_at: bool,
    trims: Trims,
    /// It failed, and is left alone until then, so that it holds up no other.
    rests_until: Option<Instant>,
    backoff: Backoff,
    /// Not read, and not acknowledged; at the last look.
    waiting: (u64, u64),
}

impl Default for Place {
    fn default() -> Self {
        Self {
            has_group: false,
            count: READ_COUNT_FIRST,
            had_group: false,
            own: Own::First,
            was_looked_at: false,
            trims: Trims::default(),
            rests_until: None,
            backoff: Backoff::default(),
            waiting: (0, 0),
        }
    }
}

#[derive(Debug)]
enum Own {
    /// From the beginning.
    First,
    After(String),
    Done,
}

impl Own {
    fn id(&self) -> &str {
        match self {
            Self::First => "0",
            Self::After(id) => id,
            Self::Done => ">",
        }
    }
}

type Places = HashMap<Arc<str>, Place>;

/// What one round brought.
#[derive(Debug, Default)]
struct Came {
    items: usize,
    /// A stream gave as many as were asked for: it has more.
    is_full: bool,
    failed: usize,
    failure: Option<RedisFailure>,
    /// Streams that were lost.
    lost: Vec<Arc<str>>,
}

impl Place {
    fn fail(&mut self, failure: RedisFailure, came: &mut Came) {
        self.own = Own::First;
        self.rests_until = Some(Instant::now() + self.backoff.pause());
        came.failed += 1;
        came.failure.get_or_insert(failure);
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Sweep {
    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut places = Places::new();
        let (mut idle, mut look_at) = (PAUSE_MIN, Instant::now());
        while !stop.is_cancelled() {
            let mut streams = self.streams.all();
            streams.retain(|stream| !places.get(&stream.name).is_some_and(Place::rests));
            let mut came = Came::default();
            let looks = Instant::now() >= look_at;
            for some in streams.chunks(AT_ONCE) {
                self.join(some, &mut places, &mut came).await;
                let is_due = |it: &&Stream| {
                    let place = places.get(&it.name);
                    place.is_some_and(|place| looks || !place.was_looked_at)
                };
                let due: Vec<Stream> = some.iter().filter(is_due).cloned().collect();
                self.look(&due, &mut places).await;
                // Waits for the running read: nothing is handed to nobody.
                if !self.read(some, &mut places, &mut came, &stop).await {
                    return;
                }
            }
            if looks {
                look_at = Instant::now() + LOOK_INTERVAL;
                self.tell_standing(&places);
            }
            self.tell_lost(&came.lost);
            if let Some(failure) = &came.failure {
                self.tell_failure(failure, came.failed);
            }
            let rest = pause(came.items, came.is_full, streams.len(), &mut idle);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Makes the group where it is not known to be there; lets go of what is no stream any more.
    async fn join(&self, some: &[Stream], places: &mut Places, came: &mut Came) {
        let without = |stream: &&Stream| !places.get(&stream.name).is_some_and(|it| it.has_group);
        let without: Vec<&Stream> = some.iter().filter(without).collect();
        let create = |stream: &&Stream| {
            let mut create = cmd("XGROUP");
            create.arg("CREATE").arg(&*stream.name);
            create.arg(&self.config.group).arg("0");
            create
        };
        let commands = without.iter().map(create).collect();
        let answers = self.link.ask_all::<()>("XGROUP CREATE", commands).await;
        for (stream, answer) in without.into_iter().zip(answers) {
            let place = places.entry(stream.name.clone()).or_default();
            let had_group = place.had_group;
            match answer {
                Ok(()) => {
                    if had_group {
                        came.lost.push(stream.name.clone());
                    }
                    debug!(stream = %stream.name, "created the consumer group");
                    place.had_group = true;
                }
                Err(failure) if failure.code() == Some("BUSYGROUP") => place.had_group = true,
                Err(failure) if is_gone(&failure) => {
                    if had_group {
                        came.lost.push(stream.name.clone());
                    }
                    places.remove(&stream.name);
                    self.streams.let_go(&stream.name);
                    self.metrics.redis(&stream.name, true);
                    continue;
                }
                // A full Redis refuses this even when the group is there: try to read all the same.
                Err(RedisFailure::Refused { .. }) => {}
                Err(failure) => {
                    self.metrics.redis(&stream.name, false);
                    place.fail(failure, came);
                    continue;
                }
            }
            place.has_group = true;
        }
    }

    /// `false`: stopped.
    async fn read(
        &self,
        some: &[Stream],
        places: &mut Places,
        came: &mut Came,
        stop: &CancellationToken,
    ) -> bool {
        let known: Vec<&Stream> = some
            .iter()
            .filter(|stream| places.get(&stream.name).is_some_and(|it| it.has_group))
            .collect();
        let commands = known.iter().map(|stream| {
            let place = &places[&stream.name];
            self.read_command(stream, place.own.id(), place.count)
        });
        let answers = self.link.ask_all::<Value>("XREADGROUP", commands.collect());
        for (stream, answer) in known.into_iter().zip(answers.await) {
            let Some(place) = places.get_mut(&stream.name) else {
                continue;
            };
            match answer {
                Ok(answer) => {
                    self.metrics.redis(&stream.name, true);
                    place.backoff.reset();
                    if !self.bring(stream, &answer, place, came, stop).await {
                        return false;
                    }
                }
                Err(failure) => {
                    place.own = Own::First;
                    // Made again in the next round, which is not worth a word.
                    if matches!(failure.code(), Some("NOGROUP" | "UNBLOCKED" | "WRONGTYPE")) {
                        place.has_group = false;
                        continue;
                    }
                    let answers = matches!(failure, RedisFailure::Refused { .. });
                    self.metrics.redis(&stream.name, answers);
                    place.fail(failure, came);
                }
            }
        }
        true
    }

    /// `false`: stopped.
    async fn bring(
        &self,
        stream: &Stream,
        answer: &Value,
        place: &mut Place,
        came: &mut Came,
        stop: &CancellationToken,
    ) -> bool {
        let items = reply::read_group(answer);
        self.metrics.entries_delivered.add(items.len() as u64);
        came.is_full |= items.len() >= place.count;
        place.count = count(&items).unwrap_or(place.count);
        came.items += items.len();
        if !matches!(place.own, Own::Done) {
            place.own = match items.last() {
                Some((id, _)) => Own::After(id.to_string()),
                None => Own::Done,
            };
            // New ones have not been asked for yet.
            came.is_full = true;
        }
        for (id, fields) in items {
            let entry = stream.entry(id);
            let Some(fields) = fields else {
                if let Err(failure) = self.claimer(stream).drop_deleted(&entry).await {
                    place.fail(failure, came);
                }
                continue;
            };
            let bringing = self.intake.bring(Delivery { entry, fields });
            let taken = tokio::select! {
                () = stop.cancelled() => return false,
                taken = bringing => taken,
            };
            if !taken {
                return false;
            }
        }
        true
    }

    fn claimer(&self, stream: &Stream) -> Claimer {
        super::watch::claimer(
            &self.link,
            stream,
            &self.config,
            &self.intake,
            &self.metrics,
        )
    }

    fn read_command(&self, stream: &Stream, from: &str, count: usize) -> Cmd {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.config.group);
        read.arg(&self.config.consumer);
        read.arg("COUNT").arg(count);
        read.arg("STREAMS").arg(&*stream.name).arg(from);
        read
    }

    /// That it cannot be asked now is no reason not to read.
    async fn look(&self, some: &[Stream], places: &mut Places) {
        let info = |what: &'static str| {
            let command = |stream: &Stream| {
                let mut info = cmd("XINFO");
                info.arg(what).arg(&*stream.name);
                info
            };
            some.iter().map(command).collect::<Vec<_>>()
        };
        // The stream before the group: what is read in between only makes a loss look smaller.
        let streams = self.link.ask_all("XINFO STREAM", info("STREAM")).await;
        let groups = self.link.ask_all("XINFO GROUPS", info("GROUPS")).await;
        for (stream, answers) in some.iter().zip(streams.into_iter().zip(groups)) {
            let (Ok(of_stream), Ok(of_groups)) = answers else {
                continue;
            };
            let counts = reply::counts(&of_stream, &of_groups, &self.config.group);
            let place = places.get_mut(&stream.name);
            let (Some((counts, group)), Some(place)) = (counts, place) else {
                continue;
            };
            place.was_looked_at = true;
            place.waiting = (group.lag.unwrap_or(0), group.pending);
            let lost = place.trims.look(&counts);
            if lost > 0 {
                self.metrics.sensor_trim_lost.add(lost);
                error!(
                    stream = %stream.name,
                    items = lost,
                    "somebody trimmed items that were not read, and nobody sends them again: write with a larger MAXLEN, or without and set sensors.keep"
                );
            }
        }
    }

    fn tell_standing(&self, places: &Places) {
        let sum = |of: fn(&Place) -> u64| places.values().map(of).sum();
        let metrics = &self.metrics;
        metrics.sensor_streams.set(places.len() as u64);
        metrics.sensor_lag.set(sum(|place| place.waiting.0));
        metrics.sensor_pending.set(sum(|place| place.waiting.1));
    }

    fn tell_lost(&self, lost: &[Arc<str>]) {
        let Some(first) = lost.first() else { return };
        self.metrics.group_lost.add(lost.len() as u64);
        warn!(
            streams = lost.len(),
            %first,
            group = self.config.group,
            "sensor streams or their consumer groups are gone, and what was not read in them; what comes is read from its beginning"
        );
    }

    fn tell_failure(&self, failure: &RedisFailure, streams: usize) {
        self.metrics.error();
        let error = chained(failure);
        warn!(
            streams,
            error, "cannot read sensor streams; they are tried again"
        );
    }
}

/// There is no stream of that name.
fn is_gone(failure: &RedisFailure) -> bool {
    failure.is_no_such_stream() || failure.code() == Some("WRONGTYPE")
}

/// How many items to ask for next, if they are as large as these. `None`: there were none.
fn count(items: &[reply::Item]) -> Option<usize> {
    let fields = items.iter().filter_map(|(_, fields)| fields.as_ref());
    let parts = fields
        .flatten()
        .map(|(name, value)| name.len() + value.len());
    let bytes = parts.sum::<usize>().max(1);
    let count = items.len().saturating_mul(ANSWER_BYTES) / bytes;
    (!items.is_empty()).then_some(count.clamp(1, READ_COUNT_MAX))
}

/// How long to wait before the next round over so many streams. `idle`: the pause before this one.
fn pause(items: usize, is_full: bool, streams: usize, idle: &mut Duration) -> Duration {
    let count = u32::try_from(streams).unwrap_or(u32::MAX);
    let least = PAUSE_PER_STREAM.saturating_mul(count).max(PAUSE_MIN);
    *idle = match items {
        0 => idle.saturating_mul(2).clamp(least, PAUSE_MAX.max(least)),
        _ => least,
    };
    match is_full {
        true => Duration::ZERO,
        false => *idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::StreamId;

    #[test]
    fn of_large_items_fewer_are_asked_for() {
        let of = |items: usize, bytes: usize| {
            let fields = vec![(b"value".to_vec(), vec![b'1'; bytes])];
            count(&vec![(StreamId::at_ms(1), Some(fields)); items])
        };
        assert_eq!(of(0, 0), None);
        assert_eq!(of(10, 50), Some(READ_COUNT_MAX));
        assert_eq!(of(10, 32 * 1024), Some(3));
        assert_eq!(of(1, 100 * ANSWER_BYTES), Some(1));
        assert_eq!(count(&[(StreamId::at_ms(1), None)]), Some(READ_COUNT_MAX));
    }

    #[test]
    fn who_has_more_is_asked_at_once_and_who_has_nothing_ever_less_often() {
        let ms = Duration::from_millis;
        let mut idle = PAUSE_MIN;
        assert_eq!(pause(100, true, 10, &mut idle), Duration::ZERO);
        assert_eq!(pause(3, false, 10, &mut idle), ms(20));
        let pauses: Vec<Duration> = (0..6).map(|_| pause(0, false, 10, &mut idle)).collect();
        assert_eq!(pauses, [40, 80, 160, 320, 500, 500].map(ms));
        assert_eq!(pause(1, false, 10, &mut idle), ms(20));
        // Two thousand questions a second, however many streams there are.
        assert_eq!(pause(1, false, 1_000, &mut idle), ms(500));
        assert_eq!(pause(0, false, 10_000, &mut idle), ms(5_000));
        assert_eq!(
            pause(0, false, usize::MAX, &mut idle),
            PAUSE_PER_STREAM * u32::MAX
        );
    }
}
