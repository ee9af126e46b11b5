//! An error with everything that caused it, as one line for a log.
//!
//! Why: our errors never repeat their source in their own text, and JSON logs print only the
//! outermost one.

use std::error::Error;

/// `what: why: why that`; a cause that says the same as the line before it is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if lines.last() != Some(&line) {
            lines.push(line);
        }
        source = cause.source();
    }
    lines.join(": ")
}
