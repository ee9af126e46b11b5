//! serde: views and owned values in one shape, so that what was written from a view reads
//! back as an owned value.
//!
//! Priorities, generation types and codecs are their bytes; the width of an IO element is
//! its number of bytes, null in the variable group; values are bytes, in text formats as
//! hexadecimal digits, because eight-byte numbers do not survive every reader of JSON.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::avl::AvlData;
use crate::codec_id::{AvlCodec, CodecId};
use crate::codec7::{Codec7Data, Codec7Record};
use crate::io::{IoElement, IoWidth};
use crate::record::{AvlRecord, GenerationType, Priority, RecordHead};

macro_rules! as_byte {
    ($($type:ident),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.as_byte())
            }
        }
    )*};
}
as_byte!(Priority, GenerationType, AvlCodec);

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
        u8::deserialize(deserializer).map(Priority::from_byte)
    }
}

impl<'de> Deserialize<'de> for GenerationType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GenerationType, D::Error> {
        u8::deserialize(deserializer).map(GenerationType::from_byte)
    }
}

impl<'de> Deserialize<'de> for AvlCodec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AvlCodec, D::Error> {
        let byte = u8::deserialize(deserializer)?;
        CodecId::from_byte(byte).avl().ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Unsigned(byte.into()), &"8, 142 or 16")
        })
    }
}

impl Serialize for IoWidth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // At most 16.
        self.bytes().map(|bytes| bytes as u8).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IoWidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<IoWidth, D::Error> {
        match Option::<u8>::deserialize(deserializer)? {
            None => Ok(IoWidth::Variable),
            Some(1) => Ok(IoWidth::B1),
            Some(2) => Ok(IoWidth::B2),
            Some(4) => Ok(IoWidth::B4),
            Some(8) => Ok(IoWidth::B8),
            Some(16) => Ok(IoWidth::B16),
            Some(other) => Err(D::Error::invalid_value(
                Unexpected::Unsigned(other.into()),
                &"1, 2, 4, 8, 16 or null",
            )),
        }
    }
}

struct Value<'a>(&'a [u8]);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(self.0)
        }
    }
}

impl Serialize for IoElement<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("IoElement", 3)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("width", &self.width)?;
        fields.serialize_field("bytes", &Value(self.bytes))?;
        fields.end()
    }
}

/// An iterator as a sequence.
struct Sequence<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Sequence<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

fn record<'a, S: Serializer>(
    head: &RecordHead,
    io: impl Iterator<Item = IoElement<'a>> + Clone,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("AvlRecord", 11)?;
    fields.serialize_field("timestamp_ms", &head.timestamp_ms)?;
    fields.serialize_field("priority", &head.priority)?;
    fields.serialize_field("longitude_e7", &head.longitude_e7)?;
    fields.serialize_field("latitude_e7", &head.latitude_e7)?;
    fields.serialize_field("altitude_m", &head.altitude_m)?;
    fields.serialize_field("angle_deg", &head.angle_deg)?;
    fields.serialize_field("satellites", &head.satellites)?;
    fields.serialize_field("speed_kmh", &head.speed_kmh)?;
    fields.serialize_field("event_io_id", &head.event_io_id)?;
    fields.serialize_field("generation_type", &head.generation_type)?;
    fields.serialize_field("io", &Sequence(io))?;
    fields.end()
}

fn data<S: Serializer>(
    codec: AvlCodec,
    has_16_byte_group: bool,
    records: impl Iterator<Item: Serialize> + Clone,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("AvlData", 3)?;
    fields.serialize_field("codec", &codec)?;
    fields.serialize_field("has_16_byte_group", &has_16_byte_group)?;
    fields.serialize_field("records", &Sequence(records))?;
    fields.end()
}

impl Serialize for AvlRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        record(&self.head(), self.io(), serializer)
    }
}

impl Serialize for AvlData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        data(
            self.codec(),
            self.has_16_byte_group(),
            self.records(),
            serializer,
        )
    }
}

impl Serialize for Codec7Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Codec7Record", 5)?;
        fields.serialize_field("timestamp_ms", &self.timestamp_ms)?;
        fields.serialize_field("priority", &self.priority)?;
        fields.serialize_field("global_mask", &self.global_mask)?;
        fields.serialize_field("gps", &self.gps)?;
        fields.serialize_field("io", &Sequence(self.io()))?;
        fields.end()
    }
}

