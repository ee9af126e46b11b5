//! `gateway explain`.

use clap::Args;
use gateway::explain::{self, Page};

use super::{Failure, output};

pub(super) const EXAMPLES: &str = "\
Works without network and settings.

Examples:
  gateway explain                  every code with its title
  gateway explain E-RED-004
  gateway explain red-4            the same, typed lazily";

#[derive(Args)]
pub(super) struct Explain {
    /// A code, as check, status or the log print it.
    code: Option<String>,
    /// Print JSON, one object for each code.
    #[arg(long)]
    json: bool,
}

fn json(page: &Page) -> serde_json::Value {
    serde_json::json!({
        "code": page.code, "title": page.title, "text": page.text, "exit": page.exit
    })
}

pub(super) fn act(explain: &Explain) -> Result<(), Failure> {
    let Some(code) = &explain.code else {
        if explain.json {
            explain::pages().for_each(|page| output::line(&json(page)));
        } else {
            output::print(&explain::list());
        }
        return Ok(());
    };
    let Some(page) = explain::page(code) else {
        let near: Vec<&str> = explain::near(code).iter().map(|page| page.code).collect();
        let hint = if near.is_empty() {
            "`gateway explain` lists all".to_owned()
        } else {
            format!("there are {}", near.join(", "))
        };
        return Err(Failure::new(2, format!("there is no code {code}: {hint}")));
    };
    if explain.json {
        output::line(&json(page));
    } else {
        output::print(&page.text());
    }
    Ok(())
}
