//! Pure: no I/O, no clock.
//!
//! One device's orders, and how its replies are told apart.
//!
//! Invariant: a job's entry is given to exactly one report.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use codec::encode::{self, MessageSpec};
use codec::{CodecId, Imei, MessageData, message};
use contract::Device;
use contract::command::{CommandStatus, Order};
use spool::intents::Intent;

use super::{Effect, EntryId, LATE_MAX, Now, OrderView, Reason, Report};

/// More of a reply does not stand in a response; the frame that went up has it all.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// An order and what is left to do about it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    /// Until the first report has taken it.
    pub(super) entry: Option<EntryId>,
    pub(super) sends: u32,
    /// There may be a durable intent.
    has_begun: bool,
}

/// How far the order on its way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its intent is being made durable.
    Beginning,
    /// Handed to this connection, which has not said yet what became of it.
    Writing { epoch: u64 },
    /// In the socket.
    Awaiting { until: Instant },
}

#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) job: Job,
    pub(super) step: Step,
}

/// The last order whose reply did not come in time.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    cid: String,
    attempt: u32,
    codec: u8,
    pub(super) since: Instant,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Desk {
    pub(super) waiting: VecDeque<Job>,
    pub(super) current: Option<Current>,
    pub(super) unanswered: Option<Unanswered>,
}

/// A message that can be a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) codec: u8,
    pub(super) status: CommandStatus,
    pub(super) text: String,
}

/// Whose reply it is.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    Late(Unanswered),
    Reply { is_ambiguous: bool },
}

impl Job {
    pub(super) fn new(order: Order, entry: EntryId) -> Self {
        Self {
            order,
            entry: Some(entry),
            sends: 0,
            has_begun: false,
        }
    }

    pub(super) fn begin(&mut self, now: Now) -> Effect {
        self.has_begun = true;
        Effect::Begin(Intent {
            cid: self.order.cid.clone(),
            device: Device::Imei(self.order.imei),
            at_ms: now.wall_ms,
            payload: self.order.payload.clone().into_bytes(),
        })
    }

    /// A report without a reply.
    pub(super) fn report(&mut self, status: CommandStatus, reason: Reason, now: Now) -> Effect {
        self.report_with(status, reason, String::new(), now)
    }

    /// What a refusal of ours means: of an order that was sent before, that no reply came.
    pub(super) fn refusal(&self, status: CommandStatus) -> CommandStatus {
        if self.sends > 0 {
            return CommandStatus::Timeout;
        }
        status
    }

    pub(super) fn refuse(&mut self, status: CommandStatus, reason: Reason, now: Now) -> Effect {
        self.report(self.refusal(status), reason, now)
    }

    pub(super) fn report_with(
        &mut self,
        status: CommandStatus,
        reason: Reason,
        reply: String,
        now: Now,
    ) -> Effect {
        Effect::Report(Report {
            cid: self.order.cid.clone(),
            imei: self.order.imei,
            status,
            reason,
            reply,
            ts_ms: now.wall_ms,
            attempt: self.order.attempt,
            entry: self.entry.take(),
            settles: self.has_begun && status != CommandStatus::Sent,
        })
    }
}

impl Unanswered {
    pub(super) fn of(job: &Job, since: Instant) -> Self {
        Self {
            cid: job.order.cid.clone(),
            attempt: job.order.attempt,
            codec: job.order.codec,
            since,
        }
    }

    pub(super) fn report(self, imei: Imei, said: &Said, now: Now) -> Effect {
        Effect::Report(Report {
            cid: self.cid,
            imei,
            status: said.status,
            reason: Reason::Late,
            reply: said.text.clone(),
            ts_ms: now.wall_ms,
            attempt: self.attempt,
            entry: None,
            settles: false,
        })
    }
}

