//! The floor: binary COPY of the same rows, 10,000 a batch, each batch committed, into a logged table
//! with the same columns and nothing else: no key, no index, no default.
//!
//! The rows are taken out of `positions` in the form in which they go in again, so they are the same
//! to the last bit; the floor does not even have to make them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use crate::spent;

/// Rows of one COPY.
const BATCH_ROWS: usize = 10_000;

/// Signature, flags, length of the header extension.
const HEADER_BYTES: usize = 19;

/// Ready to be copied in, again and again.
pub struct Floor {
    batches: Vec<Vec<u8>>,
    rows: u64,
    postmaster: Option<u32>,
}

/// What a turn brought.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Rows a second.
    pub rate: f64,
    /// Processor time of PostgreSQL a row, microseconds; of a server of our own only.
    pub postgres_us: Option<f64>,
}

impl Floor {
    /// Takes up to `rows` rows out of `positions`.
    /// # Errors
    /// When there are none.
    pub async fn of_positions(
        on: &mut PgConnection,
        rows: u64,
        postmaster: Option<u32>,
    ) -> Result<Self> {
        sqlx::query("CREATE TABLE floor (LIKE positions)")
            .execute(&mut *on)
            .await?;
        let select =
            format!("COPY (SELECT * FROM positions LIMIT {rows}) TO STDOUT (FORMAT binary)");
        let mut copied = Vec::new();
        let mut stream = on.copy_out_raw(&select).await?;
        while let Some(bytes) = stream.try_next().await? {
            copied.extend_from_slice(&bytes);
        }
        drop(stream);
        let (batches, rows) = cut(&copied)?;
        ensure!(rows > 0, "no rows to copy");
        Ok(Self {
            batches,
            rows,
            postmaster,
        })
    }

    /// Copies them in.
    /// # Errors
    /// When the database refuses.
    pub async fn turn(&self, on: &mut PgConnection) -> Result<Turn> {
        sqlx::query("TRUNCATE floor").execute(&mut *on).await?;
        sqlx::query("CHECKPOINT").execute(&mut *on).await?;
        let spent = self.spent()?;
        let began = Instant::now();
        for batch in &self.batches {
            let mut copy = on
                .copy_in_raw("COPY floor FROM STDIN (FORMAT binary)")
                .await?;
            copy.send(batch.as_slice()).await?;
            copy.finish().await?;
        }
        let took = began.elapsed().as_secs_f64();
        let spent = self.spent()?.zip(spent);
        let rows = self.rows as f64;
        Ok(Turn {
            rate: rows / took,
            postgres_us: spent.map(|(now, then)| (now - then).as_secs_f64() * 1e6 / rows),
        })
    }

    fn spent(&self) -> Result<Option<Duration>> {
        self.postmaster.map(spent::family_cpu_time).transpose()
    }
}

/// Cuts what COPY gave into what COPY takes, [`BATCH_ROWS`] rows each.
fn cut(copied: &[u8]) -> Result<(Vec<Vec<u8>>, u64)> {
    let (header, mut rest) = copied.split_at_checked(HEADER_BYTES).context("a header")?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u32, |n, byte| n << 8 | u32::from(*byte))
    };
    let end = (-1_i16).to_be_bytes();
    let (mut batches, mut rows) = (Vec::new(), 0);
    let mut batch = header.to_vec();
    while let Some((columns, _)) = rest.split_at_checked(2)
        && columns != end
    {
        let mut at = 2;
        for _ in 0..number(columns) {
            let length = rest.get(at..at + 4).context("a length")?;
            at += 4;
            if length != [0xff; 4] {
                at += usize::try_from(number(length))?;
            }
        }
        let (row, behind) = rest.split_at_checked(at).context("a whole row")?;
        batch.extend_from_slice(row);
        rest = behind;
        rows += 1;
        if rows % BATCH_ROWS as u64 == 0 || rest == end {
            batch.extend_from_slice(&end);
            batches.push(std::mem::replace(&mut batch, header.to_vec()));
        }
    }
    Ok((batches, rows))
}
