//! Which of the two root slots starts, and what becomes of a trial.
//!
//! Pure: no I/O, no clock.
//!
//! ```text
//!          apply: written and read back          start: used up, then started
//!  kept ──────────────────────────────► offered ──────────────────────────────► on trial
//!   ▲  good stays what it was             │ apply again, or it cannot be            │
//!   │                                     │ used up: good starts                    │
//!   ├─────────────────────────────────────┘                                         │
//!   ├──── confirm: the tried slot is the good one ◄──────────────────────────────────┤
//!   └──── any other start: good starts, "rolled back" ◄──────────────────────────────┘
//! ```
//!
//! Two copies of the record are kept, written in turns, so a write that a power cut tears leaves the
//! other one: the record before. Invariant: whatever is torn, [`newest`] gives a record that was
//! written whole, and [`Record::start`] names the good slot unless a trial can be used up first.

use std::fmt;

use thiserror::Error;

/// A copy fills one sector of every disk we know, so a disk writes it whole or not at all; the
/// checksum is for those that do not.
pub const COPY_BYTES: usize = 512;

/// Where the copies begin in the partition: far enough apart that no flash erases both at once.
pub const COPY_OFFSETS: [u64; 2] = [0, 512 * 1024];

/// Longest version of a system, in bytes.
pub const VERSION_BYTES_MAX: usize = 64;

const TITLE: &str = "milepost-slots 1";

/// One of the two places for a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// What a fresh image starts.
    A,
    /// The other one.
    B,
}

impl Slot {
    /// `a` or `b`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// Of `a` or `b`.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::A, Self::B]
            .into_iter()
            .find(|slot| slot.word() == word)
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A system in the slot that is not the good one, to be started once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What its manifest says.
    pub version: String,
    /// It has been started, and nobody has confirmed it.
    pub begun: bool,
}

/// How the last trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The system was kept.
    Confirmed,
    /// It was started and not confirmed before the next start.
    RolledBack,
}

impl Ending {
    /// `confirmed` or `rolled-back`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// The last trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// How it ended.
    pub ending: Ending,
    /// Which system it was.
    pub version: String,
}

/// What is known about the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the changes.
    pub serial: u64,
    /// The slot that starts unless there is a trial.
    pub good: Slot,
    /// What is to be tried, in the other slot.
    pub trial: Option<Trial>,
    /// How the trial before ended.
    pub last: Option<Last>,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot, once `first` is durable.
    pub slot: Slot,
    /// To be made durable before anything is started.
    pub first: Option<Record>,
    /// The slot when that fails.
    pub otherwise: Slot,
}

/// Why the slots are left as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// The running system is itself on trial, and the other slot is all there is to fall back to.
    #[error(
        "the running system is on trial: `gateway update confirm` keeps it, a restart goes back"
    )]
    OnTrial,
    /// The record does not know the running system as good or on trial: somebody started it by hand.
    #[error("slot {running} runs, and slot {good} is the good one: restart the box first")]
    Stranger {
        /// What runs.
        running: Slot,
        /// What the record says.
        good: Slot,
    },
}

impl Default for Record {
    /// What a fresh image means by writing nothing.
    fn default() -> Self {
        Self {
            serial: 0,
            good: Slot::A,
            trial: None,
            last: None,
        }
    }
}

impl Record {
    fn next(&self) -> Self {
        Self {
            serial: self.serial + 1,
            ..self.clone()
        }
    }

    /// Which slot to start now.
    #[must_use]
    pub fn start(&self) -> Start {
        let mut next = self.next();
        let (slot, first) = match &mut next.trial {
            None => (self.good, None),
            Some(trial) if !trial.begun => {
                trial.begun = true;
                (self.good.other(), Some(next))
            }
            Some(trial) => {
                let version = std::mem::take(&mut trial.version);
                let ending = Ending::RolledBack;
                next.last = Some(Last { ending, version });
                next.trial = None;
                (self.good, Some(next))
            }
        };
        let otherwise = self.good;
        Start {
            slot,
            first,
            otherwise,
        }
    }

