//! The decode tool as its users meet it: lines in, one object each out, and an explanation
//! that leaves no byte without a name.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/decode/tool/mod.rs"]
mod tool;
mod wire;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tool::line::Transport;
use tool::{explain, json as describe};
use wire::{framed, recipe};

/// Runs the tool; gives exit code, standard output and standard error.
fn run(arguments: &[&str], input: &[u8]) -> (u8, String, String) {
    let arguments = arguments.iter().map(OsString::from).collect();
    let (mut input, mut out, mut err) = (input, Vec::new(), Vec::new());
    let code = tool::run(arguments, &mut input, &mut out, &mut err).unwrap();
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

fn objects(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const LOGIN: &str = "000F333536333037303432343431303133";
const GETIO: &str = "000000000000000D0C010500000005676574696F01000000CB";

#[test]
fn every_line_is_answered_by_one_object_and_none_ends_the_run() {
    let getio_with_spaces: String = GETIO.chars().flat_map(|c| [c, ' ']).collect();
    let login_and_frame = format!("{LOGIN}{GETIO}");
    let error =
        |stage: &str, offset: usize| json!({"kind": "error", "stage": stage, "offset": offset});
    let cases: Vec<(&[u8], Value)> = vec![
        (
            GETIO.as_bytes(),
            json!({"kind": "tcp", "codec": "0x0C", "issues": []}),
        ),
        (
            b"  tcp 000000000000000D0C010500000005676574696F01000000CB\r",
            json!({"kind": "tcp"}),
        ),
        (
            b"TCP\t000000000000000d0c010500000005676574696f01000000cb",
            json!({"kind": "tcp"}),
        ),
        (
            getio_with_spaces.as_bytes(),
            json!({"kind": "tcp", "consumed": 25}),
        ),
        (b"\xEF\xBB\xBFFF", json!({"kind": "ping"})),
        (b"ff", json!({"kind": "ping", "consumed": 1})),
        (
            b"FFFF",
            json!({"kind": "ping", "consumed": 2, "issues": ["2 keep-alive bytes in a row"]}),
        ),
        (
            LOGIN.as_bytes(),
            json!({"kind": "login", "imei": "356307042441013"}),
        ),
        (
            b"login 000F333536333037303432343431303133",
            json!({"kind": "login"}),
        ),
        (
            b"tcp 000F333536333037303432343431303133",
            json!({"kind": "login"}),
        ),
        (
            login_and_frame.as_bytes(),
            json!({"kind": "login", "consumed": 17, "issues": ["bytes behind this message: 25"]}),
        ),
        (b"xyz", error("hex", 0)),
        (b"00000g", error("hex", 2)),
        (b"\xFF\xFE\x00", error("hex", 0)),
        (b"00 \xC3\xA9", error("hex", 1)),
        (b"abc", error("hex", 1)),
        (b"tcp", error("hex", 0)),
        (b"udp   ", error("hex", 0)),
        (b"# not a comment", error("hex", 0)),
        (b"00", error("header", 1)),
        (b"0000000000000001", error("length", 4)),
        (b"00000000FFFFFFFF", error("length", 4)),
        (b"000000010000", error("preamble", 3)),
        (b"tcp 1234", error("preamble", 0)),
        (b"000F3335", error("login", 4)),
        (b"000F3335363330373034323434313031AA", error("imei", 16)),
        (
            b"login 000F3335363330373034323434313031AA",
            error("imei", 16),
        ),
        (b"login 000441424344", error("imei", 0)),
        (b"login 00000000", error("login", 0)),
        (b"udp 00", error("length", 0)),
        (b"udp FF", error("length", 0)),
        (b"tags 02", error("value", 0)),
        (b"beacons 1121", error("value", 2)),
    ];
    let mut input = Vec::new();
    for (line, _) in &cases {
        // Blank lines are no lines.
        input.extend(b"\n \t\r\n");
        input.extend(*line);
        input.push(b'\n');
    }
    let (code, out, err) = run(&[], &input);
    assert_eq!((code, err.as_str()), (0, ""));
    let objects = objects(&out);
    assert_eq!(objects.len(), cases.len(), "{out}");
    for (object, (line, expected)) in objects.iter().zip(&cases) {
        let line = String::from_utf8_lossy(line);
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&object[key], value, "{key} of {line:?}: {object}");
        }
        let is_error = object["kind"] == "error";
        assert_eq!(
            object["error"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            is_error
        );
    }
    // The last line needs no end.
    let (_, out, _) = run(&[], b"FF\nFF");
    assert_eq!(out.lines().count(), 2);
}

#[test]
fn a_line_beyond_all_measure_is_one_error() {
    let mut input = b"FF\n".to_vec();
    input.extend(vec![b'0'; 3 << 20]);
    input.extend(b"\nFF\n");
    input.extend(vec![b' '; (1 << 20) + 1]);
    let (code, out, _) = run(&[], &input);
    let kinds: Vec<_> = objects(&out)
        .into_iter()
        .map(|mut object| object["kind"].take())
        .collect();
    assert_eq!(
        (code, kinds),
        (
            0,
            vec!["ping".into(), "error".into(), "ping".into(), "error".into()]
        )
    );
    // The largest message there is fits, with its bytes apart.
    let mut data = vec![0x0C, 1, 6, 0, 0, 0xFF, 0xEB];
    data.extend(vec![b'x'; 0xFFEB]);
    data.push(1);
    let frame = framed(&data);
    assert_eq!(frame.len(), 65_535);
    let line: String = frame.iter().map(|byte| format!("{byte:02X} ")).collect();
    assert_eq!(objects(&run(&[], line.as_bytes()).1)[0]["kind"], "tcp");
}

#[test]
fn arguments_are_lines_and_a_rejected_one_shows_in_the_exit_code() {
    let (code, out, _) = run(&[GETIO, "udp", "00", "FF", "login", LOGIN], b"FF\n");
    let kinds: Vec<_> = objects(&out)
        .into_iter()
        .map(|mut object| object["kind"].take())
        .collect();
    assert_eq!(
        (code, kinds),
        (
            1,
            vec!["tcp".into(), "error".into(), "ping".into(), "login".into()]
        )
    );
    assert_eq!(run(&[GETIO], b"").0, 0);
    // Bytes that stand alone belong together, so that nobody needs quotes.
    let apart: Vec<&str> = (0..GETIO.len() / 2)
        .map(|at| &GETIO[2 * at..2 * at + 2])
        .collect();
    let (code, out, _) = run(&apart, b"");
    assert_eq!((code, objects(&out)[0]["kind"].as_str()), (0, Some("tcp")));
    let mut with_kind = vec!["--explain", "tcp"];
    with_kind.extend(apart);
    assert!(run(&with_kind, b"").1.contains("getio"));
}

#[test]
fn help_and_wrong_options() {
    let (code, help, _) = run(&["--help"], b"");
    assert_eq!(code, 0);
    for said in [
        "--explain",
        "issues",
        "Exit code",
        "beacons",
        "standard input",
    ] {
        assert!(help.contains(said), "{said}");
    }
    assert!(help.lines().all(|line| line.len() <= 100));
    let (code, out, err) = run(&["--explian", "FF"], b"");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("--explian") && err.contains("--help"), "{err}");
}

