//! The data field of codecs 8, 8 Extended and 16: an array of AVL records.
//!
//! Invariant: whoever holds an [`AvlData`] holds bytes that were walked once from the
//! codec id to the second count and came out even. That is why its iterators cannot fail,
//! and why they check nothing twice: they only look for the end of each record.

use core::fmt;

use crate::codec_id::{AvlCodec, CodecId, Layout};
use crate::codec7::Codec7Data;
use crate::error::{BodyError, BodyReason, Stage};
use crate::record::{AvlRecord, Priority, checked_record, extent, extent_by_field};

/// A data field full of records, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AvlData<'a> {
    records: &'a [u8],
    layout: Layout,
    count: u8,
    // Learned on the walk, since it comes past them anyway.
    most_urgent: Priority,
    io_total: u32,
}

impl<'a> AvlData<'a> {
    /// Checks a data field (codec id to second count, no length, no checksum) in one walk:
    /// every record delimited, IO totals right, both counts equal, nothing left over.
    ///
    /// Some firmware appends a group of 16-byte values to every Codec 8 record. Nothing
    /// announces it, but then the documented layout does not come out even: only if that
    /// is so, and the other layout does, the other one is taken
    /// ([`has_16_byte_group`](Self::has_16_byte_group)).
    ///
    /// # Errors
    /// [`BodyError`] with the offset of the first byte that does not fit the documented
    /// layout.
    pub fn parse(data: &'a [u8]) -> Result<AvlData<'a>, BodyError> {
        let (codec_byte, count, second) = ends(data)?;
        let Some(codec) = CodecId::from_byte(codec_byte).avl() else {
            return Err(unread_codec(codec_byte));
        };
        let region = &data[..data.len() - 1];
        match codec {
            AvlCodec::Codec8 => walk_8(region, count, second),
            AvlCodec::Codec8E => walk_8e(region, count, second),
            AvlCodec::Codec16 => walk_16(region, count, second),
        }
    }

    /// Which of the three layouts it was.
    #[must_use]
    pub const fn codec(&self) -> AvlCodec {
        self.layout.codec()
    }

    /// Whether the records are Codec 8 with a fifth group, of 16-byte values
    /// ([`IoWidth::B16`](crate::IoWidth::B16)), which the documentation does not have.
    #[must_use]
    pub const fn has_16_byte_group(&self) -> bool {
        matches!(self.layout, Layout::Codec8With16)
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
            layout: self.layout,
            left: self.count,
        }
    }

    /// How many IO elements all records have together.
    #[must_use]
    pub const fn io_total(&self) -> u32 {
        self.io_total
    }

    /// The highest urgency among the records, [`Priority::Low`] if there are none.
    #[must_use]
    pub const fn most_urgent(&self) -> Priority {
        self.most_urgent
    }
}

// Positions are personal data: logs get the shape.
impl fmt::Debug for AvlData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvlData")
            .field("codec", &self.codec())
            .field("has_16_byte_group", &self.has_16_byte_group())
            .field("count", &self.count)
            .field("io_total", &self.io_total)
            .finish_non_exhaustive()
    }
}

/// The highest urgency among the records of a data field of any codec that has records
/// (7, 8, 8 Extended, 16); `None` if it is of another codec or does not read.
#[must_use]
pub fn most_urgent(data: &[u8]) -> Option<Priority> {
    match CodecId::from_byte(*data.first()?) {
        CodecId::Codec7 => Codec7Data::parse(data).ok().map(|data| data.most_urgent()),
        id if id.is_avl() => AvlData::parse(data).ok().map(|data| data.most_urgent()),
        _ => None,
    }
}

#[inline(always)]
fn walk(region: &[u8], layout: Layout, count: u8, second: u8) -> Result<AvlData<'_>, BodyError> {
    let mut at = 2;
    let mut most_urgent = Priority::Low;
    let mut io_total = 0;
    for record in 0..count {
        let extent = match extent(region, at, layout) {
            Some(extent) => extent,
            None => extent_by_field(region, at, layout, record)?,
        };
        at = extent.end;
        io_total += u32::from(extent.io_total);
        if extent.priority_byte != 0 {
            most_urgent = most_urgent.more_urgent(Priority::from_byte(extent.priority_byte));
        }
    }
    came_out_even(region, at, count, second)?;
    Ok(AvlData {
        records: &region[2..],
        layout,
        count,
        most_urgent,
        io_total,
    })
}

/// Nothing left over behind the last record, and both counts equal.
#[inline]
pub(crate) fn came_out_even(
    region: &[u8],
    end: usize,
    count: u8,
    second: u8,
) -> Result<(), BodyError> {
    let (offset, reason) = if end != region.len() {
        let left = region.len() - end;
        (end, BodyReason::LeftOver { left })
    } else if second != count {
        let first = count;
        (region.len(), BodyReason::CountMismatch { first, second })
    } else {
        return Ok(());
    };
    Err(BodyError {
        stage: Stage::SecondCount,
        offset,
        reason,
    })
}

// A function to each layout, and the layout a constant in it: a plain walk with nothing to
// decide, and few enough variables to stay in registers.
#[inline(never)]
fn walk_8(region: &[u8], count: u8, second: u8) -> Result<AvlData<'_>, BodyError> {
    walk(region, Layout::Codec8, count, second)
        .or_else(|error| with_16_byte_group(region, count, second).ok_or(error))
}

#[inline(never)]
fn walk_8e(region: &[u8], count: u8, second: u8) -> Result<AvlData<'_>, BodyError> {
    walk(region, Layout::Codec8E, count, second)
}

#[inline(never)]
fn walk_16(region: &[u8], count: u8, second: u8) -> Result<AvlData<'_>, BodyError> {
    walk(region, Layout::Codec16, count, second)
}

#[cold]
#[inline(never)]
fn with_16_byte_group(region: &[u8], count: u8, second: u8) -> Option<AvlData<'_>> {
    walk(region, Layout::Codec8With16, count, second).ok()
}

#[cold]
pub(crate) fn unread_codec(found: u8) -> BodyError {
    BodyError {
        stage: Stage::CodecId,
        offset: 0,
        reason: BodyReason::Codec { found },
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
    layout: Layout,
    left: u8,
}

impl<'a> Iterator for Records<'a> {
    type Item = AvlRecord<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<AvlRecord<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (record, rest) = checked_record(self.rest, self.layout, self.left == 0)?;
        self.rest = rest;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Records<'_> {}
impl core::iter::FusedIterator for Records<'_> {}
