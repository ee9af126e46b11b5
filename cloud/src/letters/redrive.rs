//! Dead letters read again, and written as what they are.
//!
//! Invariant: rows and the end of the letter are one transaction; a letter that fails stays as it was.

use sqlx::Acquire as _;
use sqlx::postgres::PgConnection;

use super::today;
use crate::config::SensorConfig;
use crate::metrics::now_ms;
use crate::sensors::letter as sensor;
use crate::store::again::{self, Again};
use crate::store::errors::{Next, StoreError};
use crate::store::letters::{self, End};
use crate::store::readings;

/// What became of one dead letter.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its records are rows now.
    Done(Again),
    /// It is no frame of a tracker.
    Skipped(String),
    /// It stays.
    Still(String),
    /// Somebody else was here before.
    Gone,
}

/// Times a deadlock and the like are tried again.
const TRIES: u32 = 5;

/// What to do with all of them.
pub(crate) struct How<'a> {
    pub(crate) keep_frames: bool,
    /// Everything is taken back at the end.
    pub(crate) dry_run: bool,
    /// What streams of sensors mean.
    pub(crate) sensors: &'a SensorConfig,
}

/// Reads one again and writes it.
pub(crate) async fn one(
    on: &mut PgConnection,
    id: i64,
    how: &How<'_>,
) -> Result<Outcome, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(on, id, how).await {
            Err(error) if error.next() == Next::Split => {
                return Ok(Outcome::Still(chained(&error)));
            }
            Err(error) if error.next() == Next::RetryNow && tries < TRIES => {}
            done => return done,
        }
    }
}

fn chained(error: &StoreError) -> String {
    crate::stream::consumer::chained(error)
}

async fn attempt(on: &mut PgConnection, id: i64, how: &How<'_>) -> Result<Outcome, StoreError> {
    let failed = |source| StoreError::new("redriving a dead letter", source);
    let mut on = on.begin().await.map_err(failed)?;
    let Some(letter) = letters::find(&mut on, id, true).await? else {
        return Ok(Outcome::Gone);
    };
    let again = if letter.error_class == sensor::ERROR_CLASS {
        let read = sensor::again(&letter.entry_id, &letter.bytes, how.sensors, now_ms());
        let item = match read {
            Ok(item) => item,
            Err(still) => return Ok(Outcome::Still(still)),
        };
        let is_new = u64::from(readings::again(&mut on, &item).await?);
        // It is no AVL record: the ledger never counted it.
        letters::end(&mut on, &letter, End::Read(Again::default())).await?;
        Again {
            records: 1,
            stored: is_new,
            known: 1 - is_new,
            ..Again::default()
        }
    } else {
        let units = match today::read(&letter) {
            Ok(units) => units,
            Err(still) if still.not_for_us => return Ok(Outcome::Skipped(still.reason)),
            Err(still) => return Ok(Outcome::Still(still.reason)),
        };
        // A record alone is no frame as it was received.
        let keep_frames = how.keep_frames && letter.record_index.is_none();
        let again = again::rows(&mut on, &units, keep_frames).await?;
        letters::end(&mut on, &letter, End::Read(again)).await?;
        again
    };
    let ended = match how.dry_run {
        true => on.rollback().await,
        false => on.commit().await,
    };
    ended.map_err(failed)?;
    Ok(Outcome::Done(again))
}
