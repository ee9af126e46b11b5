//! `gateway spool`: which directory, and what the library does with it.

use std::path::PathBuf;

use clap::Args;
use gateway::spool_cli::{self, Place, SpoolCommand};
use settings::Settings;

use super::Failure;

pub(super) const EXAMPLES: &str = "\
Examples:
  gateway spool stat                              what waits, how many days the room lasts
  gateway spool verify --dir /mnt/old-card/spool  what a dying card still holds
  gateway spool export --notes > spool.hex        a copy that loses nothing
  gateway spool import spool.hex                  into a stopped gateway's spool";

#[derive(Args)]
pub(super) struct Spool {
    /// The spool's directory; else spool.dir of the settings.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Its cap, like 4GiB; else spool.bytes_max of the settings.
    #[arg(long, global = true, value_name = "BYTES", value_parser = spool_cli::bytes)]
    bytes_max: Option<u64>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: SpoolCommand,
}

pub(super) fn act(
    spool: &Spool,
    settings: impl Fn() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    let of_settings = |settings: &Settings| settings.bytes("spool.bytes_max");
    let place = match (&spool.dir, settings()) {
        // Whoever names the directory needs no settings that can be read.
        (Some(dir), settings) => Place {
            dir: dir.clone(),
            bytes_max: spool
                .bytes_max
                .or_else(|| of_settings(&settings.ok()?).ok()),
        },
        (None, settings) => {
            let settings = settings?;
            let dir = settings.path("spool.dir");
            let of_settings = of_settings(&settings);
            Place {
                dir: dir.map_err(|error| Failure::new(2, error))?,
                bytes_max: match spool.bytes_max {
                    Some(bytes) => Some(bytes),
                    None => Some(of_settings.map_err(|error| Failure::new(2, error))?),
                },
            }
        }
    };
    spool_cli::act(&spool.command, &place, spool.json)
        .map_err(|error| Failure::new(error.exit(), error))
}
