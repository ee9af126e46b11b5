//! `gateway spool`, the real program on real spools: what it prints, what it refuses, what it
//! leaves alone, and that what it exports is read by everybody who should.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use codec::{AvlData, Cut, Expect, Limits, cut, encode};
use contract::{Device, Lane, SettledRanges, Transport};
use gateway::spool::{FullPolicy, Spool, SpoolConfig};
use serde_json::Value;
use spool::fs::RealFs;
use spool::{Append, Geometry, Options, SpoolWriter};

const MIB: u64 = 1 << 20;
const NOW_MS: u64 = 1_700_000_000_000;
const IMEIS: [&str; 2] = ["356307042441013", "352093081452251"];

/// Codec 8 example of the wiki ("Codec", first example): one record. Its time begins at byte 2, its
/// priority is byte 10.
const WIKI_DATA: &str = "08010000016B40D8EA3001000000000000000000000000000000010502150301010\
                         1425E0F01F10000601A014E000000000000000001";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

fn run_with(dir: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.env_clear().args(["spool", "--dir"]).arg(dir);
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writes = std::thread::spawn(move || {
        // A program that refuses at once closes its end.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(dir: &Path, arguments: &[&str]) -> Ran {
    run_with(dir, arguments, "")
}

fn options() -> Options {
    Options {
        gateway: "box-1".parse().unwrap(),
        bytes_max: 16 * MIB,
        full: FullPolicy::Refuse,
        geometry: Geometry::for_spool(16 * MIB),
    }
}

fn open(dir: &Path, random: u64) -> SpoolWriter<RealFs> {
    let fs = RealFs::locked(dir).unwrap();
    let random = [random, random + 1, random + 2];
    SpoolWriter::open(fs, options(), random).unwrap().0
}

/// A frame that a tracker could send, different for every number; every fifth is an alarm.
fn frame(number: u64) -> Append {
    let mut bytes = hex::decode(WIKI_DATA).unwrap();
    bytes[2..10].copy_from_slice(&(1_560_161_086_000 + number).to_be_bytes());
    let panic = number.is_multiple_of(5);
    bytes[10] = if panic { 2 } else { 0 };
    Append {
        device: Device::Imei(IMEIS[number as usize / 3 % 2].parse().unwrap()),
        transport: Transport::Tcp,
        lane: if panic { Lane::High } else { Lane::Normal },
        received_at_ms: NOW_MS + number,
        record_count: 1,
        panic,
        bytes,
    }
}

/// A spool with frames 0 to 29 in it, each in a commit of its own; the first four of the normal
/// lane are settled.
fn fill(dir: &Path) {
    let mut writer = open(dir, 10);
    let mut normal = None;
    for number in 0..30 {
        let receipt = writer.commit(&[frame(number)]).remove(0).unwrap();
        if frame(number).lane == Lane::Normal {
            normal = Some(receipt.position().0);
        }
    }
    let mut settled = SettledRanges::new();
    settled.insert(1, 4);
    let reader = writer.reader();
    reader.settle(normal.unwrap(), &settled);
    reader.write_cursor().unwrap();
}

fn listing(dir: &Path) -> Vec<(std::ffi::OsString, std::time::SystemTime, u64)> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| {
        let file = file.unwrap();
        let meta = file.metadata().unwrap();
        (file.file_name(), meta.modified().unwrap(), meta.len())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// A line of the frame with this number.
fn line(number: u64) -> String {
    let mut bytes = Vec::new();
    encode::frame(&frame(number).bytes, &mut bytes).unwrap();
    hex::encode_upper(bytes)
}

fn login(imei: &str) -> String {
    format!("000f{}", hex::encode(imei))
}

/// An empty spool of box-1.
fn new_spool() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 100));
    dir
}

