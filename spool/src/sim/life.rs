//! The lives of one simulated spool: open, work, crash, and again.
//!
//! Invariants: an opening may fail only when a call was made to fail or the power went; after the
//! last life everything owed is there, can be settled, and the spool works again.

use contract::{Lane, SettledRanges, SpoolId};

use super::ledger::{Ledger, Stop};
use super::payload::FRAME_BYTES_MIN;
use super::{Outcome, Trouble, options};
use crate::fs::sim::{Chance, End, Faults, SimFs};
use crate::{
    Append, CompactPolicy, Filled, FullPolicy, Options, Position, SpoolError, SpoolReader,
    SpoolWriter,
};

/// The cursor takes this much of a disk in any case.
const CURSOR_BYTES: u64 = 1_060_000;

/// A life that is to be cut ends after so many steps even when it makes few calls.
const STEPS_MAX: u64 = 120;

pub(super) struct Lives {
    pub(super) fs: SimFs,
    pub(super) options: Options,
    pub(super) chance: Chance,
    pub(super) ledger: Ledger,
    pub(super) trouble: Trouble,
    pub(super) compacts: bool,
    pub(super) outcome: Outcome,
}

/// One opening's spool with the harness's own cursors.
pub(super) struct Life {
    pub(super) writer: SpoolWriter<SimFs>,
    reader: SpoolReader<SimFs>,
    cursors: [Position; 3],
    pub(super) given_up: bool,
    /// A call failed while it was opened: what it could not read it hides until the next time.
    half_blind: bool,
}

/// Ends a life without an error: the power went.
pub(super) enum Ended {
    Crashed,
    Broken(String),
}

impl From<String> for Ended {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

pub(super) fn lives(seed: u64, trouble: Trouble, compacts: bool) -> Result<Outcome, String> {
    let mut chance = Chance::new(seed);
    let full = match chance.below(6) {
        0 => FullPolicy::TrustRedis,
        1 => FullPolicy::DropOldest,
        _ => FullPolicy::Refuse,
    };
    let segment_bytes = 4096 * chance.between(3, 6);
    let segments = chance.between(8, 12);
    let mut lives = Lives {
        fs: SimFs::new(chance.next()),
        options: options(segments, segment_bytes, full),
        ledger: Ledger::new(
            full,
            !matches!(trouble, Trouble::Crashes | Trouble::SmallDisk),
        ),
        trouble,
        compacts,
        outcome: Outcome::default(),
        chance,
    };
    if trouble == Trouble::SmallDisk {
        let most = segments * segment_bytes;
        let least = most / 4;
        lives
            .fs
            .set_capacity(Some(CURSOR_BYTES + lives.chance.between(least, most)));
    }
    for _ in 0..lives.chance.between(3, 8) {
        lives.live()?;
    }
    lives.last()?;
    lives.outcome.acked = lives.ledger.acked();
    lives.outcome.faults = lives.fs.faults_hit();
    Ok(lives.outcome)
}

impl Lives {
    fn faults(&self) -> Faults {
        match self.trouble {
            Trouble::Crashes | Trouble::SmallDisk => Faults::None,
            Trouble::Syncs { per_mille } => Faults::Random {
                sync_per_mille: per_mille,
                other_per_mille: 0,
            },
            Trouble::Anything {
                sync_per_mille,
                other_per_mille,
            }
            | Trouble::Offline {
                sync_per_mille,
                other_per_mille,
            } => Faults::Random {
                sync_per_mille,
                other_per_mille,
            },
        }
    }

    /// One life, ended by a crash or between two calls.
    fn live(&mut self) -> Result<(), String> {
        self.fs.set_faults(self.faults());
        // Short lives are cut in their opening, long ones anywhere.
        let calls = match self.chance.below(10) {
            0 => None,
            1..4 => Some(self.chance.between(1, 40)),
            _ => Some(self.chance.between(1, 250)),
        };
        let steps = match calls {
            None => self.chance.between(1, 40),
            Some(_) => STEPS_MAX,
        };
        if let Some(calls) = calls {
            self.fs.crash_in(calls);
        }
        match self.open_and_work(steps) {
            Ok(()) => {}
            Err(Ended::Crashed) => self.outcome.crashes += 1,
            Err(Ended::Broken(what)) => return Err(what),
        }
        self.fs.set_faults(Faults::None);
        self.fs.end(if self.chance.per_mille(300) {
            End::Kill
        } else {
            End::PowerCut
        });
        Ok(())
    }

