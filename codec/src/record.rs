//! One AVL record: when, how urgent, where, and what the inputs said.
//!
//! The head is the same 24 bytes in every codec; what follows it differs only in the
//! width of ids and counts. Nothing is judged: an unknown priority or generation type is
//! kept, and a position without a fix is handed on as sent.

use nom::Parser;
use nom::combinator::{cond, map};
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use crate::codec_id::Layout;
use crate::error::{BodyError, BodyReason, Read, Stage, placed};
use crate::io::{self, IoElement, IoElements};

/// How urgent the device holds a record to be.
///
/// Make it with [`Priority::from_byte`]; 0, 1 and 2 never appear as `Other`. An older
/// manual (FMXXXX Protocols 2.10) also has 3, security.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// 0.
    Low,
    /// 1.
    High,
    /// 2.
    Panic,
    /// Any other byte.
    Other(u8),
}

impl Priority {
    /// Classifies the byte; never fails.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Priority {
        match byte {
            0 => Priority::Low,
            1 => Priority::High,
            2 => Priority::Panic,
            other => Priority::Other(other),
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            Priority::Low => 0,
            Priority::High => 1,
            Priority::Panic => 2,
            Priority::Other(other) => other,
        }
    }

    /// The more urgent of the two: panic, high, unknown, low. An unknown byte must not
    /// hide a high one beside it, however large it is.
    #[must_use]
    pub fn more_urgent(self, other: Priority) -> Priority {
        if other.urgency() > self.urgency() {
            other
        } else {
            self
        }
    }

    const fn urgency(self) -> u8 {
        match self {
            Priority::Low => 0,
            Priority::Other(_) => 1,
            Priority::High => 2,
            Priority::Panic => 3,
        }
    }
}

/// What made a Codec 16 device write the record.
///
/// Make it with [`GenerationType::from_byte`]; known values never appear as `Other`.
/// Source: wiki "Codec", Codec 16, generation type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GenerationType {
    /// 0: the value left its range.
    OnExit,
    /// 1: the value entered its range.
    OnEntrance,
    /// 2: either of both.
    OnBoth,
    /// 3.
    Reserved,
    /// 4: hysteresis.
    Hysteresis,
    /// 5: any change.
    OnChange,
    /// 6: an event.
    Eventual,
    /// 7: time or distance passed.
    Periodical,
    /// Any other byte.
    Other(u8),
}

impl GenerationType {
    /// Classifies the byte; never fails.
    #[must_use]
    pub const fn from_byte(byte: u8) -> GenerationType {
        match byte {
            0 => GenerationType::OnExit,
            1 => GenerationType::OnEntrance,
            2 => GenerationType::OnBoth,
            3 => GenerationType::Reserved,
            4 => GenerationType::Hysteresis,
            5 => GenerationType::OnChange,
            6 => GenerationType::Eventual,
            7 => GenerationType::Periodical,
            other => GenerationType::Other(other),
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            GenerationType::OnExit => 0,
            GenerationType::OnEntrance => 1,
            GenerationType::OnBoth => 2,
            GenerationType::Reserved => 3,
            GenerationType::Hysteresis => 4,
            GenerationType::OnChange => 5,
            GenerationType::Eventual => 6,
            GenerationType::Periodical => 7,
            GenerationType::Other(other) => other,
        }
    }
}

