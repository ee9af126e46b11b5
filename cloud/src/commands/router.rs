//! Gives commands to the gateways at which their trackers are, and sees to those about which nothing
//! is heard any more.
//!
//! Why look first and claim then: a fleet may have thousands of commands waiting for trackers that
//! are not connected. Asking where they are costs one command per thousand and locks nothing.
//!
//! Invariants: nothing is decided here, [`super::state`] does; an entry is written once per attempt,
//! and never again when Redis does not say whether it has it; after every error everything is looked
//! at again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{GatewayId, keys};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::listen::{Bell, Heard};
use super::outbound;
use super::state::{self, Change, Evidence, Standing, Status, Verdict};
use super::table::{self, Claimed, Head, OnItsWay};
use crate::backoff::Backoff;
use crate::config::CommandsConfig;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;
use crate::store::{Database, StoreError};
use crate::stream::consumer::chained;
use crate::stream::{Link, RedisFailure, trimmer};

/// Commands looked at and claimed together.
const PAGE: usize = 1_000;

/// Between two looks when nothing waits.
const IDLE: Duration = Duration::from_secs(30);

/// Between two looks when something waits: first and longest.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LONGEST: Duration = Duration::from_secs(5);

/// A look is followed by a pause so many times as long.
const SHARE: u32 = 5;

/// Longest pause after an error.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A gateway that beats again every 30 s and does not for longer has not just lost its heartbeat
/// with everything else in Redis.
const SILENCE: Duration = Duration::from_secs(keys::REPUBLISH_INTERVAL_S + 10);

/// Why a look ended early.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The task that routes.
pub(super) struct Router {
    database: Database,
    link: Link,
    config: CommandsConfig,
    metrics: Arc<Metrics>,
    bell: Arc<Bell>,
    /// Since when gateways of commands on their way have given no sign of life.
    silent_since: HashMap<GatewayId, Instant>,
}

/// What a look at everything found.
#[derive(Default)]
struct Found {
    /// Something waits or is on its way.
    any: bool,
    /// Something was given to a gateway.
    given: bool,
}

impl Router {
    pub(super) fn new(
        database: Database,
        link: Link,
        config: CommandsConfig,
        metrics: Arc<Metrics>,
        bell: Arc<Bell>,
    ) -> Self {
        Self {
            database,
            link,
            config,
            metrics,
            bell,
            silent_since: HashMap::new(),
        }
    }

    /// Routes until `stop`; a look in hand is finished.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut pause = LOOK_FIRST;
        let mut next = Instant::now();
        let mut heard = Heard::default();
        while !stop.is_cancelled() {
            let due = heard.everything || Instant::now() >= next;
            let started = Instant::now();
            let looked = if due {
                self.look_at_everything().await
            } else {
                self.look_at(&heard.ids).await
            };
            let took = started.elapsed();
            match looked {
                Ok(found) => {
                    backoff.reset();
                    pause = match (found.any, found.given || !due) {
                        (false, _) => IDLE,
                        (true, true) => LOOK_FIRST,
                        (true, false) => (pause * 2).min(LOOK_LONGEST),
                    };
                    let share = took * SHARE;
                    let wait = pause.min(self.config.answer_max).max(share);
                    next = if due {
                        Instant::now() + wait
                    } else {
                        next.min(Instant::now() + wait)
                    };
                }
                Err(trouble) => {
                    self.metrics.error();
                    let wait = backoff.pause().min(RETRY_MAX);
                    warn!(
                        error = chained(&trouble),
                        retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        "cannot route commands; they stay in the table"
                    );
                    next = Instant::now() + wait;
                    // A notification may not hurry what failed, except that the database is back.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.bell.rung() => {}
            }
            heard = self.bell.take();
        }
    }

    /// Routes those of these that may go.
    async fn look_at(&mut self, ids: &[String]) -> Result<Found, Trouble> {
        let heads = table::heads_among(self.database.pool(), ids).await?;
        let given = self.route(heads).await?;
        Ok(Found {
            any: !ids.is_empty(),
            given,
        })
    }

