//! Positions from an API or a file.
//!
//! What has a column goes there, rounded where the column holds whole numbers; what a column cannot
//! hold exactly, the accuracy and the sender's attributes go into `io`, keys sorted. Priority and
//! satellites stay unknown: nobody said anything about them.
//!
//! Pure. Invariants: every value can be recovered from its [`Record`]; the same position has the same
//! hash in whichever frame it comes.

use contract::position::{self, Position, PositionError};
use serde_json::{Map, Value};

use super::chain;
use super::kinds::{Body, Unread};
use crate::batch::{Frame, Record};
use crate::normalise::io::Hot;
use crate::normalise::{quality, record_hash};

/// `[version, [one position]]` up to the position.
const HEADER_OF_ONE: [u8; 3] = [0x92, position::VERSION, 0x91];

pub(super) fn read(frame: &Frame, arrived_ms: u64) -> Result<Body, Unread> {
    let placed = position::unpack_placed(&frame.data).map_err(|error| Unread {
        class: match error {
            PositionError::Newer { .. } => "kind",
            _ => "frame",
        },
        offset: error.offset(),
        reason: chain(&error),
    })?;
    let received_at_ms = frame.received_at_ms.max(arrived_ms);
    let records = placed.into_iter().zip(0..).map(|((position, at), index)| {
        let hash = record_hash(&frame.data[at.clone()]);
        record(position, index, hash, (at.start, at.len()), received_at_ms)
    });
    Ok(Body::Records(records.collect()))
}

pub(super) fn alone(record: &[u8]) -> Result<Vec<u8>, String> {
    position::unpack_one(record).map_err(|error| chain(&error))?;
    Ok([&HEADER_OF_ONE, record].concat())
}

fn record(
    position: Position,
    index: u32,
    hash: i32,
    bytes_at: (usize, usize),
    received_at_ms: u64,
) -> Record {
    let device_time_ms = position.time_ms.cast_unsigned();
    let quarantine = match position.time_ms < 0 {
        true => Some(quality::Impossible::Before2007),
        false => quality::impossible_time(device_time_ms, received_at_ms),
    };
    let valid = (-90.0..=90.0).contains(&position.latitude)
        && (-180.0..=180.0).contains(&position.longitude);
    let mut io = Extras(position.attributes);
    Record {
        index,
        hash,
        device_time_ms,
        quarantine,
        valid,
        latitude: position.latitude,
        longitude: position.longitude,
        altitude_m: io.whole("altitude_m", position.altitude_m, i16::MIN, i16::MAX),
        heading_deg: io.whole("heading_deg", position.heading_deg, 0, 360),
        speed_kmh: io.whole("speed_kmh", position.speed_kmh, 0, i32::MAX),
        satellites: None,
        priority: None,
        event_io_id: 0,
        generation_type: None,
        hot: Hot::default(),
        io: {
            io.put("accuracy_m", position.accuracy_m);
            io.into_json()
        },
        bytes_at,
    }
}

/// What has no column, or not quite.
pub(super) struct Extras(pub(super) Map<String, Value>);