/// One record, its IO elements still in the caller's buffer.
///
/// Without a fix the device repeats the last known coordinates and altitude and sends
/// `satellites`, `angle_deg` and `speed_kmh` as 0.
/// Source: wiki "Codec", AVL data and GPS element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvlRecord<'a> {
    /// Device clock, milliseconds since 1970-01-01 UTC. Not checked for sense.
    pub timestamp_ms: u64,
    /// How urgent the device holds it to be.
    pub priority: Priority,
    /// Degrees east × 10^7, west negative. It comes before the latitude.
    pub longitude_e7: i32,
    /// Degrees north × 10^7, south negative.
    pub latitude_e7: i32,
    /// Metres above sea level. The sign is undocumented; devices below sea level send
    /// two's complement.
    pub altitude_m: i16,
    /// Heading in degrees clockwise from north.
    pub angle_deg: u16,
    /// Satellites in use; 0 means the position is no fix.
    pub satellites: u8,
    /// Speed in km/h.
    pub speed_kmh: u16,
    /// The IO id that made the device write the record, 0 if it was merely time.
    pub event_io_id: u16,
    /// Why the event fired; Codec 16 only.
    pub generation_type: Option<GenerationType>,
    /// How many IO elements the record has, variable ones included.
    pub io_total: u16,
    /// Exactly the record's bytes, first of the time to last of the IO elements.
    pub raw: &'a [u8],
    // What `raw` was when it was checked, and its groups.
    checked: &'a [u8],
    groups: &'a [u8],
    layout: Layout,
}

impl<'a> AvlRecord<'a> {
    /// The IO elements in the order they were sent.
    #[must_use]
    #[inline]
    pub fn io(&self) -> IoElements<'a> {
        IoElements::new(self.groups, self.layout, self.io_total)
    }

    pub(crate) const fn checked_bytes(&self) -> &'a [u8] {
        self.checked
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// All of it but the IO elements.
    #[must_use]
    #[inline]
    pub const fn head(&self) -> RecordHead {
        RecordHead {
            timestamp_ms: self.timestamp_ms,
            priority: self.priority,
            longitude_e7: self.longitude_e7,
            latitude_e7: self.latitude_e7,
            altitude_m: self.altitude_m,
            angle_deg: self.angle_deg,
            satellites: self.satellites,
            speed_kmh: self.speed_kmh,
            event_io_id: self.event_io_id,
            generation_type: self.generation_type,
        }
    }

    /// The first IO element with this id.
    #[must_use]
    pub fn io_element(&self, id: u16) -> Option<IoElement<'a>> {
        self.io().find(|element| element.id == id)
    }
}

/// Everything a record says but its IO elements: owned, of fixed size, fields and units as
/// in [`AvlRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct RecordHead {
    pub timestamp_ms: u64,
    pub priority: Priority,
    pub longitude_e7: i32,
    pub latitude_e7: i32,
    pub altitude_m: i16,
    pub angle_deg: u16,
    pub satellites: u8,
    pub speed_kmh: u16,
    pub event_io_id: u16,
    pub generation_type: Option<GenerationType>,
}

/// Time to speed: the same in every codec but 7.
const HEAD_BYTES: usize = 24;
const PRIORITY_AT: usize = 8;

/// Where a record is and what it says of its size and urgency: all that checking needs.
pub(crate) struct Extent {
    pub(crate) end: usize,
    pub(crate) priority_byte: u8,
    pub(crate) io_total: u16,
}

/// Steps over the record that begins at `start`; `None` if it does not fit or contradicts
/// itself, and then [`extent_by_field`] says why.
#[inline(always)]
pub(crate) fn extent(region: &[u8], start: usize, layout: Layout) -> Option<Extent> {
    let at_total = start + at_total(layout);
    let io_total = io::count_at(region, at_total, layout)?;
    let (end, counted) = io::groups_end(region, start + groups_at(layout), layout)?;
    // The one redundancy inside a record, and what gives away a layout that is not ours.
    (counted == u32::from(io_total)).then_some(())?;
    Some(Extent {
        end,
        priority_byte: *region.get(start + PRIORITY_AT)?,
        io_total,
    })
}

// Both counted from the start of the record.
const fn at_total(layout: Layout) -> usize {
    HEAD_BYTES + layout.id_bytes() + layout.codec().has_generation_type() as usize
}

const fn groups_at(layout: Layout) -> usize {
    at_total(layout) + layout.count_bytes()
}

