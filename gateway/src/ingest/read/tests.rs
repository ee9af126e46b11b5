#![allow(clippy::unwrap_used)]

use contract::Position;
use contract::position::unpack_one;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FORMS: [Form; 5] = [
    Form::Json,
    Form::NdJson,
    Form::MsgPack,
    Form::Gpx,
    Form::Csv,
];

fn everybody(_: &Device) -> Result<(), String> {
    Ok(())
}

fn found(form: Form, body: &[u8]) -> Result<Found, BodyError> {
    let device = Device::Text("van".to_owned());
    read(form, body, Some(&device), &everybody, &mut |_| true)
}

fn position(item: &Item) -> Position {
    unpack_one(item.position.bytes()).unwrap()
}

fn reasons(found: &Found) -> Vec<(usize, &str)> {
    let rejected = found.rejected.iter();
    rejected
        .map(|one| (one.index, one.reason.as_str()))
        .collect()
}

#[test]
fn every_field_of_an_item() {
    let body = json!([{
        "imei": "356307042441013",
        "time": "2026-11-22T08:00:00Z",
        "latitude": 52.5, "longitude": -13.25, "altitude_m": 34, "heading_deg": 359.5,
        "speed_kmh": 50, "accuracy_m": 4.5,
        "attributes": { "ignition": true, "note": "Tor 3, \"hinten\"]", "list": [1, 2] }
    }]);
    let found = found(Form::Json, body.to_string().as_bytes()).unwrap();
    assert_eq!(reasons(&found), []);
    let item = &found.items[0];
    assert_eq!(
        item.device,
        Device::Imei("356307042441013".parse().unwrap())
    );
    let position = position(item);
    assert_eq!(position.time_ms, 1_795_334_400_000);
    assert_eq!((position.latitude, position.longitude), (52.5, -13.25));
    assert_eq!(position.altitude_m, Some(34.0));
    assert_eq!(position.heading_deg, Some(359.5));
    assert_eq!(position.speed_kmh, Some(50.0));
    assert_eq!(position.accuracy_m, Some(4.5));
    assert_eq!(Value::Object(position.attributes), body[0]["attributes"]);
}

#[test]
fn a_bad_item_costs_itself_and_says_why() {
    let good =
        |device: &str| json!({ "device": device, "time": 1_795_334_400, "lat": 1, "lon": 2 });
    let mut items = vec![good("a")];
    let long = "x".repeat(ITEM_BYTES_MAX);
    for (patch, why) in [
        (json!({ "lat": 91 }), "latitude is 91"),
        (json!({ "lat": "52" }), "lat is a number"),
        (json!({ "lat": null }), "latitude is missing"),
        (json!({ "latitude": 1 }), "twice"),
        (json!({ "time": "yesterday" }), "time is RFC 3339"),
        (json!({ "time": null }), "time is missing"),
        (json!({ "speed": 5 }), "no field \"speed\""),
        (json!({ "imei": "356307042441013" }), "give one of them"),
        (
            json!({ "device": null, "imei": "35630704244101" }),
            "15 digits",
        ),
        (json!({ "device": "" }), "device is a text"),
        (json!({ "device": "a\nb" }), "device is a text"),
        (json!({ "speed_kmh": -1 }), "speed_kmh is -1"),
        (json!({ "attributes": 7 }), "attributes is an object"),
        (json!({ "attributes": { "": 7 } }), "attribute"),
        (json!({ "attributes": { "note": long } }), "larger than"),
    ] {
        let mut item = good("b");
        for (name, value) in patch.as_object().unwrap() {
            item[name] = value.clone();
        }
        items.push(item);
        let whys = items.iter().map(Value::to_string).collect::<Vec<_>>();
        for (form, body) in [
            (Form::Json, format!("[{}]", whys.join(" , ")).into_bytes()),
            (Form::NdJson, whys.join("\r\n").into_bytes()),
            (Form::MsgPack, rmp_serde::to_vec(&items).unwrap()),
        ] {
            let found = found(form, &body).unwrap();
            assert_eq!(found.items.len(), items.len() / 2, "{form:?}");
            let (index, reason) = *reasons(&found).last().unwrap();
            assert_eq!(index, items.len() - 1, "{form:?}");
            assert!(reason.contains(why), "{form:?}: {reason}");
        }
        items.push(good("c"));
    }
}