    async fn look_at_everything(&mut self) -> Result<Found, Trouble> {
        let pool = self.database.pool().clone();
        let expired = table::expire(&pool).await?;
        self.metrics.commands_expired.add(expired);
        if expired > 0 {
            info!(commands = expired, "commands expired in the queue");
        }
        self.judge_all().await?;
        let mut given = false;
        let mut after = -1;
        loop {
            let heads = table::heads(&pool, after, PAGE as i64).await?;
            let Some(last) = heads.last() else { break };
            after = i64::try_from(last.imei.as_u64()).unwrap_or(i64::MAX);
            let is_last = heads.len() < PAGE;
            given |= self.route(heads).await?;
            if is_last {
                break;
            }
        }
        let counts = table::counts(&pool).await?;
        self.metrics.commands_queued.set(counts.queued);
        self.metrics.commands_routed_now.set(counts.routed);
        self.metrics.commands_sent_now.set(counts.sent);
        self.metrics
            .commands_oldest_queued_s
            .set(counts.oldest_queued_s);
        Ok(Found {
            any: counts.queued + counts.routed + counts.sent > 0,
            given,
        })
    }

    /// Gives what can be given; `true` if anything was.
    async fn route(&self, heads: Vec<Head>) -> Result<bool, Trouble> {
        if heads.is_empty() {
            return Ok(false);
        }
        let imeis: Vec<_> = heads.iter().map(|head| head.imei).collect();
        let places = outbound::places(&self.link, &imeis).await?;
        let gateways: HashSet<GatewayId> = places.values().cloned().collect();
        let alive = outbound::alive(&self.link, gateways).await?;
        let wanted: Vec<(Head, GatewayId)> = heads
            .into_iter()
            .filter_map(|head| {
                let gateway = places.get(&head.imei).filter(|at| alive.contains(*at))?;
                Some((head, gateway.clone()))
            })
            .collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let claimed = match table::claim(self.database.pool(), &wanted).await {
            // Another processor has just given another command to one of these trackers.
            Err(error) if error.sqlstate() == Some("23505") => {
                self.bell.everything();
                return Ok(false);
            }
            claimed => claimed?,
        };
        let given = !claimed.is_empty();
        if given {
            fail_point!("command-taken");
        }
        self.give(claimed).await?;
        Ok(given)
    }

