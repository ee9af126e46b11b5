//! IO elements: numbered values in groups of equal width, read only when asked for.
//!
//! A record lists its one-byte values, then two, four and eight bytes, each group behind
//! its own count; Codec 8 Extended adds a group whose values carry their length, some
//! firmware adds one of sixteen bytes to Codec 8, and Codec 7 leaves groups out. What an
//! id means, and whether a value is signed, depends on the device model and is none of
//! this crate's business.
//!
//! Invariant: [`IoElements`] walks bytes that were walked before, when the data field was
//! checked, so it never ends early.

use core::fmt;

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::map;
use nom::number::complete::{be_u8, be_u16};

use crate::codec_id::Layout;
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
    /// Sixteen bytes (some firmware's Codec 8 only, see
    /// [`AvlData::has_16_byte_group`](crate::AvlData::has_16_byte_group)).
    B16,
    /// Any length from 0 to 65 535 bytes (Codec 8 Extended only).
    Variable,
}

impl IoWidth {
    // In the order of the wire.
    const ALL: [IoWidth; 6] = [
        IoWidth::B1,
        IoWidth::B2,
        IoWidth::B4,
        IoWidth::B8,
        IoWidth::B16,
        IoWidth::Variable,
    ];

    /// Bytes of every value in this group, `None` where each has its own length.
    #[must_use]
    pub const fn bytes(self) -> Option<usize> {
        match self {
            IoWidth::B1 => Some(1),
            IoWidth::B2 => Some(2),
            IoWidth::B4 => Some(4),
            IoWidth::B8 => Some(8),
            IoWidth::B16 => Some(16),
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

/// The groups that a record has. Bit k is the group of `IoWidth::ALL[k]`, and bit
/// `WIDE_IDS` + k the same with ids of two bytes: one number says how to step over an
/// element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Groups(u16);

const WIDE_IDS: u32 = 6;

impl Groups {
    pub(crate) const NONE: Groups = Groups(0);

    pub(crate) const fn with(self, width: IoWidth) -> Groups {
        Groups(self.0 | 1 << width as u32)
    }

    #[inline(always)]
    const fn of(layout: Layout) -> Groups {
        let four = 0b1111;
        Groups(match layout {
            Layout::Codec8 => four,
            Layout::Codec8With16 => four | 1 << IoWidth::B16 as u32,
            Layout::Codec8E => (four | 1 << IoWidth::Variable as u32) << WIDE_IDS,
            Layout::Codec16 => four << WIDE_IDS,
        })
    }
}

/// One value, still in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoElement<'a> {
    /// What the value is, by the list of the device's model. At most 255 in codecs 7 and 8.
    pub id: u16,
    /// The group it came from.
    pub width: IoWidth,
    /// The value, big-endian where it is a number.
    pub bytes: &'a [u8],
}

impl IoElement<'_> {
    /// The value as an unsigned number; `None` in the 16-byte and the variable group.
    #[must_use]
    #[inline]
    pub fn as_u64(&self) -> Option<u64> {
        // One load each, where a loop over the bytes would be eight steps.
        match self.width {
            IoWidth::B1 => self.array().map(|value| u8::from_be_bytes(value).into()),
            IoWidth::B2 => self.array().map(|value| u16::from_be_bytes(value).into()),
            IoWidth::B4 => self.array().map(|value| u32::from_be_bytes(value).into()),
            IoWidth::B8 => self.array().map(u64::from_be_bytes),
            IoWidth::B16 | IoWidth::Variable => None,
        }
    }

    /// The value as a two's complement number of its width; `None` in the 16-byte and the
    /// variable group.
    #[must_use]
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        match self.width {
            IoWidth::B1 => self.array().map(|value| i8::from_be_bytes(value).into()),
            IoWidth::B2 => self.array().map(|value| i16::from_be_bytes(value).into()),
            IoWidth::B4 => self.array().map(|value| i32::from_be_bytes(value).into()),
            IoWidth::B8 => self.array().map(i64::from_be_bytes),
            IoWidth::B16 | IoWidth::Variable => None,
        }
    }

    /// The value as an unsigned number of up to sixteen bytes; `None` in the variable
    /// group.
    #[must_use]
    #[inline]
    pub fn as_u128(&self) -> Option<u128> {
        match self.width {
            IoWidth::B16 => self.array().map(u128::from_be_bytes),
            _ => self.as_u64().map(u128::from),
        }
    }

    // `None` only where somebody put an element together by hand.
    #[inline]
    fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes.try_into().ok()
    }
}