    /// `Ok(None)`: it could not be opened, for a reason we gave it.
    pub(super) fn open(&mut self) -> Result<Option<Life>, Ended> {
        let random = [(); 3].map(|()| self.chance.next());
        let faults = self.fs.faults_hit();
        let opened = SpoolWriter::open(self.fs.clone(), self.options.clone(), random);
        let (writer, report) = match opened {
            Ok(opened) => opened,
            Err(_) if self.fs.is_down() => return Err(Ended::Crashed),
            Err(_) if self.fs.faults_hit() > faults => return Ok(None),
            // A disk without room for a cursor is no disk for a spool.
            Err(_) if self.trouble == Trouble::SmallDisk => return Ok(None),
            Err(error) => return Err(format!("does not open: {error:?}").into()),
        };
        let is_odd = self.fs.faults_hit() > 0 || self.fs.garbage() > 0;
        self.ledger.opened(&report, is_odd)?;
        self.outcome.openings += 1;
        let reader = writer.reader();
        let mut life = Life {
            writer,
            reader,
            cursors: Default::default(),
            given_up: false,
            half_blind: self.fs.faults_hit() > faults,
        };
        let backlog = life.reader.usage().backlog();
        if report.backlog != backlog {
            let said = report.backlog;
            return Err(format!("opening says {said} frames wait, usage says {backlog}").into());
        }
        self.inspect(&mut life)?;
        Ok(Some(life))
    }

    fn open_and_work(&mut self, steps: u64) -> Result<(), Ended> {
        let Some(mut life) = self.open()? else {
            return Ok(());
        };
        for _ in 0..steps {
            self.step(&mut life)?;
            if self.fs.is_down() {
                return Err(Ended::Crashed);
            }
            if life.given_up && !life.writer.has_failed() {
                return Err("storage was given up and is trusted again"
                    .to_owned()
                    .into());
            }
            life.given_up = life.writer.has_failed();
            if life.given_up && self.trouble_is_crashes() {
                return Err("storage was given up without a failed call"
                    .to_owned()
                    .into());
            }
        }
        self.outcome.failed += u64::from(life.given_up);
        Ok(())
    }

    fn trouble_is_crashes(&self) -> bool {
        matches!(self.trouble, Trouble::Crashes | Trouble::SmallDisk)
    }

    fn step(&mut self, life: &mut Life) -> Result<(), Ended> {
        if matches!(self.trouble, Trouble::Offline { .. }) {
            return match self.chance.below(100) {
                0..45 => self.append(life),
                45..50 => {
                    self.settle(life);
                    Ok(())
                }
                50..55 => self.write_cursor(life),
                55..97 => self.upkeep(life),
                _ => self.inspect(life),
            };
        }
        match self.chance.below(100) {
            0..45 => self.append(life),
            45..60 => self.deliver(life),
            60..75 => {
                self.settle(life);
                Ok(())
            }
            75..84 => self.write_cursor(life),
            84..96 => self.upkeep(life),
            _ => self.inspect(life),
        }
    }

    fn append(&mut self, life: &mut Life) -> Result<(), Ended> {
        let lane = Lane::ALL[self.chance.index(3)];
        let mut group = Vec::new();
        for _ in 0..self.chance.between(1, 6) {
            // Usually one lane only.
            let lane = match self.chance.one_in(8) {
                true => Lane::ALL[self.chance.index(3)],
                false => lane,
            };
            let most = self.options.geometry.envelope_bytes_max - 320;
            let bytes = match self.chance.below(4) {
                0 => FRAME_BYTES_MIN,
                1 => most,
                _ => FRAME_BYTES_MIN + self.chance.index(most - FRAME_BYTES_MIN),
            };
            group.push((lane, bytes));
        }
        self.commit(life, &group)
    }

