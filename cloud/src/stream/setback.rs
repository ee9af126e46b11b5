//! A database that went back in time: noticed, told, and made good from what Redis still holds.
//!
//! Why it can happen: a standby that lagged was promoted, or a backup restored. What was committed in
//! between is gone, and gateways were told that it is stored and may have forgotten it. Redis keeps
//! what was acknowledged for `stream.keep`, so all of that is handed out once more; storing something
//! twice changes nothing.
//!
//! Invariants: what was told is asked before the tables are, so that a commit in between is no
//! setback; a stream is handed out again before any floor is lowered, so that a death in between is
//! noticed again.

use std::collections::HashMap;
use std::sync::Arc;

use contract::{GatewayId, SettledRanges, keys};
use redis::{Value, cmd};
use tracing::{error, info};

use super::consumer::chained;
use super::finder::Streams;
use super::floor::Floors;
use super::link::{Link, RedisFailure};
use super::reply;
use crate::fail_point::fail_point;
use crate::metrics::Metrics;
use crate::store::edges::Settled;

/// Spools named in one line of the log.
const NAMED_MAX: usize = 8;

/// Watches for it.
#[derive(Debug)]
pub struct Setback {
    /// `None`: no Redis holds anything that could be handed out again.
    link: Option<Link>,
    streams: Streams,
    group: String,
    metrics: Arc<Metrics>,
    /// What this process committed or saw in the tables. Low edges are not in it: those that come
    /// after a setback cover what is lost.
    seen: Floors,
    /// Told as stored, and not there now.
    missing: Floors,
}

impl Setback {
    /// Nothing is missing yet.
    #[must_use]
    pub fn new(link: Option<Link>, streams: Streams, group: String, metrics: Arc<Metrics>) -> Self {
        Self {
            link,
            streams,
            group,
            metrics,
            seen: Floors::new(),
            missing: Floors::new(),
        }
    }

    /// What stands on the floors of these gateways now.
    pub(super) async fn published(
        &self,
        gateways: impl IntoIterator<Item = GatewayId>,
    ) -> Result<Floors, RedisFailure> {
        let mut floors = Floors::new();
        let Some(link) = &self.link else {
            return Ok(floors);
        };
        for gateway in gateways {
            let mut get = cmd("HGETALL");
            get.arg(keys::floor(&gateway));
            let fields: HashMap<String, String> = link.ask("HGETALL floor", &get).await?;
            // What cannot be read tells nobody anything and is replaced.
            let spools = fields.into_iter().filter_map(|(spool, ranges)| {
                Some((spool.parse().ok()?, SettledRanges::parse(&ranges).ok()?))
            });
            floors.insert(gateway, spools.collect());
        }
        Ok(floors)
    }

    /// This was committed.
    pub(super) fn remember(&mut self, committed: &Floors) {
        merge(&mut self.seen, committed);
    }

    /// Compares what was told, and what was there once, with what the tables say. `true`: they lack
    /// some of it, and every stream was handed out again.
    pub(super) async fn look(
        &mut self,
        told: &Floors,
        tables: &Settled,
    ) -> Result<bool, RedisFailure> {
        let mut lost = lacking(told, &tables.edges);
        merge(&mut lost, &lacking(&self.seen, &tables.ranges));
        let had = positions(&self.missing);
        let mut missing = lacking(&self.missing, &tables.ranges);
        merge(&mut missing, &lost);
        if !lost.is_empty() {
            self.metrics.database_setbacks.add(1);
            error!(
                positions = positions(&lost),
                spools = named(&lost),
                "the database went back in time: it lacks what was stored in it before, and gateways may have forgotten that; everything Redis still holds is stored again. Find out which standby or backup took over, and see docs/operations.md"
            );
            self.hand_out_again().await?;
            self.seen.clear();
        }
        merge(&mut self.seen, &tables.ranges);
        self.missing = missing;
        let now = positions(&self.missing);
        self.metrics.positions_missing.set(now);
        if had > 0 && now == 0 {
            info!("everything that the database lacked is in it again");
        }
        Ok(!lost.is_empty())
    }

