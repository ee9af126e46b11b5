//! `gateway check`.

use std::path::Path;

use clap::Args;
use gateway::check::{self, Level};

use super::{Failure, output, runtime};

pub(super) const EXAMPLES: &str = "\
Each finding is ✓ good, ! worth a look or × wrong; what is not good says where, why we think so and
what to do, and has a code for `gateway explain`. Nothing is changed: no key, no entry, no file.
Run it as the user the gateway runs as.

Examples:
  sudo -u milepost gateway check --config /etc/milepost/gateway.toml
  gateway check --json | jq 'select(.level == \"error\")'

Exit code: the worst of what was found. 0 ok, 1 a check failed, 2 settings, 3 cannot be reached,
4 data at risk.";

#[derive(Args)]
pub(super) struct Check {
    /// Print JSON, one object for each finding.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(check: &Check, file: Option<&Path>, no_color: bool) -> Result<(), Failure> {
    let colour = output::colour(no_color);
    let (mut errors, mut warnings, mut first) = (0, 0, None);
    let looked = check::run(file, |finding| {
        match finding.level {
            Level::Error => errors += 1,
            Level::Warning => warnings += 1,
            Level::Good | Level::Skipped => {}
        }
        if finding.level == Level::Error {
            first = first.or(finding.page.map(|page| page.code));
        }
        if check.json {
            output::line(&finding.json());
        } else {
            output::print(&finding.text(colour));
        }
    });
    let exit = runtime()?.block_on(looked);
    if !check.json {
        let more = first.map_or(String::new(), |code| {
            format!("; begin with `gateway explain {code}`")
        });
        output::print(&format!("{errors} wrong, {warnings} worth a look{more}\n"));
    }
    if exit == 0 {
        Ok(())
    } else {
        Err(Failure::told(exit))
    }
}
