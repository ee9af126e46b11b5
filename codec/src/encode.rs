//! The other direction: what a device says, for simulators and tests, and the commands a
//! server sends.
//!
//! Nothing is allocated: a frame needs its length in front, so its body is written twice,
//! first to be counted, then for good with the checksum running along. Whatever cannot be
//! said on the wire (an id above 255 in Codec 8, 256 records) is found while counting,
//! before the first byte goes out.

use crate::codec_id::AvlCodec;
use crate::crc;
use crate::imei::{IMEI_DIGITS, Imei};
use crate::message::COMMAND;
use crate::record::{GenerationType, Priority};
use crate::sink::{Full, Sink};

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The sink has no room. What it took before is an incomplete message.
    #[error("the sink is full")]
    Full(#[from] Full),
    /// More than the count byte can say: send several frames.
    #[error("{records} records, a frame holds 255")]
    TooManyRecords {
        /// How many there were.
        records: usize,
    },
    /// More than the codec's count can say.
    #[error("record {record} has {elements} IO elements, this codec counts to {elements_max}")]
    TooManyElements {
        /// Which record, from 0.
        record: usize,
        /// How many elements.
        elements: usize,
        /// What the count can say.
        elements_max: usize,
    },
    /// Codec 8 has one-byte ids: use 8 Extended.
    #[error("record {record}: id {id} does not fit the one-byte ids of Codec 8")]
    IdTooWide {
        /// Which record, from 0.
        record: usize,
        /// The IO id or event IO id.
        id: u16,
    },
    /// Only Codec 8 Extended has a variable group.
    #[error("record {record}: id {id} has a variable value, only Codec 8 Extended has those")]
    VariableValue {
        /// Which record, from 0.
        record: usize,
        /// The IO id.
        id: u16,
    },
    /// Longer than the length field can say.
    #[error("{bytes} bytes do not fit the length field")]
    TooLong {
        /// How many bytes.
        bytes: usize,
    },
}

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
    /// The variable group, Codec 8 Extended only; at most 65 535 bytes, possibly none.
    Bytes(&'a [u8]),
}

impl IoValue<'_> {
    // Groups in the order of the wire.
    const fn group(&self) -> usize {
        match self {
            IoValue::U8(_) => 0,
            IoValue::U16(_) => 1,
            IoValue::U32(_) => 2,
            IoValue::U64(_) => 3,
            IoValue::Bytes(_) => 4,
        }
    }
}

/// One message to write, by codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageSpec<'a> {
    /// Type byte and payload.
    Codec12 { kind: u8, payload: &'a [u8] },
    /// With seconds since 1970-01-01 UTC, counted in the size.
    Codec13 {
        kind: u8,
        timestamp_s: u32,
        payload: &'a [u8],
    },
    /// With the IMEI it is for or from.
    Codec14 {
        kind: u8,
        imei: Imei,
        payload: &'a [u8],
    },
    /// With both.
    Codec15 {
        kind: u8,
        timestamp_s: u32,
        imei: Imei,
        payload: &'a [u8],
    },
}

/// Writes a login: 17 bytes.
///
/// # Errors
/// [`EncodeError::Full`].
pub fn login(imei: Imei, sink: &mut impl Sink) -> Result<(), EncodeError> {
    sink.put(&(IMEI_DIGITS as u16).to_be_bytes())?;
    Ok(sink.put(&imei.to_digits())?)
}

/// Writes a frame around a data field that is already there (codec id to second count).
///
/// The data field is not looked at, so tests can frame nonsense.
///
/// # Errors
/// [`EncodeError::TooLong`] above `u32::MAX` bytes, [`EncodeError::Full`].
pub fn frame(data: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| Ok(sink.put(data)?))
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

/// Writes a Codec 12 command as a whole frame. The text goes out as it is: devices want
/// no line end.
///
/// # Errors
/// [`EncodeError::TooLong`], [`EncodeError::Full`].
pub fn command(text: &[u8], sink: &mut impl Sink) -> Result<(), EncodeError> {
    message_frame(
        &MessageSpec::Codec12 {
            kind: COMMAND,
            payload: text,
        },
        sink,
    )
}

/// Writes a frame of one message: a command, or what a device answers.
///
/// # Errors
/// [`EncodeError::TooLong`], [`EncodeError::Full`].
pub fn message_frame(message: &MessageSpec<'_>, sink: &mut impl Sink) -> Result<(), EncodeError> {
    framed(sink, &|sink| write_message(message, sink))
}