    pub(super) fn commit(&mut self, life: &mut Life, group: &[(Lane, usize)]) -> Result<(), Ended> {
        let attempts = group.iter().copied();
        let attempts: Vec<_> = attempts
            .map(|(lane, bytes)| self.ledger.attempt(lane, bytes))
            .collect();
        let group: Vec<Append> = attempts.iter().map(|attempt| attempt.append()).collect();
        let failed_before = life.writer.has_failed();
        let answers = life.writer.commit(&group);
        if answers.len() != group.len() {
            return Err(format!("{} answers to {}", answers.len(), group.len()).into());
        }
        for (attempt, answer) in attempts.into_iter().zip(answers) {
            match answer {
                Ok(_) if failed_before => {
                    return Err("acknowledged after storage was given up".to_owned().into());
                }
                Ok(durable) => {
                    if durable.record_count() != attempt.append().record_count {
                        return Err("a receipt for another frame".to_owned().into());
                    }
                    self.ledger.acked_at(attempt, durable.position())?;
                }
                Err(_) if self.fs.is_down() => {}
                Err(SpoolError::Full { .. }) => {}
                Err(SpoolError::NoSpace { .. }) if self.trouble != Trouble::Crashes => {}
                Err(SpoolError::Storage { .. }) if !life.writer.has_failed() => {
                    return Err("storage failed twice and is trusted".to_owned().into());
                }
                Err(SpoolError::TooLarge { .. }) => return Err("too large".to_owned().into()),
                Err(_) if !self.trouble_is_crashes() => {}
                Err(error) => return Err(format!("refused without reason: {error:?}").into()),
            }
        }
        Ok(())
    }

    /// Reads on, as the uplink does.
    fn deliver(&mut self, life: &mut Life) -> Result<(), Ended> {
        let at = self.chance.index(3);
        let bytes = 1 << self.chance.below(13);
        self.read_on(life, at, bytes)
    }

    pub(super) fn read_on(
        &mut self,
        life: &mut Life,
        at: usize,
        bytes: usize,
    ) -> Result<(), Ended> {
        match life
            .reader
            .read(Lane::ALL[at], life.cursors[at], None, bytes)
        {
            Ok(chunk) => {
                for stored in &chunk.stored {
                    self.ledger.seen(stored)?;
                }
                life.cursors[at] = chunk.next;
                Ok(())
            }
            Err(_) if self.fs.is_down() => Err(Ended::Crashed),
            Err(_) if !self.trouble_is_crashes() => Ok(()),
            Err(error) => Err(format!("cannot be read: {error:?}").into()),
        }
    }

    /// Downstream says what it has: everything of one opening, or parts in any order.
    fn settle(&mut self, life: &mut Life) {
        let waiting = self.ledger.unsettled();
        let mut ranges = SettledRanges::new();
        let Some(&(spool, _)) = waiting.get(self.chance.index(waiting.len().max(1))) else {
            return;
        };
        let (whole, accept) = (self.chance.one_in(2), self.chance.one_in(4));
        for &(_, seq) in waiting.iter().filter(|(of, _)| *of == spool) {
            if whole || !self.chance.one_in(3) {
                ranges.insert(seq, seq);
            }
        }
        if accept {
            self.ledger.accepted(spool, &ranges);
            life.reader.accepted(spool, &ranges);
        } else {
            self.tell(life, spool, &ranges);
        }
        if self.chance.one_in(4) {
            self.tell_gaps(life);
        }
    }

    pub(super) fn tell(&mut self, life: &mut Life, spool: SpoolId, ranges: &SettledRanges) {
        self.ledger.told(spool, ranges);
        life.reader.settle(spool, ranges);
    }

    fn tell_gaps(&mut self, life: &mut Life) {
        for (spool, gap) in life.reader.gaps() {
            let mut ranges = SettledRanges::new();
            ranges.insert(gap.first.get(), gap.last.get());
            self.tell(life, spool, &ranges);
        }
    }

    pub(super) fn write_cursor(&mut self, life: &mut Life) -> Result<(), Ended> {
        match life.reader.write_cursor() {
            Ok(_) => {
                self.ledger.cursor_is_durable();
                Ok(())
            }
            Err(_) if self.fs.is_down() => Err(Ended::Crashed),
            Err(_) if self.trouble != Trouble::Crashes => Ok(()),
            Err(error) => Err(format!("cursor is not written: {error:?}").into()),
        }
    }

    pub(super) fn upkeep(&mut self, life: &mut Life) -> Result<(), Ended> {
        if self.compacts && self.chance.one_in(3) {
            return self.compact(life);
        }
        let done = life.writer.upkeep().map(|_| ());
        self.kept_up(done)
    }

    pub(super) fn adopt(&mut self, life: &mut Life, filled: Filled) -> Result<(), Ended> {
        let done = life.writer.adopt(filled);
        self.kept_up(done)
    }

