//! A data field read for good: its values in memory of their own, so that the buffer they
//! came in can go.
//!
//! All records of a data field share two allocations, one for their heads and one for
//! their IO elements, and a third if there are values above eight bytes. That is less than
//! one per record, and everything is read in one pass.

use alloc::vec::Vec;
use core::ops::{Deref, Range};

use crate::avl::AvlData;
use crate::codec_id::AvlCodec;
use crate::io::{IoElement, IoWidth};
use crate::record::RecordHead;

/// What [`AvlData`] shows, owned. Make it with [`AvlData::into_owned`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedAvlData {
    pub(crate) codec: AvlCodec,
    pub(crate) has_16_byte_group: bool,
    heads: Vec<Head>,
    elements: Vec<Element>,
    // Values of the 16-byte and the variable group, one behind the other.
    long_values: Vec<u8>,
}

// The elements of a record begin where those of the record before it end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    fields: RecordHead,
    elements_end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Element {
    // A number right-aligned, or where in `long_values`: start and end, four bytes each.
    value: [u8; 8],
    id: u16,
    width: IoWidth,
}

impl AvlData<'_> {
    /// Copies all of it out of the caller's buffer.
    #[must_use]
    pub fn into_owned(self) -> OwnedAvlData {
        let mut owned = OwnedAvlData {
            codec: self.codec(),
            has_16_byte_group: self.has_16_byte_group(),
            heads: Vec::with_capacity(usize::from(self.count())),
            elements: Vec::with_capacity(self.io_total() as usize),
            long_values: Vec::new(),
        };
        for record in self.records() {
            owned.push(record.head(), record.io());
        }
        owned
    }
}

impl From<AvlData<'_>> for OwnedAvlData {
    fn from(view: AvlData<'_>) -> OwnedAvlData {
        view.into_owned()
    }
}

impl OwnedAvlData {
    /// Whose layout the records came in.
    #[must_use]
    pub const fn codec(&self) -> AvlCodec {
        self.codec
    }

    /// As [`AvlData::has_16_byte_group`].
    #[must_use]
    pub const fn has_16_byte_group(&self) -> bool {
        self.has_16_byte_group
    }

    /// How many records there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.heads.len()
    }

    /// The record at `index`, counted from 0 in the order they were sent.
    #[must_use]
    pub fn record(&self, index: usize) -> Option<OwnedRecord<'_>> {
        let head = self.heads.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.heads.get(before)?.elements_end,
            None => 0,
        };
        Some(OwnedRecord {
            head: &head.fields,
            elements: self
                .elements
                .get(start as usize..head.elements_end as usize)?,
            long_values: &self.long_values,
        })
    }

    /// The records in the order they were sent, which need not be the order of time.
    pub fn records(&self) -> impl ExactSizeIterator<Item = OwnedRecord<'_>> + Clone {
        let mut start = 0;
        self.heads.iter().map(move |head| {
            let end = head.elements_end as usize;
            let elements = self.elements.get(start..end).unwrap_or_default();
            start = end;
            OwnedRecord {
                head: &head.fields,
                elements,
                long_values: &self.long_values,
            }
        })
    }

    #[inline]
    pub(crate) fn push<'a>(&mut self, fields: RecordHead, io: impl Iterator<Item = IoElement<'a>>) {
        io.for_each(|element| {
            let value = match element.as_u64() {
                Some(number) => number.to_be_bytes(),
                None => self.push_long(element.bytes),
            };
            self.elements.push(Element {
                value,
                id: element.id,
                width: element.width,
            });
        });
        self.heads.push(Head {
            fields,
            elements_end: self.elements.len() as u32,
        });
    }

    fn push_long(&mut self, bytes: &[u8]) -> [u8; 8] {
        let start = self.long_values.len() as u64;
        self.long_values.extend_from_slice(bytes);
        (start << 32 | self.long_values.len() as u64).to_be_bytes()
    }

    #[cfg(feature = "serde")]
    pub(crate) const fn empty(codec: AvlCodec, has_16_byte_group: bool) -> OwnedAvlData {
        OwnedAvlData {
            codec,
            has_16_byte_group,
            heads: Vec::new(),
            elements: Vec::new(),
            long_values: Vec::new(),
        }
    }
}

/// One record of an [`OwnedAvlData`]. The fields of [`RecordHead`] are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedRecord<'a> {
    head: &'a RecordHead,
    elements: &'a [Element],
    long_values: &'a [u8],
}

impl Deref for OwnedRecord<'_> {
    type Target = RecordHead;

    fn deref(&self) -> &RecordHead {
        self.head
    }
}

impl<'a> OwnedRecord<'a> {
    /// The IO elements in the order they were sent.
    pub fn io(&self) -> impl ExactSizeIterator<Item = IoElement<'a>> + Clone + use<'a> {
        let long_values = self.long_values;
        self.elements.iter().map(move |element| IoElement {
            id: element.id,
            width: element.width,
            bytes: element.bytes(long_values),
        })
    }

    /// The first IO element with this id.
    #[must_use]
    pub fn io_element(&self, id: u16) -> Option<IoElement<'a>> {
        self.io().find(|element| element.id == id)
    }
}

impl Element {
    fn bytes<'a>(&'a self, long_values: &'a [u8]) -> &'a [u8] {
        match self.width {
            IoWidth::B1 => &self.value[7..],
            IoWidth::B2 => &self.value[6..],
            IoWidth::B4 => &self.value[4..],
            IoWidth::B8 => &self.value,
            // The range was noted when the value was pushed.
            IoWidth::B16 | IoWidth::Variable => {
                long_values.get(self.long_range()).unwrap_or_default()
            }
        }
    }

    fn long_range(&self) -> Range<usize> {
        let [a, b, c, d, e, f, g, h] = self.value;
        let start = u32::from_be_bytes([a, b, c, d]) as usize;
        start..u32::from_be_bytes([e, f, g, h]) as usize
    }
}
