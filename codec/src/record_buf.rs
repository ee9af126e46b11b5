//! One record out of its buffer without an allocator: for queues of fixed size.

use heapless::Vec;

use crate::codec_id::Layout;
use crate::record::{AvlRecord, checked_record};

/// The bytes of one record of at most `N` bytes, and how they lie.
///
/// A record takes at least 30 bytes. FMB630, FMB640 and FM63xx keep theirs within 255 (wiki
/// "Codec", record sizes); 8 Extended can say far more, but a packet stays within 1280.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBuf<const N: usize> {
    // Checked by `copy_of`.
    raw: Vec<u8, N>,
    layout: Layout,
}

/// The record does not fit the buffer: take a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of {bytes} bytes, the buffer takes {bytes_max}")]
pub struct RecordTooLong {
    /// Bytes of the record.
    pub bytes: usize,
    /// Bytes that fit.
    pub bytes_max: usize,
}

impl<const N: usize> RecordBuf<N> {
    /// Copies the record's bytes.
    ///
    /// # Errors
    /// [`RecordTooLong`].
    pub fn copy_of(record: &AvlRecord<'_>) -> Result<RecordBuf<N>, RecordTooLong> {
        let raw = Vec::from_slice(record.checked_bytes()).map_err(|_| RecordTooLong {
            bytes: record.checked_bytes().len(),
            bytes_max: N,
        })?;
        Ok(RecordBuf {
            raw,
            layout: record.layout(),
        })
    }

    /// The record again.
    #[must_use]
    pub fn record(&self) -> AvlRecord<'_> {
        checked_record(&self.raw, self.layout, true)
            .expect("the bytes of a record that was read before")
            .0
    }
}

// Positions are personal data: logs get the size.
impl<const N: usize> core::fmt::Debug for RecordBuf<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordBuf")
            .field("raw_bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}
