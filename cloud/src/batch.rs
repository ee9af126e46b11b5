//! What decoding hands to the store: rows, and whose places in which spool they settle.
//!
//! Why units and not a flat list of rows: an envelope is settled as a whole, together with
//! everything that came out of it, so a batch may be split between units and never inside one.
//!
//! Pure. Invariant: `received = records + dead + dropped` for every unit, in AVL records, so that
//! the ledger balances whatever the database makes of the rows.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use contract::{Device, GatewayId, Kind, SettledRanges, SpoolId};

/// Id of one stream item, `<milliseconds>-<counter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    ms: u64,
    counter: u64,
}

impl StreamId {
    /// The smallest id that an item added at `ms` can have.
    #[must_use]
    pub const fn at_ms(ms: u64) -> Self {
        Self { ms, counter: 0 }
    }

    /// The smallest id behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.counter.checked_add(1) {
            Some(counter) => Self { counter, ..self },
            None => Self::at_ms(self.ms.saturating_add(1)),
        }
    }

    /// Redis' clock when the item was added, milliseconds since 1970 UTC.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.ms
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.counter)
    }
}

/// The text is not `<milliseconds>-<counter>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream id {found:?} is not `<milliseconds>-<counter>`")]
pub struct StreamIdError {
    found: String,
}

impl FromStr for StreamId {
    type Err = StreamIdError;
    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        let read = || {
            let (ms, counter) = text.split_once('-')?;
            Some(Self {
                ms: ms.parse().ok()?,
                counter: counter.parse().ok()?,
            })
        };
        read().ok_or_else(|| StreamIdError {
            found: text.chars().take(60).collect(),
        })
    }
}

/// One item of one stream: ids are unique within a stream only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Key of the stream.
    pub stream: Arc<str>,
    /// Its id there.
    pub id: StreamId,
}

/// `<stream> <milliseconds>-<counter>`
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stream, self.id)
    }
}

/// Whose positions a unit covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose spool.
    pub gateway: GatewayId,
    /// Which opening of it.
    pub spool: SpoolId,
    /// First position.
    pub first: u64,
    /// Last position.
    pub last: u64,
    /// Positions between those two that are another unit's: they are not covered.
    pub holes: SettledRanges,
    /// Settle only when this spool is already known to be that gateway's: what an unreadable
    /// payload claims about itself is not enough to release data at the edge.
    pub only_if_known: bool,
}

/// What is settled as a whole: an envelope, an entry that could not be opened, or a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// What it settles; `None` when not even that could be read.
    pub place: Option<Place>,
    /// AVL records the gateway acknowledged, as far as they can be counted.
    pub received: u64,
    /// AVL records that nobody can read.
    pub dead: u64,
    /// AVL records that the gateway gave up.
    pub dropped: u64,
    /// The raw envelope.
    pub frame: Option<Frame>,
    /// Its AVL records.
    pub records: Vec<Record>,
    /// Its messages.
    pub messages: Vec<Message>,
    /// What could not be read.
    pub dead_letters: Vec<DeadLetter>,
}

impl Unit {
    /// Rows this unit writes into tables that grow with traffic.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.records.len() + self.messages.len() + self.dead_letters.len()
    }
}

/// One envelope as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the bytes are: this chooses who reads them.
    pub kind: Kind,
    /// Who spoke.
    pub device: Device,
    /// Gateway clock, milliseconds since 1970 UTC.
    pub received_at_ms: u64,
    /// Number of [`contract::Transport`].
    pub transport: u8,
    /// Class of [`contract::Lane`].
    pub lane: u8,
    /// AVL records by the frame's first count, or how many the gateway counted.
    pub record_count: u32,
    /// What the kind says; of Teltonika the data field, codec id to second count.
    pub data: Vec<u8>,
}

