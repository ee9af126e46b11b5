//! Dead letters given up by an operator: written to a file first, then removed.
//!
//! Invariant: a letter is removed only when the file that holds it is on the disk.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use sqlx::Acquire as _;
use sqlx::postgres::PgConnection;

use super::today::spool_text;
use crate::operator::{VerbError, moment};
use crate::store::StoreError;
use crate::store::letters::{self, End, Letter};

/// A file that is not there yet, on its way to the disk.
pub(super) struct Export<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> Export<'a> {
    /// # Errors
    /// [`VerbError::Export`]: it is there already, or cannot be made.
    pub(super) fn create(path: &'a Path) -> Result<Self, VerbError> {
        let file = File::create_new(path).map_err(|source| refused(path, source))?;
        let file = BufWriter::new(file);
        Ok(Self { path, file })
    }

    pub(super) fn put(&mut self, letter: &Letter) -> Result<(), VerbError> {
        let line = to_json(letter, true);
        writeln!(self.file, "{line}").map_err(|source| refused(self.path, source))
    }

    /// Returns when it is on the disk.
    pub(super) fn keep(&mut self) -> Result<(), VerbError> {
        let kept = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        kept.map_err(|source| refused(self.path, source))
    }
}

fn refused(path: &Path, source: std::io::Error) -> VerbError {
    let path = path.to_owned();
    VerbError::Export { path, source }
}

/// Everything that is known of a dead letter, under the founding names where they fit.
pub(super) fn to_json(letter: &Letter, with_bytes: bool) -> Value {
    let (stream, id) = letter.entry_id.rsplit_once(' ').unwrap_or_default();
    let mut line = json!({
        "id": letter.id,
        "original_stream": stream,
        "original_id": id,
        "device_id": letter.device.as_ref().map(ToString::to_string),
        "error": letter.reason,
        "error_class": letter.error_class,
        "sqlstate": letter.sqlstate,
        "byte_offset": letter.byte_offset,
        "records": letter.records,
        "gateway": letter.gateway,
        "spool": spool_text(letter.spool_id),
        "seq": letter.seq,
        "record": letter.record_index,
        "received_at": letter.received_at.map(moment::text),
        "first_failed": moment::text(letter.first_failed),
        "failed_at": moment::text(letter.last_failed),
        "delivery_count": letter.delivery_count,
    });
    if with_bytes {
        line["bytes_hex"] = hex::encode(&letter.bytes).into();
    }
    line
}

/// Removes those, in one transaction: all of them or none.
pub(super) async fn remove(on: &mut PgConnection, ids: &[i64]) -> Result<u64, StoreError> {
    let failed = |source| StoreError::new("dropping dead letters", source);
    let mut on = on.begin().await.map_err(failed)?;
    let mut removed = 0;
    for id in ids {
        if let Some(letter) = letters::find(&mut on, *id, true).await? {
            letters::end(&mut on, &letter, End::Dropped).await?;
            removed += 1;
        }
    }
    on.commit().await.map_err(failed)?;
    Ok(removed)
}
