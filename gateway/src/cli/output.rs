//! Standard output: results, and nothing but results.

use std::io::{IsTerminal as _, Write as _};

/// A closed pipe is the reader's wish, not an error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// One JSON object on a line.
pub(super) fn line(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}

/// Colour only for eyes, and only if they want it (no-color.org).
pub(super) fn colour(no_color: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && !refused && std::io::stdout().is_terminal()
}
