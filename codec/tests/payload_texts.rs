//! The texts inside IO elements: positions, vehicle numbers, fault codes, halves of a SIM number.
//! Every recorded value, every truncation and wrong character of it, and recipes.
#![allow(clippy::unwrap_used)]

use codec::payload::{
    Dtc, DtcEntry, DtcList, DtcSystem, Iccid, Iso6709, Iso6709Reading, PayloadError, PayloadReason,
    Position, Vin,
};
use proptest::prelude::*;

// --- positions in text ------------------------------------------------------------------

const RECORDED: &[u8; 34] = b"-337335.5833-0707196.2333+000.446/";
const RECORDED_FIX: Position = Position {
    latitude_e7: -337_335_583,
    longitude_e7: -707_196_233,
};

#[test]
fn the_recorded_position_is_decimal_degrees_and_kilometres() {
    for fix in [None, Some(RECORDED_FIX)] {
        let read = Iso6709::parse(RECORDED, fix).unwrap();
        assert_eq!(read.reading, Iso6709Reading::DecimalDegrees);
        assert!(read.position == RECORDED_FIX);
        assert_eq!(read.altitude_mm, 446_000);
        assert_eq!(read.text, RECORDED);
    }
    // The last digit is a tenth of ours.
    let rounded = Iso6709::parse(b"+337335.5835-0707196.2334+000.446/", None).unwrap();
    assert_eq!(rounded.position.latitude_e7, 337_335_584);
    assert_eq!(rounded.position.longitude_e7, -707_196_233);
}

#[test]
fn minutes_and_seconds_are_read_where_they_can_be() {
    let read = Iso6709::parse(b"+545959.9999-1795959.9999-012.345/", None).unwrap();
    assert_eq!(read.reading, Iso6709Reading::DegreesMinutesSeconds);
    // 54°59′59.9999″: a ten-thousandth of a second is 0.28 of the last digit.
    assert_eq!(read.position.latitude_e7, 550_000_000);
    assert_eq!(read.position.longitude_e7, -1_800_000_000);
    assert_eq!(read.altitude_mm, -12_345);
    let read = Iso6709::parse(b"+000000.0018-0000000.0018+000.000/", None).unwrap();
    assert_eq!(read.position.latitude_e7, 5);
    assert_eq!(read.position.longitude_e7, -5);
    // One 60 anywhere rules them out for the whole text.
    for text in [
        b"+546000.0000+0250000.0000+000.100/",
        b"+540060.0000+0250000.0000+000.100/",
        b"+540000.0000+0256000.0000+000.100/",
        b"+540000.0000+0250060.0000+000.100/",
    ] {
        let read = Iso6709::parse(text, None).unwrap();
        assert_eq!(read.reading, Iso6709Reading::DecimalDegrees);
        assert_eq!(read.altitude_mm, 100_000);
    }
}

#[test]
fn the_records_fix_decides_between_two_possible_readings() {
    let text = b"+541530.0000-1791530.0000+000.100/";
    let minutes = Iso6709::parse(text, None).unwrap();
    assert_eq!(minutes.reading, Iso6709Reading::DegreesMinutesSeconds);
    assert_eq!(minutes.position.latitude_e7, 542_583_333);
    assert_eq!(minutes.position.longitude_e7, -1_792_583_333);
    let same = Iso6709::parse(text, Some(minutes.position)).unwrap();
    assert!(same == minutes);
    let fix = Position {
        latitude_e7: 541_530_000,
        longitude_e7: -1_791_530_000,
    };
    let decimal = Iso6709::parse(text, Some(fix)).unwrap();
    assert_eq!(decimal.reading, Iso6709Reading::DecimalDegrees);
    assert!(decimal.position == fix);
    // Where both readings are one place, the documented one stands.
    let whole = Iso6709::parse(b"+540000.0000+0250000.0000+000.100/", Some(fix)).unwrap();
    assert_eq!(whole.reading, Iso6709Reading::DegreesMinutesSeconds);
    assert_eq!(whole.altitude_mm, 100);
    // Around the date line +179.9 is near to -179.2583, and nearer to it than to -179.1530.
    let beyond = Position {
        latitude_e7: 542_056_667,
        longitude_e7: 1_799_000_000,
    };
    let read = Iso6709::parse(text, Some(beyond)).unwrap();
    assert_eq!(read.reading, Iso6709Reading::DegreesMinutesSeconds);
}

