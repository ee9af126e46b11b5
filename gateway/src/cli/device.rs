//! `gateway device`.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use codec::Imei;
use gateway::access::{self, ListFileError};
use gateway::config;
use gateway::events::moment;
use gateway::explain::status as pages;
use gateway::observe::in_words;
use gateway::session::ListLine;
use serde_json::{Value, json};
use settings::Settings;

use super::ask::AskError;
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
    /// Let trackers in: put their IMEIs on access.list, or where learned ones are remembered.
    ///
    /// A running gateway reads the file again within seconds. Without access.list the file is
    /// access.learned when access.mode is "learn". In the mode "open" everybody is in, and this takes
    /// back what `deny` did.
    #[command(after_help = "\
Examples:
  gateway device allow 356307042441013
  gateway device allow --dry-run 356307042441013 352093081451252")]
    Allow(Imeis),
    /// Keep trackers out, whatever access.mode says: put ! before their IMEIs in the same file.
    ///
    /// It counts at their next login: a connection that stands goes on until it ends.
    #[command(after_help = "\
Examples:
  gateway device deny 356307042441013")]
    Deny(Imeis),
    /// Open the learn window of the running gateway, or close it: --for 0s.
    ///
    /// For so long of running time every tracker that calls is let in and remembered. What is left
    /// survives a restart, and no restart gives any of it back.
    #[command(after_help = "\
Examples:
  gateway device learn                for access.learn_for from now on
  gateway device learn --for 30m
  gateway device learn --for 0s       close it now

Exit codes: 0 done, 1 access.mode is not learn, 3 no gateway answers, 4 it cannot be written down.")]
    Learn {
        /// How long from now on, at most a week; access.learn_for of the running gateway if left out.
        #[arg(long = "for", value_name = "TIME", value_parser = span_s)]
        span_s: Option<u64>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// A duration as the settings take it, in seconds.
fn span_s(text: &str) -> Result<u64, String> {
    let variable = format!("{}__ACCESS__LEARN_FOR", config::ENV_PREFIX);
    let typed = [(variable, text.to_owned())];
    let settings = Settings::read(config::KEYS, config::ENV_PREFIX, None, typed);
    let span = settings.and_then(|settings| settings.duration("access.learn_for"));
    let span: Duration = span.map_err(|_| "give a time like 30m or 2h".to_owned())?;
    Ok(span.as_secs())
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
        DeviceCommand::Learn { span_s, json } => return learn(*span_s, *json, settings),
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
    let access = config::access(settings).map_err(|error| Failure::new(2, error))?;
    let Some(list) = access.edited_file() else {
        let variable = "GATEWAY__ACCESS__LIST";
        let why =
            format!("access.list is not set, so there is no list to edit: set it, or {variable}");
        return Err(Failure::new(2, why));
    };
    for imei in &imeis.imeis {
        let is_new = if imeis.dry_run {
            let listed = access::list(list).map_err(|error| Failure::new(2, error))?;
            let wanted = if done == "allowed" {
                ListLine::Allow(*imei)
            } else {
                ListLine::Deny(*imei)
            };
            !listed.iter().any(|(line, _)| *line == wanted)
        } else {
            edit(list, *imei).map_err(|error| Failure::new(2, error))?
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

fn learn(span_s: Option<u64>, json: bool, settings: &Settings) -> Result<(), Failure> {
    let addr = ask::addr(settings)?;
    let path = match span_s {
        Some(seconds) => format!("/access/learn?for_s={seconds}"),
        None => "/access/learn".to_owned(),
    };
    let (code, answer) = ask::post(addr, &path, "")?;
    let answer = answer.unwrap_or_default();
    let why = answer["error"].as_str().unwrap_or("–").to_owned();
    match code {
        200 if json => output::line(&answer),
        200 => {
            let accepts = answer["accepts"].as_str().unwrap_or("–");
            output::print(&format!("lets in {accepts}\n"));
        }
        403 => return Err(AskError::NoChange { addr, why }.into()),
        409 | 500 => {
            let page = match code {
                409 => &pages::NO_WINDOW,
                _ => &pages::NOT_LEARNED,
            };
            return Err(Failure::new(page.exit, format!("{}  {why}", page.code)));
        }
        code => {
            let answer = format!("{code}");
            return Err(AskError::Stranger { addr, answer }.into());
        }
    }
    Ok(())
}

fn refused(imei: &str, device: &Value) -> String {
    let word = |name: &str| device[name].as_str();
    let mut text = format!("{imei}  REFUSED: {}", word("why").unwrap_or("–"));
    if let Some(nearest) = word("nearest") {
        text += &format!("; perhaps a misprint: {nearest} is known");
    }
    if let (Some(times), Some(at_ms)) = (device["times"].as_u64(), device["at_ms"].as_u64()) {
        let from = word("peer").map_or(String::new(), |peer| format!(" from {peer}"));
        text += &format!(" ({times} times, last {} UTC{from})", moment(at_ms));
    }
    text + "\n"
}

/// What the page's table shows.
fn heard(imei: &str, device: &Value) -> String {
    let number = |name: &str| device[name].as_u64();
    let word = |name: &str| device[name].as_str();
    let span = |ms| in_words(Duration::from_millis(ms));
    let mut parts = vec![format!(
        "last seen {} UTC",
        moment(number("last_seen_ms").unwrap_or(0))
    )];
    parts.extend(number("delay_ms").map(|ms| format!("delay {}", span(ms))));
    parts.push(match (word("clock"), number("clock_ahead_ms")) {
        (Some("ahead"), Some(ms)) => format!("clock AHEAD by {}", span(ms)),
        (clock, _) => format!("clock {}", clock.unwrap_or("unknown")),
    });
    let degrees = |name: &str| device[name].as_i64().map(|e7| e7 as f64 / 1e7);
    parts.push(match (degrees("latitude_e7"), degrees("longitude_e7")) {
        (Some(latitude), Some(longitude)) => format!("{latitude:.5},{longitude:.5}"),
        _ => "no fix yet".to_owned(),
    });
    parts.extend(number("speed_kmh").map(|speed| format!("{speed} km/h")));
    parts.extend(number("records").map(|records| format!("{records} records")));
    let (codec, transport) = (
        word("codec").unwrap_or("–"),
        word("transport").unwrap_or("–"),
    );
    parts.push(format!("codec {codec} over {transport}"));
    format!("{imei}  {}\n", parts.join(" · "))
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
        return refused(&imei, device);
    }
    if device["last_seen_ms"].is_u64() {
        return heard(&imei, device);
    }
    let rest = fields
        .iter()
        .filter(|(name, value)| *name != "imei" && !value.is_null())
        .map(|(name, value)| format!("{name} {}", shown(value)));
    format!("{imei}  {}\n", rest.collect::<Vec<_>>().join(" · "))
}
