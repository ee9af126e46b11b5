//! Tells the gateways what is in the database, and which entries we read.
//!
//! Why again and again: Redis may be emptied at any time, and a gateway that sees no floor keeps
//! everything. Why from the database: another processor's commits count as much as ours.
//!
//! Invariants: only what was committed is ever published: from a [`Committed`], from the tables, or
//! what another processor published from those; after a doubt about the database nothing is, until
//! its tables were read again; what they lack is taken back. One gateway's floor that Redis does not
//! take holds back no other's. Without a Redis the same is told to whoever asks the [`Board`].

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::{GatewayId, SettledRanges, SpoolId, command, keys, version};
use redis::{Cmd, cmd};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::consumer::chained;
use super::link::{Link, RedisFailure};
use super::setback::{self, Setback};
use crate::backoff::Backoff;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;
use crate::store::Committed;
use crate::store::edges::Settled;

/// What is settled of every spool of every gateway.
pub type Floors = HashMap<GatewayId, HashMap<SpoolId, SettledRanges>>;

/// Where commits are written down for publication.
#[derive(Debug, Default)]
pub struct Board {
    known: Mutex<(Floors, BTreeSet<(GatewayId, SpoolId)>)>,
    /// What was committed since the tables were last read.
    fresh: Mutex<Floors>,
    changed: Notify,
    doubted: AtomicBool,
    /// The tables were read since the last doubt.
    loaded: AtomicBool,
}

impl Board {
    /// A batch was committed.
    pub fn commit(&self, committed: &Committed) {
        for (spool, (gateway, ranges)) in committed.settled() {
            self.learn(gateway, *spool, ranges, true);
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            let spools = fresh.entry(gateway.clone()).or_default();
            spools.entry(*spool).or_default().merge(ranges);
        }
        self.changed.notify_one();
    }

    /// The database may be another one by now, or have less in it.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// What may be told now of one spool. `None`: nothing is settled, or the tables were not read yet.
    #[must_use]
    pub fn told(&self, gateway: &GatewayId, spool: SpoolId) -> Option<SettledRanges> {
        if !self.is_sure() {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.get(gateway)?.get(&spool).cloned()
    }

    /// Were the tables read since the last doubt about the database?
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.loaded.load(Ordering::SeqCst) && !self.doubted.load(Ordering::SeqCst)
    }

    /// What was committed since this was last asked.
    fn take_fresh(&self) -> Floors {
        std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This stands in the tables.
    fn load(&self, floors: &Floors) {
        for (gateway, spools) in floors {
            for (spool, ranges) in spools {
                self.learn(gateway, *spool, ranges, false);
            }
        }
    }

    /// This stands in the tables and nothing else does. A commit of this very moment may be left
    /// out; the next look finds it there.
    fn replace(&self, floors: &Floors) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.clone_from(floors);
        known.1.clear();
    }

    /// Everything that was committed, as far as we know.
    fn all(&self) -> Floors {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0.clone()
    }

    fn learn(&self, gateway: &GatewayId, spool: SpoolId, ranges: &SettledRanges, fresh: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let spools = known.0.entry(gateway.clone()).or_default();
        spools.entry(spool).or_default().merge(ranges);
        if fresh {
            known.1.insert((gateway.clone(), spool));
        }
    }

    /// Fields to write for each gateway: all, or those that changed since the last call.
    fn take(&self, all: bool) -> Vec<(GatewayId, Vec<(String, String)>)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = std::mem::take(&mut known.1);
        let mut fields: Vec<(GatewayId, Vec<(String, String)>)> = Vec::new();
        for (gateway, spools) in &known.0 {
            let mut spools: Vec<(String, String)> = spools
                .iter()
                .filter(|(spool, _)| all || changed.contains(&(gateway.clone(), **spool)))
                .map(|(spool, ranges)| (spool.to_string(), ranges.to_string()))
                .collect();
            spools.sort();
            if !spools.is_empty() {
                fields.push((gateway.clone(), spools));
            }
        }
        fields
    }
}

