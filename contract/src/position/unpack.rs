//! Bytes to positions.
//!
//! Why by hand and not by serde: each position must know which bytes are its own.
//!
//! Invariants: whatever the bytes, an answer and no panic; memory and depth are bounded by what is
//! there, not by what a length claims.

use std::ops::Range;

use rmp::Marker;
use serde_json::{Map, Number, Value};

use super::pack::FIELDS;
use super::{ATTRIBUTES_DEPTH_MAX, POSITIONS_MAX, Position, PositionError, VERSION};

/// Reads them all.
/// # Errors
/// [`PositionError::Newer`] before any other judgement; [`PositionError::Bytes`],
/// [`PositionError::TooMany`].
pub fn unpack(bytes: &[u8]) -> Result<Vec<Position>, PositionError> {
    let placed = unpack_placed(bytes)?;
    Ok(placed.into_iter().map(|(position, _)| position).collect())
}

/// Reads them all, each with the place of its bytes: what identifies it.
/// # Errors
/// As [`unpack`].
pub fn unpack_placed(bytes: &[u8]) -> Result<Vec<(Position, Range<usize>)>, PositionError> {
    let mut input = Input { bytes, at: 0 };
    if input.array()? < 2 {
        return Err(input.wrong("an array of a version and positions was expected"));
    }
    let version = input.value(0)?.as_u64();
    match version {
        Some(version) if version > u64::from(VERSION) => {
            return Err(PositionError::Newer { version });
        }
        Some(version) if version == u64::from(VERSION) => {}
        _ => return Err(input.wrong("this is no version")),
    }
    let positions = input.array()?;
    if positions > POSITIONS_MAX {
        return Err(PositionError::TooMany { positions });
    }
    let mut placed = Vec::with_capacity(positions);
    for _ in 0..positions {
        let from = input.at;
        let position = input.position()?;
        placed.push((position, from..input.at));
    }
    if input.at < bytes.len() || bytes[0] != ARRAY_OF_TWO {
        return Err(input.wrong("there is something behind the positions"));
    }
    Ok(placed)
}

/// Reads the bytes of one position, as [`unpack_placed`] tells their place.
/// # Errors
/// [`PositionError::Bytes`].
pub fn unpack_one(bytes: &[u8]) -> Result<Position, PositionError> {
    let mut input = Input { bytes, at: 0 };
    let position = input.position()?;
    match input.at < bytes.len() {
        true => Err(input.wrong("there is something behind the position")),
        false => Ok(position),
    }
}

const ARRAY_OF_TWO: u8 = 0x92;