/// Reads the record at the front of bytes that were checked before; gives what follows.
/// The last record ends where they end: nobody needs to look for it.
#[inline(always)]
pub(crate) fn checked_record(
    input: &[u8],
    layout: Layout,
    is_last: bool,
) -> Option<(AvlRecord<'_>, &[u8])> {
    // Constants in each arm: the compiler writes one plain walk per layout.
    let found = match layout {
        Layout::Codec8 => found(input, Layout::Codec8, is_last),
        Layout::Codec8With16 => found(input, Layout::Codec8With16, is_last),
        Layout::Codec8E => found(input, Layout::Codec8E, is_last),
        Layout::Codec16 => found(input, Layout::Codec16, is_last),
    }?;
    let head = input.first_chunk::<HEAD_BYTES>()?;
    let (raw, rest) = input.split_at_checked(found.end)?;
    let record = AvlRecord {
        timestamp_ms: u64::from_be_bytes(field::<0, 8>(head)),
        priority: Priority::from_byte(head[PRIORITY_AT]),
        longitude_e7: i32::from_be_bytes(field::<9, 4>(head)),
        latitude_e7: i32::from_be_bytes(field::<13, 4>(head)),
        altitude_m: i16::from_be_bytes(field::<17, 2>(head)),
        angle_deg: u16::from_be_bytes(field::<19, 2>(head)),
        satellites: head[21],
        speed_kmh: u16::from_be_bytes(field::<22, 2>(head)),
        event_io_id: found.event_io_id,
        generation_type: found.generation_type,
        io_total: found.io_total,
        raw,
        checked: raw,
        groups: raw.get(found.groups_at..)?,
        layout,
    };
    Some((record, rest))
}

// What depends on the layout.
struct Found {
    event_io_id: u16,
    generation_type: Option<GenerationType>,
    io_total: u16,
    groups_at: usize,
    end: usize,
}

#[inline(always)]
fn found(input: &[u8], layout: Layout, is_last: bool) -> Option<Found> {
    let after_head = input.get(HEAD_BYTES..groups_at(layout))?;
    let (event_io_id, after_id) = if layout.codec().has_wide_ids() {
        let (id, rest) = after_head.split_first_chunk()?;
        (u16::from_be_bytes(*id), rest)
    } else {
        let (&id, rest) = after_head.split_first()?;
        (id.into(), rest)
    };
    let generation_type = if layout.codec().has_generation_type() {
        Some(GenerationType::from_byte(*after_id.first()?))
    } else {
        None
    };
    let end = if is_last {
        input.len()
    } else {
        io::groups_end(input, groups_at(layout), layout)?.0
    };
    Some(Found {
        event_io_id,
        generation_type,
        io_total: io::count_at(input, at_total(layout), layout)?,
        groups_at: groups_at(layout),
        end,
    })
}

#[inline(always)]
fn field<const AT: usize, const N: usize>(head: &[u8; HEAD_BYTES]) -> [u8; N] {
    core::array::from_fn(|byte| head[AT + byte])
}

fn head(input: &[u8]) -> Read<'_, u8> {
    // Time, priority; longitude, latitude, altitude, angle, satellites, speed.
    let position = (be_u32, be_u32, be_u16, be_u16, be_u8, be_u16);
    map((be_u64, be_u8, position), |(_, priority, _)| priority).parse(input)
}

fn io_header(input: &[u8], layout: Layout) -> Read<'_, ()> {
    let generation_type = cond(layout.codec().has_generation_type(), be_u8);
    map((|input| io::id(input, layout), generation_type), drop).parse(input)
}