/// One AVL record, or one position of another kind, judged and typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Number within its frame, from 0.
    pub index: u32,
    /// Low 32 bits of xxh3-64 over the record's bytes, as a signed number.
    pub hash: i32,
    /// Device clock, milliseconds since 1970 UTC, exactly as sent.
    pub device_time_ms: u64,
    /// Why this time cannot be: the record goes to quarantine.
    pub quarantine: Option<crate::normalise::quality::Impossible>,
    /// Satellites in use and coordinates on the globe.
    pub valid: bool,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above sea level. `None`, here and below: nobody said.
    pub altitude_m: Option<i16>,
    /// Degrees clockwise from north, as sent.
    pub heading_deg: Option<i32>,
    /// km/h.
    pub speed_kmh: Option<i32>,
    /// Satellites in use.
    pub satellites: Option<u8>,
    /// The device's byte.
    pub priority: Option<u8>,
    /// IO id that made the device write the record; 0 for none.
    pub event_io_id: u16,
    /// Codec 16 only.
    pub generation_type: Option<u8>,
    /// IO values with a column of their own.
    pub hot: crate::normalise::io::Hot,
    /// The other IO values as a JSON object.
    pub io: String,
    /// Where the record's bytes stand in [`Frame::data`]: offset and length.
    pub bytes_at: (usize, usize),
}

/// One message of Codec 12 to 15.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number within its frame, from 0.
    pub index: u32,
    /// Codec id byte.
    pub codec: u8,
    /// Type byte: 5 command, 6 response, 17 not executed.
    pub kind: u8,
    /// Device clock in seconds since 1970 UTC; Codec 13 and 15.
    pub device_time_s: Option<u32>,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What could not be read or stored, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record in question; `None` for the whole envelope or entry.
    pub record_index: Option<u32>,
    /// Stream item it came in, when no place in a spool could be read from it.
    pub entry: Option<EntryId>,
    /// What the bytes are; of an entry that could not be read, what it said.
    pub kind: Kind,
    /// Who spoke, if that is known.
    pub device: Option<Device>,
    /// Gateway clock, milliseconds since 1970 UTC, if that is known.
    pub received_at_ms: Option<u64>,
    /// One word for counting: `codec`, `kind`, `frame`, `payload`, `entry`, `foreign_spool`, `database`.
    pub error_class: &'static str,
    /// A sentence for people.
    pub reason: String,
    /// First byte that does not fit, counted in `bytes`.
    pub offset: Option<usize>,
    /// SQLSTATE, when the database refused it.
    pub sqlstate: Option<String>,
    /// AVL records inside.
    pub records: u64,
    /// The bytes in question.
    pub bytes: Vec<u8>,
}

/// What one stream item held.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// In the order sent.
    pub units: Vec<Unit>,
    /// Nothing below this position of this spool will ever be sent again.
    pub low: Option<(GatewayId, SpoolId, u64)>,
}

impl Decoded {
    /// Does a gateway say in it that positions are lost?
    #[must_use]
    pub fn gives_up(&self) -> bool {
        // What holds neither bytes nor a reason was given up, see [`crate::decode`].
        let is_gap = |unit: &Unit| unit.frame.is_none() && unit.dead_letters.is_empty();
        self.units.iter().any(is_gap)
    }
}
/// A tracker that sends later had no network, or sends what it kept.
const LATE_MS: u64 = 3_600_000;

/// Everything that goes into the database in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Stream items that may be acknowledged once all of this is committed.
    pub entries: Vec<EntryId>,
    /// In order of arrival.
    pub units: Vec<Unit>,
    /// For each spool the position below which nothing will ever be sent again.
    pub lows: Lows,
    /// Bytes of the stream items in it.
    pub bytes: usize,
    /// For each stream item, where its units end.
    ends: Vec<usize>,
}

/// Low edges as each gateway claims them: what a stranger says of a spool is not its owner's word.
pub type Lows = HashMap<(SpoolId, GatewayId), u64>;

impl Batch {
    /// Adds what one stream item held.
    pub fn add(&mut self, entry: EntryId, decoded: Decoded, bytes: usize) {
        self.entries.push(entry);
        self.bytes += bytes;
        self.units.extend(decoded.units);
        self.ends.push(self.units.len());
        if let Some((gateway, spool, low)) = decoded.low {
            let known = self.lows.entry((spool, gateway)).or_insert(low);
            *known = low.max(*known);
        }
    }

