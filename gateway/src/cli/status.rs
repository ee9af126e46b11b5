//! `gateway status`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use gateway::explain::status as pages;
use serde_json::Value;
use settings::Settings;
use tokio::signal::unix::{SignalKind, signal};

use super::ask::{self, AskError};
use super::{Failure, output};

pub(super) const EXAMPLES: &str = "\
Asks the running gateway at http.listen, so give it the settings the service has.

Examples:
  gateway status --config /etc/milepost/gateway.toml
  gateway status --watch
  gateway status --json | jq .spool.backlog

Exit codes: 0 it answers and keeps records, 3 no gateway answers, 4 its storage has failed.
With --watch it goes on when none answers, and Ctrl-C ends it with 0.";

const WATCH_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Status {
    /// Print one JSON object, as /status serves it.
    #[arg(long)]
    json: bool,
    /// Ask again every two seconds until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

pub(super) fn act(status: &Status, settings: &Settings) -> Result<(), Failure> {
    let addr = ask::addr(settings)?;
    if !status.watch {
        return look(status, addr);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(1, error))?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::new(1, e))?;
        loop {
            match look(status, addr) {
                // A gateway that restarts is what one watches for.
                Err(failure) if !failure.is_told() => eprintln!("gateway: {}", failure.words()),
                _ => {}
            }
            if !status.json {
                output::print("\n");
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                _ = interrupt.recv() => return Ok(()),
            }
        }
    })
}

fn look(status: &Status, addr: SocketAddr) -> Result<(), Failure> {
    let said = ask::get(addr, "/status")?;
    let said = said.filter(|said| said["gateway"].is_string());
    let Some(said) = said else {
        let answer = "it has no page /status".to_owned();
        return Err(AskError::Stranger { addr, answer }.into());
    };
    let health = ask::get(addr, "/health")?.unwrap_or_default();
    let failed = health["spool"] == "failed";
    if status.json {
        output::line(&said);
    } else {
        output::print(&text(&said, failed));
    }
    if failed {
        Err(Failure::told(4))
    } else {
        Ok(())
    }
}

/// What the JSON says, for people. A figure that an older gateway does not know is a dash.
fn text(said: &Value, failed: bool) -> String {
    let number = |value: &Value| value.as_u64().map_or("–".to_owned(), |n| n.to_string());
    let (spool, uplink) = (&said["spool"], &said["uplink"]);
    let whom = match uplink["forward_to"].as_str() {
        Some(to) if to.starts_with(contract::direct::SCHEME) => "the cloud on this machine",
        _ => "Redis",
    };
    let link = match (uplink["connected"].as_bool(), uplink["trouble"].as_str()) {
        (_, Some(trouble)) => format!("OFFLINE: {trouble}"),
        (Some(true), None) => format!("connected to {whom}"),
        _ => format!("OFFLINE: no connection to {whom} yet"),
    };
    let days = spool["days_left"].as_f64();
    let days = days.map_or("rate not known yet".to_owned(), |days| {
        format!("{days:.1} days left offline")
    });
    let mib = |value: &Value| value.as_u64().unwrap_or(0) / (1 << 20);
    let mut text = format!("{:<10}{link}\n", said["gateway"].as_str().unwrap_or("–"));
    text.push_str(&format!(
        "trackers  {} connected, {} logins accepted, {} refused\n",
        number(&said["connections"]),
        number(&said["logins_accepted"]),
        number(&said["logins_refused"]),
    ));
    if let Some(accepts) = said["access"]["accepts"].as_str() {
        text.push_str(&format!("lets in   {accepts}\n"));
    }
    if let Some(trouble) = said["access"]["trouble"].as_str() {
        text.push_str(&format!(
            "          × the newest list is not in force: {trouble}\n"
        ));
    }
    text.push_str(&format!(
        "records   {} acknowledged, {} sent\n",
        number(&said["records_acked"]),
        number(&uplink["records_sent"]),
    ));
    text.push_str(&format!(
        "spool     {} frames wait, {} of {} MiB used, {days}\n",
        number(&spool["backlog"]),
        mib(&spool["used_bytes"]),
        mib(&spool["bytes_max"]),
    ));
    for line in said["doors"]["serial"].as_array().into_iter().flatten() {
        let name = line["line"].as_str().unwrap_or("–");
        let noise = number(&line["noise_bytes"]);
        text.push_str(&match line["trouble"].as_str() {
            Some(trouble) => format!("          × serial line {name}: {trouble}\n"),
            None => format!("serial    {name}, {noise} bytes of noise\n"),
        });
    }
    if let Some(board) = gateway::board::shown::line(&said["board"]) {
        text.push_str(&format!("board     {board}\n"));
    }
    let downlink = &said["downlink"];
    if downlink["enabled"] == true {
        text.push_str(&format!(
            "commands  {} wait, {} on their way\n",
            number(&downlink["waiting"]),
            number(&downlink["on_the_way"]),
        ));
    }
    for (whose, days) in [
        ("Redis", &uplink["certificate_left_days"]),
        ("trackers", &said["doors"]["certificate_left_days"]),
    ] {
        if let Some(days) = days.as_f64() {
            text.push_str(&format!(
                "          certificate for {whose}: {days:.0} days left\n"
            ));
        }
    }
    if failed {
        text.push_str("          × STORAGE FAILED: nothing is acknowledged until a restart\n");
    }
    text
}

/// The page for what this gateway cannot tell.
pub(super) fn no_devices() -> Failure {
    let page = &pages::NO_DEVICES;
    Failure::new(page.exit, format!("{}  {}", page.code, page.title))
}