/// The elements of one record in the order they were sent. Ids may repeat.
#[derive(Debug, Clone)]
pub struct IoElements<'a> {
    rest: &'a [u8],
    // Of the group being read: elements left, and its bit in `Groups`.
    in_group: u16,
    group: u32,
    wide_counts: bool,
    ahead: Groups,
    left: u16,
}

impl<'a> IoElements<'a> {
    #[inline]
    pub(crate) fn new(groups: &'a [u8], layout: Layout, total: u16) -> IoElements<'a> {
        IoElements {
            rest: groups,
            in_group: 0,
            group: 0,
            wide_counts: layout.codec().has_wide_counts(),
            ahead: Groups::of(layout),
            left: total,
        }
    }

    /// Codec 7: narrow ids and counts, and any of the groups of 1, 2 and 4 bytes.
    pub(crate) fn narrow(groups: &'a [u8], ahead: Groups, total: u16) -> IoElements<'a> {
        IoElements {
            ahead,
            ..IoElements::new(groups, Layout::Codec8, total)
        }
    }

    #[inline(always)]
    fn next_group(&mut self) -> Option<()> {
        if self.ahead == Groups::NONE {
            return None;
        }
        self.group = self.ahead.0.trailing_zeros();
        self.ahead.0 &= self.ahead.0 - 1;
        self.in_group = self.take_count()?;
        Some(())
    }

    #[inline(always)]
    fn take_count(&mut self) -> Option<u16> {
        if self.wide_counts {
            let (count, rest) = self.rest.split_first_chunk()?;
            self.rest = rest;
            Some(u16::from_be_bytes(*count))
        } else {
            let (&count, rest) = self.rest.split_first()?;
            self.rest = rest;
            Some(count.into())
        }
    }

    // One check an element: `BYTES` are those of its value and its one-byte id.
    #[inline(always)]
    fn narrow_element<const BYTES: usize>(&mut self, width: IoWidth) -> Option<IoElement<'a>> {
        let (element, rest) = self.rest.split_first_chunk::<BYTES>()?;
        self.rest = rest;
        let (&id, bytes) = element.split_first()?;
        let id = id.into();
        Some(IoElement { id, width, bytes })
    }

    // As before, with an id of two bytes.
    #[inline(always)]
    fn wide_element<const BYTES: usize>(&mut self, width: IoWidth) -> Option<IoElement<'a>> {
        let (element, rest) = self.rest.split_first_chunk::<BYTES>()?;
        self.rest = rest;
        let (id, bytes) = element.split_first_chunk()?;
        let id = u16::from_be_bytes(*id);
        Some(IoElement { id, width, bytes })
    }

    #[inline(always)]
    fn variable(&mut self) -> Option<IoElement<'a>> {
        let ([id_high, id_low, high, low], rest) = self.rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(IoElement {
            id: u16::from_be_bytes([*id_high, *id_low]),
            width: IoWidth::Variable,
            bytes,
        })
    }
}

