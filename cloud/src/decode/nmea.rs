//! Sentences of NMEA 0183, one a line: RMC, which says when, where and how fast.
//!
//! What the columns cannot hold exactly is in `io`, as for positions. A receiver without a fix says
//! nothing about its place: the row stands at 0, 0 and is not valid, as those of trackers do; one that
//! does not know the time yet goes to quarantine.
//!
//! Pure. Invariants: a frame is read as a whole or not at all; a record's bytes are its sentence.

use codec::nmea::{self, Rmc};
use serde_json::Map;

use super::kinds::{Body, Unread};
use super::position::Extras;
use crate::batch::{Frame, Record};
use crate::normalise::io::Hot;
use crate::normalise::{quality, record_hash};

pub(super) fn read(frame: &Frame, arrived_ms: u64) -> Result<Body, Unread> {
    let received_at_ms = frame.received_at_ms.max(arrived_ms);
    let mut records = Vec::new();
    let mut offset = 0;
    for line in frame.data.split_inclusive(|byte| *byte == b'\n') {
        let sentence = line.trim_ascii();
        let at = offset + line.len() - line.trim_ascii_start().len();
        offset += line.len();
        if sentence.is_empty() {
            continue;
        }
        let rmc = nmea::rmc(sentence).map_err(|wrong| Unread {
            class: "frame",
            reason: format!("sentence {}: {wrong}", records.len() + 1),
            offset: Some(at),
        })?;
        let index = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let bytes_at = (at, sentence.len());
        records.push(record(
            &rmc,
            index,
            record_hash(sentence),
            bytes_at,
            received_at_ms,
        ));
    }
    if records.is_empty() {
        return Err(Unread {
            class: "frame",
            reason: "no sentence in it".to_owned(),
            offset: Some(0),
        });
    }
    Ok(Body::Records(records))
}

pub(super) fn alone(record: &[u8]) -> Result<Vec<u8>, String> {
    nmea::rmc(record).map_err(str::to_owned)?;
    Ok(record.to_vec())
}