    fn kept_up(&self, done: Result<(), SpoolError>) -> Result<(), Ended> {
        match done {
            Ok(()) => Ok(()),
            Err(_) if self.fs.is_down() => Err(Ended::Crashed),
            Err(_) if self.trouble != Trouble::Crashes => Ok(()),
            Err(error) => Err(format!("upkeep fails: {error:?}").into()),
        }
    }

    pub(super) fn compact(&mut self, life: &mut Life) -> Result<(), Ended> {
        let policy = CompactPolicy {
            newest_spared: self.chance.below(2),
        };
        match life.writer.compact(policy) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                self.outcome.compacted += 1;
                // What was read before stands elsewhere now.
                life.cursors = Default::default();
                self.inspect(life)
            }
            Err(_) if self.fs.is_down() => Err(Ended::Crashed),
            Err(_) if self.trouble != Trouble::Crashes => Ok(()),
            Err(error) => Err(format!("compaction fails: {error:?}").into()),
        }
    }

    /// The oracle's look at everything, on a disk that answers.
    fn inspect(&mut self, life: &mut Life) -> Result<(), Ended> {
        if life.half_blind {
            return Ok(());
        }
        let faults = self.fs.set_faults(Faults::None);
        let inspected = self.ledger.inspect(&life.reader, &mut self.chance);
        self.fs.set_faults(faults);
        match inspected {
            Ok(()) => Ok(()),
            Err(_) if self.fs.is_down() => Err(Ended::Crashed),
            Err(Stop::Broken(what)) => Err(what.into()),
            Err(Stop::Failed(error)) => Err(format!("cannot be read: {error:?}").into()),
        }
    }

    /// The last life is quiet: everything owed is there, is settled, and the spool works again.
    pub(super) fn last(&mut self) -> Result<(), String> {
        self.trouble = Trouble::Crashes;
        self.fs.set_capacity(None);
        match self.quiet() {
            Ok(()) => Ok(()),
            Err(Ended::Crashed) => Err("the power went without being cut".to_owned()),
            Err(Ended::Broken(what)) => Err(format!("at the end: {what}")),
        }
    }

    fn quiet(&mut self) -> Result<(), Ended> {
        let mut life = self.opened()?;
        self.settle_everything(&mut life)?;
        self.append_to_each_lane(&mut life)?;
        self.inspect(&mut life)?;
        drop(life);
        self.fs.end(End::PowerCut);
        self.ledger.power_went();
        let mut life = self.opened()?;
        self.settle_everything(&mut life)?;
        self.append_to_each_lane(&mut life)?;
        let bytes_max = self.options.bytes_max;
        let files = self.fs.files().into_iter();
        let bytes: u64 = files
            .filter(|(name, _)| name.starts_with("seg-"))
            .map(|(_, bytes)| bytes)
            .sum();
        if bytes > bytes_max && self.fs.faults_hit() == 0 && self.fs.garbage() == 0 {
            return Err(format!("segments take {bytes} of {bytes_max} bytes").into());
        }
        Ok(())
    }

    fn append_to_each_lane(&mut self, life: &mut Life) -> Result<(), Ended> {
        for lane in Lane::ALL {
            let attempt = self.ledger.attempt(lane, FRAME_BYTES_MIN);
            match life.writer.commit(&[attempt.append()]).pop() {
                Some(Ok(durable)) => self.ledger.acked_at(attempt, durable.position())?,
                answer => return Err(format!("an empty spool refuses: {answer:?}").into()),
            }
        }
        Ok(())
    }

    fn opened(&mut self) -> Result<Life, Ended> {
        let life = self.open()?;
        life.ok_or_else(|| Ended::Broken("does not open on a good disk".to_owned()))
    }

    fn settle_everything(&mut self, life: &mut Life) -> Result<(), Ended> {
        let mut by_spool: std::collections::BTreeMap<SpoolId, SettledRanges> = Default::default();
        for (spool, seq) in self.ledger.positions() {
            by_spool.entry(spool).or_default().insert(seq, seq);
        }
        for (spool, ranges) in by_spool {
            self.tell(life, spool, &ranges);
        }
        self.tell_gaps(life);
        self.write_cursor(life)?;
        self.inspect(life)?;
        // Until the power went, what nobody acknowledged may have left the cache unread.
        let left = match self.ledger.may_vanish() {
            true => 0,
            false => life.reader.usage().backlog(),
        };
        if left > 0 || !life.reader.gaps().is_empty() {
            return Err(format!("{left} frames wait after everything was settled").into());
        }
        Ok(())
    }
}