    /// Is the running system the one that was started on trial?
    #[must_use]
    pub fn on_trial(&self, running: Slot) -> bool {
        let begun = self.trial.as_ref().is_some_and(|trial| trial.begun);
        begun && running == self.good.other()
    }

    /// To be made durable before the first byte of the other slot changes: whatever waited there for
    /// its trial is not whole any more.
    /// # Errors
    /// The other slot must stay as it is.
    pub fn overwriting(&self, running: Slot) -> Result<Self, Refused> {
        if self.on_trial(running) {
            return Err(Refused::OnTrial);
        }
        let good = self.good;
        if running != good {
            return Err(Refused::Stranger { running, good });
        }
        Ok(Self {
            trial: None,
            ..self.next()
        })
    }

    /// After the other slot was written and read back.
    #[must_use]
    pub fn offered(&self, version: &str) -> Self {
        let (version, begun) = (version.to_owned(), false);
        Self {
            trial: Some(Trial { version, begun }),
            ..self.next()
        }
    }

    /// The running system is good. `None`: it was already.
    /// # Errors
    /// It is neither good nor on trial.
    pub fn confirmed(&self, running: Slot) -> Result<Option<Self>, Refused> {
        let good = self.good;
        match &self.trial {
            _ if running == good => Ok(None),
            Some(Trial { version, .. }) if self.on_trial(running) => {
                let (ending, version) = (Ending::Confirmed, version.clone());
                Ok(Some(Self {
                    good: running,
                    trial: None,
                    last: Some(Last { ending, version }),
                    ..self.next()
                }))
            }
            _ => Err(Refused::Stranger { running, good }),
        }
    }

    /// Which of [`COPY_OFFSETS`] this record goes to: never over the one before it.
    #[must_use]
    pub fn copy(&self) -> usize {
        usize::from(!self.serial.is_multiple_of(2))
    }

    /// The bytes of a copy: lines for people who look at the disk, the rest zeros.
    #[must_use]
    pub fn bytes(&self) -> [u8; COPY_BYTES] {
        let mut text = format!("{TITLE}\nserial {}\ngood {}\n", self.serial, self.good);
        if let Some(Trial { version, begun }) = &self.trial {
            let word = if *begun { "begun" } else { "offered" };
            text.push_str(&format!("trial {word} {version}\n"));
        }
        if let Some(Last { ending, version }) = &self.last {
            text.push_str(&format!("last {} {version}\n", ending.word()));
        }
        text.push_str(&format!("crc32c {:08x}\n", crc32c::crc32c(text.as_bytes())));
        let mut bytes = [0; COPY_BYTES];
        // Two versions of 64 bytes and a few words: under 300.
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    /// A copy that was written whole.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        let (body, sum) = text.rsplit_once("crc32c ")?;
        if sum != format!("{:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let serial = lines.next()?.strip_prefix("serial ")?.parse().ok()?;
        let good = Slot::named(lines.next()?.strip_prefix("good ")?)?;
        let (mut trial, mut last) = (None, None);
        for line in lines {
            let mut words = line.splitn(3, ' ');
            let (what, word, version) = (words.next()?, words.next()?, words.next()?.to_owned());
            match (what, word) {
                ("trial", "offered" | "begun") => {
                    let begun = word == "begun";
                    trial = Some(Trial { version, begun });
                }
                ("last", "confirmed") => last = Some((Ending::Confirmed, version)),
                ("last", "rolled-back") => last = Some((Ending::RolledBack, version)),
                _ => return None,
            }
        }
        let last = last.map(|(ending, version)| Last { ending, version });
        Some(Self {
            serial,
            good,
            trial,
            last,
        })
    }
}

/// What the two copies say together; nothing readable means a fresh image.
#[must_use]
pub fn newest(copies: [&[u8]; 2]) -> Record {
    let read = (0..).zip(copies).filter_map(|(index, bytes)| {
        let record = Record::read(bytes)?;
        (record.copy() == index).then_some(record)
    });
    read.max_by_key(|record| record.serial).unwrap_or_default()
}

/// May this stand in a record? Letters, digits and `.+~_-`.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+~_-".contains(c);
    (1..=VERSION_BYTES_MAX).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests;
