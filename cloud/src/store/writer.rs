//! From a batch to a receipt: one transaction, or several when the database refuses one record.
//!
//! Why [`Committed`] cannot be made elsewhere: an acknowledgement or a floor that runs ahead of
//! COMMIT lets the gateway forget what nobody has. Its fields are private to this file:
//!
//! ```compile_fail
//! fn forge(receipt: cloud::store::Committed) -> cloud::store::Committed {
//!     cloud::store::Committed { entries: Vec::new(), ..receipt }
//! }
//! ```
//!
//! Invariant: a [`Committed`] names a stream item only when everything in it is in the database.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use contract::{GatewayId, Kind, SettledRanges, SpoolId};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Acquire, Postgres};
use tokio::time::timeout;

use super::database::Database;
use super::devices::{self, Devices};
use super::errors::{Next, StoreError};
use super::insert::{self, Way};
pub use super::plan::Tally;
use super::plan::{self, Run};
use super::settle;
use crate::batch::{Batch, DeadLetter, EntryId, Lows, Place, Split, Unit};
use crate::fail_point::fail_point;

/// A transaction that takes longer has lost its server: far above the slowest batch measured, and
/// without it a dead connection would hang until the kernel gives up after a quarter of an hour.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection that brought a batch in is as good for the next one, for so long: whatever happens to
/// a server while nothing is written, the pool asks before it lends the connection again.
const TRUSTED: Duration = Duration::from_secs(2);

/// And no longer than this without a break, so that the pool can renew it.
const HELD_MAX: Duration = Duration::from_secs(300);

/// So many batches after one that met known rows look first: records that come again come in rows (a
/// tracker, or a whole spool, that sends twice), and to look costs far less than to fail.
const WARY_BATCHES: u32 = 16;

/// The receipt of a COMMIT.
#[derive(Debug)]
pub struct Committed {
    entries: Vec<EntryId>,
    settled: HashMap<SpoolId, (GatewayId, SettledRanges)>,
    tally: Tally,
    messages: u64,
    dead_letters: u64,
    letters: Vec<(Option<Place>, DeadLetter)>,
}

impl Committed {
    /// Stream items that may be acknowledged.
    #[must_use]
    pub fn entries(&self) -> &[EntryId] {
        &self.entries
    }

    /// What is settled of the spools in the batch.
    #[must_use]
    pub fn settled(&self) -> &HashMap<SpoolId, (GatewayId, SettledRanges)> {
        &self.settled
    }

    /// What became of the AVL records.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Messages of Codec 12 to 15 written.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Dead letters written.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// Each of them, with the place it was put aside for.
    #[must_use]
    pub fn letters(&self) -> &[(Option<Place>, DeadLetter)] {
        &self.letters
    }
}

/// What one transaction did.
#[derive(Default)]
struct Part {
    owners: HashMap<SpoolId, GatewayId>,
    devices: Devices,
    settled: HashMap<SpoolId, SettledRanges>,
    lows: Vec<(SpoolId, GatewayId, u64)>,
    tally: Tally,
    messages: u64,
    dead_letters: u64,
    letters: Vec<(Option<Place>, DeadLetter)>,
    met_known: bool,
}

/// Does a transaction stay?
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    /// Only asking whether the database would take it.
    Rollback,
}

/// Writes batches, one after the other.
#[derive(Debug)]
pub struct Writer {
    database: Database,
    keep_frames: bool,
    // Only what was committed is remembered, and only while the pool makes no connection.
    era: u64,
    devices: Devices,
    owners: HashMap<SpoolId, GatewayId>,
    lows: HashMap<SpoolId, u64>,
    // Batches that look for known rows first.
    wary: u32,
    // Of the last batch, when it went well.
    held: Option<Held>,
    keeps_connection: bool,
}

/// A connection between two batches: a server process that knows the tables, and has their pages at
/// hand, needs a tenth less for a batch than one that was lent another.
#[derive(Debug)]
struct Held {
    connection: PoolConnection<Postgres>,
    since: Instant,
    used: Instant,
}

impl Writer {
    /// `keep_frames`: also write raw envelopes.
    #[must_use]
    pub fn new(database: Database, keep_frames: bool) -> Self {
        Self {
            era: database.era(),
            database,
            keep_frames,
            devices: Devices::new(),
            owners: HashMap::new(),
            lows: HashMap::new(),
            wary: 0,
            held: None,
            keeps_connection: false,
        }
    }

    /// Keeps its connection from one batch to the next. For pools that have more connections than
    /// there are writers: others wait for one, too.
    #[must_use]
    pub fn keeping_connection(self, keeps_connection: bool) -> Self {
        Self {
            keeps_connection,
            ..self
        }
    }

