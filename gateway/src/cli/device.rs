//! `gateway device`.

use clap::Subcommand;
use serde_json::Value;
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
}

pub(super) fn act(command: &DeviceCommand, settings: &Settings) -> Result<(), Failure> {
    let DeviceCommand::Ls { json } = command;
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
