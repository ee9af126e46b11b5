//! IO elements: numbered values in groups of equal width, read only when asked for.
//!
//! A record lists its one-byte values, then two, four and eight bytes, each group behind
//! its own count; Codec 8 Extended adds a group whose values carry their length. What an
//! id means, and whether a value is signed, depends on the device model and is none of
//! this crate's business.
//!
//! Invariant: [`IoElements`] walks bytes that `delimit` has walked before, so it never
//! ends early.

use core::fmt;

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::map;
use nom::number::complete::{be_u8, be_u16};

use crate::codec_id::AvlCodec;
use crate::error::{BodyError, Read, Stage, placed};

/// Which group an element came from. A variable value may well be 1, 2, 4 or 8 bytes
/// long, or empty: the group is not to be guessed from the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IoWidth {
    /// One byte.
    B1,
    /// Two bytes.
    B2,
    /// Four bytes.
    B4,
    /// Eight bytes.
    B8,
    /// Any length from 0 to 65 535 bytes (Codec 8 Extended only).
    Variable,
}

const FIXED: [IoWidth; 4] = [IoWidth::B1, IoWidth::B2, IoWidth::B4, IoWidth::B8];

impl IoWidth {
    /// Bytes of every value in this group, `None` where each has its own length.
    #[must_use]
    pub const fn bytes(self) -> Option<usize> {
        match self {
            IoWidth::B1 => Some(1),
            IoWidth::B2 => Some(2),
            IoWidth::B4 => Some(4),
            IoWidth::B8 => Some(8),
            IoWidth::Variable => None,
        }
    }
}

impl fmt::Display for IoWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "{bytes}-byte"),
            None => f.write_str("variable"),
        }
    }
}

/// One value, still in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoElement<'a> {
    /// What the value is, by the list of the device's model. At most 255 in Codec 8.
    pub id: u16,
    /// The group it came from.
    pub width: IoWidth,
    /// The value, big-endian where it is a number.
    pub bytes: &'a [u8],
}

impl IoElement<'_> {
    /// The value as an unsigned number; `None` in the variable group.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.width.bytes()?;
        Some(
            self.bytes
                .iter()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    }

    /// The value as a two's complement number of its width; `None` in the variable group.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        let unused_bits = 64 - 8 * u32::try_from(self.width.bytes()?).ok()?;
        Some(((self.as_u64()? << unused_bits) as i64) >> unused_bits)
    }
}

/// The elements of one record in the order they were sent. Ids may repeat.
#[derive(Debug, Clone)]
pub struct IoElements<'a> {
    rest: &'a [u8],
    codec: AvlCodec,
    // Elements left in the group being read, and the group after it.
    group: IoWidth,
    in_group: u16,
    groups_ahead: &'static [IoWidth],
    left: u16,
}

impl<'a> IoElements<'a> {
    pub(crate) fn new(groups: &'a [u8], codec: AvlCodec, total: u16) -> IoElements<'a> {
        let ahead: &'static [IoWidth] = if codec.has_variable_group() {
            &[
                IoWidth::B1,
                IoWidth::B2,
                IoWidth::B4,
                IoWidth::B8,
                IoWidth::Variable,
            ]
        } else {
            &FIXED
        };
        IoElements {
            rest: groups,
            codec,
            group: IoWidth::B1,
            in_group: 0,
            groups_ahead: ahead,
            left: total,
        }
    }
}

impl<'a> Iterator for IoElements<'a> {
    type Item = IoElement<'a>;

    fn next(&mut self) -> Option<IoElement<'a>> {
        while self.in_group == 0 {
            let (&group, ahead) = self.groups_ahead.split_first()?;
            let (rest, count) = count(self.rest, self.codec).ok()?;
            (self.group, self.groups_ahead) = (group, ahead);
            (self.rest, self.in_group) = (rest, count);
        }
        let (rest, element) = element(self.rest, self.codec, self.group).ok()?;
        self.rest = rest;
        self.in_group -= 1;
        self.left = self.left.saturating_sub(1);
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for IoElements<'_> {}

/// An IO id or event IO id.
pub(crate) fn id(input: &[u8], codec: AvlCodec) -> Read<'_, u16> {
    if codec.has_wide_ids() {
        be_u16(input)
    } else {
        map(be_u8, u16::from).parse(input)
    }
}

/// The number of elements in a record or group.
pub(crate) fn count(input: &[u8], codec: AvlCodec) -> Read<'_, u16> {
    if codec.has_wide_counts() {
        be_u16(input)
    } else {
        map(be_u8, u16::from).parse(input)
    }
}

fn element(input: &[u8], codec: AvlCodec, width: IoWidth) -> Read<'_, IoElement<'_>> {
    let (input, id) = id(input, codec)?;
    let (input, length) = match width.bytes() {
        Some(bytes) => (input, bytes),
        None => map(be_u16, usize::from).parse(input)?,
    };
    let (input, bytes) = take(length)(input)?;
    Ok((input, IoElement { id, width, bytes }))
}

/// Steps over all groups of one record; gives what follows and how many elements there
/// were. Fixed groups cost one multiplication each, whatever they hold.
pub(crate) fn delimit<'a>(
    region: &'a [u8],
    input: &'a [u8],
    codec: AvlCodec,
    record: u8,
) -> Result<(&'a [u8], u32), BodyError> {
    let id_bytes = if codec.has_wide_ids() { 2 } else { 1 };
    let mut rest = input;
    let mut total = 0u32;
    for width in FIXED {
        let stage = Stage::IoGroup { record, width };
        let value_bytes = width.bytes().unwrap_or(0);
        let (after, counted) = placed(region, stage, count(rest, codec))?;
        // At most 65 535 × 10: no overflow even in 32 bits.
        let group_bytes = usize::from(counted) * (id_bytes + value_bytes);
        let (after, _) = placed(region, stage, take(group_bytes)(after))?;
        rest = after;
        total += u32::from(counted);
    }
    if codec.has_variable_group() {
        let width = IoWidth::Variable;
        let stage = Stage::IoGroup { record, width };
        let (mut after, counted) = placed(region, stage, count(rest, codec))?;
        for _ in 0..counted {
            (after, _) = placed(region, stage, element(after, codec, width))?;
        }
        rest = after;
        total += u32::from(counted);
    }
    Ok((rest, total))
}
