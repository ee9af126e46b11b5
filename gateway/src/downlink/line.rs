//! One tracker's end of the downlink: where its connection takes commands from.
//!
//! Invariants: the bytes of a [`Command`] can be had only by making it [`Command::begin`], and it
//! exists only with the receipt of its intent; whatever happens to a command, the queue hears of
//! it exactly once.
//!
//! ```compile_fail,E0624
//! gateway::downlink::Command::new(unreachable!(), unreachable!());
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use codec::Imei;
use tokio::sync::Notify;

use super::dispatch::Downlink;
use super::queue::Write;
use crate::spool::Begun;

/// Where a connection finds its next command. A channel would cost every idle tracker hundreds of
/// bytes for places that nobody needs: a device has one command on its way.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    slot: Mutex<Option<Box<Command>>>,
    filled: Notify,
}

impl Mailbox {
    /// Gives it back when there is one already.
    pub(super) fn put(&self, command: Command) -> Result<(), Command> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Err(command);
        }
        *slot = Some(Box::new(command));
        self.filled.notify_one();
        Ok(())
    }

    fn take(&self) -> Option<Box<Command>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

/// A connection's place in the downlink; dropping it says that the connection is gone.
#[derive(Debug)]
pub struct Line {
    pub(super) downlink: Downlink,
    pub(super) imei: Imei,
    pub(super) epoch: u64,
    pub(super) mailbox: Arc<Mailbox>,
}

/// Something to say to a tracker.
#[derive(Debug)]
pub struct Command {
    downlink: Downlink,
    write: Write<Begun>,
    fate: Fate,
}

/// A command whose bytes are being written.
#[derive(Debug)]
pub struct Saying(Command);

#[derive(Clone, Copy, Debug)]
enum Fate {
    Untouched,
    /// Some bytes may be in the socket.
    Touched,
    Told,
}

impl Line {
    /// Waits for a command. Nothing is lost when the future is dropped. Boxed, because whoever waits
    /// has room for it all the while.
    pub async fn command(&mut self) -> Box<Command> {
        loop {
            if let Some(command) = self.mailbox.take() {
                return command;
            }
            self.mailbox.filled.notified().await;
        }
    }

    /// A frame of this tracker is kept; it may hold a reply.
    pub fn heard(&self, data: &[u8]) {
        self.downlink.heard(self.imei, data);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.downlink.detach(self.imei, self.epoch);
    }
}

impl Command {
    /// The receipt makes it one: only what is durable may be written.
    pub(super) fn new(downlink: Downlink, write: Write<Begun>) -> Self {
        let fate = Fate::Untouched;
        Self {
            downlink,
            write,
            fate,
        }
    }

    /// Which order.
    #[must_use]
    pub fn cid(&self) -> &str {
        self.write.receipt.cid()
    }

    /// Begins to write it; `None` when it is too late for that. `now_ms`: milliseconds since 1970
    /// UTC.
    #[must_use]
    pub fn begin(mut self, now_ms: u64) -> Option<Saying> {
        if now_ms >= self.write.expires_ms {
            return None;
        }
        self.fate = Fate::Touched;
        Some(Saying(self))
    }

    /// Whose connection it was for, and the end of it without a word to the queue.
    pub(super) fn forget(mut self) -> (String, u64) {
        self.fate = Fate::Told;
        (std::mem::take(&mut self.write.cid), self.write.epoch)
    }
}

impl Saying {
    /// What to write.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.write.bytes
    }

    /// All of it is in the socket. Without this word its outcome is unknown.
    pub fn written(mut self) {
        self.0.fate = Fate::Told;
        let write = &self.0.write;
        self.0.downlink.written(&write.cid, write.epoch);
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let write = &self.write;
        match self.fate {
            Fate::Untouched => self.downlink.unwritten(&write.cid, write.epoch),
            Fate::Touched => self.downlink.broken(&write.cid, write.epoch),
            Fate::Told => {}
        }
    }
}