impl Serialize for Codec7Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Codec7Data", 1)?;
        fields.serialize_field("records", &Sequence(self.records()))?;
        fields.end()
    }
}

#[cfg(feature = "alloc")]
mod owned {
    use alloc::vec::Vec;

    use serde::de::{SeqAccess, Visitor};

    use super::*;
    use crate::owned::{OwnedAvlData, OwnedRecord};

    impl Serialize for OwnedRecord<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            record(self, self.io(), serializer)
        }
    }

    impl Serialize for OwnedAvlData {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            data(
                self.codec(),
                self.has_16_byte_group(),
                self.records(),
                serializer,
            )
        }
    }

    #[derive(serde::Deserialize)]
    #[serde(rename = "AvlData")]
    struct Data {
        codec: AvlCodec,
        has_16_byte_group: bool,
        records: Vec<Record>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename = "AvlRecord")]
    struct Record {
        timestamp_ms: u64,
        priority: Priority,
        longitude_e7: i32,
        latitude_e7: i32,
        altitude_m: i16,
        angle_deg: u16,
        satellites: u8,
        speed_kmh: u16,
        event_io_id: u16,
        generation_type: Option<GenerationType>,
        io: Vec<Element>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename = "IoElement")]
    struct Element {
        id: u16,
        width: IoWidth,
        bytes: OwnedValue,
    }

    struct OwnedValue(Vec<u8>);

    impl<'de> Deserialize<'de> for OwnedValue {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OwnedValue, D::Error> {
            if deserializer.is_human_readable() {
                deserializer.deserialize_str(ValueVisitor)
            } else {
                deserializer.deserialize_bytes(ValueVisitor)
            }
        }
    }

    struct ValueVisitor;

    impl<'de> Visitor<'de> for ValueVisitor {
        type Value = OwnedValue;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes, or pairs of hexadecimal digits")
        }

        fn visit_str<E: Error>(self, digits: &str) -> Result<OwnedValue, E> {
            let nibble = |digit: u8| (digit as char).to_digit(16);
            let pair = |&[high, low]: &[u8; 2]| Some((nibble(high)? << 4 | nibble(low)?) as u8);
            let (pairs, odd) = digits.as_bytes().as_chunks();
            let bytes = pairs.iter().map(pair).collect::<Option<Vec<u8>>>();
            match bytes {
                Some(bytes) if odd.is_empty() => Ok(OwnedValue(bytes)),
                _ => Err(E::invalid_value(Unexpected::Str(digits), &self)),
            }
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<OwnedValue, E> {
            Ok(OwnedValue(bytes.to_vec()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OwnedValue, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(OwnedValue(bytes))
        }
    }

    impl<'de> Deserialize<'de> for OwnedAvlData {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OwnedAvlData, D::Error> {
            let data = Data::deserialize(deserializer)?;
            let mut owned = OwnedAvlData::empty(data.codec, data.has_16_byte_group);
            for record in data.records {
                let fits = |element: &Element| {
                    let bytes = element.width.bytes();
                    bytes.is_none_or(|bytes| bytes == element.bytes.0.len())
                };
                if let Some(odd) = record.io.iter().find(|element| !fits(element)) {
                    return Err(D::Error::invalid_length(
                        odd.bytes.0.len(),
                        &"as many bytes as the width says",
                    ));
                }
                let head = RecordHead {
                    timestamp_ms: record.timestamp_ms,
                    priority: record.priority,
                    longitude_e7: record.longitude_e7,
                    latitude_e7: record.latitude_e7,
                    altitude_m: record.altitude_m,
                    angle_deg: record.angle_deg,
                    satellites: record.satellites,
                    speed_kmh: record.speed_kmh,
                    event_io_id: record.event_io_id,
                    generation_type: record.generation_type,
                };
                let io = record.io.iter().map(|element| IoElement {
                    id: element.id,
                    width: element.width,
                    bytes: &element.bytes.0,
                });
                owned.push(head, io);
            }
            Ok(owned)
        }
    }
}
