//! `gateway events`.

use clap::Args;
use gateway::events::{EVENTS_MAX, moment};
use gateway::explain::status as pages;
use serde_json::Value;
use settings::Settings;

use super::{Failure, ask, output};

pub(super) const EXAMPLES: &str = "\
Asks the running gateway at http.listen what happened lately: the same list as on its page. It
remembers the last two hundred, a restart forgets them; the log has all.

Examples:
  gateway events
  gateway events --limit 200 --json | jq 'select(.trouble)'

Exit codes: 0 it answers, 3 no gateway answers.";

#[derive(Args)]
pub(super) struct Events {
    /// So many, the latest last.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=EVENTS_MAX as i64))]
    limit: u16,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(args: &Events, settings: &Settings) -> Result<(), Failure> {
    let addr = ask::addr(settings)?;
    let page = ask::get(addr, &format!("/events?limit={}", args.limit))?;
    let Some(events) = page.as_ref().and_then(|page| page["events"].as_array()) else {
        let page = &pages::NO_EVENTS;
        let failure = format!("{}  {}", page.code, page.title);
        return Err(Failure::new(page.exit, failure));
    };
    for event in events.iter().rev() {
        if args.json {
            output::line(event);
        } else {
            output::print(&text(event));
        }
    }
    if events.is_empty() && !args.json {
        output::print("nothing happened since the start\n");
    }
    Ok(())
}

fn text(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().unwrap_or_default();
    let when = moment(event["at_ms"].as_u64().unwrap_or_default());
    let sign = if event["trouble"] == true { "!" } else { " " };
    let imei = match word("imei") {
        "" => String::new(),
        imei => format!("  {imei}"),
    };
    let times = match event["times"].as_u64() {
        Some(times) if times > 1 => format!("  ({times} times)"),
        _ => String::new(),
    };
    format!(
        "{when} UTC {sign} {:<18} {}{imei}{times}\n",
        word("code"),
        word("text")
    )
}
