//! Pure: no I/O, no clock.
//!
//! Orders to trackers, device by device: which may be said now, and what became of each.
//!
//! Why one at a time: a Codec 12 reply names no command, so the first reply after a command is
//! taken for its own.
//!
//! Invariants:
//! - At most one order of a device is between its intent and its outcome; the others wait behind
//!   it in the order in which they came.
//! - An order that may have reached a socket is not written again, unless it is idempotent, and
//!   then [`RETRIES_MAX`] times at most.
//! - Every order ends in one final report, and its entry is released with the first one.

mod desk;
mod spent;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use codec::Imei;
use contract::command::{CommandStatus, Order};
use spool::intents::Intent;

use super::report::imei_of;
pub use super::report::{Effect, EntryId, Now, Reason, Report, Write};
use desk::{Current, Desk, Heard, Job, Step, Unanswered};
use spent::Spent;

/// How long a tracker may take to reply unless `commands.reply_timeout` says otherwise.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often an idempotent order is written again when no reply comes.
pub const RETRIES_MAX: u32 = 3;

/// Orders that wait for one device; at a reply timeout each, the last waits for minutes.
pub const WAITING_PER_DEVICE_MAX: usize = 16;

/// Orders that wait for all devices together.
pub const WAITING_MAX: usize = 4096;

/// A reply that comes even later is not taken for an old order's any more.
const LATE_MAX: Duration = Duration::from_secs(600);

/// Where an order is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The order.
    pub cid: String,
    /// Its tracker; shorten it where people read it.
    pub imei: Imei,
    /// `waiting`, `starting`, `writing` or `sent`.
    pub state: &'static str,
    /// What is to be said.
    pub payload: String,
    /// Not after this moment, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// How often it was written to a socket.
    pub sends: u32,
}

/// All orders of this gateway. Clones are for tests that try every continuation.
#[derive(Clone, Debug)]
pub struct Queue {
    reply_timeout: Duration,
    /// Which connection of a device is the living one.
    here: HashMap<Imei, u64>,
    /// Only devices with something to remember.
    desks: BTreeMap<Imei, Desk>,
    /// Every order at a desk.
    places: HashMap<String, Imei>,
    waiting: usize,
    /// Entries taken and not yet released; one that is read again is under way.
    held: HashSet<EntryId>,
    /// Intents of an earlier process whose outcome nobody knows.
    recovered: BTreeMap<String, Intent>,
    spent: Spent,
}

impl Queue {
    /// A queue of a starting gateway; `recovered` are the intents it found.
    #[must_use]
    pub fn new(reply_timeout: Duration, recovered: Vec<Intent>) -> Self {
        let recovered = recovered.into_iter();
        Self {
            reply_timeout,
            here: HashMap::new(),
            desks: BTreeMap::new(),
            places: HashMap::new(),
            waiting: 0,
            held: HashSet::new(),
            recovered: recovered.map(|i| (i.cid.clone(), i)).collect(),
            spent: Spent::default(),
        }
    }

    /// An order was read from the stream.
    pub fn order(&mut self, order: Order, entry: EntryId, now: Now) -> Vec<Effect> {
        if !self.held.insert(entry.clone()) {
            return Vec::new();
        }
        if let Some(intent) = self.recovered.remove(&order.cid) {
            self.spent.note(&order.cid, order.attempt);
            return unknown(&intent, order.attempt, Some(entry), now);
        }
        if self.places.contains_key(&order.cid) || self.spent.forbids(&order) {
            return vec![Effect::Release(entry)];
        }
        let imei = order.imei;
        let waiting = self.desks.get(&imei).map_or(0, |desk| desk.waiting.len());
        let refusal = if order.expires_ms <= now.wall_ms {
            Some((CommandStatus::Expired, Reason::None))
        } else if !self.here.contains_key(&imei) {
            Some((CommandStatus::Nack, Reason::Away))
        } else if waiting >= WAITING_PER_DEVICE_MAX || self.waiting >= WAITING_MAX {
            Some((CommandStatus::Nack, Reason::Busy))
        } else {
            None
        };
        let mut job = Job::new(order, entry);
        if let Some((status, reason)) = refusal {
            return vec![job.report(status, reason, now)];
        }
        self.places.insert(job.order.cid.clone(), imei);
        self.desks.entry(imei).or_default().waiting.push_back(job);
        self.waiting += 1;
        self.go_on(imei, now)
    }