impl<'a> Iterator for IoElements<'a> {
    type Item = IoElement<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<IoElement<'a>> {
        while self.in_group == 0 {
            self.next_group()?;
        }
        self.in_group -= 1;
        // Never looked at here, so it costs nothing to who does not ask for the length.
        self.left = self.left.wrapping_sub(1);
        // Width and length are constants in every arm, so that a caller who asks for the
        // number gets a plain load.
        match self.group {
            0 => self.narrow_element::<2>(IoWidth::B1),
            1 => self.narrow_element::<3>(IoWidth::B2),
            2 => self.narrow_element::<5>(IoWidth::B4),
            3 => self.narrow_element::<9>(IoWidth::B8),
            4 => self.narrow_element::<17>(IoWidth::B16),
            6 => self.wide_element::<3>(IoWidth::B1),
            7 => self.wide_element::<4>(IoWidth::B2),
            8 => self.wide_element::<6>(IoWidth::B4),
            9 => self.wide_element::<10>(IoWidth::B8),
            11 => self.variable(),
            // No layout has 16-byte values behind wide ids, or variable ones behind narrow.
            _ => None,
        }
    }

    /// A group at a time, which makes `for_each` cheaper than a `for` loop.
    #[inline(always)]
    fn fold<B, F>(mut self, init: B, mut fold: F) -> B
    where
        F: FnMut(B, IoElement<'a>) -> B,
    {
        let mut folded = init;
        // What is left of a group that `next` began.
        while self.in_group != 0 {
            let Some(element) = self.next() else {
                return folded;
            };
            folded = fold(folded, element);
        }
        // One after the other, so that nothing has to be looked up between two groups.
        macro_rules! group {
            ($group:literal, $next:expr) => {
                if self.ahead.0 & 1 << $group != 0 {
                    let Some(count) = self.take_count() else {
                        return folded;
                    };
                    for _ in 0..count {
                        let Some(element) = $next else { return folded };
                        folded = fold(folded, element);
                    }
                }
            };
        }
        if self.ahead.0 < 1 << WIDE_IDS {
            group!(0, self.narrow_element::<2>(IoWidth::B1));
            group!(1, self.narrow_element::<3>(IoWidth::B2));
            group!(2, self.narrow_element::<5>(IoWidth::B4));
            group!(3, self.narrow_element::<9>(IoWidth::B8));
            group!(4, self.narrow_element::<17>(IoWidth::B16));
        } else {
            group!(6, self.wide_element::<3>(IoWidth::B1));
            group!(7, self.wide_element::<4>(IoWidth::B2));
            group!(8, self.wide_element::<6>(IoWidth::B4));
            group!(9, self.wide_element::<10>(IoWidth::B8));
            group!(11, self.variable());
        }
        folded
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for IoElements<'_> {}
impl core::iter::FusedIterator for IoElements<'_> {}

/// Where the groups that begin at `start` end, and how many elements they have; `None` if
/// they do not fit. Fixed groups cost one multiplication each, whatever they hold.
///
/// With a `layout` known to the compiler every width below is a constant.
#[inline(always)]
pub(crate) fn groups_end(bytes: &[u8], start: usize, layout: Layout) -> Option<(usize, u32)> {
    // No sum overflows, even in 32 bits: each begins within `bytes` and adds at most
    // 65 535 elements of 18 bytes.
    let mut at = start;
    let mut counted = 0;
    for width in IoWidth::ALL {
        if !layout.has_group(width) {
            continue;
        }
        let count = count_at(bytes, at, layout)?;
        at += layout.count_bytes();
        counted += u32::from(count);
        if let Some(value_bytes) = width.bytes() {
            at += usize::from(count) * (layout.id_bytes() + value_bytes);
            continue;
        }
        for _ in 0..count {
            let length = bytes.get(at..)?.get(2..4)?.first_chunk()?;
            at += 4 + usize::from(u16::from_be_bytes(*length));
        }
    }
    (at <= bytes.len()).then_some((at, counted))
}

/// The number of elements in a record or group.
#[inline(always)]
pub(crate) fn count_at(bytes: &[u8], at: usize, layout: Layout) -> Option<u16> {
    if layout.codec().has_wide_counts() {
        let count = bytes.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*count))
    } else {
        bytes.get(at).copied().map(u16::from)
    }
}

/// An IO id or event IO id.
pub(crate) fn id(input: &[u8], layout: Layout) -> Read<'_, u16> {
    number(input, layout.id_bytes())
}

/// The number of elements in a record or group.
pub(crate) fn count(input: &[u8], layout: Layout) -> Read<'_, u16> {
    number(input, layout.count_bytes())
}

fn number(input: &[u8], bytes: usize) -> Read<'_, u16> {
    match bytes {
        1 => map(be_u8, u16::from).parse(input),
        _ => be_u16(input),
    }
}

/// What `groups_end` says, with the place of what does not fit.
pub(crate) fn delimit<'a>(
    region: &'a [u8],
    input: &'a [u8],
    layout: Layout,
    record: u8,
) -> Result<(&'a [u8], u32), BodyError> {
    let mut rest = input;
    let mut total = 0u32;
    for width in IoWidth::ALL {
        if !layout.has_group(width) {
            continue;
        }
        let stage = Stage::IoGroup { record, width };
        let (mut after, counted) = placed(region, stage, count(rest, layout))?;
        if let Some(value_bytes) = width.bytes() {
            let group_bytes = usize::from(counted) * (layout.id_bytes() + value_bytes);
            (after, _) = placed(region, stage, take(group_bytes)(after))?;
        } else {
            for _ in 0..counted {
                (after, _) = placed(region, stage, variable_element(after))?;
            }
        }
        rest = after;
        total += u32::from(counted);
    }
    Ok((rest, total))
}

fn variable_element(input: &[u8]) -> Read<'_, ()> {
    let (input, _id) = be_u16(input)?;
    let (input, length) = be_u16(input)?;
    map(take(length), drop).parse(input)
}
