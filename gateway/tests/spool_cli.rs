//! `gateway spool`, the real program on real spools: what it prints, what it refuses, what it
//! leaves alone, and that what it exports is read by everybody who should.

#![allow(clippy::unwrap_used)]

#[path = "spool_cli/file.rs"]
mod file;
#[path = "spool_cli/looking.rs"]
mod looking;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use codec::{AvlData, Cut, Expect, Limits, cut, encode};
use contract::{Device, Kind, Lane, SettledRanges, Transport};
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

/// The same as a gateway has it.
fn config(dir: &Path) -> SpoolConfig {
    let Options {
        gateway,
        bytes_max,
        full,
        ..
    } = options();
    SpoolConfig {
        dir: dir.to_owned(),
        gateway,
        bytes_max,
        full,
        commit_interval_min: Duration::ZERO,
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
        kind: contract::Kind::Teltonika,
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