    /// An entry that is no order. It is refused when it says who it is and whom it is for, and
    /// released in any case.
    pub fn unreadable(
        &mut self,
        entry: EntryId,
        known: Option<(String, Imei, u32)>,
        now: Now,
    ) -> Vec<Effect> {
        if !self.held.insert(entry.clone()) {
            return Vec::new();
        }
        let Some((cid, imei, attempt)) = known else {
            return vec![Effect::Release(entry)];
        };
        vec![Effect::Report(Report {
            cid,
            imei,
            status: CommandStatus::Nack,
            reason: Reason::Unreadable,
            reply: String::new(),
            ts_ms: now.wall_ms,
            attempt,
            entry: Some(entry),
            settles: false,
        })]
    }

    /// What was pending from an earlier process has been read: the intents it did not name have
    /// nobody else to report them.
    pub fn pending_read(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (cid, intent) in std::mem::take(&mut self.recovered) {
            self.spent.note(&cid, 0);
            effects.extend(unknown(&intent, 0, None, now));
        }
        effects
    }

    /// An entry was acknowledged.
    pub fn released(&mut self, entry: &str) {
        self.held.remove(entry);
    }

    /// A device has a new living connection.
    pub fn seated(&mut self, imei: Imei, epoch: u64, now: Now) -> Vec<Effect> {
        self.here.insert(imei, epoch);
        self.go_on(imei, now)
    }

    /// A connection ended; what was handed to it and not begun was not written.
    pub fn left(&mut self, imei: Imei, epoch: u64, now: Now) -> Vec<Effect> {
        if self.here.get(&imei) == Some(&epoch) {
            self.here.remove(&imei);
        }
        if let Some(desk) = self.desks.get_mut(&imei) {
            self.waiting += usize::from(desk.take_back(Step::Writing { epoch }));
        }
        self.go_on(imei, now)
    }

    /// The intent is durable: what to write, if it still may be written.
    pub fn begun<R>(&mut self, cid: &str, receipt: R, now: Now) -> (Option<Write<R>>, Vec<Effect>) {
        let Some((imei, current)) = self.current(cid, |step| step == Step::Beginning) else {
            return (None, Vec::new());
        };
        let expires_ms = current.job.order.expires_ms;
        let epoch = self.here.get(&imei).copied();
        let Some(epoch) = epoch.filter(|_| now.wall_ms < expires_ms) else {
            return (None, self.give_back(imei, now));
        };
        let Some(bytes) = desk::frame(&self.desks, imei) else {
            return (None, self.not_begun(cid, Reason::TooLarge, now));
        };
        if let Some(current) = self.desks.get_mut(&imei).and_then(|d| d.current.as_mut()) {
            current.step = Step::Writing { epoch };
        }
        let write = Write {
            imei,
            epoch,
            cid: cid.to_owned(),
            bytes,
            expires_ms,
            receipt,
        };
        (Some(write), Vec::new())
    }

    /// The intent could not be made durable, so nothing is written.
    pub fn not_begun(&mut self, cid: &str, reason: Reason, now: Now) -> Vec<Effect> {
        match self.current(cid, |step| step == Step::Beginning) {
            Some((imei, current)) => {
                let status = current.job.refusal(CommandStatus::Nack);
                self.end(imei, status, reason, now)
            }
            None => Vec::new(),
        }
    }

    /// The bytes are in the socket.
    pub fn written(&mut self, cid: &str, epoch: u64, now: Now) -> Vec<Effect> {
        let until = now.at + self.reply_timeout;
        let Some((_, current)) = self.current(cid, |step| step == Step::Writing { epoch }) else {
            return Vec::new();
        };
        current.step = Step::Awaiting { until };
        current.job.sends += 1;
        let (attempt, is_first) = (current.job.order.attempt, current.job.entry.is_some());
        let report = is_first.then(|| current.job.report(CommandStatus::Sent, Reason::None, now));
        self.spent.note(cid, attempt);
        report.into_iter().collect()
    }

