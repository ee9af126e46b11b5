//! Pure: no I/O, no clock.
//!
//! From the bytes of a request to positions: one reader for each form, one meaning for all.
//!
//! Why everything goes through the same item: what a field means, which range it has and what is
//! refused must not depend on the form it came in.
//!
//! Invariants: an item that cannot be used costs itself alone, with its index and a reason; a body
//! whose items cannot be told apart is malformed as a whole; nothing here takes more memory than a
//! small multiple of the body, whatever the body says.

mod csv;
mod gpx;
mod item;
mod json;
mod msgpack;
mod osmand;

use contract::{Device, position::Packed};
use serde::Serialize;
use thiserror::Error;

pub use osmand::{Params, osmand, osmand_json};

/// Items in one batch at most.
pub const ITEMS_MAX: usize = 5_000;

/// Points in one uploaded file at most.
pub const UPLOAD_ITEMS_MAX: usize = 20_000;

/// Largest single item, in bytes as it stands in the body. What an item becomes in memory can be a
/// hundred times larger, and that must stay little.
pub const ITEM_BYTES_MAX: usize = 16 * 1024;

/// What an item takes in memory, its positions left out: its device, or why it is rejected.
const ENTRY_BYTES: usize = 256;

/// Memory for positions is asked for in such pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`: an array of objects, or one object.
    Json,
    /// `application/x-ndjson`: an object on each line.
    NdJson,
    /// `application/msgpack`: an array of maps.
    MsgPack,
    /// `application/gpx+xml`: a GPX file.
    Gpx,
    /// `text/csv`: a table with a row of names.
    Csv,
}

impl Form {
    /// Of a media type in lower case, without its parameters.
    #[must_use]
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" => Self::Json,
            "application/x-ndjson" | "application/jsonl" => Self::NdJson,
            "application/msgpack" | "application/vnd.msgpack" | "application/x-msgpack" => {
                Self::MsgPack
            }
            "application/gpx+xml" => Self::Gpx,
            "text/csv" => Self::Csv,
            _ => return None,
        })
    }

    /// A file that somebody recorded, in which one device is named for all points?
    #[must_use]
    pub fn is_upload(self) -> bool {
        matches!(self, Self::Gpx | Self::Csv)
    }

    fn items_max(self) -> usize {
        if self.is_upload() {
            UPLOAD_ITEMS_MAX
        } else {
            ITEMS_MAX
        }
    }

    /// What the items of `length` bytes of it take at most, their positions left out: what those take
    /// is asked for while they are read, because the names of a table stand in every one of them.
    #[must_use]
    pub fn bytes_needed(self, length: usize) -> usize {
        (length / 2).min(self.items_max()) * ENTRY_BYTES
    }
}

/// One position that can be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Whose.
    pub device: Device,
    /// Where and when, as it is kept.
    pub position: Packed,
}

/// One that cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its place among all items, from 0.
    pub index: usize,
    /// Why, in words.
    pub reason: String,
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of the body.
    pub items: Vec<Item>,
    /// In the order of the body.
    pub rejected: Vec<Rejected>,
}

/// Why a whole body cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// Correct the body: its items cannot be told apart.
    #[error("{0}")]
    Malformed(String),
    /// Send it in parts.
    #[error("more than {0} items in one request: send it in parts")]
    TooMany(usize),
    /// Send it again later.
    #[error("no memory for it now")]
    NoMemory,
}

impl BodyError {
    fn malformed(why: impl ToString) -> Self {
        Self::Malformed(why.to_string())
    }
}

impl Found {
    /// How many items there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len() + self.rejected.len()
    }

    /// Takes the next item in.
    fn push(&mut self, read: Result<Item, String>) {
        let index = self.count();
        match read {
            Ok(item) => self.items.push(item),
            Err(reason) => self.rejected.push(Rejected { index, reason }),
        }
    }
}

/// May this device post? Otherwise why not.
pub type Judge<'a> = dyn Fn(&Device) -> Result<(), String> + 'a;

/// May so many bytes more be held?
pub type Allow<'a> = dyn FnMut(usize) -> bool + 'a;

/// Counts items until there are too many, and asks whether each may be kept.
struct Sink<'a> {
    found: Found,
    items_max: usize,
    judge: &'a Judge<'a>,
    allow: &'a mut Allow<'a>,
    /// Of what was allowed, not used yet.
    bytes_left: usize,
}

impl Sink<'_> {
    fn push(&mut self, read: Result<Item, String>) -> Result<(), BodyError> {
        if self.found.count() >= self.items_max {
            return Err(BodyError::TooMany(self.items_max));
        }
        let judged = read.and_then(|item| (self.judge)(&item.device).map(|()| item));
        if let Ok(item) = &judged {
            // Once here, once in the frame it becomes.
            let bytes = 2 * item.position.bytes().len();
            while self.bytes_left < bytes {
                if !(self.allow)(PIECE_BYTES) {
                    return Err(BodyError::NoMemory);
                }
                self.bytes_left += PIECE_BYTES;
            }
            self.bytes_left -= bytes;
        }
        self.found.push(judged);
        Ok(())
    }
}

/// The device that a query names with `device` or `imei`, if it does.
/// # Errors
/// In words.
pub fn device_of(params: &Params) -> Result<Option<Device>, String> {
    match (params.get("device"), params.get("imei")) {
        (None, None) => Ok(None),
        (Some(name), None) => item::named(name).map(Some),
        (None, Some(imei)) => item::of_imei(imei).map(Some),
        (Some(_), Some(_)) => Err("device and imei: give one of them".to_owned()),
    }
}

/// Reads a body. `device` is whose the items are that do not say so; `judge` has the last word about
/// each of them. Memory beyond [`Form::bytes_needed`] is asked for with `allow`; what one item
/// takes until it is in its wire form is not.
/// # Errors
/// [`BodyError`]: nothing of it can be kept.
pub fn read(
    form: Form,
    body: &[u8],
    device: Option<&Device>,
    judge: &Judge<'_>,
    allow: &mut Allow<'_>,
) -> Result<Found, BodyError> {
    let mut sink = Sink {
        found: Found::default(),
        items_max: form.items_max(),
        judge,
        allow,
        bytes_left: 0,
    };
    match form {
        Form::Json => json::array(body, device, &mut sink)?,
        Form::NdJson => json::lines(body, device, &mut sink)?,
        Form::MsgPack => msgpack::array(body, device, &mut sink)?,
        Form::Gpx => gpx::points(body, device, &mut sink)?,
        Form::Csv => csv::rows(body, device, &mut sink)?,
    }
    Ok(sink.found)
}

#[cfg(test)]
mod tests;
