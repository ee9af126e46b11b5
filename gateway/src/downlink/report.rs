//! Pure: no I/O, no clock.
//!
//! What the queue wants done, and what it says about an order: plain values for the shell to obey.
//!
//! Invariant: bytes for a socket stand only in a [`Write`], beside the receipt of their intent.

use std::time::Instant;

use codec::Imei;
use contract::command::{CommandResponse, CommandStatus};
use contract::{Device, GatewayId};
use spool::intents::Intent;

/// Id of an order's stream entry.
pub type EntryId = String;

/// The two clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timeouts.
    pub at: Instant,
    /// For expiry, milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

/// What the shell is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the intent durable, then say [`begun`](super::queue::Queue::begun) or
    /// [`not_begun`](super::queue::Queue::not_begun).
    Begin(Intent),
    /// Write to `commands:responses`.
    Report(Report),
    /// Acknowledge an entry that needs no report, then say
    /// [`released`](super::queue::Queue::released).
    Release(EntryId),
}

/// Bytes for one tracker's socket.
#[derive(Debug)]
pub struct Write<R> {
    /// Whose socket.
    pub imei: Imei,
    /// Which of its connections.
    pub epoch: u64,
    /// Which order.
    pub cid: String,
    /// The frame.
    pub bytes: Vec<u8>,
    /// Not to be written after this moment, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// The intent is durable.
    pub receipt: R,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The order.
    pub cid: String,
    /// Its tracker.
    pub imei: Imei,
    /// How far it came.
    pub status: CommandStatus,
    /// Why.
    pub reason: Reason,
    /// What the tracker said.
    pub reply: String,
    /// When, milliseconds since 1970 UTC.
    pub ts_ms: u64,
    /// The order's `attempt`.
    pub attempt: u32,
    /// To acknowledge once this is written.
    pub entry: Option<EntryId>,
    /// Once this is written the intent may be forgotten.
    pub settles: bool,
}

/// Why an order ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing to explain.
    None,
    /// The tracker is not here: `offline`, or `moved` when the registry names another gateway.
    Away,
    /// Too many orders wait.
    Busy,
    /// The reply came after the timeout was reported.
    Late,
    /// The order before got no reply in time, so this may be the reply to that one.
    Ambiguous,
    /// An operator took it back.
    Cancelled,
    /// The tracker says that it was for another IMEI.
    WrongImei,
    /// The gateway ended between the intent and the outcome.
    Restarted,
    /// The gateway stops and nobody waits for the reply any more.
    Stopped,
    /// The connection broke while the bytes were being written.
    Broken,
    /// The intent could not be made durable.
    Storage,
    /// Longer than a tracker takes.
    TooLarge,
    /// The order's fields cannot be read.
    Unreadable,
}

impl Reason {
    /// Every reason but [`Reason::Away`] with its word on the wire.
    pub const WORDS: [(Self, &'static str); 12] = [
        (Self::None, ""),
        (Self::Busy, "busy"),
        (Self::Late, "late"),
        (Self::Ambiguous, "ambiguous"),
        (Self::Cancelled, "cancelled"),
        (Self::WrongImei, "wrong-imei"),
        (Self::Restarted, "restarted"),
        (Self::Stopped, "stopped"),
        (Self::Broken, "broken"),
        (Self::Storage, "storage"),
        (Self::TooLarge, "too-large"),
        (Self::Unreadable, "unreadable"),
    ];

    /// The word for a log, where nobody has asked the registry.
    #[must_use]
    pub fn word(self) -> &'static str {
        let word = Self::WORDS.iter().find(|(reason, _)| *reason == self);
        word.map_or("away", |(_, word)| word)
    }

    /// The word on the wire; `registered` is the gateway that the registry names for the tracker.
    #[must_use]
    pub fn as_str(self, own: &GatewayId, registered: Option<&str>) -> &'static str {
        let has_moved = registered.is_some_and(|other| other != own.as_str());
        match self {
            Self::Away if has_moved => "moved",
            Self::Away => "offline",
            _ => self.word(),
        }
    }
}

impl Report {
    /// As it goes to `commands:responses`; `registered` as in [`Reason::as_str`].
    #[must_use]
    pub fn to_response(&self, own: &GatewayId, registered: Option<&str>) -> CommandResponse {
        CommandResponse {
            cid: self.cid.clone(),
            imei: self.imei,
            instance: own.clone(),
            status: self.status,
            reason: self.reason.as_str(own, registered).to_owned(),
            reply: self.reply.clone(),
            ts_ms: self.ts_ms,
            attempt: self.attempt,
        }
    }
}

/// The tracker an intent is for; `None` for a name that no command can be sent to.
pub(super) fn imei_of(intent: &Intent) -> Option<Imei> {
    match intent.device {
        Device::Imei(imei) => Some(imei),
        Device::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_tracker_that_another_gateway_has_has_moved() {
        let own = GatewayId::new("depot-1").unwrap();
        let word = |registered| Reason::Away.as_str(&own, registered);
        assert_eq!(word(None), "offline");
        assert_eq!(word(Some("depot-1")), "offline");
        assert_eq!(word(Some("depot-2")), "moved");
        assert_eq!(Reason::Busy.as_str(&own, Some("depot-2")), "busy");
        assert_eq!(Reason::None.as_str(&own, Some("depot-2")), "");
    }
}