type Body<'b> = &'b dyn Fn(&mut dyn Sink) -> Result<(), EncodeError>;

fn framed(sink: &mut dyn Sink, body: Body<'_>) -> Result<(), EncodeError> {
    let mut count = Count { bytes: 0 };
    body(&mut count)?;
    let length = length_field(count.bytes)?;
    sink.put(&[0; 4])?;
    sink.put(&length)?;
    let mut summed = Summed { sink, crc: 0 };
    body(&mut summed)?;
    let crc = u32::from(summed.crc);
    Ok(sink.put(&crc.to_be_bytes())?)
}

struct Count {
    bytes: usize,
}

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.bytes = self
            .bytes
            .checked_add(bytes.len())
            .ok_or(Full { bytes: bytes.len() })?;
        Ok(())
    }
}

struct Summed<'s> {
    sink: &'s mut dyn Sink,
    crc: u16,
}

impl Sink for Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.crc = crc::update(self.crc, bytes);
        self.sink.put(bytes)
    }
}

fn length_field(bytes: usize) -> Result<[u8; 4], EncodeError> {
    let length = u32::try_from(bytes).map_err(|_| EncodeError::TooLong { bytes })?;
    Ok(length.to_be_bytes())
}

fn write_avl(
    codec: AvlCodec,
    records: &[RecordSpec<'_>],
    sink: &mut dyn Sink,
) -> Result<(), EncodeError> {
    let too_many = EncodeError::TooManyRecords {
        records: records.len(),
    };
    let count = u8::try_from(records.len()).map_err(|_| too_many)?;
    sink.put(&[codec.as_byte(), count])?;
    for (index, record) in records.iter().enumerate() {
        write_record(codec, index, record, sink)?;
    }
    Ok(sink.put(&[count])?)
}

fn write_record(
    codec: AvlCodec,
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
    let groups = if codec.has_variable_group() { 5 } else { 4 };
    for group in 0..groups {
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
    match record
        .io
        .iter()
        .find(|element| element.value.group() >= groups)
    {
        Some(element) => Err(EncodeError::VariableValue {
            record: index,
            id: element.id,
        }),
        None => Ok(()),
    }
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

fn write_value(value: IoValue<'_>, sink: &mut dyn Sink) -> Result<(), EncodeError> {
    match value {
        IoValue::U8(value) => sink.put(&[value])?,
        IoValue::U16(value) => sink.put(&value.to_be_bytes())?,
        IoValue::U32(value) => sink.put(&value.to_be_bytes())?,
        IoValue::U64(value) => sink.put(&value.to_be_bytes())?,
        IoValue::Bytes(bytes) => {
            let too_long = EncodeError::TooLong { bytes: bytes.len() };
            let length = u16::try_from(bytes.len()).map_err(|_| too_long)?;
            sink.put(&length.to_be_bytes())?;
            sink.put(bytes)?;
        }
    }
    Ok(())
}

fn write_message(message: &MessageSpec<'_>, sink: &mut dyn Sink) -> Result<(), EncodeError> {
    let (codec, kind, time, imei, payload) = match *message {
        MessageSpec::Codec12 { kind, payload } => (0x0C, kind, None, None, payload),
        MessageSpec::Codec13 {
            kind,
            timestamp_s,
            payload,
        } => (0x0D, kind, Some(timestamp_s), None, payload),
        MessageSpec::Codec14 {
            kind,
            imei,
            payload,
        } => (0x0E, kind, None, Some(imei), payload),
        MessageSpec::Codec15 {
            kind,
            timestamp_s,
            imei,
            payload,
        } => (0x0F, kind, Some(timestamp_s), Some(imei), payload),
    };
    let time = time.map(u32::to_be_bytes);
    let imei = imei.map(Imei::to_bcd);
    let size =
        time.map_or(0, |time| time.len()) + imei.map_or(0, |imei| imei.len()) + payload.len();
    sink.put(&[codec, 1, kind])?;
    sink.put(&length_field(size)?)?;
    if let Some(time) = time {
        sink.put(&time)?;
    }
    if let Some(imei) = imei {
        sink.put(&imei)?;
    }
    sink.put(payload)?;
    Ok(sink.put(&[1])?)
}
