//! Rows of frames that a COMMIT settled before, or that never came through a gateway: written again.
//!
//! Why beside the writer: nothing is settled and nothing acknowledged here, so there is no receipt;
//! and rows that are there are looked at, which is too dear for the way in.
//!
//! Invariants: the keys are those of the writer, so doing it twice changes nothing; a record keeps
//! the judgement of its first delivery; [`rows`] leaves the transaction to its caller.

use std::borrow::Cow;
use std::ops::AddAssign;

use sqlx::Acquire as _;
use sqlx::postgres::PgConnection;

use super::devices::{self, Devices};
use super::envelopes;
use super::errors::StoreError;
use super::known;
use super::plan::Job;
use super::records;
use crate::batch::Unit;

/// What became of the records of some frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// AVL records in the frames.
    pub records: u64,
    /// Rows put into `positions` that were not there.
    pub stored: u64,
    /// Rows put into `positions_quarantine` that were not there.
    pub quarantined: u64,
    /// Rows of `positions` that said something else and were corrected.
    pub corrected: u64,
    /// Records that were there, or came twice.
    pub known: u64,
    /// Messages put into `messages` that were not there.
    pub messages: u64,
}

impl AddAssign for Again {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.stored += other.stored;
        self.quarantined += other.quarantined;
        self.corrected += other.corrected;
        self.known += other.known;
        self.messages += other.messages;
    }
}

/// Writes what is missing and corrects what is wrong. Units without a frame are left out.
///
/// `keep_frames`: also put raw frames back.
///
/// # Errors
/// [`StoreError`]: roll back.
pub async fn rows(
    on: &mut PgConnection,
    units: &[Unit],
    keep_frames: bool,
) -> Result<Again, StoreError> {
    let jobs: Vec<Job<'_>> = units
        .iter()
        .filter(|unit| unit.frame.is_some() && unit.place.is_some())
        .map(|unit| Job {
            unit: Cow::Borrowed(unit),
            settles: Vec::new(),
        })
        .collect();
    let devices = devices::devices(on, &jobs, &Devices::new()).await?;
    let mut again = Again {
        records: jobs.iter().map(|job| job.unit.records.len() as u64).sum(),
        ..Again::default()
    };
    let (mut good, mut odd) = records::sorted(&jobs, &devices);
    known::forget_quarantined(on, &mut good).await?;
    known::forget_stored(on, &mut odd).await?;
    again.stored = records::positions(on, &good).await?.len() as u64;
    again.quarantined = records::quarantine(on, &odd).await?.len() as u64;
    if keep_frames {
        envelopes::frames(on, &jobs, &devices).await?;
    }
    again.messages = envelopes::messages(on, &jobs, &devices).await?;
    records::latest(on, &good).await?;
    if (good.len() as u64) > again.stored {
        records::differing(on, &mut good).await?;
        records::correct(on, &good).await?;
        again.corrected = good.len() as u64;
    }
    devices::seen(on, &jobs, &devices).await?;
    again.known = again.records - again.stored - again.quarantined - again.corrected;
    Ok(again)
}

/// [`rows`] in a transaction of its own; `dry_run`: which is taken back.
/// # Errors
/// [`StoreError`]: nothing was changed.
pub async fn transaction(
    on: &mut PgConnection,
    units: &[Unit],
    keep_frames: bool,
    dry_run: bool,
) -> Result<Again, StoreError> {
    let failed = |source| StoreError::new("writing rows again", source);
    let mut on = on.begin().await.map_err(failed)?;
    let again = rows(&mut on, units, keep_frames).await?;
    let ended = match dry_run {
        true => on.rollback().await,
        false => on.commit().await,
    };
    ended.map_err(failed)?;
    Ok(again)
}
