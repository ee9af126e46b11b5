//! What the tables say is settled: the truth behind every floor.

use std::collections::HashMap;

use contract::{GatewayId, SettledRanges, SpoolId};

use super::database::Database;
use super::errors::StoreError;

/// Settled ranges by gateway and spool.
pub type Edges = HashMap<GatewayId, HashMap<SpoolId, SettledRanges>>;

/// What the tables say at one moment.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// What stands in `settled`, and nothing else: every position there was stored, put aside or
    /// given up.
    pub ranges: Edges,
    /// The same with what lies before the first of them, below the low edge of its spool: nothing
    /// down there will ever come. What is missing between them is no edge: it was lost here, or a
    /// gap that is still held back.
    pub edges: Edges,
}

/// Reads everything.
/// # Errors
/// [`StoreError`].
pub async fn settled(database: &Database) -> Result<Settled, StoreError> {
    let doing = "reading what is settled";
    let mut connection = database
        .pool()
        .acquire()
        .await
        .map_err(|source| StoreError::new(doing, source))?;
    // One statement, one snapshot.
    let rows: Vec<(String, i64, i64, i64, bool)> = sqlx::query_as(
        "SELECT gateway, spool_id, lower(r), upper(r) - 1, true FROM ( \
             SELECT gateway, spool_id, unnest(range_agg(int8range(first_seq, last_seq, '[]'))) AS r \
             FROM settled GROUP BY gateway, spool_id) AS s \
         UNION ALL \
         SELECT gateway, spool_id, 1, least(low, first_seq) - 1, false FROM spools \
             LEFT JOIN (SELECT spool_id, min(first_seq) AS first_seq FROM settled GROUP BY spool_id) \
                 AS f USING (spool_id) \
             WHERE least(low, first_seq) > 1",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|source| StoreError::new(doing, source))?;
    let mut settled = Settled::default();
    for (gateway, spool, first, last, is_range) in rows {
        let gateway: Result<GatewayId, _> = gateway.parse();
        let spool = u64::try_from(spool).ok().map(SpoolId::from_u64);
        let range = (u64::try_from(first), u64::try_from(last));
        if let (Ok(gateway), Some(Ok(spool)), (Ok(first), Ok(last))) = (gateway, spool, range) {
            if is_range {
                put(&mut settled.ranges, gateway.clone(), spool, first, last);
            }
            put(&mut settled.edges, gateway, spool, first, last);
        }
    }
    Ok(settled)
}

fn put(edges: &mut Edges, gateway: GatewayId, spool: SpoolId, first: u64, last: u64) {
    let spools = edges.entry(gateway).or_default();
    spools.entry(spool).or_default().insert(first, last);
}
