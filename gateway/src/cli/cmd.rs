//! `gateway cmd`.

use clap::{Args, Subcommand};
use gateway::explain::status as pages;
use serde_json::Value;
use settings::Settings;

use super::ask::AskError;
use super::{Failure, ask, output};

const LS_EXAMPLES: &str = "\
Asks the running gateway at http.listen. A command is shown by its first word: the rest may hold a
password. Of those that ended it knows the last fifty since its start; the cloud knows all.

Examples:
  gateway cmd ls --config /etc/milepost/gateway.toml
  gateway cmd ls --json | jq 'select(.state == \"waiting\").cid'

Exit codes: 0 it answers, 3 no gateway answers.";

const CANCEL_EXAMPLES: &str = "\
Asks the running gateway at http.listen to take an order back. The cloud hears `nack` with the reason
`cancelled`, as of any other outcome.

Examples:
  gateway cmd ls                                             ids of what waits
  gateway cmd cancel --dry-run 01935f6a-7c1e-7b3a-8f2e-0123456789ab
  gateway cmd cancel --yes 01935f6a-7c1e-7b3a-8f2e-0123456789ab

Exit codes: 0 taken back, 1 too late or no such order, 2 without --yes, 3 no gateway answers.";

#[derive(Subcommand)]
pub(super) enum CmdCommand {
    /// Orders that wait for their tracker, those on their way, and what became of the last ones.
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Take back an order that waits for its tracker.
    ///
    /// One that is on its way, or was, cannot be taken back: its bytes may be in the tracker's socket.
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel(Cancel),
}

#[derive(Args)]
pub(super) struct Cancel {
    /// The id of the order, as `gateway cmd ls` shows it.
    #[arg(value_name = "CID")]
    cid: String,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Say where the order is, and do nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(command: &CmdCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        CmdCommand::Ls { json } => ls(*json, settings),
        CmdCommand::Cancel(args) => cancel(args, settings),
    }
}

/// What waits or is on its way, and what ended.
fn orders(settings: &Settings) -> Result<(Vec<Value>, Vec<Value>), Failure> {
    let page = ask::get(ask::addr(settings)?, "/commands")?;
    let list = |name: &str| page.as_ref()?[name].as_array().cloned();
    let Some(commands) = list("commands") else {
        let page = &pages::NO_COMMANDS;
        let failure = format!("{}  {}", page.code, page.title);
        return Err(Failure::new(page.exit, failure));
    };
    Ok((commands, list("outcomes").unwrap_or_default()))
}

fn ls(json: bool, settings: &Settings) -> Result<(), Failure> {
    let (commands, outcomes) = orders(settings)?;
    for order in commands.iter().chain(&outcomes) {
        if json {
            output::line(order);
        } else {
            output::print(&text(order));
        }
    }
    if commands.is_empty() && !json {
        output::print("no command waits or is on its way\n");
    }
    Ok(())
}

fn cancel(args: &Cancel, settings: &Settings) -> Result<(), Failure> {
    let cid = args.cid.trim();
    if args.dry_run {
        let (commands, outcomes) = orders(settings)?;
        let mut orders = commands.iter().chain(&outcomes);
        let found = orders.find(|order| order["cid"] == cid);
        let (state, may) = match found {
            Some(order) => (word(order, "state"), order["state"] == "waiting"),
            None => return Err(failure(&pages::NO_ORDER, cid, "unknown")),
        };
        if !may {
            return Err(failure(&pages::TOO_LATE, cid, &state));
        }
        say(args, cid, "waiting", "waits, and would be taken back");
        return Ok(());
    }
    if !args.yes {
        let why =
            format!("{cid} would be taken back and not be sent: say --yes, or --dry-run to look");
        return Err(Failure::new(2, why));
    }
    let addr = ask::addr(settings)?;
    let (code, answer) = ask::post(addr, "/commands/cancel", cid)?;
    let answer = answer.unwrap_or_default();
    let state = word(&answer, "state");
    match code {
        200 => {
            say(
                args,
                cid,
                "cancelled",
                "is taken back; the cloud hears nack, cancelled",
            );
            Ok(())
        }
        409 => Err(failure(&pages::TOO_LATE, cid, &state)),
        404 if answer["state"] == "unknown" => Err(failure(&pages::NO_ORDER, cid, &state)),
        403 => Err(AskError::NoChange {
            addr,
            why: word(&answer, "error"),
        }
        .into()),
        code => Err(AskError::Stranger {
            addr,
            answer: format!("{code}"),
        }
        .into()),
    }
}

fn say(args: &Cancel, cid: &str, state: &str, words: &str) {
    if args.json {
        let cancelled = state == "cancelled";
        output::line(&serde_json::json!({
            "cid": cid, "state": state, "cancelled": cancelled, "dry_run": args.dry_run
        }));
    } else {
        output::print(&format!("{cid} {words}\n"));
    }
}

fn failure(page: &'static gateway::explain::Page, cid: &str, state: &str) -> Failure {
    Failure::new(
        page.exit,
        format!("{}  {cid}: {} ({state})", page.code, page.title),
    )
}

fn word(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or("–").to_owned()
}

fn text(order: &Value) -> String {
    let (imei, cid) = (word(order, "imei"), word(order, "cid"));
    if order["state"] == "ended" {
        let reason = match order["reason"].as_str() {
            None | Some("") => String::new(),
            Some(reason) => format!(" ({reason})"),
        };
        return format!("{imei}  {cid}  ended: {}{reason}\n", word(order, "status"));
    }
    format!(
        "{imei}  {cid}  {}  {}  written {} times\n",
        word(order, "state"),
        word(order, "command"),
        order["sends"].as_u64().unwrap_or(0)
    )
}