fn record(
    rmc: &Rmc,
    index: u32,
    hash: i32,
    bytes_at: (usize, usize),
    received_at_ms: u64,
) -> Record {
    let device_time_ms = rmc.time_ms.unwrap_or(0);
    let (latitude, longitude) = rmc.place.unwrap_or_default();
    let mut io = Extras(Map::new());
    Record {
        index,
        hash,
        device_time_ms,
        quarantine: quality::impossible_time(device_time_ms, received_at_ms),
        valid: rmc.has_fix && rmc.place.is_some(),
        latitude,
        longitude,
        altitude_m: None,
        heading_deg: io.whole("heading_deg", rmc.course_deg, 0, 360),
        speed_kmh: io.whole("speed_kmh", rmc.speed_kmh, 0, i32::MAX),
        satellites: None,
        priority: None,
        event_io_id: 0,
        generation_type: None,
        hot: Hot::default(),
        io: io.into_json(),
        bytes_at,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::{Device, Kind};
    use proptest::prelude::*;

    use super::*;

    /// Of gpsd's page, "NMEA Revealed".
    const SENTENCE: &str = "$GPRMC,225446,A,4916.45,N,12311.12,W,000.5,054.7,191194,020.3,E*68";

    /// 2026-11-21 00:00 UTC.
    const NOW_MS: u64 = 1_795_219_200_000;

    fn frame(data: &[u8]) -> Frame {
        Frame {
            kind: Kind::Nmea,
            device: Device::Imei("356307042441013".parse().unwrap()),
            received_at_ms: NOW_MS,
            transport: 0,
            lane: 2,
            record_count: 1,
            data: data.to_vec(),
        }
    }

    fn records(data: &[u8]) -> Vec<Record> {
        match read(&frame(data), NOW_MS) {
            Ok(Body::Records(records)) => records,
            Ok(Body::Messages(_)) => panic!("sentences are records"),
            Err(unread) => panic!("{unread:?}"),
        }
    }

    fn sealed(body: &str) -> String {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}")
    }

    #[test]
    fn a_sentence_field_by_field() {
        let data = format!("{SENTENCE}\r\n");
        let [record] = &records(data.as_bytes())[..] else {
            panic!()
        };
        assert_eq!(record.device_time_ms, 785_285_686_000);
        // It is of 1994, and so of no tracker that sends today.
        assert_eq!(record.quarantine, Some(quality::Impossible::Before2007));
        assert!((record.latitude - 49.274_166_67).abs() < 1e-7);
        assert!((record.longitude + 123.185_333_33).abs() < 1e-7);
        assert_eq!((record.heading_deg, record.speed_kmh), (Some(55), Some(1)));
        assert_eq!(record.io, r#"{"heading_deg":54.7,"speed_kmh":0.926}"#);
        assert!(record.valid && record.satellites.is_none());
        assert_eq!(record.bytes_at, (0, SENTENCE.len()));
    }

    #[test]
    fn a_receiver_that_knows_nothing_yet_is_not_valid_and_goes_to_quarantine() {
        let [record] = &records(sealed("GNRMC,,V,,,,,,,,,,N").as_bytes())[..] else {
            panic!()
        };
        assert!(!record.valid && record.quarantine.is_some());
        assert_eq!((record.speed_kmh, record.io.as_str()), (None, "{}"));
    }

    #[test]
    fn what_cannot_be_is_said_with_its_place() {
        let cases = [
            (String::new(), "no sentence"),
            (SENTENCE.replace("*68", "*69"), "checksum"),
            (SENTENCE[1..].to_owned(), "no $"),
            (SENTENCE.replace("*68", ""), "no checksum"),
            (sealed("GPGGA,225446,,,,,,"), "another sentence"),
            (
                sealed("GPRMC,225446,A,9116.45,N,12311.12,W,,,191194"),
                "globe",
            ),
            (
                sealed("GPRMC,225446,A,4960.00,N,12311.12,W,,,191194"),
                "globe",
            ),
            (
                sealed("GPRMC,225446,A,4916.45,,12311.12,W,,,191194"),
                "hemisphere",
            ),
            (
                sealed("GPRMC,225446,A,4916.45,N,12311.12,W,1e3,,191194"),
                "number",
            ),
            (
                sealed("GPRMC,225446,A,4916.45,N,12311.12,W,,,300294"),
                "date",
            ),
            (
                sealed("GPRMC,245446,A,4916.45,N,12311.12,W,,,191194"),
                "time of day",
            ),
            (
                sealed("GPRMC,225446,X,4916.45,N,12311.12,W,,,191194"),
                "void",
            ),
        ];
        for (line, word) in cases {
            let data = format!("{SENTENCE}\n{line}");
            let data = if line.is_empty() { "\r\n" } else { &data };
            let unread = read(&frame(data.as_bytes()), NOW_MS).map(drop).unwrap_err();
            assert!(unread.reason.contains(word), "{line}: {}", unread.reason);
            let at = if line.is_empty() {
                0
            } else {
                SENTENCE.len() + 1
            };
            assert_eq!(unread.offset, Some(at), "{line}");
        }
    }

    proptest! {
        /// Every sentence a receiver could send comes back, whoever it travels with.
        #[test]
        fn sentences_round_trip(
            seconds in 0_u32..86_400,
            (day, month, year) in (1_u32..29, 1_u32..13, 7_u32..80),
            (lat, lat_min) in (0_u32..90, 0_u32..600_000),
            (lon, lon_min) in (0_u32..180, 0_u32..600_000),
            (south, west) in (any::<bool>(), any::<bool>()),
            count in 1_usize..5,
        ) {
            let body = format!(
                "GNRMC,{:02}{:02}{:02}.00,A,{lat:02}{:02}.{:04},{},{lon:03}{:02}.{:04},{},,,{day:02}{month:02}{year:02},,,A",
                seconds / 3_600, seconds / 60 % 60, seconds % 60,
                lat_min / 10_000, lat_min % 10_000, if south { 'S' } else { 'N' },
                lon_min / 10_000, lon_min % 10_000, if west { 'W' } else { 'E' },
            );
            let line = sealed(&body) + "\r\n";
            let data = line.repeat(count);
            let records = records(data.as_bytes());
            prop_assert_eq!(records.len(), count);
            let at = chrono::NaiveDate::from_ymd_opt(2000 + year as i32, month, day)
                .and_then(|date| date.and_hms_opt(0, 0, 0))
                .unwrap()
                .and_utc()
                .timestamp_millis();
            let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
            let degrees = |whole: u32, min: u32| f64::from(whole) + f64::from(min) / 600_000.0;
            for record in &records {
                let time_ms = at + i64::from(seconds) * 1_000;
                prop_assert_eq!(record.device_time_ms.cast_signed(), time_ms);
                prop_assert!((record.latitude - sign(south) * degrees(lat, lat_min)).abs() < 1e-9);
                prop_assert!((record.longitude - sign(west) * degrees(lon, lon_min)).abs() < 1e-9);
                let (offset, length) = record.bytes_at;
                let own = &data.as_bytes()[offset..offset + length];
                prop_assert_eq!(alone(own).unwrap(), own);
                prop_assert_eq!(record.hash, records[0].hash);
            }
        }

        /// Nothing that somebody sends ends the reader.
        #[test]
        fn any_bytes_are_sentences_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            fields in "[0-9A-Z.,]{0,60}",
        ) {
            let _ = read(&frame(&bytes), NOW_MS);
            let _ = read(&frame(sealed(&format!("GPRMC,{fields}")).as_bytes()), NOW_MS);
        }
    }
}
