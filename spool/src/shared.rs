//! What the one writer and the readers share.
//!
//! Invariant: the index is never locked while a file is touched; whoever writes the cursor holds
//! the cursor's lock, takes the state from the index and reports back what became durable.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cursor::{CursorFile, CursorWriteError};
use crate::format::{Identity, commit};
use crate::fs::Fs;
use crate::index::{Index, Segment};
use crate::{Geometry, Options, SpoolError};

pub(crate) struct Shared<F: Fs> {
    pub(crate) fs: F,
    pub(crate) options: Options,
    pub(crate) index: Mutex<Index>,
    pub(crate) cursor: Mutex<CursorFile<F::File>>,
    /// [`crate::Reading`] guards alive.
    pub(crate) readings: AtomicUsize,
}

impl<F: Fs> Shared<F> {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        // The index is only changed by whole assignments, so a panicked holder left it sound.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does somebody read just now?
    pub(crate) fn is_read(&self) -> bool {
        self.readings.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.options.geometry
    }

    /// Writes the cursor when something changed, or when `anyway`.
    pub(crate) fn write_cursor(&self, anyway: bool) -> Result<bool, SpoolError> {
        let mut file = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let state = {
            let mut index = self.index();
            if !index.has_changed() && !anyway {
                return Ok(false);
            }
            index.set_changed(false);
            index.cursor_state()
        };
        let written = file.write(&state);
        let mut index = self.index();
        match written {
            Ok(()) => {
                index.set_durable(&state);
                index.counters.syncs += 1;
                index.counters.upkeep_bytes += Geometry::BLOCK_BYTES;
                Ok(true)
            }
            Err(source) => {
                index.set_changed(true);
                index.note_cursor_overflow(matches!(source, CursorWriteError::TooLarge { .. }));
                Err(SpoolError::Cursor {
                    source: Arc::new(source),
                })
            }
        }
    }
}

/// What the commits of this segment must carry.
pub(crate) fn identity(geometry: &Geometry, segment: &Segment) -> Identity {
    Identity {
        key: segment.key,
        segment: segment.id,
        body_bytes_max: body_bytes_max(geometry),
    }
}

/// Largest body of a commit, compacted or not.
pub(crate) fn body_bytes_max(geometry: &Geometry) -> usize {
    let log = geometry.group_bytes_max + geometry.envelope_bytes_max;
    // zstd makes incompressible bytes a little longer.
    let raw = commit::RAW_BYTES_MAX.max(geometry.envelope_bytes_max);
    let compacted = commit::ORIGIN_BYTES + raw + raw / 128 + 1024;
    let segment = usize::try_from(geometry.segment_bytes).unwrap_or(usize::MAX);
    log.max(compacted).min(segment)
}
