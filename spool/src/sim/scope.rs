//! Small scope, exhausted: every short workload, every place to crash in it, every way in which
//! what was not synced may survive.
//!
//! Why: most crash bugs of file systems and stores need at most three operations to show
//! (Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI
//! 2018), and a small scope can be searched whole where chance would miss a corner.
//!
//! Invariant: only the last operation of a workload is cut, because every shorter workload is a
//! workload too.

use std::collections::BTreeMap;

use contract::{Lane, SettledRanges, SpoolId};

use super::ledger::{Ledger, Stop};
use super::{Outcome, options};
use crate::fs::sim::{Chance, End, Fate, SECTOR_BYTES, SimFs};
use crate::{FullPolicy, Options, SpoolError, SpoolWriter};

/// One operation of a small workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A commit of one sector in the normal lane.
    Small,
    /// The largest commit in the normal lane.
    Large,
    /// A commit of one sector in the high lane.
    High,
    /// Everything that was acknowledged is settled, and the cursor written.
    Settle,
    /// Housekeeping.
    Upkeep,
    /// The process is killed and the spool opened again.
    Reopen,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Small,
        Self::Large,
        Self::High,
        Self::Settle,
        Self::Upkeep,
        Self::Reopen,
    ];
}

/// Where the workloads begin, and how thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Operations in the longest workload.
    pub ops_max: usize,
    /// Up to so many unsynced things are tried in every combination; more are sampled.
    pub unsynced_max: usize,
    /// Samples where there are more.
    pub samples: u64,
    /// Begin with a full spool, its oldest half settled, instead of an empty disk.
    pub full: bool,
    /// Take workloads number `part.0` of every `part.1`.
    pub part: (usize, usize),
}

struct Bench {
    fs: SimFs,
    ledger: Ledger,
    options: Options,
    random: u64,
    writer: Option<SpoolWriter<SimFs>>,
}

/// Runs every workload of the scope and cuts the power everywhere.
/// # Errors
/// The workload, the place and the broken promise.
pub fn every_workload(scope: Scope) -> Result<Outcome, String> {
    let mut start = Bench::new();
    if scope.full {
        start.fill()?;
    }
    start.close(End::Kill);
    let mut outcome = Outcome::default();
    for length in 0..=scope.ops_max {
        for number in 0..Op::ALL.len().pow(length as u32) {
            if number % scope.part.1 != scope.part.0 {
                continue;
            }
            let mut rest = number;
            let mut next = || {
                let op = Op::ALL[rest % Op::ALL.len()];
                rest /= Op::ALL.len();
                op
            };
            let ops: Vec<Op> = (0..length).map(|_| next()).collect();
            workload(&start, &ops, scope, &mut outcome)
                .map_err(|what| format!("{ops:?} from full={}: {what}", scope.full))?;
        }
    }
    Ok(outcome)
}

fn workload(start: &Bench, ops: &[Op], scope: Scope, outcome: &mut Outcome) -> Result<(), String> {
    let mut bench = start.again(start.fs.copy());
    let Some((last, before)) = ops.split_last() else {
        bench.fs.start_trace();
        bench.open()?;
        return cut_everywhere(start, &bench.fs.take_trace(), scope, outcome);
    };
    bench.open()?;
    for &op in before {
        bench.op(op)?;
    }
    let before = bench.ledger.clone();
    bench.fs.start_trace();
    bench.op_traced(*last)?;
    let trace = bench.fs.take_trace();
    let mut books = bench.again(bench.fs.copy());
    books.ledger.take_back(&before);
    cut_everywhere(&books, &trace, scope, outcome)?;
    // And once with the operation done and acknowledged.
    let done = bench.again(bench.fs.copy());
    cut_everywhere(&done, &[bench.fs.copy()], scope, outcome)
}

/// `books` know what was tried, but no receipt that came later than the cut.
fn cut_everywhere(
    books: &Bench,
    trace: &[SimFs],
    scope: Scope,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut chance = Chance::new(trace.len() as u64);
    for (call, disk) in trace.iter().enumerate() {
        let unsynced = disk.unsynced();
        let tries = match unsynced <= scope.unsynced_max {
            true => 1 << unsynced,
            false => scope.samples,
        };
        for pattern in 0..=tries {
            let fates: Vec<Fate> = (0..unsynced)
                .map(|bit| match unsynced <= scope.unsynced_max {
                    // One more than all the combinations: torn ones.
                    true if pattern == tries => Fate::Torn(chance.index(SECTOR_BYTES)),
                    true if pattern >> bit & 1 == 1 => Fate::Kept,
                    true => Fate::Lost,
                    false if pattern == 0 || (pattern > 1 && chance.one_in(2)) => Fate::Kept,
                    false => Fate::Lost,
                })
                .collect();
            let cut = disk.copy();
            cut.power_cut(&fates);
            outcome.crashes += 1;
            let mut bench = books.again(cut);
            bench
                .recover(outcome)
                .map_err(|what| format!("cut before change {call} leaving {fates:?}: {what}"))?;
        }
        let killed = disk.copy();
        killed.end(End::Kill);
        outcome.crashes += 1;
        let mut bench = books.again(killed);
        bench
            .recover(outcome)
            .map_err(|what| format!("killed before change {call}: {what}"))?;
    }
    Ok(())
}