    /// Takes back the floors of spools that the tables do not know at all. Those of the others are
    /// replaced by what the tables say.
    pub(super) async fn lower(&self, told: &Floors, tables: &Floors) -> Result<(), RedisFailure> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        for (gateway, spools) in told {
            let there = tables.get(gateway);
            let gone = spools
                .keys()
                .filter(|spool| there.is_none_or(|there| !there.contains_key(*spool)));
            let mut delete = cmd("HDEL");
            delete.arg(keys::floor(gateway));
            let mut any = false;
            for spool in gone {
                delete.arg(spool.to_string());
                any = true;
            }
            if any {
                link.ask::<()>("HDEL floor", &delete).await?;
            }
        }
        Ok(())
    }

    async fn hand_out_again(&self) -> Result<(), RedisFailure> {
        let Some(link) = &self.link else {
            error!(
                "no Redis holds what was committed lately: stop the gateways, take `gateway spool export --all` of each spool, and give it to `gateway spool import`; see docs/one-box.md"
            );
            return Ok(());
        };
        for stream in self.streams.all() {
            match rewind(link, &stream.name, &self.group).await {
                Ok(items) => info!(stream = %stream.name, items, "handed out once more"),
                Err(failure) if failure.is_no_such_stream() => {}
                // Without its group it is read from the start in any case.
                Err(failure) if failure.code() == Some("NOGROUP") => {}
                // Trying again would not help, and would hold back every floor.
                Err(failure @ RedisFailure::Refused { .. }) => error!(
                    stream = %stream.name,
                    error = chained(&failure),
                    "cannot hand out a stream once more; by hand: XGROUP SETID with the id 0"
                ),
                Err(failure) => return Err(failure),
            }
        }
        fail_point!("handed-out-again");
        Ok(())
    }
}

/// Sets the group back to the first item that is there. Returns how many there are.
async fn rewind(link: &Link, stream: &str, group: &str) -> Result<u64, RedisFailure> {
    let mut info = cmd("XINFO");
    info.arg("STREAM").arg(stream);
    let counts = reply::stream(&link.ask::<Value>("XINFO STREAM", &info).await?);
    let (added, length, _) = counts.unwrap_or_default();
    let mut set = cmd("XGROUP");
    set.arg("SETID").arg(stream).arg(group).arg("0");
    // So that nobody takes what was trimmed long ago for lost, see `loss`.
    set.arg("ENTRIESREAD").arg(added.saturating_sub(length));
    link.ask::<()>("XGROUP SETID", &set).await?;
    Ok(length)
}

/// What `told` has and `tables` lack.
fn lacking(told: &Floors, tables: &Floors) -> Floors {
    let mut lacking = Floors::new();
    for (gateway, spools) in told {
        for (spool, ranges) in spools {
            let there = tables.get(gateway).and_then(|spools| spools.get(spool));
            let lost = match there {
                Some(there) => ranges.without(there),
                None => ranges.clone(),
            };
            if !lost.is_empty() {
                let of_gateway = lacking.entry(gateway.clone()).or_default();
                of_gateway.insert(*spool, lost);
            }
        }
    }
    lacking
}

/// Adds everything of `more`.
pub(super) fn merge(floors: &mut Floors, more: &Floors) {
    for (gateway, spools) in more {
        let known = floors.entry(gateway.clone()).or_default();
        for (spool, ranges) in spools {
            known.entry(*spool).or_default().merge(ranges);
        }
    }
}

fn positions(floors: &Floors) -> u64 {
    let ranges = floors.values().flat_map(|spools| spools.values());
    ranges.fold(0, |sum: u64, ranges| sum.saturating_add(ranges.count()))
}

/// For people: `<gateway> <spool> <ranges>`.
fn named(floors: &Floors) -> String {
    let each = floors.iter().flat_map(|(gateway, spools)| {
        let of_spool = move |(spool, ranges)| format!("{gateway} {spool} {ranges}");
        spools.iter().map(of_spool)
    });
    let mut all: Vec<String> = each.collect();
    all.sort();
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use contract::SpoolId;

    fn floors(all: &[(&str, u64, &str)]) -> Floors {
        let mut floors = Floors::new();
        for (gateway, spool, ranges) in all {
            let spools = floors.entry(gateway.parse().unwrap()).or_default();
            let spool = SpoolId::from_u64(*spool).unwrap();
            spools.insert(spool, SettledRanges::parse(ranges).unwrap());
        }
        floors
    }

    #[test]
    fn only_what_was_told_and_is_not_there_is_lacking() {
        let tables = floors(&[("a", 1, "1-90"), ("b", 2, "1-5,8-9")]);
        let more = floors(&[("a", 1, "1-80"), ("b", 2, "1-5")]);
        assert!(
            lacking(&more, &tables).is_empty(),
            "the tables may be ahead"
        );
        let told = floors(&[("a", 1, "1-100"), ("b", 2, "1-9"), ("b", 3, "4-4")]);
        let lost = floors(&[("a", 1, "91-100"), ("b", 2, "6-7"), ("b", 3, "4-4")]);
        assert_eq!(lacking(&told, &tables), lost);
        assert_eq!(positions(&lost), 13);
    }

    #[test]
    fn a_few_spools_are_named_and_many_are_counted() {
        let lost = floors(&[("b", 2, "6-7"), ("a", 1, "91-100")]);
        let one = format!("a {} 91-100", SpoolId::from_u64(1).unwrap());
        assert!(named(&lost).starts_with(&one), "{}", named(&lost));
        let ids: Vec<(&str, u64, &str)> = (1..=20).map(|spool| ("a", spool, "1-1")).collect();
        assert!(named(&floors(&ids)).ends_with("; and 12 more"));
    }
}
