//! The spool against a list that anybody can check: no crashes, no faults, only the promises.
#![allow(clippy::unwrap_used)]

use contract::{Device, GatewayId, Lane, SettledRanges, SpoolId, Transport};
use proptest::prelude::*;
use spool::fs::sim::{End, SimFs};
use spool::{
    Append, FullPolicy, Geometry, Options, Position, SpoolError, SpoolReader, SpoolWriter,
};

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<(usize, usize)>),
    /// Settles every so-manieth frame that waits, beginning with that one.
    Settle(usize, usize),
    Cursor,
    Upkeep,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let frames = prop::collection::vec((0..3usize, 0..1400usize), 0..6);
    let op = prop_oneof![
        5 => frames.prop_map(Op::Commit),
        3 => (0..5usize, 1..4usize).prop_map(|(from, step)| Op::Settle(from, step)),
        1 => Just(Op::Cursor),
        1 => Just(Op::Upkeep),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..60)
}

/// One frame that was acknowledged.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    lane: Lane,
    spool: SpoolId,
    seq: u64,
    bytes: Vec<u8>,
    settled: bool,
    durably: bool,
}

struct Pair {
    fs: SimFs,
    options: Options,
    writer: Option<SpoolWriter<SimFs>>,
    reader: SpoolReader<SimFs>,
    opened: u64,
    next: [u64; 3],
    model: Vec<Kept>,
}

fn open(fs: &SimFs, options: &Options, opened: u64) -> SpoolWriter<SimFs> {
    let random = [3 * opened + 1, 3 * opened + 2, 3 * opened + 3];
    let (writer, report) = SpoolWriter::open(fs.clone(), options.clone(), random).unwrap();
    assert!(report.gaps.is_empty() && report.strangers.is_empty());
    writer
}

impl Pair {
    fn new() -> Self {
        let geometry = Geometry {
            segment_bytes: 16 * 1024,
            group_bytes_max: 4096,
            envelope_bytes_max: 2048,
        };
        let options = Options {
            gateway: GatewayId::new("depot-1").unwrap(),
            bytes_max: 10 * geometry.segment_bytes,
            full: FullPolicy::Refuse,
            geometry,
        };
        let fs = SimFs::new(1);
        let writer = open(&fs, &options, 0);
        Self {
            reader: writer.reader(),
            writer: Some(writer),
            fs,
            options,
            opened: 0,
            next: [1; 3],
            model: Vec::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Commit(frames) => self.commit(frames),
            Op::Settle(from, step) => self.settle(*from, *step),
            Op::Cursor => {
                self.reader.write_cursor().unwrap();
                for kept in &mut self.model {
                    kept.durably |= kept.settled;
                }
            }
            Op::Upkeep => {
                self.writer.as_mut().unwrap().upkeep().unwrap();
            }
            Op::Reopen => {
                self.writer = None;
                self.fs.end(End::Kill);
                self.opened += 1;
                let writer = open(&self.fs, &self.options, self.opened);
                self.reader = writer.reader();
                self.writer = Some(writer);
                self.next = [1; 3];
                // What was settled and not written down may be asked for again, or not: the spool
                // writes its cursor when it needs the room.
                let here = self.read_all();
                for kept in self.model.iter_mut().filter(|kept| !kept.durably) {
                    let is_here = here.iter().any(|h| (h.0, h.1) == (kept.spool, kept.seq));
                    kept.settled &= !is_here;
                }
            }
        }
        self.compare();
    }

    fn commit(&mut self, frames: &[(usize, usize)]) {
        let group: Vec<Append> = frames
            .iter()
            .enumerate()
            .map(|(n, &(lane, bytes))| Append {
                kind: contract::Kind::Teltonika,
                device: Device::Text("boat-1".to_owned()),
                transport: Transport::Tcp,
                lane: Lane::ALL[lane],
                received_at_ms: self.model.len() as u64,
                record_count: 1,
                panic: false,
                bytes: vec![n as u8 + 1; bytes],
            })
            .collect();
        let answers = self.writer.as_mut().unwrap().commit(&group);
        assert_eq!(answers.len(), group.len());
        let waiting = self.model.iter().filter(|kept| !kept.settled).count();
        for (append, answer) in group.into_iter().zip(answers) {
            match answer {
                Ok(durable) => {
                    let at = Lane::ALL.iter().position(|&l| l == append.lane).unwrap();
                    let (spool, seq) = durable.position();
                    assert_eq!(seq.get(), self.next[at], "positions follow one another");
                    self.next[at] += 1;
                    self.model.push(Kept {
                        lane: append.lane,
                        spool,
                        seq: seq.get(),
                        bytes: append.bytes,
                        settled: false,
                        durably: false,
                    });
                }
                Err(SpoolError::Full { .. }) => {
                    assert!(waiting > 0 || frames.len() > 3, "full of nothing");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn settle(&mut self, from: usize, step: usize) {
        let waiting = self.model.iter_mut().filter(|kept| !kept.settled);
        for kept in waiting.skip(from).step_by(step) {
            let mut ranges = SettledRanges::new();
            ranges.insert(kept.seq, kept.seq);
            self.reader.settle(kept.spool, &ranges);
            kept.settled = true;
        }
    }

    fn read_all(&self) -> Vec<(SpoolId, u64, Lane, Vec<u8>)> {
        let mut all = Vec::new();
        for lane in Lane::ALL {
            let mut at = Position::default();
            loop {
                let chunk = self.reader.read(lane, at, None, 3000).unwrap();
                let stored = chunk.stored.into_iter();
                all.extend(stored.map(|s| (s.spool, s.seq.get(), s.lane, s.bytes)));
                at = chunk.next;
                if chunk.at_end {
                    break;
                }
            }
        }
        all
    }

    fn compare(&self) {
        let mut expected = Vec::new();
        for lane in Lane::ALL {
            let kept = self.model.iter().filter(|kept| kept.lane == lane);
            let waiting = kept.filter(|kept| !kept.settled);
            expected.extend(waiting.map(|k| (k.spool, k.seq, k.lane, k.bytes.clone())));
        }
        assert_eq!(self.read_all(), expected);
        let usage = self.reader.usage();
        assert_eq!(usage.backlog(), expected.len() as u64);
        assert!(usage.file_bytes <= self.options.bytes_max);
        assert!(self.reader.gaps().is_empty());
        for kept in self.model.iter().filter(|kept| !kept.settled) {
            assert!(self.reader.low(kept.spool).get() <= kept.seq);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn behaves_like_a_list(ops in ops()) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op);
        }
    }
}