#[test]
fn a_field_that_is_there_twice_is_not_chosen_from() {
    for (field, why) in [
        ("\"lat\": 2", "lat is there twice"),
        ("\"time\": 1795334401", "time is there twice"),
        ("\"speed_kmh\": 3, \"speed_kmh\": 4", "speed_kmh is there"),
        ("\"attributes\": {}, \"attributes\": {}", "attributes is"),
        ("\"device\": \"b\"", "give one of them"),
    ] {
        let item = format!(
            "{{\"device\": \"a\", \"time\": 1795334400, \"lat\": 1, \"lon\": 2, {field}, \"x\": [{{}}]}}"
        );
        let found = found(Form::Json, format!("[{item}]").as_bytes()).unwrap();
        let [(0, reason)] = *reasons(&found) else {
            panic!("{found:?}");
        };
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn the_largest_item_is_read_and_a_larger_one_costs_itself() {
    let of_bytes = |bytes: usize| {
        let item = r#"{"time":1795334400,"lat":1,"lon":2}"#;
        let spaces = " ".repeat(bytes - item.len());
        item.replacen(':', &format!(":{spaces}"), 1)
    };
    let items = [ITEM_BYTES_MAX, ITEM_BYTES_MAX + 1, 100].map(of_bytes);
    assert_eq!(items[0].len(), ITEM_BYTES_MAX);
    for (form, between) in [(Form::Json, ","), (Form::NdJson, "\n")] {
        let body = items.join(between);
        let body = if form == Form::Json {
            format!("[{body}]")
        } else {
            body
        };
        let found = found(form, body.as_bytes()).unwrap();
        assert_eq!(found.items.len(), 2, "{form:?}");
        assert_eq!(reasons(&found), [(1, "larger than 16384 bytes")]);
    }
}

#[test]
fn what_is_no_text_is_malformed_or_costs_its_line() {
    let item = br#"{"time":1795334400,"lat":1,"lon":2,"attributes":{"a":""#;
    let item = item.as_slice();
    let (text, bytes) = (
        [item, "\u{e4}\"}}".as_bytes()].concat(),
        [item, b"\xe4\"}}"].concat(),
    );
    let array = |second: &[u8]| [b"[", &text[..], b",", second, b"]"].concat();
    assert_eq!(found(Form::Json, &array(&text)).unwrap().items.len(), 2);
    let refused = found(Form::Json, &array(&bytes)).unwrap_err();
    assert!(
        matches!(&refused, BodyError::Malformed(why) if why.contains("utf-8")),
        "{refused}"
    );
    let lines = found(
        Form::NdJson,
        &[&text[..], b"\n", &bytes, b"\n", &text].concat(),
    )
    .unwrap();
    assert_eq!(lines.items.len(), 2);
    assert_eq!(lines.rejected[0].index, 1);
}

#[test]
fn what_cannot_be_told_apart_is_malformed() {
    for body in [
        "",
        " ",
        "7",
        "[",
        "[{}",
        "[{},",
        "[{},]",
        "[,{}]",
        "[{}]]",
        "[{}] x",
        "[{} {}]",
        "{",
        "[{\"a\":\"]",
        "[{\"a\":]}]",
        "[]]",
        "null",
        "[}",
        "[{]}",
        "nonsense",
    ] {
        let read = found(Form::Json, body.as_bytes());
        assert!(
            matches!(read, Err(BodyError::Malformed(_))),
            "{body}: {read:?}"
        );
    }
    assert_eq!(found(Form::Json, b" [ ] ").unwrap().count(), 0);
    assert_eq!(found(Form::NdJson, b"\n\r\n").unwrap().count(), 0);
    let lines = found(Form::NdJson, b"{\n{}\nx").unwrap();
    assert_eq!((lines.items.len(), lines.rejected.len()), (0, 3));
    for body in [
        &b""[..],
        b"\xc0",
        b"\x91",
        b"\x92\x80",
        b"\x91\x80\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\xc1",
        b"[]",
    ] {
        let read = found(Form::MsgPack, body);
        assert!(
            matches!(read, Err(BodyError::Malformed(_))),
            "{body:x?}: {read:?}"
        );
    }
    for body in [
        "",
        "<a/>",
        "<gpx>",
        "<gpx></gpy>",
        "<gpx>&unknown;</gpx>",
        "{}",
    ] {
        let read = found(Form::Gpx, body.as_bytes());
        assert!(
            matches!(read, Err(BodyError::Malformed(_))),
            "{body}: {read:?}"
        );
    }
    let deep = format!("<gpx>{}", "<a>".repeat(100_000));
    assert!(found(Form::Gpx, deep.as_bytes()).is_err());
    for body in ["time,speed\n", "time,time\n", "time,lat,lat\n1,2,3\n"] {
        let read = found(Form::Csv, body.as_bytes());
        assert!(
            matches!(read, Err(BodyError::Malformed(_))),
            "{body}: {read:?}"
        );
    }
}

#[test]
fn no_more_items_than_a_request_may_have() {
    let many = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let all = found(Form::Json, many(ITEMS_MAX).as_bytes()).unwrap();
    assert_eq!(all.rejected.len(), ITEMS_MAX);
    let refused = found(Form::Json, many(ITEMS_MAX + 1).as_bytes());
    assert_eq!(refused.unwrap_err(), BodyError::TooMany(ITEMS_MAX));
    let lines = "x\n".repeat(ITEMS_MAX + 1);
    assert!(found(Form::NdJson, lines.as_bytes()).is_err());
    let rows = format!("time\n{}", "1\n".repeat(UPLOAD_ITEMS_MAX + 1));
    let refused = found(Form::Csv, rows.as_bytes());
    assert_eq!(refused.unwrap_err(), BodyError::TooMany(UPLOAD_ITEMS_MAX));
}

#[test]
fn who_is_denied_is_rejected_and_nobody_else() {
    let body =
        r#"[{"device":"a","time":1,"lat":1,"lon":2},{"device":"b","time":1,"lat":1,"lon":2}]"#;
    let judge = |device: &Device| match device.to_string().as_str() {
        "a" => Err("not this one".to_owned()),
        _ => Ok(()),
    };
    let found = read(Form::Json, body.as_bytes(), None, &judge, &mut |_| true).unwrap();
    assert_eq!(reasons(&found), [(0, "not this one")]);
    assert_eq!(found.items[0].device, Device::Text("b".to_owned()));
}

/// A track point of GPX 1.1 with somebody's extension, one of GPX 1.0, and one without a time.
const GPX: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- made up -->
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"
     xmlns:x="http://example.com/x">
  <metadata><time>2020-01-01T00:00:00Z</time></metadata>
  <wpt lat="1.5" lon="2.5"><time>2026-11-22T07:00:00Z</time><name>A &amp; B &#x42;</name></wpt>
  <trk><name>a day</name><trkseg>
    <trkpt lat="52.5" lon="13.25"><ele>34.5</ele><time>2026-11-22T08:00:00.5Z</time>
      <extensions><x:TrackPointExtension><x:speed>10</x:speed><x:course>90</x:course>
        <x:hr>120</x:hr></x:TrackPointExtension></extensions></trkpt>
    <trkpt lon="13.26" lat="52.6"><time>2026-11-22T08:00:01</time><speed>5</speed></trkpt>
    <trkpt lat="52.7" lon="13.27"/>
    <trkpt lat="x" lon="13.27"><time>2026-11-22T08:00:02Z</time></trkpt>
  </trkseg></trk>
</gpx>"#;

#[test]
fn a_gpx_file() {
    let found = found(Form::Gpx, GPX.as_bytes()).unwrap();
    let positions: Vec<_> = found.items.iter().map(position).collect();
    assert_eq!(positions.len(), 3);
    assert_eq!(positions[0].attributes["name"], "A & B B");
    let second = &positions[1];
    assert_eq!(second.time_ms, 1_795_334_400_500);
    assert_eq!((second.latitude, second.longitude), (52.5, 13.25));
    assert_eq!(
        (second.altitude_m, second.speed_kmh),
        (Some(34.5), Some(36.0))
    );
    assert_eq!(second.heading_deg, Some(90.0));
    assert_eq!(
        Value::Object(second.attributes.clone()),
        json!({ "hr": 120.0 })
    );
    assert_eq!(positions[2].time_ms, 1_795_334_401_000);
    assert_eq!(positions[2].speed_kmh, Some(18.0));
    assert_eq!(
        reasons(&found),
        [
            (3, "a point without a time"),
            (4, "lat is missing, or no number")
        ]
    );
    let nobody = read(Form::Gpx, GPX.as_bytes(), None, &everybody, &mut |_| true).unwrap();
    assert!(nobody.rejected[0].reason.contains("?device="));
}

#[test]
fn a_table() {
    let body = "\u{feff}time, lat,lon,device,speed_kmh,attributes.driver,attributes.code\r\n\
        2026-11-22T08:00:00Z,52.5,13.25,van 7,50,\"Meier, Jo\",007\r\n\
        1795334401,52.6,13.26,,,,\r\n\
        1795334402,52.6\r\n\
        1795334403,95,13.26,,,,\r\n";
    let found = found(Form::Csv, body.as_bytes()).unwrap();
    let [first, second] = &found.items[..] else {
        panic!("{found:?}");
    };
    assert_eq!(first.device, Device::Text("van 7".to_owned()));
    assert_eq!(position(first).time_ms, 1_795_334_400_000);
    let attributes = Value::Object(position(first).attributes);
    assert_eq!(attributes, json!({ "driver": "Meier, Jo", "code": "007" }));
    assert_eq!(
        second.device,
        Device::Text("van".to_owned()),
        "whom the request names"
    );
    assert_eq!(position(second).time_ms, 1_795_334_401_000);
    assert_eq!(position(second).speed_kmh, None);
    let reasons = reasons(&found);
    assert_eq!((reasons[0].0, reasons[1].0), (2, 3));
    assert!(reasons[0].1.contains("fields"), "{reasons:?}");
    assert!(reasons[1].1.contains("latitude"), "{reasons:?}");
}

#[test]
fn what_a_phone_says() {
    let query = "id=phone%207&lat=52.5&lon=13.25&timestamp=1795334400&speed=10&bearing=-1\
        &altitude=34&accuracy=5&batt=85.5&hdop=1.2&driver=a+b&charge=true&token=secret";
    let item = osmand(&Params::parse(query), 7).unwrap();
    assert_eq!(item.device, Device::Text("phone 7".to_owned()));
    let said = position(&item);
    assert_eq!(said.time_ms, 1_795_334_400_000);
    assert_eq!(said.speed_kmh, Some(18.52), "knots");
    assert_eq!((said.heading_deg, said.altitude_m), (None, Some(34.0)));
    assert_eq!(
        Value::Object(said.attributes),
        json!({ "battery_percent": 85.5, "hdop": 1.2, "driver": "a b", "charge": true })
    );
    let short = osmand(&Params::parse("deviceid=p&location=1.5,2.5"), 7).unwrap();
    assert_eq!(position(&short).time_ms, 7, "now");
    for (query, why) in [
        ("lat=1&lon=2", "id is missing"),
        ("id=p&lon=2", "lat is missing"),
        ("id=p&lat=nan&lon=2", "lat is a number"),
        ("id=p&lat=1&lon=2&timestamp=soon", "timestamp is"),
        ("id=p&lat=1&lon=200", "longitude is 200"),
        ("id=&lat=1&lon=2", "device is"),
    ] {
        let error = osmand(&Params::parse(query), 7).unwrap_err();
        assert!(error.contains(why), "{query}: {error}");
    }
}

#[test]
fn what_a_newer_phone_says() {
    let body = json!({
        "location": {
            "timestamp": "2026-11-22T08:00:00.000Z",
            "coords": { "latitude": 52.5, "longitude": 13.25, "accuracy": 5, "speed": 10,
                        "heading": -1, "altitude": 34 },
            "is_moving": true, "odometer": 12, "event": "motionchange",
            "battery": { "level": 0.5, "is_charging": false },
            "activity": { "type": "in_vehicle" }, "extras": { "trip": 3 }
        },
        "device_id": "48241179"
    });
    let item = osmand_json(&body, 7).unwrap();
    assert_eq!(item.device, Device::Text("48241179".to_owned()));
    let said = position(&item);
    assert_eq!(said.time_ms, 1_795_334_400_000);
    assert_eq!(said.speed_kmh, Some(36.0), "m/s");
    assert_eq!(said.heading_deg, None);
    assert_eq!(
        Value::Object(said.attributes),
        json!({ "battery_percent": 50.0, "is_charging": false, "is_moving": true,
                "odometer_m": 12, "event": "motionchange", "activity": "in_vehicle", "trip": 3 })
    );
    for body in [
        json!({}),
        json!([]),
        json!({ "device_id": "a", "location": 7 }),
    ] {
        assert!(osmand_json(&body, 7).is_err(), "{body}");
    }
}

fn item() -> impl Strategy<Value = Value> {
    // Six decimals: what every reader of numbers gets right to the last bit.
    let degrees =
        |most: i32| (-most * 1_000_000..=most * 1_000_000).prop_map(|it| f64::from(it) / 1e6);
    let number = || prop::option::of((0..300_000).prop_map(|it| f64::from(it) / 1e3));
    let texts = prop::collection::btree_map("[a-z]{1,8}", "[ -~\u{e4}\u{1f600}]{0,20}", 0..5);
    (
        "[A-Za-z0-9\u{e4}\"\\\\,\\]}-]{1,20}",
        0_i64..4_102_444_800_000,
        degrees(90),
        degrees(180),
        (number(), number(), number()),
        texts,
    )
        .prop_map(|(device, time_ms, latitude, longitude, more, attributes)| {
            // Below the border a number would be taken for seconds.
            let time_ms = time_ms + 100_000_000_000;
            json!({
                "device": device, "time": time_ms, "latitude": latitude, "longitude": longitude,
                "altitude_m": more.0, "speed_kmh": more.1, "accuracy_m": more.2,
                "attributes": attributes,
            })
        })
}

fn positions(found: &Found) -> Vec<Value> {
    let shown = |item: &Item| {
        let it = position(item);
        json!({
            "device": item.device.to_string(), "time": it.time_ms,
            "latitude": it.latitude, "longitude": it.longitude,
            "altitude_m": it.altitude_m, "speed_kmh": it.speed_kmh, "accuracy_m": it.accuracy_m,
            "attributes": it.attributes,
        })
    };
    found.items.iter().map(shown).collect()
}

fn table(items: &[Value]) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = [
        "device",
        "time",
        "latitude",
        "longitude",
        "altitude_m",
        "speed_kmh",
        "accuracy_m",
    ];
    writer.write_record(names).unwrap();
    for item in items {
        let cell = |name: &&str| match &item[*name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writer.write_record(names.iter().map(cell)).unwrap();
    }
    writer.into_inner().unwrap()
}

proptest! {
    #[test]
    fn valid_items_survive_in_every_form(items in prop::collection::vec(item(), 0..20)) {
        let lines: Vec<_> = items.iter().map(Value::to_string).collect();
        for (form, body) in [
            (Form::Json, serde_json::to_vec_pretty(&items).unwrap()),
            (Form::Json, format!(" [{}] ", lines.join("\t,\n")).into_bytes()),
            (Form::NdJson, lines.join("\n").into_bytes()),
            (Form::MsgPack, rmp_serde::to_vec(&items).unwrap()),
        ] {
            let found = found(form, &body).unwrap();
            prop_assert_eq!(reasons(&found), vec![]);
            prop_assert_eq!(&positions(&found), &items, "{:?}", form);
        }
        let plain: Vec<_> = items.iter().map(|item| {
            let mut item = item.clone();
            item["attributes"] = json!({});
            item
        }).collect();
        let found = found(Form::Csv, &table(&plain)).unwrap();
        prop_assert_eq!(reasons(&found), vec![]);
        prop_assert_eq!(positions(&found), plain);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        items in prop::collection::vec(item(), 1..4),
        cut in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let mut bodies = vec![
            bytes.clone(),
            serde_json::to_vec(&items).unwrap(),
            rmp_serde::to_vec(&items).unwrap(),
            table(&items),
            GPX.as_bytes().to_vec(),
        ];
        for body in &mut bodies {
            if !body.is_empty() {
                let at = cut.index(body.len());
                body[at] ^= flip;
            }
            for form in FORMS {
                let _ = found(form, body);
                let _ = found(form, &body[..body.len() / 2]);
            }
            let text = String::from_utf8_lossy(body);
            let _ = osmand(&Params::parse(&text), 1);
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                let _ = osmand_json(&value, 1);
            }
        }
    }

    #[test]
    fn what_a_phone_says_survives(
        id in "[a-zA-Z0-9 \u{e4}&=%+-]{1,20}",
        latitude in -90.0..90.0_f64,
        longitude in -180.0..180.0_f64,
        seconds in 0_i64..4_102_444_800,
    ) {
        prop_assume!(id.trim() == id);
        let coded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let query = format!("id={coded}&lat={latitude}&lon={longitude}&timestamp={seconds}");
        let item = osmand(&Params::parse(&query), 7).unwrap();
        let said = position(&item);
        prop_assert_eq!(item.device, Device::Text(id));
        prop_assert_eq!(said.time_ms, seconds * 1_000);
        prop_assert_eq!((said.latitude, said.longitude), (latitude, longitude));
    }
}

/// What is held beside a body: the items, and the frames they become.
fn held(found: &Found) -> usize {
    let of_item = |item: &Item| {
        let device = match &item.device {
            Device::Text(name) => name.len(),
            Device::Imei(_) => 0,
        };
        // Of a vector half may be room.
        2 * size_of::<Item>() + device + 2 * item.position.bytes().len()
    };
    let reasons = found.rejected.iter().map(|one| one.reason.len());
    let rejected = 2 * size_of::<Rejected>() * found.rejected.len() + reasons.sum::<usize>();
    found.items.iter().map(of_item).sum::<usize>() + rejected
}

#[test]
fn what_is_kept_of_a_body_is_asked_for_before_it_piles_up() {
    // The longest names there may be: written once in a table, and kept with every row.
    let name = |at: usize| format!("{at:02}{}", "x".repeat(60));
    let names: String = (0..64)
        .map(|at| format!(",attributes.{}", name(at)))
        .collect();
    let rows = format!("0,1,2{}\n", ",.5".repeat(64)).repeat(2_000);
    let attributes: Vec<_> = (0..64).map(|at| format!("\"{at:x}\":0.5")).collect();
    let item = format!(
        r#"{{"device":"d","time":0,"lat":1,"lon":2,"attributes":{{{}}}}}"#,
        attributes.join(",")
    );
    for (form, body, growth) in [
        (Form::Csv, format!("time,lat,lon{names}\n{rows}"), 20),
        (Form::Json, format!("[{}]", vec![item; 2_000].join(",")), 2),
        (Form::Json, format!("[{}]", ["{}"; ITEMS_MAX].join(",")), 0),
        (Form::NdJson, "x\n".repeat(ITEMS_MAX), 0),
    ] {
        let device = Device::Text("d".repeat(64));
        let read_with = |most: usize| {
            let mut asked = form.bytes_needed(body.len());
            let mut allow = |bytes| {
                asked += bytes;
                asked <= most
            };
            let found = read(form, body.as_bytes(), Some(&device), &everybody, &mut allow);
            (found, asked)
        };
        let (found, asked) = read_with(usize::MAX);
        let found = found.unwrap();
        assert!(
            held(&found) <= asked,
            "{form:?}: {} of {asked}",
            held(&found)
        );
        assert!(
            held(&found) > growth * body.len(),
            "{form:?}: not what was meant"
        );
        if growth > 0 {
            assert_eq!(read_with(asked - 1).0.unwrap_err(), BodyError::NoMemory);
        }
    }
}