#[test]
fn every_truncation_and_every_wrong_character_of_a_position_is_found() {
    for cut in 0..RECORDED.len() {
        let error = Iso6709::parse(&RECORDED[..cut], None).unwrap_err();
        let reason = PayloadReason::Length {
            wanted: 34,
            found: cut,
        };
        assert_eq!(error, PayloadError { offset: 0, reason });
    }
    for offset in 0..RECORDED.len() {
        for found in 0..=u8::MAX {
            let mut text = *RECORDED;
            text[offset] = found;
            let padding = matches!(found, 0 | b' ' | b'\t' | b'\r' | b'\n');
            if padding && (offset == 0 || offset == RECORDED.len() - 1) {
                continue;
            }
            let fits = match RECORDED[offset] {
                b'+' | b'-' => matches!(found, b'+' | b'-'),
                b'0'..=b'9' => found.is_ascii_digit(),
                printed => found == printed,
            };
            let read = Iso6709::parse(&text, None);
            if fits {
                match read.map_err(|error| error.reason) {
                    Ok(_) | Err(PayloadReason::Angle { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            } else {
                let reason = PayloadReason::Character { found };
                assert_eq!(read.unwrap_err(), PayloadError { offset, reason });
            }
        }
    }
    let padded = [b"  ", &RECORDED[..], b"\0\0"].concat();
    assert_eq!(Iso6709::parse(&padded, None).unwrap().text, RECORDED);
}

#[test]
fn no_place_on_earth_is_an_error_of_its_own() {
    let error = |text: &[u8]| Iso6709::parse(text, None).unwrap_err();
    let beyond = |offset, limit_deg| {
        let reason = PayloadReason::Angle { limit_deg };
        PayloadError { offset, reason }
    };
    Iso6709::parse(b"-900000.0000+1800000.0000+000.000/", None).unwrap();
    assert_eq!(error(b"-900000.0004+1800000.0000+000.000/"), beyond(0, 90));
    assert_eq!(error(b"-999999.9999+1800000.0000+000.000/"), beyond(0, 90));
    assert_eq!(
        error(b"-900000.0000-1800001.0000+000.000/"),
        beyond(12, 180)
    );
    assert_eq!(
        error(b"+000000.0000+9999999.9999+000.000/"),
        beyond(12, 180)
    );
}

// --- codes in text ----------------------------------------------------------------------

#[test]
fn a_vin_has_seventeen_characters_of_the_standard() {
    let text = *b"1M8GDM9AXKP042788";
    assert_eq!(Vin::parse(&text).unwrap().as_str().as_bytes(), text);
    for offset in 0..text.len() {
        for found in 0..=u8::MAX {
            let mut tried = text;
            tried[offset] = found;
            let allowed = b"0123456789ABCDEFGHJKLMNPRSTUVWXYZ".contains(&found);
            match Vin::parse(&tried) {
                Ok(vin) => assert!(allowed && vin.to_string().as_bytes() == tried),
                Err(error) => {
                    assert!(!allowed);
                    let padding = matches!(found, 0 | b' ' | b'\t' | b'\r' | b'\n');
                    if !padding || (1..16).contains(&offset) {
                        let reason = PayloadReason::Character { found };
                        assert_eq!(error, PayloadError { offset, reason });
                    }
                }
            }
        }
    }
    for found in 0..17 {
        let reason = PayloadReason::Length { wanted: 17, found };
        let error = Vin::parse(&text[..found]).unwrap_err();
        assert_eq!(error, PayloadError { offset: 0, reason });
    }
    let error = Vin::parse(b"\0 1M8GDM9AXKP04278Q").unwrap_err();
    assert_eq!(error.offset, 18);
    assert_eq!(
        format!("{:?}", Vin::parse(b" 1M8GDM9AXKP042788\0").unwrap()),
        "Vin(…2788)"
    );
}

#[test]
fn the_documented_trouble_codes_read_with_both_separators() {
    for text in [&b"P0100,C0300"[..], b"P0100.C0300", b" P0100, C0300,\0\0"] {
        let codes: Vec<String> = DtcList::new(text)
            .entries()
            .map(|entry| match entry {
                DtcEntry::Code(code) => code.to_string(),
                DtcEntry::Other(other) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(codes, ["P0100", "C0300"]);
    }
    assert_eq!(DtcList::new(b"").entries().count(), 0);
    assert_eq!(DtcList::new(b",., \0").entries().count(), 0);
    let own = b"p0100,P4000,P0100-1A,B12G4";
    let kept = DtcList::new(own).entries();
    assert!(
        kept.into_iter()
            .all(|entry| matches!(entry, DtcEntry::Other(_)))
    );
    assert_eq!(DtcList::new(own).entries().count(), 4);
}

#[test]
fn every_trouble_code_is_written_and_read() {
    for code in 0..=u16::MAX {
        let dtc = Dtc::from_u16(code);
        let text = dtc.to_string();
        assert_eq!(Dtc::parse(text.as_bytes()), Some(dtc), "{text}");
        assert_eq!(dtc.as_u16(), code);
        let digits = dtc.digits().map(|digit| format!("{digit:X}")).concat();
        let letter = char::from(dtc.system().letter());
        assert_eq!(format!("{letter}{digits}"), text);
    }
    assert_eq!(Dtc::from_u16(0xC001).system(), DtcSystem::Network);
    assert_eq!(Dtc::from_u16(0x9A2F).to_string(), "B1A2F");
}

#[test]
fn both_halves_of_a_sim_number_make_one() {
    let iccid = Iccid::from_halves(8_937_001_112, 345, 10).unwrap();
    assert_eq!(iccid.to_string(), "89370011120000000345");
    assert_eq!(iccid.digits(), 20);
    // A card whose number was sent in one piece.
    let one = Iccid::from_halves(8_937_001_112_000_000_034, 0, 0);
    assert_eq!(one.unwrap().to_string(), "8937001112000000034");
    assert_eq!(Iccid::from_halves(0, 345, 10), None);
    assert_eq!(Iccid::from_halves(89, 100, 2), None);
    assert_eq!(Iccid::from_halves(u64::MAX, 0, 1), None);
    assert_eq!(Iccid::from_halves(1, 0, u8::MAX), None);
}

// --- recipes ----------------------------------------------------------------------------

fn padded(inner: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[ \\x00]{{0,3}}{inner}[ \\x00]{{0,3}}")).unwrap()
}

proptest! {
    #[test]
    fn no_text_panics(value in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Iso6709::parse(&value, Some(RECORDED_FIX));
        let _ = Vin::parse(&value);
        let entries = DtcList::new(&value).entries();
        prop_assert!(entries.count() <= value.len().div_ceil(2));
    }

    #[test]
    fn positions_written_by_hand_are_read_back(
        latitude_e7 in -900_000_000..=900_000_000i32,
        longitude_e7 in -1_800_000_000..=1_800_000_000i32,
        altitude_m in -999..=999i32,
    ) {
        let there = Position { latitude_e7, longitude_e7 };
        // Degrees × 10 000 are seven digits and a half; the digit after them is 0.
        let decimal = |e7: i32, width: usize| {
            let sign = if e7 < 0 { '-' } else { '+' };
            let (whole, fraction) = (e7.unsigned_abs() / 1000, e7.unsigned_abs() % 1000);
            format!("{sign}{whole:0width$}.{fraction:03}0")
        };
        let sign = if altitude_m < 0 { '-' } else { '+' };
        let text = format!(
            "{}{}{sign}000.{:03}/",
            decimal(latitude_e7, 6),
            decimal(longitude_e7, 7),
            altitude_m.abs()
        );
        let read = Iso6709::parse(text.as_bytes(), Some(there)).unwrap();
        prop_assert!(read.position == there, "{text}");
        // Where both readings are one and the same place, the documented one stands.
        let same = (latitude_e7 % 10_000_000, longitude_e7 % 10_000_000) == (0, 0);
        prop_assert_eq!(read.reading == Iso6709Reading::DecimalDegrees, !same);
        prop_assert_eq!(read.altitude_mm, altitude_m * if same { 1 } else { 1000 });

        // The same place as documented: within half of a ten-thousandth of a second.
        let dms = |e7: i32, width: usize| {
            let sign = if e7 < 0 { '-' } else { '+' };
            let seconds_e4 = (u64::from(e7.unsigned_abs()) * 18 + 2) / 5;
            let (seconds, e4) = (seconds_e4 / 10_000, seconds_e4 % 10_000);
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            format!("{sign}{:0width$}{:02}{seconds:02}.{e4:04}", minutes / 60, minutes % 60)
        };
        let text = format!("{}{}+000.000/", dms(latitude_e7, 2), dms(longitude_e7, 3));
        let read = Iso6709::parse(text.as_bytes(), None).unwrap();
        prop_assert!(read.position == there, "{text} {latitude_e7} {longitude_e7}");
    }

    #[test]
    fn padding_around_text_changes_nothing(
        vin in padded("[0-9A-HJ-NPR-Z]{17}"),
        codes in padded("[PCBU][0-3][0-9A-F]{3}(,[PCBU][0-3][0-9A-F]{3}){0,20}"),
    ) {
        let trim = |text: &str| text.trim_matches([' ', '\0']).to_owned();
        prop_assert_eq!(Vin::parse(vin.as_bytes()).unwrap().to_string(), trim(&vin));
        let read: Vec<String> = DtcList::new(codes.as_bytes())
            .entries()
            .map(|entry| match entry {
                DtcEntry::Code(code) => code.to_string(),
                DtcEntry::Other(other) => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(read.join(","), trim(&codes));
    }
}
