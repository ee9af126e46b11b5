//! Codec 7, as the GH3000 family speaks it: records whose masks say what is there.
//!
//! Source: the manufacturer's parser pack, Codec 7.

use super::{EncodeError, IoSpec, IoValue, framed};
use crate::record::Priority;
use crate::sink::Sink;

const CODEC_7: u8 = 0x07;
// 2007-01-01 UTC in seconds since 1970.
const EPOCH_S: u32 = 1_167_609_600;
const TIME_BITS: u32 = 30;

/// One Codec 7 record to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codec7Spec<'a> {
    /// Low to panic, or 3 (security): two bits.
    pub priority: Priority,
    /// Seconds since 1970-01-01 UTC, within 2007 to 2040.
    pub timestamp_s: u32,
    /// The position part, left out if there is none.
    pub gps: Option<Codec7Gps>,
    /// In any order; ids up to 255, values of one, two or four bytes. A group without
    /// elements is left out.
    pub io: &'a [IoSpec<'a>],
}

/// The position part of a Codec 7 record: whatever is `None` is left out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Codec7Gps {
    /// Latitude and longitude in degrees, in this order: the reverse of other codecs.
    pub latitude_longitude_deg: Option<(f32, f32)>,
    /// Metres above sea level.
    pub altitude_m: Option<i16>,
    /// Heading in steps of 360/256 degrees clockwise from north.
    pub angle_raw256: Option<u8>,
    /// Speed in km/h; 255 where it is not known.
    pub speed_kmh: Option<u8>,
    /// Satellites in use.
    pub satellites: Option<u8>,
    /// Local area code and cell id of the network.
    pub lac_cell: Option<(u16, u16)>,
    /// Signal strength of the network, as the modem counts it.
    pub signal: Option<u8>,
    /// Operator code of the network.
    pub operator: Option<u32>,
}

/// Writes a whole Codec 7 frame.
///
/// # Errors
/// [`EncodeError`] naming what the codec cannot say; then nothing was written.
pub fn codec7_frame(records: &[Codec7Spec<'_>], sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| write(records, sink))
}

/// Writes the data field of a Codec 7 frame alone (codec id to second count).
///
/// # Errors
/// [`EncodeError`] naming what the codec cannot say.
pub fn codec7_data(records: &[Codec7Spec<'_>], sink: &mut impl Sink) -> Result<(), EncodeError> {
    write(records, sink)
}

fn write(records: &[Codec7Spec<'_>], sink: &mut dyn Sink) -> Result<(), EncodeError> {
    let too_many = EncodeError::TooManyRecords {
        records: records.len(),
    };
    let count = u8::try_from(records.len()).map_err(|_| too_many)?;
    sink.put(&[CODEC_7, count])?;
    for (index, record) in records.iter().enumerate() {
        write_record(index, record, sink)?;
    }
    Ok(sink.put(&[count])?)
}

fn write_record(
    index: usize,
    record: &Codec7Spec<'_>,
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    let priority = record.priority.as_byte();
    if priority > 3 {
        return Err(EncodeError::PriorityTooWide {
            record: index,
            priority,
        });
    }
    let time = record.timestamp_s.checked_sub(EPOCH_S);
    let Some(time) = time.filter(|seconds| seconds >> TIME_BITS == 0) else {
        return Err(EncodeError::TimeOutOfRange {
            record: index,
            timestamp_s: record.timestamp_s,
        });
    };
    let mut groups = [0usize; 3];
    for element in record.io {
        let Some(group) = group_of(element.value) else {
            return Err(EncodeError::NotInCodec7 {
                record: index,
                id: element.id,
            });
        };
        groups[group] += 1;
    }
    let there = |bit: u8, is: bool| u8::from(is) << bit;
    let mask = there(0, record.gps.is_some())
        | there(1, groups[0] > 0)
        | there(2, groups[1] > 0)
        | there(3, groups[2] > 0);
    sink.put(&(u32::from(priority) << TIME_BITS | time).to_be_bytes())?;
    sink.put(&[mask])?;
    if let Some(gps) = &record.gps {
        write_gps(gps, sink)?;
    }
    for (group, elements) in groups.into_iter().enumerate().filter(|(_, n)| *n > 0) {
        let too_many = EncodeError::TooManyElements {
            record: index,
            elements,
            elements_max: 255,
        };
        sink.put(&[u8::try_from(elements).map_err(|_| too_many)?])?;
        let of_group = |element: &&IoSpec<'_>| group_of(element.value) == Some(group);
        for element in record.io.iter().filter(of_group) {
            let too_wide = EncodeError::IdTooWide {
                record: index,
                id: element.id,
            };
            sink.put(&[u8::try_from(element.id).map_err(|_| too_wide)?])?;
            super::avl::write_value(element.value, sink)?;
        }
    }
    Ok(())
}

const fn group_of(value: IoValue<'_>) -> Option<usize> {
    match value {
        IoValue::U8(_) => Some(0),
        IoValue::U16(_) => Some(1),
        IoValue::U32(_) => Some(2),
        _ => None,
    }
}

fn write_gps(gps: &Codec7Gps, sink: &mut dyn Sink) -> Result<(), EncodeError> {
    let there = [
        gps.latitude_longitude_deg.is_some(),
        gps.altitude_m.is_some(),
        gps.angle_raw256.is_some(),
        gps.speed_kmh.is_some(),
        gps.satellites.is_some(),
        gps.lac_cell.is_some(),
        gps.signal.is_some(),
        gps.operator.is_some(),
    ];
    let mask = there
        .into_iter()
        .rev()
        .fold(0u8, |mask, is| mask << 1 | u8::from(is));
    sink.put(&[mask])?;
    if let Some((latitude, longitude)) = gps.latitude_longitude_deg {
        sink.put(&latitude.to_be_bytes())?;
        sink.put(&longitude.to_be_bytes())?;
    }
    if let Some(altitude_m) = gps.altitude_m {
        sink.put(&altitude_m.to_be_bytes())?;
    }
    let single_bytes = [gps.angle_raw256, gps.speed_kmh, gps.satellites];
    for byte in single_bytes.into_iter().flatten() {
        sink.put(&[byte])?;
    }
    if let Some((lac, cell)) = gps.lac_cell {
        sink.put(&lac.to_be_bytes())?;
        sink.put(&cell.to_be_bytes())?;
    }
    if let Some(signal) = gps.signal {
        sink.put(&[signal])?;
    }
    if let Some(operator) = gps.operator {
        sink.put(&operator.to_be_bytes())?;
    }
    Ok(())
}
