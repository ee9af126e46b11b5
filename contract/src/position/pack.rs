//! Positions to bytes.
//!
//! Invariant: the same position becomes the same bytes, wherever in an envelope it stands.

use std::fmt;

use rmp::encode;
use serde_json::Value;

use super::{
    Impossible, Member, PACKED_BYTES_MAX, POSITIONS_MAX, Position, PositionError, VERSION, named,
};

/// One position that can be, in its wire form: what [`unpack_one`](super::unpack_one) reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Judges and packs.
    /// # Errors
    /// As [`Position::check`].
    pub fn of(position: &Position) -> Result<Self, Impossible> {
        Self::with::<&str>(position, &[])
    }

    /// As [`Packed::of`], with more attributes than the position itself has. Of those that have one
    /// name the last counts.
    /// # Errors
    /// As [`Position::check`].
    pub fn with<N: AsRef<str>>(
        position: &Position,
        more: &[(N, Value)],
    ) -> Result<Self, Impossible> {
        let more = more.iter().map(|(name, value)| (name.as_ref(), value));
        let mut members: Vec<_> = more.rev().chain(named(&position.attributes)).collect();
        // Stable: what came last is the first of its name.
        members.sort_by_key(|(name, _)| *name);
        members.dedup_by_key(|(name, _)| *name);
        position.check_with(members.iter().copied())?;
        let mut bytes = Vec::with_capacity(NUMBERS_BYTES_MAX + members.len() * MEMBER_BYTES);
        put_position(&mut bytes, position, &members);
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The wire form.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Packs all of them.
/// # Errors
/// [`PositionError::Empty`], [`PositionError::TooMany`], [`PositionError::TooLarge`],
/// [`PositionError::Impossible`].
pub fn pack(positions: &[Position]) -> Result<Vec<u8>, PositionError> {
    if positions.is_empty() {
        return Err(PositionError::Empty);
    }
    if positions.len() > POSITIONS_MAX {
        return Err(PositionError::TooMany {
            positions: positions.len(),
        });
    }
    let packed = positions.iter().enumerate().map(|(index, position)| {
        Packed::of(position).map_err(|source| PositionError::Impossible { index, source })
    });
    let packed: Vec<_> = packed.collect::<Result<_, _>>()?;
    let (count, joined) = join_some(&packed);
    if count < positions.len() {
        return Err(PositionError::TooLarge {
            bytes: PACKED_BYTES_MAX + 1,
        });
    }
    Ok(joined)
}

/// Puts as many from the front as go into one envelope, and says how many those were: at least one,
/// if there is one.
#[must_use]
pub fn join_some(positions: &[Packed]) -> (usize, Vec<u8>) {
    let (mut count, mut bytes) = (0, HEADER_BYTES_MAX);
    for position in positions.iter().take(POSITIONS_MAX) {
        bytes += position.0.len();
        // One position alone is far smaller: its attributes are bounded.
        if count > 0 && bytes > PACKED_BYTES_MAX {
            break;
        }
        count += 1;
    }
    let mut out = Vec::with_capacity(bytes);
    put(encode::write_array_len(&mut out, 2));
    put(encode::write_uint(&mut out, VERSION.into()));
    put(encode::write_array_len(&mut out, length(count)));
    for position in positions.iter().take(count) {
        out.extend_from_slice(&position.0);
    }
    (count, out)
}

/// Head, time, and six numbers of a position.
const NUMBERS_BYTES_MAX: usize = 1 + 9 + 6 * 9;

/// What a name and its value usually take.
const MEMBER_BYTES: usize = 24;

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

fn put_position(out: &mut Vec<u8>, position: &Position, members: &[Member<'_>]) {
    put(encode::write_array_len(out, FIELDS));
    put(encode::write_sint(out, position.time_ms));
    put_number(out, Some(position.latitude));
    put_number(out, Some(position.longitude));
    put_number(out, position.altitude_m);
    put_number(out, position.heading_deg);
    put_number(out, position.speed_kmh);
    put_number(out, position.accuracy_m);
    put_members(out, members);
}

fn put_number(out: &mut Vec<u8>, number: Option<f64>) {
    match number {
        // Minus nought becomes nought: the same place must be the same bytes.
        Some(number) => put(encode::write_f64(out, number + 0.0)),
        None => put(encode::write_nil(out)),
    }
}

/// `members`: sorted by their names.
fn put_members(out: &mut Vec<u8>, members: &[Member<'_>]) {
    put(encode::write_map_len(out, length(members.len())));
    for (name, value) in members {
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
        Value::Object(members) => {
            let mut members: Vec<_> = named(members).collect();
            // Sorted already, unless a crate beside us asks for another map.
            members.sort_by_key(|(name, _)| *name);
            put_members(out, &members);
        }
    }
}
