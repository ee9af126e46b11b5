//! Into a file and back: `gateway spool export` and `import`.

use super::*;

#[test]
fn every_exported_line_is_read_by_the_codec() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let (mut device, mut found) = (None, Vec::new());
    let export = run(dir.path(), &["export", "--all"]);
    assert_eq!((export.code, export.err.as_str()), (0, ""));
    for line in export.out.lines() {
        let bytes = hex::decode(line).unwrap();
        // No frame's preamble is a login's length, and no login begins with 0000.
        let expect = if bytes.starts_with(&[0, 0]) {
            Expect::Frame
        } else {
            Expect::Login
        };
        match cut(&bytes, expect, Limits::default()) {
            Cut::Login(login) => device = Some(login.imei().unwrap()),
            Cut::Frame(frame) => {
                assert_eq!(frame.consumed(), bytes.len());
                let data = AvlData::parse(frame.data()).unwrap();
                assert_eq!(data.records().count(), 1);
                found.push((Device::Imei(device.unwrap()), frame.data().to_vec()));
            }
            other => panic!("{other:?}"),
        }
    }
    let all = (0..30).map(frame).map(|append| (append.lane, append));
    let (high, rest): (Vec<_>, Vec<_>) = all.partition(|(lane, _)| *lane == Lane::High);
    let expected = high.into_iter().chain(rest);
    let expected: Vec<_> = expected.map(|(_, a)| (a.device, a.bytes)).collect();
    assert_eq!(found, expected);
    let high = run(dir.path(), &["export", "--lane", "high"]).out;
    let frames = high.lines().filter(|line| line.starts_with("0000"));
    assert_eq!(frames.count(), 6);
    let waits = run(dir.path(), &["export"]).out;
    let frames = waits.lines().filter(|line| line.starts_with("0000"));
    assert_eq!(frames.count(), 26);
}

/// Without where it was kept: that is new after an import.
fn without_places(export: &str) -> String {
    let lines = export.lines().map(|line| {
        let (line, _) = line.split_once(" spool=").unwrap_or((line, ""));
        format!("{line}\n")
    });
    lines.collect()
}

#[test]
fn with_notes_nothing_is_lost_on_the_way_through_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 10);
    for number in 0..20 {
        let mut append = frame(number);
        match number {
            // The lane is not the frame's, the way is another, the device has no IMEI.
            7 => append.lane = Lane::Bulk,
            8 => append.transport = Transport::Udp,
            9 => append.device = Device::Text("pump 7 = ü#\n".to_owned()),
            11 => append.record_count = 3,
            _ => {}
        }
        writer.commit(&[append]).remove(0).unwrap();
    }
    drop(writer);
    let export = run(dir.path(), &["export", "--notes"]);
    assert_eq!((export.code, export.err.as_str()), (0, ""));
    let file = dir.path().join("../export.hex");
    let file = tempfile::NamedTempFile::new_in(file.parent().unwrap()).unwrap();
    std::fs::write(file.path(), &export.out).unwrap();

    let other = new_spool();
    let path = file.path().to_str().unwrap();
    let import = run(other.path(), &["import", path]);
    assert_eq!((import.code, import.err.as_str()), (0, ""));
    assert_eq!(import.out, "imported 20 frames with 22 records\n");
    let again = run(other.path(), &["export", "--notes"]);
    assert_eq!(without_places(&again.out), without_places(&export.out));
    assert_eq!(run(other.path(), &["verify"]).code, 0);

    let nameless = run(dir.path(), &["export"]);
    assert!(nameless.err.contains("1 frames of devices without an IMEI"));
    assert_eq!(nameless.out.matches("\n0000").count(), 19);
    // The same file again is there twice; the database knows the records by their own keys.
    let import = run_with(other.path(), &["import", "-", "--json"], &export.out);
    assert_eq!(import.json()[0]["frames"], 20);
    let stat = run(other.path(), &["stat", "--json"]).json().remove(0);
    let lanes = stat["lanes"].as_array().unwrap().iter();
    assert_eq!(
        lanes.map(|l| l["frames"].as_u64().unwrap()).sum::<u64>(),
        40
    );
}

#[test]
fn other_kinds_come_back_as_what_they_are() {
    let position = contract::Position {
        time_ms: 1_700_000_000_000,
        latitude: 54.6872,
        ..contract::Position::default()
    };
    let kinds = [
        (Kind::Position, 2),
        (Kind::Nmea, 1),
        (Kind::from_u8(200), 9),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path(), 10);
    writer.commit(&[frame(1)]).remove(0).unwrap();
    for (kind, records) in kinds {
        let append = Append {
            kind,
            device: Device::Text("boat".to_owned()),
            transport: Transport::Http,
            record_count: records,
            bytes: contract::position::pack(std::slice::from_ref(&position)).unwrap(),
            ..frame(1)
        };
        writer.commit(&[append]).remove(0).unwrap();
    }
    drop(writer);
    let export = run(dir.path(), &["export", "--notes"]);
    for word in [" kind=position ", " kind=nmea ", " kind=kind-200 "] {
        assert_eq!(export.out.matches(word).count(), 1, "{word}");
    }
    // What decoders and simulators of trackers cannot read is left out for them.
    let plain = run(dir.path(), &["export"]);
    assert!(plain.err.contains("3 frames"), "{}", plain.err);
    assert_eq!(plain.out.matches("\n0000").count(), 1);

    let other = new_spool();
    let import = run_with(other.path(), &["import", "-"], &export.out);
    assert_eq!((import.code, import.err.as_str()), (0, ""));
    assert_eq!(import.out, "imported 4 frames with 13 records\n");
    let again = run(other.path(), &["export", "--notes"]);
    assert_eq!(without_places(&again.out), without_places(&export.out));
    // A word says nothing that a spool could keep.
    let unknown = export.out.replace("kind=kind-200", "kind=gtfs");
    let import = run_with(new_spool().path(), &["import", "-"], &unknown);
    assert!(import.err.contains("kind=gtfs"), "{}", import.err);
    assert_eq!(import.out, "imported 3 frames with 4 records\n");
}

