//! `gateway selftest`: proves this binary on this machine, with no network and no settings.
//!
//! Why: an image is built in one place and runs on boards of another kind. What could differ there
//! is tried where it counts: syncing and recovering, reading bytes, cryptography, random numbers.
//!
//! Invariant: everything happens in memory and in one directory of its own, which is removed.

mod certificate;
mod spool;
mod system;
mod tls;
mod vectors;

use std::path::Path;
use std::time::{Duration, Instant};

/// What one part found.
#[derive(Clone, Debug)]
pub struct Part {
    /// `spool`, `vectors`, `tls`, `random`, `clock`, `memory`, `files`.
    pub name: &'static str,
    /// What was proved, or what went wrong.
    pub found: Result<String, String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs every part; `say` hears each as it ends. Below `dir` a directory is made and removed.
/// Returns whether all is well.
pub fn run(dir: &Path, mut say: impl FnMut(&Part)) -> bool {
    type Run<'a> = &'a dyn Fn() -> Result<String, String>;
    let parts: [(&'static str, Run<'_>); 7] = [
        ("spool", &|| spool::prove(dir)),
        ("vectors", &vectors::prove),
        ("tls", &tls::prove),
        ("random", &system::random),
        ("clock", &system::clock),
        ("memory", &system::memory),
        ("files", &system::files),
    ];
    let mut is_well = true;
    for (name, part) in parts {
        let begin = Instant::now();
        let found = part();
        is_well &= found.is_ok();
        say(&Part {
            name,
            found,
            took: begin.elapsed(),
        });
    }
    is_well
}
