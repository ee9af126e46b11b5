//! The comparison itself: two sorted lists of keys per device, walked side by side.

use anyhow::Result;

use super::read::{Row, Snapshot};
use super::{LOST_NAMED_MAX, Ledger, Lost};
use crate::fleet::{Record, Truth};

/// Records of the truth that are fetched from the database at once.
const RECORDS_PER_READ: usize = 100_000;

/// Compares everything in `truth` with the database at `url`.
///
/// Phantoms are rows of devices this truth does not know, too: give it the whole truth of a
/// database.
///
/// # Errors
/// When the database cannot be reached or lacks a table.
pub async fn compare(truth: &Truth, url: &str) -> Result<Ledger> {
    let mut snapshot = Snapshot::open(url).await?;
    let ids = snapshot.devices().await?;
    let mut ledger = Ledger::default();
    let mut known = Vec::new();
    let mut batch = Vec::new();
    let mut batch_records = 0;
    for imei in truth.devices() {
        let records = truth.records(imei);
        let id = ids.get(&imei).copied();
        known.extend(id);
        batch_records += records.len();
        batch.push((imei, id, records));
        if batch_records >= RECORDS_PER_READ {
            settle(&mut ledger, &mut snapshot, std::mem::take(&mut batch)).await?;
            batch_records = 0;
        }
    }
    settle(&mut ledger, &mut snapshot, batch).await?;
    let (rows, strangers, dead) = snapshot.totals(&known).await?;
    ledger.rows = rows;
    ledger.phantoms += strangers;
    ledger.dead = dead;
    Ok(ledger)
}

type Batch = Vec<(u64, Option<i32>, Vec<Record>)>;

async fn settle(ledger: &mut Ledger, snapshot: &mut Snapshot, batch: Batch) -> Result<()> {
    let ids: Vec<i32> = batch.iter().filter_map(|(_, id, _)| *id).collect();
    let mut rows = snapshot.rows(&ids).await?;
    for (imei, id, records) in batch {
        let rows = id.and_then(|id| rows.remove(&id)).unwrap_or_default();
        let mut missing = settle_device(ledger, &records, rows);
        if let Some(id) = id
            && !missing.is_empty()
        {
            let dead = snapshot.dead_keys(id).await?;
            let before = missing.len();
            missing.retain(|record| !dead.contains(&record.key));
            ledger.acked_dead += (before - missing.len()) as u64;
        }
        ledger.lost_count += missing.len() as u64;
        let room = LOST_NAMED_MAX.saturating_sub(ledger.lost.len());
        let named = missing.iter().take(room).map(|record| Lost {
            imei,
            key: record.key,
        });
        ledger.lost.extend(named);
    }
    Ok(())
}

/// Counts one device's records (sorted, each key once); returns the ACKed ones without a row.
fn settle_device(ledger: &mut Ledger, records: &[Record], mut rows: Vec<Row>) -> Vec<Record> {
    rows.sort_unstable();
    let total = rows.len();
    rows.dedup_by_key(|row| row.key);
    ledger.duplicates += (total - rows.len()) as u64;
    let mut rows = rows.into_iter().peekable();
    let mut missing = Vec::new();
    for record in records {
        ledger.sent += 1;
        ledger.acked += u64::from(record.acked);
        while rows.next_if(|row| row.key < record.key).is_some() {
            ledger.phantoms += 1;
        }
        match rows.next_if(|row| row.key == record.key) {
            Some(row) => {
                ledger.stored += u64::from(!row.quarantined);
                ledger.quarantined += u64::from(row.quarantined);
                ledger.stored_unacked += u64::from(!record.acked);
            }
            None if record.acked => missing.push(*record),
            None => {}
        }
    }
    ledger.phantoms += rows.count() as u64;
    missing
}
