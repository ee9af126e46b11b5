//! Pure: no I/O, no clock.
//!
//! A table: a row of names, then a row for each position.
//!
//! The names are the fields of an item, and `attributes.NAME` for anything else. An empty cell says
//! nothing. Source of the form: RFC 4180.

use contract::Device;
use serde_json::Number;

use super::item::{Field, Fields};
use super::osmand::guessed;
use super::{BodyError, ITEM_BYTES_MAX, Item, Sink};

const NAMES: [&str; 11] = [
    "device",
    "imei",
    "time",
    "latitude",
    "lat",
    "longitude",
    "lon",
    "altitude_m",
    "heading_deg",
    "speed_kmh",
    "accuracy_m",
];

/// Columns that are read as numbers.
const NUMBERS_FROM: usize = 3;

/// What stands in front of the name of an attribute.
const ATTRIBUTE: &str = "attributes.";

/// Columns at most: more is no table of positions.
const COLUMNS_MAX: usize = 256;

/// Longest line, in bytes. A row beyond [`ITEM_BYTES_MAX`] costs itself alone; the library remembers
/// the end of every cell, which are eight bytes for a comma, so there is an end to it.
const LINE_BYTES_MAX: usize = 16 * ITEM_BYTES_MAX;

/// A row for each position.
pub(super) fn rows(
    body: &[u8],
    device: Option<&Device>,
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut lines = body.split(|byte| *byte == b'\n');
    let names = lines.next().map_or(0, <[u8]>::len);
    if names > ITEM_BYTES_MAX || lines.any(|line| line.len() > LINE_BYTES_MAX) {
        return Err(BodyError::malformed(
            "a line that no table of positions has",
        ));
    }
    let mut reader = ::csv::ReaderBuilder::new()
        .trim(::csv::Trim::All)
        .from_reader(body);
    let names = reader.headers().map_err(BodyError::malformed)?.clone();
    if names.len() > COLUMNS_MAX {
        return Err(BodyError::malformed(
            "more columns than a table of positions has",
        ));
    }
    for (at, name) in names.iter().enumerate() {
        let is_known = NAMES.contains(&name) || name.strip_prefix(ATTRIBUTE).is_some();
        if !is_known || names.iter().take(at).any(|other| other == name) {
            let shown: String = name.chars().take(40).collect();
            return Err(BodyError::Malformed(format!(
                "column {shown:?} is unknown or there twice: the first row has the names, {} and {ATTRIBUTE}NAME",
                NAMES.join(", ")
            )));
        }
    }
    let mut row = ::csv::StringRecord::new();
    loop {
        match reader.read_record(&mut row) {
            Ok(false) => return Ok(()),
            Ok(true) => sink.push(one(&names, &row, device))?,
            Err(error) => sink.push(Err(error.to_string()))?,
        }
    }
}

fn one(
    names: &::csv::StringRecord,
    row: &::csv::StringRecord,
    device: Option<&Device>,
) -> Result<Item, String> {
    if row.as_slice().len() > ITEM_BYTES_MAX {
        return Err(format!("larger than {ITEM_BYTES_MAX} bytes"));
    }
    let (mut fields, mut attributes) = (Fields::default(), Vec::new());
    for (name, cell) in names.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        if let Some(attribute) = name.strip_prefix(ATTRIBUTE) {
            attributes.push((attribute.into(), guessed(cell)));
            continue;
        }
        let is_number = NAMES[NUMBERS_FROM..].contains(&name);
        let number = cell.parse::<f64>().ok().and_then(Number::from_f64);
        let value = match number {
            Some(number) if is_number || name == "time" => Field::Number(number),
            _ => Field::Text(cell.into()),
        };
        fields.take(name, value)?;
    }
    fields.take("attributes", Field::Members(attributes))?;
    fields.item(device)
}
