//! `gateway device`.

use std::path::Path;

use clap::{Args, Subcommand};
use codec::Imei;
use gateway::access::{self, ListFileError};
use gateway::session::ListLine;
use serde_json::{Value, json};
use settings::Settings;

use super::{Failure, ask, output, status};

#[derive(Subcommand)]
pub(super) enum DeviceCommand {
    /// The trackers the running gateway knows, the refused ones with the reason.
    #[command(after_help = "\
Examples:
  gateway device ls
  gateway device ls --json | jq -r .imei")]
    Ls {
        /// Print JSON, one object for each tracker.
        #[arg(long)]
        json: bool,
    },
    /// Let trackers in: put their IMEIs on access.list.
    ///
    /// A running gateway reads the list again within seconds. It decides in access.mode "list"; in
    /// the other modes it takes back what `deny` did.
    #[command(after_help = "\
Examples:
  gateway device allow 356307042441013
  gateway device allow --dry-run 356307042441013 352093081451252")]
    Allow(Imeis),
    /// Keep trackers out, whatever access.mode says: put ! before their IMEIs on access.list.
    #[command(after_help = "\
Examples:
  gateway device deny 356307042441013")]
    Deny(Imeis),
}

#[derive(Args)]
pub(super) struct Imeis {
    /// Fifteen digits each.
    #[arg(required = true, value_name = "IMEI")]
    imeis: Vec<Imei>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object for each tracker.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(command: &DeviceCommand, settings: &Settings) -> Result<(), Failure> {
    let json = match command {
        DeviceCommand::Ls { json } => json,
        DeviceCommand::Allow(imeis) => return edit(imeis, settings, "allowed", access::allow),
        DeviceCommand::Deny(imeis) => return edit(imeis, settings, "denied", access::deny),
    };
    let addr = ask::addr(settings)?;
    let (mut path, mut count) = ("/devices".to_owned(), 0);
    loop {
        let Some(page) = ask::get(addr, &path)?.filter(|page| page["devices"].is_array()) else {
            return Err(status::no_devices());
        };
        let list = |name: &str| page[name].as_array().cloned().unwrap_or_default();
        let mut refused = list("refused");
        for device in &mut refused {
            device["refused"] = true.into();
        }
        for device in list("devices").iter().chain(&refused) {
            count += 1;
            if *json {
                output::line(device);
            } else {
                output::print(&text(device));
            }
        }
        match page["next"].as_u64() {
            Some(next) => path = format!("/devices?after={next}"),
            None => break,
        }
    }
    if count == 0 && !*json {
        output::print("no tracker has connected since the start\n");
    }
    Ok(())
}

type Edit = fn(&Path, Imei) -> Result<bool, ListFileError>;

fn edit(imeis: &Imeis, settings: &Settings, done: &str, edit: Edit) -> Result<(), Failure> {
    let list = settings
        .optional_path("access.list")
        .map_err(|error| Failure::new(2, error))?;
    let Some(list) = list else {
        let variable = "GATEWAY__ACCESS__LIST";
        let why =
            format!("access.list is not set, so there is no list to edit: set it, or {variable}");
        return Err(Failure::new(2, why));
    };
    for imei in &imeis.imeis {
        let is_new = if imeis.dry_run {
            let listed = access::list(&list).map_err(|error| Failure::new(2, error))?;
            let wanted = if done == "allowed" {
                ListLine::Allow(*imei)
            } else {
                ListLine::Deny(*imei)
            };
            !listed.iter().any(|(line, _)| *line == wanted)
        } else {
            edit(&list, *imei).map_err(|error| Failure::new(2, error))?
        };
        let file = list.display();
        if imeis.json {
            let imei = imei.to_string();
            let dry_run = imeis.dry_run;
            output::line(
                &json!({ "imei": imei, "is": done, "changed": is_new, "dry_run": dry_run }),
            );
        } else {
            let how = match (is_new, imeis.dry_run) {
                (false, _) => "was already",
                (true, false) => "is now",
                (true, true) => "would now be",
            };
            output::print(&format!("{imei} {how} {done} in {file}\n"));
        }
    }
    Ok(())
}

/// The IMEI first, then whatever else is known, by name.
fn text(device: &Value) -> String {
    let Value::Object(fields) = device else {
        return format!("{device}\n");
    };
    let shown = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let imei = fields.get("imei").map_or("–".to_owned(), shown);
    if fields.contains_key("refused") {
        let why = fields.get("why").map_or("–".to_owned(), shown);
        return format!("{imei}  REFUSED: {why}\n");
    }
    let rest = fields
        .iter()
        .filter(|(name, value)| *name != "imei" && !value.is_null())
        .map(|(name, value)| format!("{name} {}", shown(value)));
    format!("{imei}  {}\n", rest.collect::<Vec<_>>().join(" · "))
}
