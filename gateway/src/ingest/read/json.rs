//! Pure: no I/O, no clock.
//!
//! JSON arrays and lines of JSON, one item at a time.
//!
//! Why one at a time: the tree of a whole hostile body would take a hundred times its size. An item
//! alone is small, and gone when the next one is read.
//!
//! Invariant: an item whose end can be seen costs itself alone, whatever is in it.

use contract::Device;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::item::Object;
use super::{BodyError, ITEM_BYTES_MAX, Item, Sink};

/// An array of items, or one item alone.
pub(super) fn array(
    body: &[u8],
    device: Option<&Device>,
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    // JSON between systems is UTF-8 (RFC 8259, section 8.1). Judged once, not for every text in it.
    let body = std::str::from_utf8(body).map_err(BodyError::malformed)?;
    let mut cut = Cut { body, at: 0 };
    match cut.next_sign() {
        Some(b'[') => cut.at += 1,
        Some(b'{') => {
            sink.push(cut.read(device)?)?;
            return cut.end();
        }
        _ => return Err(cut.wrong("an array of objects")),
    }
    if cut.next_sign() == Some(b']') {
        cut.at += 1;
        return cut.end();
    }
    loop {
        sink.push(cut.read(device)?)?;
        match cut.next_sign() {
            Some(b',') => cut.at += 1,
            Some(b']') => {
                cut.at += 1;
                return cut.end();
            }
            _ => return Err(cut.wrong("a comma or the end of the array")),
        }
    }
}

/// An item on each line; empty lines are none. A line is its own frame, so a bad one costs itself.
pub(super) fn lines(
    body: &[u8],
    device: Option<&Device>,
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let read = one(line, device).unwrap_or_else(|why| Err(format!("not JSON: {why}")));
        sink.push(read)?;
    }
    Ok(())
}

/// The outer error says that it is no JSON.
fn one(item: &[u8], device: Option<&Device>) -> Result<Result<Item, String>, serde_json::Error> {
    if item.len() > ITEM_BYTES_MAX {
        return Ok(Err(format!("larger than {ITEM_BYTES_MAX} bytes")));
    }
    if !item.starts_with(b"{") {
        serde_json::from_slice::<IgnoredAny>(item)?;
        return Ok(Err("an item is an object".to_owned()));
    }
    let object: Object<'_> = serde_json::from_slice(item)?;
    Ok(object.item(device))
}

/// A place in the body.
struct Cut<'a> {
    body: &'a str,
    at: usize,
}

impl<'a> Cut<'a> {
    /// The next byte that is no white space; stays in front of it.
    fn next_sign(&mut self) -> Option<u8> {
        let rest = self.body.as_bytes().get(self.at..)?;
        let space = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        self.at += space.count();
        self.body.as_bytes().get(self.at).copied()
    }

    /// The next item. A plain one is read where it stands, and its end is where reading it ends. Of any
    /// other the end is looked for first: it may be larger than an item is, or no object, or no JSON.
    fn read(&mut self, device: Option<&Device>) -> Result<Result<Item, String>, BodyError> {
        self.next_sign();
        let end = self.body.floor_char_boundary(self.at + ITEM_BYTES_MAX);
        let begun = Deserializer::from_str(&self.body[self.at..end]);
        let mut objects = begun.into_iter::<Object<'_>>();
        if let Some(Ok(object)) = objects.next() {
            self.at += objects.byte_offset();
            return Ok(object.item(device));
        }
        one(self.item()?, device).map_err(BodyError::malformed)
    }

    /// The bytes of one value: up to the comma or bracket behind it, whatever is inside its texts.
    fn item(&mut self) -> Result<&'a [u8], BodyError> {
        self.next_sign();
        let from = self.at;
        let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
        while let Some(byte) = self.body.as_bytes().get(self.at) {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_text => is_escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        break;
                    }
                }
                b',' | b']' | b'}' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        let item = self.body.as_bytes()[from..self.at].trim_ascii_end();
        if item.is_empty() || depth > 0 || in_text {
            return Err(self.wrong("an item"));
        }
        Ok(item)
    }

    fn end(&mut self) -> Result<(), BodyError> {
        match self.next_sign() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the body")),
        }
    }

    fn wrong(&self, expected: &str) -> BodyError {
        BodyError::Malformed(format!("at byte {}: {expected} was expected", self.at))
    }
}
