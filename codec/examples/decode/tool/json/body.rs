//! The data field: records and messages.

use codec::{
    AvlCodec, AvlData, AvlRecord, BodyError, Codec7Data, Codec7Record, CodecId, GenerationType,
    IoElement, IoWidth, Message, MessageData, Priority,
};
use serde_json::{Value, json};

use super::{Object, Problem};

/// Describes a data field; offsets of problems count from the codec id.
pub(crate) fn describe(
    data: &[u8],
    object: &mut Object,
    issues: &mut Vec<String>,
) -> Result<(), Problem> {
    let codec = CodecId::from_byte(data[0]);
    let described = match codec {
        CodecId::Codec7 => codec_7(data, object),
        _ if codec.is_message() => messages(data, object, issues),
        _ => records(data, object, issues),
    };
    described.map_err(|error| Problem::new(error.stage, error.offset, error.reason.to_string()))
}

fn messages(data: &[u8], object: &mut Object, issues: &mut Vec<String>) -> Result<(), BodyError> {
    let read = MessageData::parse(data)?;
    let list: Vec<Value> = read.messages().map(message).collect();
    object.insert("messages".into(), list.into());
    object.insert("count2".into(), read.second_count().into());
    let (first, second) = (read.count(), read.second_count());
    if !read.time_in_size() {
        issues.push("the size does not count the timestamp".to_owned());
    }
    if first != second {
        issues.push(format!(
            "the second count is {second}, the first was {first}"
        ));
    }
    for (index, message) in read.messages().enumerate() {
        if let Some(wide) = message.wide_time() {
            let (ms, payload) = (wide.timestamp_ms, hex::encode(wide.payload));
            issues.push(format!(
                "message {index}: with eight bytes of time, {ms} ms, its payload is {payload}"
            ));
        }
        if message.imei_bytes.is_some() && message.imei().is_none() {
            issues.push(format!("message {index}: the IMEI is not decimal"));
        }
    }
    Ok(())
}

fn records(data: &[u8], object: &mut Object, issues: &mut Vec<String>) -> Result<(), BodyError> {
    let avl = AvlData::parse(data)?;
    if avl.has_16_byte_group() {
        issues.push("group of 16-byte values behind the 8-byte group".to_owned());
    }
    for (index, record) in avl.records().enumerate() {
        unusual(index, &record, issues);
    }
    let mut widths = vec![IoWidth::B1, IoWidth::B2, IoWidth::B4, IoWidth::B8];
    if avl.codec() == AvlCodec::Codec8E {
        widths.push(IoWidth::Variable);
    }
    if avl.has_16_byte_group() {
        widths.push(IoWidth::B16);
    }
    let list: Vec<Value> = avl
        .records()
        .map(|record| describe_record(&record, &widths))
        .collect();
    object.insert("records".into(), list.into());
    object.insert("count2".into(), avl.count().into());
    Ok(())
}

/// Bytes that are kept as they are although no document explains them.
fn unusual(index: usize, record: &AvlRecord<'_>, issues: &mut Vec<String>) {
    // 3 is "security" in an older manual.
    if let Priority::Other(priority @ 4..) = record.priority {
        issues.push(format!(
            "record {index}: priority {priority} is not documented"
        ));
    }
    if let Some(GenerationType::Other(kind)) = record.generation_type {
        issues.push(format!(
            "record {index}: generation type {kind} is not documented"
        ));
    }
}

fn describe_record(record: &AvlRecord<'_>, widths: &[IoWidth]) -> Value {
    json!({
        "timestamp_ms": record.timestamp_ms,
        "priority": record.priority.as_byte(),
        "longitude_raw": record.longitude_e7,
        "latitude_raw": record.latitude_e7,
        "altitude_m": record.altitude_m,
        "angle_deg": record.angle_deg,
        "satellites": record.satellites,
        "speed_kmh": record.speed_kmh,
        "event_id": record.event_io_id,
        "generation_type": record.generation_type.map(|kind| kind.as_byte()),
        "total_io": record.io_total,
        "groups": sizes(record.io(), widths),
        "io": record.io().map(element).collect::<Vec<_>>(),
    })
}

/// How many elements there are of each width.
fn sizes<'a>(io: impl Iterator<Item = IoElement<'a>> + Clone, widths: &[IoWidth]) -> Vec<usize> {
    let of = |width: &IoWidth| io.clone().filter(|element| element.width == *width).count();
    widths.iter().map(of).collect()
}

fn codec_7(data: &[u8], object: &mut Object) -> Result<(), BodyError> {
    let read = Codec7Data::parse(data)?;
    let list: Vec<Value> = read.records().map(codec_7_record).collect();
    object.insert("records".into(), list.into());
    object.insert("count2".into(), read.count().into());
    Ok(())
}

fn codec_7_record(record: Codec7Record<'_>) -> Value {
    let widths = [IoWidth::B1, IoWidth::B2, IoWidth::B4];
    let mut object = Object::new();
    object.insert("priority".into(), record.priority.as_byte().into());
    object.insert("timestamp_ms".into(), record.timestamp_ms.into());
    object.insert("global_mask".into(), record.global_mask.into());
    if let Some(gps) = record.gps {
        let mut part = Object::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                part.insert(name.into(), value);
            }
        };
        put("mask", Some(gps.mask.into()));
        // A float of four bytes in all its digits; null where it is no number.
        put(
            "latitude",
            gps.position.map(|at| f64::from(at.latitude_deg).into()),
        );
        put(
            "longitude",
            gps.position.map(|at| f64::from(at.longitude_deg).into()),
        );
        put("altitude_m", gps.altitude_m.map(Value::from));
        put("angle_raw256", gps.angle_raw256.map(Value::from));
        put("speed_kmh", gps.speed_kmh.map(Value::from));
        put("satellites", gps.satellites.map(Value::from));
        put("lac", gps.cell.map(|cell| cell.lac.into()));
        put("cell", gps.cell.map(|cell| cell.cell_id.into()));
        put("signal", gps.signal.map(Value::from));
        put("operator", gps.operator.map(Value::from));
        object.insert("gps".into(), part.into());
    }
    object.insert("groups".into(), sizes(record.io(), &widths).into());
    object.insert("io".into(), record.io().map(element).collect());
    object.into()
}

fn element(element: IoElement<'_>) -> Value {
    let width = element.width.bytes().map_or(Value::from("x"), Value::from);
    json!({ "id": element.id, "w": width, "hex": hex::encode(element.bytes) })
}

fn message(message: Message<'_>) -> Value {
    let mut object = Object::new();
    object.insert("type".into(), message.kind.into());
    object.insert("size".into(), message.size.into());
    if let Some(seconds) = message.timestamp_s {
        object.insert("timestamp_s".into(), seconds.into());
    }
    if let Some(bytes) = message.imei_bytes {
        object.insert("imei_hex".into(), hex::encode(bytes).into());
        let imei = message.imei().map(|imei| imei.to_string());
        object.insert("imei".into(), imei.into());
    }
    object.insert("payload_hex".into(), hex::encode(message.payload).into());
    // Payloads may be binary: no text rather than a damaged one.
    let text = std::str::from_utf8(message.payload).ok();
    object.insert("text".into(), text.into());
    object.into()
}
