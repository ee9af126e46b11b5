//! `gateway config`.

use clap::Subcommand;
use gateway::config::{Config, redis_address};
use serde_json::json;
use settings::Settings;

use super::{Failure, import, output};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its value; secrets are masked.
    ///
    /// Exit code 2 when a value cannot be used; what can be shown is shown all the same.
    #[command(after_help = "\
Later wins: built-in default, file, founding name (REDIS_URL), GATEWAY__UPLINK__URL.

Examples:
  gateway config show --origin --config gateway.toml
  gateway config show --json | jq 'select(.origin != \"default\")'")]
    Show {
        /// Also print where each value comes from, and what it is for.
        #[arg(long)]
        origin: bool,
        /// Print JSON, one object for each setting.
        #[arg(long)]
        json: bool,
    },
    /// Put the bundle that the cloud made for this gateway in place: settings, certificate, key.
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
}

pub(super) fn act(
    command: &ConfigCommand,
    no_color: bool,
    settings: impl Fn() -> Result<Settings, Failure>,
) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show { origin, json } => show(*origin, *json, &settings()?),
        ConfigCommand::Import(args) => import::act(args, no_color),
    }
}

fn show(origin: bool, json: bool, settings: &Settings) -> Result<(), Failure> {
    for row in settings.rows() {
        let from = row.origin.to_string();
        if json {
            output::line(&json!({
                "key": row.name, "value": row.value, "origin": from, "help": row.help
            }));
        } else if origin {
            output::print(&format!(
                "{:<28} {:<36} {from:<24} {}\n",
                row.name, row.value, row.help
            ));
        } else {
            output::print(&format!("{:<28} {}\n", row.name, row.value));
        }
    }
    if let Ok(address) = redis_address::address(settings)
        && !address.parts.is_empty()
        && !json
    {
        let url = settings::without_password(&address.url);
        output::print(&format!(
            "\nuplink.url is made of {}: {url}\n",
            address.parts.join(", ")
        ));
    }
    Config::new(settings)
        .map(drop)
        .map_err(|error| Failure::new(2, error))
}
