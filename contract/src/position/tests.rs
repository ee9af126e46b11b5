#![allow(clippy::unwrap_used)]
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn plain() -> Position {
    Position {
        time_ms: 1_700_000_000_000,
        latitude: 54.6872,
        longitude: 25.2797,
        ..Position::default()
    }
}

fn with(attributes: Value) -> Position {
    let Value::Object(attributes) = attributes else {
        panic!("attributes are an object")
    };
    Position {
        attributes,
        ..plain()
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[^\0]{0,40}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[^\0]{1,8}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn position()(
        time_ms in 0..=TIME_MS_MAX,
        latitude in -90.0..=90.0,
        longitude in -180.0..=180.0,
        altitude_m in proptest::option::of(-12_000.0..=1_000_000.0),
        heading_deg in proptest::option::of(0.0..=360.0),
        speed_kmh in proptest::option::of(0.0..=100_000.0),
        accuracy_m in proptest::option::of(0.0..=50_000_000.0),
        attributes in btree_map("[^\0]{1,8}", value(), 0..4),
    ) -> Position {
        Position {
            time_ms, latitude, longitude, altitude_m, heading_deg, speed_kmh, accuracy_m,
            attributes: attributes.into_iter().collect(),
        }
    }
}

proptest! {
    /// What is packed comes back, and every position knows which bytes are its own.
    #[test]
    fn positions_round_trip(positions in vec(position(), 1..20)) {
        let packed = pack(&positions).unwrap();
        prop_assert_eq!(&unpack(&packed).unwrap(), &positions);
        for ((again, at), position) in unpack_placed(&packed).unwrap().iter().zip(&positions) {
            prop_assert_eq!(again, position);
            prop_assert_eq!(&unpack_one(&packed[at.clone()]).unwrap(), position);
            let alone = pack(std::slice::from_ref(position)).unwrap();
            prop_assert!(alone.ends_with(&packed[at.clone()]), "the same wherever it stands");
        }
    }

    /// Nothing that somebody sends ends the reader.
    #[test]
    fn any_bytes_are_positions_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let _ = unpack(&bytes);
        let mut behind_a_header = vec![0x92, VERSION, 0x91, 0x98];
        behind_a_header.extend(&bytes);
        if let Ok(positions) = unpack(&behind_a_header) {
            prop_assert_eq!(positions.len(), 1);
        }
    }

    #[test]
    fn every_cut_is_noticed(positions in vec(position(), 1..4)) {
        let packed = pack(&positions).unwrap();
        for cut in 0..packed.len() {
            prop_assert!(unpack(&packed[..cut]).is_err(), "cut at {}", cut);
        }
        let longer = [packed.as_slice(), &[0xc0]].concat();
        prop_assert!(unpack(&longer).is_err());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any number of any size is packed in as many envelopes as it takes, each once.
    #[test]
    fn what_does_not_go_into_one_goes_into_the_next(
        count in 1_usize..1200, bytes in 0_usize..ATTRIBUTES_BYTES_MAX - 1,
    ) {
        let one = Packed::of(&with(json!({ "t": "x".repeat(bytes) }))).unwrap();
        let positions = vec![one; count];
        let mut rest = positions.as_slice();
        while !rest.is_empty() {
            let (some, packed) = join_some(rest);
            prop_assert!(packed.len() <= PACKED_BYTES_MAX && some <= POSITIONS_MAX);
            prop_assert_eq!(unpack(&packed).unwrap().len(), some);
            rest = &rest[some..];
        }
    }
}

#[test]
fn the_order_of_attributes_and_a_minus_before_nought_change_nothing() {
    let read = |text: &str| with(serde_json::from_str(text).unwrap());
    let (one, other) = (
        read(r#"{"b":1,"a":{"d":2,"c":3}}"#),
        read(r#"{"a":{"c":3,"d":2},"b":1}"#),
    );
    assert_eq!(pack(&[one]), pack(&[other]));
    let nought = |latitude| Position {
        latitude,
        ..plain()
    };
    assert_eq!(pack(&[nought(0.0)]), pack(&[nought(-0.0)]));
}

#[test]
fn attributes_beside_a_position_are_its_own() {
    let own = with(json!({ "a": 1, "b": 2 }));
    let more = [
        ("c", json!(3)),
        ("b", json!(4)),
        ("d", json!({})),
        ("c", json!([5])),
    ];
    let both = with(json!({ "a": 1, "b": 4, "c": [5], "d": {} }));
    assert_eq!(Packed::with(&own, &more), Packed::of(&both));
    let packed = Packed::of(&both).unwrap();
    assert_eq!(unpack_one(packed.bytes()), Ok(both));
    // Of one name only the last is there to be judged.
    let twice = [("a", json!("\0")), ("a", json!(""))];
    assert!(Packed::with(&plain(), &twice).is_ok());
    assert!(Packed::with(&plain(), &twice[..1]).is_err());
    let many: Vec<_> = (0..=ATTRIBUTES_MAX)
        .map(|at| (at.to_string(), json!(at)))
        .collect();
    assert!(Packed::with(&plain(), &many[1..]).is_ok());
    assert_eq!(Packed::with(&plain(), &many), Err(Impossible::Attributes));
}

#[test]
fn what_cannot_be_is_named() {
    type Change = fn(&mut Position);
    let cases: [(Change, &str); 14] = [
        (|p| p.latitude = 90.000_001, "latitude"),
        (|p| p.latitude = f64::NAN, "latitude"),
        (|p| p.longitude = -180.5, "longitude"),
        (|p| p.longitude = f64::INFINITY, "longitude"),
        (|p| p.altitude_m = Some(-12_001.0), "altitude_m"),
        (|p| p.heading_deg = Some(360.5), "heading_deg"),
        (|p| p.speed_kmh = Some(-0.1), "speed_kmh"),
        (|p| p.accuracy_m = Some(f64::NAN), "accuracy_m"),
        (|p| p.time_ms = -1, "time_ms"),
        (|p| p.time_ms = TIME_MS_MAX + 1, "time_ms"),
        (
            |p| p.attributes = (0..65).map(|n| (n.to_string(), n.into())).collect(),
            "64 attributes",
        ),
        (
            |p| p.attributes = with(json!({ "a": "x".repeat(4096) })).attributes,
            "bytes",
        ),
        (
            |p| p.attributes = with(json!({ "a": [[[[1]]]] })).attributes,
            "levels",
        ),
        (
            |p| p.attributes = with(json!({ "a": "b\0" })).attributes,
            "U+0000",
        ),
    ];
    assert_eq!(plain().check(), Ok(()));
    for (change, word) in cases {
        let mut position = plain();
        change(&mut position);
        let said = position.check().unwrap_err().to_string();
        assert!(said.contains(word), "{word}: {said}");
        let packed = pack(&[plain(), position]);
        assert!(
            matches!(packed, Err(PositionError::Impossible { index: 1, .. })),
            "{word}"
        );
    }
    assert!(with(json!({ "": 1 })).check().is_err());
    assert_eq!(with(json!({ "a": [[[1]]] })).check(), Ok(()));
}

#[test]
fn edges_are_possible() {
    let edge = Position {
        time_ms: 0,
        latitude: -90.0,
        longitude: 180.0,
        altitude_m: Some(-12_000.0),
        heading_deg: Some(360.0),
        speed_kmh: Some(0.0),
        accuracy_m: Some(0.0),
        attributes: Map::new(),
    };
    assert_eq!(edge.check(), Ok(()));
}

#[test]
fn too_many_none_and_newer_are_told_apart() {
    assert_eq!(pack(&[]), Err(PositionError::Empty));
    let many = vec![plain(); POSITIONS_MAX + 1];
    let too_many = PositionError::TooMany { positions: 513 };
    assert_eq!(pack(&many), Err(too_many.clone()));
    let packed = vec![Packed::of(&plain()).unwrap(); POSITIONS_MAX + 1];
    assert_eq!(join_some(&packed).0, POSITIONS_MAX);
    assert_eq!(join_some(&[]).0, 0);
    let large = vec![with(json!({ "a": "x".repeat(4000) })); 20];
    assert!(matches!(pack(&large), Err(PositionError::TooLarge { .. })));
    // A newer version may look as it likes behind its number.
    let newer = Err(PositionError::Newer { version: 2 });
    assert_eq!(unpack(&[0x92, 2, 0xc1]), newer);
    assert_eq!(unpack(&[0x93, 2]), newer);
    assert_eq!(unpack(&[0x92, 1, 0xdc, 0x02, 0x01]), Err(too_many));
    for bad in [
        &[][..],
        &[0x92],
        &[0x92, 0],
        &[0x91, 1],
        &[0x93, 1, 0x90, 0],
        &[0xc0],
    ] {
        assert!(
            matches!(unpack(bad), Err(PositionError::Bytes { .. })),
            "{bad:?}"
        );
    }
    // Forged lengths cost no memory.
    assert!(unpack(&[0x92, 1, 0x91, 0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    assert!(unpack_one(&[0x98, 0xdf, 0xff, 0xff, 0xff, 0xff]).is_err());
}
