//! One AVL record: when, how urgent, where, and what the inputs said.
//!
//! The head is the same 24 bytes in every codec; what follows it differs only in the
//! width of ids and counts. Nothing is judged: an unknown priority or generation type is
//! kept, and a position without a fix is handed on as sent.

use nom::Parser;
use nom::combinator::{cond, map};
use nom::number::complete::{be_i16, be_i32, be_u8, be_u16, be_u64};

use crate::codec_id::AvlCodec;
use crate::error::{BodyError, BodyReason, Read, Stage, placed};
use crate::io::{self, IoElements};

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
    groups: &'a [u8],
    codec: AvlCodec,
}

impl<'a> AvlRecord<'a> {
    /// The IO elements in the order they were sent.
    #[must_use]
    pub fn io(&self) -> IoElements<'a> {
        IoElements::new(self.groups, self.codec, self.io_total)
    }
}

struct Head {
    timestamp_ms: u64,
    priority: Priority,
    longitude_e7: i32,
    latitude_e7: i32,
    altitude_m: i16,
    angle_deg: u16,
    satellites: u8,
    speed_kmh: u16,
}

fn head(input: &[u8]) -> Read<'_, Head> {
    let position = (be_i32, be_i32, be_i16, be_u16, be_u8, be_u16);
    let fields = (be_u64, map(be_u8, Priority::from_byte), position);
    map(fields, |(timestamp_ms, priority, position)| {
        let (longitude_e7, latitude_e7, altitude_m, angle_deg, satellites, speed_kmh) = position;
        Head {
            timestamp_ms,
            priority,
            longitude_e7,
            latitude_e7,
            altitude_m,
            angle_deg,
            satellites,
            speed_kmh,
        }
    })
    .parse(input)
}

type IoHeader = (u16, Option<GenerationType>);

fn io_header(input: &[u8], codec: AvlCodec) -> Read<'_, IoHeader> {
    let generation_type = cond(
        codec.has_generation_type(),
        map(be_u8, GenerationType::from_byte),
    );
    (|input| io::id(input, codec), generation_type).parse(input)
}

/// Reads the record at the front of `input`; offsets of errors count in `region`, of
/// which `input` is a tail.
pub(crate) fn take_record<'a>(
    region: &'a [u8],
    input: &'a [u8],
    codec: AvlCodec,
    record: u8,
) -> Result<(&'a [u8], AvlRecord<'a>), BodyError> {
    let (rest, head) = placed(region, Stage::RecordHead { record }, head(input))?;
    let stage = Stage::IoHeader { record };
    let (at_total, (event_io_id, generation_type)) = placed(region, stage, io_header(rest, codec))?;
    let (groups, io_total) = placed(region, stage, io::count(at_total, codec))?;
    let (rest, counted) = io::delimit(region, groups, codec, record)?;
    // The one redundancy inside a record, and what gives away a layout that is not ours:
    // some firmware appends a group of 16-byte values to Codec 8 and counts it in here.
    if counted != u32::from(io_total) {
        let reason = BodyReason::IoTotal {
            stated: io_total,
            counted,
        };
        return Err(BodyError {
            stage,
            offset: region.len() - at_total.len(),
            reason,
        });
    }
    let record = AvlRecord {
        timestamp_ms: head.timestamp_ms,
        priority: head.priority,
        longitude_e7: head.longitude_e7,
        latitude_e7: head.latitude_e7,
        altitude_m: head.altitude_m,
        angle_deg: head.angle_deg,
        satellites: head.satellites,
        speed_kmh: head.speed_kmh,
        event_io_id,
        generation_type,
        io_total,
        raw: &input[..input.len() - rest.len()],
        groups: &groups[..groups.len() - rest.len()],
        codec,
    };
    Ok((rest, record))
}
