//! Crashing a spool on a simulated disk, many thousand times, and asking an oracle each time.
//!
//! Why in the crate and not in a test: tests, the long torture run and a failing seed of last year
//! must all do the same thing for the same seed.
//!
//! Invariant: everything that happens in [`run`] follows from its seed and its [`Trouble`].

mod ledger;
mod life;
mod payload;
mod scope;
mod script;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use contract::GatewayId;

use crate::fs::sim::{End, Faults};
use crate::{FullPolicy, Geometry, Options};

pub use ledger::Ledger;
pub use scope::{Op, Scope, every_workload};

/// What may go wrong in a run besides crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing: every opening must succeed and every refusal must have a reason.
    Crashes,
    /// Syncs fail with EIO.
    Syncs {
        /// Of 1000.
        per_mille: u64,
    },
    /// Syncs fail with EIO, all other calls with anything.
    Anything {
        /// Syncs, of 1000.
        sync_per_mille: u64,
        /// Other calls, of 1000.
        other_per_mille: u64,
    },
    /// The disk is smaller than the cap.
    SmallDisk,
    /// As [`Trouble::Anything`], and hardly anything is settled: what waits is compacted all the
    /// time, and a spool is opened again before it did much.
    Offline {
        /// Syncs, of 1000.
        sync_per_mille: u64,
        /// Other calls, of 1000.
        other_per_mille: u64,
    },
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Kills and power cuts in the middle of a call.
    pub crashes: u64,
    /// Times a spool was opened with success.
    pub openings: u64,
    /// Frames acknowledged.
    pub acked: u64,
    /// Segments compacted.
    pub compacted: u64,
    /// Calls made to fail.
    pub faults: u64,
    /// Openings that ended with storage given up.
    pub failed: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.openings += other.openings;
        self.acked += other.acked;
        self.compacted += other.compacted;
        self.faults += other.faults;
        self.failed += other.failed;
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// What went wrong besides crashes.
    pub trouble: Trouble,
    /// Which promise.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            trouble,
            what,
        } = self;
        write!(f, "seed {seed} with {trouble:?}: {what}")
    }
}

impl std::error::Error for Violation {}

/// Several lives of one spool on one disk; segments are compacted now and then.
/// # Errors
/// [`Violation`] when it breaks a promise, or panics.
pub fn run(seed: u64, trouble: Trouble) -> Result<Outcome, Violation> {
    run_with(seed, trouble, true)
}

/// The same without compaction: what the oldest seeds tell, they tell this way.
/// # Errors
/// As [`run`].
pub fn run_plain(seed: u64, trouble: Trouble) -> Result<Outcome, Violation> {
    run_with(seed, trouble, false)
}

fn run_with(seed: u64, trouble: Trouble, compacts: bool) -> Result<Outcome, Violation> {
    let lives = AssertUnwindSafe(|| life::lives(seed, trouble, compacts));
    let what = match catch_unwind(lives) {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(what)) => what,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".to_owned(),
        },
    };
    Err(Violation {
        seed,
        trouble,
        what,
    })
}

/// A script that uses everything, with one call failing, or that and all later ones.
/// # Errors
/// The broken promise. Otherwise how many calls the script made.
pub fn scripted(faults: Faults, end: End, full: FullPolicy) -> Result<u64, String> {
    script::scripted(faults, end, full)
}

/// A spool of `segments` small segments.
pub(crate) fn options(segments: u64, segment_bytes: u64, full: FullPolicy) -> Options {
    let payload = usize::try_from(segment_bytes).unwrap_or_default() - 2 * 4096;
    let geometry = Geometry {
        segment_bytes,
        group_bytes_max: payload / 2,
        envelope_bytes_max: payload / 4,
    };
    Options {
        gateway: GatewayId::new("depot-1").expect("a plain name"),
        bytes_max: segments * segment_bytes,
        full,
        geometry,
    }
}
