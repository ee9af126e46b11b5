//! What the tables say is settled: the truth behind every floor.

use std::collections::HashMap;

use contract::{GatewayId, SettledRanges, SpoolId};

use super::database::Database;
use super::errors::StoreError;

/// Settled ranges by gateway and spool.
pub type Edges = HashMap<GatewayId, HashMap<SpoolId, SettledRanges>>;

/// Reads them all, with everything below the low edge of each spool counted as settled: nothing
/// down there will ever come.
/// # Errors
/// [`StoreError`].
pub async fn edges(database: &Database) -> Result<Edges, StoreError> {
    let doing = "reading what is settled";
    let mut connection = database
        .pool()
        .acquire()
        .await
        .map_err(|source| StoreError::new(doing, source))?;
    // One statement, one snapshot.
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT gateway, spool_id, lower(r), upper(r) - 1 FROM ( \
             SELECT gateway, spool_id, unnest(range_agg(int8range(first_seq, last_seq, '[]'))) AS r \
             FROM settled GROUP BY gateway, spool_id) AS s \
         UNION ALL \
         SELECT gateway, spool_id, 1, low - 1 FROM spools WHERE low > 1",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|source| StoreError::new(doing, source))?;
    let mut edges = Edges::new();
    for (gateway, spool, first, last) in rows {
        let spool = u64::try_from(spool).ok().map(SpoolId::from_u64);
        let range = (u64::try_from(first), u64::try_from(last));
        if let (Ok(gateway), Some(Ok(spool)), (Ok(first), Ok(last))) =
            (gateway.parse(), spool, range)
        {
            let spools: &mut HashMap<SpoolId, SettledRanges> = edges.entry(gateway).or_default();
            spools.entry(spool).or_default().insert(first, last);
        }
    }
    Ok(edges)
}
