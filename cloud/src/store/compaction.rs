//! Makes few rows of `settled` out of many, once they are history.
//!
//! Why: every batch leaves a row for each spool in it, and every floor is computed from all of them.
//!
//! Invariants: what is settled, and every sum of the ledger by gateway, spool and hour, is the same
//! before and after; rows of this hour and the one before are left to the writers; one process at a
//! time (an advisory lock). A writer that wants a position in the very rows being merged waits for
//! the COMMIT and then meets the merged row, as it would have met the old one.

use sqlx::Connection as _;

use super::database::Database;
use super::errors::StoreError;

/// Neighbouring ranges of one gateway, spool and hour become one. The old rows are gone before the
/// new ones are checked against them: the sums have to wait for all of DELETE.
const MERGE: &str = "
    WITH neighbours AS (
        SELECT id, gateway, spool_id, date_trunc('hour', settled_at) AS hour, first_seq, last_seq,
               lag(last_seq) OVER spool AS before, lead(first_seq) OVER spool AS after
        FROM settled WHERE settled_at < date_trunc('hour', now()) - interval '1 hour'
        WINDOW spool AS (PARTITION BY gateway, spool_id, date_trunc('hour', settled_at) ORDER BY first_seq)),
    gone AS (
        DELETE FROM settled USING neighbours n
        WHERE settled.id = n.id AND (n.first_seq = n.before + 1 OR n.last_seq + 1 = n.after)
        RETURNING settled.*, n.hour, n.first_seq IS DISTINCT FROM n.before + 1 AS begins),
    runs AS (
        SELECT *, count(*) FILTER (WHERE begins)
                      OVER (PARTITION BY gateway, spool_id, hour ORDER BY first_seq) AS run
        FROM gone)
    INSERT INTO settled (gateway, spool_id, first_seq, last_seq, settled_at, received, stored,
                         quarantined, duplicate, dead, dropped)
    SELECT gateway, spool_id, min(first_seq), max(last_seq), max(settled_at), sum(received), sum(stored),
           sum(quarantined), sum(duplicate), sum(dead), sum(dropped)
    FROM runs GROUP BY gateway, spool_id, hour, run";

/// Merges what can be merged. Returns the rows it made; 0 also while another process is at it.
/// # Errors
/// [`StoreError`]: nothing was changed.
pub async fn compact(database: &Database) -> Result<u64, StoreError> {
    let refused = |source| StoreError::new("merging what is settled", source);
    let mut on = database.pool().acquire().await.map_err(refused)?;
    let mut on = on.begin().await.map_err(refused)?;
    let ours: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('milepost.compaction'))")
            .fetch_one(&mut *on)
            .await
            .map_err(refused)?;
    if !ours {
        return Ok(0);
    }
    let merged = sqlx::query(MERGE).execute(&mut *on).await;
    let merged = merged.map_err(refused)?.rows_affected();
    on.commit().await.map_err(refused)?;
    Ok(merged)
}