    /// Some of the bytes may be in the socket.
    pub fn broken(&mut self, cid: &str, epoch: u64, now: Now) -> Vec<Effect> {
        let writing = |step| step == Step::Writing { epoch };
        let Some((imei, current)) = self.current(cid, writing) else {
            return Vec::new();
        };
        let attempt = current.job.order.attempt;
        self.spent.note(cid, attempt);
        self.end(imei, CommandStatus::Unknown, Reason::Broken, now)
    }

    /// No byte is in the socket: there was no connection to take them, or it was too late.
    pub fn unwritten(&mut self, cid: &str, epoch: u64, now: Now) -> Vec<Effect> {
        match self.current(cid, |step| step == Step::Writing { epoch }) {
            Some((imei, _)) => self.give_back(imei, now),
            None => Vec::new(),
        }
    }

    /// A device sent a data field that is kept; it may be a reply.
    pub fn frame(&mut self, imei: Imei, data: &[u8], now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.desks.contains_key(&imei) {
            return effects;
        }
        for said in desk::replies(imei, data) {
            let Some(desk) = self.desks.get_mut(&imei) else {
                break;
            };
            match desk.hear(said.codec) {
                Heard::Nothing => {}
                Heard::Late(old) => {
                    effects.push(old.report(imei, &said, now));
                }
                Heard::Reply { is_ambiguous } => {
                    let reason = match said.status {
                        _ if is_ambiguous => Reason::Ambiguous,
                        CommandStatus::Nack => Reason::WrongImei,
                        _ => Reason::None,
                    };
                    let again = desk.expect_another(now.at);
                    effects.extend(self.end_with(imei, said.status, reason, said.text, now));
                    self.leave_unanswered(imei, again);
                }
            }
        }
        self.tidy(imei);
        effects
    }

    /// An operator takes an order back; `None` when it is not waiting (any more).
    pub fn cancel(&mut self, cid: &str, now: Now) -> Option<Vec<Effect>> {
        let imei = *self.places.get(cid)?;
        let desk = self.desks.get_mut(&imei)?;
        let at = desk.waiting.iter().position(|job| job.order.cid == cid)?;
        let mut job = desk.waiting.remove(at)?;
        self.waiting -= 1;
        self.places.remove(cid);
        self.tidy(imei);
        Some(vec![job.report(
            CommandStatus::Nack,
            Reason::Cancelled,
            now,
        )])
    }

