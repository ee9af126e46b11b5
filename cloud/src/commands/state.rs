//! Pure: no I/O, no clock.
//!
//! What a command may become, whoever says what, in whatever order.
//!
//! Why a command that cannot be accounted for is not given again: Redis may have lost an entry after
//! a gateway had read it, so not finding it proves nothing.
//!
//! Invariants:
//! - A command that is not idempotent goes back to the queue only when nobody was told: Redis did not
//!   take the entry, the entry was withdrawn unread, or the gateway refused it unsaid.
//! - One that is idempotent goes back at most [`RESENDS_MAX`] times although it may have been said.
//! - Anything else only moves forward in the order of [`Status`].

use std::time::Duration;

use contract::{CommandResponse, CommandStatus};

/// How often an idempotent command is given again although it may have been said. The table's
/// trigger holds to the same number.
pub const RESENDS_MAX: u32 = 3;

/// Longest pause before a refused command is given again.
const RETRY_MAX: Duration = Duration::from_secs(64);

/// Refusals after which the command may be given again, at once or to another gateway.
const MAY_GO_AGAIN: [&str; 4] = ["offline", "moved", "busy", "storage"];

/// How far a command is. The order of the variants is the order in which it may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Waits for its tracker, or behind another command.
    Queued,
    /// Given to a gateway.
    Routed,
    /// In the tracker's socket.
    Sent,
    /// Nobody can tell whether the tracker got it.
    Unknown,
    /// No reply in time.
    Timeout,
    /// Too late before anything was said.
    Expired,
    /// Refused or cancelled.
    Nacked,
    /// Answered.
    Acked,
}

impl Status {
    /// Every status with its word in the table.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Queued, "queued"),
        (Self::Routed, "routed"),
        (Self::Sent, "sent"),
        (Self::Unknown, "unknown"),
        (Self::Timeout, "timeout"),
        (Self::Expired, "expired"),
        (Self::Nacked, "nacked"),
        (Self::Acked, "acked"),
    ];

    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(status, _)| *status == self);
        found
            .map(|(_, word)| *word)
            .expect("every status stands in ALL, which a test counts")
    }

    /// `None` for a word that is no status.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(status, _)| *status)
    }

    /// Is nothing more to be done? A late word of a gateway may still move it forward.
    #[must_use]
    pub fn is_final(self) -> bool {
        self >= Self::Unknown
    }

    /// What a gateway's word means here.
    #[must_use]
    pub fn of_response(status: CommandStatus) -> Self {
        match status {
            CommandStatus::Sent => Self::Sent,
            CommandStatus::Unknown => Self::Unknown,
            CommandStatus::Timeout => Self::Timeout,
            CommandStatus::Expired => Self::Expired,
            CommandStatus::Nack => Self::Nacked,
            CommandStatus::Ack => Self::Acked,
        }
    }
}

/// What matters of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// How far it is.
    pub status: Status,
    /// How often it was given to a gateway.
    pub attempt: u32,
    /// How often although it may have been said before.
    pub resends: u32,
    /// May it be said twice?
    pub idempotent: bool,
    /// Has `expires_at` passed?
    pub expired: bool,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new status.
    pub to: Status,
    /// Why.
    pub reason: &'static str,
    /// For [`Status::Queued`]: not before.
    pub retry_after: Duration,
    /// It may have been said before.
    pub is_resend: bool,
}

impl Change {
    fn to(to: Status, reason: &'static str) -> Self {
        Self {
            to,
            reason,
            retry_after: Duration::ZERO,
            is_resend: false,
        }
    }
}

/// What a response does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Write the response's own status, reason and reply.
    Forward(Status),
    /// Give it again.
    Again(Change),
    /// The command is further, or on another attempt: note it.
    Noted,
}

/// Where the entry of a routed command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the stream, and its gateway has not read it.
    Unread,
    /// Its gateway has read it and not released it.
    Held,
    /// Its gateway has released it: what it said is among the responses.
    Released,
    /// Not in the stream: never written, or Redis lost it.
    Gone,
}