/// Reads what the tables say, however the caller does it.
pub trait Tables: Send + Sync + 'static {
    /// Everything that is settled; `None` when the tables cannot be read now.
    fn settled(&self) -> impl Future<Output = Option<Settled>> + Send;
}

/// Publishes until `stop`: changes at once, everything every 30 s and whenever `lost` rings. Without
/// `link`, only the board is kept true.
pub async fn run(
    link: Option<Link>,
    board: Arc<Board>,
    tables: impl Tables,
    mut setback: Setback,
    metrics: Arc<Metrics>,
    lost: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut again = tokio::time::interval(Duration::from_secs(keys::REPUBLISH_INTERVAL_S));
    let mut loaded = false;
    let mut missed = false;
    let mut backoff = Backoff::default();
    let mut pause = backoff.pause();
    loop {
        let mut all = true;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = again.tick() => {}
            () = lost.notified() => {}
            // Whoever commits has a database: time to read its tables, if that is still to be done.
            () = board.changed.notified() => all = missed || !loaded,
            // Until the tables were read once, a floor would seem lower than it is.
            () = tokio::time::sleep(pause), if !loaded || missed => {}
        }
        if board.doubted.load(Ordering::SeqCst) {
            // First the one, then the other: in between nothing may be told.
            board.loaded.store(false, Ordering::SeqCst);
            board.doubted.store(false, Ordering::SeqCst);
            (loaded, pause) = (false, backoff.pause());
            continue;
        }
        if all {
            match load(&board, &tables, &mut setback).await {
                Ok(true) => loaded = true,
                Ok(false) => debug!("cannot read settled ranges now"),
                Err(failure) => {
                    loaded = false;
                    metrics.error();
                    warn!(
                        error = chained(&failure),
                        "cannot compare the floor with the database"
                    );
                }
            }
            if !loaded {
                pause = backoff.pause();
            }
        }
        if !loaded {
            continue;
        }
        board.loaded.store(true, Ordering::SeqCst);
        missed = false;
        let Some(link) = &link else {
            backoff.reset();
            continue;
        };
        if let Err(failure) = publish(link, board.take(all), all).await {
            missed = true;
            pause = backoff.pause();
            metrics.error();
            warn!(
                error = chained(&failure),
                "cannot publish the floor; gateways keep their data meanwhile"
            );
        } else {
            backoff.reset();
        }
    }
}

/// Takes in what the tables say. `false`: they cannot be read now.
async fn load(
    board: &Board,
    tables: &impl Tables,
    setback: &mut Setback,
) -> Result<bool, RedisFailure> {
    let mut told = board.all();
    setback.remember(&board.take_fresh());
    let mut gateways: BTreeSet<GatewayId> = told.keys().cloned().collect();
    if gateways.is_empty() {
        // Nothing was committed by this process yet: the tables say whose floors to look at.
        let Some(settled) = tables.settled().await else {
            return Ok(false);
        };
        gateways.extend(settled.edges.into_keys());
    }
    setback::merge(&mut told, &setback.published(gateways).await?);
    // Now: whatever was told before must be in here.
    let Some(settled) = tables.settled().await else {
        return Ok(false);
    };
    if setback.look(&told, &settled).await? {
        board.replace(&settled.edges);
        setback.lower(&told, &settled.edges).await?;
    }
    board.load(&settled.edges);
    Ok(true)
}

