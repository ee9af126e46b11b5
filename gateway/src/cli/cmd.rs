//! `gateway cmd`.

use clap::Subcommand;
use gateway::explain::status as pages;
use serde_json::Value;
use settings::Settings;

use super::{Failure, ask, output};

const EXAMPLES: &str = "\
Asks the running gateway at http.listen. A command is shown by its first word: the rest may hold a
password. To take an order back, ask where it was given: pages only answer questions.

Examples:
  gateway cmd ls --config /etc/milepost/gateway.toml
  gateway cmd ls --json | jq .cid

Exit codes: 0 it answers, 3 no gateway answers.";

#[derive(Subcommand)]
pub(super) enum CmdCommand {
    /// Orders that wait for their tracker, and those on their way.
    #[command(after_help = EXAMPLES)]
    Ls {
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn act(command: &CmdCommand, settings: &Settings) -> Result<(), Failure> {
    let CmdCommand::Ls { json } = command;
    let page = ask::get(ask::addr(settings)?, "/commands")?;
    let Some(commands) = page.as_ref().and_then(|page| page["commands"].as_array()) else {
        let page = &pages::NO_COMMANDS;
        let failure = format!("{}  {}", page.code, page.title);
        return Err(Failure::new(page.exit, failure));
    };
    for command in commands {
        if *json {
            output::line(command);
        } else {
            output::print(&text(command));
        }
    }
    if commands.is_empty() && !*json {
        output::print("no command waits or is on its way\n");
    }
    Ok(())
}

fn text(command: &Value) -> String {
    let word = |name: &str| command[name].as_str().unwrap_or("–").to_owned();
    format!(
        "{}  {}  {}  {}  written {} times\n",
        word("imei"),
        word("cid"),
        word("state"),
        word("command"),
        command["sends"].as_u64().unwrap_or(0)
    )
}