/// Bytes and how far they are read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn wrong(&self, what: &'static str) -> PositionError {
        let offset = self.at;
        PositionError::Bytes { offset, what }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], PositionError> {
        let taken = self.at.checked_add(count);
        let taken = taken.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.wrong("the bytes end here"))?;
        self.at += count;
        Ok(taken)
    }

    /// A big-endian number of `count` bytes.
    fn number(&mut self, count: usize) -> Result<u64, PositionError> {
        let bytes = self.take(count)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize, PositionError> {
        let length = self.number(count)?;
        usize::try_from(length).map_err(|_| self.wrong("this is longer than memory"))
    }

    fn marker(&mut self) -> Result<Marker, PositionError> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn array(&mut self) -> Result<usize, PositionError> {
        match self.marker()? {
            Marker::FixArray(length) => Ok(length.into()),
            Marker::Array16 => self.length(2),
            Marker::Array32 => self.length(4),
            _ => {
                self.at -= 1;
                Err(self.wrong("an array was expected"))
            }
        }
    }

    fn position(&mut self) -> Result<Position, PositionError> {
        let from = self.at;
        if self.array()? != FIELDS as usize {
            self.at = from;
            return Err(self.wrong("a position has eight fields"));
        }
        let time = self.at;
        let time_ms = self.value(0)?.as_i64();
        Ok(Position {
            time_ms: time_ms.ok_or(PositionError::Bytes {
                offset: time,
                what: "a time is a whole number",
            })?,
            latitude: self.some_float()?,
            longitude: self.some_float()?,
            altitude_m: self.float()?,
            heading_deg: self.float()?,
            speed_kmh: self.float()?,
            accuracy_m: self.float()?,
            attributes: match self.value(0)? {
                Value::Object(attributes) => attributes,
                Value::Null => Map::new(),
                _ => return Err(self.wrong("attributes are a map")),
            },
        })
    }

    fn some_float(&mut self) -> Result<f64, PositionError> {
        let float = self.float()?;
        float.ok_or_else(|| self.wrong("a position has a latitude and a longitude"))
    }

    fn float(&mut self) -> Result<Option<f64>, PositionError> {
        let from = self.at;
        match self.value(0)? {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(number.as_f64()),
            _ => Err(PositionError::Bytes {
                offset: from,
                what: "a number was expected",
            }),
        }
    }

    fn text(&mut self, length: usize) -> Result<String, PositionError> {
        let from = self.at;
        let text = self.take(length)?;
        let text = std::str::from_utf8(text).map(str::to_owned);
        text.map_err(|_| PositionError::Bytes {
            offset: from,
            what: "this is no text",
        })
    }

    fn float_of(&mut self, float: f64) -> Result<Value, PositionError> {
        let number = Number::from_f64(float).map(Value::Number);
        number.ok_or_else(|| self.wrong("infinite, or not a number"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, PositionError> {
        // Deeper than anything that is packed, and no danger to the stack.
        if depth > 2 * ATTRIBUTES_DEPTH_MAX {
            return Err(self.wrong("too deep"));
        }
        let length = match self.marker()? {
            Marker::Null => return Ok(Value::Null),
            Marker::True => return Ok(true.into()),
            Marker::False => return Ok(false.into()),
            Marker::FixPos(number) => return Ok(number.into()),
            Marker::FixNeg(number) => return Ok(number.into()),
            Marker::U8 => return Ok(self.number(1)?.into()),
            Marker::U16 => return Ok(self.number(2)?.into()),
            Marker::U32 => return Ok(self.number(4)?.into()),
            Marker::U64 => return Ok(self.number(8)?.into()),
            // The cuts below keep as many bytes as were read.
            Marker::I8 => return Ok((self.number(1)? as u8).cast_signed().into()),
            Marker::I16 => return Ok((self.number(2)? as u16).cast_signed().into()),
            Marker::I32 => return Ok((self.number(4)? as u32).cast_signed().into()),
            Marker::I64 => return Ok(self.number(8)?.cast_signed().into()),
            Marker::F32 => {
                let float = f32::from_bits(self.number(4)? as u32);
                return self.float_of(float.into());
            }
            Marker::F64 => {
                let float = f64::from_bits(self.number(8)?);
                return self.float_of(float);
            }
            Marker::FixStr(length) => (What::Text, length.into()),
            Marker::Str8 => (What::Text, self.length(1)?),
            Marker::Str16 => (What::Text, self.length(2)?),
            Marker::Str32 => (What::Text, self.length(4)?),
            Marker::FixArray(length) => (What::Array, length.into()),
            Marker::Array16 => (What::Array, self.length(2)?),
            Marker::Array32 => (What::Array, self.length(4)?),
            Marker::FixMap(length) => (What::Map, length.into()),
            Marker::Map16 => (What::Map, self.length(2)?),
            Marker::Map32 => (What::Map, self.length(4)?),
            _ => {
                self.at -= 1;
                return Err(self.wrong("neither number, text, list, map, flag nor nil"));
            }
        };
        Ok(match length {
            (What::Text, length) => self.text(length)?.into(),
            (What::Array, length) => {
                let mut values = Vec::new();
                for _ in 0..length {
                    values.push(self.value(depth + 1)?);
                }
                values.into()
            }
            (What::Map, length) => {
                let mut members = Map::new();
                for _ in 0..length {
                    let Value::String(name) = self.value(depth + 1)? else {
                        return Err(self.wrong("a name is text"));
                    };
                    members.insert(name, self.value(depth + 1)?);
                }
                members.into()
            }
        })
    }
}

enum What {
    Text,
    Array,
    Map,
}