    /// Ends what is over by now.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let imeis: Vec<Imei> = self.desks.keys().copied().collect();
        let mut effects = Vec::new();
        for imei in imeis {
            effects.extend(self.tick_one(imei, now));
        }
        effects
    }

    fn tick_one(&mut self, imei: Imei, now: Now) -> Vec<Effect> {
        let Some(desk) = self.desks.get_mut(&imei) else {
            return Vec::new();
        };
        desk.unanswered
            .take_if(|old| now.at >= old.since + LATE_MAX);
        let mut effects = Vec::new();
        for mut job in desk.take_expired(now.wall_ms) {
            self.waiting -= 1;
            self.places.remove(&job.order.cid);
            effects.push(job.report(CommandStatus::Expired, Reason::None, now));
        }
        let is_here = self.here.contains_key(&imei);
        if let Some(current) = &mut desk.current
            && let Step::Awaiting { until } = current.step
            && now.at >= until
        {
            let order = &current.job.order;
            let may_retry = order.idempotent && now.wall_ms < order.expires_ms && is_here;
            if may_retry && current.job.sends <= RETRIES_MAX {
                current.step = Step::Beginning;
                effects.push(current.job.begin(now));
            } else {
                let old = Unanswered::of(&current.job, now.at);
                effects.extend(self.end(imei, CommandStatus::Timeout, Reason::None, now));
                self.leave_unanswered(imei, Some(old));
            }
        }
        self.tidy(imei);
        effects
    }

    /// When [`Queue::tick`] wants to be called if nothing else happens.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Instant> {
        self.desks.values().filter_map(|d| d.deadline(now)).min()
    }

    /// The gateway stops: connections are gone, nobody will hear a reply.
    pub fn stop(&mut self, now: Now) -> Vec<Effect> {
        self.here.clear();
        let imeis: Vec<Imei> = self.desks.keys().copied().collect();
        let mut effects = Vec::new();
        for imei in imeis {
            let step = self.desks.get(&imei).and_then(Desk::step);
            effects.extend(match step {
                Some(Step::Awaiting { .. }) => {
                    self.end(imei, CommandStatus::Unknown, Reason::Stopped, now)
                }
                Some(Step::Beginning | Step::Writing { .. }) => self.give_back(imei, now),
                None => self.go_on(imei, now),
            });
        }
        effects
    }

    /// Has the device a living connection?
    #[must_use]
    pub fn is_here(&self, imei: Imei) -> bool {
        self.here.contains_key(&imei)
    }

    /// Orders that wait, and orders on their way.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.waiting, self.places.len() - self.waiting)
    }

    /// Every order with where it is, by device.
    #[must_use]
    pub fn view(&self) -> Vec<OrderView> {
        self.desks.values().flat_map(Desk::view).collect()
    }

    /// The order on its way with this id, if it is at such a step.
    fn current(&mut self, cid: &str, at: impl Fn(Step) -> bool) -> Option<(Imei, &mut Current)> {
        let imei = *self.places.get(cid)?;
        let current = self.desks.get_mut(&imei)?.current.as_mut()?;
        (current.job.order.cid == cid && at(current.step)).then_some((imei, current))
    }

    /// Puts the order on its way, of which no byte was written, back in front of the others.
    fn give_back(&mut self, imei: Imei, now: Now) -> Vec<Effect> {
        if let Some(desk) = self.desks.get_mut(&imei)
            && let Some(step) = desk.step()
        {
            self.waiting += usize::from(desk.take_back(step));
        }
        self.go_on(imei, now)
    }

    /// After the desk may have been cleared away.
    fn leave_unanswered(&mut self, imei: Imei, old: Option<Unanswered>) {
        if old.is_some() {
            self.desks.entry(imei).or_default().unanswered = old;
        }
    }

    fn end(&mut self, imei: Imei, status: CommandStatus, reason: Reason, now: Now) -> Vec<Effect> {
        self.end_with(imei, status, reason, String::new(), now)
    }

    /// Ends the order on its way and turns to the next.
    fn end_with(
        &mut self,
        imei: Imei,
        status: CommandStatus,
        reason: Reason,
        reply: String,
        now: Now,
    ) -> Vec<Effect> {
        let Some(mut current) = self.desks.get_mut(&imei).and_then(|d| d.current.take()) else {
            return Vec::new();
        };
        self.places.remove(&current.job.order.cid);
        let mut effects = vec![current.job.report_with(status, reason, reply, now)];
        effects.extend(self.go_on(imei, now));
        effects
    }

    /// Begins the next order of a device if there is one and nothing is on its way.
    fn go_on(&mut self, imei: Imei, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_here = self.here.contains_key(&imei);
        if let Some(desk) = self.desks.get_mut(&imei) {
            while desk.current.is_none() || !is_here {
                let Some(mut job) = desk.waiting.pop_front() else {
                    break;
                };
                self.waiting -= 1;
                let (status, reason) = if job.order.expires_ms <= now.wall_ms {
                    (CommandStatus::Expired, Reason::None)
                } else if is_here {
                    effects.push(job.begin(now));
                    let step = Step::Beginning;
                    desk.current = Some(Current { job, step });
                    break;
                } else {
                    (CommandStatus::Nack, Reason::Away)
                };
                self.places.remove(&job.order.cid);
                effects.push(job.refuse(status, reason, now));
            }
        }
        self.tidy(imei);
        effects
    }

    /// Forgets a desk with nothing on it.
    fn tidy(&mut self, imei: Imei) {
        if self.desks.get(&imei).is_some_and(Desk::is_clear) {
            self.desks.remove(&imei);
        }
    }
}

fn unknown(intent: &Intent, attempt: u32, entry: Option<EntryId>, now: Now) -> Vec<Effect> {
    let Some(imei) = imei_of(intent) else {
        return entry.map(Effect::Release).into_iter().collect();
    };
    vec![Effect::Report(Report {
        cid: intent.cid.clone(),
        imei,
        status: CommandStatus::Unknown,
        reason: Reason::Restarted,
        reply: String::new(),
        ts_ms: now.wall_ms,
        attempt,
        entry,
        settles: true,
    })]
}
