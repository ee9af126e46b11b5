//! What several fuzz targets need: records as owned values, made up by the fuzzer or read
//! from bytes, and compared as such.

use codec::encode::{self, Codec7Gps, Codec7Spec, EncodeError, IoSpec, IoValue, RecordSpec};
use codec::{AvlCodec, AvlData, Codec7Data, GenerationType, Imei, IoElement, Priority};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// One record. Fields as in [`codec::AvlRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
#[allow(missing_docs)]
pub struct Record {
    pub timestamp_ms: u64,
    pub priority: u8,
    pub longitude_e7: i32,
    pub latitude_e7: i32,
    pub altitude_m: i16,
    pub angle_deg: u16,
    pub satellites: u8,
    pub speed_kmh: u16,
    pub event_io_id: u16,
    pub generation_type: u8,
    pub io: Vec<Element>,
}

/// One IO element.
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
pub struct Element {
    /// IO id.
    pub id: u16,
    /// Value and group.
    pub value: Value,
}

/// A value and its group, in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
#[allow(missing_docs)]
pub enum Value {
    B1(u8),
    B2(u16),
    B4(u32),
    B8(u64),
    B16([u8; 16]),
    Variable(Vec<u8>),
}

impl Value {
    /// Which group, counted in the order of the wire.
    #[must_use]
    pub fn group(&self) -> usize {
        match self {
            Value::B1(_) => 0,
            Value::B2(_) => 1,
            Value::B4(_) => 2,
            Value::B8(_) => 3,
            Value::B16(_) => 4,
            Value::Variable(_) => 5,
        }
    }

    fn spec(&self) -> IoValue<'_> {
        match self {
            Value::B1(value) => IoValue::U8(*value),
            Value::B2(value) => IoValue::U16(*value),
            Value::B4(value) => IoValue::U32(*value),
            Value::B8(value) => IoValue::U64(*value),
            Value::B16(value) => IoValue::B16(*value),
            Value::Variable(value) => IoValue::Bytes(value),
        }
    }

    fn read(width_bytes: Option<usize>, bytes: &[u8]) -> Value {
        let right = "a group's values have its width";
        match width_bytes {
            None => Value::Variable(bytes.to_vec()),
            Some(1) => Value::B1(u8::from_be_bytes(bytes.try_into().expect(right))),
            Some(2) => Value::B2(u16::from_be_bytes(bytes.try_into().expect(right))),
            Some(4) => Value::B4(u32::from_be_bytes(bytes.try_into().expect(right))),
            Some(8) => Value::B8(u64::from_be_bytes(bytes.try_into().expect(right))),
            Some(16) => Value::B16(bytes.try_into().expect(right)),
            Some(other) => panic!("a group of {other} bytes"),
        }
    }
}

/// All records of a data field.
#[must_use]
pub fn read(avl: AvlData<'_>) -> Vec<Record> {
    let records = avl.records();
    assert_eq!(records.len(), usize::from(avl.count()));
    let read: Vec<Record> = records
        .map(|record| Record {
            timestamp_ms: record.timestamp_ms,
            priority: record.priority.as_byte(),
            longitude_e7: record.longitude_e7,
            latitude_e7: record.latitude_e7,
            altitude_m: record.altitude_m,
            angle_deg: record.angle_deg,
            satellites: record.satellites,
            speed_kmh: record.speed_kmh,
            event_io_id: record.event_io_id,
            generation_type: record.generation_type.map_or(7, GenerationType::as_byte),
            io: read_io(record.io()),
        })
        .collect();
    assert_eq!(read.len(), usize::from(avl.count()));
    read
}

fn read_io<'a>(io: impl ExactSizeIterator<Item = IoElement<'a>>) -> Vec<Element> {
    let announced = io.len();
    let elements: Vec<Element> = io
        .map(|element| Element {
            id: element.id,
            value: Value::read(element.width.bytes(), element.bytes),
        })
        .collect();
    assert_eq!(elements.len(), announced);
    elements
}

fn specs(elements: &[Element]) -> Vec<IoSpec<'_>> {
    elements
        .iter()
        .map(|element| IoSpec {
            id: element.id,
            value: element.value.spec(),
        })
        .collect()
}