/// What is known about a command on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its entry; of no interest once it was sent.
    pub standing: Standing,
    /// Its gateway gave no sign of life for longer than a flushed Redis takes to heal.
    pub is_silent: bool,
    /// Its tracker is at another gateway.
    pub has_moved: bool,
    /// Longer on its way than an outcome may take.
    pub is_overdue: bool,
    /// There are responses that nobody has read: one may be its own.
    pub has_unread_responses: bool,
}

/// What to do about a command on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again later.
    Wait,
    /// Take the entry out of the stream if it is still unread, then [`withdrawn`].
    Withdraw,
    /// Write this.
    Write(Change),
}

/// Redis did not take the entry: there is no such stream, or it refused.
#[must_use]
pub fn not_given(row: &Row, reason: &'static str) -> Option<Change> {
    (row.status == Status::Routed).then(|| again(row, reason))
}

/// The entry was removed before its gateway read it.
#[must_use]
pub fn withdrawn(row: &Row) -> Option<Change> {
    not_given(row, "withdrawn")
}

/// A gateway said something about a command.
#[must_use]
pub fn on_response(row: &Row, said: &CommandResponse) -> Heard {
    let to = Status::of_response(said.status);
    // 0: an intent whose order was not in Redis any more.
    let is_old = said.attempt != 0 && said.attempt < row.attempt;
    let is_outstanding = matches!(row.status, Status::Routed | Status::Sent);
    // An answer is an answer. Anything else about an earlier attempt says nothing about this one.
    if is_old && to != Status::Acked {
        return Heard::Noted;
    }
    let is_unsaid = to == Status::Nacked && MAY_GO_AGAIN.contains(&said.reason.as_str());
    if is_unsaid && row.status == Status::Routed {
        let reason = MAY_GO_AGAIN.iter().find(|word| **word == said.reason);
        return Heard::Again(again(row, reason.copied().unwrap_or_default()));
    }
    if to == Status::Unknown && is_outstanding && may_resend(row) {
        return Heard::Again(resend(row, "unknown"));
    }
    if to > row.status {
        // A refusal of a command that is back in the queue is what put it there.
        if row.status == Status::Queued && is_unsaid {
            return Heard::Noted;
        }
        return Heard::Forward(to);
    }
    Heard::Noted
}

/// What becomes of a command that is on its way and about which nothing is heard.
#[must_use]
pub fn judge(row: &Row, evidence: &Evidence) -> Verdict {
    let silent = evidence.is_silent.then_some("gateway-silent");
    let overdue = evidence.is_overdue.then_some("no-outcome");
    let reason = match (row.status, evidence.standing) {
        (Status::Routed, Standing::Unread) => {
            let elsewhere = evidence.is_silent || evidence.has_moved;
            return if elsewhere || row.expired {
                Verdict::Withdraw
            } else {
                Verdict::Wait
            };
        }
        // It may wait for its tracker there; its gateway itself ends it when it expires.
        (Status::Routed, Standing::Held) => silent.or(overdue.filter(|_| row.expired)),
        (Status::Routed, Standing::Gone) if evidence.is_overdue => Some("entry-lost"),
        (Status::Routed | Status::Sent, _) => silent.or(overdue),
        _ => None,
    };
    match reason {
        Some(reason) if !evidence.has_unread_responses => Verdict::Write(if may_resend(row) {
            resend(row, reason)
        } else {
            Change::to(Status::Unknown, reason)
        }),
        _ => Verdict::Wait,
    }
}

fn may_resend(row: &Row) -> bool {
    row.idempotent && row.resends < RESENDS_MAX && !row.expired
}

fn resend(row: &Row, reason: &'static str) -> Change {
    Change {
        is_resend: true,
        ..again(row, reason)
    }
}

fn again(row: &Row, reason: &'static str) -> Change {
    let doublings = row.attempt.saturating_sub(1).min(6);
    let pause = Duration::from_secs(1) * 2_u32.pow(doublings);
    Change {
        retry_after: pause.min(RETRY_MAX),
        ..Change::to(Status::Queued, reason)
    }
}

#[cfg(test)]
mod tests;