/// The page shows a command, what it explains, and the object for the same bytes.
#[test]
fn the_page_shows_what_the_tool_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/codec.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, blocks) = page.split_once("--explain ").unwrap();
    let blocks: Vec<&str> = blocks
        .split("```")
        .map(|block| block.trim_matches('\n'))
        .collect();
    let (hex, explained, object) = (blocks[0], blocks[2], blocks[6]);
    assert_eq!(run(&["--explain", hex], b"").1.trim_end(), explained);
    assert_eq!(run(&[], hex.as_bytes()).1.trim_end(), object);
}

/// Name, transport, bytes and verdict of every vector, of others and of ours.
fn vectors() -> Vec<(String, Transport, Vec<u8>, bool)> {
    let mut found = Vec::new();
    for dir in ["vectors", "vectors-ours"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let file = fs::read(entry.unwrap().path()).unwrap();
            let file: Value = serde_json::from_slice(&file).unwrap();
            let text = |key: &str| file[key].as_str().unwrap();
            let transport = match text("transport") {
                "server-answer" => continue,
                "io-value" => Transport::Tags,
                named => Transport::named(named.as_bytes()).unwrap(),
            };
            let bytes = hex::decode(text("hex")).unwrap();
            let valid = file["valid"] == true;
            found.push((text("name").to_owned(), transport, bytes, valid));
        }
    }
    assert!(found.len() > 60);
    found
}

/// Rows of the explanation, checked to be without gap from byte 0 on; gives whether they
/// go to the end and whether one of them says that something does not fit.
fn named(transport: Transport, bytes: &[u8]) -> (bool, bool) {
    let rows = explain::rows(describe::kind(transport, bytes), bytes);
    let (mut at, mut complaint) = (0, false);
    for row in rows {
        assert_eq!(row.at, at, "a gap in front of {}", row.name);
        assert!(!row.name.trim().is_empty());
        at += row.len;
        complaint |= matches!(row.name.trim(), "left over" | "not read" | "cut short")
            || row.meaning.starts_with("cut short");
    }
    (at == bytes.len(), complaint)
}

