//! `cloud check` and `cloud explain`: what was found, and what a code means.

use std::io::{self, Write};

use cloud::check::{self, Finding, Look, Mark};
use cloud::config::Config;
use cloud::explain::{self, Page};
use settings::Settings;

/// Prints every finding as it is made; returns the exit code.
pub(crate) async fn act(settings: &Settings, config: &Config, json: bool) -> io::Result<u8> {
    let mut printer = Printer::new(json);
    let exit = check::run(settings, config, |finding| printer.print(finding)).await;
    printer.end()?;
    Ok(exit)
}

/// Settings that cannot be used are a finding too; nothing else can be looked at then.
pub(crate) fn refused(look: &Look, json: bool) -> io::Result<u8> {
    let mut printer = Printer::new(json);
    let mut exit = 0;
    for finding in &look.findings {
        exit = finding.exit().max(exit);
        printer.print(finding);
    }
    for part in ["redis", "stream", "database", "commands"] {
        let mut look = Look::new(part);
        look.skipped("not looked at: the settings above cannot be used");
        look.findings
            .iter()
            .for_each(|finding| printer.print(finding));
    }
    printer.end()?;
    Ok(exit)
}

struct Printer {
    json: bool,
    failed: usize,
    odd: usize,
    first: Option<&'static str>,
    printed: io::Result<()>,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self {
            json,
            failed: 0,
            odd: 0,
            first: None,
            printed: Ok(()),
        }
    }

    fn print(&mut self, finding: &Finding) {
        match finding.mark {
            Mark::Bad => self.failed += 1,
            Mark::Odd => self.odd += 1,
            Mark::Good | Mark::Skipped => {}
        }
        if finding.mark == Mark::Bad {
            self.first = self.first.or(finding.page.map(|page| page.code));
        }
        let mut out = io::stdout().lock();
        let printed = if self.json {
            writeln!(out, "{}", finding.to_json())
        } else {
            write!(out, "{}", finding.to_text())
        };
        if self.printed.is_ok() {
            self.printed = printed;
        }
    }

    fn end(self) -> io::Result<()> {
        self.printed?;
        if self.json {
            return Ok(());
        }
        let more = self.first.map_or_else(String::new, |code| {
            format!("; begin with `cloud explain {code}`")
        });
        writeln!(
            io::stdout(),
            "{} failed, {} worth a look{more}",
            self.failed,
            self.odd
        )
    }
}

fn page_json(page: &Page) -> serde_json::Value {
    serde_json::json!({
        "code": page.code, "title": page.title, "text": page.text, "exit": page.exit
    })
}

/// A code's page, or the list of all. The inner error says what was meant instead.
pub(crate) fn explain(code: Option<&str>, json: bool) -> io::Result<Result<(), String>> {
    let mut out = io::stdout().lock();
    let Some(code) = code else {
        if json {
            for page in explain::pages() {
                writeln!(out, "{}", page_json(page))?;
            }
        } else {
            write!(out, "{}", explain::list())?;
        }
        return Ok(Ok(()));
    };
    match explain::page(code) {
        Some(page) if json => writeln!(out, "{}", page_json(page))?,
        Some(page) => write!(out, "{}", page.text())?,
        None => {
            let near: Vec<&str> = explain::near(code).iter().map(|page| page.code).collect();
            return Ok(Err(if near.is_empty() {
                "`cloud explain` lists all; those of the gateway are told by `gateway explain`"
                    .to_owned()
            } else {
                format!("there are {}", near.join(", "))
            }));
        }
    }
    Ok(Ok(()))
}
