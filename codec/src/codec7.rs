//! Codec 7, the records of the GH3000 family: masks say which fields there are, positions
//! are floats with the latitude first, and time counts from 2007.
//!
//! Sources: the vendor's C# parser 1.8.1 (`Codec7.cs`) and Traccar's decoder. No public
//! vendor example was found; two recorded frames with good checksums read this way.
//!
//! Invariant: as for [`AvlData`](crate::AvlData): whoever holds a [`Codec7Data`] holds
//! bytes that were walked once and came out even.

use core::fmt;

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::{cond, map};
use nom::number::complete::{be_f32, be_i16, be_u8, be_u16, be_u32};

use crate::avl::{came_out_even, ends, unread_codec};
use crate::codec_id::CodecId;
use crate::error::{BodyError, Read, Stage, placed};
use crate::io::{Groups, IoElement, IoElements, IoWidth};
use crate::record::Priority;

/// 2007-01-01 UTC in seconds since 1970.
const EPOCH_S: u64 = 1_167_609_600;
const SECONDS_MASK: u32 = (1 << 30) - 1;

// Of the global mask.
const HAS_GPS: u8 = 1 << 0;
const IO_GROUPS: [(u8, IoWidth); 3] = [
    (1 << 1, IoWidth::B1),
    (1 << 2, IoWidth::B2),
    (1 << 3, IoWidth::B4),
];

/// A data field of Codec 7 records, still in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Codec7Data<'a> {
    records: &'a [u8],
    count: u8,
    most_urgent: Priority,
}

impl<'a> Codec7Data<'a> {
    /// Checks a data field (codec id to second count, no length, no checksum) in one walk:
    /// every record delimited, both counts equal, nothing left over. Mask bits without a
    /// meaning are ignored.
    ///
    /// # Errors
    /// [`BodyError`] with the offset of the first byte that does not fit.
    pub fn parse(data: &'a [u8]) -> Result<Codec7Data<'a>, BodyError> {
        let (codec_byte, count, second) = ends(data)?;
        if CodecId::from_byte(codec_byte) != CodecId::Codec7 {
            return Err(unread_codec(codec_byte));
        }
        let region = &data[..data.len() - 1];
        let records = &region[2..];
        let mut rest = records;
        let mut most_urgent = Priority::Low;
        for index in 0..count {
            let record;
            (rest, record) = take_record(region, rest, index)?;
            most_urgent = most_urgent.more_urgent(record.urgency());
        }
        came_out_even(region, region.len() - rest.len(), count, second)?;
        Ok(Codec7Data {
            records,
            count,
            most_urgent,
        })
    }

    /// How many records there are, 0 to 255.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// The records in the order they were sent, which need not be the order of time.
    #[must_use]
    pub const fn records(&self) -> Codec7Records<'a> {
        Codec7Records {
            rest: self.records,
            left: self.count,
        }
    }

    /// The highest urgency among the records, [`Priority::Low`] if there are none. An
    /// alarm ([`Codec7Record::is_alarm`]) counts as [`Priority::Panic`].
    #[must_use]
    pub const fn most_urgent(&self) -> Priority {
        self.most_urgent
    }
}

// Positions are personal data: logs get the shape.
impl fmt::Debug for Codec7Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec7Data")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// The records of a [`Codec7Data`].
#[derive(Debug, Clone)]
pub struct Codec7Records<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> Iterator for Codec7Records<'a> {
    type Item = Codec7Record<'a>;

    fn next(&mut self) -> Option<Codec7Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (rest, record) = take_record(self.rest, self.rest, 0).ok()?;
        self.rest = rest;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Codec7Records<'_> {}
impl core::iter::FusedIterator for Codec7Records<'_> {}

/// One Codec 7 record, its IO elements still in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codec7Record<'a> {
    /// Device clock, milliseconds since 1970-01-01 UTC; on the wire it is whole seconds
    /// since 2007 and ends in January 2041.
    pub timestamp_ms: u64,
    /// The upper two bits of the time: 0 to 3. See [`is_alarm`](Self::is_alarm).
    pub priority: Priority,
    /// Which parts the record has: bit 0 GPS, bits 1 to 3 the IO groups of 1, 2, 4 bytes.
    pub global_mask: u8,
    /// Position and radio, if the record has any of it.
    pub gps: Option<Codec7Gps>,
    /// How many IO elements the record has.
    pub io_total: u16,
    /// Exactly the record's bytes, first of the time to last of the IO elements.
    pub raw: &'a [u8],
    groups: &'a [u8],
}

/// The GPS part of a Codec 7 record, with what its mask says is there.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Codec7Gps {
    /// One bit for each of the fields below, in their order from bit 0.
    pub mask: u8,
    /// Where.
    pub position: Option<Codec7Position>,
    /// Metres above sea level. The sign is undocumented.
    pub altitude_m: Option<i16>,
    /// Heading clockwise from north in 256ths of a circle. See [`angle_deg`](Self::angle_deg).
    pub angle_raw256: Option<u8>,
    /// Speed in km/h.
    pub speed_kmh: Option<u8>,
    /// Satellites in use. Where it is left out the vendor's parser assumes 3.
    pub satellites: Option<u8>,
    /// The cell of the mobile network.
    pub cell: Option<Codec7Cell>,
    /// Quality of the mobile network's signal, as the device counts it.
    pub signal: Option<u8>,
    /// Code of the mobile network's operator.
    pub operator: Option<u32>,
}

/// A position as floats. On the wire the latitude comes first, unlike in every other codec.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Codec7Position {
    /// Degrees north as sent; anything, NaN included.
    pub latitude_deg: f32,
    /// Degrees east as sent; anything, NaN included.
    pub longitude_deg: f32,
}