#[test]
fn a_bad_line_is_named_and_costs_itself_alone() {
    let [first, second] = IMEIS.map(login);
    let broken_crc = line(3)[..line(3).len() - 4].to_owned() + "FFFF";
    let lines = [
        "# a capture, by hand".to_owned(),
        line(90),                                   // 2: nobody's
        format!("login {first}"),                   // 3
        format!("tcp {}", line(1)),                 // 4: kept
        "what is this?".to_owned(),                 // 5
        line(2)[..line(2).len() - 6].to_owned(),    // 6: short
        broken_crc,                                 // 7
        line(4) + "00",                             // 8: bytes behind
        line(5) + "0",                              // 9: odd
        format!("{} # the last", line(6)),          // 10: kept
        second.replace("0f33", "0f3x"),             // 11: no login
        line(7),                                    // 12: not the first device's
        second,                                     // 13
        String::new(),                              // 14
        "# received_at_ms=12 lane=low".to_owned(),  // 15
        line(8),                                    // 16: its note cannot be read
        "# received_at_ms=12 lane=bulk".to_owned(), // 17
        line(9),                                    // 18: kept
        WIKI_DATA.to_owned(),                       // 19: nothing vouches for it
        "0011ff".to_owned(),                        // 20: a login cut short
        line(11),                                   // 21: nobody's
    ];
    let text = lines.join("\r\n");
    let refused = [2, 5, 6, 7, 8, 9, 11, 12, 16, 19, 20, 21];
    let dir = new_spool();
    let before = listing(dir.path());

    let dry = run_with(dir.path(), &["import", "--dry-run"], &text);
    assert_eq!(
        (dry.code, dry.out.as_str()),
        (1, "would import 3 frames with 3 records\n"),
        "{}",
        dry.err
    );
    assert_eq!(listing(dir.path()), before, "a dry run writes nothing");

    let import = run_with(dir.path(), &["import"], &text);
    assert_eq!(
        (import.code, import.out.as_str()),
        (1, "imported 3 frames with 3 records\n")
    );
    let named = import
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("line "));
    let named = named.map(|line| line.split(':').next().unwrap().parse().unwrap());
    assert_eq!(named.collect::<Vec<u64>>(), refused, "{}", import.err);
    for says in [
        "line 2: nobody knows whose frame this is",
        "line 5: no hexadecimal",
        "line 6: the frame is cut short: 63 of 66 bytes",
        "line 7: the frame is damaged: checksum is",
        "line 8: 1 bytes behind the frame",
        "line 9: an odd number",
        "line 16: the note before this frame cannot be read: \"lane=low\"",
        "12 lines were refused: correct them",
    ] {
        assert!(import.err.contains(says), "{says:?} in {}", import.err);
    }
    let export = run(dir.path(), &["export", "--notes"]).out.to_uppercase();
    let kept = |number| export.contains(&line(number));
    assert!(kept(1) && kept(6) && kept(9), "{export}");
    assert!(export.contains("RECEIVED_AT_MS=12 LANE=BULK"), "{export}");

    let import = run_with(dir.path(), &["import", "--json"], &text);
    let objects = import.json();
    assert_eq!(objects.len(), refused.len() + 1);
    assert_eq!(objects[1]["line"], 5);
    let summary = &objects[refused.len()];
    assert_eq!(
        (&summary["refused"], &summary["dry_run"]),
        (&12.into(), &false.into())
    );
}

#[test]
fn a_spool_in_use_is_read_and_never_imported_into() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let mut writer = open(dir.path(), 20);
    writer.commit(&[frame(31)]).remove(0).unwrap();
    let before = listing(dir.path());
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
    let stat = run(dir.path(), &["stat", "--json"]).json().remove(0);
    assert_eq!(stat["lanes"][1]["frames"], 21);
    let export = run(dir.path(), &["export"]);
    assert_eq!((export.code, export.out.matches("\n0000").count()), (0, 27));
    let import = run_with(dir.path(), &["import"], &export.out);
    assert_eq!((import.code, import.out.as_str()), (2, ""));
    assert!(
        import.err.contains("stop it, import, start it again"),
        "{}",
        import.err
    );
    assert_eq!(listing(dir.path()), before);
    // The writer goes on.
    writer.commit(&[frame(32)]).remove(0).unwrap();
}

#[test]
fn a_full_spool_stops_the_import_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options {
        bytes_max: 8 * MIB,
        geometry: Geometry::for_spool(8 * MIB),
        ..options()
    };
    let fs = RealFs::locked(dir.path()).unwrap();
    drop(SpoolWriter::open(fs, small, [1, 2, 3]).unwrap());
    let mut text = login(IMEIS[0]) + "\n";
    for number in 0..200_u8 {
        let mut data = vec![number; 60_000];
        data[0] = 8;
        let mut bytes = Vec::new();
        encode::frame(&data, &mut bytes).unwrap();
        text += &(hex::encode(bytes) + "\n");
    }
    let import = run_with(dir.path(), &["import", "--bytes-max", "8MiB"], &text);
    assert_eq!(import.code, 4, "{} {}", import.out, import.err);
    assert!(import.err.contains("stopped at line"), "{}", import.err);
    let frames: u64 = import.out.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((20..150).contains(&frames), "{frames}");
    let stat = run(dir.path(), &["stat", "--json"]).json().remove(0);
    assert_eq!(
        stat["lanes"][1]["frames"], frames,
        "what was counted is there"
    );
}
