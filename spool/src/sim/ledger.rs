//! The oracle: what was tried, acknowledged, seen and settled, and what that promises.
//!
//! Why it knows nothing of segments or cursors: it states what the spool owes to the world
//! outside, so a mistake inside cannot be repeated here.
//!
//! Promises checked:
//! - what was acknowledged, or (where no sync fails) seen by a reader once, is there, byte for byte, until it is settled
//!   (or accepted under `trust-redis`, or named in a gap under `drop-oldest`);
//! - nothing comes out that was not put in, and no position ever names two frames;
//! - no gap names what is there or what is settled, and without damage no gap says "corrupt";
//! - nothing is settled that downstream did not settle; what a durable cursor says stays settled;
//! - the low edge, the figures and the cap agree with all that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contract::{GapReason, Lane, SettledRanges, SpoolId, SpoolSeq};

use super::payload::{Attempt, number_of};
use crate::fs::Fs;
use crate::fs::sim::Chance;
use crate::{FullPolicy, OpenReport, Position, SpoolError, SpoolReader, Stored};

/// What the spool owes for one position.
#[derive(Clone, Copy, Debug)]
struct Debt {
    number: u64,
    acked: bool,
    accepted: bool,
}

/// Positions per opening.
type Ranges = HashMap<SpoolId, SettledRanges>;

/// The books of one simulated disk.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    attempts: Vec<Attempt>,
    place_of: HashMap<u64, (SpoolId, u64)>,
    debts: BTreeMap<(SpoolId, u64), Debt>,
    acked: u64,
    spools: HashMap<SpoolId, (Lane, usize)>,
    told: Ranges,
    told_durably: Ranges,
    told_this_life: Ranges,
    policy: FullPolicy,
    syncs_fail: bool,
    power_went: bool,
    life: usize,
}

/// Why an inspection ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The spool broke a promise.
    Broken(String),
    /// Reading failed, which is fine when calls are made to fail.
    Failed(SpoolError),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

fn holds(ranges: &Ranges, spool: SpoolId, seq: u64) -> bool {
    ranges
        .get(&spool)
        .is_some_and(|ranges| ranges.contains_all(seq, seq))
}

fn seq(seq: u64) -> SpoolSeq {
    SpoolSeq::new(seq).expect("positions come from the spool")
}

impl Ledger {
    pub(super) fn new(policy: FullPolicy, syncs_fail: bool) -> Self {
        Self {
            policy,
            syncs_fail,
            ..Self::default()
        }
    }

    /// May something be readable now and gone in a moment? Only what nobody acknowledged.
    pub(super) fn may_vanish(&self) -> bool {
        self.syncs_fail && !self.power_went
    }

    /// The power went, and nothing fails from now on.
    pub(super) fn power_went(&mut self) {
        self.power_went = true;
    }

    /// Frames acknowledged so far.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Every position ever seen or acknowledged that this opening may not know to be settled.
    pub(super) fn unsettled(&self) -> Vec<(SpoolId, u64)> {
        let known = [&self.told_this_life, &self.told_durably];
        let debts = self.debts.keys().copied();
        debts
            .filter(|&(spool, seq)| !known.iter().any(|told| holds(told, spool, seq)))
            .collect()
    }

    /// Every position ever seen or acknowledged.
    pub(super) fn positions(&self) -> impl Iterator<Item = (SpoolId, u64)> {
        self.debts.keys().copied()
    }

    /// A new frame to try.
    pub(super) fn attempt(&mut self, lane: Lane, bytes: usize) -> Attempt {
        let attempt = Attempt {
            number: self.attempts.len() as u64,
            lane,
            bytes,
            life: self.life,
        };
        self.attempts.push(attempt);
        attempt
    }

    /// A spool was opened; `is_odd`: calls were made to fail, or a power cut left garbage.
    pub(super) fn opened(&mut self, report: &OpenReport, is_odd: bool) -> Result<(), String> {
        self.life += 1;
        self.told_this_life.clear();
        for (lane, spool) in Lane::ALL.into_iter().zip(report.spools) {
            if self.spools.insert(spool, (lane, self.life)).is_some() {
                return Err(format!("spool id {spool} was minted twice"));
            }
        }
        if is_odd {
            return Ok(()); // such a file is left alone
        }
        if let Some(file) = report.strangers.first() {
            return Err(format!("{file} is ours and was called a stranger"));
        }
        if let Some(file) = report.quarantined.first() {
            return Err(format!("{file} was quarantined and nothing is damaged"));
        }
        Ok(())
    }