/// A cell of the mobile network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Codec7Cell {
    /// Location area code.
    pub lac: u16,
    /// Cell id.
    pub cell_id: u16,
}

impl<'a> Codec7Record<'a> {
    /// Priority 3, which the vendor's parser reports as an alarm.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        self.priority.as_byte() == 3
    }

    /// The IO elements in the order they were sent, ids at most 255, widths 1, 2 and 4.
    #[must_use]
    pub fn io(&self) -> IoElements<'a> {
        IoElements::narrow(self.groups, groups_in(self.global_mask), self.io_total)
    }

    /// The first IO element with this id.
    #[must_use]
    pub fn io_element(&self, id: u16) -> Option<IoElement<'a>> {
        self.io().find(|element| element.id == id)
    }

    fn urgency(&self) -> Priority {
        if self.is_alarm() {
            Priority::Panic
        } else {
            self.priority
        }
    }
}

impl Codec7Gps {
    /// Heading in degrees clockwise from north, 0 up to 359, rounded to the nearest.
    #[must_use]
    pub fn angle_deg(&self) -> Option<u16> {
        let raw256 = u16::from(self.angle_raw256?);
        Some((raw256 * 45 + 16) / 32)
    }
}

impl Codec7Position {
    /// Degrees north × 10^7, the nearest to the float; `None` beyond ±90 and for NaN.
    #[must_use]
    pub fn latitude_e7(&self) -> Option<i32> {
        e7(self.latitude_deg, 90.0)
    }

    /// Degrees east × 10^7, the nearest to the float; `None` beyond ±180 and for NaN.
    #[must_use]
    pub fn longitude_e7(&self) -> Option<i32> {
        e7(self.longitude_deg, 180.0)
    }
}

// Exact until the cut: a float has 24 significant bits and 10^7 takes 24 more, so the
// product fits the 53 of a double, and so does half a unit on top wherever it matters.
fn e7(degrees: f32, degrees_max: f32) -> Option<i32> {
    if !(-degrees_max..=degrees_max).contains(&degrees) {
        return None;
    }
    let scaled = f64::from(degrees) * 1e7;
    Some((scaled + 0.5_f64.copysign(scaled)) as i32)
}

fn groups_in(global_mask: u8) -> Groups {
    IO_GROUPS
        .iter()
        .filter(|(bit, _)| global_mask & bit != 0)
        .fold(Groups::NONE, |groups, &(_, width)| groups.with(width))
}

fn time(input: &[u8]) -> Read<'_, (u64, Priority)> {
    map(be_u32, |word| {
        let seconds = EPOCH_S + u64::from(word & SECONDS_MASK);
        (seconds * 1000, Priority::from_byte((word >> 30) as u8))
    })
    .parse(input)
}

fn gps(input: &[u8]) -> Read<'_, Codec7Gps> {
    let (input, mask) = be_u8(input)?;
    let has = |bit: u8| mask & 1 << bit != 0;
    let position = map((be_f32, be_f32), |(latitude_deg, longitude_deg)| {
        Codec7Position {
            latitude_deg,
            longitude_deg,
        }
    });
    let cell = map((be_u16, be_u16), |(lac, cell_id)| Codec7Cell {
        lac,
        cell_id,
    });
    let fields = (
        cond(has(0), position),
        cond(has(1), be_i16),
        cond(has(2), be_u8),
        cond(has(3), be_u8),
        cond(has(4), be_u8),
        cond(has(5), cell),
        cond(has(6), be_u8),
        cond(has(7), be_u32),
    );
    map(
        fields,
        |(position, altitude_m, angle_raw256, speed_kmh, satellites, cell, signal, operator)| {
            Codec7Gps {
                mask,
                position,
                altitude_m,
                angle_raw256,
                speed_kmh,
                satellites,
                cell,
                signal,
                operator,
            }
        },
    )
    .parse(input)
}

type Head = (u64, Priority, u8, Option<Codec7Gps>);

fn head(input: &[u8]) -> Read<'_, Head> {
    let (input, (timestamp_ms, priority)) = time(input)?;
    let (input, global_mask) = be_u8(input)?;
    let (input, gps) = cond(global_mask & HAS_GPS != 0, gps).parse(input)?;
    Ok((input, (timestamp_ms, priority, global_mask, gps)))
}

/// Offsets of errors count in `region`, of which `input` is a tail.
fn take_record<'a>(
    region: &'a [u8],
    input: &'a [u8],
    record: u8,
) -> Result<(&'a [u8], Codec7Record<'a>), BodyError> {
    let stage = Stage::RecordHead { record };
    let (groups, (timestamp_ms, priority, global_mask, gps)) = placed(region, stage, head(input))?;
    let mut rest = groups;
    let mut io_total = 0;
    for (bit, width) in IO_GROUPS {
        if global_mask & bit == 0 {
            continue;
        }
        let stage = Stage::IoGroup { record, width };
        let element_bytes = 1 + width.bytes().unwrap_or_default();
        let (after, count) = placed(region, stage, be_u8(rest))?;
        (rest, _) = placed(
            region,
            stage,
            take(usize::from(count) * element_bytes)(after),
        )?;
        io_total += u16::from(count);
    }
    let record = Codec7Record {
        timestamp_ms,
        priority,
        global_mask,
        gps,
        io_total,
        raw: &input[..input.len() - rest.len()],
        groups: &groups[..groups.len() - rest.len()],
    };
    Ok((rest, record))
}