    /// The stream item in which the unit of this place came first.
    #[must_use]
    pub fn origin(&self, place: &Place) -> Option<EntryId> {
        let is_it = |unit: &Unit| unit.place.as_ref() == Some(place);
        let at = self.units.iter().position(is_it)?;
        let item = self.ends.partition_point(|end| *end <= at);
        self.entries.get(item).cloned()
    }

    /// Rows it writes into tables that grow with traffic.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.units.iter().map(Unit::rows).sum()
    }

    /// AVL records that were received more than an hour after their device time.
    #[must_use]
    pub fn late(&self) -> u64 {
        let of_unit = |unit: &Unit| {
            let received_at_ms = unit.frame.as_ref().map_or(0, |frame| frame.received_at_ms);
            let is_late =
                |record: &&Record| received_at_ms.saturating_sub(record.device_time_ms) > LATE_MS;
            unit.records.iter().filter(is_late).count() as u64
        };
        self.units.iter().map(of_unit).sum()
    }

    /// When the oldest envelope was received, by the clock of its gateway, milliseconds since 1970.
    #[must_use]
    pub fn oldest_reception_ms(&self) -> Option<u64> {
        let frames = self.units.iter().filter_map(|unit| unit.frame.as_ref());
        frames.map(|frame| frame.received_at_ms).min()
    }

    /// Nothing inside at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// How to get one bad unit out of many: halves while there are several, then the one.
#[derive(Debug, PartialEq)]
pub enum Split {
    /// Try these apart, in this order.
    Halves(Vec<Unit>, Vec<Unit>),
    /// This is it.
    One(Box<Unit>),
    /// There was nothing to blame.
    Nothing,
}

impl Split {
    /// Splits what the database refused as data.
    #[must_use]
    pub fn of(mut units: Vec<Unit>) -> Self {
        match units.len() {
            0 => Self::Nothing,
            1 => Self::One(Box::new(units.remove(0))),
            many => {
                let right = units.split_off(many / 2);
                Self::Halves(units, right)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unit(number: u64) -> Unit {
        Unit {
            place: None,
            received: number,
            dead: 0,
            dropped: 0,
            frame: None,
            records: Vec::new(),
            messages: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    #[test]
    fn stream_ids_sort_by_number_and_not_by_text() {
        let id = |text: &str| text.parse::<StreamId>().unwrap();
        assert!(id("999-10") < id("1000-2"));
        assert!(id("5-9") < id("5-10"));
        assert_eq!(id("5-10").to_string(), "5-10");
        for bad in ["", "5", "-", "5-", "-5", "a-1", "1-a", "1-2-3", "$"] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad}");
        }
    }

    /// Every bad unit of every batch up to 40 units ends up alone, everything else is kept in order.
    #[test]
    fn splitting_isolates_each_bad_unit_and_loses_none() {
        fn walk(
            units: Vec<Unit>,
            bad: u64,
            good: &mut Vec<u64>,
            alone: &mut Vec<u64>,
            tries: &mut u32,
        ) {
            *tries += 1;
            if units.iter().all(|unit| unit.received != bad) {
                good.extend(units.iter().map(|unit| unit.received));
                return;
            }
            match Split::of(units) {
                Split::Halves(left, right) => {
                    walk(left, bad, good, alone, tries);
                    walk(right, bad, good, alone, tries);
                }
                Split::One(unit) => alone.push(unit.received),
                Split::Nothing => unreachable!("a batch without units cannot hold the bad one"),
            }
        }
        for count in 1..=40u64 {
            for bad in 0..count {
                let (mut good, mut alone, mut tries) = (Vec::new(), Vec::new(), 0);
                walk(
                    (0..count).map(unit).collect(),
                    bad,
                    &mut good,
                    &mut alone,
                    &mut tries,
                );
                assert_eq!(alone, [bad]);
                let rest: Vec<u64> = (0..count).filter(|number| *number != bad).collect();
                assert_eq!(good, rest);
                assert!(
                    tries <= 1 + 2 * 64u32.ilog2(),
                    "{tries} tries for {count} units"
                );
            }
        }
        assert_eq!(Split::of(Vec::new()), Split::Nothing);
    }
}
