//! Writes rows again with patience: who was in the way is waited for, and what the database refuses
//! as data is found and told, while its neighbours are written.
//!
//! Invariant: what is returned as refused has left no row, everything else is committed.

use sqlx::postgres::PgConnection;

use crate::backoff::Backoff;
use crate::batch::Unit;
use crate::store::again::{self, Again};
use crate::store::errors::{Next, StoreError};
use crate::stream::consumer::chained;

/// Tries before a server that keeps saying no is believed.
const TRIES: u32 = 6;

/// How rows are to be written.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Also raw frames.
    pub keep_frames: bool,
    /// Take everything back at the end.
    pub dry_run: bool,
}

/// Writes units. Those that the database refuses come back by number, with its reason.
/// # Errors
/// [`StoreError`]: this and all later ones are not written; doing it again is right.
pub async fn write(
    on: &mut PgConnection,
    units: &[Unit],
    manner: Manner,
) -> Result<(Again, Vec<(usize, String)>), StoreError> {
    let (mut total, mut refused) = (Again::default(), Vec::new());
    let mut todo = vec![(0, units.len())];
    while let Some((from, to)) = todo.pop() {
        match patiently(on, &units[from..to], manner).await {
            Ok(again) => total += again,
            Err(error) if error.next() == Next::Split => match to - from {
                0 | 1 => refused.push((from, chained(&error))),
                many => {
                    let middle = from + many / 2;
                    todo.push((middle, to));
                    todo.push((from, middle));
                }
            },
            Err(error) => return Err(error),
        }
    }
    Ok((total, refused))
}

async fn patiently(
    on: &mut PgConnection,
    units: &[Unit],
    manner: Manner,
) -> Result<Again, StoreError> {
    let mut backoff = Backoff::default();
    let mut tries = 0;
    loop {
        tries += 1;
        match again::transaction(on, units, manner.keep_frames, manner.dry_run).await {
            Err(error @ StoreError::Refused { .. }) if tries < TRIES => match error.next() {
                Next::RetryNow => {}
                Next::Retry => tokio::time::sleep(backoff.pause()).await,
                Next::Split | Next::Schema => return Err(error),
            },
            done => return done,
        }
    }
}
