//! Positions to bytes.
//!
//! Invariant: the same position becomes the same bytes, wherever in an envelope it stands.

use std::fmt;

use rmp::encode;
use serde_json::{Map, Value};

use super::{PACKED_BYTES_MAX, POSITIONS_MAX, Position, PositionError, VERSION};

/// Packs all of them.
/// # Errors
/// [`PositionError::Empty`], [`PositionError::TooMany`], [`PositionError::TooLarge`],
/// [`PositionError::Impossible`].
pub fn pack(positions: &[Position]) -> Result<Vec<u8>, PositionError> {
    if positions.len() > POSITIONS_MAX {
        return Err(PositionError::TooMany {
            positions: positions.len(),
        });
    }
    let (count, packed) = pack_some(positions)?;
    if count < positions.len() {
        return Err(PositionError::TooLarge {
            bytes: PACKED_BYTES_MAX + 1,
        });
    }
    Ok(packed)
}

/// Packs as many from the front as go into one envelope, and says how many those were: never none.
/// # Errors
/// [`PositionError::Empty`], [`PositionError::Impossible`].
pub fn pack_some(positions: &[Position]) -> Result<(usize, Vec<u8>), PositionError> {
    if positions.is_empty() {
        return Err(PositionError::Empty);
    }
    let (mut count, mut body) = (0, Vec::new());
    for (index, position) in positions.iter().take(POSITIONS_MAX).enumerate() {
        position
            .check()
            .map_err(|source| PositionError::Impossible { index, source })?;
        let before = body.len();
        put_position(&mut body, position);
        // One position alone is far smaller: its attributes are bounded.
        if count > 0 && body.len() > PACKED_BYTES_MAX - HEADER_BYTES_MAX {
            body.truncate(before);
            break;
        }
        count += 1;
    }
    let mut out = Vec::with_capacity(HEADER_BYTES_MAX + body.len());
    put(encode::write_array_len(&mut out, 2));
    put(encode::write_uint(&mut out, VERSION.into()));
    put(encode::write_array_len(&mut out, length(count)));
    out.append(&mut body);
    Ok((count, out))
}

/// Array of two, version, array of up to 512.
const HEADER_BYTES_MAX: usize = 1 + 1 + 3;

/// Fields of one position.
pub(super) const FIELDS: u32 = 8;

/// A vector takes everything.
fn put<T, E: fmt::Debug>(written: Result<T, E>) {
    written.expect("a vector takes everything");
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("a position is far smaller")
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    put(encode::write_array_len(out, FIELDS));
    put(encode::write_sint(out, position.time_ms));
    put_number(out, Some(position.latitude));
    put_number(out, Some(position.longitude));
    put_number(out, position.altitude_m);
    put_number(out, position.heading_deg);
    put_number(out, position.speed_kmh);
    put_number(out, position.accuracy_m);
    put_members(out, &position.attributes);
}

fn put_number(out: &mut Vec<u8>, number: Option<f64>) {
    match number {
        // Minus nought becomes nought: the same place must be the same bytes.
        Some(number) => put(encode::write_f64(out, number + 0.0)),
        None => put(encode::write_nil(out)),
    }
}

fn put_members(out: &mut Vec<u8>, members: &Map<String, Value>) {
    put(encode::write_map_len(out, length(members.len())));
    // Sorted already, unless a crate beside us asks for another map.
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, value) in sorted {
        put(encode::write_str(out, name));
        put_value(out, value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => put(encode::write_nil(out)),
        Value::Bool(flag) => put(encode::write_bool(out, *flag)),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => put(encode::write_uint(out, number)),
            (None, Some(number), _) => put(encode::write_sint(out, number)),
            (None, None, number) => put(encode::write_f64(out, number.unwrap_or_default())),
        },
        Value::String(text) => put(encode::write_str(out, text)),
        Value::Array(values) => {
            put(encode::write_array_len(out, length(values.len())));
            values.iter().for_each(|value| put_value(out, value));
        }
        Value::Object(members) => put_members(out, members),
    }
}
