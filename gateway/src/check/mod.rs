//! `gateway check`: looks at everything the gateway stands on and names what is wrong.
//!
//! Why one command: whoever installs a box sees "no records", and the cause is one of fifty. Each
//! finding says what, where, why we think so and what to do, and has a code that
//! [`explain`](crate::explain) knows.
//!
//! Invariants: every group runs, whatever the one before found; nothing is left behind (no key, no
//! entry, no file); what needs a setting that cannot be read says so instead of guessing.

mod board;
pub mod cert;
pub mod clock;
mod disk;
mod finding;
#[cfg(feature = "ingest")]
mod ingest;
mod offline;
mod ports;
mod redis;
mod serial;
mod settings;

use std::path::Path;

pub use finding::{Finding, Level, Look};
pub use offline::{RECORDS_PER_GIBIBYTE, promise as offline_promise, when_full};
pub use redis::refusal;

use crate::clock as wall;

/// Looks at everything; `say` hears every finding as it is made. Returns the worst exit code.
pub async fn run(file: Option<&Path>, mut say: impl FnMut(&Finding)) -> u8 {
    let mut worst = 0;
    let mut tell = |look: Look| {
        for finding in look.findings {
            worst = finding.exit().max(worst);
            say(&finding);
        }
    };
    let (look, settings) = settings::look(file);
    tell(look);
    let Some(settings) = settings else {
        for group in ["spool", "board", "listen", "clock", "certificates", "redis"] {
            let mut look = Look::new(group);
            look.skipped("not looked at: the settings above cannot be read");
            tell(look);
        }
        return worst;
    };
    let (look, is_running) = disk::look(&settings);
    tell(look);
    tell(board::look(&settings, is_running));
    tell(ports::look(&settings, is_running));
    #[cfg(feature = "ingest")]
    tell(ingest::look(&settings));
    tell(cert::look(&settings, wall::now_ms()));
    let (look, redis_ms) = redis::look(&settings).await;
    tell(look);
    tell(clock::look(wall::now_ms(), redis_ms));
    tell(offline::look(&settings));
    worst
}