/// [`extent`], slowly: field by field, for the place and reason of what does not fit.
///
/// # Errors
/// [`BodyError`] with the offset in `region` of the first byte that does not fit.
#[cold]
#[inline(never)]
pub(crate) fn extent_by_field(
    region: &[u8],
    start: usize,
    layout: Layout,
    record: u8,
) -> Result<Extent, BodyError> {
    let input = region.get(start..).unwrap_or_default();
    let (rest, priority_byte) = placed(region, Stage::RecordHead { record }, head(input))?;
    let stage = Stage::IoHeader { record };
    let (at_total, ()) = placed(region, stage, io_header(rest, layout))?;
    let (groups, stated) = placed(region, stage, io::count(at_total, layout))?;
    let (rest, counted) = io::delimit(region, groups, layout, record)?;
    if counted != u32::from(stated) {
        let reason = BodyReason::IoTotal { stated, counted };
        return Err(BodyError {
            stage,
            offset: region.len() - at_total.len(),
            reason,
        });
    }
    Ok(Extent {
        end: region.len() - rest.len(),
        priority_byte,
        io_total: stated,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::vec::Vec;

    const LAYOUTS: [Layout; 4] = [
        Layout::Codec8,
        Layout::Codec8With16,
        Layout::Codec8E,
        Layout::Codec16,
    ];

    // A record with one element in each group.
    fn record(layout: Layout) -> Vec<u8> {
        let wide = |number: u8, bytes: usize| std::iter::repeat_n(0, bytes - 1).chain([number]);
        let mut record: Vec<u8> = (0..24).collect();
        record.extend(wide(9, layout.id_bytes()));
        record.extend(layout.codec().has_generation_type().then_some(7));
        let groups = [1, 2, 4, 8].map(Some).into_iter();
        let extra = match layout {
            Layout::Codec8With16 => Some(Some(16)),
            Layout::Codec8E => Some(None),
            _ => None,
        };
        let groups: Vec<Option<usize>> = groups.chain(extra).collect();
        record.extend(wide(groups.len() as u8, layout.count_bytes()));
        for value_bytes in groups {
            record.extend(wide(1, layout.count_bytes()));
            record.extend(wide(3, layout.id_bytes()));
            match value_bytes {
                Some(bytes) => record.extend(wide(5, bytes)),
                None => record.extend([0, 2, 5, 5]),
            }
        }
        record
    }

    // The quick reading is only an abbreviation: whatever is done to a record, both give the
    // same extent, or both refuse it.
    #[test]
    fn both_ways_to_a_records_extent_agree() {
        for layout in LAYOUTS {
            let whole = record(layout);
            let (mut accepted, mut refused) = (0, 0);
            let mut compare = |bytes: &[u8]| {
                let quick = extent(bytes, 1, layout).map(|e| (e.end, e.priority_byte, e.io_total));
                let slow = extent_by_field(bytes, 1, layout, 0);
                let slow = slow.map(|e| (e.end, e.priority_byte, e.io_total)).ok();
                assert_eq!(quick, slow, "{layout:?} {bytes:?}");
                *if quick.is_some() {
                    &mut accepted
                } else {
                    &mut refused
                } += 1;
            };
            let mut padded = std::vec![0xEE];
            padded.extend(&whole);
            compare(&padded);
            for end in 0..padded.len() {
                compare(&padded[..end]);
            }
            for at in 1..padded.len() {
                for value in 0..=u8::MAX {
                    let mut changed = padded.clone();
                    changed[at] = value;
                    compare(&changed);
                    changed.push(0);
                    compare(&changed);
                }
            }
            assert!(accepted > 1000 && refused > 1000, "{layout:?}");
        }
    }

    #[test]
    fn every_byte_of_both_enums_survives() {
        let (mut priorities, mut types) = (0, 0);
        for byte in 0..=u8::MAX {
            let priority = Priority::from_byte(byte);
            assert_eq!(priority.as_byte(), byte);
            priorities += usize::from(!matches!(priority, Priority::Other(_)));
            let generation_type = GenerationType::from_byte(byte);
            assert_eq!(generation_type.as_byte(), byte);
            types += usize::from(!matches!(generation_type, GenerationType::Other(_)));
        }
        assert_eq!((priorities, types), (3, 8));
    }
}
