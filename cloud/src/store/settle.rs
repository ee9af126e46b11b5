//! Whose positions are settled: spools, settled ranges and low edges.
//!
//! Invariant: what is written here commits with the rows it speaks of.

use std::collections::{BTreeMap, HashMap};

use contract::{GatewayId, SettledRanges, SpoolId};
use sqlx::postgres::PgConnection;

use super::errors::StoreError;
use super::plan::{Run, Tally};
use super::values::{number, spool_number};
use crate::batch::{Place, Unit};

/// Writes down new spools and says whose each spool is.
pub(super) async fn owners(
    on: &mut PgConnection,
    units: &[Unit],
    known: &HashMap<SpoolId, GatewayId>,
) -> Result<HashMap<SpoolId, GatewayId>, StoreError> {
    let places = || units.iter().filter_map(|unit| unit.place.as_ref());
    let asked: BTreeMap<SpoolId, &Place> = places()
        .filter(|place| !known.contains_key(&place.spool))
        .map(|place| (place.spool, place))
        .collect();
    let mut owners: HashMap<SpoolId, GatewayId> = places()
        .filter_map(|place| Some((place.spool, known.get(&place.spool)?.clone())))
        .collect();
    if asked.is_empty() {
        return Ok(owners);
    }
    let new: BTreeMap<SpoolId, &Place> = places()
        .filter(|place| !place.only_if_known && asked.contains_key(&place.spool))
        .map(|place| (place.spool, place))
        .collect();
    let ids: Vec<i64> = new.keys().map(|spool| spool_number(*spool)).collect();
    let gateways: Vec<&str> = new.values().map(|place| place.gateway.as_str()).collect();
    sqlx::query(
        "INSERT INTO spools (spool_id, gateway) SELECT * FROM UNNEST($1::int8[], $2::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(gateways)
    .execute(&mut *on)
    .await
    .map_err(|source| StoreError::new("registering spools", source))?;
    let ids: Vec<i64> = asked.keys().map(|spool| spool_number(*spool)).collect();
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT spool_id, gateway FROM spools WHERE spool_id = ANY($1)")
            .bind(ids)
            .fetch_all(on)
            .await
            .map_err(|source| StoreError::new("looking up spools", source))?;
    for (spool, gateway) in rows {
        let spool = u64::try_from(spool).ok().map(SpoolId::from_u64);
        if let (Some(Ok(spool)), Ok(gateway)) = (spool, gateway.parse()) {
            owners.insert(spool, gateway);
        }
    }
    Ok(owners)
}

/// What of these units is settled already.
pub(super) async fn settled(
    on: &mut PgConnection,
    units: &[Unit],
) -> Result<HashMap<SpoolId, SettledRanges>, StoreError> {
    let mut asked: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for place in units.iter().filter_map(|unit| unit.place.as_ref()) {
        let span = asked
            .entry(spool_number(place.spool))
            .or_insert((place.first, place.last));
        *span = (span.0.min(place.first), span.1.max(place.last));
    }
    let spools: Vec<i64> = asked.keys().copied().collect();
    let firsts: Vec<i64> = asked.values().map(|span| number(span.0)).collect();
    let lasts: Vec<i64> = asked.values().map(|span| number(span.1)).collect();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT s.spool_id, s.first_seq, s.last_seq \
         FROM UNNEST($1::int8[], $2::int8[], $3::int8[]) AS a(spool, first, last) \
         JOIN settled s ON int8range(s.spool_id, s.spool_id, '[]') && int8range(a.spool, a.spool, '[]') \
                       AND int8range(s.first_seq, s.last_seq, '[]') && int8range(a.first, a.last, '[]')",
    )
    .bind(spools)
    .bind(firsts)
    .bind(lasts)
    .fetch_all(on)
    .await
    .map_err(|source| StoreError::new("looking up what is settled", source))?;
    let mut settled: HashMap<SpoolId, SettledRanges> = HashMap::new();
    for (spool, first, last) in rows {
        let numbers = (
            u64::try_from(spool),
            u64::try_from(first),
            u64::try_from(last),
        );
        if let (Ok(spool), Ok(first), Ok(last)) = numbers
            && let Ok(spool) = SpoolId::from_u64(spool)
        {
            settled.entry(spool).or_default().insert(first, last);
        }
    }
    Ok(settled)
}
/// Writes down what is settled now. Fails with 23P01 when another processor was faster.
pub(super) async fn settle(on: &mut PgConnection, runs: &[Run]) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let tally = |value: fn(&Tally) -> u64| -> Vec<i64> {
        runs.iter().map(|run| number(value(&run.tally))).collect()
    };
    sqlx::query(
        "INSERT INTO settled (gateway, spool_id, first_seq, last_seq, received, stored, \
             quarantined, duplicate, dead, dropped) \
         SELECT * FROM UNNEST($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], \
             $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[])",
    )
    .bind(
        runs.iter()
            .map(|run| run.gateway.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        runs.iter()
            .map(|run| spool_number(run.spool))
            .collect::<Vec<_>>(),
    )
    .bind(runs.iter().map(|run| number(run.first)).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| number(run.last)).collect::<Vec<_>>())
    .bind(tally(|t| t.received))
    .bind(tally(|t| t.stored))
    .bind(tally(|t| t.quarantined))
    .bind(tally(|t| t.duplicate))
    .bind(tally(|t| t.dead))
    .bind(tally(|t| t.dropped))
    .execute(on)
    .await
    .map_err(|source| StoreError::new("settling", source))?;
    Ok(())
}

/// Raises the position below which nothing will ever be sent again.
pub(super) async fn lows(
    on: &mut PgConnection,
    lows: &[(SpoolId, GatewayId, u64)],
) -> Result<(), StoreError> {
    if lows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE spools s SET low = a.low \
         FROM UNNEST($1::int8[], $2::text[], $3::int8[]) AS a(spool, gateway, low) \
         WHERE s.spool_id = a.spool AND s.gateway = a.gateway AND s.low < a.low",
    )
    .bind(
        lows.iter()
            .map(|low| spool_number(low.0))
            .collect::<Vec<_>>(),
    )
    .bind(lows.iter().map(|low| low.1.as_str()).collect::<Vec<_>>())
    .bind(lows.iter().map(|low| number(low.2)).collect::<Vec<_>>())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("raising the low edge of spools", source))?;
    Ok(())
}
