//! Readings of sensors into their table, and what cannot be a row aside.
//!
//! Why straight in first: measured for positions at one and a half times the speed of an INSERT that
//! looks for known keys. A reading that is there already fails a COPY; then, and for some batches
//! after, the database leaves known rows out one by one.
//!
//! Invariants: rows and dead letters of a part are one transaction; a [`ReadingsCommitted`] names an
//! entry only when it is a row or a dead letter; one entry that the database refuses as data costs no
//! other its place.

use std::borrow::Cow;

use sqlx::Acquire as _;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::copy::{self, Copy, Json};
use super::database::Database;
use super::devices::Devices;
use super::envelopes;
use super::errors::{Next, StoreError};
use super::plan::Job;
use super::writer::{TRANSACTION_TIMEOUT, stuck, told};
use crate::batch::{DeadLetter, EntryId, Unit};
use crate::fail_point::fail_point;
use crate::sensors::letter;
use crate::sensors::reading::{Item, Reading};

/// So many parts after one that met known rows leave them out from the beginning.
const WARY_PARTS: u32 = 16;

/// Columns of a row, in this order.
macro_rules! columns {
    () => {
        "\"timestamp\", device_id, sensor_type, value, metadata, entry_id"
    };
}
const COLUMNS: i16 = 6;

/// The receipt of COMMITs: these entries are rows or dead letters.
#[derive(Debug)]
pub struct ReadingsCommitted {
    entries: Vec<EntryId>,
    stored: u64,
    duplicate: u64,
    letters: Vec<DeadLetter>,
}

impl ReadingsCommitted {
    /// Stream items that may be acknowledged.
    #[must_use]
    pub fn entries(&self) -> &[EntryId] {
        &self.entries
    }

    /// New rows.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Readings that were there before.
    #[must_use]
    pub fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// What was put aside.
    #[must_use]
    pub fn letters(&self) -> &[DeadLetter] {
        &self.letters
    }
}

/// One row to be.
type Row<'a> = (&'a Item, &'a Reading);

/// Writes batches of readings, one after the other.
#[derive(Debug)]
pub struct ReadingsWriter {
    database: Database,
    wary: u32,
}

impl ReadingsWriter {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, wary: 0 }
    }

    /// Puts a batch into the database, in `parts` transactions or more.
    ///
    /// # Errors
    /// [`StoreError`], whose [`next`](StoreError::next) says what to do. Writing the same batch
    /// again is always right.
    pub async fn write(
        &mut self,
        items: &[Item],
        parts: usize,
    ) -> Result<ReadingsCommitted, StoreError> {
        let mut committed = ReadingsCommitted {
            entries: items.iter().map(|item| item.entry.clone()).collect(),
            stored: 0,
            duplicate: 0,
            letters: Vec::new(),
        };
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut aside = Vec::new();
        for item in items {
            match &item.read {
                Ok(reading) => rows.push((item, reading)),
                Err(unread) => aside.push(letter::letter(item, unread.to_string(), None)),
            }
        }
        // In one order everywhere: two writers that insert the same keys in two orders deadlock.
        rows.sort_by(|a, b| key(a).cmp(&key(b)));
        let rows_max = rows.len().div_ceil(parts.max(1)).max(1);
        let mut todo: Vec<&[Row<'_>]> = rows.chunks(rows_max).rev().collect();
        if todo.is_empty() {
            todo.push(&[]);
        }
        while let Some(some) = todo.pop() {
            let refusal = match self.attempt(some, &aside).await {
                Ok(stored) => {
                    committed.stored += stored;
                    committed.duplicate += some.len() as u64 - stored;
                    committed.letters.append(&mut aside);
                    continue;
                }
                Err(refusal) if refusal.next() == Next::Split => refusal,
                Err(error) => return Err(error),
            };
            match some {
                // Only bytes and plain text are left in it.
                [] => return Err(stuck(refusal)),
                [(item, _)] => {
                    let sqlstate = refusal.sqlstate().map(str::to_owned);
                    aside.push(letter::letter(item, told(&refusal), sqlstate));
                    fail_point!("readings-put-aside");
                    todo.push(&[]);
                }
                some => {
                    let (left, right) = some.split_at(some.len() / 2);
                    todo.extend([right, left]);
                }
            }
        }
        Ok(committed)
    }

    /// One transaction. Returns how many rows are new.
    async fn attempt(
        &mut self,
        rows: &[Row<'_>],
        letters: &[DeadLetter],
    ) -> Result<u64, StoreError> {
        let mut connection = self.database.acquire().await?;
        let done = timeout(
            TRANSACTION_TIMEOUT,
            either_way(&mut connection, rows, letters, self.wary > 0),
        );
        match done.await {
            Ok(Ok((stored, met_known))) => {
                self.wary = match met_known {
                    true => WARY_PARTS,
                    false => self.wary.saturating_sub(1),
                };
                Ok(stored)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                connection.close_on_drop();
                let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(StoreError::new("writing readings", sqlx::Error::Io(silent)))
            }
        }
    }
}

fn key<'a>((item, reading): &Row<'a>) -> (&'a str, &'a str, super::values::Time, &'a EntryId) {
    let sensor = &reading.sensor;
    (
        &sensor.device_id,
        &sensor.sensor_type,
        reading.time,
        &item.entry,
    )
}