#[test]
fn every_byte_of_every_vector_has_a_name() {
    for (name, transport, bytes, valid) in vectors() {
        let (text, accepted) = explain::explain(&tool::line::Line {
            transport,
            bytes: bytes.clone(),
        });
        assert_eq!(accepted, valid, "{name}\n{text}");
        if !valid {
            assert!(text.contains("rejected at byte "), "{name}\n{text}");
            continue;
        }
        assert!(!text.contains("rejected"), "{name}\n{text}");
        // What the rows of hex show, put together, is the input.
        let shown: String = text
            .lines()
            .filter(|line| line.starts_with(' '))
            .filter_map(|line| line.get(8..32.min(line.len())))
            .collect();
        let shown: String = shown.split_whitespace().collect();
        assert_eq!(shown, hex::encode_upper(&bytes), "{name}\n{text}");
    }
}

/// Holds the explanation against the decoder, which share no code.
fn agree(name: &str, transport: Transport, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let (whole, complaint) = named(transport, bytes);
    match describe::describe(transport, bytes) {
        Ok(value) => {
            let all = value["consumed"]
                .as_u64()
                .is_none_or(|n| n == bytes.len() as u64);
            assert!(!complaint && whole == all, "{name}: {}", hex::encode(bytes));
        }
        Err(problem) => {
            assert!(
                problem.offset <= bytes.len(),
                "{name}: {}",
                hex::encode(bytes)
            );
            let rows = explain::rows(describe::kind(transport, bytes), bytes);
            let has_name = |row: &_| {
                let explain::Row { at, len, .. } = row;
                (*at..at + len).contains(&problem.offset)
            };
            let past = problem.offset >= rows.last().map_or(0, |row| row.at + row.len);
            assert!(
                past || rows.iter().any(has_name),
                "{name}: {} at {}",
                hex::encode(bytes),
                problem.offset
            );
        }
    }
}

#[test]
fn the_explanation_stops_where_the_decoder_does() {
    for (name, transport, bytes, _) in vectors() {
        for have in 0..bytes.len() {
            agree(&name, transport, &bytes[..have]);
        }
        // The long ones are more of the same records.
        if bytes.len() > 300 {
            continue;
        }
        for at in 0..bytes.len() {
            for other in [0, 1, bytes[at] ^ 0x0F, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = other;
                let frame = transport == Transport::Tcp && bytes.len() > 12;
                if frame && (8..bytes.len() - 4).contains(&at) {
                    // With the checksum right the data field is read, whatever it says.
                    changed = framed(&changed[8..bytes.len() - 4]);
                }
                agree(&name, transport, &changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn explanation_and_decoder_agree_on_recipes_damaged_or_not(
        data in prop_oneof![
            recipe::avl().prop_map(|recipe| recipe.data()),
            recipe::wide_avl().prop_map(|recipe| recipe.data()),
            recipe::messages().prop_map(|recipe| recipe.data()),
            recipe::codec7().prop_map(|recipe| recipe.data()),
        ],
        damage in any::<Option<(prop::sample::Index, u8)>>(),
        end in any::<Option<prop::sample::Index>>(),
    ) {
        let mut data = data;
        if let Some((at, value)) = damage {
            let at = at.index(data.len());
            data[at] = value;
        }
        if let Some(end) = end {
            data.truncate(3.max(end.index(data.len())));
        }
        agree("recipe", Transport::Tcp, &framed(&data));
        agree("recipe", Transport::Udp, &recipe::datagram(0xCAFE, 1, b"350000000000001", &data));
    }

    #[test]
    fn no_line_is_lost(
        lines in proptest::collection::vec(
            prop_oneof![
                "(tcp |udp |login |auto |beacons |tags )?[0-9a-fA-F ]{0,80}",
                "(tcp|udp|login|tags) 00000000000000[01][0-9a-f][0-9a-f]{0,80}",
                "\\PC{0,20}",
            ],
            0..20,
        ),
        explain in any::<bool>(),
    ) {
        let wanted = lines.iter().filter(|line| !line.trim_ascii().is_empty()).count();
        let input = lines.join("\n");
        let arguments: &[&str] = if explain { &["--explain"] } else { &[] };
        let (code, out, _) = run(arguments, input.as_bytes());
        prop_assert_eq!(code, 0);
        if !explain {
            prop_assert_eq!(objects(&out).len(), wanted);
        }
    }

    #[test]
    fn no_bytes_end_the_run(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (code, out, _) = run(&[], &bytes);
        prop_assert_eq!(code, 0);
        objects(&out);
    }
}