#[test]
fn stat_ls_and_verify_say_what_is_there_and_touch_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = listing(dir.path());

    let stat = run(dir.path(), &["--bytes-max", "16MiB", "stat"]);
    assert_eq!(stat.code, 0, "{}", stat.err);
    for says in [
        "owner      box-1",
        "high       6 records in 6 frames, 324 B; the oldest came 2023-11-14 22:13:20 UTC",
        "normal     20 records in 20 frames, 1080 B",
        "bulk       nothing waits",
        "2 with records that wait",
        "of 16.0 MiB used",
        "days left  not known",
    ] {
        assert!(stat.out.contains(says), "{says:?} in {}", stat.out);
    }
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"]).json();
    let [stat] = &*stat else { panic!("one object") };
    assert_eq!(stat["owner"], "box-1");
    assert_eq!(stat["bytes_max"], 16 * MIB);
    assert_eq!(stat["lanes"][0]["lane"], "high");
    assert_eq!(stat["lanes"][0]["oldest_received_at_ms"], NOW_MS);
    assert_eq!(stat["lanes"][1]["records"], 20);
    assert_eq!(stat["segments"]["unsettled"], 2);
    assert_eq!(stat["days_left"], Value::Null);

    let ls = run(dir.path(), &["ls", "--json"]);
    let frames: u64 = ls
        .json()
        .iter()
        .map(|s| s["frames"].as_u64().unwrap())
        .sum();
    let settled: u64 = ls
        .json()
        .iter()
        .map(|s| s["settled"].as_u64().unwrap())
        .sum();
    assert_eq!((ls.code, frames, settled), (0, 30, 4));
    let ls = run(dir.path(), &["ls"]);
    assert_eq!(ls.out.lines().count(), 2, "{}", ls.out);
    assert!(ls.out.contains("4 of 24 frames settled"), "{}", ls.out);

    let verify = run(dir.path(), &["verify"]);
    assert_eq!((verify.code, verify.err.as_str()), (0, ""));
    assert_eq!(verify.out, "ok     2 segments, 30 commits, 30 frames\n");
    let verify = run(dir.path(), &["verify", "--json"]).json();
    assert_eq!(
        (&verify[0]["frames"], &verify[0]["lost"]),
        (&30.into(), &0.into())
    );
    assert_eq!(listing(dir.path()), before);
}

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
fn a_directory_that_is_no_spool_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let file = dir.path().join("file");
    std::fs::write(&file, "something").unwrap();
    for verb in ["stat", "ls", "verify", "export", "import"] {
        for (path, says) in [
            (missing.as_path(), "change spool.dir"),
            (file.as_path(), "change spool.dir"),
            (dir.path(), "holds no spool but other files"),
        ] {
            let ran = run(path, &[verb]);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{verb} {path:?}");
            assert!(ran.err.contains(says), "{verb}: {}", ran.err);
        }
    }
    assert!(!missing.exists());
    assert_eq!(listing(dir.path()).len(), 1);

    let empty = tempfile::tempdir().unwrap();
    let stat = run(empty.path(), &["stat"]);
    assert_eq!(stat.code, 0);
    assert!(stat.out.contains("nobody yet"), "{}", stat.out);
    assert_eq!(
        run(empty.path(), &["verify"]).out,
        "ok     0 segments, 0 commits, 0 frames\n"
    );
    let import = run(empty.path(), &["import"]);
    assert_eq!(import.code, 2);
    assert!(import.err.contains("no gateway has used"), "{}", import.err);
    assert_eq!(listing(empty.path()), []);

    let none = run(&missing, &["import", "--bytes-max", "many", "x"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("4GiB"), "{}", none.err);
    let spool = new_spool();
    let none = run(spool.path(), &["import", "no-such-file.hex"]);
    assert_eq!(none.code, 2);
    assert!(
        none.err.contains("no-such-file.hex cannot be read"),
        "{}",
        none.err
    );
}

#[test]
fn a_directory_that_nobody_may_write_to_is_read_all_the_same() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let allow = |mode: u32| {
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            let is_dir = file.file_type().unwrap().is_dir();
            let bits = if is_dir { mode | 0o111 } else { mode };
            let permissions = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(file.path(), permissions).unwrap();
        }
        let permissions = std::fs::Permissions::from_mode(mode | 0o111);
        std::fs::set_permissions(dir.path(), permissions).unwrap();
    };
    allow(0o444);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
    assert_eq!(run(dir.path(), &["stat"]).code, 0);
    assert_eq!(
        run(dir.path(), &["export"]).out.matches("\n0000").count(),
        26
    );
    // For the superuser there is no such directory.
    let is_bound = std::fs::write(dir.path().join("probe"), "").is_err();
    if is_bound {
        let import = run_with(dir.path(), &["import"], "");
        assert_eq!(import.code, 2);
        assert!(
            import.err.contains("make it writable for this user"),
            "{}",
            import.err
        );
    }
    allow(0o644);
}