impl Extras {
    /// A number under a name of its own: our names win over a sender's.
    pub(super) fn put(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// The value of a column of whole numbers; the exact one stays beside it when it is another.
    pub(super) fn whole<T>(
        &mut self,
        name: &str,
        value: Option<f64>,
        least: T,
        most: T,
    ) -> Option<T>
    where
        T: Copy + TryFrom<i64> + Into<f64>,
    {
        let exact = value?;
        let rounded = exact.round();
        let fits = (least.into()..=most.into()).contains(&rounded);
        // In range of a type of 32 bits or less, so the cut to 64 loses nothing.
        let column = fits.then(|| T::try_from(rounded as i64).ok()).flatten();
        if column.is_none_or(|column| column.into() != exact) {
            self.put(name, value);
        }
        column
    }

    /// The keys in the order of the alphabet, whatever map this is built with.
    pub(super) fn into_json(self) -> String {
        let mut object = Value::Object(self.0);
        object.sort_all_objects();
        object.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::Device;
    use contract::Kind;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW_MS: u64 = 1_795_219_200_000;

    fn frame(positions: &[Position]) -> Frame {
        Frame {
            kind: Kind::Position,
            device: Device::Text("phone-7".into()),
            received_at_ms: NOW_MS,
            transport: 3,
            lane: 2,
            record_count: u32::try_from(positions.len()).unwrap(),
            data: position::pack(positions).unwrap(),
        }
    }

    fn records(positions: &[Position]) -> Vec<Record> {
        match read(&frame(positions), NOW_MS).unwrap() {
            Body::Records(records) => records,
            Body::Messages(_) => panic!("positions are records"),
        }
    }

    fn plain() -> Position {
        Position {
            time_ms: 1_795_219_100_000,
            latitude: 54.6872,
            longitude: 25.2797,
            ..Position::default()
        }
    }

    #[test]
    fn a_position_field_by_field() {
        let Value::Object(attributes) = json!({ "battery": 0.83, "a": { "y": 1, "x": [true] } })
        else {
            panic!()
        };
        let position = Position {
            altitude_m: Some(112.0),
            heading_deg: Some(359.7),
            speed_kmh: Some(50.4),
            accuracy_m: Some(4.5),
            attributes,
            ..plain()
        };
        let [record] = &records(&[position])[..] else {
            panic!()
        };
        assert_eq!((record.latitude, record.longitude), (54.6872, 25.2797));
        assert_eq!(record.altitude_m, Some(112));
        assert_eq!(
            (record.heading_deg, record.speed_kmh),
            (Some(360), Some(50))
        );
        assert!(record.valid && record.quarantine.is_none());
        assert_eq!(
            record.io,
            r#"{"a":{"x":[true],"y":1},"accuracy_m":4.5,"battery":0.83,"heading_deg":359.7,"speed_kmh":50.4}"#
        );
    }

    #[test]
    fn what_nobody_said_is_unknown() {
        let [record] = &records(&[plain()])[..] else {
            panic!()
        };
        let unknown = (record.altitude_m, record.heading_deg, record.speed_kmh);
        assert_eq!(unknown, (None, None, None));
        assert_eq!((record.satellites, record.priority), (None, None));
        assert_eq!((record.event_io_id, record.io.as_str()), (0, "{}"));
    }

    #[test]
    fn an_altitude_beyond_its_column_stays_exact() {
        let high = Position {
            altitude_m: Some(400_000.0),
            ..plain()
        };
        let [record] = &records(&[high])[..] else {
            panic!()
        };
        assert_eq!(record.altitude_m, None);
        assert_eq!(record.io, r#"{"altitude_m":400000.0}"#);
    }

    #[test]
    fn a_time_that_cannot_be_goes_to_quarantine() {
        let at = |time_ms: u64| Position {
            time_ms: time_ms.cast_signed(),
            ..plain()
        };
        let judged = |time_ms| records(&[at(time_ms)])[0].quarantine;
        assert_eq!(judged(0), Some(quality::Impossible::Before2007));
        assert_eq!(judged(NOW_MS), None);
        let ahead = NOW_MS + quality::AHEAD_MS_MAX + 1;
        assert_eq!(judged(ahead), Some(quality::Impossible::Ahead));
        // Not from our own doors, which refuse it.
        let before_1970 = record(
            Position {
                time_ms: -1,
                ..plain()
            },
            0,
            0,
            (0, 0),
            NOW_MS,
        );
        let judged = before_1970.quarantine;
        assert_eq!(judged, Some(quality::Impossible::Before2007));
        assert_eq!(before_1970.device_time_ms.cast_signed(), -1);
    }

    #[test]
    fn what_cannot_be_read_says_where_and_a_newer_version_that_it_is_newer() {
        let with = |data: Vec<u8>| {
            let unread = read(
                &Frame {
                    data,
                    ..frame(&[plain()])
                },
                NOW_MS,
            );
            unread.map(drop).unwrap_err()
        };
        let mut cut = frame(&[plain()]).data;
        cut.pop();
        let unread = with(cut.clone());
        assert_eq!((unread.class, unread.offset), ("frame", Some(cut.len())));
        assert_eq!(with(vec![0x92, 2, 0xc0]).class, "kind");
    }

    proptest! {
        /// The same position has one identity, whoever it travels with; each record knows its bytes.
        #[test]
        fn identity_is_content(
            times in proptest::collection::vec(1_790_000_000_000_i64..1_795_000_000_000, 1..40),
            speed in proptest::option::of(0.0..300.0_f64),
        ) {
            let positions: Vec<Position> = times
                .iter()
                .map(|&time_ms| Position { time_ms, speed_kmh: speed, ..plain() })
                .collect();
            let frame = frame(&positions);
            for (record, position) in records(&positions).iter().zip(&positions) {
                let [one] = &records(std::slice::from_ref(position))[..] else { panic!() };
                prop_assert_eq!(one.hash, record.hash);
                prop_assert_eq!(&one.io, &record.io);
                let (offset, length) = record.bytes_at;
                let around = alone(&frame.data[offset..offset + length]).unwrap();
                prop_assert_eq!(position::unpack(&around).unwrap(), std::slice::from_ref(position));
            }
        }
    }
}
