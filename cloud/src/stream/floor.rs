//! Tells the gateways what is in the database, and which entries we read.
//!
//! Why again and again: Redis may be emptied at any time, and a gateway that sees no floor keeps
//! everything. Why from the database: another processor's commits count as much as ours.
//!
//! Invariant: only what was committed is ever published: from a [`Committed`], from the tables, or
//! what another processor published from those. One gateway's floor that Redis does not take holds
//! back no other's.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::{GatewayId, SettledRanges, SpoolId, command, keys, version};
use redis::{Cmd, cmd};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::consumer::chained;
use super::link::{Link, RedisFailure};
use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::store::Committed;

/// What is settled of every spool of every gateway.
pub type Floors = HashMap<GatewayId, HashMap<SpoolId, SettledRanges>>;

/// Where commits are written down for publication.
#[derive(Debug, Default)]
pub struct Board {
    known: Mutex<(Floors, BTreeSet<(GatewayId, SpoolId)>)>,
    changed: Notify,
}

impl Board {
    /// A batch was committed.
    pub fn commit(&self, committed: &Committed) {
        for (spool, (gateway, ranges)) in committed.settled() {
            self.learn(gateway, *spool, ranges, true);
        }
        self.changed.notify_one();
    }

    /// This stands in the tables.
    fn load(&self, floors: &Floors) {
        for (gateway, spools) in floors {
            for (spool, ranges) in spools {
                self.learn(gateway, *spool, ranges, false);
            }
        }
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
    fn floors(&self) -> impl Future<Output = Option<Floors>> + Send;
}

/// Publishes until `stop`: changes at once, everything every 30 s and whenever `lost` rings.
pub async fn run(
    link: Link,
    board: Arc<Board>,
    tables: impl Tables,
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
            () = board.changed.notified() => all = missed,
            // Until the tables were read once, a floor would seem lower than it is.
            () = tokio::time::sleep(pause), if !loaded || missed => {}
        }
        if all {
            match tables.floors().await {
                Some(floors) => {
                    board.load(&floors);
                    loaded = true;
                }
                None => debug!("cannot read settled ranges now"),
            }
            if !loaded {
                pause = backoff.pause();
            }
        }
        if !loaded {
            continue;
        }
        missed = false;
        if let Err(failure) = publish(&link, board.take(all), all).await {
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
    for put in link.ask_all("HSET floor", puts).await {
        published = published.and(put);
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
