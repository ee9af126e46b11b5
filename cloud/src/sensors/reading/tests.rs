//! What is read, what is not, and that nothing panics.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// 2026-11-21 00:00 UTC.
const NOW_MS: u64 = 1_795_219_200_000;

fn sensor() -> Result<Sensor, NotOurs> {
    Ok(Sensor {
        device_id: "d1".to_owned(),
        sensor_type: "temperature".to_owned(),
    })
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn read_of(pairs: &[(&str, &str)]) -> Result<Reading, Unread> {
    read(sensor(), &fields(pairs), NOW_MS)
}

#[test]
fn the_founding_message_is_read() {
    let reading = read_of(&[
        ("value", "23.5"),
        ("timestamp", "2026-11-20T10:30:00Z"),
        ("metadata", r#"{"unit": "celsius", "location": "room-1"}"#),
    ])
    .unwrap();
    assert_eq!(reading.sensor, sensor().unwrap());
    assert_eq!(reading.value, 23.5);
    assert_eq!(reading.time.timestamp_millis(), 1_795_170_600_000);
    let metadata = reading.metadata.unwrap();
    assert_eq!(metadata, r#"{"unit": "celsius", "location": "room-1"}"#);
    for none in ["", "null", "  "] {
        let pairs = [
            ("value", "1"),
            ("timestamp", "1795170600"),
            ("metadata", none),
        ];
        assert_eq!(read_of(&pairs).unwrap().metadata, None);
    }
    let bare = read_of(&[("timestamp", "1795170600"), ("value", " 1e3\n")]).unwrap();
    assert_eq!((bare.value, bare.metadata), (1_000.0, None));
}

#[test]
fn a_time_is_written_or_counted() {
    for (text, us) in [
        ("2026-11-20T10:30:00Z", 1_795_170_600_000_000_i64),
        ("2026-11-20T10:30:00z", 1_795_170_600_000_000),
        ("2026-11-20T12:30:00+02:00", 1_795_170_600_000_000),
        ("2026-11-20T12:30:00+0200", 1_795_170_600_000_000),
        ("2026-11-20T10:30:00.123456Z", 1_795_170_600_123_456),
        ("2026-11-20T10:30:00.123456789Z", 1_795_170_600_123_456),
        ("2026-11-20T10:30:00.5", 1_795_170_600_500_000),
        ("2026-11-20 10:30:00", 1_795_170_600_000_000),
        ("1795170600", 1_795_170_600_000_000),
        ("1795170600.25", 1_795_170_600_250_000),
        ("1795170600123", 1_795_170_600_123_000),
        ("1795170600123.5", 1_795_170_600_123_500),
    ] {
        let time = time(text.as_bytes(), NOW_MS).unwrap();
        assert_eq!(time.timestamp_micros(), us, "{text}");
    }
    for text in [
        "yesterday",
        "2026-11-20",
        "10:30",
        "-5",
        "1795170600.",
        ".5",
        "1.2.3",
        "2026-13-01T00:00:00Z",
        "99999999999999999999999",
        "1795170600s",
        "9999999999999999",
    ] {
        let refused = time(text.as_bytes(), NOW_MS).unwrap_err();
        assert!(matches!(refused, Unread::Time { .. }), "{text}: {refused}");
    }
    for text in [
        "1970-01-01T00:00:00Z",
        "0",
        "2099-01-01T00:00:00Z",
        "2006-12-31T23:59:59Z",
        "1969-07-20T20:17:40Z",
        "2026-11-22T00:00:01Z",
        "4102444800000",
    ] {
        let refused = time(text.as_bytes(), NOW_MS).unwrap_err();
        assert!(
            matches!(refused, Unread::Impossible { .. }),
            "{text}: {refused}"
        );
    }
}

#[test]
fn what_is_missing_or_no_number_or_no_json_is_told() {
    let good = [("value", "1"), ("timestamp", "1795170600")];
    for (name, pairs) in [
        ("field value is missing", vec![("timestamp", "1795170600")]),
        ("field value is missing", vec![("value", " "), good[1]]),
        ("field timestamp is missing", vec![("value", "1")]),
        ("not a finite number", vec![("value", "warm"), good[1]]),
        ("not a finite number", vec![("value", "NaN"), good[1]]),
        ("not a finite number", vec![("value", "inf"), good[1]]),
        ("not a finite number", vec![("value", "1e999"), good[1]]),
        ("not a finite number", vec![("value", "1,5"), good[1]]),
        (
            "metadata is not JSON",
            vec![good[0], good[1], ("metadata", "{unit: C}")],
        ),
        (
            "metadata is not JSON",
            vec![good[0], good[1], ("metadata", "{} {}")],
        ),
    ] {
        let refused = read_of(&pairs).unwrap_err().to_string();
        assert!(refused.contains(name), "{pairs:?}: {refused}");
    }
    // Deeper than any database would read.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let refused = read_of(&[good[0], good[1], ("metadata", &deep)]).unwrap_err();
    assert!(refused.to_string().contains("recursion"), "{refused}");
    let long = "x".repeat(10_000);
    let refused = read_of(&[("value", &long), good[1]])
        .unwrap_err()
        .to_string();
    assert!(refused.len() < 100, "{refused}");
}

proptest! {
    #[test]
    fn nothing_panics(
        names in prop::collection::vec(
            prop_oneof![Just(b"value".to_vec()), Just(b"timestamp".to_vec()), Just(b"metadata".to_vec()),
                prop::collection::vec(any::<u8>(), 0..10)], 0..6),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 6),
        now_ms in any::<u64>(),
    ) {
        let fields: Vec<_> = names.into_iter().zip(values).collect();
        let _ = read(sensor(), &fields, now_ms);
    }

    #[test]
    fn text_that_looks_like_a_time_panics_nowhere(text in "[-+0-9T:.Z ]{0,40}", now_ms in any::<u64>()) {
        let _ = time(text.as_bytes(), now_ms);
    }

    #[test]
    fn what_is_valid_comes_through_as_it_was(
        value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
        us in 1_167_609_600_000_000_i64..1_795_219_200_000_000,
        zone_min in -14 * 60..14 * 60_i32,
        note in "[ -~]{0,40}",
    ) {
        let zone = chrono::FixedOffset::east_opt(zone_min * 60).unwrap();
        let at = DateTime::from_timestamp_micros(us).unwrap();
        let text = at.with_timezone(&zone).to_rfc3339();
        let metadata = serde_json::json!({ "note": note }).to_string();
        let found = read_of(&[("value", &value.to_string()), ("timestamp", &text), ("metadata", &metadata)]);
        let found = found.unwrap();
        prop_assert_eq!(found.value, value);
        prop_assert_eq!(found.time, at);
        prop_assert_eq!(found.metadata, Some(metadata));
    }
}