#[test]
fn damage_is_said_with_what_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let segments = run(dir.path(), &["ls", "--json"]).json();
    let high = segments.iter().find(|s| s["lane"] == "high").unwrap();
    let file = high["file"].as_str().unwrap();
    let mut bytes = std::fs::read(dir.path().join(file)).unwrap();
    // The third commit; each has a block of its own behind the header's.
    bytes[3 * 4096 + 100] ^= 1;
    std::fs::write(dir.path().join(file), bytes).unwrap();
    let verify = run(dir.path(), &["verify"]);
    assert_eq!(verify.code, 1);
    assert!(
        verify.out.contains("what   a commit is missing"),
        "{}",
        verify.out
    );
    assert!(
        verify.out.contains(&format!("where  {file} from byte 8")),
        "{}",
        verify.out
    );
    assert!(verify.out.contains(":3-3\ndo     "), "{}", verify.out);
    let says = "1 places are damaged, 1 acknowledged frames are lost";
    assert!(verify.err.contains(says), "{} {}", verify.out, verify.err);
    let objects = run(dir.path(), &["verify", "--json"]).json();
    assert_eq!(
        (&objects[0]["damage"], &objects[0]["file"]),
        (&"commit".into(), &file.into())
    );
    assert_eq!(
        (&objects[1]["damaged"], &objects[1]["lost"]),
        (&1.into(), &1.into())
    );
    let export = run(dir.path(), &["export"]);
    assert_eq!((export.code, export.out.matches("\n0000").count()), (1, 25));
    assert!(
        export.err.contains("1 frames that wait could not be read"),
        "{}",
        export.err
    );

    // The next start finds it, says so and reports it; until the cloud has noted it, it stays lost.
    drop(open(dir.path(), 30));
    let verify = run(dir.path(), &["verify"]);
    assert_eq!(verify.code, 1);
    assert!(
        verify.err.contains("1 acknowledged frames are lost"),
        "{}",
        verify.err
    );
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

#[tokio::test]
async fn days_left_come_from_what_the_gateway_noted() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        gateway: "box-1".parse().unwrap(),
        bytes_max: 16 * MIB,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    };
    let (spool, _) = Spool::open(config.clone(), [1, 2, 3]).unwrap();
    for number in 0..10 {
        spool.append(frame(number)).await.unwrap();
    }
    drop(spool);
    // The drop waited for the thread, and the thread wrote.
    assert!(dir.path().join("written").exists());
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"])
        .json()
        .remove(0);
    let today = &stat["today"];
    assert_eq!(today["payload_bytes"], 540, "{stat}");
    assert!(today["written_bytes"].as_u64().unwrap() > 540);
    assert!(today["write_amplification"].as_f64().unwrap() > 1.0);
    assert_eq!(stat["days_left"], Value::Null, "a second proves no rate");

    let free = stat["bytes_max"].as_u64().unwrap() - stat["used_bytes"].as_u64().unwrap();
    let noted =
        "2000-01-01 86400 1 1 1\n2000-01-02 86400 1000000 3 4\n2000-01-03 86400 3000000 5 6\n";
    std::fs::write(dir.path().join("written"), noted).unwrap();
    let stat = run(dir.path(), &["stat", "--json", "--bytes-max", "16MiB"])
        .json()
        .remove(0);
    let days = stat["days_left"].as_f64().unwrap();
    assert!((days - free as f64 / 2_000_000.0).abs() < 0.001, "{stat}");
    assert_eq!(stat["today"], Value::Null);
    let (spool, _) = Spool::open(config, [4, 5, 6]).unwrap();
    let usage = spool.usage();
    let running = spool.days_left(&usage).unwrap();
    let free = usage.bytes_max - usage.used_bytes;
    assert!(
        (running - free as f64 / 2_000_000.0).abs() < 0.001,
        "{running}"
    );
}

#[test]
fn help_says_what_one_needs_to_know() {
    let dir = tempfile::tempdir().unwrap();
    for (verb, says) in [
        ("stat", "spool.bytes_max"),
        ("verify", "Exit code 1"),
        ("export", "decode"),
        ("import", "sends it twice and stores it once"),
    ] {
        let help = run(dir.path(), &[verb, "--help"]);
        assert_eq!(help.code, 0);
        let text = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(says), "{verb}: {text}");
    }
}

/// Frames that come all the time leave no quiet moment, and the backlog is compacted all the same.
#[tokio::test]
async fn a_busy_spool_is_compacted_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        gateway: "box-1".parse().unwrap(),
        bytes_max: 16 * MIB,
        full: FullPolicy::Refuse,
        commit_interval_min: Duration::ZERO,
    };
    let (spool, _) = Spool::open(config, [1, 2, 3]).unwrap();
    let (until, mut number) = (std::time::Instant::now() + Duration::from_secs(30), 0);
    while spool.usage().segments_compacted == 0 {
        assert!(std::time::Instant::now() < until, "nothing was compacted");
        for _ in 0..100 {
            number += 1;
            let append = Append {
                lane: Lane::Normal,
                ..frame(number)
            };
            spool.append(append).await.unwrap();
        }
        // Below what waits for a quiet moment, above what fills the spool meanwhile.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    drop(spool);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
    let stat = run(dir.path(), &["stat", "--json"]).json().remove(0);
    assert_eq!(stat["segments"]["compacted"], 1);
    assert_eq!(stat["lanes"][1]["frames"], number);
}
