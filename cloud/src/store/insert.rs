//! The statements of one batch, in the order that keeps locks short.
//!
//! Why arrays: one statement per table and batch costs a third of one statement per row. Why
//! sorted: two writers that insert the same keys in opposite order deadlock (measured: 46 times in
//! 60; in the same order never).
//!
//! Invariant: nothing here, or in the files it calls, begins or ends a transaction.

use chrono::{DateTime, Utc};
use contract::SpoolId;
use sqlx::postgres::PgConnection;

use super::devices::{self, Devices};
use super::envelopes;
use super::errors::StoreError;
use super::plan::{Job, Tally};
use super::records;
use crate::batch::Unit;
use crate::normalise::quality::LATEST_MS;

pub(super) type Time = DateTime<Utc>;

/// A moment of a gateway's clock; beyond the year 9999 it is nonsense and cut there.
pub(super) fn time(ms: u64) -> Time {
    let ms = i64::try_from(ms.min(LATEST_MS)).expect("the year 9999 fits 63 bits");
    DateTime::from_timestamp_millis(ms).expect("the year 9999 has a date")
}

pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn spool_number(spool: SpoolId) -> i64 {
    number(spool.as_u64())
}

/// Writes the rows of all jobs. Returns what became of each job's records.
pub(super) async fn rows(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
    keep_frames: bool,
) -> Result<Vec<Tally>, StoreError> {
    let mut tallies: Vec<Tally> = jobs.iter().map(|job| beginning(&job.unit)).collect();
    let (mut good, mut odd) = records::sorted(jobs, devices);
    records::forget_quarantined(on, &mut good).await?;
    records::forget_stored(on, &mut odd).await?;
    for key in records::positions(on, &good).await? {
        tallies[good[&key].job].stored += 1;
    }
    for key in records::quarantine(on, &odd).await? {
        tallies[odd[&key].job].quarantined += 1;
    }
    for (job, tally) in jobs.iter().zip(&mut tallies) {
        tally.duplicate = job.unit.records.len() as u64 - tally.stored - tally.quarantined;
    }
    if keep_frames {
        envelopes::frames(on, jobs, devices).await?;
    }
    envelopes::messages(on, jobs, devices).await?;
    envelopes::dead_letters(on, jobs, devices).await?;
    // Rows that other writers may want too come last, so that they wait for little.
    records::latest(on, &good).await?;
    devices::seen(on, jobs, devices).await?;
    Ok(tallies)
}

fn beginning(unit: &Unit) -> Tally {
    Tally {
        received: unit.received,
        dead: unit.dead,
        dropped: unit.dropped,
        ..Tally::default()
    }
}
