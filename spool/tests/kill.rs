//! A real process on a real file system, killed at any moment: whatever it said it kept is there.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use contract::{GatewayId, Lane, SettledRanges};
use spool::fs::RealFs;
use spool::fs::sim::Chance;
use spool::{FullPolicy, Geometry, Options, Position, SpoolWriter};

const KILLS: u64 = 40;

/// What the keepers said: frames by position, and which of them were settled.
#[derive(Default)]
struct Books {
    kept: HashMap<(String, u64), u64>,
    settled: HashSet<(String, u64)>,
}

fn options() -> Options {
    let geometry = Geometry {
        segment_bytes: 64 * 1024,
        group_bytes_max: 16 * 1024,
        envelope_bytes_max: 8 * 1024,
    };
    Options {
        gateway: GatewayId::new("depot-1").unwrap(),
        bytes_max: 64 * geometry.segment_bytes,
        full: FullPolicy::Refuse,
        geometry,
    }
}

/// The frame the keeper made of this number.
fn frame(number: u64) -> Vec<u8> {
    let bytes = 8 + (number.wrapping_mul(0x9e37_79b9) % 3000) as usize;
    let frame = number.to_le_bytes().into_iter().cycle().take(bytes);
    frame.collect()
}

impl Books {
    /// Runs a keeper until it has said `lines` lines, and kills it in the middle of its work.
    fn keeper(&mut self, dir: &Path, start: u64, lines: usize) {
        let mut keeper = Command::new(env!("CARGO_BIN_EXE_spool-keeper"))
            .arg(dir)
            .arg(start.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(keeper.stdout.take().unwrap());
        let mut said = 0;
        for line in out.lines() {
            let line = line.unwrap();
            let mut words = line.split(' ');
            let (what, spool) = (words.next().unwrap(), words.next().unwrap_or(""));
            let (Some(Ok(seq)), Some(Ok(number))) = (
                words.next().map(str::parse),
                words.next().map(str::parse::<u64>),
            ) else {
                continue; // the line it was killed in
            };
            let place = (spool.to_owned(), seq);
            match what {
                "kept" => assert_eq!(self.kept.insert(place, number), None, "{line} said twice"),
                _ => {
                    self.settled.insert(place);
                }
            }
            said += 1;
            if said == lines {
                // Lines already in the pipe still count: they were said.
                keeper.kill().unwrap();
            }
        }
        let status = keeper.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "{status}");
        assert!(said >= lines, "the keeper stopped by itself");
    }

    /// Everything said and not settled is there, byte for byte; nothing else was ever written.
    fn check(&self, dir: &Path, chance: &mut Chance) {
        let fs = RealFs::locked(dir).unwrap();
        let random = [(); 3].map(|()| chance.next());
        let (writer, report) = SpoolWriter::open(fs, options(), random).unwrap();
        assert!(
            report.gaps.is_empty() && report.strangers.is_empty(),
            "{report:?}"
        );
        let reader = writer.reader();
        let mut there = HashSet::new();
        let mut settled: HashMap<_, SettledRanges> = HashMap::new();
        for lane in Lane::ALL {
            let mut at = Position::default();
            loop {
                let chunk = reader.read(lane, at, None, 64 * 1024).unwrap();
                for stored in &chunk.stored {
                    let seq = stored.seq.get();
                    assert_eq!(stored.bytes, frame(stored.received_at_ms));
                    let place = (stored.spool.to_string(), seq);
                    if let Some(&number) = self.kept.get(&place) {
                        assert_eq!(number, stored.received_at_ms);
                    }
                    settled.entry(stored.spool).or_default().insert(seq, seq);
                    there.insert(place);
                }
                at = chunk.next;
                if chunk.at_end {
                    break;
                }
            }
        }
        for place in self.kept.keys() {
            assert!(
                there.contains(place) || self.settled.contains(place),
                "lost {place:?}"
            );
        }
        // The next keepers need the room.
        for (spool, ranges) in settled {
            reader.settle(spool, &ranges);
        }
        reader.write_cursor().unwrap();
    }
}

#[test]
fn what_a_killed_process_said_it_kept_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = 0;
    let mut books = Books::default();
    // When a kill comes is the system's whim anyway.
    let mut chance = Chance::new(u64::from(std::process::id()));
    for kill in 0..KILLS {
        let lines = chance.between(1, 120) as usize;
        books.keeper(dir.path(), kill * 1_000_000, lines);
        // Sometimes killed again before anybody looked.
        if kill % 4 != 3 {
            books.check(dir.path(), &mut chance);
            kept += books.kept.len();
            books = Books::default();
        }
    }
    eprintln!("{KILLS} kills, {kept} frames");
    assert!(kept > 100, "{kept}");
}
