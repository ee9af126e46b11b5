//! Three ways to make a batch durable: the least there is, ours, SQLite's.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use contract::GatewayId;
use rusqlite::Connection;
use spool::fs::RealFs;
use spool::{Append, FullPolicy, Geometry, Options, SpoolWriter};

const BLOCK_BYTES: usize = 4096;

/// Overwrites blocks of a file that was zero-filled before, one `pwrite` and one `fdatasync` a
/// batch: the floor.
pub struct Raw {
    file: File,
    at: u64,
    bytes_max: u64,
    buffer: Vec<u8>,
}

impl Raw {
    pub fn new(dir: &Path, bytes_max: u64) -> Result<Self> {
        let file = File::create_new(dir.join("raw"))?;
        let zeros = vec![0; 1 << 20];
        for at in (0..bytes_max).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            at: 0,
            bytes_max,
            buffer: Vec::new(),
        })
    }

    pub fn commit(&mut self, batch: &[Append]) -> Result<()> {
        self.buffer.clear();
        for append in batch {
            self.buffer.extend(&append.bytes);
        }
        if self.at + self.buffer.len() as u64 > self.bytes_max {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        self.at += self.buffer.len().next_multiple_of(BLOCK_BYTES) as u64;
        Ok(())
    }
}

pub fn open_ours(dir: &Path, bytes_max: u64) -> Result<SpoolWriter<RealFs>> {
    let options = Options {
        gateway: GatewayId::new("bench")?,
        bytes_max,
        full: FullPolicy::Refuse,
        geometry: Geometry::for_spool(bytes_max),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let random = now.as_nanos() as u64 | 1;
    let random = [random, random.rotate_left(21), random.rotate_left(42)];
    Ok(SpoolWriter::open(RealFs::locked(dir)?, options, random)?.0)
}

pub fn commit_ours(writer: &mut SpoolWriter<RealFs>, batch: &[Append]) -> Result<()> {
    for result in writer.commit(batch) {
        result.context("a frame was not kept")?;
    }
    Ok(())
}

/// One table, WAL, `synchronous = FULL`: a commit is one fdatasync of the log, and a checkpoint now
/// and then.
pub struct Sqlite(pub Connection);

impl Sqlite {
    pub fn new(dir: &Path) -> Result<Self> {
        let connection = Connection::open(dir.join("sqlite.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS spool (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
        )?;
        Ok(Self(connection))
    }

    pub fn commit(&mut self, batch: &[Append]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO spool (bytes) VALUES (?1)")?;
            for append in batch {
                insert.execute([&append.bytes])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Reads and deletes the oldest `count`, as a drain with acknowledgements does.
    pub fn drain(&mut self, count: usize) -> Result<usize> {
        let transaction = self.0.transaction()?;
        let (mut read, mut last) = (0, 0i64);
        {
            let mut select = transaction
                .prepare_cached("SELECT seq, bytes FROM spool ORDER BY seq LIMIT ?1")?;
            let mut rows = select.query([count])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let bytes: Vec<u8> = row.get(1)?;
                std::hint::black_box(bytes);
                read += 1;
            }
        }
        transaction.execute("DELETE FROM spool WHERE seq <= ?1", [last])?;
        transaction.commit()?;
        Ok(read)
    }
}
