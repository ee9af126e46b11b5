//! Which call fails, and how.
//!
//! Invariant: a fault never hits a call that could not fail that way on a real system, and one
//! that is repeated for ever leaves a loop over `EINTR` a way out.

use std::io;

use super::chance::Chance;

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `make_dir`.
    MakeDir,
    /// `list`.
    List,
    /// `sync_dir`.
    SyncDir,
    /// `create`.
    Create,
    /// `open`.
    Open,
    /// `remove`.
    Remove,
    /// `len_bytes`.
    Len,
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `sync`.
    Sync,
}

impl Call {
    /// Can it change what a power cut leaves?
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Len | Self::Read)
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device says no.
    Eio,
    /// No room: files, writes and, with late allocation, syncs.
    Enospc,
    /// Part of it is written, and the call says so.
    Short,
    /// A signal came first.
    Eintr,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Eio, Self::Enospc, Self::Short, Self::Eintr];

    /// Can `call` fail like this?
    #[must_use]
    pub fn can_hit(self, call: Call) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => matches!(
                call,
                Call::MakeDir | Call::Create | Call::Write | Call::Sync | Call::SyncDir
            ),
            Self::Short => call == Call::Write,
            Self::Eintr => matches!(
                call,
                Call::Open | Call::Create | Call::Read | Call::Write | Call::Sync | Call::SyncDir
            ),
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Enospc => io::ErrorKind::StorageFull.into(),
            Self::Eintr => io::ErrorKind::Interrupted.into(),
            // EIO has no kind of its own.
            Self::Eio | Self::Short => io::Error::from_raw_os_error(5),
        }
    }
}

/// What is going to fail.
#[derive(Clone, Copy, Debug, Default)]
pub enum Faults {
    /// Nothing.
    #[default]
    None,
    /// Call number `at`, counted from 1, or that one and all that follow.
    At {
        /// Its number.
        at: u64,
        /// How.
        failure: Failure,
        /// For ever after?
        sticky: bool,
    },
    /// Any call, by chance.
    Random {
        /// Syncs of files and directories that fail with EIO, of 1000.
        sync_per_mille: u64,
        /// All other calls, with any failure, of 1000.
        other_per_mille: u64,
    },
}

impl Faults {
    pub(super) fn strike(self, number: u64, call: Call, chance: &mut Chance) -> Option<Failure> {
        match self {
            Self::None => None,
            Self::At {
                at,
                failure,
                sticky,
            } => {
                let hit = number == at || (sticky && number > at);
                // Two interruptions in a row are enough for any loop to prove itself.
                let breath = failure == Failure::Eintr && (number - at.min(number)) % 3 == 2;
                (hit && !breath && failure.can_hit(call)).then_some(failure)
            }
            Self::Random {
                sync_per_mille,
                other_per_mille,
            } => {
                if matches!(call, Call::Sync | Call::SyncDir) {
                    return chance.per_mille(sync_per_mille).then_some(Failure::Eio);
                }
                if !chance.per_mille(other_per_mille) {
                    return None;
                }
                let failure = Failure::ALL[chance.index(Failure::ALL.len())];
                failure.can_hit(call).then_some(failure)
            }
        }
    }
}