/// The data field of these records.
///
/// # Errors
/// What the codec cannot say.
pub fn write(codec: AvlCodec, records: &[Record]) -> Result<Vec<u8>, EncodeError> {
    let io: Vec<Vec<IoSpec<'_>>> = records.iter().map(|record| specs(&record.io)).collect();
    let specs: Vec<RecordSpec<'_>> = records
        .iter()
        .zip(&io)
        .map(|(record, io)| RecordSpec {
            timestamp_ms: record.timestamp_ms,
            priority: Priority::from_byte(record.priority),
            longitude_e7: record.longitude_e7,
            latitude_e7: record.latitude_e7,
            altitude_m: record.altitude_m,
            angle_deg: record.angle_deg,
            satellites: record.satellites,
            speed_kmh: record.speed_kmh,
            event_io_id: record.event_io_id,
            generation_type: GenerationType::from_byte(record.generation_type),
            io,
        })
        .collect();
    let mut data = Vec::new();
    encode::avl_data(codec, &specs, &mut data)?;
    Ok(data)
}

/// An IMEI made of any number.
#[must_use]
pub fn imei(number: u64) -> Imei {
    Imei::from_u64(number % 1_000_000_000_000_000).expect("below 10^15")
}

/// The data field of what was read from one of Codec 7; empty groups and mask bits without
/// a meaning are lost.
#[must_use]
pub fn codec7_again(data: Codec7Data<'_>) -> Vec<u8> {
    let elements: Vec<Vec<Element>> = data.records().map(|record| read_io(record.io())).collect();
    let io: Vec<Vec<IoSpec<'_>>> = elements.iter().map(|io| specs(io)).collect();
    let records: Vec<Codec7Spec<'_>> = data
        .records()
        .zip(&io)
        .map(|(record, io)| Codec7Spec {
            priority: record.priority,
            timestamp_s: u32::try_from(record.timestamp_ms / 1000).expect("it ends in 2041"),
            gps: record.gps.map(|gps| Codec7Gps {
                latitude_longitude_deg: gps
                    .position
                    .map(|place| (place.latitude_deg, place.longitude_deg)),
                altitude_m: gps.altitude_m,
                angle_raw256: gps.angle_raw256,
                speed_kmh: gps.speed_kmh,
                satellites: gps.satellites,
                lac_cell: gps.cell.map(|cell| (cell.lac, cell.cell_id)),
                signal: gps.signal,
                operator: gps.operator,
            }),
            io,
        })
        .collect();
    assert_eq!(records.len(), usize::from(data.count()));
    let mut again = Vec::new();
    encode::codec7_data(&records, &mut again).expect("it was on the wire");
    again
}

/// A record of Codec 7.
#[derive(Debug, Clone, Arbitrary)]
#[allow(missing_docs)]
pub struct Codec7 {
    /// The upper two bits are the priority, the others seconds since 2007.
    pub time: u32,
    pub gps: Option<Gps>,
    pub io: Vec<Element>,
}

/// Its position part.
#[derive(Debug, Clone, Arbitrary)]
#[allow(missing_docs)]
pub struct Gps {
    pub latitude_longitude_deg: Option<(f32, f32)>,
    pub altitude_m: Option<i16>,
    pub angle_raw256: Option<u8>,
    pub speed_kmh: Option<u8>,
    pub satellites: Option<u8>,
    pub lac_cell: Option<(u16, u16)>,
    pub signal: Option<u8>,
    pub operator: Option<u32>,
}

/// The data field of these records.
///
/// # Errors
/// What Codec 7 cannot say.
pub fn write_codec7(records: &[Codec7]) -> Result<Vec<u8>, EncodeError> {
    let io: Vec<Vec<IoSpec<'_>>> = records.iter().map(|record| specs(&record.io)).collect();
    let specs: Vec<Codec7Spec<'_>> = records
        .iter()
        .zip(&io)
        .map(|(record, io)| Codec7Spec {
            priority: Priority::from_byte((record.time >> 30) as u8),
            timestamp_s: 1_167_609_600 + (record.time & 0x3FFF_FFFF),
            gps: record.gps.as_ref().map(|gps| Codec7Gps {
                latitude_longitude_deg: gps.latitude_longitude_deg,
                altitude_m: gps.altitude_m,
                angle_raw256: gps.angle_raw256,
                speed_kmh: gps.speed_kmh,
                satellites: gps.satellites,
                lac_cell: gps.lac_cell,
                signal: gps.signal,
                operator: gps.operator,
            }),
            io,
        })
        .collect();
    let mut data = Vec::new();
    encode::codec7_data(&specs, &mut data)?;
    Ok(data)
}