impl Bench {
    fn new() -> Self {
        let fs = SimFs::new(1);
        fs.write_back_never();
        Self {
            fs,
            ledger: Ledger::new(FullPolicy::Refuse, false),
            options: options(8, 3 * 4096, FullPolicy::Refuse),
            random: 1,
            writer: None,
        }
    }

    /// The same books on another disk, nothing open.
    fn again(&self, fs: SimFs) -> Self {
        Self {
            fs,
            ledger: self.ledger.clone(),
            options: self.options.clone(),
            random: self.random,
            writer: None,
        }
    }

    fn open(&mut self) -> Result<(), String> {
        self.random += 3;
        let random = [self.random, self.random + 1, self.random + 2];
        let opened = SpoolWriter::open(self.fs.clone(), self.options.clone(), random);
        let (writer, report) = opened.map_err(|error| format!("does not open: {error:?}"))?;
        self.ledger.opened(&report, false)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn close(&mut self, end: End) {
        self.writer = None;
        self.fs.end(end);
    }

    fn recover(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        // The ids of the opening that was cut may stand on the disk already.
        self.random += 3;
        self.open()?;
        outcome.openings += 1;
        self.inspect()?;
        // What is written now must not collide with what was left.
        self.append(Lane::Normal, 8)?;
        self.inspect()
    }

    fn inspect(&mut self) -> Result<(), String> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let mut chance = Chance::new(self.random);
        match self.ledger.inspect(&writer.reader(), &mut chance) {
            Ok(()) => Ok(()),
            Err(Stop::Broken(what)) => Err(what),
            Err(Stop::Failed(error)) => Err(format!("cannot be read: {error:?}")),
        }
    }

    /// `true` when it was acknowledged.
    fn append(&mut self, lane: Lane, bytes: usize) -> Result<bool, String> {
        let Some(writer) = &mut self.writer else {
            return Ok(false);
        };
        let attempt = self.ledger.attempt(lane, bytes);
        match writer.commit(&[attempt.append()]).pop() {
            Some(Ok(durable)) => {
                self.ledger.acked_at(attempt, durable.position())?;
                Ok(true)
            }
            Some(Err(SpoolError::Full { .. })) => Ok(false),
            answer => Err(format!("refused without reason: {answer:?}")),
        }
    }

    fn op(&mut self, op: Op) -> Result<(), String> {
        self.op_traced(op)?;
        self.inspect()
    }

    fn op_traced(&mut self, op: Op) -> Result<(), String> {
        let large = self.options.geometry.envelope_bytes_max - 320;
        match op {
            Op::Small => self.append(Lane::Normal, 8).map(|_| ()),
            Op::Large => self.append(Lane::Normal, large).map(|_| ()),
            Op::High => self.append(Lane::High, 8).map(|_| ()),
            Op::Settle => self.settle(1),
            Op::Upkeep => {
                let upkeep = self.writer.as_mut().map(SpoolWriter::upkeep);
                upkeep
                    .transpose()
                    .map(|_| ())
                    .map_err(|error| format!("upkeep fails: {error:?}"))
            }
            Op::Reopen => {
                // No end of the process: a trace knows the same files before and after.
                self.writer = None;
                self.open()
            }
        }
    }

    /// Settles the oldest of `parts` equal parts of what waits.
    fn settle(&mut self, parts: usize) -> Result<(), String> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let reader = writer.reader();
        let mut by_spool: BTreeMap<SpoolId, SettledRanges> = BTreeMap::new();
        let waiting = self.ledger.unsettled();
        for &(spool, seq) in &waiting[..waiting.len() / parts] {
            by_spool.entry(spool).or_default().insert(seq, seq);
        }
        for (spool, ranges) in by_spool {
            self.ledger.told(spool, &ranges);
            reader.settle(spool, &ranges);
        }
        let written = reader.write_cursor();
        written.map_err(|error| format!("cursor is not written: {error:?}"))?;
        self.ledger.cursor_is_durable();
        Ok(())
    }

    fn fill(&mut self) -> Result<(), String> {
        self.open()?;
        let large = self.options.geometry.envelope_bytes_max - 320;
        while self.append(Lane::Normal, large)? {}
        self.settle(2)?;
        self.inspect()
    }
}
