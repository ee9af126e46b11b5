//! Pure: no I/O, no clock.
//!
//! Prometheus text, version 0.0.4, in which no metric can lack its type or its help.
//!
//! Source: Prometheus documentation, "Exposition formats", text-based format.

use std::fmt::{Display, Write as _};

/// Before every name.
const PREFIX: &str = "milepost_gateway_";

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// A metric with one value. `kind` is `counter` or `gauge`; `help` is one line.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }

    /// The head of a metric whose samples follow.
    pub(crate) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
        );
    }

    /// A sample; `labels` like `lane="high"`, or empty.
    pub(crate) fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{PREFIX}{name} {value}")
        } else {
            writeln!(self.0, "{PREFIX}{name}{{{labels}}} {value}")
        };
    }

    /// The text.
    #[must_use]
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}