    /// Puts a batch into the database, in `parts` transactions: what is too much for one (a lock
    /// table that is full, a statement that takes too long) may fit into several.
    ///
    /// # Errors
    /// [`StoreError`], whose [`next`](StoreError::next) says what to do. Writing the same batch
    /// again is always right: what was committed before the error is skipped then.
    pub async fn write(&mut self, batch: &Batch, parts: usize) -> Result<Committed, StoreError> {
        let mut committed = Committed {
            entries: batch.entries.clone(),
            settled: HashMap::new(),
            tally: Tally::default(),
            messages: 0,
            dead_letters: 0,
            letters: Vec::new(),
        };
        let units_max = batch.units.len().div_ceil(parts.max(1)).max(1);
        let mut todo: Vec<Cow<'_, [Unit]>> = match batch.units.is_empty() {
            true => vec![Cow::Borrowed(&[])], // low edges alone
            false => batch.units.chunks(units_max).map(Cow::Borrowed).collect(),
        };
        todo.reverse();
        while let Some(units) = todo.pop() {
            let refusal = match self.attempt(&units, &batch.lows, End::Commit).await {
                Ok(part) => {
                    self.remember(part, &mut committed);
                    continue;
                }
                Err(error) if error.next() == Next::Split => error,
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            };
            match Split::of(units.into_owned()) {
                Split::Halves(left, right) => {
                    todo.push(Cow::Owned(right));
                    todo.push(Cow::Owned(left));
                }
                Split::One(unit) => {
                    let part = self.isolate(&unit, refusal, &batch.lows).await?;
                    self.remember(part, &mut committed);
                }
                Split::Nothing => return Err(stuck(refusal)),
            }
        }
        Ok(committed)
    }

    /// After an error the server may be another one (a standby that lags, a restored copy), and an
    /// id remembered from before may name nothing there.
    fn forget(&mut self) {
        self.devices.clear();
        self.owners.clear();
        self.lows.clear();
    }

    /// Puts aside the records of `unit` that the database refuses; all of it, if it is none of them.
    async fn isolate(
        &mut self,
        unit: &Unit,
        refusal: StoreError,
        lows: &Lows,
    ) -> Result<Part, StoreError> {
        let mut rest = unit.clone();
        rest.records.clear();
        for record in &unit.records {
            let alone = Unit {
                place: None,
                records: vec![record.clone()],
                messages: Vec::new(),
                dead_letters: Vec::new(),
                ..unit.clone()
            };
            match self.attempt(&[alone], lows, End::Rollback).await {
                Ok(_) => rest.records.push(record.clone()),
                Err(error) if error.next() == Next::Split => {
                    rest.dead += 1;
                    rest.dead_letters.push(refused(unit, record, &error));
                }
                Err(error) => return Err(error),
            }
        }
        fail_point!("put-aside");
        match self.attempt(&[rest], lows, End::Commit).await {
            Err(error) if error.next() == Next::Split => {}
            done => return done,
        }
        let sqlstate = refusal.sqlstate().map(str::to_owned);
        let dead = plan::dead(unit, "database", told(&refusal), sqlstate);
        match self.attempt(&[dead], lows, End::Commit).await {
            Err(error) if error.next() == Next::Split => Err(stuck(error)),
            done => done,
        }
    }

    async fn attempt(&mut self, units: &[Unit], lows: &Lows, end: End) -> Result<Part, StoreError> {
        let mut held = self.connection().await?;
        let era = self.database.era();
        if era != self.era {
            self.forget();
            self.era = era;
        }
        let done = timeout(
            TRANSACTION_TIMEOUT,
            self.either_way(&mut held.connection, units, lows, end),
        );
        match done.await {
            Ok(Ok(part)) => {
                held.used = Instant::now();
                self.held = self.keeps_connection.then_some(held);
                Ok(part)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                held.connection.close_on_drop();
                let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(StoreError::new("writing a batch", sqlx::Error::Io(silent)))
            }
        }
    }

    /// The one that brought the last batch in, or one of the pool's.
    async fn connection(&mut self) -> Result<Held, StoreError> {
        let now = Instant::now();
        let fresh = |held: &Held| now - held.used < TRUSTED && now - held.since < HELD_MAX;
        if let Some(held) = self.held.take().filter(fresh) {
            return Ok(held);
        }
        Ok(Held {
            connection: self.database.acquire().await?,
            since: now,
            used: now,
        })
    }

    /// Straight in, unless known rows were met lately; around what is known otherwise. Every other try
    /// is a new transaction: a savepoint before every COPY would be paid for by every batch.
    async fn either_way(
        &self,
        connection: &mut PgConnection,
        units: &[Unit],
        lows: &Lows,
        end: End,
    ) -> Result<Part, StoreError> {
        let ways: &[Way] = match self.wary {
            0 => &[Way::Copy, Way::Around],
            _ => &[Way::Around],
        };
        for way in ways {
            let written = self.transaction(connection, units, lows, end, *way);
            match written.await {
                Err(error) if error.is_known_row() => {}
                written => return written,
            }
        }
        self.transaction(connection, units, lows, end, Way::OnConflict)
            .await
    }

    async fn transaction(
        &self,
        connection: &mut PgConnection,
        units: &[Unit],
        lows: &Lows,
        end: End,
        way: Way,
    ) -> Result<Part, StoreError> {
        fail_point!("before-begin");
        let begun = connection.begin().await;
        let mut on = begun.map_err(|source| StoreError::new("opening a transaction", source))?;
        let owners = settle::owners(&mut on, units, &self.owners).await?;
        let mut settled = settle::settled(&mut on, units).await?;
        let jobs = plan::jobs(units, &owners, &mut settled);
        let devices = devices::devices(&mut on, &jobs, &self.devices).await?;
        let written = insert::rows(&mut on, &jobs, &devices, self.keep_frames, way).await?;
        fail_point!("rows-copied");
        let runs = plan::runs(&jobs, &written.tallies);
        settle::settle(&mut on, &runs).await?;
        fail_point!("settled-written");
        let lows = self.risen(lows);
        settle::lows(&mut on, &lows).await?;
        fail_point!("before-commit");
        let ended = match end {
            End::Commit => on.commit().await,
            End::Rollback => on.rollback().await,
        };
        ended.map_err(|source| StoreError::new("committing", source))?;
        fail_point!("after-commit");
        Ok(Part {
            owners,
            devices,
            settled,
            lows,
            tally: total(&runs),
            messages: jobs.iter().map(|job| job.unit.messages.len() as u64).sum(),
            dead_letters: jobs
                .iter()
                .map(|job| job.unit.dead_letters.len() as u64)
                .sum(),
            letters: jobs
                .iter()
                .flat_map(|job| {
                    let letters = job.unit.dead_letters.iter();
                    letters.map(|letter| (job.unit.place.clone(), letter.clone()))
                })
                .collect(),
            met_known: written.met_known,
        })
    }

    /// Low edges above those that are known to be in the database.
    fn risen(&self, lows: &Lows) -> Vec<(SpoolId, GatewayId, u64)> {
        let mut risen: Vec<_> = lows
            .iter()
            .filter(|((spool, _), low)| self.lows.get(spool).is_none_or(|known| known < *low))
            .map(|((spool, gateway), low)| (*spool, gateway.clone(), *low))
            .collect();
        risen.sort_by_key(|low| low.0);
        risen
    }

    fn remember(&mut self, part: Part, committed: &mut Committed) {
        for (spool, ranges) in part.settled {
            if let Some(owner) = part.owners.get(&spool) {
                let known = committed.settled.entry(spool);
                let known = known.or_insert_with(|| (owner.clone(), SettledRanges::new()));
                known.1.merge(&ranges);
            }
        }
        for (spool, gateway, low) in part.lows {
            // Below the low edge nothing is left to wait for: the floor may pass it.
            if part.owners.get(&spool) == Some(&gateway) {
                let known = committed.settled.entry(spool);
                let known = known.or_insert_with(|| (gateway, SettledRanges::new()));
                known.1.insert(1, low - 1);
                self.lows.insert(spool, low);
            }
        }
        self.wary = match part.met_known {
            true => WARY_BATCHES,
            false => self.wary.saturating_sub(1),
        };
        self.owners.extend(part.owners);
        self.devices.extend(part.devices);
        committed.tally += part.tally;
        committed.messages += part.messages;
        committed.dead_letters += part.dead_letters;
        committed.letters.extend(part.letters);
    }
}

fn total(runs: &[Run]) -> Tally {
    let mut total = Tally::default();
    for run in runs {
        total += run.tally;
    }
    total
}

fn refused(unit: &Unit, record: &crate::batch::Record, error: &StoreError) -> DeadLetter {
    let frame = unit.frame.as_ref();
    let (offset, length) = record.bytes_at;
    let bytes = frame.and_then(|frame| frame.data.get(offset..offset + length));
    DeadLetter {
        kind: frame.map_or(Kind::Teltonika, |frame| frame.kind.clone()),
        record_index: Some(record.index),
        entry: None,
        device: frame.map(|frame| frame.device.clone()),
        received_at_ms: frame.map(|frame| frame.received_at_ms),
        error_class: "database",
        reason: told(error),
        offset: None,
        sqlstate: error.sqlstate().map(str::to_owned),
        records: 1,
        bytes: bytes.unwrap_or_default().to_vec(),
    }
}

/// The error and what PostgreSQL said.
pub(super) fn told(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

pub(super) fn stuck(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused {
            sqlstate, source, ..
        } => StoreError::Stuck { sqlstate, source },
        other => other,
    }
}
