//! AVL records of codecs 8, 8 Extended and 16.

use super::{EncodeError, framed};
use crate::codec_id::AvlCodec;
use crate::record::{GenerationType, Priority};
use crate::sink::Sink;

/// One record to write. Fields and units as in [`AvlRecord`](crate::AvlRecord).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RecordSpec<'a> {
    pub timestamp_ms: u64,
    pub priority: Priority,
    pub longitude_e7: i32,
    pub latitude_e7: i32,
    pub altitude_m: i16,
    pub angle_deg: u16,
    pub satellites: u8,
    pub speed_kmh: u16,
    pub event_io_id: u16,
    /// Written by Codec 16 only.
    pub generation_type: GenerationType,
    /// In any order: they are written by width, and within a width as they stand here.
    pub io: &'a [IoSpec<'a>],
}

impl Default for RecordSpec<'_> {
    /// A periodic record of low priority, without fix, time or elements.
    fn default() -> Self {
        RecordSpec {
            timestamp_ms: 0,
            priority: Priority::Low,
            longitude_e7: 0,
            latitude_e7: 0,
            altitude_m: 0,
            angle_deg: 0,
            satellites: 0,
            speed_kmh: 0,
            event_io_id: 0,
            generation_type: GenerationType::Periodical,
            io: &[],
        }
    }
}

impl RecordSpec<'_> {
    fn has_sixteens(&self) -> bool {
        self.io
            .iter()
            .any(|element| element.value.group() == SIXTEENS)
    }
}

/// One IO element to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoSpec<'a> {
    /// At most 255 in Codec 8.
    pub id: u16,
    /// The value, whose variant decides the group.
    pub value: IoValue<'a>,
}

/// A value and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoValue<'a> {
    /// One byte.
    U8(u8),
    /// Two bytes.
    U16(u16),
    /// Four bytes.
    U32(u32),
    /// Eight bytes.
    U64(u64),
    /// Sixteen bytes, Codec 8 only: the group that some special firmware appends. If one
    /// record has such a value, every record of the frame gets the group.
    B16([u8; 16]),
    /// The variable group, Codec 8 Extended only; at most 65 535 bytes, possibly none.
    Bytes(&'a [u8]),
}

// Groups of fixed width up to eight bytes are 0 to 3. No codec has both of these.
const SIXTEENS: usize = 4;
const VARIABLE: usize = 5;

impl IoValue<'_> {
    // Groups in the order of the wire.
    const fn group(&self) -> usize {
        match self {
            IoValue::U8(_) => 0,
            IoValue::U16(_) => 1,
            IoValue::U32(_) => 2,
            IoValue::U64(_) => 3,
            IoValue::B16(_) => SIXTEENS,
            IoValue::Bytes(_) => VARIABLE,
        }
    }
}

/// Writes a whole frame of AVL records.
///
/// # Errors
/// [`EncodeError`] naming what the codec cannot say; then nothing was written.
pub fn avl_frame(
    codec: AvlCodec,
    records: &[RecordSpec<'_>],
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    framed(sink, &|sink| write_avl(codec, records, sink))
}

/// Writes the data field alone (codec id to second count), as spools and datagrams hold it.
///
/// # Errors
/// [`EncodeError`] naming what the codec cannot say.
pub fn avl_data(
    codec: AvlCodec,
    records: &[RecordSpec<'_>],
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    write_avl(codec, records, sink)
}

pub(super) fn write_avl(
    codec: AvlCodec,
    records: &[RecordSpec<'_>],
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    let too_many = EncodeError::TooManyRecords {
        records: records.len(),
    };
    let count = u8::try_from(records.len()).map_err(|_| too_many)?;
    sink.put(&[codec.as_byte(), count])?;
    let sixteens = codec == AvlCodec::Codec8 && records.iter().any(RecordSpec::has_sixteens);
    let last_group = match codec.has_variable_group() {
        true => Some(VARIABLE),
        false => sixteens.then_some(SIXTEENS),
    };
    for (index, record) in records.iter().enumerate() {
        write_record(codec, last_group, index, record, sink)?;
    }
    Ok(sink.put(&[count])?)
}

fn write_record(
    codec: AvlCodec,
    last_group: Option<usize>,
    index: usize,
    record: &RecordSpec<'_>,
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    sink.put(&record.timestamp_ms.to_be_bytes())?;
    sink.put(&[record.priority.as_byte()])?;
    sink.put(&record.longitude_e7.to_be_bytes())?;
    sink.put(&record.latitude_e7.to_be_bytes())?;
    sink.put(&record.altitude_m.to_be_bytes())?;
    sink.put(&record.angle_deg.to_be_bytes())?;
    sink.put(&[record.satellites])?;
    sink.put(&record.speed_kmh.to_be_bytes())?;
    write_id(codec, index, record.event_io_id, sink)?;
    if codec.has_generation_type() {
        sink.put(&[record.generation_type.as_byte()])?;
    }
    write_count(codec, index, record.io.len(), sink)?;
    if let Some(&odd) = record.io.iter().find(|element| {
        let group = element.value.group();
        group >= SIXTEENS && Some(group) != last_group
    }) {
        let (record, id) = (index, odd.id);
        return Err(match odd.value {
            IoValue::B16(_) => EncodeError::SixteenByteValue { record, id },
            _ => EncodeError::VariableValue { record, id },
        });
    }
    for group in (0..SIXTEENS).chain(last_group) {
        let elements = record
            .io
            .iter()
            .filter(|element| element.value.group() == group);
        write_count(codec, index, elements.clone().count(), sink)?;
        for element in elements {
            write_id(codec, index, element.id, sink)?;
            write_value(element.value, sink)?;
        }
    }
    Ok(())
}

fn write_id(
    codec: AvlCodec,
    record: usize,
    id: u16,
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    if codec.has_wide_ids() {
        return Ok(sink.put(&id.to_be_bytes())?);
    }
    let narrow = u8::try_from(id).map_err(|_| EncodeError::IdTooWide { record, id })?;
    Ok(sink.put(&[narrow])?)
}

fn write_count(
    codec: AvlCodec,
    record: usize,
    elements: usize,
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    let elements_max = if codec.has_wide_counts() {
        0xFFFF
    } else {
        0xFF
    };
    if elements > elements_max {
        return Err(EncodeError::TooManyElements {
            record,
            elements,
            elements_max,
        });
    }
    let [high, low] = (elements as u16).to_be_bytes();
    if codec.has_wide_counts() {
        sink.put(&[high, low])?
    } else {
        sink.put(&[low])?
    }
    Ok(())
}

pub(super) fn write_value(value: IoValue<'_>, sink: &mut dyn Sink) -> Result<(), EncodeError> {
    match value {
        IoValue::U8(value) => sink.put(&[value])?,
        IoValue::U16(value) => sink.put(&value.to_be_bytes())?,
        IoValue::U32(value) => sink.put(&value.to_be_bytes())?,
        IoValue::U64(value) => sink.put(&value.to_be_bytes())?,
        IoValue::B16(value) => sink.put(&value)?,
        IoValue::Bytes(bytes) => {
            let too_long = EncodeError::TooLong { bytes: bytes.len() };
            let length = u16::try_from(bytes.len()).map_err(|_| too_long)?;
            sink.put(&length.to_be_bytes())?;
            sink.put(bytes)?;
        }
    }
    Ok(())
}