impl Desk {
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none() && self.unanswered.is_none()
    }

    pub(super) fn step(&self) -> Option<Step> {
        self.current.as_ref().map(|current| current.step)
    }

    /// Puts the order at this step back in front; `true` if there was one.
    pub(super) fn take_back(&mut self, step: Step) -> bool {
        let current = self.current.take_if(|current| current.step == step);
        let found = current.is_some();
        self.waiting
            .extend(current.into_iter().map(|current| current.job));
        if found {
            self.waiting.rotate_right(1);
        }
        found
    }

    pub(super) fn take_expired(&mut self, wall_ms: u64) -> Vec<Job> {
        let is_over = |job: &Job| job.order.expires_ms <= wall_ms;
        if !self.waiting.iter().any(is_over) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiting);
        let (over, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_over);
        self.waiting = rest.into();
        over
    }

    /// Decides whose reply a message of this codec is.
    pub(super) fn hear(&mut self, codec: u8) -> Heard {
        let unanswered = self.unanswered.take_if(|old| old.codec == codec);
        let current = self.current.as_ref().filter(|current| {
            current.job.order.codec == codec && matches!(current.step, Step::Awaiting { .. })
        });
        match (current, unanswered) {
            (Some(_), old) => Heard::Reply {
                is_ambiguous: old.is_some(),
            },
            (None, Some(old)) => Heard::Late(old),
            (None, None) => Heard::Nothing,
        }
    }

    /// An order that was written more than once may be answered more than once.
    pub(super) fn expect_another(&self, now: Instant) -> Option<Unanswered> {
        let job = &self.current.as_ref()?.job;
        (job.sends > 1).then(|| Unanswered::of(job, now))
    }

    pub(super) fn deadline(&self, now: Now) -> Option<Instant> {
        let reply = match self.step() {
            Some(Step::Awaiting { until }) => Some(until),
            _ => None,
        };
        let expiry = self.waiting.iter().map(|job| job.order.expires_ms).min();
        // Far moments are cut: an Instant cannot hold every one.
        let expiry = expiry.map(|ms| ms.saturating_sub(now.wall_ms).min(86_400_000));
        let expiry = expiry.map(|ms| now.at + Duration::from_millis(ms));
        let late = self.unanswered.as_ref().map(|old| old.since + LATE_MAX);
        [reply, expiry, late].into_iter().flatten().min()
    }

    pub(super) fn view(&self) -> impl Iterator<Item = OrderView> {
        let current = self.current.iter().map(|current| {
            let state = match current.step {
                Step::Beginning => "starting",
                Step::Writing { .. } => "writing",
                Step::Awaiting { .. } => "sent",
            };
            (&current.job, state)
        });
        let waiting = self.waiting.iter().map(|job| (job, "waiting"));
        current.chain(waiting).map(|(job, state)| OrderView {
            cid: job.order.cid.clone(),
            imei: job.order.imei,
            state,
            payload: job.order.payload.clone(),
            expires_ms: job.order.expires_ms,
            sends: job.sends,
        })
    }
}

/// The frame of the order on its way; `None` when it is too long for one.
pub(super) fn frame(desks: &BTreeMap<Imei, Desk>, imei: Imei) -> Option<Vec<u8>> {
    let order = &desks.get(&imei)?.current.as_ref()?.job.order;
    let text = order.payload.as_bytes();
    let message = if order.codec == 14 {
        MessageSpec::command_for(imei, text)
    } else {
        MessageSpec::command(text)
    };
    let mut bytes = Vec::new();
    encode::message_frame(&message, &mut bytes).ok()?;
    Some(bytes)
}

/// The messages in a data field that can be replies. A Codec 14 answer must name the device; its
/// refusal names whom it likes (the manufacturer's own example does).
pub(super) fn replies(imei: Imei, data: &[u8]) -> Vec<Said> {
    let codec = match data.first().map(|byte| CodecId::from_byte(*byte)) {
        Some(CodecId::Codec12) => 12,
        Some(CodecId::Codec14) => 14,
        _ => return Vec::new(),
    };
    let Ok(data) = MessageData::parse(data) else {
        return Vec::new();
    };
    let mut replies = Vec::new();
    for message in data.messages() {
        let status = match message.kind {
            message::RESPONSE if codec == 12 || message.imei() == Some(imei) => CommandStatus::Ack,
            message::NOT_EXECUTED if codec == 14 => CommandStatus::Nack,
            _ => continue,
        };
        replies.push(Said {
            codec,
            status,
            text: text(message.payload),
        });
    }
    replies
}

fn text(payload: &[u8]) -> String {
    let length = payload.len().min(REPLY_BYTES_MAX);
    String::from_utf8_lossy(&payload[..length]).into_owned()
}