/// Also says whether any row was there before.
async fn either_way(
    on: &mut PgConnection,
    rows: &[Row<'_>],
    letters: &[DeadLetter],
    is_wary: bool,
) -> Result<(u64, bool), StoreError> {
    if !is_wary {
        match transaction(on, rows, letters, true).await {
            Err(error) if error.is_known_row() => {}
            written => return written.map(|stored| (stored, false)),
        }
    }
    let stored = transaction(on, rows, letters, false).await?;
    Ok((stored, stored < rows.len() as u64))
}

async fn transaction(
    on: &mut PgConnection,
    rows: &[Row<'_>],
    letters: &[DeadLetter],
    straight: bool,
) -> Result<u64, StoreError> {
    fail_point!("readings-before-begin");
    let begun = on.begin().await;
    let mut on = begun.map_err(|source| StoreError::new("opening a transaction", source))?;
    let stored = match (rows, straight) {
        ([], _) => 0,
        (rows, true) => copied(&mut on, rows).await?,
        (rows, false) => inserted(&mut on, rows).await?,
    };
    fail_point!("readings-rows-copied");
    if !letters.is_empty() {
        let job = Job {
            unit: Cow::Owned(unit(letters)),
            settles: Vec::new(),
        };
        envelopes::dead_letters(&mut on, &[job], &Devices::new()).await?;
    }
    fail_point!("readings-before-commit");
    let ended = on.commit().await;
    ended.map_err(|source| StoreError::new("committing", source))?;
    fail_point!("readings-after-commit");
    Ok(stored)
}

/// Dead letters that are of no spool.
fn unit(letters: &[DeadLetter]) -> Unit {
    Unit {
        place: None,
        received: 0,
        dead: 0,
        dropped: 0,
        frame: None,
        records: Vec::new(),
        messages: Vec::new(),
        dead_letters: letters.to_vec(),
    }
}

/// Puts one item into the table, in the caller's transaction. Returns whether it is new.
/// # Errors
/// [`StoreError`]: roll back.
pub async fn again(on: &mut PgConnection, item: &Item) -> Result<bool, StoreError> {
    let rows: Vec<Row<'_>> = item.read.iter().map(|reading| (item, reading)).collect();
    Ok(inserted(on, &rows).await? > 0)
}

async fn copied(on: &mut PgConnection, rows: &[Row<'_>]) -> Result<u64, StoreError> {
    let statement = concat!(
        "COPY sensor_readings (",
        columns!(),
        ") FROM STDIN (FORMAT binary)"
    );
    let mut into = Copy::begin(on, copy::INTO_READINGS, statement, COLUMNS).await?;
    for (item, reading) in rows {
        into.row(|mut fields| {
            fields
                .put(reading.time)
                .put(reading.sensor.device_id.as_str())
                .put(reading.sensor.sensor_type.as_str())
                .put(reading.value)
                .put(reading.metadata.as_deref().map(Json))
                .put(item.entry.to_string().as_str());
        })
        .await?;
    }
    into.end().await?;
    Ok(rows.len() as u64)
}

async fn inserted(on: &mut PgConnection, rows: &[Row<'_>]) -> Result<u64, StoreError> {
    let inserted = sqlx::query(concat!(
        "INSERT INTO sensor_readings (",
        columns!(),
        ") SELECT r.at, r.device, r.kind, r.value, r.metadata::jsonb, r.entry \
         FROM UNNEST($1::timestamptz[], $2::text[], $3::text[], $4::float8[], $5::text[], $6::text[]) \
             AS r (at, device, kind, value, metadata, entry) \
         ON CONFLICT DO NOTHING"
    ))
    .bind(rows.iter().map(|(_, r)| r.time).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, r)| r.sensor.device_id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, r)| r.sensor.sensor_type.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, r)| r.value).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, r)| r.metadata.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(item, _)| item.entry.to_string()).collect::<Vec<_>>())
    .execute(on)
    .await
    .map_err(|source| StoreError::new("inserting readings", source))?;
    Ok(inserted.rows_affected())
}