    /// A receipt was given.
    pub(super) fn acked_at(
        &mut self,
        attempt: Attempt,
        (spool, seq): (SpoolId, SpoolSeq),
    ) -> Result<(), String> {
        self.acked += 1;
        if self.spools.get(&spool) != Some(&(attempt.lane, self.life)) {
            return Err(format!(
                "receipt names spool {spool}, which is not this opening's"
            ));
        }
        self.place(attempt.number, spool, seq.get())?;
        if let Some(debt) = self.debts.get_mut(&(spool, seq.get())) {
            debt.acked = true;
        }
        Ok(())
    }

    /// A frame was read back.
    pub(super) fn seen(&mut self, stored: &Stored) -> Result<(), String> {
        let (spool, seq) = (stored.spool, stored.seq.get());
        let attempt = number_of(&stored.bytes)
            .and_then(|number| self.attempts.get(usize::try_from(number).ok()?))
            .filter(|attempt| attempt.is(stored))
            .ok_or_else(|| format!("{spool}/{seq} holds a frame nobody sent"))?;
        if self.spools.get(&spool) != Some(&(attempt.lane, attempt.life)) {
            return Err(format!(
                "{spool}/{seq} holds a frame of another opening or lane"
            ));
        }
        self.place(attempt.number, spool, seq)
    }

    fn place(&mut self, number: u64, spool: SpoolId, seq: u64) -> Result<(), String> {
        let known = self.debts.entry((spool, seq)).or_insert(Debt {
            number,
            acked: false,
            accepted: false,
        });
        if known.number != number {
            let before = known.number;
            return Err(format!("{spool}/{seq} names frames {before} and {number}"));
        }
        let place = self.place_of.entry(number).or_insert((spool, seq));
        if *place != (spool, seq) {
            return Err(format!(
                "frame {number} stands at {place:?} and at {spool}/{seq}"
            ));
        }
        Ok(())
    }

    /// Downstream has it in its database.
    pub(super) fn told(&mut self, spool: SpoolId, ranges: &SettledRanges) {
        for told in [&mut self.told, &mut self.told_this_life] {
            told.entry(spool).or_default().merge(ranges);
        }
    }

    /// Downstream accepted it.
    pub(super) fn accepted(&mut self, spool: SpoolId, ranges: &SettledRanges) {
        for &(first, last) in ranges.as_slice() {
            for (_, debt) in self.debts.range_mut((spool, first)..=(spool, last)) {
                debt.accepted = true;
            }
        }
    }

    /// A cursor was written: what was told so far may not be forgotten any more.
    pub(super) fn cursor_is_durable(&mut self) {
        // What an earlier process was told and did not write is known to downstream alone.
        for (spool, ranges) in &self.told_this_life {
            self.told_durably.entry(*spool).or_default().merge(ranges);
        }
    }

    /// Forgets every receipt since `before`, and nothing that was tried or told.
    pub(super) fn take_back(&mut self, before: &Self) {
        self.debts.clone_from(&before.debts);
        self.place_of.clone_from(&before.place_of);
        self.told_durably.clone_from(&before.told_durably);
    }

