//! What the tables say is settled: the truth behind every floor.
//!
//! Why not all of it each time: there is a row for each spool and hour, for ever, and one for each
//! spool and batch of the last two hours. Why rows are read again for a while: their numbers are
//! given out before COMMIT, so a lower one may appear after a higher one.
//!
//! Invariant: what is left out is in what was read before, or comes with the next whole reading.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use contract::{GatewayId, SettledRanges, SpoolId};
use tokio::sync::Mutex;

use super::database::Database;
use super::errors::StoreError;

/// Settled ranges by gateway and spool.
pub type Edges = HashMap<GatewayId, HashMap<SpoolId, SettledRanges>>;

/// Everything is read again after this.
const WHOLE_EVERY: Duration = Duration::from_secs(3_600);

/// Longer than a transaction takes: rows with a number below one that was seen so long ago are there
/// or will never be.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// Reads what is settled again and again: first all of it, then what is new.
#[derive(Debug)]
pub struct EdgeReader {
    database: Database,
    seen: Mutex<Seen>,
}

/// The readings before.
#[derive(Debug, Default)]
struct Seen {
    whole_at: Option<Instant>,
    /// The highest row of each, oldest first; of those older than [`SETTLES_WITHIN`] the youngest.
    rows: VecDeque<(Instant, i64)>,
}

impl Seen {
    /// Rows up to this one need no second reading.
    fn settled(&mut self, now: Instant) -> i64 {
        let is_old = |at: Instant| now.duration_since(at) >= SETTLES_WITHIN;
        while self.rows.get(1).is_some_and(|row| is_old(row.0)) {
            self.rows.pop_front();
        }
        let is_due = |at: Instant| now.duration_since(at) >= WHOLE_EVERY;
        match (self.whole_at, self.rows.front()) {
            (Some(whole_at), Some((at, row))) if is_old(*at) && !is_due(whole_at) => *row,
            _ => 0,
        }
    }

    fn note(&mut self, at: Instant, row: i64, is_whole: bool) {
        self.rows.push_back((at, row));
        if is_whole {
            self.whole_at = Some(at);
        }
    }
}

impl EdgeReader {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            seen: Mutex::default(),
        }
    }

    /// Everything at first and once an hour, otherwise at least what settled since the last time;
    /// always with the low edge of every spool.
    /// # Errors
    /// [`StoreError`]: the next reading covers what this one did not.
    pub async fn read(&self) -> Result<Edges, StoreError> {
        let mut seen = self.seen.lock().await;
        let now = Instant::now();
        let after = seen.settled(now);
        // Asked first: what comes in between is read now and once more next time.
        let row: Option<i64> = sqlx::query_scalar("SELECT max(id) FROM settled")
            .fetch_one(self.database.pool())
            .await
            .map_err(|source| StoreError::new(DOING, source))?;
        let edges = edges_after(&self.database, after).await?;
        seen.note(now, row.unwrap_or(0), after == 0);
        Ok(edges)
    }
}

const DOING: &str = "reading what is settled";

/// Reads them all, with everything below the low edge of each spool counted as settled: nothing
/// down there will ever come.
/// # Errors
/// [`StoreError`].
pub async fn edges(database: &Database) -> Result<Edges, StoreError> {
    edges_after(database, 0).await
}

/// The same from the rows behind this one.
async fn edges_after(database: &Database, after: i64) -> Result<Edges, StoreError> {
    // One statement, one snapshot.
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT gateway, spool_id, lower(r), upper(r) - 1 FROM ( \
             SELECT gateway, spool_id, unnest(range_agg(int8range(first_seq, last_seq, '[]'))) AS r \
             FROM settled WHERE id > $1 GROUP BY gateway, spool_id) AS s \
         UNION ALL \
         SELECT gateway, spool_id, 1, low - 1 FROM spools WHERE low > 1",
    )
    .bind(after)
    .fetch_all(database.pool())
    .await
    .map_err(|source| StoreError::new(DOING, source))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_again_until_no_lower_one_can_come() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        let mut read = |seconds, row| {
            let after = seen.settled(at(seconds));
            seen.note(at(seconds), row, after == 0);
            after
        };
        assert_eq!(read(0, 100), 0, "everything");
        assert_eq!(read(30, 140), 0, "none is old enough");
        assert_eq!(read(60, 180), 100);
        assert_eq!(read(90, 200), 140);
        // After a while without a reading the youngest that is old enough counts.
        assert_eq!(read(400, 230), 200);
        assert_eq!(read(430, 240), 200);
        assert_eq!(read(3_630, 300), 0, "everything once an hour");
        assert_eq!(read(3_660, 310), 240);
        assert_eq!(read(3_690, 320), 300);
    }

    #[test]
    fn few_readings_are_remembered() {
        let start = Instant::now();
        let mut seen = Seen::default();
        for n in 0..1_000 {
            let at = start + Duration::from_secs(n * 30);
            seen.settled(at);
            seen.note(at, 1, false);
        }
        assert!(seen.rows.len() < 5);
    }
}
