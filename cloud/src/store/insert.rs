//! The statements of one batch, in the order that keeps locks short.
//!
//! Why arrays: one statement per table and batch costs a third of one statement per row. Why
//! sorted: two writers that insert the same keys in opposite order deadlock (measured: 46 times in
//! 60; in the same order never).
//!
//! Invariant: nothing here, or in the files it calls, begins or ends a transaction.

use sqlx::postgres::PgConnection;

use super::devices::{self, Devices};
use super::envelopes;
use super::errors::StoreError;
use super::known;
use super::plan::{Job, Tally};
use super::records;
use crate::batch::Unit;

/// How rows get into the two large tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight in. Measured at one and a half times the speed of the last; a single row that is
    /// there already fails the transaction.
    Copy,
    /// Looks first for what is there already, and copies the rest. Fails only when another writer
    /// puts in the same meanwhile.
    Around,
    /// What is there already is left out by the database, row by row: cannot fail for it.
    OnConflict,
}

/// What became of the records.
pub(super) struct Written {
    /// Of each job.
    pub(super) tallies: Vec<Tally>,
    /// Were any of them in `positions` before?
    pub(super) met_known: bool,
}

/// Writes the rows of all jobs. Returns what became of each job's records.
pub(super) async fn rows(
    on: &mut PgConnection,
    jobs: &[Job<'_>],
    devices: &Devices,
    keep_frames: bool,
    way: Way,
) -> Result<Written, StoreError> {
    let mut tallies: Vec<Tally> = jobs.iter().map(|job| beginning(&job.unit)).collect();
    let (mut good, mut odd) = records::sorted(jobs, devices);
    known::forget_quarantined(on, &mut good).await?;
    known::forget_stored(on, &mut odd).await?;
    let mut met_known = false;
    match way {
        Way::Copy | Way::Around => {
            if way == Way::Around && !good.is_empty() {
                met_known = known::forget_known(on, &mut good).await? > 0;
            }
            records::copy_positions(on, &good).await?;
            for row in good.values() {
                tallies[row.job].stored += 1;
            }
        }
        Way::OnConflict => {
            let new = records::positions(on, &good).await?;
            met_known = new.len() < good.len();
            for row in new.iter().filter_map(|key| good.get(key)) {
                tallies[row.job].stored += 1;
            }
        }
    }
    let new = records::quarantine(on, &odd).await?;
    for row in new.iter().filter_map(|key| odd.get(key)) {
        tallies[row.job].quarantined += 1;
    }
    for (job, tally) in jobs.iter().zip(&mut tallies) {
        tally.duplicate = job.unit.records.len() as u64 - tally.stored - tally.quarantined;
    }
    match way {
        _ if !keep_frames => {}
        Way::Copy | Way::Around => envelopes::copy_frames(on, jobs, devices).await?,
        Way::OnConflict => envelopes::frames(on, jobs, devices).await?,
    }
    envelopes::messages(on, jobs, devices).await?;
    envelopes::dead_letters(on, jobs, devices).await?;
    // Rows that other writers may want too come last, so that they wait for little.
    records::latest(on, &good).await?;
    devices::seen(on, jobs, devices).await?;
    Ok(Written { tallies, met_known })
}

fn beginning(unit: &Unit) -> Tally {
    Tally {
        received: unit.received,
        dead: unit.dead,
        dropped: unit.dropped,
        ..Tally::default()
    }
}
