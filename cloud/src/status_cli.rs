//! `cloud status`: the stages of a running processor, once or again and again.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use cloud::config::Config;
use cloud::status::ask::{self, AskError};
use cloud::status::{to_json, to_text};
use serde_json::Value;

/// Between the two looks of one answer.
const SHORT: Duration = Duration::from_secs(1);

/// Between two answers.
const AGAIN: Duration = Duration::from_secs(2);

/// Prints until done; with `watch` that is never, and a processor that restarts is what one watches
/// for. The inner error is that of the terminal.
pub(crate) async fn act(
    config: &Config,
    watch: bool,
    json: bool,
) -> Result<io::Result<()>, AskError> {
    let mut before = (ask::status(config.http).await?, Instant::now());
    let mut pause = SHORT;
    loop {
        tokio::time::sleep(pause).await;
        let now = match ask::status(config.http).await {
            Ok(page) => (page, Instant::now()),
            Err(error) if watch => {
                if let Err(error) = writeln!(io::stderr(), "{error}") {
                    return Ok(Err(error));
                }
                pause = AGAIN;
                continue;
            }
            Err(error) => return Err(error),
        };
        let seconds = now.1.duration_since(before.1).as_secs_f64();
        let printed = print(&before.0, &now.0, seconds, watch, json);
        if printed.is_err() || !watch {
            return Ok(printed);
        }
        (before, pause) = (now, AGAIN);
    }
}

fn print(before: &Value, now: &Value, seconds: f64, watch: bool, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", to_json(before, now, seconds))?;
    } else {
        write!(out, "{}", to_text(before, now, seconds))?;
        if watch {
            writeln!(out)?;
        }
    }
    out.flush()
}
