//! Pure: no I/O, no clock.
//!
//! An array of maps in MsgPack, one item at a time.
//!
//! Why every item is measured before it is read: see [`super::json`]; and a head that claims four
//! billion elements is believed only as far as there are bytes.
//!
//! Source: the MessagePack specification, "Formats".

use contract::Device;

use super::item::Object;
use super::{BodyError, ITEM_BYTES_MAX, Item, Sink};

/// An array of items, or one item alone.
pub(super) fn array(
    body: &[u8],
    device: Option<&Device>,
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    let mut rest = body;
    let count = match body.first() {
        Some(0x90..=0x9f | 0xdc | 0xdd) => {
            let (_, elements) = head(&mut rest).ok_or_else(cut_short)?;
            elements
        }
        Some(0x80..=0x8f | 0xde | 0xdf) => 1,
        _ => return Err(BodyError::malformed("an array of maps was expected")),
    };
    for _ in 0..count {
        let item = take(&mut rest).ok_or_else(cut_short)?;
        sink.push(one(item, device))?;
    }
    match rest {
        [] => Ok(()),
        _ => Err(BodyError::malformed("bytes behind the end of the array")),
    }
}

fn cut_short() -> BodyError {
    BodyError::malformed("the body ends inside an item")
}

fn one(item: &[u8], device: Option<&Device>) -> Result<Item, String> {
    if item.len() > ITEM_BYTES_MAX {
        return Err(format!("larger than {ITEM_BYTES_MAX} bytes"));
    }
    let object: Object<'_> = rmp_serde::from_slice(item).map_err(|error| error.to_string())?;
    object.item(device)
}

/// The bytes of one value. A loop and a count in place of a recursion: depth costs nothing.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let from = *rest;
    let mut pending = 1_u64;
    while pending > 0 {
        let (skip, elements) = head(rest)?;
        *rest = rest.get(usize::try_from(skip).ok()?..)?;
        pending = pending - 1 + elements;
    }
    from.get(..from.len() - rest.len())
}

/// Reads a head: how many bytes follow it, and how many values.
fn head(rest: &mut &[u8]) -> Option<(u64, u64)> {
    let (&marker, behind) = rest.split_first()?;
    *rest = behind;
    let mut length = |bytes: usize| {
        let (found, behind) = rest.split_at_checked(bytes)?;
        *rest = behind;
        Some(
            found
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    Some(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
        0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
        0xc4 | 0xd9 => (length(1)?, 0),
        0xc5 | 0xda => (length(2)?, 0),
        0xc6 | 0xdb => (length(4)?, 0),
        0xc7 => (length(1)? + 1, 0),
        0xc8 => (length(2)? + 1, 0),
        0xc9 => (length(4)? + 1, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4 => (2, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (0, length(2)?),
        0xdd => (0, length(4)?),
        0xde => (0, 2 * length(2)?),
        0xdf => (0, 2 * length(4)?),
        // 0xc1 is never used.
        _ => return None,
    })
}
