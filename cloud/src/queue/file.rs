//! An exported stream item as a line of a file, and back.
//!
//! Form: `{"stream": "…", "id": "5-1", "fields": [["v", "31"], …]}`: names as text where they are,
//! otherwise as `hex:…`; values in hexadecimal, byte by byte as they were.
//!
//! Pure: no I/O, no clock. Invariant: what was written is read back byte by byte.

use serde_json::{Value, json};

use crate::batch::StreamId;

/// Names and values.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Stands before a name that is no text, or begins like one.
const HEX: &str = "hex:";

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) stream: String,
    pub(super) id: StreamId,
    pub(super) fields: Fields,
}

pub(super) fn write(item: &Item) -> String {
    let fields: Vec<Value> = item
        .fields
        .iter()
        .map(|(name, value)| json!([name_text(name), hex::encode(value)]))
        .collect();
    json!({"stream": item.stream, "id": item.id.to_string(), "fields": fields}).to_string()
}

fn name_text(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.starts_with(HEX) => text.to_owned(),
        _ => format!("{HEX}{}", hex::encode(name)),
    }
}

/// Reads a line.
/// # Errors
/// A sentence: what is wrong with it.
pub(super) fn read(line: &str) -> Result<Item, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let text = |name: &str| {
        let text = value[name].as_str();
        text.ok_or_else(|| format!("there is no {name:?} in it"))
    };
    let fields = value["fields"]
        .as_array()
        .ok_or("there are no \"fields\" in it")?;
    let fields: Result<Fields, String> = fields.iter().map(field).collect();
    let fields = fields?;
    if fields.is_empty() {
        return Err("an item without fields is none".to_owned());
    }
    Ok(Item {
        stream: text("stream")?.to_owned(),
        id: text("id")?.parse().map_err(|error| format!("{error}"))?,
        fields,
    })
}

fn field(pair: &Value) -> Result<(Vec<u8>, Vec<u8>), String> {
    let wrong = || format!("{pair} is not a pair of a name and hexadecimal digits");
    let [name, value] = pair.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
        return Err(wrong());
    };
    let (name, value) = name.as_str().zip(value.as_str()).ok_or_else(wrong)?;
    let name = match name.strip_prefix(HEX) {
        Some(digits) => hex::decode(digits).map_err(|_| wrong())?,
        None => name.as_bytes().to_vec(),
    };
    Ok((name, hex::decode(value).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_readable_and_a_bad_one_says_why() {
        let item = Item {
            stream: "telemetry:teltonika".into(),
            id: "5-1".parse().unwrap(),
            fields: vec![(b"v".to_vec(), b"1".to_vec())],
        };
        let line = write(&item);
        assert!(line.contains(r#""fields":[["v","31"]]"#), "{line}");
        for (bad, why) in [
            ("", "JSON"),
            ("{}", "fields"),
            (r#"{"fields":[]}"#, "without fields"),
            (r#"{"fields":[["v","31"]]}"#, "stream"),
            (
                r#"{"stream":"s","id":"x","fields":[["v","31"]]}"#,
                "stream id",
            ),
            (
                r#"{"stream":"s","id":"1-1","fields":[["v","3"]]}"#,
                "hexadecimal",
            ),
            (r#"{"stream":"s","id":"1-1","fields":[["v"]]}"#, "pair"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(fields in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..9), proptest::collection::vec(any::<u8>(), 0..40)), 1..5),
            prefixed in any::<bool>()) {
            let mut fields = fields;
            if prefixed {
                fields[0].0 = b"hex:v".to_vec();
            }
            let item = Item { stream: "s:\u{e4}".into(), id: "7-0".parse().unwrap(), fields };
            prop_assert_eq!(read(&write(&item)).unwrap(), item);
        }
    }
}