async fn publish(
    link: &Link,
    floors: Vec<(GatewayId, Vec<(String, String)>)>,
    all: bool,
) -> Result<(), RedisFailure> {
    // In a cluster the keys are on different nodes: what one does not take, others do.
    let mut published = Ok(());
    if all {
        let mut contract = cmd("HSET");
        contract.arg(keys::CONTRACT);
        contract
            .arg(version::FIELD_READS)
            .arg(version::VersionsRead::ours().to_string());
        contract
            .arg(version::FIELD_WRITES)
            .arg(command::ORDER_VERSION);
        published = link.ask("HSET contract", &contract).await;
        fail_point!("contract-published");
    }
    // Read from the tables a moment ago: complete, and it must replace what is wrong.
    let there = if all {
        floors
            .iter()
            .map(|(_, spools)| Ok(vec![None; spools.len()]))
            .collect()
    } else {
        let asked = floors
            .iter()
            .map(|(gateway, spools)| there(gateway, spools));
        link.ask_all("HMGET floor", asked.collect()).await
    };
    let mut puts = Vec::with_capacity(floors.len());
    for ((gateway, spools), there) in floors.into_iter().zip(there) {
        let there: Vec<Option<String>> = match there {
            Ok(there) => there,
            Err(failure) => {
                published = published.and(Err(failure));
                continue;
            }
        };
        let mut floor = cmd("HSET");
        floor.arg(keys::floor(&gateway));
        for ((spool, ranges), there) in spools.into_iter().zip(there) {
            floor.arg(spool).arg(merged(ranges, there.as_deref()));
        }
        puts.push(floor);
    }
    let is_any = !puts.is_empty();
    if is_any {
        fail_point!("before-floor");
    }
    for put in link.ask_all("HSET floor", puts).await {
        published = published.and(put);
    }
    if is_any {
        fail_point!("after-floor");
    }
    published
}

/// Asks what stands in Redis: the commits of other processors since the tables were last read.
fn there(gateway: &GatewayId, spools: &[(String, String)]) -> Cmd {
    let mut get = cmd("HMGET");
    get.arg(keys::floor(gateway));
    for (spool, _) in spools {
        get.arg(spool);
    }
    get
}

/// Both together; what cannot be read is replaced.
fn merged(ours: String, there: Option<&str>) -> String {
    let sets = (SettledRanges::parse(&ours), there.map(SettledRanges::parse));
    match sets {
        (Ok(mut ranges), Some(Ok(there))) => {
            ranges.merge(&there);
            ranges.to_string()
        }
        _ => ours,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_another_processor_published_is_kept() {
        let ours = || "5-9".to_owned();
        assert_eq!(merged(ours(), Some("1-4,20-20")), "1-9,20-20");
        assert_eq!(merged(ours(), None), "5-9");
        assert_eq!(merged(ours(), Some("rubbish")), "5-9");
    }

    #[test]
    fn nothing_is_told_before_the_tables_were_read_nor_in_doubt() {
        let board = Board::default();
        let (gateway, spool): (GatewayId, _) =
            ("a".parse().unwrap(), SpoolId::from_u64(1).unwrap());
        let ranges = SettledRanges::parse("1-3").unwrap();
        board.learn(&gateway, spool, &ranges, true);
        assert_eq!(board.told(&gateway, spool), None, "not read yet");
        board.loaded.store(true, Ordering::SeqCst);
        assert_eq!(board.told(&gateway, spool), Some(ranges));
        assert_eq!(board.told(&"b".parse().unwrap(), spool), None);
        board.doubt();
        assert_eq!(board.told(&gateway, spool), None, "in doubt");
    }

    #[test]
    fn changes_are_taken_once_and_everything_on_demand() {
        let board = Board::default();
        let (gateway, spool): (GatewayId, _) =
            ("a".parse().unwrap(), SpoolId::from_u64(1).unwrap());
        let loaded = SettledRanges::parse("1-3").unwrap();
        board.load(&HashMap::from([(
            gateway.clone(),
            HashMap::from([(spool, loaded)]),
        )]));
        assert!(board.take(false).is_empty());
        board.learn(&gateway, spool, &SettledRanges::parse("4-6").unwrap(), true);
        let field = (spool.to_string(), "1-6".to_owned());
        assert_eq!(board.take(false), [(gateway.clone(), vec![field.clone()])]);
        assert!(board.take(false).is_empty());
        assert_eq!(board.take(true), [(gateway, vec![field])]);
    }
}