    /// Writes entries, and notes what became of each.
    async fn give(&self, claimed: Vec<Claimed>) -> Result<(), Trouble> {
        let mut giving = JoinSet::new();
        let (mut entries, mut not_given, mut doubt) = (Vec::new(), Vec::new(), None);
        for one in claimed {
            let link = self.link.clone();
            giving.spawn(async move {
                let answer = outbound::give(&link, &one).await;
                (one, answer)
            });
        }
        while let Some(done) = giving.join_next().await {
            // A task of ours that panics has said so; its command is left to the judge.
            let Ok((one, answer)) = done else { continue };
            let (cid, gateway) = (one.order().cid.clone(), one.gateway());
            match answer {
                Ok(Some(entry)) => {
                    fail_point!("command-added");
                    self.metrics.commands_routed.add(1);
                    let waited = u64::try_from(one.waited().as_millis()).unwrap_or(u64::MAX);
                    self.metrics.commands_route_ms.add(waited);
                    self.metrics.commands_last_route_ms.set(waited);
                    info!(cid, %gateway, imei = ?one.order().imei, attempt = one.order().attempt, waited_ms = waited, "command routed");
                    entries.push((cid, one.order().attempt, entry));
                }
                Ok(None) => not_given.push((one, "gateway-gone")),
                Err(failure @ RedisFailure::Refused { .. }) => {
                    warn!(cid, %gateway, error = chained(&failure), "Redis did not take a command");
                    not_given.push((one, "redis-refused"));
                }
                // It may be in the stream. Whoever judges it later looks there.
                Err(failure) => doubt = Some(failure),
            }
        }
        if !entries.is_empty() {
            table::note_entries(self.database.pool(), &entries).await?;
            fail_point!("command-noted");
        }
        for (one, reason) in &not_given {
            let row = one.row();
            if let Some(change) = state::not_given(&row, reason) {
                self.write(&one.order().cid, &row, &change).await?;
            }
        }
        match doubt {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    async fn write(&self, id: &str, row: &state::Row, change: &Change) -> Result<(), Trouble> {
        let doing = "writing what became of a command";
        let on = self.database.pool().acquire().await;
        let mut on = on.map_err(|source| StoreError::new(doing, source))?;
        if table::apply(&mut on, id, row, change).await? {
            self.count(id, row, change);
        }
        Ok(())
    }

    fn count(&self, id: &str, row: &state::Row, change: &Change) {
        let (status, reason) = (change.to.as_str(), change.reason);
        info!(
            cid = id,
            from = row.status.as_str(),
            status,
            reason,
            attempt = row.attempt,
            is_resend = change.is_resend,
            "command"
        );
        match change.to {
            Status::Queued => self.metrics.commands_requeued.add(1),
            Status::Unknown => self.metrics.commands_unknown.add(1),
            _ => {}
        }
    }

    /// Judges everything that has been on its way for a while.
    async fn judge_all(&mut self) -> Result<(), Trouble> {
        let age_min = LOOK_FIRST.min(self.config.answer_max);
        let all = table::on_their_way(self.database.pool(), age_min).await?;
        if all.is_empty() {
            self.silent_since.clear();
            return Ok(());
        }
        let gateways: HashSet<GatewayId> = all.iter().map(|one| one.gateway.clone()).collect();
        let alive = outbound::alive(&self.link, gateways.clone()).await?;
        let now = Instant::now();
        self.silent_since
            .retain(|gateway, _| gateways.contains(gateway) && !alive.contains(gateway));
        for gateway in gateways.difference(&alive) {
            self.silent_since.entry(gateway.clone()).or_insert(now);
        }
        let routed: Vec<&OnItsWay> = all
            .iter()
            .filter(|one| one.row.status == Status::Routed)
            .collect();
        let imeis: Vec<_> = routed.iter().map(|one| one.imei).collect();
        let places = outbound::places(&self.link, &imeis).await?;
        let found = self.find_unnoted(&routed).await?;
        let has_unread_responses = self.has_unread_responses().await?;
        for one in &all {
            let entry = one.entry.as_ref().or_else(|| found.get(&one.id));
            let standing = match (one.row.status, entry) {
                (Status::Routed, Some(entry)) => {
                    outbound::standing(&self.link, &one.gateway, entry).await?
                }
                _ => Standing::Gone,
            };
            let silent_for = self
                .silent_since
                .get(&one.gateway)
                .map(|since| now - *since);
            let silence = SILENCE.min(self.config.answer_max);
            let evidence = Evidence {
                standing,
                is_silent: silent_for.is_some_and(|silent| silent >= silence),
                has_moved: places.get(&one.imei).is_some_and(|at| *at != one.gateway),
                is_overdue: one.age >= self.config.answer_max,
                has_unread_responses,
            };
            match state::judge(&one.row, &evidence) {
                Verdict::Wait => {}
                Verdict::Write(change) => self.write(&one.id, &one.row, &change).await?,
                Verdict::Withdraw => {
                    if let Some(entry) = entry {
                        self.withdraw(one, entry).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes an unread entry out of the stream and puts its command back into the queue. The row is
    /// locked meanwhile, so that nobody judges a command whose entry has just gone.
    async fn withdraw(&self, one: &OnItsWay, entry: &str) -> Result<(), Trouble> {
        let doing = "withdrawing a command";
        let failed = |source| StoreError::new(doing, source);
        let mut transaction = self.database.pool().begin().await.map_err(failed)?;
        if !table::lock(&mut transaction, &one.id, &one.row).await? {
            return Ok(());
        }
        let standing = outbound::withdraw(&self.link, &one.gateway, entry).await?;
        let change = state::withdrawn(&one.row).filter(|_| standing == Standing::Unread);
        if let Some(change) = change
            && table::apply(&mut transaction, &one.id, &one.row, &change).await?
        {
            transaction.commit().await.map_err(failed)?;
            self.count(&one.id, &one.row, &change);
        }
        Ok(())
    }

    /// Entries of commands whose router died, or lost Redis, before it could note them.
    async fn find_unnoted(&self, routed: &[&OnItsWay]) -> Result<HashMap<String, String>, Trouble> {
        let mut by_gateway: HashMap<&GatewayId, HashSet<(String, u32)>> = HashMap::new();
        for one in routed.iter().filter(|one| one.entry.is_none()) {
            let wanted = by_gateway.entry(&one.gateway).or_default();
            wanted.insert((one.id.clone(), one.row.attempt));
        }
        let mut found = HashMap::new();
        for (gateway, wanted) in by_gateway {
            found.extend(outbound::find(&self.link, gateway, &wanted).await?);
        }
        let noted = routed.iter().filter_map(|one| {
            let entry = found.get(&one.id)?;
            Some((one.id.clone(), one.row.attempt, entry.clone()))
        });
        let noted: Vec<_> = noted.collect();
        if !noted.is_empty() {
            table::note_entries(self.database.pool(), &noted).await?;
        }
        Ok(found)
    }

    /// Is there a response that no processor has read?
    async fn has_unread_responses(&self) -> Result<bool, Trouble> {
        let groups = trimmer::groups(&self.link, keys::COMMAND_RESPONSES).await?;
        let ours = groups
            .iter()
            .find(|group| group.name == keys::GROUP_COMMANDS);
        Ok(ours.is_some_and(|group| group.lag.is_some_and(|lag| lag > 0)))
    }
}