    /// Reads everything and compares.
    pub(super) fn inspect<F: Fs>(
        &mut self,
        reader: &SpoolReader<F>,
        chance: &mut Chance,
    ) -> Result<(), Stop> {
        let mut there = BTreeSet::new();
        let usage = reader.usage();
        for lane in Lane::ALL {
            let before = there.len();
            self.read_lane(reader, lane, chance, &mut there)?;
            let read = (there.len() - before) as u64;
            let backlog = usage.lane(lane).backlog;
            // Where syncs fail, what nobody acknowledged may leave the cache meanwhile.
            if backlog != read && !(self.syncs_fail && backlog > read) {
                return Err(format!("{lane:?} holds {read} frames and says {backlog}").into());
            }
        }
        let gaps = self.gaps(reader, &there)?;
        for (&(spool, at), debt) in &self.debts {
            let told = holds(&self.told, spool, at);
            let excused = told
                // An opening whose syncs fail delivers what a killed one wrote and nobody was
                // told of; it is sent again when it vanishes.
                || (!debt.acked && self.syncs_fail)
                || (debt.accepted && self.policy == FullPolicy::TrustRedis)
                || gaps.contains(&(spool, at));
            if !excused && !there.contains(&(spool, at)) {
                let number = debt.number;
                return Err(format!("LOST {spool}/{at} (frame {number})").into());
            }
            let told = told || (debt.accepted && self.policy == FullPolicy::TrustRedis);
            if reader.is_settled(spool, seq(at), seq(at)) && !told {
                return Err(format!("{spool}/{at} is settled and nobody said so").into());
            }
            if there.contains(&(spool, at)) {
                // A file whose removal was not made durable may come back after everybody forgot
                // it; sending it once more costs nothing but the bytes.
                let is_known = holds(&self.told_this_life, spool, at)
                    || (holds(&self.told_durably, spool, at) && !self.syncs_fail);
                if is_known {
                    return Err(format!("{spool}/{at} was settled and is sent again").into());
                }
                if reader.low(spool).get() > at {
                    return Err(format!("low edge of {spool} is above {at}, which waits").into());
                }
            }
        }
        let spools = reader.spools();
        if let Some((spool, _)) = there.iter().find(|(spool, _)| !spools.contains(spool)) {
            return Err(format!("{spool} has frames and is not listed").into());
        }
        // A file that cannot be removed may stand beside the one made in its place.
        if (usage.file_bytes > usage.bytes_max && !self.syncs_fail)
            || usage.used_bytes > usage.bytes_max
        {
            return Err(format!("the cap is broken: {usage:?}").into());
        }
        Ok(())
    }

    fn gaps<F: Fs>(
        &self,
        reader: &SpoolReader<F>,
        there: &BTreeSet<(SpoolId, u64)>,
    ) -> Result<BTreeSet<(SpoolId, u64)>, String> {
        let mut lost = BTreeSet::new();
        for (spool, gap) in reader.gaps() {
            if gap.reason != GapReason::Dropped || self.policy != FullPolicy::DropOldest {
                return Err(format!("false gap {gap} in {spool}"));
            }
            if gap.last.get() - gap.first.get() > 1_000_000 {
                return Err(format!("absurd gap {gap} in {spool}"));
            }
            for at in gap.first.get()..=gap.last.get() {
                if there.contains(&(spool, at)) {
                    return Err(format!("gap {gap} in {spool} names {at}, which is there"));
                }
                // A settlement that was lost with the process that was told may be called a gap.
                let is_known = holds(&self.told_this_life, spool, at)
                    || (holds(&self.told_durably, spool, at) && !self.syncs_fail);
                if is_known {
                    return Err(format!("gap {gap} in {spool} names {at}, which is settled"));
                }
                lost.insert((spool, at));
            }
        }
        Ok(lost)
    }

    fn read_lane<F: Fs>(
        &mut self,
        reader: &SpoolReader<F>,
        lane: Lane,
        chance: &mut Chance,
        there: &mut BTreeSet<(SpoolId, u64)>,
    ) -> Result<(), Stop> {
        // The backlog cursor reads up to the live edge, the live cursor from there.
        let edge = reader.live_from(lane);
        let split = chance.one_in(2);
        let mut at = Position::default();
        let mut until = split.then_some(edge);
        let mut last: HashMap<SpoolId, SpoolSeq> = HashMap::new();
        for _ in 0..100_000 {
            let bytes = 1 << chance.below(14);
            let chunk = reader.read(lane, at, until, bytes).map_err(Stop::Failed)?;
            for stored in &chunk.stored {
                self.seen(stored)?;
                let (spool, seq) = (stored.spool, stored.seq);
                if stored.lane != lane {
                    return Err(format!("{spool}/{seq} was read from {lane:?}").into());
                }
                if last.insert(spool, seq).is_some_and(|last| last >= seq) {
                    return Err(format!("{spool}/{seq} comes after a later one").into());
                }
                there.insert((spool, seq.get()));
            }
            if chunk.next < at {
                return Err(format!("reading {lane:?} goes back from {at:?}").into());
            }
            if chunk.at_end {
                match until.take() {
                    None => return Ok(()),
                    Some(edge) => at = edge,
                }
            } else if chunk.next == at {
                return Err(format!("reading {lane:?} stands still at {at:?}").into());
            } else {
                at = chunk.next;
            }
        }
        Err(format!("reading {lane:?} does not end").into())
    }
}
