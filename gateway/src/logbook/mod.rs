//! How the gateway speaks to its log: the format, which IMEIs it names, and how often it repeats
//! itself.
//!
//! Invariants: an IMEI enters a line through [`imei`] alone, so that one setting decides how it is
//! shown everywhere; an error is never left out, a warning that repeats is.

mod imei;
mod limit;

use std::io::IsTerminal as _;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogConfig;
pub use imei::{ImeiStyle, Shown, imei};
pub use limit::left_out;
pub(crate) use limit::{COUNTED, leave_out};

/// Starts the log of this process, on standard error.
pub fn start(config: &LogConfig) {
    imei::set_style(config.imei);
    let json = config.json.unwrap_or(!std::io::stderr().is_terminal());
    let level: LevelFilter = config
        .level
        .parse()
        .expect("a level word, checked on reading");
    let filter = Targets::new()
        .with_default(level)
        .with_targets([("redis", LevelFilter::WARN), ("hyper", LevelFilter::WARN)]);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    } else {
        lines.with_target(false).boxed()
    };
    let lines = lines.with_filter(limit::Limit::default());
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}
