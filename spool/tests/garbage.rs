//! A spool whose files were overwritten, cut, mixed up or made by a stranger: it opens, and never
//! delivers under a key what was not written under it.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use contract::{Device, GatewayId, Lane, SettledRanges, SpoolId, Transport};
use proptest::prelude::*;
use spool::fs::sim::{End, SimFs};
use spool::fs::{Fs, FsFile};
use spool::{
    Append, FullPolicy, Geometry, Options, Position, SpoolError, SpoolReader, SpoolWriter,
};

#[derive(Clone, Debug)]
enum Harm {
    /// Arbitrary bytes over a file.
    Bytes(usize, usize, Vec<u8>),
    /// A piece of one file over another: whole commits and headers, in the wrong place.
    Splice(usize, usize, usize, usize, usize),
    /// A file removed.
    Remove(usize),
    /// A new segment file with these bytes at the start and then a piece of another file.
    Stranger(u8, Vec<u8>, usize, usize),
    /// A cursor of arbitrary bytes.
    Cursor(Vec<u8>),
}

const SEGMENT_BYTES: usize = 16 * 1024;

/// Anywhere, but mostly where something begins.
fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => (0..SEGMENT_BYTES / 4096).prop_map(|n| n * 4096),
        2 => (0..SEGMENT_BYTES / 512).prop_map(|n| n * 512),
        1 => 0..SEGMENT_BYTES,
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..700);
    let file = || 0..16usize;
    prop_oneof![
        (file(), offset(), bytes()).prop_map(|(f, at, b)| Harm::Bytes(f, at, b)),
        (file(), offset(), file(), offset(), 1..9000usize)
            .prop_map(|(f, at, g, from, n)| Harm::Splice(f, at, g, from, n)),
        file().prop_map(Harm::Remove),
        (any::<u8>(), bytes(), file(), offset())
            .prop_map(|(n, b, f, from)| Harm::Stranger(n, b, f, from)),
        bytes().prop_map(Harm::Cursor),
    ]
}

fn options() -> Options {
    let geometry = Geometry {
        segment_bytes: SEGMENT_BYTES as u64,
        group_bytes_max: 4096,
        envelope_bytes_max: 2048,
    };
    Options {
        gateway: GatewayId::new("depot-1").unwrap(),
        bytes_max: 12 * geometry.segment_bytes,
        full: FullPolicy::Refuse,
        geometry,
    }
}

type Frames = HashMap<(SpoolId, u64), Vec<u8>>;

/// A spool of three openings with a bit of everything.
fn grown(frames: &mut Frames) -> SimFs {
    let fs = SimFs::new(3);
    for opening in 0..3u64 {
        let random = [10 * opening + 1, 10 * opening + 2, 10 * opening + 3];
        let (mut writer, _) = SpoolWriter::open(fs.clone(), options(), random).unwrap();
        for number in 0..9u64 {
            let lane = Lane::ALL[(number % 2) as usize];
            let bytes = vec![(17 * opening + number) as u8; 100 + 150 * number as usize];
            let answer = writer.commit(&[append(lane, bytes.clone())]).pop();
            let (spool, seq) = answer.unwrap().unwrap().position();
            frames.insert((spool, seq.get()), bytes);
        }
        let reader = writer.reader();
        let mut ranges = SettledRanges::new();
        ranges.insert(2, 3);
        for spool in reader.spools() {
            reader.settle(spool, &ranges);
        }
        reader.write_cursor().unwrap();
        drop(writer);
        fs.end(End::Kill);
    }
    fs
}

fn append(lane: Lane, bytes: Vec<u8>) -> Append {
    Append {
        kind: contract::Kind::Teltonika,
        device: Device::Text("boat-1".to_owned()),
        transport: Transport::Tcp,
        lane,
        received_at_ms: 1,
        record_count: 1,
        panic: false,
        bytes,
    }
}

fn content(fs: &SimFs, name: &str) -> Vec<u8> {
    let file = fs.open(name).unwrap();
    let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn harmed(fs: &SimFs, harm: &Harm) {
    let mut names = fs.list("").unwrap();
    // Whose spool it is stays known: another owner's is refused, and that is tested elsewhere.
    names.retain(|name| name != "gateway");
    names.sort();
    let name = |at: usize| names[at % names.len()].as_str();
    let piece = |from: usize, at: usize, bytes: usize| {
        let content = content(fs, name(from));
        let at = at.min(content.len());
        content[at..content.len().min(at + bytes)].to_vec()
    };
    let write = |name: &str, at: usize, bytes: &[u8]| {
        let file = fs.open(name).or_else(|_| fs.create(name)).unwrap();
        file.write_all_at(bytes, at as u64).unwrap();
    };
    match harm {
        Harm::Bytes(file, at, bytes) => write(name(*file), *at, bytes),
        Harm::Splice(file, at, from, from_at, bytes) => {
            write(name(*file), *at, &piece(*from, *from_at, *bytes));
        }
        Harm::Remove(file) => fs.remove(name(*file)).unwrap(),
        Harm::Stranger(number, bytes, from, at) => {
            let name = format!("seg-{:06}", 20 + number % 8);
            write(&name, 0, bytes);
            write(&name, bytes.len(), &piece(*from, *at, SEGMENT_BYTES));
        }
        Harm::Cursor(bytes) => write("cursor", 0, bytes),
    }
}

fn check(reader: &SpoolReader<SimFs>, frames: &Frames) {
    for lane in Lane::ALL {
        let mut at = Position::default();
        for round in 0.. {
            assert!(round < 10_000, "reading does not end");
            let chunk = reader.read(lane, at, None, 3000).unwrap();
            for stored in &chunk.stored {
                let written = frames.get(&(stored.spool, stored.seq.get()));
                assert_eq!(
                    written,
                    Some(&stored.bytes),
                    "{} {}",
                    stored.spool,
                    stored.seq
                );
                assert_eq!(stored.lane, lane);
            }
            at = chunk.next;
            if chunk.at_end {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]
    #[test]
    fn opens_whatever_was_done_to_its_files(harms in prop::collection::vec(harm(), 1..5)) {
        let mut frames = Frames::new();
        let fs = grown(&mut frames);
        for harm in &harms {
            harmed(&fs, harm);
        }
        // Twice: what the first opening made of it must open again.
        for opening in 0..2u64 {
            let random = [100 + opening, 200 + opening, 300 + opening];
            let (mut writer, _) = SpoolWriter::open(fs.clone(), options(), random).unwrap();
            check(&writer.reader(), &frames);
            match writer.commit(&[append(Lane::High, vec![opening as u8; 50])]).pop().unwrap() {
                Ok(durable) => {
                    let (spool, seq) = durable.position();
                    frames.insert((spool, seq.get()), vec![opening as u8; 50]);
                }
                // Strangers take room.
                Err(SpoolError::Full { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            check(&writer.reader(), &frames);
            drop(writer);
            fs.end(End::PowerCut);
        }
    }
}
