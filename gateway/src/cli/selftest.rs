//! `gateway selftest`.

use std::path::PathBuf;

use clap::Args;
use gateway::selftest;
use serde_json::json;

use super::{Failure, output};

pub(super) const EXAMPLES: &str = "\
Writes a spool, cuts it off in the middle of a commit and recovers it; reads public frames; shakes
hands over TLS with itself; tries random numbers, clock, memory and files. Needs no network, no
settings and no rights but to write in one directory.

Examples:
  gateway selftest
  gateway selftest --dir /var/lib/milepost     on the disk that will hold the spool

Exit code: 0 all is well, 1 something is not.";

#[derive(Args)]
pub(super) struct Selftest {
    /// Where to write; a directory is made in it and removed. Default: the system's temporary one.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON, one object for each part.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(args: &Selftest, no_color: bool) -> Result<(), Failure> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let colour = output::colour(no_color);
    let is_well = selftest::run(&dir, |part| {
        let (is_ok, said) = match &part.found {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        let took_ms = part.took.as_secs_f64() * 1000.0;
        if args.json {
            output::line(&json!({
                "part": part.name, "ok": is_ok, "found": said, "took_ms": took_ms
            }));
            return;
        }
        let sign = match (is_ok, colour) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (false, true) => "\u{1b}[1;31m×\u{1b}[0m",
            (true, false) => "✓",
            (false, false) => "×",
        };
        output::print(&format!(
            "{:<9}{sign} {said}  ({took_ms:.0} ms)\n",
            part.name
        ));
    });
    if is_well {
        Ok(())
    } else {
        Err(Failure::told(1))
    }
}
