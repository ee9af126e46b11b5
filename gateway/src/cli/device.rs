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
    let said = ask::get(addr, "/devices")?;
    let devices = match said {
        Some(Value::Array(devices)) => devices,
        Some(Value::Object(mut page)) => match page.remove("devices") {
            Some(Value::Array(devices)) => devices,
            _ => return Err(status::no_devices()),
        },
        _ => return Err(status::no_devices()),
    };
    for device in &devices {
        if *json {
            output::line(device);
        } else {
            output::print(&text(device));
        }
    }
    if devices.is_empty() && !*json {
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
    let rest = fields
        .iter()
        .filter(|(name, value)| *name != "imei" && !value.is_null())
        .map(|(name, value)| format!("{name} {}", shown(value)));
    format!("{imei}  {}\n", rest.collect::<Vec<_>>().join(" · "))
}
