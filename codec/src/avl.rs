//! The data field of codecs 8, 8 Extended and 16: an array of AVL records.
//!
//! Invariant: whoever holds an [`AvlData`] holds bytes that were walked once from the
//! codec id to the second count and came out even. That is why its iterators cannot fail.

use crate::codec_id::{AvlCodec, CodecId};
use crate::error::{BodyError, BodyReason, Stage};
use crate::record::{AvlRecord, Priority, take_record};

/// A data field full of records, still in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvlData<'a> {
    records: &'a [u8],
    codec: AvlCodec,
    count: u8,
}

impl<'a> AvlData<'a> {
    /// Checks a data field (codec id to second count, no length, no checksum) in one walk:
    /// every record delimited, IO totals right, both counts equal, nothing left over.
    ///
    /// # Errors
    /// [`BodyError`] with the offset of the first byte that does not fit.
    pub fn parse(data: &'a [u8]) -> Result<AvlData<'a>, BodyError> {
        let (codec_byte, count, second) = ends(data)?;
        let Some(codec) = CodecId::from_byte(codec_byte).avl() else {
            let reason = BodyReason::Codec { found: codec_byte };
            return Err(BodyError {
                stage: Stage::CodecId,
                offset: 0,
                reason,
            });
        };
        let region = &data[..data.len() - 1];
        let records = &region[2..];
        let mut rest = records;
        for record in 0..count {
            (rest, _) = take_record(region, rest, codec, record)?;
        }
        let stage = Stage::SecondCount;
        if !rest.is_empty() {
            let reason = BodyReason::LeftOver { left: rest.len() };
            return Err(BodyError {
                stage,
                offset: region.len() - rest.len(),
                reason,
            });
        }
        if second != count {
            let reason = BodyReason::CountMismatch {
                first: count,
                second,
            };
            return Err(BodyError {
                stage,
                offset: region.len(),
                reason,
            });
        }
        Ok(AvlData {
            records,
            codec,
            count,
        })
    }

    /// Which of the three layouts it was.
    #[must_use]
    pub const fn codec(&self) -> AvlCodec {
        self.codec
    }

    /// How many records there are, 0 to 255.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// The records in the order they were sent, which need not be the order of time.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        Records {
            rest: self.records,
            codec: self.codec,
            next: 0,
            count: self.count,
        }
    }

    /// The highest urgency among the records, [`Priority::Low`] if there are none.
    #[must_use]
    pub fn most_urgent(&self) -> Priority {
        self.records()
            .map(|record| record.priority)
            .fold(Priority::Low, Priority::more_urgent)
    }
}

/// Codec id, first count, second count.
pub(crate) fn ends(data: &[u8]) -> Result<(u8, u8, u8), BodyError> {
    let (stage, offset) = match *data {
        [codec, first, .., second] => return Ok((codec, first, second)),
        [] => (Stage::CodecId, 0),
        [_] => (Stage::FirstCount, 1),
        [_, _] => (Stage::SecondCount, 2),
    };
    Err(BodyError {
        stage,
        offset,
        reason: BodyReason::Truncated,
    })
}

/// The records of an [`AvlData`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    codec: AvlCodec,
    next: u8,
    count: u8,
}

impl<'a> Iterator for Records<'a> {
    type Item = AvlRecord<'a>;

    fn next(&mut self) -> Option<AvlRecord<'a>> {
        if self.next == self.count {
            return None;
        }
        let (rest, record) = take_record(self.rest, self.rest, self.codec, self.next).ok()?;
        self.rest = rest;
        self.next += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.count - self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}
