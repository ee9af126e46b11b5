//! Pure: no I/O, no clock.
//!
//! GPX files: every track point, route point and waypoint that has a time is a position.
//!
//! Why names count without their prefix: the speed of a track point stands in GPX 1.0 by itself, in
//! GPX 1.1 inside somebody's extension, and everybody has an own prefix for it.
//!
//! Source: the GPX 1.0 and 1.1 schemas (topografix.com): `lat` and `lon` in degrees WGS 84, `ele` in
//! metres, `time` in UTC, `speed` in metres per second, `course` in degrees.

use contract::Device;
use contract::position::Position;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::moment;
use super::item::checked;
use super::osmand::guessed;
use super::{BodyError, ITEM_BYTES_MAX, Item, Sink};

const KMH_PER_MS: f64 = 3.6;

/// Elements inside one another at most.
const DEPTH_MAX: usize = 64;

/// Elements of a point that become attributes, at most.
const ATTRIBUTES_MAX: usize = 64;

/// A point for each position.
pub(super) fn points(
    body: &[u8],
    device: Option<&Device>,
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    let mut reader = Reader::from_reader(body);
    let mut is_gpx = false;
    let mut depth = 0;
    let mut point: Option<Point> = None;
    // The text of the element that began last, until something else begins or ends.
    let mut text: Option<String> = None;
    loop {
        let at = reader.buffer_position();
        let event = reader
            .read_event()
            .map_err(|error| BodyError::Malformed(format!("at byte {at}: {error}")))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(BodyError::malformed("elements nested too deeply"));
                }
                is_gpx |= start.local_name().as_ref() == b"gpx";
                if is_point(&start) && point.is_none() {
                    point = Some(Point::begin(&start, at, depth));
                }
                text = Some(String::new());
            }
            Event::Empty(start) => {
                if is_point(&start) && point.is_none() {
                    let point = Point::begin(&start, at, depth);
                    sink.push(point.end(reader.buffer_position(), device))?;
                }
                text = None;
            }
            Event::Text(found) => {
                if let Some(text) = &mut text {
                    text.push_str(&String::from_utf8_lossy(&found));
                }
            }
            Event::CData(found) => {
                if let Some(text) = &mut text {
                    text.push_str(&String::from_utf8_lossy(&found));
                }
            }
            Event::GeneralRef(name) => {
                if let Some(text) = &mut text {
                    let letter = name.resolve_char_ref().ok().flatten();
                    let letter = letter.or_else(|| predefined(&name));
                    let unknown = || BodyError::malformed("an entity that XML does not have");
                    text.push(letter.ok_or_else(unknown)?);
                }
            }
            Event::End(end) => {
                if let (Some(point), Some(text)) = (&mut point, text.take()) {
                    point.child(end.local_name().as_ref(), text.trim());
                }
                if let Some(done) = point.take_if(|point| point.depth == depth) {
                    sink.push(done.end(reader.buffer_position(), device))?;
                }
                depth = depth.saturating_sub(1);
            }
            Event::Eof if depth > 0 => {
                return Err(BodyError::malformed("the file ends inside an element"));
            }
            Event::Eof if !is_gpx => return Err(BodyError::malformed("no element gpx")),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// The entities that need no declaration (XML 1.0, section 4.6). Others are declared in the file,
/// and may unfold to anything.
fn predefined(name: &[u8]) -> Option<char> {
    Some(match name {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        _ => return None,
    })
}

fn is_point(start: &BytesStart<'_>) -> bool {
    matches!(start.local_name().as_ref(), b"trkpt" | b"rtept" | b"wpt")
}

/// One point, as far as it is read.
struct Point {
    from: u64,
    depth: usize,
    latitude: Option<f64>,
    longitude: Option<f64>,
    time_ms: Option<i64>,
    position: Position,
    wrong: Option<String>,
}

impl Point {
    fn begin(start: &BytesStart<'_>, from: u64, depth: usize) -> Self {
        let attribute = |name: &str| {
            let found = start.try_get_attribute(name).ok().flatten()?;
            let text = std::str::from_utf8(&found.value).ok()?;
            text.trim().parse().ok()
        };
        Self {
            from,
            depth,
            latitude: attribute("lat"),
            longitude: attribute("lon"),
            time_ms: None,
            position: Position::default(),
            wrong: None,
        }
    }

    fn child(&mut self, name: &[u8], text: &str) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        if text.is_empty() {
            return;
        }
        let mut number = || {
            let number = text.parse::<f64>().ok();
            if number.is_none() {
                self.wrong = Some(format!("{name} is a number"));
            }
            number
        };
        match name {
            "time" => {
                // The schema calls it UTC, and some leave the Z out.
                let read = moment::of_text(text).or_else(|| moment::of_text(&format!("{text}Z")));
                self.time_ms = read;
                if read.is_none() {
                    self.wrong = Some("time is none that GPX knows".to_owned());
                }
            }
            "ele" => self.position.altitude_m = number(),
            "speed" => self.position.speed_kmh = number().map(|speed| speed * KMH_PER_MS),
            "course" => self.position.heading_deg = number(),
            _ if self.position.attributes.len() >= ATTRIBUTES_MAX => {
                self.wrong = Some(format!("more than {ATTRIBUTES_MAX} elements in a point"));
            }
            other => {
                let attributes = &mut self.position.attributes;
                attributes.insert(other.to_owned(), guessed(text));
            }
        }
    }

    fn end(self, at: u64, device: Option<&Device>) -> Result<Item, String> {
        let length = usize::try_from(at.saturating_sub(self.from)).unwrap_or(usize::MAX);
        if length > ITEM_BYTES_MAX {
            return Err(format!("larger than {ITEM_BYTES_MAX} bytes"));
        }
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let mut position = self.position;
        position.time_ms = self.time_ms.ok_or("a point without a time")?;
        position.latitude = self.latitude.ok_or("lat is missing, or no number")?;
        position.longitude = self.longitude.ok_or("lon is missing, or no number")?;
        let device = device.ok_or("whose is it? say ?device= or ?imei=")?;
        checked(device.clone(), position)
    }
}
